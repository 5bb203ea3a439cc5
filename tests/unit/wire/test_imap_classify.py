"""The verdict table for IMAP, row by row, on the sentences of real servers."""

from __future__ import annotations

import pytest

from wire.imap.classify import (
    classify_append_failure,
    classify_failure,
    classify_login,
    classify_mailbox_failure,
    classify_unsendable,
)
from wire.imap.parser import ResponseParser, Status
from wire.outcome import (
    Answer,
    MailboxUnavailable,
    MessageRefused,
    Permanent,
    Scope,
    SetupTrouble,
    Temporary,
    Verdict,
)


def answer_to(line: bytes) -> Answer:
    """The verdict on one tagged line."""
    parser = ResponseParser()
    parser.feed(b"a1 " + line + b"\r\n")
    reply = parser.next_response()
    assert isinstance(reply, Status)
    return classify_login(reply.status, reply.code, reply.text)


@pytest.mark.parametrize(
    "line",
    [
        b"OK",
        b"OK LOGIN Ok.",
        b"OK [CAPABILITY IMAP4rev1 UIDPLUS] Logged in",
        b"OK user@example.com authenticated (Success)",
        b"ok User logged in SESSIONID=<x>",
        b"OK [ALERT] Your mailbox is nearly full, try again later",
    ],
)
def test_yes(line: bytes) -> None:
    """A tagged OK, whatever it says."""
    assert answer_to(line).verdict is Verdict.YES


@pytest.mark.parametrize(
    "line",
    [
        b"NO",
        b"NO Login failed.",  # Courier
        b"NO LOGIN failed.",  # Exchange
        b"NO Login failed: authentication failure",  # Cyrus
        b"NO [AUTHENTICATIONFAILED] Authentication failed.",  # Dovecot
        b"NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)",  # Gmail
        b"NO [AUTHENTICATIONFAILED] Account is locked",
        b"NO [AUTHORIZATIONFAILED] Not authorised",
        b"NO [EXPIRED] Password expired",
        b"NO incorrect password or account name",  # CommuniGate
        b"NO Wrong password, please try again",
        b"NO Bad login, try again",
        b"NO LOGIN user unknown",
        b"no [authenticationfailed] no",
    ],
)
def test_no(line: bytes) -> None:
    """An explicit refusal of this user."""
    answer = answer_to(line)
    assert answer.verdict is Verdict.NO
    assert answer.scope is Scope.USER


@pytest.mark.parametrize(
    "line",
    [
        b"NO [UNAVAILABLE] Temporary authentication failure.",
        b"NO Temporary authentication failure.",
        b"NO [INUSE] mailbox in use",
        b"NO [IN-USE] mailbox in use",
        b"NO [LIMIT] Too many sessions",
        b"NO [SERVERBUG] Internal error occurred.",
        b"NO [CONTACTADMIN] Ask",
        b"NO [PRIVACYREQUIRED] Plaintext authentication disallowed on non-secure (SSL/TLS) connections.",
        b"NO [ALERT] Please log in via your web browser (Failure)",
        b"NO [WEBALERT https://example.com] Web login required.",
        b"NO [X-WHATEVER] no",
        b"NO [AUTHENTICATIONFAILED] Too many failed attempts, try again later",
        b"NO [AUTHENTICATIONFAILED] Temporarily blocked",
        b"NO Try again",
        b"NO Please try again later.",
        b"NO Maximum number of connections from user+IP exceeded (mail_max_userip_connections=10)",
        b"NO Too many simultaneous connections. (Failure)",
        b"NO Mailbox is locked by another process",
        b"NO Account locked",
        b"NO Server is busy",
        b"NO Server Unavailable. 15",
        b"NO System error",
        b"NO Internal server error",
        b"NO LOGIN disabled",
        b"NO Clear text passwords disabled",
        b"NO Please use SSL",
        b"NO service is down for maintenance",
        b"NO Connection limit reached",
        b"NO Cannot connect to the database",
        b"NO request timed out",
        b"NO User is authenticated but not connected.",  # Exchange
        b"BAD",
        b"BAD Command unrecognized",
        b"BAD [AUTHENTICATIONFAILED] no",
        b"BAD Invalid password",
    ],
)
def test_later(line: bytes) -> None:
    """Everything else says nothing about the password."""
    assert answer_to(line).verdict is Verdict.LATER


