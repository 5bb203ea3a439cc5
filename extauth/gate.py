"""The way to one old server: who is let through, how many at once, and what is learnt from how it went.

Everybody who asks an old server goes through its gate (`ask`). The gate keeps the breaker (`breaker.py`) and the
connections (`connections.py`), tries the server while the breaker is open, repeats a connection that was refused as one
too many before anything was said, and tells a person about each change in one line. It never sees a password, and it
never makes an answer: it passes on what the dialogue came to, or says LATER without asking.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from extauth.bound import Bound
from extauth.breaker import LONGEST_PAUSE, Breaker
from extauth.connections import Connections
from extauth.notices import Notices
from migrator.server_slots import ServerSlots
from wire.endpoint import Endpoint
from wire.imap.classify import means_too_many
from wire.outcome import Answer, HungUp, OutOfFiles, Scope, Temporary, Trouble, Verdict

_TRIAL: Final = 30.0  # seconds for one: servers make wrong passwords wait, by 15 s at most
_AGAIN: Final = 6  # times that a connection refused as one too many is tried again, if there is time
_LATELY: Final = 10.0  # seconds: a server that answered so long ago and now hangs up on some has too many
_COMPLAINTS: Final = 3  # accounts that hear "too many" at their login until it is taken for the server's limit
_COUNTED: Final = 60.0  # seconds that such a complaint counts
_AWAY: Final = ("421", "UNAVAILABLE")  # codes of a server that wants no connection now


class Visit:
    """One dialogue with the server. The dialogue says when the server has let it in."""

    __slots__ = ("only_reach", "reached")

    def __init__(self, *, only_reach: bool = False) -> None:
        self.reached = False  # connected, TLS agreed, greeted; nothing of a user's was sent
        self.only_reach = only_reach  # a question of ours that has its answer then


Dialogue = Callable[[Visit], Awaitable[Answer]]


class TurnedAway(Temporary):
    """The breaker is open: nobody was asked."""


class Gate:
    """The gate of `endpoint`. `patience`: seconds a time-out must have had to count against the server."""

    def __init__(
        self,
        endpoint: Endpoint,
        most: int,
        *,
        slots: ServerSlots | None = None,
        notices: Notices | None = None,
        changed: Callable[[], None] = lambda: None,
        patience: float = 5.0,
        guarded: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.endpoint = endpoint
        self.breaker = Breaker()
        self.bound = Bound(most)
        self.connections = Connections(endpoint, self.bound, slots, self._without_slots, clock)
        self._slots = slots
        self._notices = notices
        self._changed = changed
        self._patience = patience
        self._guarded = guarded
        self._clock = clock
        self._topic = f"server {endpoint}"  # what others would say of it
        self._complaints: dict[str, float] = {}
        self._answered_at = float("-inf")  # when a dialogue began that was answered
        self._trial: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether everybody is turned away now."""
        return not self.breaker.closed

    async def ask(
        self, account: str, dialogue: Dialogue, question: Dialogue, *, turn_by: float, deadline: float
    ) -> Answer:
        """What `dialogue` comes to, for `account`. Waits for a place until `turn_by`; the dialogue ends by `deadline`.

        `question` is a dialogue of our own, with nothing that a user sent, which may end once the server is reached. It
        is asked where only that can tell whether the server works. Raises Temporary for a server that is not asked
        now, and what the dialogue raises.
        """
        again = _AGAIN
        while True:
            if not self.breaker.closed:
                await self._wait_for_trial(question, turn_by)
            with await self.connections.take(turn_by):
                if not self.breaker.closed:
                    raise self._turned_away()
                visit, began = Visit(), self._clock()
                try:
                    answer = await dialogue(visit)
                except Trouble as trouble:
                    now = asyncio.get_running_loop().time()
                    # a server is not to blame for the little time that was left
                    counts = self._guarded and (now < deadline or self._clock() - began >= self._patience)
                    refused = counts and self._failed(account, trouble, visit, began, question)
                    again -= 1
                    if not (refused and again and now < turn_by):
                        raise
                else:
                    self._judge(account, answer, began, question)
                    return answer

    async def close(self) -> None:
        """Give up the trial under way, and every slot."""
        if self._trial is not None:
            self._trial.cancel()
            await asyncio.gather(self._trial, return_exceptions=True)
        self.connections.close()
        if self._notices is not None:
            self._notices.settle(self._topic)

    # -- what is learnt ------------------------------------------------------------------------------------------------

    def _judge(self, account: str, answer: Answer, began: float, question: Dialogue) -> None:
        """The dialogue came to an answer: the server works, or it said itself that it does not."""
        if answer.verdict is not Verdict.LATER:
            self._answered_at = began
            if not self.breaker.calm:
                self._answered()
            if self.bound.strained:
                self._grow()
        elif not self._guarded:
            pass
        elif means_too_many(answer.reason):
            self._complained(account, answer.reason, began)
        elif answer.scope is Scope.SERVER:
            self._note(account, answer.reason, question, hard=False)
        elif answer.scope is Scope.USER and not self.breaker.calm:
            self._answered()

    def _failed(self, account: str, trouble: Trouble, visit: Visit, began: float, question: Dialogue) -> bool:
        """The dialogue broke off. True where the server only had too many, before anything was said."""
        if trouble.scope is Scope.USER or isinstance(trouble, OutOfFiles):
            return False
        if visit.reached:
            if means_too_many(trouble.text):
                self._complained(account, trouble.text, began)
            else:
                self._note(account, trouble.text, question, hard=False)
            return False
        now = self._clock()
        if means_too_many(trouble.text):
            if not self._lower(now, trouble.text, began) and self.bound.limit == 1:
                self.bound.go_away(now)  # it is others, and not ours, that fill it
            return True
        if isinstance(trouble, HungUp):
            # Courier hangs up so on one connection too many: a trial shows whether it does so on everybody
            others = self.connections.in_use > 1
            if others and now - self._answered_at < _LATELY:
                self._lower(now, trouble.text, began)
            self._note(account, trouble.text, question, hard=False)
            return others
        if trouble.code in _AWAY:
            self.bound.go_away(now)
        self._note(account, trouble.text, question, hard=True)
        return False

    def _note(self, account: str, reason: str, question: Dialogue, *, hard: bool) -> None:
        now = self._clock()
        if self.breaker.failed(account, now, self._short(reason), hard=hard):
            self._opened()
        elif self.breaker.closed and self.breaker.begin_trial(now):
            self._start_trial(question)

    def _answered(self) -> None:
        after, turned_away = self._clock() - self.breaker.opened_at, self.breaker.turned_away
        if self.breaker.answered():
            self._closed(after, turned_away)

    # -- how many at once ----------------------------------------------------------------------------------------------

    def _complained(self, account: str, reason: str, began: float) -> None:
        """The server says "too many" at a login: its limit, once it says so to several users."""
        now = self._clock()
        self._complaints = {one: at for one, at in self._complaints.items() if now - at < _COUNTED}
        if len(self._complaints) < _COMPLAINTS:
            self._complaints[account] = now
        if len(self._complaints) >= _COMPLAINTS:
            self._lower(now, reason, began)

    def _lower(self, now: float, reason: str, began: float) -> bool:
        was_lowered = self.bound.lowered
        lowered = self.bound.too_many(now, self.connections.in_use, since=began)
        if lowered:
            if not was_lowered:
                self._tell(
                    f"{self.endpoint} says that it has too many connections of ours ({self._short(reason)}): at most"
                    f" {self.bound.limit} instead of {self.bound.most} for now, and more again bit by bit. If this"
                    " comes often, raise the limit there, or lower max_connections here"
                )
            self._share_limit()
            self._changed()
        return lowered

    def _grow(self) -> None:
        self.bound.welcome()
        if self.bound.grow(self._clock()):
            self._tell(f"{self.endpoint} takes {self.bound.most} connections again")
            self._share_limit()
            self._changed()

    def _share_limit(self) -> None:
        """So that copies leave room."""
        if self._slots is not None:
            self._slots.tell_limit(self.bound.limit)

    def _without_slots(self, trouble: Trouble) -> None:
        if self._notices is not None:
            self._notices.alarm(
                "slots",
                f"connections to the old servers are not counted together with the worker's: {trouble}."
                " Mend the state directory; until then each process keeps to max_connections by itself",
            )

    # -- the breaker ---------------------------------------------------------------------------------------------------

    async def _wait_for_trial(self, question: Dialogue, turn_by: float) -> None:
        """Return when the server answers again: only who begins the trial waits for it. TurnedAway for all others."""
        if self.breaker.begin_trial(self._clock()):
            trial = self._start_trial(question)
            left = turn_by - asyncio.get_running_loop().time()
            await asyncio.wait({trial}, timeout=max(0.0, left))
        if not self.breaker.closed:
            raise self._turned_away()

    def _turned_away(self) -> TurnedAway:
        self.breaker.turn_away()
        return TurnedAway(f"{self.endpoint} does not work and is not asked for now: {self.breaker.reason}")

    def _start_trial(self, question: Dialogue) -> asyncio.Task[None]:
        self._trial = asyncio.get_running_loop().create_task(self._try(question))
        return self._trial

    async def _try(self, question: Dialogue) -> None:
        """Ask a question of our own, and open or close the breaker by what it comes to."""
        breaker, ended = self.breaker, False
        # wrong logins make some servers slow for all of ours: none where being let in is proof enough
        visit = Visit(only_reach=self.is_open and breaker.by_sight)
        try:
            failure = await self._outcome(question, visit)
            ended = True
            since, turned_away = breaker.opened_at, breaker.turned_away
            if not breaker.end_trial(self._clock(), failure, reached=visit.reached):
                if self.is_open:
                    self._changed()
            elif self.is_open:
                self._opened()
            else:
                self._closed(self._clock() - since, turned_away)
        except Exception as bug:  # this task owns the scope: nobody else would hear of it
            if self._notices is not None:
                self._notices.log.error("bug while an old server was tried", exc_info=bug)
        finally:
            if not ended:
                breaker.drop_trial(self._clock())

    async def _outcome(self, question: Dialogue, visit: Visit) -> str | None:
        """What a question of our own came to: None where the server works, else why not."""
        by = asyncio.get_running_loop().time() + _TRIAL
        try:
            with await self.connections.take(by, first=True):
                async with asyncio.timeout_at(by):
                    answer = await question(visit)
        except TimeoutError:
            return "no answer in time"
        except TurnedAway:  # it opened while this waited for a place
            return self.breaker.reason
        except Trouble as trouble:
            return self._short(str(trouble))
        failed = answer.verdict is Verdict.LATER and answer.scope is not Scope.USER
        return self._short(answer.reason) if failed else None

    def _opened(self) -> None:
        breaker = self.breaker
        breaker.turned_away += self.connections.turn_away(
            lambda: TurnedAway(f"{self.endpoint} does not work and is not asked for now: {breaker.reason}")
        )
        if self._notices is not None:
            self._notices.cover(self._topic)
        self._tell(
            f"{self.endpoint} does not work ({breaker.reason}): whoever needs it gets FAILURE at once from now on, and"
            f" it is tried again every {breaker.pause:.0f} to {LONGEST_PAUSE:.0f} seconds. See whether it runs, can be"
            " reached from here, and lets us in"
        )
        self._changed()

    def _closed(self, seconds: float, turned_away: int) -> None:
        if self._notices is not None:
            self._notices.settle(self._topic)
        self._tell(f"{self.endpoint} works again after {_period(seconds)}; {turned_away} requests got FAILURE at once")
        self._changed()

    def _tell(self, text: str) -> None:
        if self._notices is not None:
            self._notices.announce(text, server=str(self.endpoint))

    def _short(self, reason: str) -> str:
        """The reason without the server's name, which stands before it."""
        return reason.removeprefix(f"{self.endpoint}: ")[:200]


def _period(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
