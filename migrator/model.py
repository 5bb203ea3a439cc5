"""What the ledger remembers: accounts and how far they have moved, jobs and who runs them.

Values only: no clock, no SQL, no sockets.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any


class Adoption(Enum):
    """How far CommuniGate's own password has taken over from the old server's."""

    SEEN = "seen"  # NEW made the account; nobody has logged in yet
    ADOPTING = "adopting"  # a right password is sealed; CommuniGate has not confirmed it yet
    ADOPTED = "adopted"  # the account logs in by itself
    REFUSED = "refused"  # CommuniGate refuses this password; external authentication stays on


class Phase(Enum):
    """Where a copy stands. One that runs is PENDING with a lease."""

    PENDING = "pending"
    WAITING = "waiting"  # the old server refuses the saved password: the next login brings another
    HELD = "held"  # a person must look
    DONE = "done"


@dataclass(frozen=True, slots=True)
class VerifiedLogin:
    """A password the old server has just accepted, and what is to be done with it.

    `source` is the endpoint mail is copied from (`str(Endpoint)`), `login` the name there, `sealed` the
    password in a box for the worker (empty where nothing is owed that needs it). `after_login` is the
    configuration's word.
    """

    account: str
    domain: str
    source: str
    login: bytes
    sealed: bytes
    after_login: str = "copy"

    @property
    def wants_copy(self) -> bool:
        return "copy" in self.after_login.split("+")

    @property
    def wants_export(self) -> bool:
        return "export" in self.after_login.split("+")


@dataclass(frozen=True, slots=True)
class Submitted:
    """What the ledger made of a login: where adoption stood before, and the copy job if there is one."""

    adoption: Adoption
    job_id: int | None


@dataclass(frozen=True, slots=True)
class Counts:
    """Messages of one copy, as far as it came."""

    copied: int = 0
    bytes: int = 0
    already: int = 0
    refused: int = 0
    unexplained: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """One copy for one account from one old server."""

    id: int
    account: str
    domain: str
    source: str
    phase: Phase
    created_at: float
    not_before: float = 0.0
    attempts: int = 0
    bugs: int = 0
    losses: int = 0
    running: bool = False
    worker: str = ""
    started_at: float | None = None
    finished_at: float | None = None
    seconds: float = 0.0
    reason: str = ""
    counts: Counts = field(default_factory=Counts)
    report: str = ""  # of the last attempt that ended, JSON
    passes: int = 0  # copies that ran to their end: with one behind it, a job is a second pass

    def as_json(self) -> dict[str, Any]:
        """Plain values for json.dumps; the report stays the text it is."""
        return {**asdict(self), "phase": self.phase.value}


@dataclass(frozen=True, slots=True)
class Worker:
    """Who runs jobs. `process` names one process of `host` for ever: a pid alone is used again."""

    name: str
    host: str
    process: str


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run one job until the lease ends. Whoever claims it next gets a higher fence."""

    job: Job
    worker: Worker
    fence: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """How many jobs stand where. `soonest` is when the next unclaimed job is due, if it never ran into trouble."""

    running: int = 0
    fresh: int = 0  # pending, no trouble so far
    postponed: int = 0
    waiting: int = 0
    held: int = 0
    done: int = 0
    flawed: int = 0  # done, but with messages that were refused or are unexplained
    soonest: float | None = None


@dataclass(frozen=True, slots=True)
class StoredLogin:
    """What a copy or an adoption needs to log in at the old server; `sealed` is None once it was wiped."""

    account: str
    source: str
    login: bytes
    sealed: bytes | None
    adoption: Adoption
    attempts: int = 0  # adoptions that a worker has tried
