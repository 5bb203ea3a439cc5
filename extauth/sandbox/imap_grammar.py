"""IMAP commands as a server reads them (RFC 9051 section 9): no socket.

`Assembly` collects a command from lines and literals; `Cursor` takes it apart. Syntax errors are BadCommand.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

LITERAL_LIMIT = 128 << 20  # bytes of one literal: larger than any message a sandbox holds

_LITERAL = re.compile(rb"\{([0-9]{1,10})([+-]?)\}$")
_LITERAL_AT = re.compile(rb"\{[0-9]{1,10}[+-]?\}\r\n")
_ATOM = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\\]]+")
_ASTRING = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\]+")
_LIST_NAME = re.compile(rb"[^\x00-\x20\x7f(){\"\\]+")  # list-mailbox: wildcards, and raw UTF-8 from old clients
_QUOTED = re.compile(rb'"((?:[^"\\\r\n\0]|\\["\\])*)"')
_FLAG = re.compile(rb"\\?[^\x00-\x20\x7f-\xff(){%*\"\\\]]+")
_RANGE = rb"(?:[1-9][0-9]{0,9}|\*)(?::(?:[1-9][0-9]{0,9}|\*))?"
_SET = re.compile(_RANGE + rb"(?:," + _RANGE + rb")*")
_DATE_TIME = re.compile(rb"[ 0-9][0-9]-[A-Za-z]{3}-[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4}")


class BadCommand(Exception):
    """The command does not follow the grammar."""


@dataclass(frozen=True, slots=True)
class LiteralWanted:
    """The line ended with a literal's announcement."""

    size: int
    synchronizing: bool


@dataclass(slots=True)
class Assembly:
    """One command as it comes in."""

    text: bytearray = field(default_factory=bytearray)
    literals: list[bytes] = field(default_factory=list)

    def add_line(self, line: bytes) -> LiteralWanted | None:
        """A line without its end; the literal that must follow, or None when the command is complete."""
        match = _LITERAL.search(line)
        self.text += line
        if match is None:
            return None
        self.text += b"\r\n"
        return LiteralWanted(int(match[1]), not match[2])

    @property
    def tag(self) -> bytes:
        """The first word, for replies; `*` when it is no tag."""
        word = bytes(self.text.split(b" ", 1)[0])
        return word if re.fullmatch(rb"[^\x00-\x20\x7f-\xff(){%*\"\\+]+", word) else b"*"


class Cursor:
    """Takes one command's text apart from left to right."""

    def __init__(self, text: bytes, literals: Sequence[bytes] = ()) -> None:
        self._text = text
        self._at = 0
        self._literals = list(literals)

    @property
    def rest(self) -> bytes:
        """What is left."""
        return self._text[self._at :]

    def at_end(self) -> bool:
        """Whether nothing is left."""
        return self._at >= len(self._text)

    def peek(self, prefix: bytes) -> bool:
        """Whether `prefix` comes next, in any case."""
        return self._text[self._at : self._at + len(prefix)].upper() == prefix.upper()

    def skip(self, prefix: bytes) -> bool:
        """Take `prefix` if it comes next."""
        if not self.peek(prefix):
            return False
        self._at += len(prefix)
        return True

    def need(self, prefix: bytes) -> None:
        """Take `prefix`, which must come next."""
        if not self.skip(prefix):
            raise BadCommand(f"expected {prefix.decode()!r}")

    def space(self) -> None:
        """Take one space."""
        self.need(b" ")

    def end(self) -> None:
        """Nothing may be left."""
        if not self.at_end():
            raise BadCommand("too many arguments")

    def match(self, pattern: re.Pattern[bytes], what: str) -> bytes:
        """Take what `pattern` matches here."""
        found = pattern.match(self._text, self._at)
        if found is None:
            raise BadCommand(f"expected {what}")
        self._at = found.end()
        return found[0]

    def atom(self) -> bytes:
        """An atom."""
        return self.match(_ATOM, "an atom")

    def word(self) -> bytes:
        """An atom in upper case."""
        return self.atom().upper()

    def number(self) -> int:
        """A number."""
        return int(self.match(re.compile(rb"[0-9]{1,18}"), "a number"))

    def string(self) -> bytes:
        """A quoted string or a literal."""
        if self.peek(b'"'):
            quoted = self.match(_QUOTED, "a quoted string")[1:-1]
            return re.sub(rb'\\(["\\])', rb"\1", quoted)
        if self.peek(b"~{"):
            self._at += 1  # literal8
        if self.peek(b"{"):
            self.match(_LITERAL_AT, "a literal")
            if not self._literals:
                raise BadCommand("expected a literal")
            return self._literals.pop(0)
        raise BadCommand("expected a string")

    def astring(self) -> bytes:
        """An atom, a quoted string or a literal."""
        if self._text[self._at : self._at + 1] in (b'"', b"{"):
            return self.string()
        return self.match(_ASTRING, "a string")

    def mailbox(self) -> bytes:
        """A mailbox name; raw 8-bit names are taken as they come."""
        if self._text[self._at : self._at + 1] in (b'"', b"{"):
            return self.string()
        return self.match(re.compile(rb"[^\x00-\x20\x7f(){%*\"\\]+"), "a mailbox name")

    def list_mailbox(self) -> bytes:
        """A mailbox pattern."""
        if self._text[self._at : self._at + 1] in (b'"', b"{"):
            return self.string()
        return self.match(_LIST_NAME, "a mailbox pattern")

    def flags(self) -> list[bytes]:
        """A parenthesized list of flags."""
        self.need(b"(")
        flags: list[bytes] = []
        while not self.skip(b")"):
            if flags:
                self.space()
            flags.append(self.match(_FLAG, "a flag"))
        return flags

    def bare_flags(self) -> list[bytes]:
        """Flags in parentheses, or without."""
        if self.peek(b"("):
            return self.flags()
        flags = [self.match(_FLAG, "a flag")]
        while self.skip(b" "):
            flags.append(self.match(_FLAG, "a flag"))
        return flags

    def words(self) -> list[bytes]:
        """A parenthesized list of atoms, in upper case."""
        self.need(b"(")
        words: list[bytes] = []
        while not self.skip(b")"):
            if words:
                self.space()
            words.append(self.word())
        return words

    def sequence_set(self) -> Numbers:
        """A sequence set."""
        return Numbers(self.match(_SET, "a sequence set"))

    def peek_sequence_set(self) -> bool:
        """Whether a sequence set comes next."""
        return _SET.match(self._text, self._at) is not None

    def date_time(self) -> datetime:
        """A quoted date-time, aware."""
        self.need(b'"')
        text = self.match(_DATE_TIME, "a date-time")
        self.need(b'"')
        return parse_date_time(text)


