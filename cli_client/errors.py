"""What the CLI's error replies mean. Every error keeps the server's `code` and `text`, apart from each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from cli_client.format import quote
from wire.outcome import Permanent, Scope, Temporary, Trouble


class CliTemporary(Temporary):
    """May go well another time: flow control, an account in use or in transition, a session that was lost."""


class SessionsExhausted(CliTemporary):
    """The server takes no further session now (its connection limit), or all of ours stayed busy."""


class CliRefused(Permanent):
    """The server refused the command: a policy, a wrong argument, missing rights."""

    scope = Scope.USER


class UnknownCommand(CliRefused):
    """This server version does not know the command (500, or 501 in so many words)."""

    scope = Scope.SETUP


class NoSuchAccount(CliRefused):
    """513: the account does not exist."""


class NoSuchDomain(CliRefused):
    """512: the domain does not exist on this server."""

    scope = Scope.SETUP


class BadName(CliRefused):
    """525 or 539: a name that the server cannot have."""


class WrongPassword(CliRefused):
    """514 or 515: the password is not the account's, or the account has none."""


class AlreadyExists(CliRefused):
    """The name is taken. `kind` says by what: account, alias, list, group, forwarder; object where the reply does not.

    A code alone proves nothing: read the account back before relying on it.
    """

    def __init__(self, text: str | bytes, *, kind: str, code: str = "", scope: Scope | None = None) -> None:
        super().__init__(text, code=code, scope=scope)
        self.kind = kind


class CliLoginRefused(Permanent):
    """The CLI login itself was refused: the configuration is wrong."""

    scope = Scope.SETUP


_TAKEN: Final = {520: "account", 521: "alias", 522: "list", 523: "group", 524: "forwarder"}
_TEMPORARY_CODES: Final = frozenset({551, 554, 555, 558, 559})
_EXISTS: Final = re.compile(r"already exists|already (?:in use|taken)|name (?:is )?(?:in use|taken)", re.IGNORECASE)
_KINDS: Final = re.compile(r"\b(account|alias|mailing list|list|group|forwarder)\b", re.IGNORECASE)
_NO_ACCOUNT: Final = re.compile(
    r"(?:unknown|no such) (?:user )?account|account (?:is )?(?:unknown|not found)", re.IGNORECASE
)
_NO_COMMAND: Final = re.compile(
    r"(?:unknown|unrecognized|unsupported) command"
    r"|command (?:is )?(?:unknown|not (?:known|recognized|supported|implemented))",
    re.IGNORECASE,
)
_NO_DOMAIN: Final = re.compile(
    r"(?:unknown|no such) (?:secondary )?domain|domain (?:is )?(?:unknown|not found)", re.IGNORECASE
)
_LATER: Final = re.compile(
    r"try (?:again )?later|temporar|too many|shutting down|clos(?:ed|ing)|in transition|is in use\b|flow control"
    r"|server (?:is )?(?:busy|overloaded)|time[d -]*out",
    re.IGNORECASE,
)


def error_of(code: int, text: str, *, secrets: Sequence[str] = ()) -> Trouble:
    """The exception that an error reply stands for; never raises it.

    `secrets` are the passwords that were in the command: a text that repeats one is not passed on.
    """
    shown = "(the reply's text repeats the password)" if any(_tells(text, secret) for secret in secrets) else text
    number = str(code)
    if code in _TAKEN:
        return AlreadyExists(shown, kind=_TAKEN[code], code=number)
    if code == 512 or (code == 501 and _NO_DOMAIN.search(text)):
        return NoSuchDomain(shown, code=number)
    if code == 513 or (code == 501 and _NO_ACCOUNT.search(text)):
        return NoSuchAccount(shown, code=number)
    if code in (514, 515):
        return WrongPassword(shown, code=number)
    if code == 500 or (code == 501 and _NO_COMMAND.search(text)):
        return UnknownCommand(shown, code=number)
    if code in (525, 539):
        return BadName(shown, code=number)
    if _EXISTS.search(text):
        kind = _KINDS.search(text)
        return AlreadyExists(shown, kind=kind.group().lower().split()[-1] if kind else "object", code=number)
    if code in _TEMPORARY_CODES or 400 <= code < 500 or _LATER.search(text):
        return CliTemporary(shown, code=number)
    return CliRefused(shown, code=number)


_SHORT_SECRET = 4  # letters; a shorter password is part of ordinary words, so only the whole word counts


def _tells(text: str, secret: str) -> bool:
    """Whether `text` repeats `secret`, as it is or as the data format escapes it."""
    if len(secret) < _SHORT_SECRET:
        return bool(secret) and re.search(rf"(?<!\w){re.escape(secret)}(?!\w)", text) is not None
    return secret in text or quote(secret)[1:-1].decode("utf-8") in text
