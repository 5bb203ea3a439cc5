"""What an IMAP reply means: to a login an Answer, to any other command an exception. Pure.

NO only for a refusal of this user in so many words: a tagged NO without a code, or with one of the three codes of
RFC 5530 that speak of the user, and only where the text does not speak of the server's own strain.
Every other reply says nothing about the password.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from wire.imap.names import decode_mailbox
from wire.outcome import (
    Answer,
    MailboxUnavailable,
    MessageRefused,
    Permanent,
    Scope,
    SetupTrouble,
    Temporary,
    Trouble,
    Verdict,
    clean_reason,
)

_WHOLE: Final = 1 << 20  # no limit before secrets are taken out: half of one would not be found
_LOOKED_AT: Final = 1000  # characters of a sentence; the patterns take square time on a hostile one
_REFUSALS: Final = frozenset({"AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED"})  # RFC 5530 3
_TEMPORARY_CODES: Final = frozenset(
    {"UNAVAILABLE", "INUSE", "IN-USE", "SERVERBUG", "LIMIT", "THROTTLED", "OVERQUOTA", "CONTACTADMIN", "SYS/TEMP"}
)
_SERVER_CODES: Final = frozenset({"UNAVAILABLE", "SERVERBUG", "THROTTLED"})
_SETUP_CODES: Final = frozenset({"PRIVACYREQUIRED"})

# Sentences of real servers that come as a plain NO and yet say nothing about the password.
_STRAINED: Final = re.compile(
    r"""temporar | \blater\b | \bbusy\b | overload | too\smany | maximum\snumber | maintenance | back\s?off | throttl
      | max(?:imum)?\s(?:simultaneous\s|concurrent\s)?(?:connections|sessions|logins) | shutting\sdown
      | (?:connections?|session|login|rate)\s(?:limit|exceeded) | limit\s(?:exceeded|reached)
      | internal\s(?:server\s)?(?:error|failure)
    """,
    re.IGNORECASE | re.VERBOSE,
)
_BUSY: Final = re.compile(
    r"""\block(?:ed|ing)?\b | \block(?:ed)?\sout | unavailable | not\savailable | \bin\suse\b | \btime[d]?[\s-]?out\b
      | (?:server|system|service|database|ldap|backend|proxy)\s(?:is\s)?(?:error|failure|failed|bug|down|problem)
      | exceeded | out\sof\s(?:memory|resources|disk) | no\sspace
      | (?:cannot|can't|could\snot|unable\sto|failed\sto)\s(?:connect|contact|reach|open|access)
      | connection\s(?:refused|lost|failed|to)
      | not\sconnected | read-only
    """,
    re.IGNORECASE | re.VERBOSE,
)
_NO_TLS: Final = re.compile(
    r"plain-?\s?text|clear-?\s?text|login (?:is )?disabled|\bssl\b|\b(?:start)?tls\b|encrypt", re.IGNORECASE
)
_TRY_AGAIN: Final = re.compile(r"try\s(?:it\s)?again|\bretry", re.IGNORECASE)
_BLAMES: Final = re.compile(
    r"\b(?:invalid|incorrect|wrong|bad)\b.*\b(?:password|credentials|login|user)|"
    r"\b(?:password|credentials|login|user)\b.*\b(?:invalid|incorrect|wrong|bad)\b",
    re.IGNORECASE,
)


def means_busy(text: str) -> bool:
    """Whether a sentence speaks of the server's state (locked, busy, too many, no TLS) rather than of the user.

    "Wrong password, please try again" blames the password; "Please try again" alone does not.
    """
    text = text[:_LOOKED_AT]
    if _STRAINED.search(text) or _BUSY.search(text) or _NO_TLS.search(text):
        return True
    return bool(_TRY_AGAIN.search(text)) and not _BLAMES.search(text)


def classify_login(status: bytes, code: str, text: bytes | str, *, hide: Sequence[bytes] = ()) -> Answer:
    """The tagged reply to LOGIN or AUTHENTICATE as a verdict; `status` and `code` in upper case.

    What stands in `hide` never enters the reason: there are servers that repeat the password in their refusal.
    """
    shown = clean_reason(text, _WHOLE)
    sentence = shown[:_LOOKED_AT]
    for secret in hide:
        cleaned = clean_reason(secret, _WHOLE)  # escaped as the sentence is, so that it is found there
        shown = shown.replace(cleaned, "***") if cleaned else shown
    reason = f"{status.decode('ascii', 'replace')}{f' [{code}]' if code else ''} {shown}"
    if status == b"OK":
        return Answer(Verdict.YES, reason)
    if status == b"NO" and code in _REFUSALS and not _STRAINED.search(sentence):
        return Answer(Verdict.NO, reason)
    if status == b"NO" and not code and not means_busy(sentence):
        return Answer(Verdict.NO, reason)
    if code in _SETUP_CODES or (not code and _NO_TLS.search(sentence)):
        return Answer(Verdict.LATER, reason, Scope.SETUP)
    about_server = code in _SERVER_CODES or (not code and bool(_STRAINED.search(sentence)))
    return Answer(Verdict.LATER, reason, Scope.SERVER if about_server else Scope.USER)


def classify_unsendable(reason: str) -> Answer:
    """NO for a password that holds NUL.

    CHAR8 (RFC 3501 9) and SASL PLAIN (RFC 4616 2) exclude NUL, so no server can have accepted it: it is wrong, and
    trying later would not make it right.
    """
    return Answer(Verdict.NO, reason)


def classify_failure(status: bytes, code: str, text: bytes | str, *, what: str, about: bytes = b"") -> Trouble:
    """The exception for a NO or BAD to any command but a login.

    `about` is the name of a mailbox that the text may repeat: one called Later or Busy says nothing of the server.
    """
    sentence = clean_reason(text)
    said = f"{what}: {status.decode('ascii', 'replace')} {sentence}".rstrip()
    if code in _TEMPORARY_CODES or (not code and means_busy(_without(sentence, about))):
        return Temporary(said, code=code)
    if code in _SETUP_CODES:
        return SetupTrouble(said, code=code)
    return Permanent(said, code=code, scope=Scope.USER)


def _without(sentence: str, name: bytes) -> str:
    """The sentence without the name as a word of its own, in both the forms in which servers repeat one."""
    for shown in (clean_reason(name), clean_reason(decode_mailbox(name))):
        if shown:
            sentence = re.sub(rf"(?<!\w){re.escape(shown)}(?!\w)", " ", sentence)
    return sentence


def classify_mailbox_failure(
    status: bytes, code: str, text: bytes | str, *, what: str, mailbox: bytes = b""
) -> Trouble:
    """The exception for a NO or BAD to SELECT, EXAMINE, STATUS, CREATE of `mailbox`."""
    trouble = classify_failure(status, code, text, what=what, about=mailbox)
    return trouble if isinstance(trouble, (Temporary, SetupTrouble)) else MailboxUnavailable(trouble.text, code=code)


def classify_append_failure(status: bytes, code: str, text: bytes | str, *, what: str) -> Trouble:
    """The exception for a NO or BAD to APPEND: TRYCREATE and the like speak of the mailbox, the rest of the message."""
    trouble = classify_failure(status, code, text, what=what)
    if isinstance(trouble, (Temporary, SetupTrouble)):
        return trouble
    if code in {"TRYCREATE", "NONEXISTENT", "NOPERM"}:
        return MailboxUnavailable(trouble.text, code=code)
    return MessageRefused(trouble.text, code=code)
