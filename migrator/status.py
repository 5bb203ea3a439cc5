"""How the migration stands: accounts, copies, who has not come yet, and whether an old server can be retired."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from migrator.ledger.store import Store
from migrator.model import Adoption
from migrator.roster import Listed
from migrator.settings import DomainSettings

NAMES_SHOWN: Final = 1000  # accounts listed by name in each list; the numbers always count all
_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class OpenJob:
    """A copy that is not done, and why."""

    account: str
    source: str
    reason: str
    since: float
    attempts: int = 0
    next_try: float | None = None
    copied: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class OpenAccount:
    """An account that does not log in at CommuniGate by itself yet."""

    account: str
    adoption: str
    reason: str


@dataclass(frozen=True, slots=True)
class Suspect:
    """An account that mail was taken for since `since`, and whose user never came: perhaps an alias, a list, spam."""

    account: str
    since: float


@dataclass(slots=True)
class DomainStanding:
    """One domain. Its old server can be retired when somebody has come, and nobody and nothing is left there."""

    domain: str
    accounts: dict[str, int]
    jobs: dict[str, int]
    unheard: int = 0  # on the roster, but neither mail nor a login has come for them
    exports: int = 0
    roster_problem: str = ""  # why the roster cannot tell who is left

    @property
    def left(self) -> list[str]:
        """What still needs the old server, in words; empty when it can be retired."""
        waits = [
            (self.accounts.get("seen", 0), "accounts that have not logged in yet"),
            (self.accounts.get("adopting", 0), "accounts being taken over"),
            (self.accounts.get("refused", 0), "accounts that keep the old server's password"),
            (self.unheard, "addresses of the roster not heard of yet"),
            (sum(n for phase, n in self.jobs.items() if phase != "done"), "copies not done"),
            (self.exports, "passwords saved for an export"),
        ]
        left = [f"{words}: {count}" for count, words in waits if count]
        return [*left, f"the roster {self.roster_problem}"] if self.roster_problem else left

    @property
    def untouched(self) -> bool:
        """Whether nobody of this domain was ever heard of: then nothing tells who is left."""
        return not (self.left or sum(self.accounts.values()) or sum(self.jobs.values()))

    @property
    def can_retire(self) -> bool:
        """Whether its old server is not needed any more, as far as the ledger and the roster know."""
        return not (self.left or self.untouched)


@dataclass(slots=True)
class Status:
    """Numbers and names; times are seconds since the epoch."""

    at: float
    accounts: dict[str, int]
    jobs: dict[str, int]  # pending, running, postponed, waiting, held, done
    copied: int
    bytes: int
    seconds: float
    refused: int
    unexplained: int
    done_last_hour: int
    exports: int
    suspects: list[Suspect] = field(default_factory=list)
    suspect_count: int = 0
    graces: int = 0  # accounts whose newer passwords at the old server are still taken over
    unproven: int = 0  # accounts made where the old server accepts every address, whose user has not come
    oldest: OpenJob | None = None
    running: list[OpenJob] = field(default_factory=list)
    postponed: list[OpenJob] = field(default_factory=list)
    waiting: list[OpenJob] = field(default_factory=list)
    held: list[OpenJob] = field(default_factory=list)
    left: list[OpenAccount] = field(default_factory=list)
    domains: list[DomainStanding] = field(default_factory=list)

    @property
    def messages_per_second(self) -> float:
        """Of all copies so far, while they ran."""
        return self.copied / self.seconds if self.seconds else 0.0

    @property
    def bytes_per_second(self) -> float:
        """Of all copies so far, while they ran."""
        return self.bytes / self.seconds if self.seconds else 0.0

    @property
    def can_retire(self) -> bool:
        """Whether no domain needs its old server any more."""
        return any(domain.can_retire for domain in self.domains) and not any(domain.left for domain in self.domains)

    def as_json(self) -> dict[str, Any]:
        """Plain values for json.dumps."""
        value = asdict(self)
        value["domains"] = [
            {**asdict(domain), "left": domain.left, "can_retire": domain.can_retire} for domain in self.domains
        ]
        value["messages_per_second"] = round(self.messages_per_second, 3)
        value["bytes_per_second"] = round(self.bytes_per_second, 1)
        value["can_retire"] = self.can_retire
        return value


async def read_status(
    store: Store,
    domains: Mapping[str, DomainSettings] | None = None,
    *,
    names: int = NAMES_SHOWN,
    suspect_after: float = 30 * 86_400.0,
    clock: Callable[[], float] = time.time,
) -> Status:
    """The status from one snapshot of the ledger. `domains` is the configuration's, for what is on rosters."""
    now = clock()
    status = await store.read(lambda connection: _status(connection, domains or {}, names, now))
    status.suspects, status.suspect_count = await store.read(
        lambda connection: _suspects(connection, now - suspect_after, names)
    )
    return status


