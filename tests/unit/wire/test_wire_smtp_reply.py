"""Replies of SMTP servers, and what the one to RCPT says of a user: the table row by row."""

from __future__ import annotations

import pytest

from wire.outcome import ProtocolTrouble, Scope, Verdict
from wire.smtp_reply import REPLY_LINES, ReplyParser, SmtpReply, classify_rcpt

YES, NO, LATER = Verdict.YES, Verdict.NO, Verdict.LATER


def parse(*lines: bytes) -> SmtpReply:
    parser = ReplyParser()
    replies = [parser.feed(line) for line in lines]
    assert replies[:-1] == [None] * (len(lines) - 1)
    assert replies[-1] is not None
    return replies[-1]


@pytest.mark.parametrize(
    ("lines", "code", "enhanced", "texts"),
    [
        ([b"250"], 250, "", ("",)),
        ([b"250 "], 250, "", ("",)),
        ([b"250 2.1.5 Ok"], 250, "2.1.5", ("2.1.5 Ok",)),
        ([b"250-a", b"250-b", b"250 c"], 250, "", ("a", "b", "c")),
        ([b"250-a", b"250"], 250, "", ("a", "")),
        ([b"550 5.1.1 no"], 550, "5.1.1", ("5.1.1 no",)),
        ([b"550 5.1.10"], 550, "5.1.10", ("5.1.10",)),
        ([b"550-5.1.1 a", b"550 5.1.1 b"], 550, "5.1.1", ("5.1.1 a", "5.1.1 b")),
        ([b"550-5.1.1 a", b"550 b"], 550, "5.1.1", ("5.1.1 a", "b")),
        ([b"550-5.1.1 a", b"550 5.7.1 b"], 550, "", ("5.1.1 a", "5.7.1 b")),  # they contradict each other
        ([b"550 4.1.1 no"], 550, "", ("4.1.1 no",)),  # the class digit contradicts the code
        ([b"450 5.1.1 no"], 450, "", ("5.1.1 no",)),
        ([b"550 5.1.1x no"], 550, "", ("5.1.1x no",)),
        ([b"550 15.1.1 no"], 550, "", ("15.1.1 no",)),
        ([b"550 \xe4\xff"], 550, "", ("\udce4\udcff",)),
    ],
)
def test_replies_are_read(lines: list[bytes], code: int, enhanced: str, texts: tuple[str, ...]) -> None:
    assert parse(*lines) == SmtpReply(code, enhanced, texts)


@pytest.mark.parametrize(
    "lines",
    [
        [b""],
        [b"25"],
        [b"2500 x"],
        [b"25 x"],
        [b"x50 x"],
        [b"150 x"],
        [b"650 x"],
        [b"250_x"],
        [b"+OK"],
        [b" 250 x"],
        [b"250-a", b"550 b"],
        [b"250-a", b"b"],
        [b"250-a"] * (REPLY_LINES + 1),
    ],
)
def test_what_is_no_reply_is_trouble(lines: list[bytes]) -> None:
    parser = ReplyParser()

    def feed() -> None:
        for line in lines:
            assert parser.feed(line) is None

    with pytest.raises(ProtocolTrouble):
        feed()


def test_outside_bytes_do_not_reach_a_log_line() -> None:
    assert parse(b"550-a\x1b[2J", b"550 \xe4").text == "a\\x1b[2J \\udce4"


# reply, its verdict without a known user, its verdict where a known user was accepted
ROWS: list[tuple[bytes, Verdict, Verdict]] = [
    (b"250 ok", YES, YES),
    (b"250 2.1.5 ok", YES, YES),
    (b"251 user not local; will forward", YES, YES),
    (b"252 cannot VRFY", LATER, LATER),
    (b"220 what", LATER, LATER),
    (b"354 what", LATER, LATER),
    (b"550 5.1.1 user unknown", NO, NO),
    (b"550 5.1.3 bad address", NO, NO),
    (b"551 5.1.6 moved", NO, NO),
    (b"550 5.1.10 not found", NO, NO),
    (b"554 5.1.1 user unknown", NO, NO),
    (b"550 no such user", LATER, NO),
    (b"550", LATER, NO),
    (b"551 not here", LATER, NO),
    (b"553 no mailbox by that name", LATER, NO),
    (b"550 User not listed in public Name & Address Book", LATER, NO),
    (b"550 relay access denied", LATER, NO),
    (b"550 relaying denied", LATER, NO),
    (b"550 access denied", LATER, LATER),
    (b"550 your host is blocked", LATER, LATER),
    (b"550 SPF check failed", LATER, LATER),
    (b"550 rejected by policy", LATER, LATER),
    (b"550 greylisted, come back", LATER, LATER),
    (b"550 sender verify failed", LATER, LATER),
    (b"550 administrative prohibition", LATER, LATER),
    (b"550 try again later", LATER, LATER),
    (b"550 mailbox is full", LATER, LATER),
    (b"550 5.1.0 address rejected", LATER, LATER),
    (b"553 5.1.7 bad sender", LATER, LATER),
    (b"553 5.1.8 sender domain not found", LATER, LATER),
    (b"550 5.1.2 bad destination", LATER, LATER),
    (b"550 5.7.1 relay denied", LATER, LATER),
    (b"550 5.7.23 SPF", LATER, LATER),
    (b"550 5.0.0 what", LATER, LATER),
    (b"554 policy", LATER, LATER),
    (b"554 5.7.1 blocked", LATER, LATER),
    (b"554", LATER, LATER),
    (b"552 mailbox full", YES, YES),
    (b"552 5.2.2 mailbox full", YES, YES),
    (b"550 5.2.2 mailbox full", YES, YES),
    (b"552 too many recipients", LATER, LATER),
    (b"552 5.7.1 what", LATER, LATER),
    (b"550 5.2.1 disabled", LATER, LATER),
    (b"452 too many recipients", LATER, LATER),
    (b"452 4.2.2 mailbox full", LATER, LATER),
    (b"421 closing", LATER, LATER),
    (b"450 5.1.1 what", LATER, LATER),
    (b"450 4.1.1 user unknown", LATER, LATER),
    (b"450 4.7.1 greylisted", LATER, LATER),
    (b"451 local error", LATER, LATER),
    (b"500 what", LATER, LATER),
    (b"501 5.1.3 syntax", NO, NO),
    (b"503 bad sequence", LATER, LATER),
    (b"530 must issue STARTTLS first", LATER, LATER),
    (b"571 delivery not authorized", LATER, LATER),
]


@pytest.mark.parametrize(("line", "alone", "with_known"), ROWS)
def test_the_reply_to_rcpt_is_classified(line: bytes, alone: Verdict, with_known: Verdict) -> None:
    reply = parse(line)
    assert classify_rcpt(reply, known_accepted=None).verdict is alone
    assert classify_rcpt(reply, known_accepted=False).verdict is alone
    assert classify_rcpt(reply, known_accepted=True).verdict is with_known


@pytest.mark.parametrize(
    ("line", "scope"),
    [
        (b"421 closing", Scope.SERVER),
        (b"451 4.3.0 queue", Scope.SERVER),
        (b"451 4.4.1 no route", Scope.SERVER),
        (b"450 4.7.1 greylisted", Scope.USER),
        (b"550 5.7.1 no", Scope.USER),
        (b"550 no", Scope.USER),
    ],
)
def test_what_is_about_the_server_is_told(line: bytes, scope: Scope) -> None:
    assert classify_rcpt(parse(line), known_accepted=None).scope is scope
