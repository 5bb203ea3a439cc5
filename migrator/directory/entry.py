"""One account as an old system's file has it: what every reader gives, whatever the format. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from wire.secret import Secret


class Standing(Enum):
    """What an entry is to the import."""

    ACCOUNT = "account"
    LEFT_OUT = "left out"  # no user: a system account, a group, a container
    BAD = "bad"  # cannot be used as it stands; a person must look


@dataclass(frozen=True, slots=True)
class Stored:
    """A password as the file has it: a hash of whatever kind, or clear text."""

    text: Secret
    clear: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. `raw` is how it stands in the file, to be fed back; hidden, because it holds the password.

    `name` is the login, with or without a domain; `address` the main address where the file tells one; `aliases` are
    addresses or local names; `forwards` where mail is sent on to; `quota` bytes, None where the file sets none.
    """

    line: int
    raw: Secret
    name: str = ""
    address: str = ""
    passwords: tuple[Stored, ...] = ()
    real_name: str = ""
    aliases: tuple[str, ...] = ()
    forwards: tuple[str, ...] = ()
    quota: int | None = None
    standing: Standing = Standing.ACCOUNT
    reason: str = ""  # why it is bad or left out: one line without passwords


def bad_entry(line: int, raw: bytes, reason: str, *, name: str = "") -> Entry:
    """An entry that cannot be used."""
    return Entry(line, Secret(raw), name, standing=Standing.BAD, reason=reason)


def left_out(line: int, raw: bytes, reason: str, *, name: str = "") -> Entry:
    """An entry that is no account of a user."""
    return Entry(line, Secret(raw), name, standing=Standing.LEFT_OUT, reason=reason)
