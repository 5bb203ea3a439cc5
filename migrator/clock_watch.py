"""Notices that the wall clock was set: it then differs from the steady clock by something else than before.

Times that outlive a process are of the wall clock, which may be years wrong at boot and be put right an hour later.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

# seconds between two looks that are no setting: NTP slews by milliseconds, a sleep is as good as one
_SLEW: Final = 5.0
_DOUBT: Final = 3600.0  # seconds until a clock that was set is believed where what follows cannot be taken back


class ClockWatch:
    """One process's eye on its clocks."""

    def __init__(self, clock: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._steady = steady
        self._offset: float | None = None
        self._set_at = float("-inf")  # by the steady clock

    def was_set(self) -> bool:
        """Whether the clock was set since the last look; also at the first, as nobody knows what was before."""
        now = self._steady()
        before, self._offset = self._offset, self._clock() - now
        if before is None:
            return True
        if abs(self._offset - before) <= _SLEW:
            return False
        self._set_at = now
        return True

    @property
    def in_doubt(self) -> bool:
        """Whether it was set within the last hour, as far as this process has seen."""
        self.was_set()
        return self._steady() - self._set_at < _DOUBT
