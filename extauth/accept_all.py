"""Does an old server accept every recipient of a domain? Then its yes to one proves nothing.

Found out with names that nobody has, in the session that accepted somebody; believed for a day, looked at again every
hour. What stays unclear is never guessed: the same names are asked about again, so that greylisting lets them through;
only a server that puts strangers off time and again, and takes the user, is believed to know them apart.

A server that was seen to refuse strangers and begins to accept them may have lost its directory: that counts only when
it has lasted for an hour.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from extauth.notices import Notices
from extauth.strangers import make_strangers
from migrator.ledger.habits import Habit, Habits, Kind
from wire.outcome import Trouble

_FRESH: Final = 3600.0  # seconds until the strangers are asked about again
_BELIEVED: Final = 86_400.0  # seconds that a server is believed to know strangers apart where that is unclear now
_FEARED: Final = 7200.0  # seconds that it is believed to accept everybody: mail is refused and accounts are made by it
_LASTING: Final = 3600.0  # seconds that a change for the worse must have lasted
_PAUSE: Final = 60.0  # seconds between two tries that were unclear, while an older finding is believed
_TRIES: Final = 3  # unclear tries, over at least
_PATIENCE: Final = 900.0  # seconds, until a server that takes the user and puts off strangers is believed to know them
_DOMAINS: Final = 10_000  # remembered: more than any server has


class Place(NamedTuple):
    """Where it was found out: the listener, and the domain as that server knows it."""

    server: str
    domain: str


class _State:
    __slots__ = ("asked_at", "began", "finding", "habit", "loaded", "names", "tries", "turned_at")

    def __init__(self) -> None:
        self.habit: Habit | None = None
        self.loaded = False
        self.names = make_strangers()
        self.finding: asyncio.Future[None] | None = None  # somebody is finding out
        self.asked_at = float("-inf")
        self.tries = 0  # unclear ones in a row
        self.began = 0.0  # when the first of them was
        self.turned_at = float("-inf")  # when this process saw it change


class AcceptAll:
    """What is known of the way each old server has with strangers."""

    def __init__(
        self,
        notices: Notices,
        habits: Habits,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` is for what outlives the process; `steady` for what must go on when that one is set."""
        self._notices = notices
        self._habits = habits
        self._clock = clock
        self._steady = steady
        self._states: dict[Place, _State] = {}

    async def recall(self, place: Place) -> None:
        """Take up what an earlier process found out, once for each place."""
        state = self._of(place)
        if state.loaded:
            return
        try:
            habit = await self._habits.load(Kind.RECIPIENT, *place)
        except Trouble:
            habit = None  # it is found out again
        if not state.loaded:
            state.loaded, state.habit = True, habit

    def strangers(self, place: Place, *, user_taken: bool) -> tuple[str, ...]:
        """Names to be asked about now, for one caller, who must `note` what came of it; () where nothing is to do.

        `user_taken`: the user asked about was accepted; without that nobody waits for it, and it is asked but rarely.
        """
        state, now = self._of(place), self._steady()
        habit = state.habit
        fresh = habit is not None and 0 <= self._clock() - habit.at < _FRESH
        urgent = user_taken and self.accepts(place) is None
        if fresh or state.finding is not None or (not urgent and now - state.asked_at < _PAUSE):
            return ()
        state.finding = asyncio.get_running_loop().create_future()
        state.asked_at = now
        return state.names

    async def note(self, place: Place, accepts: bool | None, *, user_taken: bool) -> None:
        """What became of `strangers`; None for unclear. `user_taken`: who was asked with them was accepted."""
        state = self._of(place)
        waiting, state.finding = state.finding, None
        try:
            if accepts is None:
                accepts = self._patience(state, user_taken)
            if accepts is not None:
                state.names, state.tries = make_strangers(), 0
                await self._keep(place, state, accepts)
        finally:
            if waiting is not None and not waiting.done():
                waiting.set_result(None)

    async def settled(self, place: Place, deadline: float) -> bool | None:
        """`accepts`, after waiting for whoever is finding it out for the first time."""
        state = self._of(place)
        if self.accepts(place) is None and state.finding is not None:
            left = deadline - asyncio.get_running_loop().time()
            await asyncio.wait({state.finding}, timeout=max(0.0, left))
        return self.accepts(place)

    def accepts(self, place: Place) -> bool | None:
        """Whether it accepts everybody; None while that is not known, or changed only a while ago."""
        state, now = self._of(place), self._clock()
        habit = state.habit
        if habit is None or not 0 <= now - habit.at < (_FEARED if habit.accepts else _BELIEVED):
            return None
        lasted = min(now - habit.since, self._steady() - state.turned_at)
        if habit.accepts and habit.changed and lasted < _LASTING:
            return None
        return habit.accepts

    def proved(self, place: Place, at: float) -> bool:
        """Whether a yes that was given at `at` was worth something then: the server refused strangers at that time."""
        habit = self._of(place).habit
        return habit is not None and not habit.accepts and habit.since <= at < habit.at + _BELIEVED

    def _of(self, place: Place) -> _State:
        state = self._states.get(place)
        if state is None:
            if len(self._states) >= _DOMAINS:
                self._states.clear()
            state = self._states[place] = _State()
        return state

    def _patience(self, state: _State, user_taken: bool) -> bool | None:
        now = self._steady()
        if not user_taken:
            return None
        if not state.tries:
            state.began = now
        state.tries += 1
        return False if state.tries >= _TRIES and now - state.began >= _PATIENCE else None

    async def _keep(self, place: Place, state: _State, accepts: bool) -> None:
        now, before = self._clock(), state.habit
        turned = before is not None and before.accepts is not accepts
        if turned:
            state.turned_at = self._steady()
        since = now if before is None or turned else min(before.since, now)
        state.habit = Habit(accepts, since, now, turned or (before is not None and before.changed))
        if accepts:
            wait = "; unknown addresses get FAILURE for an hour, as it did not do so before" if turned else ""
            self._notices.alarm(f"accepts all {place}", f"{place.server} accepts every address of {place.domain}{wait}")
        else:
            self._notices.over(f"accepts all {place}", f"{place.server} knows the addresses of {place.domain} apart")
        try:
            await self._habits.save(Kind.RECIPIENT, *place, accepts=accepts)
        except Trouble as trouble:  # it counts in this process
            self._notices.log.warning("the ledger does not take a note", server=place.server, reason=str(trouble))
