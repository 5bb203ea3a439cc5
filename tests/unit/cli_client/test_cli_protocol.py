"""Command lines, greetings and replies, and what error replies mean."""

from __future__ import annotations

import pytest

from cli_client.errors import (
    AlreadyExists,
    BadName,
    CliRefused,
    CliTemporary,
    NoSuchAccount,
    NoSuchDomain,
    UnknownCommand,
    WrongPassword,
    error_of,
)
from cli_client.protocol import (
    COMMAND_LIMIT,
    Command,
    Word,
    apop_command,
    checked_line,
    login_command,
    parse_greeting,
    parse_reply,
    render_command,
)
from wire.outcome import ProtocolTrouble
from wire.secret import Secret


def test_an_injected_setting_stays_inside_its_string() -> None:
    """The published migration helper sends this password bare."""
    evil = Secret(b'x";UseExtPassword=YES;AccessModes=All;Z="y')
    command = render_command("SetAccountPassword", "user@example.com", Word("PASSWORD"), evil)
    assert command.line == (
        b'SetAccountPassword "user@example.com" PASSWORD "x\\";UseExtPassword=YES;AccessModes=All;Z=\\"y"'
    )


def test_names_are_never_taken_for_keywords_or_numbers() -> None:
    assert render_command("GetAccountSettings", "#1234").line == b'GetAccountSettings "#1234"'
    assert render_command("CreateAccount", "external", {}).line == b'CreateAccount "external" {}'
    assert render_command("GetAccountSettings", "a\r\nQUIT").line == rb'GetAccountSettings "a\r\nQUIT"'


@pytest.mark.parametrize("line", [b"", b"  ", b"a\r\nb", b"a\nb", b"a\rb", b"a\0b", b"a" * (COMMAND_LIMIT + 1)])
def test_a_line_that_is_not_one_command_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="command line"):
        checked_line(line)


@pytest.mark.parametrize("text", ["", "A B", 'A"', "A\r\n", "PASSWORD;", "ä"])
def test_a_keyword_is_one_word(text: str) -> None:
    with pytest.raises(ValueError, match="keyword"):
        render_command(text)
    with pytest.raises(ValueError, match="keyword"):
        render_command("X", Word(text))


def test_no_password_is_ever_shown() -> None:
    secret = Secret(b"geheim")
    command = render_command("VerifyAccountPassword", "a", Word("PASSWORD"), secret)
    assert "geheim" not in repr(command)
    assert "geheim" not in repr(Command(b"PASS geheim", secrets=("geheim",)))


@pytest.mark.parametrize(
    ("keyword", "text", "line"),
    [
        ("USER", "postmaster", b"USER postmaster"),
        ("USER", "post master", b"USER post master"),
        ("PASS", ' a#"b\\ ', b'PASS  a#"b\\ '),
        ("PASS", "\udce4", b"PASS \xe4"),
    ],
)
def test_user_and_pass_go_as_they_are(keyword: str, text: str, line: bytes) -> None:
    assert login_command(keyword, text).line == line


@pytest.mark.parametrize("text", ["a\r\nQUIT", "a\nb", "a\0b"])
def test_user_and_pass_are_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="CR, LF"):
        login_command("PASS", text)


def test_the_stamp_is_found_in_the_greeting() -> None:
    greeting = parse_greeting(b"200 CommuniGate Pro PWD Server 5.2 ready <123.456@new.test>")
    assert (greeting.code, greeting.stamp) == (200, b"<123.456@new.test>")
    assert parse_greeting(b"200 ready").stamp == b""
    assert parse_greeting(b"200 ready <no stamp@host>").stamp == b""
    assert parse_greeting(b"200 a<b ready").stamp == b""


def test_apop_signs_stamp_and_password() -> None:
    """The example of RFC 1939, section 7."""
    stamp, password = b"<1896.697170952@dbc.mtview.ca.us>", Secret(b"tanstaaf")
    assert apop_command("mrose", stamp, password).line == b"APOP mrose c4c9334bac560ecc979e58001b3e22fb"
    assert apop_command('m "x"', stamp, password).line == rb'APOP "m \"x\"" c4c9334bac560ecc979e58001b3e22fb'


