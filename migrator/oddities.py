"""What a strict target may dislike in a message: NUL, bare line ends, long lines, a header that is none. Pure.

`oddities` looks at a message in memory and takes microseconds; `Scanner` is for one that streams, and says the same.
"""

from __future__ import annotations

import re
from typing import Final

from migrator.line_ends import LineEnds

EMPTY: Final = "empty"
NUL: Final = "NUL"
BARE_LF: Final = "bare LF"
BARE_CR: Final = "bare CR"
LONG_LINE: Final = "long line"
HEADER: Final = "header"  # none, lines in it that are no field, an mbox "From " line, no blank line behind it
EIGHT_BIT: Final = "8-bit header"

LONGEST: Final = 998  # bytes of a line without its line end (RFC 5322 2.1.1)
LONGEST_NAME: Final = (
    256  # bytes of a field's name; RFC 5322 gives the line's limit, no known field comes near this one
)

FIELD: Final = re.compile(rb"[!-9;-~]{1,%d}+:" % LONGEST_NAME)
CONTINUED: Final = (b" ", b"\t")

_PIECE: Final = 1 << 14  # most headers lie within one
_NO_FIELD: Final = re.compile(rb"\n(?![ \t]|[!-9;-~]{1,%d}+:)" % LONGEST_NAME)


def oddities(content: bytes) -> frozenset[str]:
    """The oddities of a whole message; empty for nearly all mail.

    It looks at every message of a copy: counting single bytes, or one expression for the header, takes twice as long.
    """
    if not content:
        return _NOTHING_AT_ALL
    found = []
    if b"\0" in content:
        found.append(NUL)
    rest = content.replace(b"\r\n", b"")
    if b"\n" in rest:
        found.append(BARE_LF)
    if b"\r" in rest:
        found.append(BARE_CR)
    if _has_long_line(content):
        found.append(LONG_LINE)
    found += _look_at_header(content, plain=BARE_LF not in found and BARE_CR not in found)
    return frozenset(found) if found else _NONE


def _look_at_header(content: bytes, *, plain: bool) -> list[str]:
    """The oddities of the header. A `plain` message has CRLF line ends and no other."""
    end = content.find(b"\r\n\r\n")
    if plain and end > 0:
        header = content[:end]
        if FIELD.match(header) and not _NO_FIELD.search(header):
            return [] if header.isascii() else [EIGHT_BIT]
    scan = _HeaderScan()
    for at in range(0, len(content), _PIECE):
        if scan.over:
            break
        scan.feed(content[at : at + _PIECE])
    return scan.finish()


_NONE: Final[frozenset[str]] = frozenset()
_NOTHING_AT_ALL: Final = frozenset({EMPTY})


def _has_long_line(content: bytes, at: int = 0) -> bool:
    """Whether a line is too long, from one that begins at `at`: in leaps from the last line end within reach."""
    last = len(content) - LONGEST
    while at < last:
        end = content.rfind(b"\n", at, at + LONGEST + 1)
        if end < 0:
            if content[at + LONGEST : at + LONGEST + 2] != b"\r\n":
                return True
            end = at + LONGEST + 1
        at = end + 1
    return False


class Scanner:
    """`oddities` of a message that comes in pieces of any size, in bounded memory."""

    def __init__(self) -> None:
        self._size = 0
        self._nul = self._long = False
        self._cr = self._lf = self._line_ends = 0
        self._run = 0  # bytes since the last LF
        self._after_cr = False
        self._header = _HeaderScan()

    def feed(self, data: bytes) -> None:
        """The next bytes of the message."""
        if not data:
            return
        self._size += len(data)
        self._nul = self._nul or b"\0" in data
        self._cr += data.count(b"\r")
        self._lf += data.count(b"\n")
        self._line_ends += data.count(b"\r\n") + (self._after_cr and data.startswith(b"\n"))
        if not self._long:
            self._measure(data)
        self._after_cr = data.endswith(b"\r")
        self._header.feed(data)

    def _measure(self, data: bytes) -> None:
        end = data.find(b"\n")
        if end < 0:
            self._run += len(data)
            self._long = self._run > LONGEST + 1  # one byte more may be a CR that belongs to the line's end
            return
        with_cr = data[end - 1 : end] == b"\r" if end else self._after_cr
        self._long = self._run + end - with_cr > LONGEST
        last = data.rfind(b"\n")
        self._long = self._long or _has_long_line(data[: last + 1], end + 1)
        self._run = len(data) - last - 1
        self._long = self._long or self._run > LONGEST + 1

    def finish(self) -> frozenset[str]:
        """The verdict, at the end of the message."""
        if not self._size:
            return _NOTHING_AT_ALL
        says = {
            NUL: self._nul,
            BARE_LF: self._lf != self._line_ends,
            BARE_CR: self._cr != self._line_ends,
            LONG_LINE: self._long or self._run > LONGEST,
        }
        return frozenset([*(oddity for oddity, there in says.items() if there), *self._header.finish()])


class _HeaderScan:
    """The oddities of a header whose lines may end in any way: a lone CR or LF counts as the line end it will be."""

    def __init__(self) -> None:
        self._ends = LineEnds()
        self._line = bytearray()  # the beginning of the line that has not ended
        self._fields = 0
        self.over = False
        self._odd = False
        self._eight_bit = False

    def feed(self, data: bytes) -> None:
        if not self.over:
            self._look(self._ends.feed(data))

    def finish(self) -> list[str]:
        if not self.over:
            self._look(self._ends.finish())
        if not self.over:  # no blank line came
            self._odd = True
        return [*([HEADER] if self._odd else []), *([EIGHT_BIT] if self._eight_bit else [])]

    def _look(self, data: bytes) -> None:
        """`data` has no line end but CRLF, and none that is cut in two."""
        at = 0
        while (end := data.find(b"\r\n", at)) >= 0:
            self._line += data[at : min(end, at + LONGEST_NAME + 1)]
            self._eight_bit = self._eight_bit or not data[at:end].isascii()
            if not self._line:
                self.over = True
                self._odd = self._odd or not self._fields
                return
            self._take_line()
            self._line.clear()
            at = end + 2
        self._eight_bit = self._eight_bit or not data[at:].isascii()
        self._line += data[at : at + LONGEST_NAME + 1]
        del self._line[LONGEST_NAME + 1 :]

    def _take_line(self) -> None:
        if self._line.startswith(CONTINUED) and self._fields:
            return
        if FIELD.match(self._line):
            self._fields += 1
        else:
            self._odd = True
