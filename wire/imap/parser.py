"""IMAP responses: framing first, then grammar. Pure: bytes in, frozen values out.

A response is one line, or several joined by literals (RFC 3501 4.3, RFC 3516 for `~{n}`). `Assembler`
finds where it ends and says how long the next literal is, so that whoever drives it may stream that
literal instead of holding it; `parse_response` reads what was put together. `ResponseParser` is
both over a buffer of its own.

Raises ProtocolTrouble for whatever the grammar does not allow where guessing could hurt: a tagged reply,
an unterminated list, a limit. Unknown untagged responses are data like any other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from wire.buffer import LINE_LIMIT, ReceiveBuffer
from wire.outcome import ProtocolTrouble

LITERAL_LIMIT: Final = 4 << 20  # names, headers and flags; message bodies are streamed and have no limit here
_DEPTH_LIMIT: Final = 64  # BODYSTRUCTURE of a mail wrapped 30 times; nobody nests deeper by accident
_LITERALS_LIMIT: Final = 10_000  # in one response: an ENVELOPE of a mail to a thousand people, ten times over

Value = bytes | None | list["Value"]


@dataclass(frozen=True, slots=True)
class Continuation:
    """`+ text`: the server waits for the rest of a command."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Status:
    """OK, NO, BAD, BYE or PREAUTH; tagged, or untagged where `tag` is empty."""

    tag: bytes
    status: bytes  # upper case
    code: str  # first word of [CODE args], upper case; "" without
    code_args: bytes
    text: bytes


@dataclass(frozen=True, slots=True)
class Untagged:
    """`* number name data...` or `* name data...`. An atom NIL is None, strings lose their quotes."""

    name: bytes  # upper case
    number: int | None
    data: list[Value]


Response = Continuation | Status | Untagged

_MARKER: Final = re.compile(rb"~?\{(\d{1,19})\+?\}\Z")
_MARKER_SIZE: Final = 24  # bytes of the longest marker: a search never walks a long line
_ITEM_SIZE: Final = 4096  # the same for an item with its section: a hostile line must not cost square time
_PLAIN_TEXT: Final = re.compile(rb"(?:\+|[^ ]+ (?:OK|NO|BAD|BYE|PREAUTH)(?:[ \r]|\Z))", re.IGNORECASE)
_BODY_ITEM: Final = re.compile(
    rb"[( ](?:BODY\[[^\]]*\](?:<\d+>)?|RFC822(?:\.TEXT|\.HEADER)?|BINARY\[[0-9.]*\](?:<\d+>)?) ?~?\{\d+\+?\}\Z",
    re.IGNORECASE,
)
_FETCH: Final = re.compile(rb"\* (\d+) FETCH ?\(", re.IGNORECASE)


class Assembler:
    """Collects the lines and literals of one response."""

    __slots__ = ("_started", "parts")

    def __init__(self) -> None:
        self.parts: list[bytes] = []  # line, literal, line, ..., line

    def add_line(self, line: bytes) -> int | None:
        """Take the next line; the length of the literal that follows it, or None when the response is whole."""
        self.parts.append(line)
        if not line.endswith(b"}"):
            return None
        marker = _MARKER.search(line, max(0, len(line) - _MARKER_SIZE))
        if marker is None or (len(self.parts) == 1 and _PLAIN_TEXT.match(line)):
            return None  # a human sentence may end with anything
        if len(self.parts) > 2 * _LITERALS_LIMIT:
            raise ProtocolTrouble(f"more than {_LITERALS_LIMIT} literals in one response")
        return int(marker[1])

    def add_literal(self, block: bytes) -> None:
        """Take the literal that `add_line` announced (b"" stands for one that was streamed elsewhere)."""
        self.parts.append(block)

    def body_follows(self) -> bool:
        """Whether the literal now due is message content of a FETCH, the kind that is worth streaming."""
        return bool(_FETCH.match(self.parts[0])) and bool(_BODY_ITEM.search(self.parts[-1][-_ITEM_SIZE:]))

    def take(self) -> Response:
        """The whole response; ready for the next one."""
        parts, self.parts = self.parts, []
        return parse_response(parts)


