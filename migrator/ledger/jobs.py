"""The queue of copies: who may run which, and what became of it.

`Queue` is the seam between "a job exists" and "someone runs it"; `LedgerQueue` is its table in the
ledger. A claim is a lease with a fence: a worker that lost its lease to another can neither renew nor
finish, so that no two workers ever believe that a job is theirs. Every call may be repeated.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from migrator.clock_watch import ClockWatch
from migrator.ledger.logins import add_job, server_of, wipe
from migrator.ledger.store import Store
from migrator.ledger.times import mend_times
from migrator.model import Claim, Counts, Job, Outlook, Phase, Worker
from migrator.report import InboxIdentity

BUGS_LIMIT: Final = 3  # the same bug three times is not bad luck
_LOSSES_FORGIVEN: Final = 8  # workers that died with a job before it has to wait: restarts come in rows
_LOSS_PAUSE: Final = 300.0  # seconds at most between two tries of a job that kills its workers

Limits = Callable[[str], int]  # how many copies may run at once from an old server's host


class Queue(Protocol):
    """Jobs, one for each account and old server. Times come from the queue's own clock."""

    async def add(self, account: str, domain: str, source: str) -> int:
        """The job for this account and old server (its host), made if there is none; its number.

        One that exists is left as it is, but a waiting one goes on, and one that has copied nothing yet takes
        the endpoint named now.
        """

    async def tidy(self) -> None:
        """Leave nothing on disk of the passwords that were forgotten, as far as nobody is at work with it."""

    async def claim(self, worker: Worker, *, lease: float, limits: Limits) -> Claim | None:
        """The job to run next, ours for `lease` seconds; None when there is none now.

        Never more than `limits(server)` jobs run from one old server, and never two for one account.
        """

    async def renew(self, claim: Claim, *, lease: float, copied: int = 0, bytes: int = 0) -> bool:
        """Keep the lease, and tell how far this attempt is. False: it is lost, stop at once."""

    async def finish(self, claim: Claim, counts: Counts, report: str = "") -> bool:
        """The copy is complete; its password is forgotten. False, here and below: the job is another's now."""

    async def postpone(self, claim: Claim, delay: float, reason: str, counts: Counts = ..., report: str = "") -> bool:
        """Temporary trouble: again in `delay` seconds."""

    async def wait_for_login(self, claim: Claim, reason: str) -> bool:
        """The old server refuses the password: the next right login lets the job go on."""

    async def hold(self, claim: Claim, reason: str, counts: Counts = ..., report: str = "") -> bool:
        """Goes wrong every time: a person must look."""

    async def fail(self, claim: Claim, delay: float, reason: str) -> bool:
        """A bug of ours: again in `delay` seconds, held after BUGS_LIMIT."""

    async def release(self, claim: Claim, *, delay: float = 0.0) -> bool:
        """Let go without an outcome: the worker stops, or it is not the job's fault."""

    async def take_back(self, worker: Worker, alive: Callable[[str], bool]) -> int:
        """Free the leases of other processes of this host that are not `alive`; how many."""

    async def retry(self, accounts: Sequence[str] | None = None) -> int:
        """Run held, waiting and postponed jobs again now: those of `accounts`, or all. How many."""

    async def hold_accounts(self, accounts: Sequence[str], reason: str) -> int:
        """Hold what is not done, taking it from its worker if it runs. How many."""

    async def move(self, accounts: Sequence[str] | None, source_of: Callable[[str], str | None]) -> int:
        """Point copies that are not done to the old server that `source_of(domain)` names now. How many.

        Those that run stay, and those of an account that has a copy from that server already.
        """

    async def identify(self, claim: Claim, identity: InboxIdentity) -> Job | None:
        """Note which source INBOX this job reads; another account's job that reads the same one, if there is one."""

    async def jobs(self, phase: Phase | None = None, limit: int = 1_000_000) -> list[Job]:
        """The jobs, oldest first."""

    async def outlook(self) -> Outlook:
        """How many jobs stand where."""


