"""The conformance suite of Queue: every implementation passes all of it. `implementations` lists them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from migrator.ledger.jobs import BUGS_LIMIT, LedgerQueue, Queue
from migrator.ledger.store import Store
from migrator.model import Claim, Counts, Job, Outlook, Phase, Worker
from migrator.report import InboxIdentity

ONE, TWO = Worker("one", "here", "11.1"), Worker("two", "here", "22.2")
FAR = Worker("far", "there", "11.1")
OLD = "imap://old.example.com:143"
COUNTS = Counts(copied=7, bytes=700, already=1, refused=2, unexplained=0)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["ledger"])
async def queue(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Queue]:
    store = Store(tmp_path / "state.db")
    yield LedgerQueue(store, clock=clock)
    await store.close()


async def claim(queue: Queue, worker: Worker = ONE, limit: int = 100, lease: float = 60) -> Claim | None:
    return await queue.claim(worker, lease=lease, limits=lambda _server: limit)


async def claimed(queue: Queue, worker: Worker = ONE, limit: int = 100) -> Claim:
    found = await claim(queue, worker, limit)
    assert found is not None
    return found


async def add(queue: Queue, *names: str, source: str = OLD) -> None:
    for name in names:
        await queue.add(f"{name}@example.com", "example.com", source)


async def only(queue: Queue) -> Job:
    (job,) = await queue.jobs()
    return job


async def test_an_empty_queue_has_nothing(queue: Queue) -> None:
    assert await claim(queue) is None
    assert await queue.jobs() == []
    assert await queue.outlook() == Outlook()


async def test_adding_twice_is_adding_once(queue: Queue) -> None:
    first = await queue.add("a@example.com", "example.com", OLD)
    assert await queue.add("A@example.com", "Example.com", OLD) == first
    assert len(await queue.jobs()) == 1


async def test_another_port_of_the_old_server_is_no_other_copy(queue: Queue) -> None:
    first = await queue.add("a@example.com", "example.com", OLD)
    assert await queue.add("a@example.com", "example.com", "imaps://Old.Example.com:993") == first
    assert (await only(queue)).source == "imaps://Old.Example.com:993"
    assert (await only(queue)).phase is Phase.PENDING


async def test_a_copy_that_has_begun_keeps_its_endpoint(queue: Queue) -> None:
    await add(queue, "a")
    await queue.postpone(await claimed(queue), 10, "busy", COUNTS)
    await add(queue, "a", source="imaps://old.example.com:993")
    job = await only(queue)
    assert (job.source, job.attempts, job.reason) == (OLD, 1, "busy")


async def test_copies_move_with_the_old_server(queue: Queue) -> None:
    await add(queue, "a", "b", "c", "d")
    new = "imaps://new-name.example.com:993"
    await queue.finish(await claimed(queue), COUNTS)
    running = await claimed(queue)
    await add(queue, "c", source=new)
    assert await queue.move(None, lambda _domain: new) == 1
    assert await queue.move(["d@example.com"], lambda _domain: new) == 0
    assert [(job.account[0], job.source == new) for job in await queue.jobs()] == [
        ("a", False),
        ("b", False),
        ("c", False),
        ("d", True),
        ("c", True),
    ]
    assert await queue.finish(running, COUNTS)


async def test_the_oldest_job_comes_first_and_each_only_once(queue: Queue) -> None:
    await add(queue, "a", "b", "c")
    names = [(await claimed(queue)).job.account[0] for _ in range(3)]
    assert names == ["a", "b", "c"]
    assert await claim(queue) is None


async def test_many_workers_at_once_never_get_the_same_job(queue: Queue) -> None:
    await add(queue, *(f"u{n}" for n in range(40)))
    claims = await asyncio.gather(*(claim(queue, Worker(str(n), "here", f"{n}.0")) for n in range(60)))
    accounts = [found.job.account for found in claims if found]
    assert len(accounts) == len(set(accounts)) == 40


async def test_a_claimed_job_says_who_runs_it(queue: Queue) -> None:
    await add(queue, "a")
    found = await claimed(queue)
    job = await only(queue)
    assert job.running
    assert job.worker == "one"
    assert found.job.running
    assert (await queue.outlook()).running == 1


async def test_a_finished_job_is_done_for_ever(queue: Queue, clock: Clock) -> None:
    await add(queue, "a")
    found = await claimed(queue)
    clock.now += 5
    assert await queue.finish(found, COUNTS, '{"x":1}')
    job = await only(queue)
    assert (job.phase, job.running, job.counts, job.report, job.seconds) == (Phase.DONE, False, COUNTS, '{"x":1}', 5)
    clock.now += 1e6
    assert await claim(queue) is None
    assert not await queue.finish(found, COUNTS)
    await add(queue, "a")
    assert (await only(queue)).phase is Phase.DONE


async def test_a_lease_runs_out_and_the_next_worker_takes_over(queue: Queue, clock: Clock) -> None:
    await add(queue, "a")
    first = await claimed(queue, FAR)
    clock.now += 59
    assert await claim(queue, TWO) is None
    clock.now += 1
    second = await claimed(queue, TWO)
    assert second.job.account == first.job.account
    assert second.fence > first.fence


async def test_a_worker_that_lost_its_lease_can_do_nothing_with_the_job(queue: Queue, clock: Clock) -> None:
    await add(queue, "a")
    lost = await claimed(queue)
    clock.now += 61
    second = await claimed(queue, TWO)
    assert not await queue.renew(lost, lease=60)
    assert not await queue.finish(lost, COUNTS)
    assert not await queue.postpone(lost, 1, "x")
    assert not await queue.hold(lost, "x")
    assert not await queue.wait_for_login(lost, "x")
    assert not await queue.fail(lost, 1, "x")
    assert not await queue.release(lost)
    job = await only(queue)
    assert (job.phase, job.worker, job.reason, job.counts) == (Phase.PENDING, "two", "", Counts())
    assert await queue.finish(second, COUNTS)


async def test_a_lease_that_ran_out_cannot_be_renewed_but_the_work_counts_if_nobody_took_it(
    queue: Queue, clock: Clock
) -> None:
    await add(queue, "a")
    found = await claimed(queue)
    clock.now += 61
    assert not await queue.renew(found, lease=60)
    assert await queue.finish(found, COUNTS)


async def test_renewing_keeps_the_job_and_tells_the_progress(queue: Queue, clock: Clock) -> None:
    await add(queue, "a")
    found = await claimed(queue)
    for n in range(1, 11):
        clock.now += 50
        assert await queue.renew(found, lease=60, copied=n, bytes=n * 100)
        assert await claim(queue, TWO) is None
    job = await only(queue)
    assert (job.counts.copied, job.counts.bytes) == (10, 1000)
    assert await queue.finish(found, Counts(copied=12, bytes=1200))
    assert (await only(queue)).counts == Counts(copied=12, bytes=1200)


async def test_what_a_dead_worker_copied_is_still_counted(queue: Queue, clock: Clock) -> None:
    await add(queue, "a")
    dead = await claimed(queue)
    await queue.renew(dead, lease=60, copied=5, bytes=50)
    clock.now += 61
    second = await claimed(queue, TWO)
    await queue.finish(second, Counts(copied=3, bytes=30, already=5))
    assert (await only(queue)).counts == Counts(copied=8, bytes=80, already=5)


async def test_a_restarted_worker_takes_its_own_leases_back_at_once(queue: Queue) -> None:
    await add(queue, "a", "b", "c")
    await claimed(queue, Worker("one", "here", "dead.1"))
    await claimed(queue, TWO)
    await claimed(queue, Worker("far", "there", "dead.1"))
    assert await queue.take_back(ONE, lambda process: not process.startswith("dead")) == 1
    assert (await claimed(queue)).job.account == "a@example.com"
    assert await claim(queue) is None


async def test_nothing_is_taken_back_from_the_living(queue: Queue) -> None:
    await add(queue, "a")
    found = await claimed(queue)
    assert await queue.take_back(TWO, lambda _process: True) == 0
    assert await queue.renew(found, lease=60)


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_at_most_so_many_copies_from_one_old_server(queue: Queue, limit: int) -> None:
    await add(queue, *(f"u{n}" for n in range(10)))
    claims = await asyncio.gather(*(claim(queue, Worker(str(n), "here", f"{n}.0"), limit) for n in range(10)))
    running = [found for found in claims if found]
    assert len(running) == limit
    assert await claim(queue, limit=limit) is None
    await queue.finish(running[0], COUNTS)
    assert await claim(queue, limit=limit) is not None
    assert await claim(queue, limit=limit) is None


async def test_the_limit_is_of_the_host_not_of_the_port(queue: Queue) -> None:
    await add(queue, "a", source="imap://old.example.com:143")
    await add(queue, "b", source="pop3s://OLD.example.com:995")
    assert await claim(queue, limit=1) is not None
    assert await claim(queue, limit=1) is None


async def test_a_busy_old_server_does_not_keep_others_from_their_turn(queue: Queue) -> None:
    await add(queue, *(f"u{n}" for n in range(20)))
    await add(queue, "z", source="imap://other.example.com:143")
    limits = {"old.example.com": 1}
    first = await queue.claim(ONE, lease=60, limits=lambda server: limits.get(server, 9))
    second = await queue.claim(ONE, lease=60, limits=lambda server: limits.get(server, 9))
    assert first is not None
    assert second is not None
    assert {first.job.account, second.job.account} == {"u0@example.com", "z@example.com"}


async def test_a_server_without_room_at_all_is_left_alone(queue: Queue) -> None:
    await add(queue, "a")
    assert await claim(queue, limit=0) is None


async def test_a_postponed_job_does_not_block_those_after_it(queue: Queue, clock: Clock) -> None:
    await add(queue, "a", "b")
    assert await queue.postpone(await claimed(queue), 50, "busy")
    assert (await claimed(queue)).job.account == "b@example.com"
    assert await claim(queue) is None
    outlook = await queue.outlook()
    assert (outlook.running, outlook.postponed) == (1, 1)
    clock.now += 50
    again = await claimed(queue)
    assert (again.job.account, again.job.attempts, again.job.reason) == ("a@example.com", 1, "busy")


async def test_two_copies_of_one_account_never_run_at_once(queue: Queue) -> None:
    await add(queue, "a")
    await add(queue, "a", source="imap://other.example.com:143")
    first = await claimed(queue)
    assert await claim(queue, TWO) is None
    await queue.finish(first, COUNTS)
    assert (await claimed(queue, TWO)).job.account == "a@example.com"


async def test_attempts_add_up(queue: Queue, clock: Clock) -> None:
    await add(queue, "a")
    for _ in range(3):
        found = await claimed(queue)
        clock.now += 10
        await queue.postpone(found, 0, "lost connection", Counts(copied=4, bytes=40, already=8), '{"n":1}')
    job = await only(queue)
    assert (job.attempts, job.counts.copied, job.counts.already, job.seconds) == (3, 12, 8, 30)
    assert job.report == '{"n":1}'


async def test_a_refused_password_waits_for_the_next_login(queue: Queue, clock: Clock) -> None:
    await add(queue, "a")
    assert await queue.wait_for_login(await claimed(queue), "AUTHENTICATIONFAILED")
    clock.now += 1e6
    assert await claim(queue) is None
    assert [job.reason for job in await queue.jobs(Phase.WAITING)] == ["AUTHENTICATIONFAILED"]
    await add(queue, "a")
    found = await claimed(queue)
    assert found.job.reason == ""


async def test_a_held_job_stays_held_until_someone_says_retry(queue: Queue, clock: Clock) -> None:
    await add(queue, "a")
    assert await queue.hold(await claimed(queue), "certificate", COUNTS)
    clock.now += 1e6
    await add(queue, "a")
    assert await claim(queue) is None
    assert [(job.reason, job.counts) for job in await queue.jobs(Phase.HELD)] == [("certificate", COUNTS)]
    assert await queue.retry(["A@example.com"]) == 1
    found = await claimed(queue)
    assert (found.job.phase, found.job.reason) == (Phase.PENDING, "")


async def test_a_bug_is_tried_again_and_held_after_a_few(queue: Queue, clock: Clock) -> None:
    await add(queue, "a")
    for n in range(BUGS_LIMIT):
        assert (await only(queue)).phase is Phase.PENDING
        found = await claimed(queue)
        assert found.job.bugs == n
        assert await queue.fail(found, 10, "KeyError")
        clock.now += 10
    assert (await only(queue)).phase is Phase.HELD
    assert await queue.retry() == 1
    assert (await only(queue)).bugs == 0


async def test_letting_go_costs_the_job_nothing(queue: Queue) -> None:
    await add(queue, "a")
    found = await claimed(queue)
    await queue.renew(found, lease=60, copied=3, bytes=30)
    assert await queue.release(found)
    job = await only(queue)
    assert (job.running, job.attempts, job.losses, job.counts.copied) == (False, 0, 0, 3)
    assert await claim(queue, TWO) is not None


async def test_a_job_that_kills_its_workers_gets_a_pause_but_is_never_given_up(queue: Queue, clock: Clock) -> None:
    await add(queue, "a")
    taken = 0
    for _ in range(12):
        if await claim(queue):
            taken += 1
        clock.now += 61
    assert taken > 8
    job = await only(queue)
    assert job.phase is Phase.PENDING
    assert job.losses > 0
    clock.now += 301
    assert await claim(queue) is not None


async def test_a_pause_after_many_losses_does_not_hide_the_other_jobs(queue: Queue, clock: Clock) -> None:
    await add(queue, "a")
    while await claim(queue):
        clock.now += 61
    await add(queue, "b")
    assert (await claimed(queue)).job.account == "b@example.com"


async def test_retry_brings_back_what_is_held_waiting_or_postponed_and_nothing_else(queue: Queue) -> None:
    await add(queue, "a", "b", "c", "d", "e")
    await queue.hold(await claimed(queue), "x")
    await queue.wait_for_login(await claimed(queue), "x")
    await queue.postpone(await claimed(queue), 1000, "x")
    await queue.finish(await claimed(queue), COUNTS)
    running = await claimed(queue)
    assert await queue.retry() == 3
    assert [(job.account[0], job.phase) for job in await queue.jobs()] == [
        ("a", Phase.PENDING),
        ("b", Phase.PENDING),
        ("c", Phase.PENDING),
        ("d", Phase.DONE),
        ("e", Phase.PENDING),
    ]
    assert await queue.renew(running, lease=60)
    assert await queue.retry(["nobody@example.com"]) == 0


async def test_an_operator_takes_a_running_job_away_from_its_worker(queue: Queue) -> None:
    await add(queue, "a", "b")
    found = await claimed(queue)
    assert await queue.hold_accounts(["a@example.com"], "not now") == 1
    assert not await queue.renew(found, lease=60)
    assert not await queue.finish(found, COUNTS)
    job = next(job for job in await queue.jobs() if job.account.startswith("a"))
    assert (job.phase, job.running, job.reason) == (Phase.HELD, False, "not now")


async def test_holding_a_running_job_keeps_what_it_has_told(queue: Queue) -> None:
    """What came by one protocol would come again by another: that something was copied must not be forgotten."""
    await add(queue, "a")
    found = await claimed(queue)
    assert await queue.renew(found, lease=60, copied=5, bytes=500)
    assert await queue.hold_accounts(["a@example.com"], "not now") == 1
    job = await only(queue)
    assert (job.counts.copied, job.counts.bytes) == (5, 500)


async def test_holding_leaves_what_is_done_alone(queue: Queue) -> None:
    await add(queue, "a")
    await queue.finish(await claimed(queue), COUNTS)
    assert await queue.hold_accounts(["a@example.com"], "x") == 0
    assert (await only(queue)).phase is Phase.DONE


MESSAGES = tuple(f"{n} {n * 1000} {n * 10}" for n in range(1, 17))


async def test_a_second_account_with_the_same_mailbox_is_found_out(queue: Queue) -> None:
    await add(queue, "a", "b")
    first, second = await claimed(queue), await claimed(queue)
    assert await queue.identify(first, InboxIdentity(7, MESSAGES)) is None
    assert await queue.identify(first, InboxIdentity(7, MESSAGES)) is None
    other = await queue.identify(second, InboxIdentity(7, MESSAGES[1:]))
    assert other is not None
    assert other.account == "a@example.com"


async def test_mailboxes_of_one_uidvalidity_are_not_the_same_for_that(queue: Queue) -> None:
    await add(queue, "a", "b", "c", "d")
    assert await queue.identify(await claimed(queue), InboxIdentity(1, MESSAGES)) is None
    assert await queue.identify(await claimed(queue), InboxIdentity(1, tuple(f"{n} 5 5" for n in range(9)))) is None
    assert await queue.identify(await claimed(queue), InboxIdentity(11, MESSAGES)) is None
    assert await queue.identify(await claimed(queue), InboxIdentity(1, ())) is None


async def test_two_old_servers_of_one_account_are_no_second_account(queue: Queue) -> None:
    await add(queue, "a")
    await add(queue, "a", source="imap://old-alias.example.com:143")
    first = await claimed(queue)
    assert await queue.identify(first, InboxIdentity(7, MESSAGES)) is None
    await queue.finish(first, COUNTS)
    assert await queue.identify(await claimed(queue), InboxIdentity(7, MESSAGES)) is None


async def test_an_account_finds_itself_neither_again_nor_in_the_way(queue: Queue, clock: Clock) -> None:
    await add(queue, "a")
    await queue.identify(await claimed(queue), InboxIdentity(7, MESSAGES))
    clock.now += 61
    assert await queue.identify(await claimed(queue, TWO), InboxIdentity(7, MESSAGES)) is None


async def test_outlook_tells_when_the_next_fresh_job_is_due(queue: Queue, clock: Clock) -> None:
    await add(queue, "a")
    await queue.release(await claimed(queue), delay=20)
    outlook = await queue.outlook()
    assert (outlook.fresh, outlook.soonest) == (1, clock.now + 20)
