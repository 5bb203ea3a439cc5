"""What is done for each login and each copy costs the same however big the ledger is. Counted in steps, not time."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest

from migrator.ledger.jobs import LedgerQueue
from migrator.ledger.logins import Logins
from migrator.ledger.store import Store
from migrator.model import Claim, Counts, VerifiedLogin, Worker
from migrator.report import InboxIdentity

ROWS = 4000
GRAIN = 10  # virtual machine steps between two calls of the counter
LIMIT = 150  # calls: 1500 steps; looking at each of 4000 rows takes at least ten times as many
WORKER = Worker("w", "here", "1.1")
SERVERS = 3


class Counter:
    """Counts the steps of SQLite's virtual machine on both connections of a Store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.calls = 0

    def tick(self) -> int:
        self.calls += 1
        return 0

    async def begin(self) -> None:
        await self.store.write(lambda c: c.set_progress_handler(self.tick, GRAIN))
        await self.store.read(lambda c: c.set_progress_handler(self.tick, GRAIN))

    async def cost(self, work: Awaitable[object]) -> int:
        self.calls = 0
        await work
        return self.calls


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Many accounts: half of the copies done, a quarter postponed, the rest due."""
    store = Store(tmp_path / "state.db")

    def fill(c: sqlite3.Connection) -> None:
        for n in range(ROWS):
            account, server = f"u{n}@example.com", f"old{n % SERVERS}"
            c.execute(
                "INSERT INTO accounts (account, domain, adoption) VALUES (?, 'example.com', 'adopted')", (account,)
            )
            c.execute(
                "INSERT INTO logins (account, server, source, login, sealed, verified_at)"
                " VALUES (?, ?, ?, x'', x'', 1)",
                (account, server, f"imap://{server}:143"),
            )
            phase, not_before = ("done", 0) if n % 2 else ("pending", 0 if n % 4 else 9e9)
            c.execute(
                "INSERT INTO jobs (account, domain, source, server, phase, created_at, not_before, identity)"
                " VALUES (?, 'example.com', ?, ?, ?, 1, ?, ?)",
                (account, f"imap://{server}:143", server, phase, not_before, f"{n}\tx"),
            )

    await store.write(fill)
    yield store
    await store.close()


async def test_every_step_of_a_login_and_of_a_copy_is_cheap_in_a_big_ledger(store: Store) -> None:
    logins, queue = Logins(store), LedgerQueue(store)
    counter = Counter(store)
    await counter.begin()
    login = VerifiedLogin("new@example.com", "example.com", "imap://old1:143", b"new", b"box", "copy+export")
    costs = {
        "submit": await counter.cost(logins.submit(login)),
        "submit again": await counter.cost(logins.submit(login)),
        "adoption failed": await counter.cost(logins.adoption_failed(login.account, "x", retry_after=-1)),
        "due adoptions": await counter.cost(logins.due_adoptions()),
        "adopted": await counter.cost(logins.adopted(login.account)),
        "login of": await counter.cost(logins.login_of(login.account, login.source)),
        "seen": await counter.cost(logins.seen("seen@example.com", "example.com")),
        "take back": await counter.cost(queue.take_back(WORKER, lambda _process: True)),
    }
    claims: list[Claim] = []

    async def claim() -> None:
        found = await queue.claim(WORKER, lease=60, limits=lambda _server: 100)
        assert found is not None
        claims.append(found)

    for n in range(10):
        costs[f"claim {n}"] = await counter.cost(claim())
    first, second, third, *_ = claims
    costs |= {
        "claim nothing": await counter.cost(queue.claim(WORKER, lease=60, limits=lambda _server: 1)),
        "identify": await counter.cost(queue.identify(first, InboxIdentity(5, ("1 2 3",)))),
        "renew": await counter.cost(queue.renew(first, lease=60)),
        "finish": await counter.cost(queue.finish(first, Counts())),
        "postpone": await counter.cost(queue.postpone(second, 10, "x")),
        "wait": await counter.cost(queue.wait_for_login(third, "x")),
        "retry one": await counter.cost(queue.retry([third.job.account])),
        "hold one": await counter.cost(queue.hold_accounts([third.job.account], "x")),
    }
    assert {name: cost for name, cost in costs.items() if cost > LIMIT} == {}
