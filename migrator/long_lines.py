"""Lines that are too long for the target, broken into several (--fixLongLines of the migration guide). Pure.

In the body a line is cut after so many bytes. In the header it is folded, at white space where there is some, so that
it stays one field (RFC 5322 2.2.3). A message without a long line stays as it is, byte for byte.
"""

from __future__ import annotations

import re
from typing import Final

SHORTEST: Final = 2  # a folded line needs a space and one byte more

_FIELD: Final = re.compile(rb"[!-9;-~]+[ \t]*:")
_CONTINUED: Final = (b" ", b"\t")
_NAME: Final = 1000  # bytes in which a field's name has ended, or it is none
_UTF8_MORE: Final = 3  # bytes at most behind the first of a UTF-8 character


class LineBreaker:
    """Breaks the lines of one message, fed in pieces of any size. No line gets longer than `limit`, its CRLF apart."""

    def __init__(self, limit: int) -> None:
        if limit < SHORTEST:
            raise ValueError(f"lines of {limit} bytes cannot be made")
        self._limit = limit
        self._line = bytearray()  # of the line that has not ended, or not been cut, yet
        self._fresh = True  # nothing of this line has been given out
        self._in_header = True
        self.broken = 0  # lines that were too long

    def feed(self, data: bytes) -> bytes:
        """The next bytes of the message; gives what can be said of it so far."""
        out = bytearray()
        at = 0
        while (end := data.find(b"\n", at)) >= 0:
            self._line += data[at:end]
            ending = b"\r\n" if self._line.endswith(b"\r") else b"\n"
            if ending == b"\r\n":
                del self._line[-1]
            self._cut(out, self._limit)
            out += self._line + ending
            self._line.clear()
            self._fresh = True
            at = end + 1
        self._line += data[at:]
        if len(self._line) >= _NAME or not (self._in_header and self._fresh):
            self._cut(out, self._limit + 1)  # one byte more may stay: a CR that belongs to the line's end
        return bytes(out)

    def finish(self) -> bytes:
        """The rest, when the message has ended without a line end."""
        out = bytearray()
        self._cut(out, self._limit)
        out += self._line
        self._line.clear()
        return bytes(out)

    def _cut(self, out: bytearray, longest: int) -> None:
        """Give out pieces of the line until no more than `longest` bytes of it are left."""
        if self._in_header and self._fresh:
            begins = self._line.startswith(_CONTINUED) or _FIELD.match(self._line, 0, _NAME)
            self._in_header = bool(begins)
        start = 0
        while len(self._line) - start > longest:
            if self._fresh:
                self.broken += 1
                self._fresh = False
            end = self._fold(start) if self._in_header else self._split(start)
            out += self._line[start:end] + b"\r\n"
            start = end
            if self._in_header and not self._line.startswith(_CONTINUED, start):
                start -= 1
                self._line[start] = 0x20  # the byte there has been given out
        del self._line[:start]

    def _fold(self, start: int) -> int:
        """Where a header line is cut: before the last white space that something stands in front of."""
        content = start + 1 if self._line.startswith(_CONTINUED, start) else start
        spaces = max(self._line.rfind(space, content + 1, start + self._limit + 1) for space in _CONTINUED)
        if spaces > content and self._line[content:spaces].strip(b" \t"):
            return spaces
        return self._split(start)

    def _split(self, start: int) -> int:
        """Where a line is cut: as far as it may reach, but not within a UTF-8 character."""
        end = start + self._limit
        for back in range(min(_UTF8_MORE + 1, self._limit - 1)):
            if self._line[end - back] & 0xC0 != 0x80:
                return end - back
        return end
