"""The reading and writing rules of the helper protocol, each with the bytes it is about."""

from __future__ import annotations

import pytest

from extauth.protocol import (
    REPLY_LIMIT,
    REQUEST_LIMIT,
    Interface,
    New,
    Ok,
    Quit,
    ReadPlain,
    Refuse,
    Retry,
    Routed,
    Sasl,
    Unknown,
    Verify,
    Version,
    parse_request,
    render_information,
    render_reply,
)


def verify(line: bytes) -> Verify:
    request = parse_request(line)
    assert isinstance(request, Verify)
    return request


def new(line: bytes) -> New:
    request = parse_request(line)
    assert isinstance(request, New)
    return request


@pytest.mark.parametrize(
    ("line", "password", "client"),
    [
        (b"1 VRFY u@d.test secret", b"secret", ""),
        (b"1 VRFY u@d.test secret\n", b"secret", ""),
        (b"1 VRFY u@d.test secret\r\n", b"secret", ""),
        (b"1 VRFY u@d.test secret [192.0.2.1]", b"secret", "192.0.2.1"),
        (b"1 VRFY u@d.test secret [192.0.2.1]\r\n", b"secret", "192.0.2.1"),
        (b"1 VRFY u@d.test secret [2001:db8::1]", b"secret", "2001:db8::1"),
        (b'1 VRFY u@d.test "a b" [192.0.2.1]', b"a b", "192.0.2.1"),
        (b'1 VRFY u@d.test "a b"', b"a b", ""),
        (b'1 VRFY u@d.test ""', b"", ""),
        (b'1 VRFY u@d.test "" [192.0.2.1]', b"", "192.0.2.1"),
        (b"1 VRFY u@d.test a b", b"a b", ""),
        (b"1 VRFY u@d.test a b [192.0.2.1]", b"a b", "192.0.2.1"),
        (b"1 VRFY u@d.test  a ", b" a ", ""),
        (b"1 VRFY u@d.test 0", b"0", ""),
        (b"1 VRFY u@d.test #123", b"#123", ""),
        (b'1 VRFY u@d.test "#123"', b"#123", ""),
        (b"1 VRFY u@d.test", b"", ""),
        (b"1 VRFY u@d.test ", b"", ""),
        (b"1 VRFY u@d.test [192.0.2.1]", b"", "192.0.2.1"),
        (b"1 VRFY u@d.test  [192.0.2.1]", b"", "192.0.2.1"),
        # brackets that are no address belong to the password
        (b"1 VRFY u@d.test secret[192.0.2.1]", b"secret[192.0.2.1]", ""),
        (b"1 VRFY u@d.test secret [word]", b"secret [word]", ""),
        (b"1 VRFY u@d.test secret [999.0.2.1]", b"secret [999.0.2.1]", ""),
        (b"1 VRFY u@d.test [x] [192.0.2.1]", b"[x]", "192.0.2.1"),
        (b"1 VRFY u@d.test a [192.0.2.1] [192.0.2.2]", b"a [192.0.2.1]", "192.0.2.2"),
        # escapes of the data format
        (rb'1 VRFY u@d.test "a\"b\\c"', rb'a"b\c', ""),
        (rb'1 VRFY u@d.test "\r\n\t\e\065\255"', b"\r\n\t\nA\xff", ""),
        # quotes that do not close properly are a raw password
        (b'1 VRFY u@d.test "abc', b'"abc', ""),
        (b'1 VRFY u@d.test "abc [192.0.2.1]', b'"abc', "192.0.2.1"),
        (b'1 VRFY u@d.test "a" b', b'"a" b', ""),
        (b'1 VRFY u@d.test "a"b"', b'"a"b"', ""),
        (b'1 VRFY u@d.test "a"[192.0.2.1]', b'"a"[192.0.2.1]', ""),
        (b'1 VRFY u@d.test a"b"', b'a"b"', ""),
        (rb'1 VRFY u@d.test "a\x"', rb'"a\x"', ""),
        (rb'1 VRFY u@d.test "a\999"', rb'"a\999"', ""),
        (rb'1 VRFY u@d.test "a\"', rb'"a\"', ""),
        (rb"1 VRFY u@d.test a\"b", rb"a\"b", ""),
        # bytes are bytes
        (b"1 VRFY u@d.test p\xe4ss", b"p\xe4ss", ""),
        (b'1 VRFY u@d.test "p\xe4ss \xff"', b"p\xe4ss \xff", ""),
        ("1 VRFY u@d.test пароль".encode(), "пароль".encode(), ""),
        (b"1 VRFY u@d.test a\0b", b"a\0b", ""),
        (b"1 VRFY u@d.test a\rb", b"a\rb", ""),
    ],
)
def test_password_is_read_byte_for_byte(line: bytes, password: bytes, client: str) -> None:
    """After the name: a quoted string that closes properly, else all up to an optional final ` [ip]`."""
    request = verify(line)
    assert request.name == "u@d.test"
    assert request.password.reveal() == password
    assert request.client == client


