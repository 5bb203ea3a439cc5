"""So many in so long: a bucket of leave that fills up again at an even rate. Pure; the clock is the caller's."""

from __future__ import annotations

from migrator.settings import Quota


class Allowance:
    """`quota.count` at once, and as many again in `quota.seconds`. A quota of 0 allows everything."""

    __slots__ = ("_at", "_left", "_quota")

    def __init__(self, quota: Quota, now: float, *, used: int = 0) -> None:
        self._quota = quota
        self._left = max(0.0, float(quota.count - used))
        self._at = now

    def left(self, now: float) -> float:
        """How much may be taken now."""
        if not self._quota.count:
            return float("inf")
        if now > self._at:  # a clock that went back gives nothing
            self._left += (now - self._at) * self._quota.count / self._quota.seconds
            self._left = min(self._left, float(self._quota.count))
        self._at = now
        return self._left

    def take(self, now: float) -> bool:
        """Take one; False where none is left."""
        if self.left(now) < 1.0:
            return False
        self._left -= 1.0
        return True

    def give(self, now: float, count: float = 1.0) -> None:
        """Give back what was taken and not used; never more than the bucket holds."""
        self._left = min(self.left(now) + count, float(self._quota.count))
