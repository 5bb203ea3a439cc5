"""The connections of this process to one old server: a bounded number, given out in the order they were asked for.

The bound is the smaller of what the configuration and the server allow (`Bound`) and what the other processes of this
machine leave (`ServerSlots`). Slots are kept for a second after their last use, so that a busy helper makes no system
call for a login; they are given back sooner when another process has none.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final

from cli_client.slots import Slot
from extauth.bound import Bound
from migrator.server_slots import ServerSlots
from wire.endpoint import Endpoint
from wire.outcome import OutOfFiles, Temporary, Trouble

_TRIM: Final = 1.0  # seconds that an unused slot is kept
_WITHOUT: Final = 30.0  # seconds until slots that could not be used are tried again
_LOOK: Final = 0.05  # seconds between looks for slots that others hold, or at whether others want one


class Connections:
    """`take` gives a place for one connection. `report` hears of trouble with the slots: then there are none."""

    def __init__(
        self,
        endpoint: Endpoint,
        bound: Bound,
        slots: ServerSlots | None,
        report: Callable[[Trouble], None],
        clock: Callable[[], float],
    ) -> None:
        self._endpoint = endpoint
        self.bound = bound
        self._slots = slots
        self._report = report
        self._clock = clock
        self.in_use = 0
        self._leases: list[Slot] = []
        self._most_used = 0  # since the last trim
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._look: asyncio.TimerHandle | None = None
        self._trim: asyncio.TimerHandle | None = None
        self._listen_after = 0.0
        self._without_until = 0.0

    async def take(self, deadline: float, *, first: bool = False) -> Place:
        """A place, to be used in a `with`; with `first`, before all who wait. Temporary where none is free in time."""
        if (self._waiters and not first) or not self._begin():
            await self._wait(deadline, first)
        return Place(self)

    def turn_away(self, trouble: Callable[[], Temporary]) -> int:
        """Everybody who waits gets `trouble` at once. How many that were."""
        waiting = [waiter for waiter in self._waiters if not waiter.done()]
        self._waiters.clear()
        for waiter in waiting:
            waiter.set_exception(trouble())
        return len(waiting)

    def close(self) -> None:
        """Give every slot back; those in use too, as the process ends or a new configuration takes over."""
        for timer in (self._look, self._trim):
            if timer is not None:
                timer.cancel()
        for lease in self._leases:
            lease.release()
        self._leases.clear()
        if self._slots is not None:
            self._slots.close()
        self._slots = None

    def serve(self) -> None:
        """Give free places to those who wait."""
        while self._waiters:
            if self._waiters[0].done():  # gave up
                self._waiters.popleft()
            elif self._begin():
                self._waiters.popleft().set_result(None)
            else:
                self._look_again()
                return

    def give_back(self) -> None:
        """A connection is closed."""
        self.in_use -= 1
        if self._slots is not None and len(self._leases) > 1:
            self._listen()
        if self._waiters:
            self.serve()

    # -- within --------------------------------------------------------------------------------------------------------

    def _begin(self) -> bool:
        bound = self.bound
        if self.in_use >= bound.limit:
            return False
        if bound.closed_until and self._clock() < bound.closed_until:
            return False
        if self._slots is not None and self.in_use >= len(self._leases) and not self._lease():
            return False
        self.in_use += 1
        self._most_used = max(self._most_used, self.in_use)
        return True

    async def _wait(self, deadline: float, first: bool) -> None:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        if first:
            self._waiters.appendleft(waiter)
        else:
            self._waiters.append(waiter)
        self._look_again()
        try:
            async with asyncio.timeout_at(deadline):
                await waiter
        except TimeoutError:
            self._returned(waiter)
            raise Temporary(f"{self._endpoint}: all connections to it are busy") from None
        except asyncio.CancelledError:
            self._returned(waiter)
            raise

    def _returned(self, waiter: asyncio.Future[None]) -> None:
        """Who waited has given up; a place that came in the same moment goes to the next."""
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            self.give_back()

    def _look_again(self) -> None:
        """Serve again in a moment, where no place of ours that comes free would do it."""
        bound = self.bound
        paused = bound.closed_until > (now := self._clock())
        if self._look is None and (paused or self.in_use < bound.limit):
            after = bound.closed_until - now if paused else _LOOK
            self._look = asyncio.get_running_loop().call_later(after + 0.001, self._looked)

    def _looked(self) -> None:
        self._look = None
        self.serve()

    def _lease(self) -> bool:
        assert self._slots is not None
        if self._without_until and self._clock() < self._without_until:
            return True
        try:
            lease = self._slots.try_login()
            if lease is None and not self._leases:
                self._slots.raise_hand()
            elif lease is not None:
                self._slots.lower_hand()
        except OutOfFiles:  # the connection will find that out too, in the next moment
            return True
        except Trouble as trouble:  # the state directory is away: users still get in, bounded by this process alone
            self._without_until = self._clock() + _WITHOUT
            self._report(trouble)
            return True
        if lease is None:
            return False
        self._leases.append(lease)
        if self._trim is None:
            self._trim = asyncio.get_running_loop().call_later(_TRIM, self._trim_leases)
        return True

    def _trim_leases(self) -> None:
        self._trim = None
        self._release_down_to(max(self._most_used, self.in_use))
        self._most_used = self.in_use
        if self._leases:
            self._trim = asyncio.get_running_loop().call_later(_TRIM, self._trim_leases)

    def _listen(self) -> None:
        """Give one slot up where another process has none."""
        now = self._clock()
        if now < self._listen_after:
            return
        self._listen_after = now + _LOOK
        assert self._slots is not None
        try:
            wanted = self._slots.wanted
        except Trouble:
            return
        if wanted and len(self._leases) > self.in_use:
            self._release_down_to(len(self._leases) - 1)
            self._listen_after = now + 10 * _LOOK  # time for the other one to take it

    def _release_down_to(self, count: int) -> None:
        while len(self._leases) > count:
            self._leases.pop().release()  # the one taken last has the highest number, which copies may have


class Place:
    """One connection's place; leaving the `with` gives it back."""

    __slots__ = ("_connections",)

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connections.give_back()
