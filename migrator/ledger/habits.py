"""How old servers treat names that nobody has, as it was last seen: do they accept such recipients, such logins?

Only clear observations are written down. They outlive the process, so that a restart asks no server again.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from migrator.ledger.store import Store


class Kind(Enum):
    """What was offered to the old server under a name that nobody has."""

    RECIPIENT = "rcpt"
    LOGIN = "login"


@dataclass(frozen=True, slots=True)
class Habit:
    """`accepts` since `since`, last seen at `at` (seconds since the epoch); `changed`: it was seen to do otherwise."""

    accepts: bool
    since: float
    at: float
    changed: bool = False


_UPSERT: Final = """
    INSERT INTO habits (kind, server, domain, accepts, since, at) VALUES (?1, ?2, ?3, ?4, ?5, ?5)
    ON CONFLICT (kind, server, domain) DO UPDATE SET
        was = CASE WHEN accepts <> ?4 THEN accepts ELSE was END,
        since = CASE WHEN accepts <> ?4 THEN ?5 ELSE min(since, ?5) END,
        accepts = ?4, at = ?5
    RETURNING accepts, since, at, was IS NOT NULL
"""


class Habits:
    """The table of habits, by what was offered, server and domain."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self.clock = clock

    async def load(self, kind: Kind, server: str, domain: str) -> Habit | None:
        """What was last seen, however long ago; None where nothing was. Raises Trouble."""

        def work(connection: sqlite3.Connection) -> Habit | None:
            row = connection.execute(
                "SELECT accepts, since, at, was IS NOT NULL FROM habits WHERE kind = ? AND server = ? AND domain = ?",
                (kind.value, server, domain),
            ).fetchone()
            return _habit(row) if row else None

        return await self._store.read(work)

    async def save(self, kind: Kind, server: str, domain: str, *, accepts: bool) -> Habit:
        """Write an observation down; the habit as it is then. Raises Trouble."""
        now = self.clock()

        def work(connection: sqlite3.Connection) -> Habit:
            return _habit(connection.execute(_UPSERT, (kind.value, server, domain, accepts, now)).fetchone())

        return await self._store.write(work)


def _habit(row: tuple[int, float, float, int]) -> Habit:
    return Habit(bool(row[0]), row[1], row[2], bool(row[3]))
