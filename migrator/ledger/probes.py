"""What old servers said of addresses: one row for each clear answer. How long one is believed, the reader decides.

The table is bounded: the oldest answers go first. A row is dropped when its account was made, so that an account which
is deleted later is asked about again.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from migrator.ledger.store import Store

_ROUND: Final = 500  # answers written between two looks at the size
_AHEAD: Final = 60.0  # seconds that clocks of several processes may differ by
_SPARE: Final = 0.9  # of the bound that is left when it was passed: the next look is some time away


@dataclass(frozen=True, slots=True)
class Probe:
    """A clear answer: `address` as the old server knows it, `server` the endpoint, `at` in seconds since the epoch."""

    address: str
    server: str
    known: bool
    reason: str
    at: float


class Probes:
    """The table of answers, at most `bound` of them."""

    def __init__(self, store: Store, bound: int, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._bound = bound
        self._since_look = _ROUND  # an earlier process may have left too many
        self.clock = clock

    async def load(self, address: str, server: str) -> Probe | None:
        """The last clear answer, however old. Raises Trouble."""

        def work(connection: sqlite3.Connection) -> Probe | None:
            row = connection.execute(
                "SELECT address, server, known, reason, at FROM probes WHERE address = ? AND server = ?",
                (address, server),
            ).fetchone()
            return Probe(row[0], row[1], bool(row[2]), row[3], row[4]) if row else None

        return await self._store.read(work)

    async def save(self, probes: Iterable[Probe], *, drop: Sequence[tuple[str, str]] = ()) -> None:
        """Write answers down, each over an older one, and drop those of these addresses and servers. Raises Trouble."""
        rows = [(p.address, p.server, p.known, p.reason, p.at) for p in probes]
        self._since_look += len(rows)
        look = self._since_look >= _ROUND
        if look:
            self._since_look = 0

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT OR REPLACE INTO probes (address, server, known, reason, at) VALUES (?, ?, ?, ?, ?)", rows
            )
            connection.executemany("DELETE FROM probes WHERE address = ? AND server = ?", drop)
            if look:
                _shrink(connection, self._bound, self.clock())

        await self._store.write(work)

    async def forget(self, address: str) -> int:
        """Drop what every old server said of `address`; how many answers that were. Raises Trouble."""
        return await self._store.write(
            lambda connection: connection.execute("DELETE FROM probes WHERE address = ?", (address,)).rowcount
        )


def _shrink(connection: sqlite3.Connection, bound: int, now: float) -> None:
    # what a wrong clock has dated ahead is never believed, and would be the last to go
    connection.execute("DELETE FROM probes WHERE at > ?", (now + _AHEAD,))
    count = connection.execute("SELECT count(*) FROM probes").fetchone()[0]
    if count > bound:
        excess = count - int(bound * _SPARE)
        connection.execute(
            "DELETE FROM probes WHERE (address, server) IN (SELECT address, server FROM probes ORDER BY at LIMIT ?)",
            (excess,),
        )
