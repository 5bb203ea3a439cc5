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
    Throttled,
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
      | not\sconnected | read-only | over\s?quota
    """,
    re.IGNORECASE | re.VERBOSE,
)
# Sentences by which a server says that it is asked too much, with a code or without. "Too many" alone would not do:
# one message may have too many identical ones beside it.
_THROTTLED: Final = re.compile(
    r"""throttl | back[\s-]?off | slow\sdown | bandwidth | \brate[\s-]limit | \brate\sexceeded
      | (?:too\smany|maximum\snumber\sof|maximum|max)\s(?:(?:simultaneous|concurrent|open|active|imap|client|of)\s)*
        (?:connections|sessions|logins|requests|commands|operations)
      | \b(?:connections?|sessions?|requests?|commands?)\s(?:rate\s)?(?:limits?|quota)\b
    """,
    re.IGNORECASE | re.VERBOSE,
)
# Of these, the ones that count connections; and what tells that only one user's are counted (Dovecot, Gmail).
_TOO_MANY: Final = re.compile(
    r"""(?:too\smany|maximum\snumber\sof|max(?:imum)?)\s
        (?:(?:simultaneous|concurrent|open|new|active|inbound|tcp|imap4?|pop3?|smtp|client|user|of)\s)*
        (?:connections|sessions|logins|clients|processes)
      | \b(?:connections?|sessions?)\s(?:rate\s)?(?:limits?\b|quota\b|exceeded)
    """,
    re.IGNORECASE | re.VERBOSE,
)
_OF_ONE_USER: Final = re.compile(
    r"\buser\s?\+\s?ip\b|\b(?:per|for|from|by|this|your)\s(?:user|account|mailbox)\b", re.IGNORECASE
)
_PAUSE: Final = re.compile(
    r"(?:back[\s-]?off|again|retry|wait|after|\bin\b)\D{0,30}(\d{1,9})\s?(m(?:illi)?s(?:ec\w*)?|s(?:ec\w*)?|m(?:in\w*)?)\b",
    re.IGNORECASE,
)
_LONGEST_PAUSE: Final = 3600.0  # seconds of a server's wish that are granted at once
# Sentences about one message that sound like the server's state ("exceeded", "limit").
_OF_A_MESSAGE: Final = re.compile(
    r"""\b(?:message|mail|e-?mail|literal|line|header|attachment)\b.{0,60}
          \b(?:too\s(?:big|large|long)|larger|exceed\w*|limit|maximum)\b
      | \b(?:too\s(?:big|large|long)|maximum|max|limit\w*|exceed\w*)\b.{0,60}
          \b(?:message|mail|e-?mail|literal|line|header|attachment)\b
      | \bidentical\b
    """,
    re.IGNORECASE | re.VERBOSE,
)
_OF_THE_STORE: Final = re.compile(r"quota|storage|\bspace\b|\bdisk\b|mailbox|account|folder", re.IGNORECASE)
_TEXT_DECIDES: Final = frozenset({"", "ALERT", "NOTICE", "PARSE"})  # and codes of their own ("X-...")
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


def means_too_many(text: str) -> bool:
    """Whether a sentence says that the server has too many connections of ours, whoever's login they are for."""
    text = text[:_LOOKED_AT]
    return bool(_TOO_MANY.search(text)) and not _OF_ONE_USER.search(text)


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
    heard = _without(sentence, about)
    open_to_text = code in _TEXT_DECIDES or code.startswith("X")
    if code == "THROTTLED" or ((open_to_text or code in _TEMPORARY_CODES) and _THROTTLED.search(heard)):
        return Throttled(said, code=code, pause=_read_pause(heard))
    if code in _TEMPORARY_CODES or (open_to_text and means_busy(heard)):
        return Temporary(said, code=code)
    if code in _SETUP_CODES:
        return SetupTrouble(said, code=code)
    return Permanent(said, code=code, scope=Scope.USER)


def classify_bye(code: str, text: bytes | str) -> Temporary:
    """The exception for an untagged BYE: the server goes away, or wants to be left alone."""
    sentence = clean_reason(text)
    said = f"the server says BYE: {sentence}"
    if code == "THROTTLED" or _THROTTLED.search(sentence):
        return Throttled(said, code=code, pause=_read_pause(sentence))
    return Temporary(said, code=code)


def _read_pause(sentence: str) -> float:
    """Seconds that a server asks for; 0.0 where it does not say."""
    found = _PAUSE.search(sentence)
    if found is None:
        return 0.0
    unit = found[2].lower()
    seconds = int(found[1]) * (0.001 if unit.startswith(("ms", "milli")) else 60.0 if unit.startswith("m") else 1.0)
    return min(seconds, _LONGEST_PAUSE)


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
    """The exception for a NO or BAD to APPEND: TRYCREATE and the like speak of the mailbox, the rest of the message.

    [LIMIT] is either: Dovecot says it of a message that is too big, others of too many connections.
    """
    trouble = classify_failure(status, code, text, what=what)
    of_message = (code == "LIMIT" or code in _TEXT_DECIDES) and _is_of_a_message(trouble.text)
    if isinstance(trouble, (Throttled, SetupTrouble)) or (isinstance(trouble, Temporary) and not of_message):
        return trouble
    if code in {"TRYCREATE", "NONEXISTENT", "NOPERM"}:
        return MailboxUnavailable(trouble.text, code=code)
    return MessageRefused(trouble.text, code=code)


def _is_of_a_message(sentence: str) -> bool:
    return _OF_A_MESSAGE.search(sentence) is not None and _OF_THE_STORE.search(sentence) is None