@pytest.mark.parametrize(
    ("line", "name", "mode", "password"),
    [
        (b"7 VRFY (IMAP) u@d.test secret", "u@d.test", "IMAP", b"secret"),
        (b"7 VRFY(IMAP) u@d.test secret", "u@d.test", "IMAP", b"secret"),
        (b"7 vrfy (pop) U@D.Test secret", "u@d.test", "pop", b"secret"),
        (b"7 VrFy  u@d.test secret", "u@d.test", "", b"secret"),
        (b"7 VRFY () u@d.test secret", "u@d.test", "", b"secret"),
        (b"7 VRFY user secret", "user", "", b"secret"),
        (b"7 VRFY u@d.test (secret)", "u@d.test", "", b"(secret)"),
        (b"  7\tVRFY u@d.test secret", "u@d.test", "", b"secret"),
    ],
)
def test_mode_name_and_case(line: bytes, name: str, mode: str, password: bytes) -> None:
    """Names and command words in any case; the mode before the name; a bracket after it is password."""
    request = verify(line)
    assert (request.number, request.name, request.mode) == (b"7", name, mode)
    assert request.password.reveal() == password


@pytest.mark.parametrize(
    ("line", "name", "mode", "client"),
    [
        (b"3 NEW u@d.test", "u@d.test", "", ""),
        (b"3 new U@D.TEST\r\n", "u@d.test", "", ""),
        (b"3 NEW u@d.test (SMTP)", "u@d.test", "SMTP", ""),
        (b"3 NEW u@d.test (SMTP) [192.0.2.1]", "u@d.test", "SMTP", "192.0.2.1"),
        (b"3 NEW u@d.test [192.0.2.1]", "u@d.test", "", "192.0.2.1"),
        (b"3 NEW u@d.test [192.0.2.1] (SMTP)", "u@d.test", "SMTP", "192.0.2.1"),
        (b"3 NEW (SMTP) u@d.test [192.0.2.1]", "u@d.test", "SMTP", "192.0.2.1"),
        (b"3 NEW(SMTP) u@d.test", "u@d.test", "SMTP", ""),
        (b"3 NEW user", "user", "", ""),
        (b'3 NEW "john smith"@d.test (SMTP)', '"john smith"@d.test', "SMTP", ""),
        (b"3 NEW u@[192.0.2.1]", "u@[192.0.2.1]", "", ""),
        (b"3 NEW \xff@d.test", "\udcff@d.test", "", ""),
    ],
)
def test_new_with_mode_and_address_anywhere(line: bytes, name: str, mode: str, client: str) -> None:
    """The mode may stand before or after the name, the address behind either."""
    request = new(line)
    assert (request.number, request.name, request.mode, request.client) == (b"3", name, mode, client)


def test_other_requests() -> None:
    """INTF, SASL, READPLAIN and QUIT, each in any case."""
    assert parse_request(b"1 INTF 7") == Interface(b"1", 7)
    assert parse_request(b"1 intf 0\r\n") == Interface(b"1", 0)
    assert parse_request(b"2 SASL(CRAM-MD5) (IMAP) u@d.test response key [192.0.2.1]") == Sasl(b"2", "CRAM-MD5")
    assert parse_request(b"2 sasl(digest-md5) u@d.test a b") == Sasl(b"2", "digest-md5")
    assert parse_request(b"3 READPLAIN u@d.test") == ReadPlain(b"3")
    assert parse_request(b"4 QUIT\r\n") == Quit(b"4")
    assert parse_request(b"4 quit now") == Quit(b"4")


