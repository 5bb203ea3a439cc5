"""What a dialogue came to: an Answer about a user, or an exception about everything else.

Answers are values and are built only by the `classify_*` functions. Failures that are not an
answer are raised as `Temporary` (try again later) or `Permanent` (a person must change something).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """Whether the old server knows this user, or accepts this password."""

    YES = "yes"
    NO = "no"  # the server refused this user, in so many words
    LATER = "later"  # everything unclear


class Scope(Enum):
    """Whom the reason is about."""

    USER = "user"
    SERVER = "server"  # connect, TLS, greeting, capacity: says nothing about the user
    SETUP = "setup"  # certificate, no TLS where required, unknown domain: a person must change something


_REASON_LIMIT = 300  # bytes of a helper reply line are limited to 4096; a reason needs far less


def clean_reason(text: str | bytes, limit: int = _REASON_LIMIT) -> str:
    """One printable ASCII line of at most `limit` characters, for logs and replies.

    Outside bytes never reach a line unescaped: controls and non-ASCII become `\\xNN` or `\\uNNNN`.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    if not (text.isascii() and text.isprintable()):
        text = "".join(c if " " <= c <= "~" else " " if c in "\r\n\t" else ascii(c)[1:-1] for c in text)
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


@dataclass(frozen=True, slots=True)
class Answer:
    """A verdict with its reason: one clean line that holds no secret."""

    verdict: Verdict
    reason: str
    scope: Scope = Scope.USER

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", clean_reason(self.reason))


class Trouble(Exception):
    """Base of Temporary and Permanent. `text` is one clean line without secrets; `code` the server's own, or ""."""

    scope: Scope = Scope.SERVER

    def __init__(self, text: str | bytes, *, code: str = "", scope: Scope | None = None) -> None:
        self.text = clean_reason(text)
        self.code = clean_reason(code, 64)
        if scope is not None:
            self.scope = scope
        super().__init__(self.text)

    def __str__(self) -> str:
        return f"{self.text} ({self.code})" if self.code else self.text


class Temporary(Trouble):
    """May go well another time: connection, time-out, capacity, a server in trouble."""


class Throttled(Temporary):
    """The server wants to be left alone for a while, whatever it is asked for; `pause` seconds, where it says so."""

    def __init__(self, text: str | bytes, *, code: str = "", scope: Scope | None = None, pause: float = 0.0) -> None:
        super().__init__(text, code=code, scope=scope)
        self.pause = pause


class Unreachable(Temporary):
    """No connection came about: nothing was said yet, so that another attempt costs neither side anything."""


class OutOfFiles(Unreachable):
    """No connection came about because we may open no more of them: not the server's fault."""

    scope = Scope.SETUP


class HungUp(Temporary):
    """The peer closed the connection and did not say why."""


class Permanent(Trouble):
    """Goes wrong every time until a person changes something."""


class SetupTrouble(Permanent):
    """Certificate, missing TLS, configuration: about us and the operator, never about a user."""

    scope = Scope.SETUP


class ProtocolTrouble(Temporary):
    """The peer said something that its protocol does not allow; the connection is closed and never reused."""


class MessageRefused(Permanent):
    """The target refused one message; the mailbox and the job go on."""

    scope = Scope.USER


class MailboxUnavailable(Permanent):
    """One mailbox cannot be opened or made; the other mailboxes go on."""

    scope = Scope.USER


class Refused(Permanent):
    """The server refused a login, in so many words (verdict NO)."""

    scope = Scope.USER