def test_whom_a_later_is_about() -> None:
    """A busy server is the server's, one locked mailbox the user's, missing TLS the operator's."""
    assert answer_to(b"NO [UNAVAILABLE] down").scope is Scope.SERVER
    assert answer_to(b"NO Temporary authentication failure.").scope is Scope.SERVER
    assert answer_to(b"NO [INUSE] mailbox in use").scope is Scope.USER
    assert answer_to(b"NO [ALERT] log in at the web first").scope is Scope.USER
    assert answer_to(b"NO [PRIVACYREQUIRED] TLS first").scope is Scope.SETUP
    assert answer_to(b"NO LOGIN disabled").scope is Scope.SETUP


@pytest.mark.parametrize(
    ("password", "text"),
    [
        (b"hunter2", b"no such password: hunter2"),
        (b"p\xe4ss", b"LOGIN u1 p\xe4ss refused"),
        ("pä".encode(), "LOGIN u1 pä refused".encode()),
        (b"temporary", b"wrong: temporary"),
    ],
)
def test_a_repeated_password_never_enters_the_reason(password: bytes, text: bytes) -> None:
    """There are servers that say it back."""
    answer = classify_login(b"NO", "", text, hide=(password, b""))
    assert "***" in answer.reason
    assert password.decode("latin-1") not in answer.reason


def test_a_password_cannot_make_a_busy_server_sure() -> None:
    """The sentence is judged before the password is taken out of it."""
    answer = classify_login(b"NO", "", b"Temporary authentication failure.", hide=(b"Temporary",))
    assert answer.verdict is Verdict.LATER


def test_a_hostile_sentence_costs_no_time() -> None:
    """A megabyte of words that the patterns look for is judged by its beginning."""
    assert classify_login(b"NO", "", b"wrong " * 200_000).verdict is Verdict.NO


def test_a_password_that_cannot_be_sent_is_wrong() -> None:
    """No IMAP server ever accepted a NUL."""
    assert classify_unsendable("NUL").verdict is Verdict.NO


@pytest.mark.parametrize(
    ("status", "code", "text", "kind"),
    [
        (b"NO", "UNAVAILABLE", "down", Temporary),
        (b"NO", "INUSE", "locked", Temporary),
        (b"NO", "OVERQUOTA", "full", Temporary),
        (b"NO", "LIMIT", "that much", Temporary),
        (b"NO", "", "Mailbox is locked, try again later", Temporary),
        (b"NO", "PRIVACYREQUIRED", "TLS first", SetupTrouble),
        (b"NO", "NOPERM", "no", Permanent),
        (b"NO", "", "no such thing", Permanent),
        (b"BAD", "", "unknown command", Permanent),
        (b"BAD", "", "User is authenticated but not connected.", Temporary),
    ],
)
def test_failures_of_other_commands(status: bytes, code: str, text: str, kind: type[Exception]) -> None:
    """Temporary by code or sentence, else Permanent; the code stays its own field."""
    trouble = classify_failure(status, code, text, what="NOOP")
    assert type(trouble) is kind
    assert trouble.code == code


def test_the_scope_of_the_damage() -> None:
    """One message, one mailbox, or neither."""
    assert type(classify_append_failure(b"NO", "", "Message contains invalid header", what="x")) is MessageRefused
    assert type(classify_append_failure(b"NO", "TOOBIG", "too large", what="x")) is MessageRefused
    assert type(classify_append_failure(b"BAD", "", "NUL in literal", what="x")) is MessageRefused
    assert type(classify_append_failure(b"NO", "TRYCREATE", "no mailbox", what="x")) is MailboxUnavailable
    assert type(classify_append_failure(b"NO", "OVERQUOTA", "quota exceeded", what="x")) is Temporary
    assert type(classify_mailbox_failure(b"NO", "NONEXISTENT", "no", what="x")) is MailboxUnavailable
    assert type(classify_mailbox_failure(b"NO", "INUSE", "no", what="x")) is Temporary


@pytest.mark.parametrize(
    ("mailbox", "text", "kind"),
    [
        (b"Later", "Mailbox doesn't exist: Later (0.001 + 0.000 secs).", MailboxUnavailable),
        (b"Work/Busy", 'Mailbox "Work/Busy" does not exist', MailboxUnavailable),
        (b"&AMQ-rger unavailable", "no mailbox \\xc4rger unavailable", MailboxUnavailable),
        (b"Later", "Mailbox is locked, try again later", Temporary),
        (b"a", "Temporary failure of a server", Temporary),
        (b"Work", "Server is busy", Temporary),
    ],
)
def test_a_mailboxs_own_name_says_nothing_of_the_server(mailbox: bytes, text: str, kind: type[Exception]) -> None:
    """Servers repeat the name in their refusal, and people call mailboxes Later."""
    assert type(classify_mailbox_failure(b"NO", "", text, what="SELECT", mailbox=mailbox)) is kind
