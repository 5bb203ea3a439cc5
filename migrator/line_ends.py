"""Every line end as CRLF. Pure.

A bare LF and a bare CR become CRLF. `\\r\\r\\n`, which is what a program makes of CRLF when it takes it for LF, is one
line end and becomes one: as two it would put a blank line behind every line.
"""

from __future__ import annotations

import re
from typing import Final

_ODD: Final = re.compile(rb"\r\r\n|\r(?!\n)|(?<!\r)\n")


class LineEnds:
    """Mends the line ends of one message, fed in pieces of any size. What it gives never ends within a CRLF."""

    def __init__(self) -> None:
        self._held = b""  # CRs at the end: what follows says what they are

    def feed(self, data: bytes) -> bytes:
        """The next bytes of the message; gives what can be said of it so far."""
        data = self._held + data
        self._held = data[-2:] if data.endswith(b"\r\r") else b"\r" if data.endswith(b"\r") else b""
        return _ODD.sub(b"\r\n", data[: len(data) - len(self._held)] if self._held else data)

    def finish(self) -> bytes:
        """The rest, when the message has ended."""
        return b"\r\n" * len(self._held)