_COLUMNS: Final = (
    "id, account, domain, source, phase, created_at, not_before, attempts, bugs, losses, lease_until, lease_worker,"
    " started_at, finished_at, seconds, reason, copied + live_copied, bytes + live_bytes, already, refused,"
    " unexplained, report, passes"
)
_OURS: Final = " WHERE id = ? AND fence = ? AND lease_until > 0"  # only the holder's word counts
_RENEW: Final = (
    f"UPDATE jobs SET lease_until = ?, live_copied = ?, live_bytes = ?, losses = 0{_OURS} AND lease_until > ?"  # noqa: S608 - constants
)
_IDENTIFY: Final = f"UPDATE jobs SET identity = ?{_OURS}"  # noqa: S608 - constants
_END: Final = (
    "lease_until = 0, lease_worker = '', lease_host = '', lease_process = '', live_copied = 0, live_bytes = 0,"
    " seconds = seconds + max(0, ? - leased_at)"
)
_COUNTS: Final = (
    "copied = copied + ?, bytes = bytes + ?, already = ?, refused = ?, unexplained = ?,"
    " report = CASE WHEN ? <> '' THEN ? ELSE report END"
)
_NOTHING: Final = Counts()


class LedgerQueue:
    """The Queue in the ledger's own table. `keep_done` keeps the sealed passwords of finished copies.

    With a `watch`, which who claims should have, leases and waits survive a wall clock that is set.
    """

    def __init__(
        self,
        store: Store,
        *,
        keep_done: bool = False,
        clock: Callable[[], float] = time.time,
        watch: ClockWatch | None = None,
    ) -> None:
        self._store = store
        self._keep_done = keep_done
        self._clock = clock
        self._watch = watch

    async def add(self, account: str, domain: str, source: str) -> int:
        now = self._clock()
        return await self._store.write(lambda c: add_job(c, account.lower(), domain.lower(), source, now=now)[0])

    async def tidy(self) -> None:
        await self._store.tidy()

    async def claim(self, worker: Worker, *, lease: float, limits: Limits) -> Claim | None:
        await self._mend()
        now = self._clock()
        if not await self._store.read(lambda c: _next(c, now, limits)):
            return None  # an idle worker does not take the write lock
        return await self._store.write(lambda c: _claim(c, worker, now, lease, limits))

    async def renew(self, claim: Claim, *, lease: float, copied: int = 0, bytes: int = 0) -> bool:
        now = self._clock()
        values = (now + lease, copied, bytes, claim.job.id, claim.fence, now)
        return await self._store.write(lambda c: c.execute(_RENEW, values).rowcount == 1)

    async def finish(self, claim: Claim, counts: Counts, report: str = "") -> bool:
        now = self._clock()

        def work(connection: sqlite3.Connection) -> bool:
            change = "phase = 'done', finished_at = ?, reason = '', bugs = 0, passes = passes + 1"
            done = _end(connection, claim, now, change, (now,), counts=counts, report=report)
            if done:
                wipe(connection, [claim.job.account], now, keep_done=self._keep_done)
            return done

        return await self._store.write(work)

    async def postpone(
        self, claim: Claim, delay: float, reason: str, counts: Counts = _NOTHING, report: str = ""
    ) -> bool:
        now = self._clock()
        change = "not_before = ?, reason = ?, attempts = attempts + 1"
        return await self._store.write(
            lambda c: _end(c, claim, now, change, (now + delay, reason), counts=counts, report=report)
        )

    async def wait_for_login(self, claim: Claim, reason: str) -> bool:
        now = self._clock()
        return await self._store.write(lambda c: _end(c, claim, now, "phase = 'waiting', reason = ?", (reason,)))

    async def hold(self, claim: Claim, reason: str, counts: Counts = _NOTHING, report: str = "") -> bool:
        now = self._clock()
        change = "phase = 'held', reason = ?"
        return await self._store.write(lambda c: _end(c, claim, now, change, (reason,), counts=counts, report=report))

    async def fail(self, claim: Claim, delay: float, reason: str) -> bool:
        now = self._clock()
        change = (
            "bugs = bugs + 1, attempts = attempts + 1, not_before = ?, reason = ?,"
            " phase = CASE WHEN bugs + 1 >= ? THEN 'held' ELSE phase END"
        )
        return await self._store.write(lambda c: _end(c, claim, now, change, (now + delay, reason, BUGS_LIMIT)))

    async def release(self, claim: Claim, *, delay: float = 0.0) -> bool:
        now = self._clock()
        not_before = now + delay if delay else 0.0
        return await self._store.write(lambda c: _end(c, claim, now, "not_before = ?", (not_before,)))

    async def take_back(self, worker: Worker, alive: Callable[[str], bool]) -> int:
        await self._mend()
        now = self._clock()

        def holders(connection: sqlite3.Connection) -> list[str]:
            rows = connection.execute(
                "SELECT DISTINCT lease_process FROM jobs WHERE lease_until > ? AND lease_until > 0 AND lease_host = ?",
                (now, worker.host),
            )
            return [row[0] for row in rows]

        held = await self._store.read(holders)
        dead = [process for process in held if process != worker.process and not alive(process)]
        if not dead:
            return 0

        def free(connection: sqlite3.Connection) -> int:
            # the end of the lease is moved to now, so that the next claim sees that a worker died with the job
            return sum(
                connection.execute(
                    "UPDATE jobs SET lease_until = ?1"
                    " WHERE lease_until > ?1 AND lease_until > 0 AND lease_host = ?2 AND lease_process = ?3",
                    (now, worker.host, process),
                ).rowcount
                for process in dead
            )

        return await self._store.write(free)

    async def retry(self, accounts: Sequence[str] | None = None) -> int:
        change = "phase = 'pending', not_before = 0, attempts = 0, bugs = 0, losses = 0, reason = ''"
        which = "(phase IN ('held', 'waiting') OR (phase = 'pending' AND not_before > 0 AND lease_until = 0))"
        return await self._steer(change, (), which, accounts)

    async def hold_accounts(self, accounts: Sequence[str], reason: str) -> int:
        # what a running attempt has told so far counts: such a copy may not go on by another protocol
        change = (
            "phase = 'held', reason = ?, fence = fence + 1, lease_until = 0, lease_worker = '',"
            " copied = copied + live_copied, bytes = bytes + live_bytes, live_copied = 0, live_bytes = 0"
        )
        return await self._steer(change, (reason,), "phase <> 'done'", accounts)

    async def move(self, accounts: Sequence[str] | None, source_of: Callable[[str], str | None]) -> int:
        wanted = None if accounts is None else {account.lower() for account in accounts}

        def work(connection: sqlite3.Connection) -> int:
            rows = connection.execute(
                "SELECT id, account, domain, server FROM jobs WHERE phase <> 'done' AND lease_until = 0"
            ).fetchall()
            return sum(
                _move(connection, job_id, account, server, source)
                for job_id, account, domain, server in rows
                if (wanted is None or account in wanted) and (source := source_of(domain))
            )

        return await self._store.write(work)

    async def jobs(self, phase: Phase | None = None, limit: int = 1_000_000) -> list[Job]:
        now = self._clock()
        where = "WHERE phase = ?1" if phase else "WHERE ?1 IS NULL"

        def work(connection: sqlite3.Connection) -> list[Job]:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM jobs {where} ORDER BY id LIMIT ?2",  # noqa: S608 - constants of this module
                (phase.value if phase else None, limit),
            )
            return [_job(row, now) for row in rows]

        return await self._store.read(work)

    async def outlook(self) -> Outlook:
        now = self._clock()
        return await self._store.read(lambda c: _outlook(c, now))

    async def identify(self, claim: Claim, identity: InboxIdentity) -> Job | None:
        """Note which source INBOX this job reads; the other job that reads the same one, if there is one.

        Two accounts whose mail is one mailbox at the old server (an alias, a second login) must not both get it.
        """
        now = self._clock()
        if not identity.oldest:
            return None  # an empty INBOX is like any other

        def work(connection: sqlite3.Connection) -> Job | None:
            rows = connection.execute(
                f"SELECT {_COLUMNS}, identity FROM jobs WHERE identity >= ? AND identity < ? AND account <> ?",  # noqa: S608 - a constant
                (f"{identity.uidvalidity}\t", f"{identity.uidvalidity}\n", claim.job.account),
            )
            for row in rows:
                if InboxIdentity.parse(row[-1]).same_as(identity):
                    return _job(row, now)
            connection.execute(_IDENTIFY, (str(identity), claim.job.id, claim.fence))
            return None

        return await self._store.write(work)

    async def _mend(self) -> None:
        if self._watch is not None and self._watch.was_set():
            now = self._clock()
            await self._store.write(lambda connection: mend_times(connection, now))

    async def _steer(self, change: str, values: tuple[Any, ...], which: str, accounts: Sequence[str] | None) -> int:
        def work(connection: sqlite3.Connection) -> int:
            statement = f"UPDATE jobs SET {change} WHERE {which}"  # noqa: S608 - constants of this module
            if accounts is None:
                return connection.execute(statement, values).rowcount
            return sum(
                connection.execute(statement + " AND account = ?", (*values, account.lower())).rowcount
                for account in accounts
            )

        return await self._store.write(work)


