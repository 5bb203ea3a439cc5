"""The rows of the export: which saved passwords belong to it, and what was done with them.

A row stays until it is purged. The audit says who exported and purged how many rows, never what they held.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from migrator.ledger.logins import wipe
from migrator.ledger.store import Store


@dataclass(frozen=True, slots=True)
class ExportRow:
    """A saved login. `verified_at` tells whether it was replaced since it was read."""

    account: str
    source: str
    login: bytes
    sealed: bytes
    verified_at: float


@dataclass(frozen=True, slots=True)
class AuditLine:
    """Who did what with saved passwords, and when."""

    at: float
    actor: str
    action: str
    detail: str


class Exports:
    """The export's rows in the ledger. `keep_done` as in Logins."""

    def __init__(self, store: Store, *, keep_done: bool = False, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._keep_done = keep_done
        self._clock = clock

    async def rows(self) -> list[ExportRow]:
        """What is to be exported, by old server and account."""

        def work(connection: sqlite3.Connection) -> list[ExportRow]:
            found = connection.execute(
                "SELECT account, source, login, sealed, verified_at FROM logins"
                " WHERE exporting AND sealed IS NOT NULL ORDER BY source, account"
            )
            return [ExportRow(*row) for row in found]

        return await self._store.read(work)

    async def note(self, actor: str, action: str, detail: str) -> None:
        """One line for the audit."""
        now = self._clock()
        await self._store.write(lambda c: _note(c, now, actor, action, detail))

    async def purge(self, rows: Iterable[ExportRow], actor: str) -> int:
        """Take these rows out of the export and forget the passwords nobody else needs; how many.

        One that was replaced by another login since it was read stays.
        """
        now = self._clock()
        exported = list(rows)

        def work(connection: sqlite3.Connection) -> int:
            count = 0
            for row in exported:
                changed = connection.execute(
                    "UPDATE logins SET exporting = 0, purged_at = ?1"
                    " WHERE account = ?2 AND source = ?3 AND verified_at = ?4 AND exporting",
                    (now, row.account, row.source, row.verified_at),
                ).rowcount
                if changed:
                    count += 1
                    wipe(connection, [row.account], now, keep_done=self._keep_done)
            _note(connection, now, actor, "purge", f"{count} rows")
            return count

        return await self._store.write(work)

    async def audit(self, limit: int = 1000) -> list[AuditLine]:
        """The last lines of the audit, oldest first."""

        def work(connection: sqlite3.Connection) -> list[AuditLine]:
            found = connection.execute(
                "SELECT at, actor, action, detail FROM audit ORDER BY id DESC LIMIT ?", (limit,)
            ).fetchall()
            return [AuditLine(*row) for row in reversed(found)]

        return await self._store.read(work)


def _note(connection: sqlite3.Connection, now: float, actor: str, action: str, detail: str) -> None:
    connection.execute(
        "INSERT INTO audit (at, actor, action, detail) VALUES (?, ?, ?, ?)", (now, actor, action, detail)
    )
