"""The status: what it counts, whom it names, and when an old server may go."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from migrator.config import load_settings
from migrator.ledger.jobs import LedgerQueue
from migrator.ledger.logins import Logins
from migrator.ledger.store import Store
from migrator.model import Claim, Counts, VerifiedLogin, Worker
from migrator.status import DomainStanding, Status, read_status

SOURCE = "imap://old:143"
WORKER = Worker("w", "here", "1.1")
LOGIN = VerifiedLogin("a@one.test", "one.test", SOURCE, b"a", b"box", "copy")


class Ledger:
    """A ledger with a clock that a test sets."""

    def __init__(self, path: Path) -> None:
        self.now = 10_000.0
        self.store = Store(path)
        self.logins = Logins(self.store, clock=lambda: self.now)
        self.queue = LedgerQueue(self.store, clock=lambda: self.now)

    async def log_in(self, *accounts: str, after_login: str = "copy") -> None:
        for account in accounts:
            domain = account.partition("@")[2]
            await self.logins.submit(replace(LOGIN, account=account, domain=domain, after_login=after_login))
            await self.logins.adopted(account)

    async def claim(self) -> Claim:
        claim = await self.queue.claim(WORKER, lease=60, limits=lambda _server: 100)
        assert claim is not None
        return claim

    async def status(self) -> Status:
        return await read_status(self.store, clock=self.clock)

    def clock(self) -> float:
        return self.now


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    ledger = Ledger(tmp_path / "state.db")
    yield ledger
    await ledger.store.close()


async def test_an_empty_ledger_has_zeros_and_nothing_to_retire(ledger: Ledger) -> None:
    status = await ledger.status()
    assert status.accounts == {"seen": 0, "adopting": 0, "adopted": 0, "refused": 0}
    assert status.jobs == dict.fromkeys(("pending", "running", "postponed", "waiting", "held", "done"), 0)
    assert (status.copied, status.messages_per_second, status.oldest, status.can_retire) == (0, 0, None, False)
    json.dumps(status.as_json())


async def test_every_account_and_every_copy_is_counted_where_it_stands(ledger: Ledger) -> None:
    await ledger.logins.seen("new@one.test", "one.test")
    await ledger.logins.submit(replace(LOGIN, account="adopting@one.test"))
    await ledger.log_in("refused@one.test", after_login="nothing")
    await ledger.logins.adoption_refused("refused@one.test", "too short")
    await ledger.log_in("done@one.test", "held@one.test", "waiting@one.test", "postponed@one.test", "running@one.test")
    await ledger.log_in("pending@one.test")
    await ledger.queue.finish(await ledger.claim(), Counts(copied=30, bytes=3000, refused=1))
    await ledger.queue.hold(await ledger.claim(), "certificate")
    await ledger.queue.wait_for_login(await ledger.claim(), "refused since")
    await ledger.queue.postpone(await ledger.claim(), 100, "busy")
    running = await ledger.claim()
    ledger.now += 10
    await ledger.queue.renew(running, lease=60, copied=10, bytes=1000)
    status = await ledger.status()
    assert status.accounts == {"seen": 1, "adopting": 1, "adopted": 6, "refused": 1}
    assert status.jobs == {"pending": 2, "running": 1, "postponed": 1, "waiting": 1, "held": 1, "done": 1}
    assert (status.copied, status.bytes, status.refused, status.unexplained, status.done_last_hour) == (
        40,
        4000,
        1,
        0,
        1,
    )
    assert [(job.account, job.reason) for job in status.held] == [("held@one.test", "certificate")]
    assert [(job.account, job.reason) for job in status.waiting] == [("waiting@one.test", "refused since")]
    assert [(job.account, job.next_try) for job in status.postponed] == [("postponed@one.test", 10_100)]
    assert [(job.account, job.copied, job.bytes) for job in status.running] == [("running@one.test", 10, 1000)]
    assert status.oldest is not None
    assert status.oldest.account == "adopting@one.test"
    assert [(left.account, left.adoption) for left in status.left] == [
        ("adopting@one.test", "adopting"),
        ("new@one.test", "seen"),
        ("refused@one.test", "refused"),
    ]


async def test_rates_are_of_the_time_copies_ran(ledger: Ledger) -> None:
    await ledger.log_in("a@one.test", "b@one.test")
    first = await ledger.claim()
    ledger.now += 10
    await ledger.queue.finish(first, Counts(copied=100, bytes=10_000))
    ledger.now += 3600
    second = await ledger.claim()
    ledger.now += 10
    await ledger.queue.renew(second, lease=60, copied=100, bytes=10_000)
    status = await ledger.status()
    assert (status.seconds, status.messages_per_second, status.bytes_per_second) == (20, 10, 1000)
    assert status.done_last_hour == 0


async def test_an_old_server_can_go_when_nobody_and_nothing_is_left_there(ledger: Ledger) -> None:
    await ledger.log_in("a@one.test", "b@two.test")
    await ledger.queue.finish(await ledger.claim(), Counts())
    status = await ledger.status()
    assert {domain.domain: domain.left for domain in status.domains} == {
        "one.test": [],
        "two.test": ["copies not done: 1"],
    }
    assert not status.can_retire
    await ledger.queue.finish(await ledger.claim(), Counts())
    assert (await ledger.status()).can_retire
    await ledger.logins.seen("c@two.test", "two.test")
    status = await ledger.status()
    assert status.domains[1].left == ["accounts that have not logged in yet: 1"]
    assert not status.can_retire


async def test_saved_passwords_keep_the_old_server(ledger: Ledger) -> None:
    await ledger.log_in("a@one.test", after_login="export")
    status = await ledger.status()
    assert status.exports == 1
    assert status.domains[0].left == ["passwords saved for an export: 1"]


async def test_those_of_the_roster_nobody_has_heard_of_are_left(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "roster").write_text("a@one.test\nb@one.test\nC@one.test\n")
    (tmp_path / "extauth.toml").write_text(
        '[communigate]\npassword = "x"\n[state]\npublic_key_file = "/dev/null"\n'
        '[domains."one.test"]\nimap = "old"\nnew = "roster"\nroster = "roster"\n'
    )
    (tmp_path / "extauth.toml").chmod(0o600)
    await ledger.log_in("a@one.test", after_login="nothing")
    domains = load_settings(tmp_path / "extauth.toml", {}).domains
    status = await read_status(ledger.store, domains, clock=ledger.clock)
    assert status.domains[0].left == ["addresses of the roster not heard of yet: 2"]


async def test_accounts_with_mail_and_no_login_are_suspects(ledger: Ledger) -> None:
    """Named after their time, the oldest first; a login ends it."""
    for name in ("old", "older", "came"):
        await ledger.logins.seen(f"{name}@one.test", "one.test", unproven=name == "old")
    await ledger.log_in("came@one.test", after_login="nothing")
    assert (await ledger.status()).suspect_count == 0
    status = await read_status(ledger.store, suspect_after=-1.0, clock=ledger.clock)
    assert sorted(suspect.account for suspect in status.suspects) == ["old@one.test", "older@one.test"]
    assert status.suspect_count == 2
    assert status.unproven == 1
    assert status.as_json()["suspects"][0]["account"].endswith("@one.test")


async def test_lists_of_names_are_bounded_and_the_numbers_are_not(ledger: Ledger) -> None:
    for n in range(20):
        await ledger.logins.seen(f"u{n:02}@one.test", "one.test")
    status = await read_status(ledger.store, names=5, clock=ledger.clock)
    assert status.accounts["seen"] == 20
    assert [left.account for left in status.left] == [f"u{n:02}@one.test" for n in range(5)]


async def test_json_says_for_each_domain_whether_it_can_go(ledger: Ledger) -> None:
    await ledger.log_in("a@one.test", after_login="nothing")
    value = json.loads(json.dumps((await ledger.status()).as_json()))
    assert value["can_retire"] is True
    assert value["domains"][0]["can_retire"] is True
    assert value["accounts"]["adopted"] == 1


async def test_nobody_left_is_not_nobody_heard_of_yet(ledger: Ledger) -> None:
    """A server that nobody has left yet cannot be retired; a domain that is never used does not keep the others."""
    await ledger.log_in("a@one.test", after_login="nothing")
    status = await ledger.status()
    status.domains.append(DomainStanding("unused.test", {}, {}))
    assert [(domain.untouched, domain.can_retire) for domain in status.domains] == [(False, True), (True, False)]
    assert status.can_retire
    status.domains.pop(0)
    assert not status.can_retire
