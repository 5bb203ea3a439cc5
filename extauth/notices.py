"""What a person must learn: state changes and loud troubles, into CommuniGate's own log and into ours.

CommuniGate copies every `* ...` line into its log, so these are few: a state change once, the same trouble at most once
in ten minutes. Ordinary requests never appear there.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

_QUIET: Final = 600.0  # seconds until the same trouble is said again: a night of it is 50 lines, not a million
_REMEMBERED: Final = 1000  # troubles known apart; more are forgotten, oldest first


class Notices:
    """Says things aloud. `say` takes one text for a `* ...` line; `log` is the JSON log."""

    def __init__(self, say: Callable[[str], None], log: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self.log = log
        self._clock = clock
        self._said: OrderedDict[str, float] = OrderedDict()
        self._covered: set[str] = set()

    @property
    def troubled(self) -> bool:
        """Whether some trouble was said that has not been declared over."""
        return bool(self._said)

    def announce(self, text: str, **details: object) -> None:
        """A change of state."""
        self._say(text)
        self.log.info(text, **details)

    def alarm(self, key: str, text: str, **details: object) -> None:
        """A trouble that a person must mend. The same `key` is said again only after a while; the log has them all."""
        if key in self._covered:
            return
        self.log.warning(text, trouble=key, **details)
        now = self._clock()
        last = self._said.get(key)
        if last is not None and now - last < _QUIET:
            return
        self._said[key] = now
        self._said.move_to_end(key)
        if len(self._said) > _REMEMBERED:
            self._said.popitem(last=False)
        self._say(text)

    def over(self, key: str, text: str) -> None:
        """The trouble of `key` has ended; says so only if it was said before."""
        if self._said.pop(key, None) is not None:
            self.announce(text)

    def cover(self, key: str) -> None:
        """Somebody else has said what the trouble of `key` comes to: it is not said again until `settle`."""
        self._covered.add(key)

    def settle(self, key: str) -> None:
        """The trouble of `key` has ended, and somebody else says so."""
        self._covered.discard(key)
        self._said.pop(key, None)
