"""How many connections an old server allows us now: what is configured, less while it says that it has too many. Pure.

As TCP does with a line: down by a third when the server complains, and one more again for each while without a
complaint. The clock is the caller's.
"""

from __future__ import annotations

from typing import Final

_HOLD: Final = 10.0  # seconds after a complaint until one more is tried
_STEP: Final = 5.0  # seconds from each step up to the next
_PAUSE: Final = 1.0  # seconds that nothing new is opened after the server said "go away", doubled while it goes on
_LONGEST_PAUSE: Final = 8.0  # below the helper's deadline, so that those who wait are answered and not put off


class Bound:
    """The bound of one listener, from 1 to `most`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = most
        self.closed_until = 0.0  # nothing new is opened before
        self._lowered_at = 0.0
        self._grow_at = 0.0
        self._pause = 0.0

    @property
    def lowered(self) -> bool:
        """Whether fewer than configured are opened."""
        return self.limit < self.most

    @property
    def strained(self) -> bool:
        """Whether a connection that was taken would change anything."""
        return self.limit < self.most or self._pause > 0

    def too_many(self, now: float, in_use: int, *, since: float) -> bool:
        """The server says that it has too many, with `in_use` of ours (the refused one among them).

        `since` is when that one was begun: those begun before the limit went down are about the same overload. True
        where the limit goes down by it.
        """
        self._grow_at = now + _HOLD
        if since < self._lowered_at:
            return False
        had = min(self.limit, in_use)
        lower = max(1, had - max(1, had // 3))
        if lower >= self.limit:
            return False
        self.limit, self._lowered_at = lower, now
        return True

    def go_away(self, now: float) -> None:
        """The server wants no connection now (421, [UNAVAILABLE]): nothing new is opened for a moment."""
        if now >= self.closed_until:  # those that were under way say the same once more
            self._pause = min(self._pause * 2 or _PAUSE, _LONGEST_PAUSE)
            self.closed_until = now + self._pause

    def welcome(self) -> None:
        """A connection was taken: the next pause is short again."""
        self._pause = 0.0

    def grow(self, now: float) -> bool:
        """Allow one more, if it is time for that. True where all are allowed again by it."""
        if not self.lowered or now < self._grow_at:
            return False
        self.limit += 1
        self._grow_at = now + _STEP
        return not self.lowered