def _end(
    connection: sqlite3.Connection,
    claim: Claim,
    now: float,
    change: str,
    values: tuple[Any, ...] = (),
    *,
    counts: Counts = _NOTHING,
    report: str = "",
) -> bool:
    """Give the job back with `change`, if it is still ours. An attempt without a count keeps what renewals told."""
    lived = "copied = copied + live_copied, bytes = bytes + live_bytes"
    told: tuple[Any, ...] = ()
    if counts != _NOTHING or report:
        lived = _COUNTS
        told = (counts.copied, counts.bytes, counts.already, counts.refused, counts.unexplained, report, report)
    return (
        connection.execute(
            f"UPDATE jobs SET {change}, {lived}, {_END}{_OURS}",  # noqa: S608 - constants of this module
            (*values, *told, now, claim.job.id, claim.fence),
        ).rowcount
        == 1
    )


def _move(connection: sqlite3.Connection, job_id: int, account: str, server: str, source: str) -> bool:
    """Point one job and its login to `source`; False when it is there, or another copy of the account is."""
    new = server_of(source)
    if new == server:
        return False
    moved = connection.execute(
        "UPDATE OR IGNORE jobs SET source = ?, server = ?, identity = NULL WHERE id = ?", (source, new, job_id)
    ).rowcount
    if moved:
        connection.execute(
            "UPDATE OR IGNORE logins SET source = ?, server = ? WHERE account = ? AND server = ?",
            (source, new, account, server),
        )
    return bool(moved)


