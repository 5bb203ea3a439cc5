"""Several sessions that share out one account's mailboxes among them (--connections).

What goes into one target mailbox is copied by one session. Each session takes what stands first in the queue, so that
INBOX comes first. A session that breaks off leaves its mailbox to the next run of the copy, and the others go on; what
is true of all of them (a quota, a closed window) lets no further mailbox begin.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final, Generic, TypeVar

from migrator.options import AS_NEEDED
from migrator.session import Session
from wire.outcome import Permanent, Temporary, Throttled, Trouble

_KEEP_ALIVE: Final = 60.0  # seconds between signs of life of a session that waits for the others

T = TypeVar("T")


class Crew(Generic[T]):
    """`run` works off the groups; `work` copies one group in one session, and raises what ends that session."""

    def __init__(
        self, first: Session, groups: Iterable[T], work: Callable[[Session, T], Awaitable[None]], *, most: int
    ) -> None:
        self._first = first
        self._waiting = deque(groups)
        self._work = work
        self._most = min(most, first.lessons.sessions or most)
        self._helpers: set[asyncio.Task[None]] = set()
        self._hired = 0  # sessions besides the first, the one that is being opened among them
        self._troubles: list[Trouble] = []

    async def run(self) -> None:
        """Every group. The gravest Trouble is raised when all sessions have ended what they were at."""
        if self._most == 1 or len(self._waiting) < 2:
            while self._waiting:
                await self._work(self._first, self._waiting.popleft())
            return
        try:
            async with asyncio.TaskGroup() as tasks:
                hiring = tasks.create_task(self._hire(tasks))
                await self._work_off(self._first)
                hiring.cancel()  # a server that lets further connections wait holds up nobody
                await self._wait_for_helpers()
        except BaseExceptionGroup as bugs:  # Trouble is kept apart: this is what nobody expected
            raise bugs.exceptions[0] from None
        if self._troubles:
            self._be_content()
            raise max(self._troubles, key=_gravity)

    def _be_content(self) -> None:
        """Half as many from now on where a connection was lost beside others: some servers end the older one."""
        if self._hired and not any(_gravity(trouble) for trouble in self._troubles):
            self._first.lessons.sessions = max(1, (self._hired + 1) // 2)

    async def _hire(self, tasks: asyncio.TaskGroup) -> None:
        """Open more sessions, one after the other, while there is work for them and both servers allow it."""
        for number in range(2, self._most + 1):
            if not self._waiting:
                return
            self._hired += 1
            try:
                session = await self._first.another()
            except Trouble as trouble:
                self._first.lessons.sessions = number - 1
                if self._first.options.connections != AS_NEEDED:
                    self._tell(f"{number - 1} of {self._most} connections were to be had: {trouble}")
                return
            task = tasks.create_task(self._help(session))
            self._helpers.add(task)
            task.add_done_callback(self._helpers.discard)

    def _tell(self, note: str) -> None:
        self._first.lessons.notes.append(note)
        self._first.around.say(note)

    async def _wait_for_helpers(self) -> None:
        """The first session has done its share, and keeps itself alive, for there is more to do with it."""
        while self._helpers:
            await asyncio.wait(self._helpers, timeout=_KEEP_ALIVE)
            if self._helpers:
                with suppress(Temporary):  # nothing is lost with it: the next run of the copy does the rest
                    await self._first.keep()

    async def _help(self, session: Session) -> None:
        try:
            await self._work_off(session)
            await session.close()
        finally:
            session.abort()

    async def _work_off(self, session: Session) -> None:
        while self._waiting:
            try:
                await self._work(session, self._waiting.popleft())
            except Trouble as trouble:
                self._troubles.append(trouble)
                if _gravity(trouble):
                    self._waiting.clear()
                return


def _gravity(trouble: Trouble) -> int:
    """2 and 1: it is true of all sessions, for good or for now. 0: one connection was lost."""
    if isinstance(trouble, Permanent):
        return 2
    return 1 if trouble.code or isinstance(trouble, Throttled) else 0
