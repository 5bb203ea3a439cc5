"""A message on its way through DATA (RFC 5321, section 4.5.2): dots doubled, the end put behind. Pure."""

from __future__ import annotations


class MessageWriter:
    """Takes a message in chunks and gives what goes out; what comes out never depends on how it was split.

    A dot at the beginning of a line is doubled. Behind a bare CR or LF it is doubled too: servers that take either for
    a line end would otherwise see the end of the message there, and what follows as commands. A message that does not
    end with CRLF gets one, because the end can only stand on a line of its own. Nothing else is changed.
    """

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = b"\r\n"  # the two last bytes taken; a message begins a line

    def feed(self, data: bytes) -> bytes:
        """What goes out for the next chunk."""
        if not data:
            return b""
        first = b"." if data[:1] == b"." and self._last[-1:] in (b"\r", b"\n") else b""
        self._last = (self._last + data[-2:])[-2:]
        return first + data.replace(b"\n.", b"\n..").replace(b"\r.", b"\r..")

    def end(self) -> bytes:
        """The end of the message. Without it the server accepts nothing."""
        return b".\r\n" if self._last == b"\r\n" else b"\r\n.\r\n"
