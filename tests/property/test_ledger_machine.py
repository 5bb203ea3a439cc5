"""A model of the ledger: logins, adoptions, copies and workers in any order, against a few dictionaries.

After every step: at most N copies run from an old server, no account is copied twice at once, no job is lost
or doubled, a job has one holder at most, and a password is kept exactly as long as somebody needs it.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from migrator.ledger.deltas import queue_deltas
from migrator.ledger.exports import Exports
from migrator.ledger.jobs import BUGS_LIMIT, LedgerQueue
from migrator.ledger.logins import ADOPTION_GRACE, Logins, server_of
from migrator.ledger.store import Store
from migrator.model import Adoption, Claim, Counts, Job, Phase, VerifiedLogin, Worker

LEASE = 60.0
LIMIT = 2
LOSSES_FORGIVEN = 8
ENDINGS = ["finish", "finish", "postpone", "wait", "hold", "fail", "release"]
SOURCES = ("imap://old:143", "pop3://OLD:110", "imap://other:143")
accounts = st.sampled_from([f"u{n}@example.com" for n in range(4)])
sources = st.sampled_from(SOURCES)


def key_of(job: Job) -> tuple[str, str]:
    """An account has one copy from one old server, whatever port or protocol leads there."""
    return job.account, server_of(job.source)


@dataclass
class ModelJob:
    """A job as it should be."""

    phase: Phase = Phase.PENDING
    not_before: float = 0.0
    attempts: int = 0
    bugs: int = 0
    fence: int = 0
    lease_until: float = 0.0
    losses: int = 0
    source: str = ""
    copied: bool = False
    passes: int = 0


@dataclass
class ModelLogin:
    """A login as it should be."""

    sealed: bytes | None
    verified_at: float
    exporting: bool = False
    purged: bool = False


@dataclass
class Model:
    """The ledger as it should be."""

    adoption: dict[str, Adoption] = field(default_factory=dict)
    logins: dict[tuple[str, str], ModelLogin] = field(default_factory=dict)
    jobs: dict[tuple[str, str], ModelJob] = field(default_factory=dict)

    def wipe(self, account: str) -> None:
        if self.adoption.get(account) is Adoption.ADOPTING:
            return
        for (name, source), login in self.logins.items():
            job = self.jobs.get((name, source))
            if name == account and not login.exporting and (job is None or job.phase is Phase.DONE):
                login.sealed = None

    def running(self, now: float) -> list[tuple[str, str]]:
        return [key for key, job in self.jobs.items() if job.lease_until > now]


class LedgerMachine(RuleBasedStateMachine):
    """Rules are what helper, workers and operators do."""

    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp()
        self.runner = asyncio.Runner()
        self.now = 1e6
        self.count = 0
        self.store = Store(Path(self.directory) / "state.db")
        self.logins = Logins(self.store, clock=lambda: self.now)
        self.queue = LedgerQueue(self.store, clock=lambda: self.now)
        self.exports = Exports(self.store, clock=lambda: self.now)
        self.model = Model()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.run(self.store.close())
        self.runner.close()
        shutil.rmtree(self.directory)

    # -- the helper ----------------------------------------------------------------------------------------------------

    @rule(account=accounts, source=sources, after=st.sampled_from(["copy", "copy", "export", "copy+export", "nothing"]))
    def login(self, account: str, source: str, after: str) -> None:
        self.count += 1
        sealed = b"box %d" % self.count
        self.run(self.logins.submit(VerifiedLogin(account, "example.com", source, b"login", sealed, after)))
        model, key = self.model, (account, server_of(source))
        adopted = model.adoption.get(account) is Adoption.ADOPTED
        if not adopted:
            model.adoption[account] = Adoption.ADOPTING
        fresh = False
        if "copy" in after:
            job = model.jobs.get(key)
            released = job is None or job.phase is Phase.WAITING
            # another way to the old server, before anything was copied: the login is taken over as well
            turned = job is not None and job.source != source and job.phase is not Phase.DONE and not job.copied
            fresh = released or turned
            job = model.jobs.setdefault(key, ModelJob())
            job.source = source if (released or turned) and not job.copied else job.source
            if released:
                job.phase, job.attempts = Phase.PENDING, 0
                job.not_before = 0.0 if adopted else self.now + ADOPTION_GRACE
        before = model.logins.get(key)
        wants_export = "export" in after
        new_export = wants_export and (before is None or not (before.exporting or before.purged))
        if not adopted or fresh or new_export:
            purged = before is not None and before.purged
            exporting = (before is not None and before.exporting) or (wants_export and not purged)
            model.logins[key] = ModelLogin(sealed, self.now, exporting, purged)

    @rule(account=accounts, source=sources)
    def login_adopted_at_once(self, account: str, source: str) -> None:
        """What nearly every first login is."""
        self.login(account, source, "copy")
        self.adoption_settled(account, refused=False)

    @rule()
    def everybody_logs_in(self) -> None:
        for n in range(4):
            self.login_adopted_at_once(f"u{n}@example.com", SOURCES[n % 2])

    @rule(account=accounts)
    def new(self, account: str) -> None:
        self.run(self.logins.seen(account, "example.com"))
        self.model.adoption.setdefault(account, Adoption.SEEN)

    @rule(account=accounts, refused=st.booleans())
    def adoption_settled(self, account: str, refused: bool) -> None:
        if account not in self.model.adoption:
            return
        self.run(self.logins.adoption_refused(account, "policy") if refused else self.logins.adopted(account))
        self.model.adoption[account] = Adoption.REFUSED if refused else Adoption.ADOPTED
        for (name, _), job in self.model.jobs.items():
            if name == account and job.phase is Phase.PENDING and job.attempts == 0 and job.lease_until == 0:
                job.not_before = 0.0
        self.model.wipe(account)

    @rule(account=accounts)
    def adoption_failed(self, account: str) -> None:
        if account in self.model.adoption:
            self.run(self.logins.adoption_failed(account, "CLI down"))
            self.model.adoption[account] = Adoption.ADOPTING

    # -- workers -------------------------------------------------------------------------------------------------------

    @rule(target=claims, name=st.sampled_from("abc"))
    def claim(self, name: str) -> Claim | None:
        found: Claim | None = self.run(
            self.queue.claim(Worker(name, "here", name), lease=LEASE, limits=lambda _server: LIMIT)
        )
        running = self.model.running(self.now)
        busy = {account for account, _ in running}

        def may_run(key: tuple[str, str], job: ModelJob) -> bool:
            room = sum(server == key[1] for _, server in running) < LIMIT
            due = job.phase is Phase.PENDING and job.not_before <= self.now and job.lease_until <= self.now
            return due and room and key[0] not in busy

        possible = [key for key, job in self.model.jobs.items() if may_run(key, job)]
        key = key_of(found.job) if found else None
        for candidate in [key for key in possible if self.model.jobs[key].losses >= LOSSES_FORGIVEN]:
            if candidate != key and self.was_given_a_pause(candidate):
                possible.remove(candidate)
        if found is None or key is None:
            assert not possible
            return None
        assert key in possible
        job = self.model.jobs[key]
        assert found.fence > job.fence
        job.losses += job.lease_until > 0
        job.fence, job.lease_until = found.fence, self.now + LEASE
        return found

    def was_given_a_pause(self, key: tuple[str, str]) -> bool:
        """Whether the claim just made has put off a job whose workers die; then the model follows."""
        job = self.model.jobs[key]
        (found,) = [found for found in self.run(self.queue.jobs()) if key_of(found) == key]
        if found.losses == job.losses:
            return False
        assert job.lease_until > 0
        assert found.not_before > self.now
        job.losses, job.lease_until, job.not_before = found.losses, 0.0, found.not_before
        return True

    def holder(self, claim: Claim | None) -> ModelJob | None:
        """The job of `claim` if it is still its holder's, expired or not."""
        if claim is None:
            return None
        job = self.model.jobs[key_of(claim.job)]
        return job if job.fence == claim.fence and job.lease_until > 0 else None

    @rule(ending=st.sampled_from(ENDINGS), name=st.sampled_from("abc"))
    def claim_and_end(self, ending: str, name: str) -> None:
        self.end(self.claim(name), ending)

    @rule(target=claims, name=st.sampled_from("abc"))
    def claim_all(self, name: str) -> MultipleResults[Claim | None]:
        found: list[Any] = []  # Claims, which hypothesis takes for the results of a rule
        while claim := self.claim(name):
            found.append(claim)
        return multiple(*found)

    @rule(claim=claims)
    def renew(self, claim: Claim | None) -> None:
        if claim is None:
            return
        job = self.holder(claim)
        kept = self.run(self.queue.renew(claim, lease=LEASE, copied=1, bytes=1))
        assert kept == (job is not None and job.lease_until > self.now)
        if kept and job is not None:
            job.lease_until, job.losses, job.copied = self.now + LEASE, 0, True

    @rule(claim=consumes(claims), ending=st.sampled_from(ENDINGS))
    def end(self, claim: Claim | None, ending: str) -> None:
        if claim is None:
            return
        queue, job = self.queue, self.holder(claim)
        works: dict[str, Coroutine[Any, Any, bool]] = {
            "finish": queue.finish(claim, Counts()),
            "postpone": queue.postpone(claim, 30, "later"),
            "wait": queue.wait_for_login(claim, "refused"),
            "hold": queue.hold(claim, "look"),
            "fail": queue.fail(claim, 30, "bug"),
            "release": queue.release(claim),
        }
        work = works.pop(ending)
        for other in works.values():
            other.close()
        assert self.run(work) == (job is not None)
        if job is None:
            return
        job.lease_until = 0.0
        if ending == "finish":
            job.phase, job.bugs, job.passes = Phase.DONE, 0, job.passes + 1
            self.model.wipe(claim.job.account)
        elif ending == "postpone":
            job.attempts, job.not_before = job.attempts + 1, self.now + 30
        elif ending == "wait":
            job.phase = Phase.WAITING
        elif ending == "hold":
            job.phase = Phase.HELD
        elif ending == "fail":
            job.attempts, job.bugs, job.not_before = job.attempts + 1, job.bugs + 1, self.now + 30
            job.phase = Phase.HELD if job.bugs >= BUGS_LIMIT else job.phase
        else:
            job.not_before = 0.0

    @rule(name=st.sampled_from("abc"))
    def worker_dies(self, name: str) -> None:
        """Its leases are free at once for the others of this machine."""
        held = self.run(self.queue.jobs())
        freed = self.run(self.queue.take_back(Worker("d", "here", "d"), lambda process: process != name))
        mine = [key_of(job) for job in held if job.running and job.worker == name]
        assert freed == len(mine)
        for key in mine:
            self.model.jobs[key].lease_until = self.now

    # -- people and time -----------------------------------------------------------------------------------------------

    @rule(account=st.one_of(st.none(), accounts))
    def retry(self, account: str | None) -> None:
        count = self.run(self.queue.retry(None if account is None else [account]))
        expected = 0
        for (name, _), job in self.model.jobs.items():
            stuck = job.phase in (Phase.HELD, Phase.WAITING) or (
                job.phase is Phase.PENDING and job.not_before > 0 and job.lease_until == 0
            )
            if account in (None, name) and stuck:
                expected += 1
                job.phase, job.not_before, job.attempts, job.bugs, job.losses = Phase.PENDING, 0.0, 0, 0, 0
        assert count == expected

    @rule(account=st.one_of(st.none(), accounts), administrator=st.booleans())
    def delta(self, account: str | None, administrator: bool) -> None:
        """Who is done runs once more where a login is left; who is not, is not queued twice."""
        found = self.run(
            queue_deltas(self.store, None if account is None else [account], opens=lambda _domain: administrator)
        )
        queued = []
        for (name, server), job in self.model.jobs.items():
            if account not in (None, name) or job.phase is not Phase.DONE:
                continue
            login = self.model.logins.get((name, server))
            if administrator or (login is not None and login.sealed is not None):
                queued.append(name)
                job.phase, job.not_before, job.attempts, job.bugs, job.losses = Phase.PENDING, 0.0, 0, 0, 0
        assert sorted(found.queued) == sorted(queued)

    @rule(account=accounts)
    def hold(self, account: str) -> None:
        self.run(self.queue.hold_accounts([account], "by hand"))
        for (name, _), job in self.model.jobs.items():
            if name == account and job.phase is not Phase.DONE:
                job.phase, job.fence, job.lease_until = Phase.HELD, job.fence + 1, 0.0

    @rule()
    def purge(self) -> None:
        self.run(self.exports.purge(self.run(self.exports.rows()), "root"))
        for (account, _), login in self.model.logins.items():
            if login.exporting:
                login.exporting, login.purged = False, True
                self.model.wipe(account)

    @rule(seconds=st.sampled_from([1.0, 25.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def everything_restarts(self) -> None:
        """A new process opens the same file."""
        self.run(self.store.close())
        self.store = Store(Path(self.directory) / "state.db")
        self.logins = Logins(self.store, clock=lambda: self.now)
        self.queue = LedgerQueue(self.store, clock=lambda: self.now)
        self.exports = Exports(self.store, clock=lambda: self.now)

    # -- what always holds ---------------------------------------------------------------------------------------------

    @invariant()
    def jobs_are_as_they_should_be(self) -> None:
        jobs = self.run(self.queue.jobs())
        assert {key_of(job): (job.phase, job.running, job.source, job.passes) for job in jobs} == {
            key: (job.phase, job.lease_until > self.now, job.source, job.passes) for key, job in self.model.jobs.items()
        }
        running = [job for job in jobs if job.running]
        assert len({job.account for job in running}) == len(running)
        for server in {server_of(source) for source in SOURCES}:
            assert sum(server_of(job.source) == server for job in running) <= LIMIT

    @invariant()
    def passwords_are_kept_exactly_as_long_as_needed(self) -> None:
        for (account, server), login in self.model.logins.items():
            found = self.run(self.logins.login_of(account, f"imap://{server}:143"))
            assert found is not None
            assert found.sealed == login.sealed
            assert found.adoption is self.model.adoption[account]
        rows = {(row.account, server_of(row.source)) for row in self.run(self.exports.rows())}
        assert rows == {key for key, login in self.model.logins.items() if login.exporting}


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(
    max_examples=40,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
