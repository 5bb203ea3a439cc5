"""Whether an old server is asked at all: a circuit breaker. Pure; the clock is the caller's.

It opens when the server failed for several accounts and has answered nobody meanwhile. Two kinds of failures are told
apart. What went wrong before anything of a user's was sent (connect, TLS, greeting) nobody can bring about by what they
send: enough of those open it at once. What went wrong after that (a connection closed at a login, [UNAVAILABLE]) may
have been brought about by one sender with many names, so it only asks for a trial: a question of our own, with a name
and a password that nobody sent. Only when that fails too does the breaker open; and only such a question tries whether
the server is back, so that nobody's requests can keep it open either.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

ACCOUNTS: Final = 5  # that it failed for: one user's trouble is no outage
WINDOW: Final = 60.0  # seconds that a failure counts
FIRST_PAUSE: Final = 5.0  # seconds until the first trial: a server that restarts is back by then
LONGEST_PAUSE: Final = 60.0  # doubled up to this: an outage costs a question a minute, and ends a minute late at most


class State(Enum):
    """CLOSED: everybody is let through. OPEN: nobody is. Trials are apart from that."""

    CLOSED = "closed"
    OPEN = "open"


class Breaker:
    """The breaker of one listener. Every method takes the time in seconds of one monotonic clock."""

    def __init__(self) -> None:
        self.state = State.CLOSED
        self.opened_at = 0.0
        self.reason = ""
        self.turned_away = 0  # since it opened
        self.by_sight = False  # what opened it was before any login: being let in again is proof enough
        self.trying = False
        self._answered = False  # since the trial began
        self._hard: dict[str, float] = {}  # accounts, and when the server failed for them last
        self._soft: dict[str, float] = {}
        self._pause = FIRST_PAUSE
        self._try_at = 0.0

    @property
    def closed(self) -> bool:
        """Whether requests go through."""
        return self.state is State.CLOSED

    def failed(self, account: str, now: float, reason: str, *, hard: bool) -> bool:
        """The server failed for `account`; `hard`: before anything of the user's was sent. True where it opens now."""
        if not self.closed:
            return False
        self._note(self._hard if hard else self._soft, account, now)
        if hard and len(self._hard) >= ACCOUNTS:
            self._open(now, reason, by_sight=True)
            return True
        return False

    @property
    def calm(self) -> bool:
        """Whether `answered` would change nothing: the path of nearly every request."""
        return self.closed and not (self._hard or self._soft or self.trying)

    def answered(self) -> bool:
        """The server did what it is there for, for anybody: nothing counts any more. True where it closes now."""
        self._hard.clear()
        self._soft.clear()
        was_open, self.state = not self.closed, State.CLOSED
        self._answered = True
        self._pause = FIRST_PAUSE
        return was_open

    def turn_away(self) -> None:
        """Count a request that was not let through."""
        self.turned_away += 1

    def begin_trial(self, now: float) -> bool:
        """Whether a trial is due now and none is under way; then it is, until `end_trial`."""
        if self.trying:
            return False
        due = self._suspected(now) if self.closed else now >= self._try_at
        if due:
            self.trying, self._answered = True, False
        return due

    def end_trial(self, now: float, failure: str | None, *, reached: bool) -> bool:
        """How the trial went, `failure` being None where the server answered. True where the breaker changes by it.

        `reached`: whether it came as far as a login.
        """
        self.trying = False
        if failure is None:
            return self.answered()
        if self.closed:
            if self._answered:  # somebody else meanwhile
                return False
            self._open(now, failure, by_sight=not reached)
            return True
        self.reason, self.by_sight = failure, not reached
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        self._try_at = now + self._pause
        return False

    def drop_trial(self, now: float) -> None:
        """The trial was given up without an outcome: another one may begin after a while."""
        self.trying = False
        self._hard.clear()
        self._soft.clear()
        self._try_at = max(self._try_at, now + FIRST_PAUSE)

    @property
    def pause(self) -> float:
        """Seconds between trials now."""
        return self._pause

    @property
    def witnesses(self) -> int:
        """Accounts that it failed for lately."""
        return len(self._hard.keys() | self._soft.keys())

    def _suspected(self, now: float) -> bool:
        for counted in (self._hard, self._soft):
            _forget(counted, now)
        return self.witnesses >= ACCOUNTS

    def _open(self, now: float, reason: str, *, by_sight: bool) -> None:
        self.by_sight = by_sight
        self.state, self.opened_at, self.reason, self.turned_away = State.OPEN, now, reason, 0
        self._pause = FIRST_PAUSE
        self._try_at = now + self._pause

    @staticmethod
    def _note(counted: dict[str, float], account: str, now: float) -> None:
        counted[account] = now
        _forget(counted, now)
        if len(counted) > ACCOUNTS:
            del counted[min(counted, key=counted.__getitem__)]


def _forget(counted: dict[str, float], now: float) -> None:
    for account in [one for one, at in counted.items() if now - at > WINDOW]:
        del counted[account]
