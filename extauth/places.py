"""How many connections an old server gets from this process at once."""

from __future__ import annotations

import asyncio
from types import TracebackType

from wire.endpoint import Endpoint
from wire.outcome import Temporary


class Places:
    """A bounded number of places at one server, given out in the order they were asked for."""

    def __init__(self, source: Endpoint | str, count: int) -> None:
        self._source = source
        self._semaphore = asyncio.Semaphore(count)

    async def take(self, deadline: float) -> Place:
        """A place, to be used in a `with`. Temporary where none came free by `deadline`."""
        if self._semaphore.locked():
            try:
                async with asyncio.timeout_at(deadline):
                    await self._semaphore.acquire()
            except TimeoutError:
                raise Temporary(f"{self._source}: all connections to it are busy") from None
        else:
            await self._semaphore.acquire()  # free: does not wait
        return Place(self._semaphore)


class Place:
    """One connection's place; leaving the `with` gives it back."""

    __slots__ = ("_semaphore",)

    def __init__(self, semaphore: asyncio.Semaphore) -> None:
        self._semaphore = semaphore

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._semaphore.release()
