"""Who is meant by a refusal: the sentences of tests/vectors/imap_refusals.py, each by the classifier of its command."""

from __future__ import annotations

import pytest

from tests.vectors.imap_refusals import BYES, REFUSALS
from wire.imap.classify import (
    classify_append_failure,
    classify_bye,
    classify_failure,
    classify_mailbox_failure,
)
from wire.imap.parser import ResponseParser, Status
from wire.outcome import MailboxUnavailable, MessageRefused, Permanent, Temporary, Throttled

KINDS = {
    "throttled": Throttled,
    "temporary": Temporary,
    "message": MessageRefused,
    "mailbox": MailboxUnavailable,
    "permanent": Permanent,
}
CLASSIFIERS = {
    "APPEND": classify_append_failure,
    "SELECT": classify_mailbox_failure,
    "FETCH": classify_failure,
}


def parsed(line: bytes) -> Status:
    """One status response."""
    parser = ResponseParser()
    parser.feed(line + b"\r\n")
    reply = parser.next_response()
    assert isinstance(reply, Status)
    return reply


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(name: str) -> None:
    """The exception's type, the server's code, and the pause that it asks for."""
    command, line, kind, pause = REFUSALS[name]
    reply = parsed(b"a1 " + line)
    trouble = CLASSIFIERS[command](reply.status, reply.code, reply.text, what=command)
    assert type(trouble) is KINDS[kind]
    assert trouble.code == reply.code
    assert (trouble.pause if isinstance(trouble, Throttled) else 0.0) == pytest.approx(pause)


@pytest.mark.parametrize("name", BYES)
def test_byes(name: str) -> None:
    """All are temporary; some ask for more than another connection."""
    line, throttled, pause = BYES[name]
    reply = parsed(b"* BYE " + line)
    trouble = classify_bye(reply.code, reply.text)
    assert type(trouble) is (Throttled if throttled else Temporary)
    assert (trouble.pause if isinstance(trouble, Throttled) else 0.0) == pytest.approx(pause)


def test_a_hostile_sentence_costs_no_time() -> None:
    for sentence in (b"too many " * 100_000, b"message " * 100_000, b"again " * 100_000, b"exceeded mail " * 100_000):
        classify_append_failure(b"NO", "LIMIT", sentence, what="APPEND")
        classify_bye("", sentence)