def _status(connection: sqlite3.Connection, domains: Mapping[str, DomainSettings], names: int, now: float) -> Status:
    accounts = {adoption.value: 0 for adoption in Adoption}
    accounts.update(connection.execute("SELECT adoption, count(*) FROM accounts GROUP BY adoption").fetchall())
    totals = connection.execute(
        "SELECT total(copied + live_copied), total(bytes + live_bytes),"
        " total(seconds + CASE WHEN lease_until > ?1 THEN max(0, ?1 - leased_at) ELSE 0 END),"
        " total(refused), total(unexplained), total(phase = 'done' AND finished_at > ?2) FROM jobs",
        (now, now - _HOUR),
    ).fetchone()
    jobs = {"pending": 0, "running": 0, "postponed": 0, "waiting": 0, "held": 0, "done": 0}
    jobs.update(
        connection.execute(f"SELECT {_STANDING} AS standing, count(*) FROM jobs GROUP BY standing", (now,)).fetchall()  # noqa: S608 - a constant
    )
    exports = connection.execute("SELECT count(*) FROM logins WHERE exporting AND sealed IS NOT NULL").fetchone()[0]
    oldest = _jobs(connection, "phase <> 'done' AND ?1 > 0", now, 1)
    return Status(
        at=now,
        accounts=accounts,
        jobs=jobs,
        copied=int(totals[0]),
        bytes=int(totals[1]),
        seconds=totals[2],
        refused=int(totals[3]),
        unexplained=int(totals[4]),
        done_last_hour=int(totals[5]),
        exports=exports,
        graces=connection.execute("SELECT count(*) FROM graces").fetchone()[0],
        unproven=connection.execute("SELECT count(*) FROM accounts WHERE unproven AND adoption = 'seen'").fetchone()[0],
        oldest=oldest[0] if oldest else None,
        running=_jobs(connection, "lease_until > ?1", now, names),
        postponed=_jobs(connection, "phase = 'pending' AND lease_until <= ?1 AND attempts > 0", now, names),
        waiting=_jobs(connection, "phase = 'waiting' AND ?1 > 0", now, names),
        held=_jobs(connection, "phase = 'held' AND ?1 > 0", now, names),
        left=_left(connection, names),
        domains=_domains(connection, domains),
    )


_STANDING: Final = (
    "CASE WHEN lease_until > ?1 THEN 'running' WHEN phase = 'pending' AND attempts > 0 THEN 'postponed' ELSE phase END"
)


def _jobs(connection: sqlite3.Connection, which: str, now: float, limit: int) -> list[OpenJob]:
    rows = connection.execute(
        "SELECT account, source, reason, created_at, attempts, not_before, copied + live_copied, bytes + live_bytes"  # noqa: S608 - constants of this module
        f" FROM jobs WHERE {which} ORDER BY id LIMIT ?2",
        (now, limit),
    )
    return [OpenJob(row[0], row[1], row[2], row[3], row[4], row[5] or None, row[6], row[7]) for row in rows]


def _suspects(connection: sqlite3.Connection, before: float, limit: int) -> tuple[list[Suspect], int]:
    where = "FROM accounts WHERE adoption = 'seen' AND verified_at IS NULL AND created_at < ?"
    count = connection.execute(f"SELECT count(*) {where}", (before,)).fetchone()[0]
    rows = connection.execute(f"SELECT account, created_at {where} ORDER BY created_at LIMIT ?", (before, limit))
    return [Suspect(*row) for row in rows], count


def _left(connection: sqlite3.Connection, limit: int) -> list[OpenAccount]:
    rows = connection.execute(
        "SELECT account, adoption, reason FROM accounts WHERE adoption <> 'adopted' ORDER BY account LIMIT ?", (limit,)
    )
    return [OpenAccount(*row) for row in rows]


def _domains(connection: sqlite3.Connection, settings: Mapping[str, DomainSettings]) -> list[DomainStanding]:
    found: dict[str, DomainStanding] = {name: DomainStanding(name, {}, {}) for name in settings if name != "default"}
    for domain, adoption, count in connection.execute(
        "SELECT domain, adoption, count(*) FROM accounts GROUP BY domain, adoption"
    ):
        found.setdefault(domain, DomainStanding(domain, {}, {})).accounts[adoption] = count
    for domain, phase, count in connection.execute("SELECT domain, phase, count(*) FROM jobs GROUP BY domain, phase"):
        found.setdefault(domain, DomainStanding(domain, {}, {})).jobs[phase] = count
    for domain, count in connection.execute(
        "SELECT domain, count(*) FROM logins JOIN accounts USING (account)"
        " WHERE exporting AND sealed IS NOT NULL GROUP BY domain"
    ):
        found.setdefault(domain, DomainStanding(domain, {}, {})).exports = count
    for settings_of in settings.values():
        listed = settings_of.roster.read() if settings_of.roster is not None else Listed()
        if listed.problem:
            name = settings_of.name
            found.setdefault(name, DomainStanding(name, {}, {})).roster_problem = listed.problem
        for address in listed.names:
            if connection.execute("SELECT 1 FROM accounts WHERE account = ?", (address,)).fetchone() is None:
                domain = address.rpartition("@")[2]
                found.setdefault(domain, DomainStanding(domain, {}, {})).unheard += 1
    return [found[name] for name in sorted(found)]
