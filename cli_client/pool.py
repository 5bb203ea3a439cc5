"""A bounded set of CLI sessions that many commands share.

At most `size` sessions at once in this pool, and with a slot directory at most one for each of its slots in all
processes that use the directory; a pool may keep to some of the slots (`slot_numbers`). Waiters are served in the order
they came, each until its own deadline. A session that was cancelled in, timed out or lost its place is closed, and its
place goes to the next waiter.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from cli_client.connection import COMMAND_TIMEOUT, CliConnection
from cli_client.errors import CliTemporary, SessionsExhausted
from cli_client.protocol import Command, Reply, checked_line
from cli_client.slots import Slot, SlotDirectory
from wire.endpoint import Endpoint, TlsPolicy
from wire.outcome import ProtocolTrouble, Temporary
from wire.secret import Secret

_REGAIN: Final = 10.0  # seconds until a place without a session is tried again: one refused connection costs little
_FIRST_PAUSE: Final = 0.02  # seconds before a refused session or a taken slot is tried again; doubles
_LONGEST_PAUSE: Final = 0.3
_LOOK: Final = 0.5  # seconds between looks at idle sessions: how long another process may wait for a slot we do not use
_REACH: Final = 5.0  # seconds for a first session: other processes give up what they do not use within one
_YIELD: Final = 0.5  # seconds between two sessions given up for other processes: time for them to take the first
_TICK: Final = 0.002  # seconds that a loop's timer may come early: uvloop counts whole milliseconds
_LISTEN: Final = 0.05  # seconds between looks at whether somebody waits: two system calls, too dear for each command


class _Session:
    """A pooled connection, its slot, and when it was last used."""

    __slots__ = ("connection", "last_used", "slot")

    def __init__(self, connection: CliConnection, slot: Slot | None) -> None:
        self.connection = connection
        self.slot = slot
        self.last_used = 0.0

    def fit(self, now: float, idle_seconds: float) -> bool:
        return self.connection.usable and now - self.last_used < idle_seconds


class CliPool:
    """Runs commands over at most `size` sessions. Opens the first when the first command comes."""

    def __init__(
        self,
        endpoint: Endpoint,
        login: str,
        password: Secret,
        *,
        tls: TlsPolicy | None = None,
        size: int = 4,
        idle_seconds: float = 60.0,
        slots: Path | None = None,
        slot_numbers: range | None = None,
    ) -> None:
        if size < 1:
            raise ValueError("a pool holds at least one session")
        self.endpoint = endpoint
        self._login = login
        self._password = password
        self._tls = tls
        self._idle_seconds = idle_seconds
        self._slot_numbers = slot_numbers or range(size)
        self._slots = SlotDirectory(slots, self._slot_numbers.stop) if slots is not None else None
        self._size = size
        self._free = size  # places not taken by a command
        self._withdrawn = 0  # places that the server refused for now
        self._waiters: dict[asyncio.Future[None], float] = {}  # in the order they came, with their deadlines
        self._alarm: asyncio.TimerHandle | None = None  # one for all of them
        self._alarm_at = 0.0
        self._idle: list[_Session] = []
        self._timer: asyncio.TimerHandle | None = None
        self._regain: asyncio.TimerHandle | None = None
        self._open_sessions = 0
        self._listen_after = 0.0  # when to look next whether another process waits for a session
        self._closed = False

    @property
    def sessions(self) -> tuple[int, int]:
        """How many commands are running, and how many sessions are open but idle."""
        return self._size - self._free - self._withdrawn, len(self._idle)

    async def run(
        self, command: Command | bytes, *, deadline: float | None = None, repeatable: bool | None = None
    ) -> Reply:
        """One command and its reply; raises what an error reply means, SessionsExhausted when no session came free.

        A kept session that turns out to be dropped before it said anything is replaced once by a fresh one, if
        the command is repeatable. Any other loss is raised: what the server did is then unknown.
        """
        loop = asyncio.get_running_loop()
        if deadline is None:
            deadline = loop.time() + COMMAND_TIMEOUT
        if isinstance(command, bytes):
            command = Command(checked_line(command), repeatable=bool(repeatable))
        await self._take_place(deadline)
        session: _Session | None = None
        try:
            session = self._take_idle(loop.time()) or await self._open(deadline)
            try:
                return await session.connection.run(command, deadline=deadline)
            except ProtocolTrouble:
                raise
            except Temporary:
                connection = session.connection
                again = command.repeatable and connection.uses and connection.silent and not connection.timed_out
                if not again:
                    raise
            self._drop(session)
            session = None
            self._drop_idle()  # they were opened before the one that is gone: a restart closed them all
            session = await self._open(deadline)
            return await session.connection.run(command, deadline=deadline)
        finally:
            self._give_back(session, loop.time())

    async def reach(self, timeout: float = _REACH) -> None:
        """Have a session, so that trouble shows before anything is begun. Raises what `run` does."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        await self._take_place(deadline)
        session: _Session | None = None
        try:
            session = self._take_idle(loop.time()) or await self._open(deadline)
        finally:
            self._give_back(session, loop.time())

    async def close(self) -> None:
        """Say QUIT on idle sessions (bounded time), close them, and refuse further commands."""
        self._closed = True
        for timer in (self._timer, self._regain, self._alarm):
            if timer is not None:
                timer.cancel()
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(CliTemporary("the CLI pool was closed"))
        idle, self._idle = self._idle, []
        soon = asyncio.get_running_loop().time() + 1.0  # a farewell is a courtesy; the close is what counts
        try:
            for session in idle:
                await session.connection.quit(deadline=soon)
        finally:
            for session in idle:
                self._drop(session)
            if self._slots is not None:
                self._slots.close()

    async def _take_place(self, deadline: float) -> None:
        if self._closed:
            raise CliTemporary("the CLI pool was closed")
        if self._free and not self._waiters:
            self._free -= 1
            return
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters[waiter] = deadline
        if self._alarm is None or deadline < self._alarm_at:
            self._set_alarm(loop, deadline)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._free_place()  # it was handed over just as we gave up
            else:
                self._waiters.pop(waiter, None)
            raise

    def _set_alarm(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        """One timer for many waits: set anew only when it would come too late; it looks again when it comes early."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm, self._alarm_at = loop.call_at(at, self._expire, loop), at

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell those whose deadline has come that no session did."""
        self._alarm = None
        now = loop.time() + _TICK
        for waiter in [waiter for waiter, deadline in self._waiters.items() if deadline <= now]:
            del self._waiters[waiter]
            if not waiter.done():
                waiter.set_exception(SessionsExhausted(f"{self.endpoint}: all {self._size} sessions stayed busy"))
        if self._waiters:
            self._set_alarm(loop, min(self._waiters.values()))

    def _free_place(self) -> None:
        self._free += 1
        while self._free and self._waiters:
            waiter = next(iter(self._waiters))
            del self._waiters[waiter]
            if not waiter.done():
                self._free -= 1
                waiter.set_result(None)

    def _take_idle(self, now: float) -> _Session | None:
        while self._idle:
            session = self._idle.pop()
            if session.fit(now, self._idle_seconds):
                return session
            self._drop(session)
        return None

    async def _open(self, deadline: float) -> _Session:
        """A session in the place we hold: a fresh one, or another command's after waiting for it.

        While the server or the other processes leave no room, waits until the deadline; then SessionsExhausted.
        """
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        try:
            while True:
                try:
                    return await self._open_now(deadline)
                except SessionsExhausted:
                    if loop.time() + pause >= deadline:
                        raise
                if self._open_sessions:
                    await self._withdraw(deadline)
                    session = self._take_idle(loop.time())
                    if session is not None:
                        return session
                else:
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)
        finally:
            if self._slots is not None:
                self._slots.lower_hand()

    async def _open_now(self, deadline: float) -> _Session:
        slot: Slot | None = None
        if self._slots is not None:
            slot = self._slots.try_take(self._slot_numbers)
            if slot is None:
                if not self._open_sessions:
                    self._slots.raise_hand()
                raise SessionsExhausted(f"{self.endpoint}: all sessions that we may have are in use by other processes")
        session: _Session | None = None
        try:
            connection = await CliConnection.connect(
                self.endpoint, self._login, self._password, tls=self._tls, deadline=deadline
            )
            session = _Session(connection, slot)
        finally:
            if session is None and slot is not None:
                slot.release()
        self._open_sessions += 1
        return session

    async def _withdraw(self, deadline: float) -> None:
        """Exchange our place, for which there is no session now, for one that has a session; ours rests for a while."""
        await self._take_place(deadline)
        self._withdrawn += 1
        if self._regain is None:
            self._regain = asyncio.get_running_loop().call_later(_REGAIN, self._return_places)

    def _return_places(self) -> None:
        self._regain = None
        while self._withdrawn:
            self._withdrawn -= 1
            self._free_place()

    def _give_back(self, session: _Session | None, now: float) -> None:
        if session is not None:
            if self._closed or not session.connection.usable or self._must_yield(now):
                self._drop(session)
            else:
                session.last_used = now
                self._idle.append(session)
                if self._timer is None:
                    self._timer = asyncio.get_running_loop().call_later(self._pause_between_looks(), self._look)
        self._free_place()

    def _must_yield(self, now: float) -> bool:
        if self._slots is None or now < self._listen_after:
            return False
        wanted = self._slots.wanted
        self._listen_after = now + (_YIELD if wanted else _LISTEN)
        return wanted

    def _drop(self, session: _Session) -> None:
        session.connection.abort()
        self._open_sessions -= 1
        if session.slot is not None:
            session.slot.release()

    def _drop_idle(self) -> None:
        while self._idle:
            self._drop(self._idle.pop())

    def _pause_between_looks(self) -> float:
        return _LOOK if self._slots is not None else max(self._idle_seconds / 4, 0.05)

    def _look(self) -> None:
        """Close idle sessions that are old or that the server closed, and one whose slot another process waits for."""
        now = asyncio.get_running_loop().time()
        self._timer = None
        idle, self._idle = self._idle, []
        for session in idle:
            if session.fit(now, self._idle_seconds) and not self._must_yield(now):
                self._idle.append(session)
            else:
                self._drop(session)
        if self._idle and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(self._pause_between_looks(), self._look)
