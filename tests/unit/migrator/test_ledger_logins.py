"""Logins: one account, one job, one password; kept as long as somebody needs it and not a moment longer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from migrator.ledger.exports import Exports
from migrator.ledger.jobs import LedgerQueue
from migrator.ledger.logins import ADOPTION_GRACE, Logins, server_of
from migrator.ledger.store import Store
from migrator.model import Adoption, Counts, Phase, VerifiedLogin, Worker

SOURCE = "imap://old.example.com:143"
LOGIN = VerifiedLogin("Ann@Example.com", "example.com", SOURCE, b"ann", b"box 1", "copy")
WORKER = Worker("w", "here", "1.1")


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "state.db")
    yield store
    await store.close()


@pytest.fixture
def logins(store: Store, clock: Clock) -> Logins:
    return Logins(store, clock=clock)


@pytest.fixture
def queue(store: Store, clock: Clock) -> LedgerQueue:
    return LedgerQueue(store, clock=clock)


async def sealed(logins: Logins, source: str = SOURCE) -> bytes | None:
    login = await logins.login_of("ann@example.com", source)
    assert login is not None
    return login.sealed


async def finish_copy(queue: LedgerQueue) -> None:
    claim = await queue.claim(WORKER, lease=60, limits=lambda _server: 10)
    assert claim is not None
    assert await queue.finish(claim, Counts())


async def tables(store: Store) -> dict[str, int]:
    names = ("accounts", "logins", "jobs")
    return await store.read(lambda c: {n: c.execute(f"SELECT count(*) FROM {n}").fetchone()[0] for n in names})


async def test_a_login_makes_an_account_a_password_and_a_job(logins: Logins, queue: LedgerQueue) -> None:
    submitted = await logins.submit(LOGIN)
    (job,) = await queue.jobs()
    assert submitted.adoption is Adoption.ADOPTING
    assert (job.id, job.account, job.domain, job.source) == (submitted.job_id, "ann@example.com", "example.com", SOURCE)
    assert job.phase is Phase.PENDING
    assert await sealed(logins) == b"box 1"


async def test_an_equal_login_adds_nothing(logins: Logins, store: Store) -> None:
    first = await logins.submit(LOGIN)
    before = await tables(store)
    again = await asyncio.gather(*(logins.submit(replace(LOGIN, sealed=b"box %d" % n)) for n in range(20)))
    assert set(again) == {first}
    assert await tables(store) == before == {"accounts": 1, "logins": 1, "jobs": 1}


async def test_the_case_of_the_address_makes_no_second_account(logins: Logins, store: Store) -> None:
    await logins.submit(LOGIN)
    await logins.submit(replace(LOGIN, account="ANN@EXAMPLE.COM", domain="EXAMPLE.COM"))
    assert await tables(store) == {"accounts": 1, "logins": 1, "jobs": 1}


async def test_another_password_replaces_the_sealed_one_until_the_account_is_adopted(logins: Logins) -> None:
    await logins.submit(LOGIN)
    await logins.submit(replace(LOGIN, sealed=b"box 2"))
    assert await sealed(logins) == b"box 2"
    await logins.adopted("ann@example.com")
    late = await logins.submit(replace(LOGIN, sealed=b"box 3"))
    assert late.adoption is Adoption.ADOPTED
    assert await sealed(logins) == b"box 2"


async def test_two_old_servers_are_two_copies_with_their_own_passwords(logins: Logins, store: Store) -> None:
    other = replace(LOGIN, source="imap://other.example.com:143", sealed=b"box other")
    await logins.submit(LOGIN)
    await logins.submit(other)
    assert await tables(store) == {"accounts": 1, "logins": 2, "jobs": 2}
    assert await sealed(logins) == b"box 1"
    assert await sealed(logins, other.source) == b"box other"


async def test_the_old_server_on_another_port_is_the_same_one(logins: Logins, store: Store, queue: LedgerQueue) -> None:
    await logins.submit(LOGIN)
    await logins.submit(replace(LOGIN, source="imaps://old.example.com:993", sealed=b"box 2"))
    assert await tables(store) == {"accounts": 1, "logins": 1, "jobs": 1}
    assert [job.source for job in await queue.jobs()] == ["imaps://old.example.com:993"]
    assert await sealed(logins) == b"box 2"


async def test_a_moved_copy_takes_its_password_along(logins: Logins, queue: LedgerQueue) -> None:
    await logins.submit(LOGIN)
    await logins.adopted("ann@example.com")
    assert await queue.move(["Ann@example.com"], lambda _domain: "imap://renamed:143") == 1
    (job,) = await queue.jobs()
    assert await sealed(logins, job.source) == b"box 1"
    await finish_copy(queue)
    assert await sealed(logins, job.source) is None


async def test_two_domains_are_two_accounts(logins: Logins, store: Store) -> None:
    await logins.submit(LOGIN)
    await logins.submit(replace(LOGIN, account="ann@example.org", domain="example.org"))
    assert await tables(store) == {"accounts": 2, "logins": 2, "jobs": 2}


async def test_the_helper_adopts_before_the_copy_begins_and_a_worker_when_it_does_not(
    logins: Logins, queue: LedgerQueue, clock: Clock
) -> None:
    await logins.submit(LOGIN)
    assert await queue.claim(WORKER, lease=60, limits=lambda _server: 10) is None
    assert await logins.due_adoptions() == []
    clock.now += ADOPTION_GRACE
    assert [login.account for login in await logins.due_adoptions()] == ["ann@example.com"]
    assert await queue.claim(WORKER, lease=60, limits=lambda _server: 10) is not None


@pytest.mark.parametrize("refused", [False, True])
async def test_the_copy_may_begin_once_adoption_is_settled(logins: Logins, queue: LedgerQueue, refused: bool) -> None:
    await logins.submit(LOGIN)
    await (logins.adoption_refused("Ann@example.com", "too short") if refused else logins.adopted("Ann@example.com"))
    assert await queue.claim(WORKER, lease=60, limits=lambda _server: 10) is not None


async def test_the_password_is_wiped_when_the_copy_is_done(logins: Logins, queue: LedgerQueue) -> None:
    await logins.submit(LOGIN)
    await logins.adopted("ann@example.com")
    assert await sealed(logins) == b"box 1"
    await finish_copy(queue)
    assert await sealed(logins) is None


async def test_the_password_stays_as_long_as_adoption_is_owed(logins: Logins, queue: LedgerQueue, clock: Clock) -> None:
    await logins.submit(LOGIN)
    clock.now += ADOPTION_GRACE
    await finish_copy(queue)
    assert await sealed(logins) == b"box 1"
    await logins.adopted("ann@example.com")
    assert await sealed(logins) is None


async def test_a_retired_password_is_kept_for_the_final_copy(store: Store, clock: Clock) -> None:
    logins, queue = Logins(store, keep_done=True, clock=clock), LedgerQueue(store, keep_done=True, clock=clock)
    await logins.submit(LOGIN)
    await logins.adopted("ann@example.com")
    await finish_copy(queue)
    assert await sealed(logins) == b"box 1"


async def test_nothing_is_kept_where_nothing_follows_a_login(logins: Logins, store: Store) -> None:
    await logins.submit(replace(LOGIN, after_login="nothing"))
    assert await tables(store) == {"accounts": 1, "logins": 1, "jobs": 0}
    await logins.adopted("ann@example.com")
    assert await sealed(logins) is None


async def test_a_late_repetition_after_everything_is_done_saves_no_password(logins: Logins, queue: LedgerQueue) -> None:
    await logins.submit(LOGIN)
    await logins.adopted("ann@example.com")
    await finish_copy(queue)
    await logins.submit(replace(LOGIN, sealed=b"box late"))
    assert await sealed(logins) is None
    assert [job.phase for job in await queue.jobs()] == [Phase.DONE]


async def test_an_exported_password_stays_until_it_is_purged(logins: Logins, store: Store, queue: LedgerQueue) -> None:
    exports = Exports(store)
    await logins.submit(replace(LOGIN, after_login="copy+export"))
    await logins.adopted("ann@example.com")
    await finish_copy(queue)
    rows = await exports.rows()
    assert [(row.account, row.login, row.sealed) for row in rows] == [("ann@example.com", b"ann", b"box 1")]
    assert await exports.purge(rows, "root") == 1
    assert await sealed(logins) is None
    assert await exports.rows() == []


async def test_export_without_copy_has_no_job(logins: Logins, store: Store) -> None:
    await logins.submit(replace(LOGIN, after_login="export"))
    assert await tables(store) == {"accounts": 1, "logins": 1, "jobs": 0}
    assert len(await Exports(store).rows()) == 1


async def test_purging_keeps_what_the_copy_still_needs(logins: Logins, store: Store) -> None:
    exports = Exports(store)
    await logins.submit(replace(LOGIN, after_login="copy+export"))
    await logins.adopted("ann@example.com")
    await exports.purge(await exports.rows(), "root")
    assert await sealed(logins) == b"box 1"


async def test_a_purged_account_is_not_exported_again(logins: Logins, store: Store) -> None:
    exports = Exports(store)
    login = replace(LOGIN, after_login="export")
    await logins.submit(login)
    await exports.purge(await exports.rows(), "root")
    await logins.submit(replace(login, sealed=b"box 2"))
    assert await exports.rows() == []


async def test_a_password_replaced_during_an_export_is_not_purged(logins: Logins, store: Store, clock: Clock) -> None:
    exports = Exports(store)
    login = replace(LOGIN, after_login="export")
    await logins.submit(login)
    rows = await exports.rows()
    clock.now += 1
    await logins.submit(replace(login, sealed=b"box 2"))
    assert await exports.purge(rows, "root") == 0
    assert [row.sealed for row in await exports.rows()] == [b"box 2"]


async def test_a_waiting_copy_goes_on_with_the_next_login_even_after_adoption(
    logins: Logins, queue: LedgerQueue
) -> None:
    await logins.submit(LOGIN)
    await logins.adopted("ann@example.com")
    claim = await queue.claim(WORKER, lease=60, limits=lambda _server: 10)
    assert claim is not None
    await queue.wait_for_login(claim, "refused since")
    assert [job.phase for job in await queue.jobs()] == [Phase.WAITING]
    await logins.submit(replace(LOGIN, sealed=b"box new"))
    assert [(job.phase, job.reason) for job in await queue.jobs()] == [(Phase.PENDING, "")]
    assert await sealed(logins) == b"box new"


async def test_a_refused_adoption_is_not_repeated_until_the_next_login(logins: Logins, clock: Clock) -> None:
    await logins.submit(LOGIN)
    await logins.adoption_refused("ann@example.com", "too short")
    clock.now += 1e6
    assert await logins.due_adoptions() == []
    assert await logins.adoption_of("ann@example.com") is Adoption.REFUSED
    assert (await logins.submit(LOGIN)).adoption is Adoption.ADOPTING


async def test_a_failed_adoption_is_repeated_after_its_pause(logins: Logins, clock: Clock) -> None:
    await logins.submit(LOGIN)
    await logins.adoption_failed("ann@example.com", "CLI down", retry_after=300)
    clock.now += 299
    assert await logins.due_adoptions() == []
    clock.now += 1
    (due,) = await logins.due_adoptions()
    assert (due.account, due.sealed, due.attempts) == ("ann@example.com", b"box 1", 1)


async def test_of_two_old_servers_the_password_that_was_right_last_is_adopted(logins: Logins, clock: Clock) -> None:
    await logins.submit(replace(LOGIN, source="imap://other:143", sealed=b"older"))
    clock.now += 1
    await logins.submit(LOGIN)
    clock.now += ADOPTION_GRACE
    assert [login.sealed for login in await logins.due_adoptions()] == [b"box 1"]


async def test_a_made_account_is_counted_until_someone_logs_in(logins: Logins) -> None:
    await logins.seen("Bob@Example.com", "Example.com")
    assert await logins.adoption_of("bob@example.com") is Adoption.SEEN
    await logins.submit(replace(LOGIN, account="bob@example.com"))
    await logins.seen("bob@example.com", "example.com")
    assert await logins.adoption_of("bob@example.com") is Adoption.ADOPTING


async def test_nobody_has_heard_of_a_stranger(logins: Logins) -> None:
    assert await logins.adoption_of("who@example.com") is None
    assert await logins.login_of("who@example.com", SOURCE) is None


async def test_no_column_is_made_for_a_password_or_its_digest(logins: Logins, store: Store) -> None:
    await logins.submit(replace(LOGIN, sealed=b"the sealed box"))
    await logins.adopted("ann@example.com")
    columns = await store.read(
        lambda c: [row[1] for t in ("accounts", "logins", "jobs") for row in c.execute(f"PRAGMA table_info({t})")]
    )
    assert not [name for name in columns if "password" in name or "digest" in name or "hash" in name]


@pytest.mark.parametrize(
    ("source", "server"),
    [
        ("imap://Old.example.com:143", "old.example.com"),
        ("pop3+starttls://old:110", "old"),
        ("imaps://[2001:db8::1]:993", "[2001:db8::1]"),
        ("strange", "strange"),
    ],
)
def test_the_host_is_what_a_limit_counts(source: str, server: str) -> None:
    assert server_of(source) == server
