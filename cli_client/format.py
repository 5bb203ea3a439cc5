"""The CommuniGate data format both ways: bytes to values and values to bytes. No socket, no clock.

    string       str         UTF-8; bytes that are not UTF-8 survive as surrogate escapes
    [base64]     DataBlock
    #123         int
    #T...        TimeStamp
    #I[...]      IPAddress
    #NULL#       NULL
    (a, b)       list
    {Key = v;}   dict

`parse_data(render_data(value)) == value` holds for every value whose strings came from bytes. A string is always
rendered as a string: quotes, backslashes and line ends in it become escapes, and `#1234` becomes `"#1234"`, so that
nothing a user typed can ever become syntax.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Final

DEPTH_LIMIT = 100  # settings nest three or four deep; deeper text is an attack on the stack
SIZE_LIMIT = 16 << 20  # bytes of one data object: a list of some hundred thousand accounts
_DIGITS_LIMIT = 20  # 64-bit numbers; longer ones would cost quadratic time


class FormatError(ValueError):
    """Text that is not in the data format. `position` is the offset of the byte that does not fit."""

    def __init__(self, problem: str, position: int) -> None:
        super().__init__(f"{problem} at byte {position}")
        self.problem = problem
        self.position = position


class _Null(Enum):
    NULL = "#NULL#"

    def __repr__(self) -> str:
        return "NULL"


NULL: Final = _Null.NULL


@dataclass(frozen=True, slots=True)
class DataBlock:
    """Binary data."""

    data: bytes


_TIME_STAMP: Final = re.compile(r"[0-9]{1,2}-[0-9]{1,2}-[0-9]{4}(?:_[0-9]{1,2}:[0-9]{2}:[0-9]{2})?|(?i:PAST|FUTURE)")
_ADDRESS: Final = re.compile(r"[0-9A-Fa-f:.]+(?:%[0-9A-Za-z._-]+)?")


@dataclass(frozen=True, slots=True)
class TimeStamp:
    """A moment in GMT as the server writes it: `22-10-2009_15:24:45`, a date alone, `PAST` or `FUTURE`."""

    text: str

    def __post_init__(self) -> None:
        if not _TIME_STAMP.fullmatch(self.text):
            raise ValueError(f"not a time stamp: {self.text!r}")

    @classmethod
    def at(cls, moment: datetime) -> TimeStamp:
        """The time stamp of an aware datetime, to the second."""
        return cls(moment.astimezone(UTC).strftime("%d-%m-%Y_%H:%M:%S"))

    @property
    def moment(self) -> datetime | None:
        """The moment in UTC; None for PAST and FUTURE. ValueError for a date that no calendar has."""
        if not self.text[0].isdigit():
            return None
        form = "%d-%m-%Y_%H:%M:%S" if "_" in self.text else "%d-%m-%Y"
        return datetime.strptime(self.text, form).replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class IPAddress:
    """A network address, with a port or without."""

    address: str
    port: int | None = None

    def __post_init__(self) -> None:
        if not _ADDRESS.fullmatch(self.address):
            raise ValueError(f"not a network address: {self.address!r}")
        if self.port is not None and not 0 <= self.port < 65536:
            raise ValueError(f"not a port: {self.port}")


Value = str | int | DataBlock | TimeStamp | IPAddress | _Null | list["Value"] | dict[str, "Value"]


# -- values to bytes ---------------------------------------------------------------------------------------------------

_BARE: Final = re.compile(
    r"[A-Za-z][A-Za-z0-9]*"
)  # a leading digit is quoted too, so that no reader takes it for a number
_NEEDS_ESCAPE: Final = re.compile(r'["\\\x00-\x1f\x7f\udc80-\udcff]')
_ESCAPES: Final = {
    **{chr(c): f"\\{c:03d}" for c in (*range(0x20), 0x7F)},
    **{chr(0xDC00 + c): f"\\{c:03d}" for c in range(0x80, 0x100)},  # a byte that is not UTF-8
    '"': '\\"',
    "\\": "\\\\",
    "\r": "\\r",
    "\n": "\\n",
    "\t": "\\t",
}


def quote(text: str) -> bytes:
    """`text` as a quoted string, whatever it holds: one line, and only its last byte is a bare `"`.

    ValueError for half a surrogate pair that stands for no byte.
    """
    return b'"' + _NEEDS_ESCAPE.sub(lambda match: _ESCAPES[match.group()], text).encode("utf-8") + b'"'


def render_data(value: Value | Mapping[str, Value]) -> bytes:
    """`value` on one line. ValueError or TypeError for what the format cannot hold (a bool is the string YES or NO)."""
    return _render(value, 0)


def _render(value: Value | Mapping[str, Value], depth: int) -> bytes:
    if isinstance(value, str):
        return value.encode("ascii") if _BARE.fullmatch(value) else quote(value)
    if depth >= DEPTH_LIMIT and isinstance(value, Mapping | list | tuple):
        raise ValueError(f"data nests more than {DEPTH_LIMIT} deep")
    if isinstance(value, Mapping):
        pairs = [_render(key, depth) + b"=" + _render(item, depth + 1) + b";" for key, item in _entries(value)]
        return b"{" + b"".join(pairs) + b"}"
    if isinstance(value, list | tuple):
        return b"(" + b",".join([_render(item, depth + 1) for item in value]) + b")"
    return _render_simple(value)


def _entries(value: Mapping[str, Value]) -> list[tuple[str, Value]]:
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"a dictionary key is a string, not {type(key).__name__}")
    return list(value.items())


def _render_simple(value: object) -> bytes:
    if isinstance(value, bool):
        raise TypeError("the data format has no booleans; use YES or NO")
    if isinstance(value, int):
        digits = str(value)
        if len(digits) > _DIGITS_LIMIT:
            raise ValueError("number too long")
        return b"#" + digits.encode("ascii")
    if isinstance(value, DataBlock):
        return b"[" + base64.b64encode(value.data) + b"]"
    if isinstance(value, TimeStamp):
        return b"#T" + value.text.encode("ascii")
    if isinstance(value, IPAddress):
        port = "" if value.port is None else f":{value.port}"
        return f"#I[{value.address}]{port}".encode("ascii")
    if value is NULL:
        return b"#NULL#"
    raise TypeError(f"the data format has no {type(value).__name__}")


def render_pretty(value: Value, indent: int = 0) -> str:
    """`value` over several lines for a person; still the data format. Non-UTF-8 bytes are shown as escapes."""
    inner, outer = "  " * (indent + 1), "  " * indent
    if isinstance(value, dict) and value:
        width = max(len(_render(key, 0)) for key in value)
        lines = [
            f"{inner}{_render(key, 0).decode():<{min(width, 32)}} = {render_pretty(item, indent + 1)};\n"
            for key, item in value.items()
        ]
        return "{\n" + "".join(lines) + outer + "}"
    if isinstance(value, list) and len(value) > 1:
        return "(\n" + ",\n".join(inner + render_pretty(item, indent + 1) for item in value) + "\n" + outer + ")"
    return render_data(value).decode("utf-8")


# -- bytes to values ---------------------------------------------------------------------------------------------------

# Only single characters are matched possessively: Python 3.11 before 3.11.5 gets possessive groups wrong.
_GAP_TEXT: Final = rb"(?:[ \t\r\n\f\v]++|//[^\r\n]*+|/\*[^*]*+(?:\*(?!/)[^*]*+)*\*/)*"
_WORD_TEXT: Final = (
    rb'(?:[^\x00-\x20\x7f"\\(){}\[\];,=<>#/]|/(?![/*]))(?:[^\x00-\x20\x7f"\\(){}\[\];,=<>/]++|/(?![/*]))*'
)
_GAP: Final = re.compile(_GAP_TEXT)
_WORD: Final = re.compile(_WORD_TEXT)
_QUOTED: Final = re.compile(rb'"([^"\\]*+(?:(?s:\\.)[^"\\]*+)*)"')
# `Key = value;` where neither holds an escape nor a comment nor nests: nearly every setting, taken in one step
_PAIR: Final = re.compile(
    rb'%(gap)s(?:(%(word)s)|"([^"\\]*+)")%(gap)s=%(gap)s(?:(%(word)s)|"([^"\\]*+)")%(gap)s;'
    % {b"gap": rb"[ \t\r\n]*+", b"word": _WORD_TEXT}
)
_ESCAPE: Final = re.compile(rb"\\([0-9]{3}|(?s:.))")
_HASHED: Final = re.compile(
    rb"#(?:(?P<null>[Nn][Uu][Ll][Ll]#)|T(?P<time>[0-9A-Za-z:_-]+)|I\[(?P<address>[^\]\s]*)\](?::(?P<port>[0-9]{1,5}))?"
    rb"|(?P<number>[+-]?[0-9]+))"
)
_BLOCK: Final = re.compile(rb"\[([A-Za-z0-9+/=\s]*+)\]")
_UNESCAPED: Final = {b'"': b'"', b"\\": b"\\", b"r": b"\r", b"n": b"\n", b"t": b"\t", b"e": b"\n"}


def parse_data(data: bytes, *, size_limit: int = SIZE_LIMIT, depth_limit: int = DEPTH_LIMIT) -> Value:
    """The one object that `data` holds, with nothing but white space and comments around it. FormatError otherwise."""
    value, end = parse_object(data, 0, size_limit=size_limit, depth_limit=depth_limit)
    end = _skip_gap(data, end)
    if end != len(data):
        raise FormatError("something stands behind the data", end)
    return value


def parse_object(
    data: bytes, start: int = 0, *, size_limit: int = SIZE_LIMIT, depth_limit: int = DEPTH_LIMIT
) -> tuple[Value, int]:
    """The first object at or behind `start`, and the offset behind it. FormatError if there is none."""
    if len(data) > size_limit:
        raise FormatError(f"data of more than {size_limit} bytes", size_limit)
    return _parse_value(data, start, min(depth_limit, DEPTH_LIMIT))


def _skip_gap(data: bytes, at: int) -> int:
    match = _GAP.match(data, at)
    assert match is not None  # the expression matches the empty string too
    return match.end()


def _parse_value(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    at = _skip_gap(data, at)
    first = data[at : at + 1]
    if first == b"{":
        return _parse_dictionary(data, at, depth)
    if first == b"(":
        return _parse_array(data, at, depth)
    if first == b"#":
        return _parse_hashed(data, at)
    if first == b"[":
        return _parse_block(data, at)
    return _parse_string(data, at)


def _parse_dictionary(data: bytes, at: int, depth: int) -> tuple[dict[str, Value], int]:
    if depth <= 0:
        raise FormatError("data nests too deep", at)
    at += 1
    result: dict[str, Value] = {}
    while True:
        while (pair := _PAIR.match(data, at)) is not None:
            word_key, quoted_key, word, quoted = pair.groups()
            key = (quoted_key if word_key is None else word_key).decode("utf-8", "surrogateescape")
            result[key] = (quoted if word is None else word).decode("utf-8", "surrogateescape")
            at = pair.end()
        at = _skip_gap(data, at)
        if data[at : at + 1] == b"}":
            return result, at + 1
        key, at = _parse_string(data, at)
        at = _skip_gap(data, at)
        if data[at : at + 1] != b"=":
            raise FormatError("no = behind a key", at)
        result[key], at = _parse_value(data, at + 1, depth - 1)
        at = _skip_gap(data, at)
        if data[at : at + 1] == b";":
            at += 1
        elif data[at : at + 1] != b"}":
            raise FormatError("no ; behind a value", at)


def _parse_array(data: bytes, at: int, depth: int) -> tuple[list[Value], int]:
    if depth <= 0:
        raise FormatError("data nests too deep", at)
    at = _skip_gap(data, at + 1)
    result: list[Value] = []
    if data[at : at + 1] == b")":
        return result, at + 1
    while True:
        item, at = _parse_value(data, at, depth - 1)
        result.append(item)
        at = _skip_gap(data, at)
        mark = data[at : at + 1]
        at += 1
        if mark == b")":
            return result, at
        if mark != b",":
            raise FormatError("no , or ) behind an array element", at - 1)


def _parse_string(data: bytes, at: int) -> tuple[str, int]:
    word = _WORD.match(data, at)
    if word is not None:
        return word.group().decode("utf-8", "surrogateescape"), word.end()
    if data[at : at + 1] == b'"':
        return parse_quoted(data, at)
    raise FormatError("the data ends too early" if at >= len(data) else f"unexpected {data[at : at + 1]!r}", at)


def parse_quoted(data: bytes, at: int = 0) -> tuple[str, int]:
    """The quoted string that opens at `at`, and the offset behind its closing quote. FormatError if it does not end."""
    match = _QUOTED.match(data, at)
    if match is None:
        raise FormatError("a quoted string that does not end", at)
    text: bytes = match.group(1)
    if b"\\" in text:
        start = at + 1
        text = _ESCAPE.sub(lambda found: _unescape(found, start), text)
    return text.decode("utf-8", "surrogateescape"), match.end()


def _unescape(found: re.Match[bytes], start: int) -> bytes:
    mark = found.group(1)
    if len(mark) == 3:
        code = int(mark)
        if code > 255:
            raise FormatError("an escape above \\255", start + found.start())
        return bytes((code,))
    known = _UNESCAPED.get(mark)
    if known is None:
        raise FormatError("an unknown escape", start + found.start())
    return known


def _parse_hashed(data: bytes, at: int) -> tuple[Value, int]:
    match = _HASHED.match(data, at)
    if match is None or _WORD.match(data, match.end()) or data[match.end() : match.end() + 1] == b"#":
        raise FormatError("# begins no number, time stamp, address or #NULL#", at)
    try:
        if match["number"] is not None:
            if len(match["number"]) > _DIGITS_LIMIT:
                raise FormatError("number too long", at)
            return int(match["number"]), match.end()
        if match["time"] is not None:
            return TimeStamp(match["time"].decode("ascii")), match.end()
        if match["address"] is not None:
            port = match["port"]
            return IPAddress(match["address"].decode("ascii"), None if port is None else int(port)), match.end()
    except FormatError:
        raise
    except ValueError:
        raise FormatError("a time stamp or address that cannot be read", at) from None
    return NULL, match.end()


def _parse_block(data: bytes, at: int) -> tuple[DataBlock, int]:
    match = _BLOCK.match(data, at)
    if match is None:
        raise FormatError("a data block that is not base64 or does not end", at)
    try:
        return DataBlock(base64.b64decode(b"".join(match.group(1).split()), validate=True)), match.end()
    except binascii.Error:
        raise FormatError("a data block that is not base64", at) from None


# -- where an object ends ----------------------------------------------------------------------------------------------

_STEP: Final = re.compile(rb'[ \t\r\n\f\v]++|//|/\*|[({\[]|[)}\]]|"|[^\s(){}\[\]"/]++|/')
_STRING_END: Final = re.compile(rb'[^"\\]*+(?:(?s:\\.)[^"\\]*+)*"')


class ObjectScanner:
    """Finds the line with which a data object that spans lines ends: by its structure, never by how a line looks.

    Brackets within strings and comments do not count. A string may go on over a line end.
    """

    __slots__ = ("_comment", "_depth", "_seen", "_string")

    def __init__(self) -> None:
        self._depth = 0
        self._seen = False
        self._string = False
        self._comment = False

    def feed(self, line: bytes) -> bool:
        """Take the next whole line; True when the object is complete with it."""
        at = 0
        while at < len(line):
            at = self._step(line, at)
        return self._seen and not self._depth and not self._string and not self._comment

    def _step(self, line: bytes, at: int) -> int:
        if self._string:
            end = _STRING_END.match(line, at)
            self._string = end is None
            return len(line) if end is None else end.end()
        if self._comment:
            close = line.find(b"*/", at)
            self._comment = close < 0
            return len(line) if close < 0 else close + 2
        found = _STEP.match(line, at)
        assert found is not None  # its alternatives cover every byte
        mark = found.group()
        if mark == b"//":
            return len(line)
        if mark == b"/*":
            self._comment = True
        elif not mark.isspace():
            self._seen = True
            if mark in b"({[":
                self._depth += 1
            elif mark in b")}]":
                self._depth = max(0, self._depth - 1)  # one too many: complete, and the parser says what is wrong
            elif mark == b'"':
                self._string = True
        return found.end()
