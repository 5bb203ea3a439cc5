"""Verified logins: the password in its box, how far adoption is, and which copies and exports are owed.

The helper calls `submit` for every right password and waits until it is on disk; everything that
follows (adoption, copy, export) can be repeated from there after a crash. Every call may be repeated.

A box is kept only while somebody needs it: the adoption that CommuniGate has not confirmed, the
copy that is not done, the export that was not purged. Nothing here can open one.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from migrator.ledger.store import Store
from migrator.model import Adoption, StoredLogin, Submitted, VerifiedLogin

ADOPTION_GRACE: Final = 20.0  # seconds that the helper, whose deadline is 15 s, has before a worker adopts in its place

_UPSERT_ACCOUNT: Final = """
    INSERT INTO accounts (account, domain, adoption, verified_at, not_before) VALUES (?1, ?2, 'adopting', ?3, ?4)
    ON CONFLICT (account) DO UPDATE SET
        adoption = CASE adoption WHEN 'adopted' THEN 'adopted' ELSE 'adopting' END,
        verified_at = ?3, not_before = ?4, attempts = 0
    RETURNING adoption
"""
# A new job, one that waited for this login, or one that has copied nothing yet and whose old server is now reached
# another way. A row comes back in these cases only.
_UPSERT_JOB: Final = """
    INSERT INTO jobs (account, domain, source, server, phase, created_at, not_before)
    VALUES (?1, ?2, ?3, ?4, 'pending', ?5, ?6)
    ON CONFLICT (account, server) DO UPDATE SET
        phase = CASE phase WHEN 'waiting' THEN 'pending' ELSE phase END,
        not_before = CASE phase WHEN 'waiting' THEN ?6 ELSE not_before END,
        attempts = CASE phase WHEN 'waiting' THEN 0 ELSE attempts END,
        reason = CASE phase WHEN 'waiting' THEN '' ELSE reason END,
        source = CASE WHEN copied + live_copied + already = 0 THEN ?3 ELSE source END
        WHERE phase = 'waiting' OR (source <> ?3 AND phase <> 'done' AND copied + live_copied + already = 0)
    RETURNING id
"""
_UPSERT_LOGIN: Final = """
    INSERT INTO logins (account, server, source, login, sealed, verified_at, exporting)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
    ON CONFLICT (account, server) DO UPDATE SET
        source = ?3, login = ?4, sealed = ?5, verified_at = ?6, wiped_at = NULL,
        exporting = CASE WHEN purged_at IS NULL THEN max(exporting, ?7) ELSE exporting END
"""
# What keeps a box: an open adoption, an open copy (or a kept one, for the final delta), an export.
_WIPE: Final = """
    UPDATE logins SET sealed = NULL, wiped_at = ?2
    WHERE account IN (SELECT value FROM json_each(?1)) AND sealed IS NOT NULL AND NOT exporting
      AND NOT EXISTS (SELECT 1 FROM accounts WHERE accounts.account = logins.account AND adoption = 'adopting')
      AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.account = logins.account AND jobs.server = logins.server
                      AND (phase <> 'done' OR ?3))
"""


def server_of(source: str) -> str:
    """The host of an endpoint written as `scheme://host:port`: what one limit on copies counts."""
    return source.partition("://")[2].rpartition(":")[0].lower() or source


def add_job(
    connection: sqlite3.Connection, account: str, domain: str, source: str, *, now: float, not_before: float = 0.0
) -> tuple[int, bool]:
    """The number of the copy job, and whether this made it or let it go on. Inside the caller's transaction."""
    values = (account, domain, source, server_of(source), now, not_before)
    row = connection.execute(_UPSERT_JOB, values).fetchone()
    if row is not None:
        return row[0], True
    row = connection.execute("SELECT id FROM jobs WHERE account = ? AND server = ?", (account, values[3])).fetchone()
    return row[0], False


def wipe(connection: sqlite3.Connection, accounts: Sequence[str], now: float, *, keep_done: bool) -> None:
    """Forget the boxes of `accounts` that nobody needs any more; `keep_done` keeps those of finished copies."""
    connection.execute(_WIPE, (json.dumps(accounts), now, keep_done))