def test_replies_are_a_code_and_a_text() -> None:
    assert parse_reply(b"200 OK").text == "OK"
    assert parse_reply(b"200").code == 200
    assert parse_reply(b"201 {a=b;}").value() == {"a": "b"}
    assert parse_reply(b"200 data follow").data_follows
    assert not parse_reply(b"200 OK").data_follows
    assert not parse_reply(b"500 data follow").data_follows


@pytest.mark.parametrize("line", [b"", b"20", b"2", b"OK", b"2000 x", b"-20 x", b"200-x", b"\xb2\xb3\xb9 x", b"{a=b;}"])
def test_a_line_that_is_no_reply_is_trouble(line: bytes) -> None:
    with pytest.raises(ProtocolTrouble):
        parse_reply(line)


@pytest.mark.parametrize("line", [b"200 OK", b"201 ", b"201", b"201 {a=", b"201 a b"])
def test_data_that_is_missing_or_broken_is_trouble(line: bytes) -> None:
    with pytest.raises(ProtocolTrouble):
        parse_reply(line).value()


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (500, "unknown command", UnknownCommand),
        (501, "Unknown command: GETACCOUNTRIGHTS", UnknownCommand),
        (501, "this command is not supported", UnknownCommand),
        (501, "incorrect parameter", CliRefused),
        (501, "Account with this name already exists", AlreadyExists),
        (501, "unknown user account", NoSuchAccount),
        (501, "unknown secondary domain", NoSuchDomain),
        (512, "unknown secondary domain name", NoSuchDomain),
        (513, "unknown user account", NoSuchAccount),
        (514, "incorrect password", WrongPassword),
        (515, "password not set", WrongPassword),
        (520, "x", AlreadyExists),
        (521, "x", AlreadyExists),
        (522, "x", AlreadyExists),
        (523, "x", AlreadyExists),
        (524, "x", AlreadyExists),
        (525, "x", BadName),
        (530, "password is too simple", CliRefused),
        (538, "account is full", CliRefused),
        (539, "bad mailbox name", BadName),
        (551, "account is in transition", CliTemporary),
        (554, "too many failed logins", CliTemporary),
        (555, "account is in use", CliTemporary),
        (558, "x", CliTemporary),
        (559, "x", CliTemporary),
        (501, "server is shutting down", CliTemporary),
        (501, "try again later", CliTemporary),
        (450, "x", CliTemporary),
        (577, "what nobody knows", CliRefused),
    ],
)
def test_errors_have_meanings(code: int, text: str, kind: type[Exception]) -> None:
    error = error_of(code, text)
    assert type(error) is kind
    assert (error.code, error.text) == (str(code), text)


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (520, "x", "account"),
        (521, "x", "alias"),
        (522, "x", "list"),
        (523, "x", "group"),
        (524, "x", "forwarder"),
        (501, "Account with this name already exists", "account"),
        (501, "mailing list with this name already exists", "list"),
        (501, "this name is already in use", "object"),
    ],
)
def test_what_has_the_name_is_told(code: int, text: str, kind: str) -> None:
    error = error_of(code, text)
    assert isinstance(error, AlreadyExists)
    assert error.kind == kind


@pytest.mark.parametrize(
    ("secret", "text"),
    [("geheim", "bad password geheim"), ('a"b c', r'illegal "a\"b c"'), ("abc", "password abc is too short")],
)
def test_a_reply_that_repeats_the_password_is_withheld(secret: str, text: str) -> None:
    error = error_of(501, text, secrets=(secret,))
    assert secret not in str(error)
    assert "repeats the password" in str(error)
    assert type(error) is CliRefused


def test_a_short_password_does_not_hide_ordinary_words() -> None:
    assert error_of(501, "the password is too short", secrets=("o",)).text == "the password is too short"


def test_outside_bytes_do_not_reach_a_log_line() -> None:
    assert error_of(501, "bad\x1b[2J\udce4").text == "bad\\x1b[2J\\udce4"