_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")


def parse_date_time(text: bytes) -> datetime:
    """` 7-Feb-1994 22:43:04 -0800`, aware. BadCommand for a date that no calendar has."""
    day, month, rest = text.split(b"-", 2)
    number = _MONTHS.index(month.title()) + 1 if month.title() in _MONTHS else 0
    try:
        return datetime.strptime(f"{int(day):02d} {number:02d} {rest.decode()}", "%d %m %Y %H:%M:%S %z")
    except ValueError:
        raise BadCommand("no such date") from None


def render_date_time(moment: datetime) -> bytes:
    """The same form, quoted."""
    text = f"{moment.day:2d}-{_MONTHS[moment.month - 1].decode()}-{moment:%Y %H:%M:%S %z}"
    return b'"' + text.encode() + b'"'


def parse_date(text: bytes) -> datetime:
    """SEARCH's `1-Feb-1994`; midnight, without a zone."""
    match = re.fullmatch(rb'"?([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})"?', text)
    if match is None or match[2].title() not in _MONTHS:
        raise BadCommand("expected a date")
    try:
        year, month, day = int(match[3]), _MONTHS.index(match[2].title()) + 1, int(match[1])
        return datetime(year, month, day)  # noqa: DTZ001 - SEARCH's dates have no zone
    except ValueError:
        raise BadCommand("no such date") from None


@dataclass(frozen=True, slots=True)
class Numbers:
    """A sequence set, as it was written."""

    text: bytes

    def of(self, known: Sequence[int]) -> list[int]:
        """The members of `known` (ascending) that are in the set; `*` is the last of them."""
        last = known[-1] if known else 0
        chosen: set[int] = set()
        for part in self.text.split(b","):
            first, colon, second = part.partition(b":")
            low = last if first == b"*" else int(first)
            high = low if not colon else last if second == b"*" else int(second)
            low, high = min(low, high), max(low, high)
            chosen.update(known[bisect_left(known, low) : bisect_right(known, high)])
        return sorted(chosen)

    def highest(self) -> int:
        """The largest number written; `*` counts as none."""
        return max((int(n) for n in re.findall(rb"[0-9]+", self.text)), default=0)


def quoted(text: bytes) -> bytes:
    """A string for a reply: quoted where it can be, else a literal."""
    if any(c < 0x20 or c >= 0x7F for c in text) or len(text) > 1000:
        return literal(text)
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def literal(text: bytes) -> bytes:
    """A literal for a reply."""
    return b"{%d}\r\n" % len(text) + text


def nstring(text: bytes | None) -> bytes:
    """A string or NIL."""
    return b"NIL" if text is None else quoted(text)


def astring(text: bytes) -> bytes:
    """A mailbox name for a reply."""
    return text if re.fullmatch(rb"[A-Za-z0-9._/&+,~-]+", text) and text.upper() != b"NIL" else quoted(text)


def uid_set(uids: Iterable[int]) -> bytes:
    """Ascending UIDs as a compact set, order kept."""
    parts: list[list[int]] = []
    for uid in uids:
        if parts and parts[-1][1] + 1 == uid:
            parts[-1][1] = uid
        else:
            parts.append([uid, uid])
    return b",".join(b"%d" % a if a == b else b"%d:%d" % (a, b) for a, b in parts)