class Logins:
    """The accounts and their logins. `keep_done` keeps the boxes of finished copies, for a final delta."""

    def __init__(self, store: Store, *, keep_done: bool = False, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._keep_done = keep_done
        self._clock = clock

    async def submit(self, login: VerifiedLogin) -> Submitted:
        """Put a verified login on disk: the account, its sealed password, its copy job, its export row.

        An equal repetition adds nothing. Another password replaces the sealed one until CommuniGate has
        confirmed the adoption, and at any time when the copy waits for a login; that copy then goes on.
        After a purge the same account is not exported again. Temporary when the disk does not take it.
        """
        now = self._clock()
        account = login.account.lower()

        def work(connection: sqlite3.Connection) -> Submitted:
            return _submit(connection, login, account, now)

        return await self._store.write(work)

    async def seen(self, account: str, domain: str, *, unproven: bool = False) -> None:
        """NEW made this account: it is counted among those who have not logged in yet.

        `unproven`: on the word of an old server that accepts every address.
        """
        now = self._clock()
        await self._store.write(
            lambda connection: (
                connection.execute(
                    "INSERT INTO accounts (account, domain, adoption, created_at, unproven)"
                    " VALUES (?1, ?2, 'seen', ?3, ?4)"
                    " ON CONFLICT (account) DO UPDATE SET created_at = coalesce(created_at, ?3)",
                    (account.lower(), domain.lower(), now, unproven),
                )
                and None
            )
        )

    async def count_unproven(self, domain: str, *, within: float) -> int:
        """How many accounts were made unproven in the last `within` seconds."""
        now = self._clock()
        since = now - within

        def work(connection: sqlite3.Connection) -> int:
            found: int = connection.execute(
                "SELECT count(*) FROM accounts WHERE domain = ? AND unproven AND created_at > ? AND created_at <= ?",
                (domain.lower(), since, now),
            ).fetchone()[0]
            return found

        return await self._store.read(work)

    async def adopted(self, *accounts: str) -> None:
        """CommuniGate confirmed: these accounts log in by themselves. Their copies may start at once."""
        now = self._clock()
        names = [account.lower() for account in accounts]

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE accounts SET adoption = 'adopted', adopted_at = coalesce(adopted_at, ?2), reason = ''"
                " WHERE account IN (SELECT value FROM json_each(?1))",
                (json.dumps(names), now),
            )
            self._go_on(connection, names, now)

        await self._store.write(work)

    async def adoption_refused(self, account: str, reason: str) -> None:
        """CommuniGate will not take this password; only another login tries again. Copies go on."""
        now = self._clock()

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE accounts SET adoption = 'refused', reason = ?2 WHERE account = ?1", (account.lower(), reason)
            )
            self._go_on(connection, [account.lower()], now)

        await self._store.write(work)

    async def adoption_failed(self, account: str, reason: str, *, retry_after: float = 30.0) -> None:
        """The adoption is not confirmed; a worker repeats it in `retry_after` seconds if it can open the password."""
        now = self._clock()

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE accounts SET adoption = 'adopting', reason = ?2, not_before = ?3, attempts = attempts + 1"
                " WHERE account = ?1",
                (account.lower(), reason, now + retry_after),
            )

        await self._store.write(work)

    def _go_on(self, connection: sqlite3.Connection, accounts: Sequence[str], now: float) -> None:
        connection.execute(
            "UPDATE jobs SET not_before = 0 WHERE account IN (SELECT value FROM json_each(?1))"
            " AND +phase = 'pending' AND attempts = 0 AND +not_before > 0 AND lease_until = 0",
            (json.dumps(accounts),),
        )
        wipe(connection, accounts, now, keep_done=self._keep_done)

    async def due_adoptions(self, limit: int = 100) -> list[StoredLogin]:
        """Adoptions that are owed and whose time has come, the longest owed first."""
        now = self._clock()

        def work(connection: sqlite3.Connection) -> list[StoredLogin]:
            rows = connection.execute(
                "SELECT account, source, login, sealed, adoption, attempts FROM accounts JOIN logins USING (account)"
                " WHERE adoption = 'adopting' AND not_before <= ?1 AND sealed IS NOT NULL"
                " ORDER BY not_before, logins.verified_at LIMIT ?2",
                (now, limit),
            )
            # with two old servers the password that was right last is the one to set
            return list({row[0]: _stored(row) for row in rows}.values())

        return await self._store.read(work)

    async def login_of(self, account: str, source: str) -> StoredLogin | None:
        """The login that `account` used at the old server of `source`, or None."""

        def work(connection: sqlite3.Connection) -> StoredLogin | None:
            row = connection.execute(
                "SELECT account, source, login, sealed, adoption, attempts FROM accounts JOIN logins USING (account)"
                " WHERE account = ?1 AND server = ?2",
                (account.lower(), server_of(source)),
            ).fetchone()
            return _stored(row) if row else None

        return await self._store.read(work)

    async def adoption_of(self, account: str) -> Adoption | None:
        """How far `account` is, or None when nobody has heard of it."""

        def work(connection: sqlite3.Connection) -> Adoption | None:
            row = connection.execute("SELECT adoption FROM accounts WHERE account = ?", (account.lower(),)).fetchone()
            return Adoption(row[0]) if row else None

        return await self._store.read(work)


def _stored(row: tuple[Any, ...]) -> StoredLogin:
    return StoredLogin(row[0], row[1], row[2], row[3], Adoption(row[4]), row[5])


def _submit(connection: sqlite3.Connection, login: VerifiedLogin, account: str, now: float) -> Submitted:
    row = connection.execute(_UPSERT_ACCOUNT, (account, login.domain.lower(), now, now + ADOPTION_GRACE)).fetchone()
    adoption = Adoption(row[0])
    adopted = adoption is Adoption.ADOPTED
    server = server_of(login.source)
    job_id = None
    goes_on = False
    if login.wants_copy:
        not_before = 0.0 if adopted else now + ADOPTION_GRACE  # the helper adopts first, then the job is let go
        job_id, goes_on = add_job(
            connection, account, login.domain.lower(), login.source, now=now, not_before=not_before
        )
    if not adopted or goes_on or (login.wants_export and not _is_known(connection, account, server)):
        connection.execute(
            _UPSERT_LOGIN,
            (account, server, login.source, login.login, login.sealed or None, now, int(login.wants_export)),
        )
    return Submitted(adoption, job_id)


def _is_known(connection: sqlite3.Connection, account: str, server: str) -> bool:
    row = connection.execute(
        "SELECT 1 FROM logins WHERE account = ? AND server = ? AND (exporting OR purged_at IS NOT NULL)",
        (account, server),
    ).fetchone()
    return row is not None
