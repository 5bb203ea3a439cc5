"""Both directions of a connection as raw deflate (RFC 4978 uses RFC 1951 without a header). Pure."""

from __future__ import annotations

import zlib
from typing import Final

from wire.outcome import ProtocolTrouble

_RAW: Final = -15  # no zlib header; the largest window, because the peer's is not known
_LEVEL: Final = 1  # level 6 takes twice as long to save a twelfth more of text, and nothing more of base64


class Deflater:
    """What is sent."""

    def __init__(self) -> None:
        self._stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW)

    def pack(self, data: bytes) -> bytes:
        """`data`, so that the peer can unpack all of it without waiting for more."""
        return self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH)


class Inflater:
    """What is received: unpacked in portions, however much a few bytes may swell to."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_RAW)
        self._packed = b""
        self.pending = False  # more may come out without anything going in

    def feed(self, data: bytes) -> None:
        """Bytes as they came."""
        self._packed += data
        self.pending = True

    def take(self, most: int) -> bytes:
        """What comes next, at most `most` bytes. ProtocolTrouble for what is not deflated."""
        try:
            block = self._stream.decompress(self._packed, most)
        except zlib.error as error:
            raise ProtocolTrouble(f"the compressed data is damaged: {error}") from None
        if self._stream.unused_data:
            raise ProtocolTrouble("bytes behind the end of the compressed data")
        self._packed = self._stream.unconsumed_tail
        self.pending = bool(self._packed) or len(block) == most
        return block