# Here and in `logins`, `lease_until > 0` and a `+` before a column tell SQLite which index to take: it keeps no
# statistics, and a parameter does not prove that a partial index applies. A test counts the steps.


def _next(connection: sqlite3.Connection, now: float, limits: Limits) -> int | None:
    """The job to run next: from the least busy old server that has room, the one that is due longest."""
    best: tuple[int, float, int] | None = None
    server = ""
    while True:  # one step of an index for each server, however many jobs it has
        row = connection.execute(
            "SELECT server FROM jobs WHERE phase = 'pending' AND server > ? ORDER BY server LIMIT 1", (server,)
        ).fetchone()
        if row is None:
            return best[2] if best else None
        server = row[0]
        running: int = connection.execute(
            "SELECT count(*) FROM jobs WHERE server = ? AND lease_until > ? AND lease_until > 0", (server, now)
        ).fetchone()[0]
        if running >= limits(server):
            continue
        found = connection.execute(
            "SELECT not_before, id FROM jobs AS job"
            " WHERE phase = 'pending' AND server = ?1 AND not_before <= ?2 AND lease_until <= ?2"
            " AND NOT EXISTS"
            " (SELECT 1 FROM jobs AS other WHERE other.account = job.account AND +other.lease_until > ?2)"
            " ORDER BY not_before, id LIMIT 1",
            (server, now),
        ).fetchone()
        if found and (best is None or (running, *found) < best):
            best = (running, *found)


