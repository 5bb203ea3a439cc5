"""Work that equal requests share: one runs it, all wait for it, each until its own deadline.

One waiter giving up never cancels the work: a right password that is found out late is still of use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Flight(Generic[T]):
    """One piece of work under way. A waiter whose deadline comes before the end gets `early`, if that was set."""

    __slots__ = ("early", "task", "waiters")

    def __init__(self) -> None:
        self.early: T | None = None
        self.waiters: list[asyncio.Future[T | None]] = []
        self.task: asyncio.Task[None] | None = None


class Flights(Generic[T]):
    """The work under way, by key. `unheard` gets an exception that no waiter was left to hear."""

    def __init__(self, unheard: Callable[[Exception], None]) -> None:
        self._unheard = unheard
        self._flights: dict[Hashable, Flight[T]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def get(self, key: Hashable) -> Flight[T] | None:
        """The flight of `key`, if there is one."""
        return self._flights.get(key)

    async def join(
        self, key: Hashable, work: Callable[[Flight[T]], Coroutine[Any, Any, T]], deadline: float
    ) -> T | None:
        """What `work` returns, or what was set as `early` by the deadline, or None. Starts it unless it is under way.

        What `work` raises, every waiter gets.
        """
        loop = asyncio.get_running_loop()
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = Flight()
            flight.task = loop.create_task(self._run(key, flight, work))
        waiter: asyncio.Future[T | None] = loop.create_future()
        flight.waiters.append(waiter)
        timer = loop.call_at(deadline, _give_up, flight, waiter)
        try:
            return await waiter
        finally:
            timer.cancel()

    async def _run(self, key: Hashable, flight: Flight[T], work: Callable[[Flight[T]], Coroutine[Any, Any, T]]) -> None:
        try:
            result = await work(flight)
        except asyncio.CancelledError:
            for waiter in flight.waiters:
                if not waiter.done():
                    waiter.set_result(flight.early)
            raise
        except Exception as error:  # noqa: BLE001 - the waiters own the scope; each of them raises it
            waiting = [waiter for waiter in flight.waiters if not waiter.done()]
            for waiter in waiting:
                waiter.set_exception(error)
            if not waiting:
                self._unheard(error)
        else:
            for waiter in flight.waiters:
                if not waiter.done():
                    waiter.set_result(result)
        finally:
            del self._flights[key]

    async def finish(self, timeout: float) -> None:
        """Wait for everything under way, at most `timeout` seconds, and cancel the rest."""
        tasks = [flight.task for flight in self._flights.values() if flight.task is not None]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=timeout)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


def _give_up(flight: Flight[T], waiter: asyncio.Future[T | None]) -> None:
    if not waiter.done():
        waiter.set_result(flight.early)
