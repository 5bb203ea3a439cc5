"""What every step of one account's copy shares: both connections, the marks, the options, the clock."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from migrator.access import Access, open_both
from migrator.marks import Change, MailboxMarks, MarkStore
from migrator.options import CopyOptions
from migrator.passes import Pass, Standing
from migrator.plan import Naming
from migrator.quarantine import Quarantine
from migrator.report import Checkpoint, Progress, ProgressListener, keep_quiet, pass_by, print_nothing
from migrator.window import Window, WindowClosed, local_time
from wire.imap.client import ImapClient

_LOOK_AT_CLOCK: Final = 60.0  # seconds between looks at a clock that a person may set, or a machine that sleeps stops

Sleep = Callable[[float], Awaitable[None]]


@dataclass(slots=True)
class Surroundings:
    """What a test replaces: the clock, waiting, and the places where a copy may be stopped."""

    checkpoint: Checkpoint = pass_by
    progress: ProgressListener = keep_quiet
    now: Callable[[], float] = time.time
    sleep: Sleep = asyncio.sleep
    quarantine: Quarantine | None = None  # where messages are kept that the target takes in no form
    patient: bool = False  # wait until a closed --window opens, rather than raise WindowClosed
    say: Callable[[str], None] = print_nothing  # what a person should know now, in a line

    def check_window(self, window: Window | None) -> None:
        """WindowClosed outside the window."""
        now = self.now()
        if window is not None and not window.is_open(now):
            raise WindowClosed(window, window.opens_at(now) - now)

    async def wait_for_window(self, window: Window | None) -> None:
        """Return within the window: at once, or after waiting and saying so. WindowClosed for who does not wait."""
        told = False
        while True:
            try:
                return self.check_window(window)
            except WindowClosed as closed:
                if not self.patient:
                    raise
                if not told:
                    opening = local_time(self.now() + closed.pause)
                    self.say(f"{closed.text}: waiting until {opening:%Y-%m-%d %H:%M}")
                told = True
                await self.sleep(min(closed.pause, _LOOK_AT_CLOCK))


@dataclass(slots=True)
class Lessons:
    """What a run has learnt of both servers, over all its connections. Keys are (source mailbox, uid)."""

    refused: set[tuple[bytes, int]] = field(default_factory=set)  # tried in this run: not once more
    breaks: Counter[tuple[bytes, int]] = field(default_factory=Counter)  # connections lost within a message
    ungiven: Counter[tuple[bytes, int]] = field(default_factory=Counter)  # of those, by the source when it was compared
    doubtful: set[tuple[bytes, int]] = field(default_factory=set)  # under way with others when a connection was lost
    tolerated: frozenset[str] = frozenset()  # oddities that the target has accepted
    sessions: int = 0  # at once, as many as both servers have allowed; 0 where they have not said
    notes: list[str] = field(default_factory=list)  # for the report of the account
    cautious: bool = False  # the target has answered BAD to a pipelined message: each waits for its answer from now on


@dataclass(slots=True)
class Session:
    """Both connections, logged in, and what goes with them."""

    source: ImapClient
    target: ImapClient
    source_access: Access
    target_access: Access
    options: CopyOptions
    marks: MarkStore
    around: Surroundings
    existing: frozenset[bytes] = frozenset()  # mailboxes of the target, when the plan was made
    lessons: Lessons = field(default_factory=Lessons)
    names: set[bytes] = field(default_factory=set)  # at the target, each meant for one source mailbox
    renamed: dict[bytes, bytes] = field(default_factory=dict)  # planned name, name it got because that was refused
    passes: Mapping[bytes, Pass] = field(default_factory=dict)  # by source mailbox, as the last run remembered them
    standings: Mapping[bytes, Standing] = field(default_factory=dict)  # source mailboxes, before anything was opened
    there: Mapping[bytes, int] = field(default_factory=dict)  # uidvalidity of target mailboxes, the same
    passed: frozenset[bytes] = frozenset()  # source mailboxes in which there is nothing to do
    source_naming: Naming = field(default_factory=Naming)
    target_naming: Naming = field(default_factory=Naming)
    source_subscribed: list[bytes] | None = None  # names, when the plan was made; None where that was not told
    target_subscribed: list[bytes] | None = None
    round_trip: float = 0.0  # seconds that the slower server takes to answer, at most
    fetch_item_known: bool = False  # that of the options is one which this source understands

    @classmethod
    async def open(
        cls, source: Access, target: Access, options: CopyOptions, marks: MarkStore, around: Surroundings
    ) -> Session:
        """Log in at both, the source first: without it there is nothing to do at the target."""
        began = asyncio.get_running_loop().time()
        old, new = await open_both(
            source,
            target,
            timeout=options.timeout,
            rate=options.rate,
            compress=options.compress,
            logged_in=around.checkpoint,
        )
        old.progress_timeout = new.progress_timeout = options.timeout
        session = cls(old, new, source, target, options, marks, around)
        session.took(2, began)  # the greeting and the login
        return session

    async def another(self) -> Session:
        """One more session for the same copy, which shares all that this one knows. Raises what `open` does."""
        new = await Session.open(self.source_access, self.target_access, self.options, self.marks, self.around)
        return replace(self, source=new.source, target=new.target)

    def took(self, round_trips: int, began: float) -> None:
        """So many round trips, to both servers at a time, were made since `began`; the shortest counts."""
        one = (asyncio.get_running_loop().time() - began) / round_trips
        self.round_trip = min(one, self.round_trip or one)

    async def keep(self) -> None:
        """A sign of life at both ends, for a session that has nothing to do; Temporary where one is gone."""
        self.touch()
        await self.source.noop()
        await self.target.noop()

    async def close(self) -> None:
        """Log out of both; trouble on the way is of no interest any more."""
        for client in (self.source, self.target):
            await client.logout()

    def abort(self) -> None:
        """Drop both connections where they are."""
        self.source.close()
        self.target.close()

    def touch(self, more: float = 0.0) -> None:
        """Something went on: neither server has kept us waiting. `more` seconds are for what is under way."""
        deadline = asyncio.get_running_loop().time() + self.options.timeout + more
        self.source.deadline = self.target.deadline = deadline

    async def record(self, marks: MailboxMarks, change: Change) -> None:
        """One durable step."""
        if change.empty:
            return
        self.around.checkpoint("journal: before a commit")
        await self.marks.record(marks, change)
        self.around.checkpoint("journal: after a commit")

    def tell(self, progress: Progress) -> None:
        """Pass progress on."""
        self.around.progress(progress)