@pytest.mark.parametrize(
    ("line", "number"),
    [
        (b"", b""),
        (b"\r\n", b""),
        (b"VRFY u@d.test secret", b""),
        (b"-1 VRFY u@d.test secret", b""),
        (b"1x VRFY u@d.test secret", b""),
        (b"9" * 21 + b" QUIT", b""),
        (b"\xff\xfe\0", b""),
        (b"5", b"5"),
        (b"5 ", b"5"),
        (b"5 HELO", b"5"),
        (b"5 VRFYX u@d.test secret", b"5"),
        (b"5 VRFY", b"5"),
        (b"5 VRFY (IMAP)", b"5"),
        (b"5 NEW", b"5"),
        (b"5 NEW (SMTP) [192.0.2.1]", b"5"),
        (b"5 INTF", b"5"),
        (b"5 INTF seven", b"5"),
        (b"5 \xff\xff", b"5"),
        (b"5 VRFY u@d.test " + b"x" * 100_000, b"5"),
        (b"5 " + b"x" * 100_000, b"5"),
    ],
)
def test_what_makes_no_sense_is_unknown_and_keeps_its_number(line: bytes, number: bytes) -> None:
    """Nothing raises; the number is there where the line has one."""
    request = parse_request(line)
    assert isinstance(request, Unknown)
    assert request.number == number


def test_number_is_given_back_as_it_came() -> None:
    """Leading zeros are the server's business."""
    assert render_reply(parse_request(b"007 QUIT").number, Ok()) == b"007 OK\n"


def test_longest_request_is_read() -> None:
    """A request of exactly the limit is one; a byte more is not."""
    line = b"1 VRFY u@d.test "
    line += b"x" * (REQUEST_LIMIT - len(line))
    assert len(verify(line).password) == REQUEST_LIMIT - 16
    assert isinstance(parse_request(line + b"x"), Unknown)


@pytest.mark.parametrize(
    "line",
    [
        b"1 NEW" + b" " * 60_000 + b"x)",
        b"1 NEW x" + b" (" * 30_000 + b")",
        b"1 VRFY u@d " + b" [1" * 20_000 + b"]",
        b'1 VRFY u@d "' + b"\\" * 60_000,
        b"1 VRFY u@d " + b"[1.2.3.4] " * 6_000,
    ],
)
@pytest.mark.timeout(5)
def test_hostile_lines_are_read_in_linear_time(line: bytes) -> None:
    """No pattern backtracks itself to death."""
    for _ in range(20):
        assert parse_request(line).number == b"1"


@pytest.mark.parametrize(
    ("reply", "line"),
    [
        (Ok(), b"5 OK\n"),
        (Refuse("no such user"), b"5 ERROR no such user\n"),
        (Retry("server down"), b"5 FAILURE server down\n"),
        (Routed("u@d.test"), b"5 ROUTED u@d.test\n"),
        (Version(3), b"5 INTF 3\n"),
        (Refuse("two\r\nlines \0 \x1b \xe4"), b"5 ERROR two lines \\x00 \\x1b \\xe4\n"),
        (Routed("two words@d.test"), b"5 FAILURE the address to route to cannot be written\n"),
        (Routed("u@d.test\n6 OK"), b"5 FAILURE the address to route to cannot be written\n"),
        (Routed("\xe4@d.test"), b"5 FAILURE the address to route to cannot be written\n"),
        (Routed("u" * 5000 + "@d.test"), b"5 FAILURE the address to route to cannot be written\n"),
    ],
)
def test_reply_is_one_clean_line(reply: Refuse, line: bytes) -> None:
    """Outside bytes are escaped, and an address is written as it is or not at all."""
    assert render_reply(b"5", reply) == line


def test_temporary_word_can_be_error() -> None:
    """For servers that do not know FAILURE."""
    assert render_reply(b"5", Retry("busy"), failure="ERROR") == b"5 ERROR busy\n"


def test_reply_lines_keep_to_the_limit() -> None:
    """Line end included."""
    for reply in (Refuse("x" * 10_000), Retry("\xff" * 10_000), Routed("u" * 10_000)):
        line = render_reply(b"9" * 20, reply)
        assert len(line) <= REPLY_LIMIT
        assert line.count(b"\n") == 1
    assert len(render_information("y" * 10_000)) <= REPLY_LIMIT
    assert render_information("a\nb") == b"* a b\n"


def test_request_shows_no_password() -> None:
    """Neither repr nor str."""
    assert "secret" not in repr(verify(b"1 VRFY u@d.test secret"))
