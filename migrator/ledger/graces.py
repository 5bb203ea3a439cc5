"""Accounts in grace: external authentication was left on, and a password changed at the old server is taken over.

A row holds two digests under a key that the ledger does not have: of the password that was taken over last, and of
what CommuniGate showed as its stored password then. It is written before CommuniGate is changed (without the second),
completed afterwards, and dropped when the grace is over.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from migrator.clock_watch import ClockWatch
from migrator.ledger.store import Store

CLOSED: Final = b""  # in place of the second digest: the password was changed at CommuniGate, which alone counts


@dataclass(frozen=True, slots=True)
class Grace:
    """`stored` is None until CommuniGate has confirmed; `until` is in seconds since the epoch."""

    migrated: bytes
    stored: bytes | None
    until: float


class Graces:
    """The table. Every call raises Trouble where the ledger cannot be used."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time, watch: ClockWatch | None = None) -> None:
        self._store = store
        self.clock = clock
        self._watch = watch or ClockWatch()

    def is_over(self, grace: Grace) -> bool:
        """Whether the time of `grace` has come; never by a clock that was set a moment ago."""
        return grace.until <= self.clock() and not self._watch.in_doubt

    async def load(self, account: str) -> Grace | None:
        """The row of `account`."""

        def work(connection: sqlite3.Connection) -> Grace | None:
            row = connection.execute(
                "SELECT migrated, stored, until FROM graces WHERE account = ?", (account,)
            ).fetchone()
            return Grace(*row) if row else None

        return await self._store.read(work)

    async def any(self) -> bool:
        """Whether anybody is in grace."""
        return await self._store.read(lambda c: c.execute("SELECT 1 FROM graces LIMIT 1").fetchone() is not None)

    async def save(self, account: str, grace: Grace) -> None:
        """Write the row, over an older one."""
        row = (account, grace.migrated, grace.stored, grace.until)
        await self._store.write(lambda c: c.execute("INSERT OR REPLACE INTO graces VALUES (?, ?, ?, ?)", row) and None)

    async def drop(self, account: str) -> None:
        """Forget the row."""
        await self._store.write(lambda c: c.execute("DELETE FROM graces WHERE account = ?", (account,)) and None)

    async def over(self, limit: int = 100) -> list[str]:
        """Accounts whose grace is over, the longest first; none by a clock that was set a moment ago."""
        if self._watch.in_doubt:
            return []
        now = self.clock()

        def work(connection: sqlite3.Connection) -> list[str]:
            rows = connection.execute(
                "SELECT account FROM graces WHERE until <= ? ORDER BY until LIMIT ?", (now, limit)
            )
            return [row[0] for row in rows]

        return await self._store.read(work)
