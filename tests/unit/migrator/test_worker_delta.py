"""The final pass of accounts that are done: queued once, with what is new, the password kept until the end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from extauth.sandbox.world import DomainPlan, Sandbox
from migrator.config import load_settings
from migrator.delta_command import opens_mailboxes
from migrator.ledger.deltas import queue_deltas
from migrator.ledger.jobs import LedgerQueue
from migrator.ledger.logins import Logins
from migrator.ledger.marks import LedgerMarks
from migrator.model import Phase
from migrator.workshop import Workshop
from tests.unit.migrator.worker_world import Ledger, keep_log, world


@pytest.fixture(autouse=True)
def log() -> list[dict[str, object]]:
    return keep_log()


@asynccontextmanager
async def retiring(plan: DomainPlan | str = "one.test") -> AsyncIterator[tuple[Sandbox, Ledger]]:
    """A world that keeps passwords until the old server is retired, with one account copied."""
    async with world(domains=[plan]) as (sandbox, ledger):
        await ledger.workshop.close()
        ledger.settings = load_settings(sandbox.config_path, {"EXTAUTH_STATE__KEEP_PASSWORD": "retired"})
        ledger.logins = Logins(ledger.store, keep_done=True)
        ledger.queue = LedgerQueue(ledger.store, keep_done=True)
        ledger.workshop = Workshop(ledger.settings, ledger.store)
        (user,) = sandbox.users
        await ledger.log_in(user)
        await ledger.work()
        assert (await ledger.job(user)).phase is Phase.DONE
        yield sandbox, ledger


@pytest.mark.parametrize("plan", ["one.test", DomainPlan("one.test", verify="pop", copy="pop")])
async def test_it_brings_what_came_since(plan: DomainPlan | str) -> None:
    async with retiring(plan) as (sandbox, ledger):
        (user,) = sandbox.users
        before = await ledger.job(user)
        sealed = await ledger.sealed(user)
        assert sealed is not None, "kept for this"
        user.store.mailboxes[b"INBOX"].add(b"Subject: late\r\n\r\nletter\r\n")
        found = await queue_deltas(ledger.store, [user.address.upper()])
        assert found.queued == [user.address]
        assert (await ledger.job(user)).phase is Phase.PENDING
        assert (await queue_deltas(ledger.store, None)).under_way == [user.address], "not twice"
        outlook = await ledger.work()
        assert (outlook.done, outlook.held) == (1, 0)
        job = await ledger.job(user)
        totals = json.loads(job.report)["totals"]
        assert (job.phase, job.passes, totals["copied"], totals["unexplained"]) == (Phase.DONE, 2, 1, 0)
        assert job.counts.copied == before.counts.copied + 1
        assert await ledger.sealed(user) == sealed
        if plan == "one.test":
            assert ledger.arrived(user)


async def test_it_brings_flags_that_changed_since() -> None:
    async with retiring() as (sandbox, ledger):
        (user,) = sandbox.users
        first = user.store.mailboxes[b"INBOX"].messages[0]
        first.flags ^= {b"\\Flagged"}
        user.store.mailboxes[b"INBOX"].version += 1
        await queue_deltas(ledger.store, None)
        await ledger.work()
        account = sandbox.communigate.account(user.address)
        assert account is not None
        (there,) = [one for one in account.store.mailboxes[b"INBOX"].messages if one.data == first.data]
        assert (b"\\Flagged" in there.flags) == (b"\\Flagged" in first.flags)
        assert json.loads((await ledger.job(user)).report)["totals"]["flagged"] == 1


async def test_without_a_login_it_says_whose_copy_cannot_run() -> None:
    async with world() as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user)
        assert (await queue_deltas(ledger.store, None)).under_way == [user.address]
        await ledger.work()
        assert await ledger.sealed(user) is None
        found = await queue_deltas(ledger.store, [user.address, "nobody@one.test"])
        assert (found.queued, found.locked_out) == ([], [(user.address, "one.test")])
        assert found.unknown == ["nobody@one.test"]
        assert (await ledger.job(user)).phase is Phase.DONE
        assert (await queue_deltas(ledger.store, None, domain="other.test")).locked_out == []
        found = await queue_deltas(ledger.store, None, domain="ONE.test", opens=lambda name: name == "one.test")
        assert found.queued == [user.address]


def test_an_administrator_opens_every_mailbox_of_a_domain(tmp_path: Path) -> None:
    path = tmp_path / "extauth.toml"
    path.write_text(
        '[communigate]\npassword = "x"\ncli = "127.0.0.1:1"\n'
        '[domains."a.test"]\nimap = "127.0.0.1:1"\nnew = "refuse"\n'
        'admin_login = "root"\nadmin_password_file = "admin"\n'
        '[domains."b.test"]\nimap = "127.0.0.1:1"\nnew = "refuse"\n'
    )
    path.chmod(0o600)
    (tmp_path / "admin").write_text("x")
    (tmp_path / "admin").chmod(0o600)
    opens = opens_mailboxes(load_settings(path, {}, check_files=False))
    assert (opens("a.test"), opens("b.test"), opens("c.test")) == (True, False, False)


async def test_a_mailbox_made_anew_is_copied_again_when_a_person_says_so() -> None:
    async with retiring() as (sandbox, ledger):
        (user,) = sandbox.users
        account = sandbox.communigate.account(user.address)
        assert account is not None
        name = next(name for name in account.store.mailboxes if name != b"INBOX")
        account.store.mailboxes[name].uidvalidity += 1
        account.store.mailboxes[name].messages.clear()
        await queue_deltas(ledger.store, None)
        await ledger.work()
        assert (await ledger.job(user)).phase is Phase.HELD
        assert (await queue_deltas(ledger.store, None)).stuck == [(user.address, Phase.HELD)]
        await LedgerMarks(ledger.store, user.address).allow_recopy()
        await ledger.queue.retry([user.address])
        await ledger.work()
        assert (await ledger.job(user)).phase is Phase.DONE
        assert ledger.arrived(user)