def _claim(connection: sqlite3.Connection, worker: Worker, now: float, lease: float, limits: Limits) -> Claim | None:
    while (job_id := _next(connection, now, limits)) is not None:
        if not _lost_too_often(connection, job_id, now):
            break
    else:
        return None
    row = connection.execute(
        "UPDATE jobs SET fence = fence + 1, lease_until = ?2, leased_at = ?3, lease_worker = ?4, lease_host = ?5,"  # noqa: S608 - constants
        " lease_process = ?6, started_at = coalesce(started_at, ?3), copied = copied + live_copied,"
        " bytes = bytes + live_bytes, live_copied = 0, live_bytes = 0"
        f" WHERE id = ?1 RETURNING {_COLUMNS}, fence",
        (job_id, now + lease, now, worker.name, worker.host, worker.process),
    ).fetchone()
    return Claim(_job(row, now), worker, row[-1])


def _lost_too_often(connection: sqlite3.Connection, job_id: int, now: float) -> bool:
    """Count a worker that died with this job. One that keeps killing its workers is given a pause."""
    row = connection.execute(
        "UPDATE jobs SET losses = losses + 1, lease_until = 0 WHERE id = ? AND lease_until > 0 RETURNING losses",
        (job_id,),
    ).fetchone()
    if row is None or row[0] <= _LOSSES_FORGIVEN:
        return False
    pause = min(2.0 ** (row[0] - _LOSSES_FORGIVEN), _LOSS_PAUSE)
    connection.execute(
        "UPDATE jobs SET not_before = ?, reason = ? WHERE id = ?",
        (now + pause, f"{row[0]} workers died while they ran this copy", job_id),
    )
    return True


def _outlook(connection: sqlite3.Connection, now: float) -> Outlook:
    row = connection.execute(
        "SELECT total(lease_until > ?1), total(phase = 'pending' AND lease_until <= ?1 AND attempts = 0),"
        " total(phase = 'pending' AND lease_until <= ?1 AND attempts > 0), total(phase = 'waiting'),"
        " total(phase = 'held'), total(phase = 'done'),"
        " total(phase = 'done' AND refused + unexplained > 0),"
        " min(not_before) FILTER (WHERE phase = 'pending' AND lease_until <= ?1 AND attempts = 0) FROM jobs",
        (now,),
    ).fetchone()
    running, fresh, postponed, waiting, held, done, flawed = (int(number) for number in row[:7])
    return Outlook(running, fresh, postponed, waiting, held, done, flawed, row[7])


def _job(row: tuple[Any, ...], now: float) -> Job:
    return Job(
        id=row[0],
        account=row[1],
        domain=row[2],
        source=row[3],
        phase=Phase(row[4]),
        created_at=row[5],
        not_before=row[6],
        attempts=row[7],
        bugs=row[8],
        losses=row[9],
        running=row[10] > now,
        worker=row[11] if row[10] > now else "",
        started_at=row[12],
        finished_at=row[13],
        seconds=row[14],
        reason=row[15],
        counts=Counts(*row[16:21]),
        report=row[21],
        passes=row[22],
    )
