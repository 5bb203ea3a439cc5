"""A message that is changed on its way: spooled, because APPEND needs its length before its first byte."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from typing import IO, Final

from migrator.transformer import Transformer

_IN_MEMORY: Final = 1 << 18  # most mail is smaller; what is larger is written to disk
_PIECE: Final = 1 << 16


class Rewritten:
    """One message, whole. `close` gives its room back."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self.size = size

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes, from the beginning."""
        self._file.seek(0)
        while piece := self._file.read(_PIECE):
            yield piece

    def close(self) -> None:
        """Forget the content."""
        self._file.close()


async def rewrite(chunks: AsyncIterator[bytes], transformer: Transformer) -> Rewritten:
    """Read a message to its end. Whatever `chunks` raises passes, and nothing is left behind."""
    file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - it lives as long as the Rewritten
    size = 0
    try:
        async for chunk in chunks:
            size += file.write(transformer.feed(chunk))
        size += file.write(transformer.finish())
    except BaseException:
        file.close()
        raise
    return Rewritten(file, size)
