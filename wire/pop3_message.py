"""The body of a POP3 multi-line reply: where it ends, and its bytes without the dots put in for the way. Pure.

RFC 1939, section 3: lines end with CRLF, a line that begins with a dot has it doubled, and a line that is one dot ends
the reply. A bare CR or LF is an ordinary byte. What comes out never depends on how the bytes were split.
"""

from __future__ import annotations

_MARK = b"\r\n."


class MessageReader:
    """Takes the bytes behind the `+OK` line and gives the message, byte for byte; keeps at most four bytes back."""

    __slots__ = ("_held", "_virtual", "ended", "rest")

    def __init__(self) -> None:
        self._held = b"\r\n"  # the message begins a line: as if a line end came before it, which is not given out
        self._virtual = True
        self.ended = False
        self.rest = b""  # after the end: what came behind it

    def feed(self, data: bytes) -> bytes:
        """The next part of the message, perhaps empty. After `ended`, `rest` holds what belongs to the next reply."""
        data = self._held + data
        parts: list[bytes] = []
        start = 0  # what is not given out yet begins here
        search = 0
        while (at := data.find(_MARK, search)) >= 0:
            behind = data[at + 3 : at + 5]
            if behind == b"\r\n":
                parts.append(data[start : at + 2])
                self.ended = True
                self.rest = data[at + 5 :]
                self._held = b""
                return self._given(parts)
            if behind in (b"", b"\r"):  # the end, or a line that goes on: the next bytes tell
                parts.append(data[start:at])
                self._held = data[at:]
                return self._given(parts)
            parts.append(data[start : at + 2])
            start = search = at + 3
        hold = 2 if data.endswith(b"\r\n") else 1 if data.endswith(b"\r") else 0
        hold = min(hold, len(data) - start)
        end = len(data) - hold
        parts.append(data[start:end])
        self._held = data[end:]
        return self._given(parts)

    def _given(self, parts: list[bytes]) -> bytes:
        out = parts[0] if len(parts) == 1 else b"".join(parts)
        if self._virtual and out:
            self._virtual = False
            return out[2:]
        return out
