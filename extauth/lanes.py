"""Which request is at work next: a bounded number at once, and of those a bounded share for each old server.

A dead old server holds its requests until their deadlines. Without shares, enough of them take every place, and the
users of healthy domains wait behind them. A lane may hold at most as many places as are free: one dead server leaves
half of them, two leave a third, and a lane that holds none begins at once as long as any is free. The same goes for the
room to wait in. Pure: no clock, no task; the daemon says when a request begins and ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T", bound=Hashable)

_FEW: Final = 20  # places that a server with few connections may have: equal requests share one connection
_AHEAD: Final = 4  # requests at work for each connection: some read the CLI or the ledger while others ask


@dataclass(frozen=True, slots=True)
class Lane:
    """The requests that ask one listener. `connections` is how many connections it may be asked over at once."""

    key: Hashable
    connections: int

    def share(self, places: int) -> int:
        """How many of all `places` this lane may hold while no other holds any: never more than half."""
        return min(max(1, places // 2), max(_FEW, _AHEAD * self.connections))


class Lanes(Generic[T]):
    """Those at work and those that wait, by lane. Lanes take turns; within one, first come, first served."""

    def __init__(self, most_waiting: int, most_bytes: int) -> None:
        """`most_waiting` requests and `most_bytes` of them may wait; one lane may use as much as it leaves free."""
        self._most = (most_waiting, most_bytes)
        self._working: dict[T, Hashable] = {}
        self._held: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, dict[T, int]] = {}  # in the order of turns; each with its size
        self._lanes: dict[Hashable, Lane] = {}
        self._bytes: Counter[Hashable] = Counter()
        self._count = 0

    def __bool__(self) -> bool:
        """Whether anything is at work or waits."""
        return bool(self._working or self._waiting)

    def begin(self, item: T, lane: Lane, places: int) -> bool:
        """Put `item` to work, if one of `places` is free for its lane and nobody of its lane waits."""
        if lane.key in self._waiting or not self._may_begin(lane, places):
            return False
        self._work(item, lane.key)
        return True

    def wait(self, item: T, lane: Lane, size: int) -> bool:
        """Let `item` of `size` bytes wait; False where there is no room for it."""
        queue = self._waiting.get(lane.key, {})
        most, most_bytes = self._most
        free, free_bytes = most - self._count, most_bytes - self._bytes.total()
        if len(queue) >= free or self._bytes[lane.key] + size > free_bytes - size:
            return False
        queue[item] = size
        self._waiting[lane.key] = queue
        self._lanes[lane.key] = lane
        self._bytes[lane.key] += size
        self._count += 1
        return True

    def leave(self, item: T, lane: Lane) -> None:
        """`item` waits no longer, or is done."""
        if item in self._working:
            key = self._working.pop(item)
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]
            return
        queue = self._waiting.get(lane.key)
        if queue is not None and item in queue:
            self._take(lane.key, item)

    def next(self, places: int) -> T | None:
        """Put the next to work that may begin; None if nobody may."""
        if len(self._working) >= places:
            return None
        for key, queue in self._waiting.items():
            if self._may_begin(self._lanes[key], places):
                item = next(iter(queue))
                self._take(key, item)
                if key in self._waiting:
                    self._waiting[key] = self._waiting.pop(key)  # its next turn comes after the others'
                self._work(item, key)
                return item
        return None

    def _may_begin(self, lane: Lane, places: int) -> bool:
        held, free = self._held.get(lane.key, 0), places - len(self._working)
        return held < free and held < lane.share(places)

    def _work(self, item: T, key: Hashable) -> None:
        self._working[item] = key
        self._held[key] += 1

    def _take(self, key: Hashable, item: T) -> None:
        queue = self._waiting[key]
        self._bytes[key] -= queue.pop(item)
        self._count -= 1
        if not queue:
            del self._waiting[key], self._lanes[key], self._bytes[key]
