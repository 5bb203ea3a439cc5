"""The wall clock is set by a day or by ten years under the ledger: no copy begins twice, nothing waits for years."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from extauth.accept_all import AcceptAll, Place
from extauth.notices import Notices
from migrator.clock_watch import ClockWatch
from migrator.ledger.graces import Grace, Graces
from migrator.ledger.habits import Habits
from migrator.ledger.jobs import LedgerQueue
from migrator.ledger.logins import Logins
from migrator.ledger.probes import Probe, Probes
from migrator.ledger.store import Store
from migrator.model import Claim, VerifiedLogin, Worker
from tests.servers.asking import NOBODY

DAY, YEAR = 86_400.0, 365 * 86_400.0
JUMPS = [DAY, -DAY, 10 * YEAR, -10 * YEAR]
ONE, TWO, FAR = Worker("one", "here", "1.1"), Worker("two", "here", "2.2"), Worker("far", "there", "1.1")
SOURCE = "imap://old.example.com:143"


class Clocks:
    """A wall clock that is set, and a steady one."""

    def __init__(self) -> None:
        self.set_by = 1_000_000_000.0
        self.steady_now = 500.0

    def wall(self) -> float:
        return self.set_by + self.steady_now

    def steady(self) -> float:
        return self.steady_now

    def watch(self) -> ClockWatch:
        return ClockWatch(self.wall, self.steady)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "state.db")
    yield store
    await store.close()


def worker_queue(store: Store, clocks: Clocks) -> LedgerQueue:
    """As a process of its own has it."""
    return LedgerQueue(store, clock=clocks.wall, watch=clocks.watch())


async def claim(queue: LedgerQueue, worker: Worker = ONE) -> Claim | None:
    return await queue.claim(worker, lease=60, limits=lambda _server: 9)


def test_a_watch_sees_that_the_clock_was_set(clocks: Clocks) -> None:
    watch = clocks.watch()
    assert watch.was_set(), "nobody knows what was before the first look"
    assert not watch.in_doubt
    clocks.steady_now += YEAR
    assert not watch.was_set()
    clocks.set_by -= DAY
    assert watch.was_set()
    assert not watch.was_set()
    assert watch.in_doubt
    clocks.steady_now += 3601
    assert not watch.in_doubt


@pytest.mark.parametrize("jump", JUMPS)
async def test_a_copy_that_runs_is_not_begun_a_second_time(store: Store, clocks: Clocks, jump: float) -> None:
    """Neither by its own worker, nor by another that runs or has just begun."""
    one, two = worker_queue(store, clocks), worker_queue(store, clocks)
    await one.add("ann@example.com", "example.com", SOURCE)
    held = await claim(one)
    assert held is not None
    assert await claim(two, TWO) is None
    clocks.set_by += jump
    assert await claim(two, TWO) is None
    assert await claim(one) is None
    assert await claim(worker_queue(store, clocks), FAR) is None
    assert await one.renew(held, lease=60)
    clocks.steady_now += 61
    assert await claim(two, TWO) is not None, "a lease still runs out"


@pytest.mark.parametrize("jump", JUMPS)
async def test_the_dead_hold_no_lease_for_years(store: Store, clocks: Clocks, jump: float) -> None:
    """Those of this machine lose it at once, those of others after a minute."""
    queue = worker_queue(store, clocks)
    for name in ("ann", "bob"):
        await queue.add(f"{name}@example.com", "example.com", SOURCE)
    await claim(queue, TWO)
    await claim(queue, FAR)
    clocks.set_by += jump
    assert await queue.take_back(ONE, lambda _process: False) == 1
    assert await claim(queue) is not None
    assert await claim(queue) is None
    clocks.steady_now += 61
    assert await claim(queue) is not None


@pytest.mark.parametrize("jump", [DAY, 10 * YEAR])
@pytest.mark.parametrize("restart", [False, True])
async def test_what_a_wrong_clock_has_put_off_is_done_when_it_is_right(
    store: Store, clocks: Clocks, jump: float, restart: bool
) -> None:
    """A copy and an adoption; also by a worker that has begun since."""
    queue, logins = worker_queue(store, clocks), Logins(store, clock=clocks.wall)
    await claim(queue)
    clocks.set_by += jump
    await logins.submit(VerifiedLogin("ann@example.com", "example.com", SOURCE, b"ann", b"box", "copy"))
    await logins.adoption_failed("ann@example.com", "the CLI is down")
    assert await claim(queue) is None
    clocks.set_by -= jump
    clocks.steady_now += 60 if jump > 2 * DAY else DAY + 60
    queue = worker_queue(store, clocks) if restart else queue
    assert await claim(queue) is not None
    assert [login.account for login in await logins.due_adoptions()] == ["ann@example.com"]


async def test_a_wait_that_was_meant_stays(store: Store, clocks: Clocks) -> None:
    """A window of hours that opens tomorrow."""
    queue = worker_queue(store, clocks)
    await queue.add("ann@example.com", "example.com", SOURCE)
    held = await claim(queue)
    assert held is not None
    await queue.postpone(held, DAY, "until the window opens")
    clocks.set_by -= 3600
    assert await claim(queue) is None


@pytest.mark.parametrize("jump", [DAY, 10 * YEAR])
async def test_no_grace_ends_by_a_clock_that_was_just_set(store: Store, clocks: Clocks, jump: float) -> None:
    """It cannot be given back; after an hour the clock is believed."""
    graces = Graces(store, clocks.wall, clocks.watch())
    grace = Grace(b"1", b"2", clocks.wall() + DAY / 2)
    await graces.save("ann@example.com", grace)
    assert await graces.over() == []
    clocks.set_by += jump
    assert await graces.over() == []
    assert not graces.is_over(grace)
    clocks.steady_now += 3601
    assert graces.is_over(grace)
    assert await graces.over() == ["ann@example.com"]


async def test_no_grace_lasts_for_years(store: Store, clocks: Clocks) -> None:
    """That began by a wrong clock."""
    graces = Graces(store, clocks.wall, clocks.watch())
    await graces.save("ann@example.com", Grace(b"1", b"2", clocks.wall() + 10 * YEAR))
    await claim(worker_queue(store, clocks))
    clocks.steady_now += 31 * DAY
    assert await graces.over() == ["ann@example.com"]


async def test_accounts_made_in_the_future_count_for_no_limit(store: Store, clocks: Clocks) -> None:
    logins = Logins(store, clock=clocks.wall)
    await logins.seen("ann@example.com", "example.com", unproven=True)
    assert await logins.count_unproven("example.com", within=3600) == 1
    clocks.set_by -= DAY
    assert await logins.count_unproven("example.com", within=3600) == 0


async def test_answers_of_the_future_go_before_the_others(store: Store, clocks: Clocks) -> None:
    probes = Probes(store, 10, clocks.wall)
    clocks.set_by += 10 * YEAR
    await probes.save([Probe("ann@old", SOURCE, True, "", clocks.wall())])
    clocks.set_by -= 10 * YEAR
    await probes.save([Probe("bob@old", SOURCE, True, "", clocks.wall())])
    assert await probes.load("ann@old", SOURCE) is not None
    await Probes(store, 10, clocks.wall).save([Probe("eve@old", SOURCE, True, "", clocks.wall())])
    assert await probes.load("ann@old", SOURCE) is None
    assert await probes.load("bob@old", SOURCE) is not None


@pytest.mark.parametrize("jump", JUMPS)
async def test_patience_with_a_server_is_not_measured_by_a_clock_that_is_set(
    store: Store, clocks: Clocks, jump: float
) -> None:
    """A quarter of an hour of unclear answers about strangers, whatever the wall clock says meanwhile."""
    accept_all = AcceptAll(Notices(lambda _text: None, NOBODY), Habits(store, clocks.wall), clocks.wall, clocks.steady)
    place = Place("smtp://old.example.com:25", "example.com")
    for minutes in (0, 5, 5, 5):
        clocks.steady_now += minutes * 60 + 1
        assert accept_all.accepts(place) is None
        assert accept_all.strangers(place, user_taken=True)
        if minutes == 0:
            clocks.set_by += jump
        await accept_all.note(place, None, user_taken=True)
    assert accept_all.accepts(place) is False


@pytest.mark.parametrize("jump", JUMPS)
async def test_a_change_for_the_worse_must_last_an_hour_of_real_time(store: Store, clocks: Clocks, jump: float) -> None:
    """A server that begins to accept everybody is believed no sooner by a clock that was set, nor doubted for years."""
    accept_all = AcceptAll(Notices(lambda _text: None, NOBODY), Habits(store, clocks.wall), clocks.wall, clocks.steady)
    place = Place("smtp://old.example.com:25", "example.com")
    for accepts in (False, True):
        await accept_all.note(place, accepts, user_taken=True)
    clocks.set_by += jump
    await accept_all.note(place, True, user_taken=True)
    assert accept_all.accepts(place) is None
    clocks.steady_now += 3601
    await accept_all.note(place, True, user_taken=True)
    clocks.steady_now += 3601
    assert accept_all.accepts(place) is True
