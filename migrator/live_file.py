"""A file that may change while it is used: read in a thread at the first question, and again when it has changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

from migrator.file_stamp import Stamp, stamp_of

T = TypeVar("T")

_PAUSE: Final = 1.0  # seconds between two looks at the file: an edit counts at once for a person
_LARGEST: Final = 256 << 20  # bytes: two million addresses are 60 MB


class LiveFile(Generic[T]):
    """What `parse` makes of the content of `path`; `broken` makes it of a sentence where the file cannot be read.

    Neither may raise. `value` is the one read last, None before the first look.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[bytes], T],
        broken: Callable[[str], T],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self.path = path
        self.value: T | None = None
        self.clock = clock
        self._now = now
        self._parse = parse
        self._broken = broken
        self._stamp: Stamp | None = None
        self._next_look = float("-inf")
        self._reading = asyncio.Lock()

    async def look(self) -> T:
        """The content as it is now, at most a second old."""
        if self.clock() >= self._next_look or self.value is None:
            async with self._reading:
                if self.clock() >= self._next_look or self.value is None:
                    await self._refresh()
        assert self.value is not None  # _refresh has set it
        return self.value

    def read(self) -> T:
        """The content as it is now, from a thread or a program that does nothing else."""
        try:
            with self.path.open("rb") as file:
                content = file.read(_LARGEST + 1)
        except OSError as error:
            return self._broken(f"cannot be read: {error.strerror}")
        if len(content) > _LARGEST:
            return self._broken(f"is larger than {_LARGEST >> 20} MiB")
        return self._parse(content)

    async def _refresh(self) -> None:
        stamp = stamp_of(self.path)
        if self.value is None or stamp is None or stamp != self._stamp:
            # a file that was changed while it was read keeps its older stamp and is read again at the next look
            self.value = await asyncio.to_thread(self.read)
            self._stamp = stamp if stamp is not None and stamp.settled(self._now()) else None
        self._next_look = self.clock() + _PAUSE
