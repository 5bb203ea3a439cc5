"""The worker's own loop: how many copies at once, leases, bugs, stopping, a changed configuration."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

import pytest

from extauth.sandbox.world import DomainPlan
from migrator.config import load_settings
from migrator.ledger.jobs import LedgerQueue
from migrator.ledger.store import Store
from migrator.model import Phase
from migrator.report import CopyInterrupted, Report
from migrator.window import Window, WindowClosed
from migrator.worker import CopyWorker, limits_of, pause_before
from tests.unit.migrator.worker_world import ME, keep_log, scripted, world
from wire.outcome import Permanent, SetupTrouble, Temporary, Throttled


@pytest.fixture(autouse=True)
def log() -> list[dict[str, object]]:
    """What is logged, as dictionaries."""
    return keep_log()


@pytest.mark.parametrize(
    ("trouble", "phase"),
    [
        (Temporary("busy"), Phase.PENDING),
        (Permanent("never"), Phase.HELD),
        (SetupTrouble("certificate"), Phase.HELD),
    ],
)
async def test_trouble_is_sorted_by_kind(trouble: Exception, phase: Phase) -> None:
    async with world() as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user)
        scripted(ledger, lambda _n: trouble)
        await ledger.work()
        job = await ledger.job(user)
        assert (job.phase, job.reason) == (phase, str(trouble))


@pytest.mark.parametrize("midway", [False, True])
async def test_outside_its_window_a_copy_rests_until_the_window_opens(midway: bool) -> None:
    closed = WindowClosed(Window.parse("22:00-06:00"), 40_000.0)
    trouble = CopyInterrupted(closed, Report("old", "new")) if midway else closed
    async with world() as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user)
        scripted(ledger, lambda _n: trouble)
        before = time.time()
        await ledger.work()
        job = await ledger.job(user)
        assert job.phase is Phase.PENDING
        assert job.not_before >= before + 40_000, "longer than any pause after trouble"


@pytest.mark.parametrize("midway", [False, True])
async def test_a_server_is_left_alone_for_as_long_as_it_asks(midway: bool) -> None:
    throttled = Throttled("Request is throttled", pause=3000.0)
    trouble = CopyInterrupted(throttled, Report("old", "new")) if midway else throttled
    async with world() as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user)
        scripted(ledger, lambda _n: trouble)
        before = time.time()
        await ledger.work()
        job = await ledger.job(user)
        assert job.phase is Phase.PENDING
        assert job.not_before >= before + 3000


async def test_a_bug_holds_the_job_after_three_and_never_the_worker(log: list[dict[str, object]]) -> None:
    async with world(users=2) as (sandbox, ledger):
        first, second = sandbox.users
        await ledger.log_in(first)
        scripted(ledger, lambda _n: KeyError("no such thing"))
        for _ in range(3):
            await ledger.work()
            await ledger.store.write(lambda c: c.execute("UPDATE jobs SET not_before = 0") and None)
        job = await ledger.job(first)
        assert (job.phase, job.bugs) == (Phase.HELD, 3)
        assert "KeyError" in job.reason
        assert any(line["event"] == "bug" and line.get("exc_info") for line in log)
        scripted(ledger, lambda _n: None)
        await ledger.log_in(second)
        assert (await ledger.work()).done == 1


@pytest.mark.parametrize(("copies", "connections", "expected"), [(3, 100, 3), (5, 4, 2), (5, 1, 1)])
async def test_so_many_copies_at_once_as_the_worker_and_the_old_server_allow(
    copies: int, connections: int, expected: int
) -> None:
    plan = DomainPlan("one.test", settings={"max_connections": str(connections)})
    async with world(users=6, domains=[plan], settings={"worker": {"copies": str(copies)}}) as (sandbox, ledger):
        running = most = 0
        full, go_on = asyncio.Event(), asyncio.Event()

        async def copy() -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            if running == expected:
                full.set()
            await go_on.wait()
            running -= 1

        scripted(ledger, lambda _n: copy())
        for user in sandbox.users:
            await ledger.log_in(user)
        working = asyncio.create_task(ledger.work())
        await asyncio.wait_for(full.wait(), 20)
        for _ in range(20):  # round trips in which a worker that does not count would begin another
            await ledger.queue.outlook()
        go_on.set()
        assert (await asyncio.wait_for(working, 20)).done == 6
        assert most == expected


async def test_a_copy_that_cancels_itself_is_a_bug_and_no_stop() -> None:
    async with world() as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user)

        async def cancel() -> None:
            raise asyncio.CancelledError

        scripted(ledger, lambda _n: cancel())
        outlook = await asyncio.wait_for(ledger.work(), 20)
        job = await ledger.job(user)
        assert (outlook.postponed, job.bugs) == (1, 1)
        assert "cancelled from within" in job.reason


async def test_stopping_lets_go_of_everything_at_once() -> None:
    async with world(users=2) as (sandbox, ledger):
        forever = asyncio.Event()
        started = asyncio.Event()

        async def copy() -> None:
            started.set()
            await forever.wait()

        scripted(ledger, lambda _n: copy())
        for user in sandbox.users:
            await ledger.log_in(user)
        worker = ledger.worker()
        working = asyncio.create_task(worker.work())
        await asyncio.wait_for(started.wait(), 10)
        worker.stop()
        await asyncio.wait_for(working, 10)
        for user in sandbox.users:
            job = await ledger.job(user)
            assert (job.phase, job.running, job.attempts, job.losses) == (Phase.PENDING, False, 0, 0)


async def test_a_job_taken_away_by_an_operator_is_given_up() -> None:
    async with world() as (sandbox, ledger):
        (user,) = sandbox.users
        started, cancelled = asyncio.Event(), asyncio.Event()

        async def copy() -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

        scripted(ledger, lambda _n: copy())
        await ledger.log_in(user)
        worker = ledger.worker(lease=0.6)
        working = asyncio.create_task(worker.work())
        await asyncio.wait_for(started.wait(), 10)
        await ledger.queue.hold_accounts([user.address], "by hand")
        await asyncio.wait_for(cancelled.wait(), 10)
        worker.stop()
        await asyncio.wait_for(working, 10)
        job = await ledger.job(user)
        assert (job.phase, job.reason) == (Phase.HELD, "by hand")


async def test_a_long_copy_keeps_its_lease() -> None:
    async with world() as (sandbox, ledger):
        (user,) = sandbox.users
        ends = asyncio.Event()
        scripted(ledger, lambda _n: ends.wait())
        await ledger.log_in(user)
        working = asyncio.create_task(ledger.worker(lease=3.0).work(until_idle=True))
        seen: set[float] = set()
        while len(seen - {0.0}) < 3:  # the claim and two renewals
            seen.add(await ledger.store.read(lambda c: c.execute("SELECT lease_until FROM jobs").fetchone()[0]))
        ends.set()
        assert (await asyncio.wait_for(working, 20)).done == 1


async def test_an_outcome_that_cannot_be_written_is_found_out_again(log: list[dict[str, object]]) -> None:
    async with world() as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user)
        other = sqlite3.connect(ledger.settings.state.path, isolation_level=None)

        async def lock_once() -> None:
            if len(copier.calls) == 1:
                other.execute("BEGIN IMMEDIATE")

        copier = scripted(ledger, lambda _n: lock_once())
        store = Store(ledger.settings.state.path, lock_wait=0.05)
        worker = CopyWorker(ME, LedgerQueue(store), ledger.runner, lease=1.0, poll=0.02)
        working = asyncio.create_task(worker.work())
        while not any(line["event"] == "outcome not written" for line in log):
            await ledger.queue.outlook()
        other.execute("ROLLBACK")
        other.close()
        while not (await ledger.queue.outlook()).done:
            assert not working.done()
        worker.stop()
        await asyncio.wait_for(working, 10)
        await store.close()
        assert len(copier.calls) == 2


async def test_a_changed_configuration_is_used_for_the_next_copy(log: list[dict[str, object]]) -> None:
    async with world() as (sandbox, ledger):
        before = ledger.runner()
        assert ledger.runner() is before
        text = sandbox.config_path.read_text().replace("copies = 4", "copies = 7")
        sandbox.config_path.write_text(text)
        assert ledger.runner().settings.worker.copies == 7
        sandbox.config_path.write_text("nonsense")
        assert ledger.runner().settings.worker.copies == 7
        assert any(str(line["event"]).startswith("configuration unusable") for line in log)


async def test_a_ledger_that_cannot_be_used_ends_a_worker_that_was_to_end(tmp_path: Path) -> None:
    async with world() as (_sandbox, ledger):
        store = Store(tmp_path / "missing" / "state.db")
        worker = CopyWorker(ME, LedgerQueue(store), ledger.runner)
        with pytest.raises(Temporary):
            await worker.work(until_idle=True)
        await store.close()


def test_limits_are_half_of_the_smallest_number_for_a_host() -> None:
    text = """
        [communigate]
        password = "x"
        [state]
        public_key_file = "/dev/null"
        [domains."a.test"]
        imap = "imap://Old:143"
        max_connections = 10
        new = "refuse"
        [domains."b.test"]
        imap = "imap://old:1143"
        max_connections = 6
        new = "refuse"
        [domains."c.test"]
        pop = "other:110"
        max_connections = 1
        new = "refuse"
        [domains.default]
        imap = "imap://fallback:143"
        max_connections = 8
        new = "refuse"
    """

    def limits(path: Path) -> dict[str, int]:
        path.write_text(text)
        path.chmod(0o600)
        settings = load_settings(path, {})
        limit = limits_of(type("Runner", (), {"settings": settings})())
        return {name: limit(name) for name in ("old", "other", "fallback", "renamed since")}

    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        assert limits(Path(directory) / "c.toml") == {"old": 3, "other": 1, "fallback": 4, "renamed since": 4}


def test_pauses_grow_and_end_at_half_an_hour() -> None:
    pauses = [pause_before(n, 0.5) for n in range(12)]
    assert pauses[:4] == [10, 20, 40, 80]
    assert pauses[-1] == 1800
    assert pause_before(10**9, 1.0) <= 1800 * 1.2 + 1


async def test_a_password_is_nowhere_on_disk_when_its_copy_is_done() -> None:
    """Neither in the ledger nor in its log of changes, while the processes that have them open go on."""
    async with world() as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user, adopted=True)
        box = await ledger.sealed(user)
        assert box
        files = [ledger.store_path.with_name(ledger.store_path.name + ending) for ending in ("", "-wal")]
        assert any(box in file.read_bytes() for file in files)
        await ledger.work()
        assert ledger.arrived(user)
        assert not any(box[-32:] in file.read_bytes() for file in files)