class ResponseParser:
    """Bytes in, responses out: the same ones however the bytes were split."""

    def __init__(self, *, line_limit: int = LINE_LIMIT, literal_limit: int = LITERAL_LIMIT) -> None:
        self._buffer = ReceiveBuffer()
        self._assembler = Assembler()
        self._literal: int | None = None
        self._line_limit = line_limit
        self._literal_limit = literal_limit

    def feed(self, data: bytes) -> None:
        """Add bytes as they came."""
        self._buffer.feed(data)

    def next_response(self) -> Response | None:
        """The next whole response, or None until more bytes come."""
        while True:
            if self._literal is None:
                line = self._buffer.take_line(self._line_limit)
                if line is None:
                    return None
                self._literal = self._assembler.add_line(line)
                if self._literal is None:
                    return self._assembler.take()
                check_literal(self._literal, self._literal_limit)
            block = self._buffer.take_exact(self._literal)
            if block is None:
                return None
            self._assembler.add_literal(block)
            self._literal = None


def check_literal(size: int, limit: int) -> None:
    """ProtocolTrouble for a literal that nobody asked for in this size."""
    if size > limit:
        raise ProtocolTrouble(f"literal of {size} bytes where at most {limit} are expected")


_STATUS: Final = re.compile(rb"(OK|NO|BAD|BYE|PREAUTH)(?: (.*))?\Z", re.IGNORECASE | re.DOTALL)
_CODE: Final = re.compile(
    rb"""\[([^\x00-\x20\x7f\]\["(){%*\\]+)(?:\ ([^\]"]*(?:"(?:[^"\\]|\\.)*"[^\]"]*)*))?\](?:\ (.*))?\Z""",
    re.DOTALL | re.VERBOSE,
)
_TAG: Final = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\+]+\Z")


def parse_response(parts: Sequence[bytes]) -> Response:
    """Read one response from its line, or its lines with the literals between them."""
    first = parts[0]
    if b"\0" in first or b"\r" in first:
        raise ProtocolTrouble("NUL or lone CR in a response line")
    if first.startswith(b"* "):
        return _parse_untagged(first[2:], parts)
    if first.startswith(b"+"):
        if first[1:2] not in (b"", b" "):
            raise ProtocolTrouble(b"not a response: " + first[:80])
        return Continuation(first[2:])
    tag, _, rest = first.partition(b" ")
    status = parse_status(tag, rest) if _TAG.match(tag) and len(parts) == 1 else None
    if status is None or status.status not in (b"OK", b"NO", b"BAD"):
        raise ProtocolTrouble(b"not a response: " + first[:80])
    return status


def parse_status(tag: bytes, rest: bytes) -> Status | None:
    """`OK|NO|BAD|BYE|PREAUTH [CODE args] text` (RFC 3501 7.1); None if it is something else.

    A code that is not closed makes a tagged reply malformed; in an untagged one it is taken as text.
    """
    match = _STATUS.match(rest)
    if match is None:
        return None
    text = match[2] or b""
    if not text.startswith(b"["):
        return Status(tag, match[1].upper(), "", b"", text)
    code = _CODE.match(text)
    if code is None:
        if tag:
            raise ProtocolTrouble("a tagged reply with a broken response code")
        return Status(tag, match[1].upper(), "", b"", text)
    return Status(tag, match[1].upper(), code[1].decode("ascii", "replace").upper(), code[2] or b"", code[3] or b"")


