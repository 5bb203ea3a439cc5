"""Bytes per second, shared by as many connections as hold the same RateLimit. Pure but for the clock it is given."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_BURST: Final = 1.0  # seconds' worth that may come at once after a rest


class RateLimit:
    """A token bucket that may be overdrawn: what has come, has come; the next waits until it is made up for."""

    def __init__(self, rate: int, *, burst: float = _BURST, clock: Callable[[], float] = time.monotonic) -> None:
        if rate <= 0:
            raise ValueError("a rate is a number of bytes per second above 0")
        self.rate = rate
        self._clock = clock
        self._most = self._left = rate * burst
        self._at = clock()

    def take(self, count: int) -> float:
        """Count `count` bytes; seconds to wait before the next, 0.0 for none. `take(0)` only asks."""
        now = self._clock()
        self._left = min(self._most, self._left + max(0.0, now - self._at) * self.rate) - count
        self._at = now
        return max(0.0, -self._left / self.rate)
