"""The receive buffer of every dialogue: bytes in, whole lines and counted blocks out. No socket, no clock."""

from __future__ import annotations

from wire.outcome import ProtocolTrouble

LINE_LIMIT = 65536  # RFC 9051 sets none for a response line; servers' own limits lie between 8 and 64 KiB


class ReceiveBuffer:
    """Collects bytes and gives lines and blocks; what it gives never depends on how the bytes were split."""

    __slots__ = ("_data", "_searched")

    def __init__(self) -> None:
        self._data = bytearray()
        self._searched = 0  # where the next look for LF starts, so that a long line costs linear time

    def __len__(self) -> int:
        return len(self._data)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes as they came."""
        self._data += data

    def take_line(self, limit: int = LINE_LIMIT) -> bytes | None:
        """The next line without its LF or CRLF, or None if it is not complete.

        ProtocolTrouble once more than `limit` bytes came without a line end.
        """
        at = self._data.find(b"\n", self._searched)
        if at < 0:
            self._searched = len(self._data)
            if self._searched > limit:
                raise ProtocolTrouble(f"line of more than {limit} bytes")
            return None
        if at > limit:
            raise ProtocolTrouble(f"line of more than {limit} bytes")
        end = at - 1 if at and self._data[at - 1] == 0x0D else at
        line = bytes(self._data[:end])
        del self._data[: at + 1]
        self._searched = 0
        return line

    def take_exact(self, count: int) -> bytes | None:
        """Exactly `count` bytes, or None if they are not all here."""
        if len(self._data) < count:
            return None
        with memoryview(self._data) as view:  # a slice of the bytearray would be a copy of its own
            block = bytes(view[:count])
        del self._data[:count]
        self._searched = 0
        return block

    def take_some(self, most: int) -> bytes:
        """What is here, at most `most` bytes; b"" if nothing is."""
        block = bytes(self._data[:most])
        del self._data[:most]
        self._searched = 0
        return block

    def unread(self, data: bytes) -> None:
        """Put back what was taken last: the next take gives it first."""
        self._data[:0] = data
        self._searched = 0

    def clear(self) -> int:
        """Drop everything (before TLS starts: bytes that came in the clear are an attack); how many were dropped."""
        dropped = len(self._data)
        self._data.clear()
        self._searched = 0
        return dropped
