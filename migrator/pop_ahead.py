"""Fetching by POP while what was fetched is being sent: a bounded number of spooled messages in wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import TracebackType
from typing import Final, Self

from migrator.pop_source import Spooled, Withheld

AHEAD_MESSAGES: Final = 64  # two groups of any target, and then some: the slower side never waits for the other
AHEAD_OCTETS: Final = 8 << 20  # of them; one message more may be there, and a large one is on disk


class ReadAhead:
    """`async with ReadAhead(pop.messages(numbers)) as ahead: await ahead.next()`. For one taker.

    What failed at the source is raised once everything that came before it was taken.
    """

    def __init__(
        self,
        messages: AsyncGenerator[Spooled | Withheld, None],
        *,
        count: int = AHEAD_MESSAGES,
        octets: int = AHEAD_OCTETS,
    ) -> None:
        self._messages = messages
        self._count = count
        self._octets_limit = octets
        self._waiting: deque[Spooled | Withheld] = deque()
        self._octets = 0
        self._changed = asyncio.Event()  # something came, or the end
        self._room = asyncio.Event()
        self._ended = False
        self._trouble: Exception | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._fetch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        while self._waiting:
            message = self._waiting.popleft()
            if isinstance(message, Spooled):
                message.close()

    @property
    def ready(self) -> bool:
        """Whether `next` returns at once."""
        return bool(self._waiting) or self._ended

    async def next(self) -> Spooled | Withheld | None:
        """The next message, None after the last. Whoever takes a Spooled closes it."""
        while not self._waiting:
            if self._ended:
                trouble, self._trouble = self._trouble, None
                if trouble is not None:
                    raise trouble
                return None
            self._changed.clear()
            await self._changed.wait()
        message = self._waiting.popleft()
        self._octets -= _size(message)
        self._room.set()
        return message

    async def _fetch(self) -> None:
        try:
            async with aclosing(self._messages) as messages:
                async for message in messages:
                    self._waiting.append(message)
                    self._octets += _size(message)
                    self._changed.set()
                    while len(self._waiting) >= self._count or self._octets >= self._octets_limit:
                        self._room.clear()
                        await self._room.wait()
        except Exception as trouble:  # noqa: BLE001 - whatever it is, the taker raises it
            self._trouble = trouble
        finally:
            self._ended = True
            self._changed.set()


def _size(message: Spooled | Withheld) -> int:
    return message.size if isinstance(message, Spooled) else 0