def _parse_untagged(rest: bytes, parts: Sequence[bytes]) -> Response:
    status = parse_status(b"", rest) if len(parts) == 1 else None
    if status is not None:
        return status
    word, _, tail = rest.partition(b" ")
    number: int | None = None
    if word.isdigit():
        if len(word) > 20:
            raise ProtocolTrouble("a number of more than 20 digits")
        number = int(word)
        word, _, tail = tail.partition(b" ")
    if b"(" in word:  # `FETCH(FLAGS ...`: there are servers that forget the space
        word, _, more = word.partition(b"(")
        tail = b"(" + more + b" " + tail
    if not _TAG.match(word):
        raise ProtocolTrouble(b"not a response: * " + rest[:80])
    if word.upper() == b"SEARCH" and len(parts) == 1 and tail.replace(b" ", b"").isdigit():
        return Untagged(b"SEARCH", number, [*tail.split()])  # a million UIDs in a line, eighteen times faster
    if word == b"FETCH" and len(parts) == 1 and (summary := _SUMMARY.fullmatch(tail)) is not None:
        uid, flags, date, size = summary.groups()
        return Untagged(
            b"FETCH", number, [[b"UID", uid, b"FLAGS", [*flags.split()], b"INTERNALDATE", date, b"RFC822.SIZE", size]]
        )
    return Untagged(word.upper(), number, parse_values((tail, *parts[1:])))


# A summary as the big servers write it: six times faster than token by token.
_SUMMARY: Final = re.compile(
    rb"\(UID (\d{1,10}) FLAGS \(((?:[^\x00-\x20()\"{}\x7f]+(?: (?!\)))?)*)\)"
    rb' INTERNALDATE "([^"\\]{1,40})" RFC822\.SIZE (\d{1,19})\)'
)
_TOKEN: Final = re.compile(
    rb"""\ *(?:
        (?P<open>\()
      | (?P<close>\))
      | "(?P<quoted>[^"\\\r\n\0]*(?:\\[^\r\n\0][^"\\\r\n\0]*)*)"
      | (?P<atom>(?:BODY(?:\.PEEK)?|BINARY(?:\.SIZE)?)\[(?:[^\]"\r\n\0]|"[^"\r\n\0]*")*\](?:<\d+>)?
                |[^\x00-\x20()"\x7f]+)
    )""",
    re.VERBOSE | re.IGNORECASE,
)
_SECTION: Final = re.compile(rb"(?:BODY(?:\.PEEK)?|BINARY(?:\.SIZE)?)\[", re.IGNORECASE)
_ESCAPED: Final = re.compile(rb'\\(["\\])')


def parse_values(parts: Sequence[bytes]) -> list[Value]:
    """Atoms, strings, NIL and nested lists of a response's data; `parts` as in `parse_response`."""
    values: list[Value] = []
    stack: list[list[Value]] = []
    last = len(parts) - 1
    for index in range(0, len(parts), 2):
        line = parts[index]
        if index < last:
            marker = _MARKER.search(line, max(0, len(line) - _MARKER_SIZE))
            assert marker is not None  # the assembler saw it
            line = line[: marker.start()]
        at, end = 0, len(line.rstrip(b" "))
        while at < end:
            match = _TOKEN.match(line, at)
            if match is None:
                raise ProtocolTrouble(b"cannot read a response: " + line[at : at + 80])
            at = match.end()
            kind = match.lastgroup
            if kind == "atom":
                atom = match["atom"]
                if b"[" in atom and b"]" not in atom and _SECTION.match(atom):
                    raise ProtocolTrouble("the section of a FETCH item is never closed")
                values.append(None if atom in (b"NIL", b"nil", b"Nil") else atom)
            elif kind == "quoted":
                text = match["quoted"]
                values.append(_ESCAPED.sub(rb"\1", text) if b"\\" in text else text)
            elif kind == "open":
                stack.append(values)
                if len(stack) > _DEPTH_LIMIT:
                    raise ProtocolTrouble(f"lists nested more than {_DEPTH_LIMIT} deep")
                inner: list[Value] = []
                values.append(inner)
                values = inner
            elif stack:
                values = stack.pop()
            else:
                raise ProtocolTrouble("a list is closed that was never opened")
        if index < last:
            values.append(parts[index + 1])
    if stack:
        raise ProtocolTrouble("a list is never closed")
    return values
