"""The CLI (PWD) protocol without I/O: greeting, replies, command lines.

A command is one line, a keyword and data-format objects. A reply is a three-digit code and a text; 201 carries its
data on the same line, 200 with the text `data follow` is followed by it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cli_client.format import SIZE_LIMIT, FormatError, Value, parse_data, quote, render_data
from wire.outcome import ProtocolTrouble
from wire.secret import Secret

COMMAND_LIMIT = 1 << 20  # bytes of a command line: an account's settings with rules; the server's own limit is unknown
REPLY_LIMIT = 8192  # bytes of a reply line that carries no data
DATA_LIMIT = SIZE_LIMIT


@dataclass(frozen=True, slots=True)
class Word:
    """A keyword or a bare number of a command, such as `PASSWORD` or `100`: never anything a user typed."""

    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """One command line, and how it may be treated.

    `repeatable`: sending it twice leaves what sending it once leaves. `secrets`: passwords in it, as they may be
    echoed; an error text that repeats one is withheld. The line is never shown.
    """

    line: bytes = field(repr=False)
    repeatable: bool = False
    secrets: tuple[str, ...] = field(default=(), repr=False)


Argument = Word | Value | Mapping[str, Value] | Secret

_FORBIDDEN: Final = re.compile(rb"[\r\n\0]")
_KEYWORD: Final = re.compile(r"[A-Za-z0-9]+")
_PLAIN: Final = re.compile(r"[A-Za-z0-9@._-]+")


def render_command(
    keyword: str, *arguments: Argument, repeatable: bool = False, secrets: tuple[str, ...] = ()
) -> Command:
    """A command whose arguments are data-format objects: strings always quoted, so none can be taken for a keyword.

    A Secret is rendered as a string, byte for byte; `secrets` names those that stand within other arguments.
    ValueError for what the format cannot hold.
    """
    parts = [_word(keyword)]
    told = list(secrets)
    for argument in arguments:
        if isinstance(argument, Secret):
            text = argument.reveal().decode("utf-8", "surrogateescape")
            told.append(text)
            parts.append(quote(text))
        else:
            parts.append(_argument(argument))
    return Command(checked_line(b" ".join(parts)), repeatable, tuple(told))


def login_command(keyword: str, text: str) -> Command:
    """USER or PASS: the rest of the line as it is, quotes and blanks included, as POP has it and every client sends it.

    ValueError for a name or password with CR, LF or NUL.
    """
    return Command(checked_line(_word(keyword) + b" " + text.encode("utf-8", "surrogateescape")))


def _argument(argument: Word | Value | Mapping[str, Value]) -> bytes:
    if isinstance(argument, Word):
        return _word(argument.text)
    if isinstance(argument, str):
        return quote(argument)
    return render_data(argument)


def _word(text: str) -> bytes:
    if not _KEYWORD.fullmatch(text):
        raise ValueError(f"not a keyword: {text!r}")
    return text.encode("ascii")


def checked_line(line: bytes) -> bytes:
    """`line`, fit to be sent as one command. ValueError if it holds CR, LF or NUL, is empty, or is too long."""
    if _FORBIDDEN.search(line):
        raise ValueError("a command line holds no CR, LF or NUL")
    if not line.strip():
        raise ValueError("an empty command line")
    if len(line) > COMMAND_LIMIT:
        raise ValueError(f"a command line of more than {COMMAND_LIMIT} bytes")
    return line


@dataclass(frozen=True, slots=True)
class Greeting:
    """The server's first line. `stamp` is what APOP signs, with its angle brackets; empty where APOP is not offered."""

    code: int
    text: str
    stamp: bytes = b""


_STAMP: Final = re.compile(rb"<[^<>\s]+@[^<>\s]+>")


def parse_greeting(line: bytes) -> Greeting:
    """Read the greeting. ProtocolTrouble if it is no CLI reply at all."""
    reply = parse_reply(line)
    stamp = _STAMP.search(line)
    return Greeting(reply.code, reply.text, stamp.group() if stamp else b"")


def apop_command(login: str, stamp: bytes, password: Secret) -> Command:
    """APOP: the name, bare where every reader takes it for one word, and the proof (RFC 1939, section 7)."""
    name = login.encode("ascii") if _PLAIN.fullmatch(login) else quote(login)
    digest = hashlib.md5(stamp + password.reveal(), usedforsecurity=False).hexdigest()
    return Command(b"APOP " + name + b" " + digest.encode("ascii"))


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete reply. `data` is the data-format text that came with it, None if none did."""

    code: int
    text: str
    data: bytes | None = None

    @property
    def data_follows(self) -> bool:
        """Whether the data is still to come, on the lines behind this one."""
        return self.code == 200 and self.data is None and self.text[:4].lower() == "data"

    def value(self) -> Value:
        """The data. ProtocolTrouble if none came or it cannot be read."""
        if self.data is None:
            raise ProtocolTrouble("the reply carries no data")
        try:
            return parse_data(self.data, size_limit=DATA_LIMIT)
        except FormatError as error:
            raise ProtocolTrouble(f"data that cannot be read: {error}") from None


def parse_reply(line: bytes) -> Reply:
    """Read one reply line. ProtocolTrouble if it does not begin with a code."""
    digits = line[:3]
    if len(digits) < 3 or not digits.isdigit() or line[3:4] not in (b" ", b""):
        raise ProtocolTrouble("a line that is no reply")
    code = int(digits)
    if code == 201:
        return Reply(code, "", line[4:])
    return Reply(code, line[4:].decode("utf-8", "surrogateescape").strip())
