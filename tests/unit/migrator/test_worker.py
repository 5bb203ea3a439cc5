"""The worker between a real ledger and the sandbox's servers: what it does with each outcome of a copy."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from extauth.sandbox.old_server import OldUser
from extauth.sandbox.world import DomainPlan, Sandbox
from migrator.config import load_settings
from migrator.copy_job import JobRunner
from migrator.ledger.jobs import LedgerQueue
from migrator.ledger.logins import Logins, server_of
from migrator.ledger.store import Store
from migrator.model import Adoption, Job, Outlook, Phase, VerifiedLogin
from migrator.processes import this_worker
from migrator.report import Report
from migrator.seal import Sealer, generate_keys
from migrator.worker import CopyWorker, limits_of, pause_before
from migrator.workshop import Workshop
from wire.outcome import Permanent, SetupTrouble, Temporary
from wire.secret import Secret

ME = this_worker("test")


@pytest.fixture(autouse=True)
def log() -> list[dict[str, object]]:
    """What is logged, as dictionaries."""
    lines: list[dict[str, object]] = []

    def keep(_logger: object, level: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        lines.append({"level": level, **event})
        raise structlog.DropEvent

    structlog.configure(processors=[keep], cache_logger_on_first_use=False)
    return lines


class Ledger:
    """The ledger of a sandbox, seen from a worker and from the helper."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.settings = load_settings(sandbox.write_config(), {})
        self.store = Store(self.settings.state.path)
        self.logins = Logins(self.store)
        self.queue = LedgerQueue(self.store)
        self.workshop = Workshop(self.settings, self.store)

    def runner(self) -> JobRunner:
        return self.workshop.runner()

    def worker(self, **options: object) -> CopyWorker:
        return CopyWorker(ME, self.queue, self.runner, poll=0.02, **options)  # type: ignore[arg-type]

    async def log_in(self, user: OldUser, *, account: str = "", adopted: bool = False) -> None:
        """What the helper writes after a right password; `adopted` as if it had got no further than that."""
        account = account or user.address
        domain_name = account.partition("@")[2]
        domain = self.settings.domain(domain_name)
        assert domain is not None
        password = Secret(user.password)
        sealed = Sealer(self.settings.state.public_key_file).seal(password, account)
        source = str(domain.copy_endpoint)
        login = VerifiedLogin(account, domain_name, source, user.login, sealed, domain.after_login)
        if self.sandbox.communigate.account(account) is None:
            self.sandbox.communigate.directory.create_account(account)
        await self.logins.submit(login)
        if adopted:
            await self.logins.adopted(account)
        await self.store.write(lambda c: c.execute("UPDATE jobs SET not_before = 0 WHERE attempts = 0") and None)
        await self.store.write(lambda c: c.execute("UPDATE accounts SET not_before = 0") and None)

    async def work(self) -> Outlook:
        return await self.worker().work(until_idle=True)

    async def job(self, user: OldUser) -> Job:
        return next(job for job in await self.queue.jobs() if job.account == user.address)

    async def sealed(self, user: OldUser) -> bytes | None:
        job = await self.job(user)
        login = await self.logins.login_of(job.account, job.source)
        assert login is not None
        return login.sealed

    def arrived(self, user: OldUser) -> bool:
        """Whether each message of the old mailbox is in the new one, once."""
        account = self.sandbox.communigate.account(user.address)
        assert account is not None
        return contents(account.store) == contents(user.store)

    async def close(self) -> None:
        await self.workshop.close()
        await self.store.close()


def contents(store) -> list[bytes]:
    return sorted(message.data for mailbox in store.mailboxes.values() for message in mailbox.messages)


@asynccontextmanager
async def world(**options: object) -> AsyncIterator[tuple[Sandbox, Ledger]]:
    options = {"users": 1, "domains": ["one.test"], "inbox": 4, "mailboxes": 2, "each": 2, "big": 1000, **options}
    async with Sandbox(**options) as sandbox:  # type: ignore[arg-type]
        ledger = Ledger(sandbox)
        try:
            yield sandbox, ledger
        finally:
            await ledger.close()


async def test_a_login_becomes_an_adopted_account_with_its_mail_and_no_password_left() -> None:
    async with world(users=3) as (sandbox, ledger):
        for user in sandbox.users:
            await ledger.log_in(user)
        outlook = await ledger.work()
        assert (outlook.done, outlook.held, outlook.postponed, outlook.waiting) == (3, 0, 0, 0)
        for user in sandbox.users:
            assert ledger.arrived(user)
            assert await ledger.sealed(user) is None
            assert await ledger.logins.adoption_of(user.address) is Adoption.ADOPTED
            account = sandbox.communigate.account(user.address)
            assert account is not None
            assert account.accepts(user.password)
            job = await ledger.job(user)
            assert job.counts.copied == len(contents(user.store))
            assert json.loads(job.report)["totals"]["unexplained"] == 0


async def test_a_copy_by_pop_arrives_too() -> None:
    plan = DomainPlan("one.test", verify="pop", copy="pop")
    async with world(domains=[plan], mailboxes=0) as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user)
        assert (await ledger.work()).done == 1
        assert ledger.arrived(user)


async def test_a_second_run_copies_nothing_twice() -> None:
    async with world() as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user)
        await ledger.work()
        await ledger.store.write(lambda c: c.execute("UPDATE jobs SET phase = 'pending', not_before = 0") and None)
        await ledger.log_in(user)
        await ledger.work()
        assert ledger.arrived(user)


async def test_without_adoption_confirmed_the_copy_waits_for_the_cli_and_then_goes_on() -> None:
    async with world() as (sandbox, ledger):
        (user,) = sandbox.users
        sandbox.communigate.faults.reply("GETACCOUNTEFFECTIVESETTINGS", b"558 flow control\r\n", times=None)
        await ledger.log_in(user)
        outlook = await ledger.work()
        assert outlook.postponed == 1
        assert await ledger.logins.adoption_of(user.address) is Adoption.ADOPTING
        sandbox.communigate.faults.clear()
        await ledger.queue.retry()
        assert (await ledger.work()).done == 1
        assert ledger.arrived(user)
        assert await ledger.sealed(user) is None


async def test_adoptions_that_the_helper_owes_are_repeated_even_where_nothing_is_copied() -> None:
    async with world(domains=[DomainPlan("one.test", after_login="nothing")]) as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user)
        await ledger.work()
        account = sandbox.communigate.account(user.address)
        assert account is not None
        assert account.accepts(user.password)
        assert await ledger.logins.adoption_of(user.address) is Adoption.ADOPTED


async def test_a_refused_password_at_the_source_waits_for_the_next_login(log: list[dict[str, object]]) -> None:
    async with world() as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user)
        right, user.password = user.password, b"changed since"
        outlook = await ledger.work()
        job = await ledger.job(user)
        assert (outlook.waiting, job.phase) == (1, Phase.WAITING)
        assert "AUTHENTICATIONFAILED" in job.reason or "refused" in job.reason
        assert await ledger.sealed(user) is not None
        assert sandbox.old.log_in_attempts[user.login.decode().lower()] == 1
        await ledger.log_in(user)
        assert (await ledger.work()).done == 1
        assert ledger.arrived(user)
        assert right.decode("latin-1") not in repr(log)


async def test_the_old_server_being_away_postpones() -> None:
    async with world() as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user)
        await sandbox.old.go_down()
        outlook = await ledger.work()
        job = await ledger.job(user)
        assert (outlook.postponed, job.phase, job.attempts) == (1, Phase.PENDING, 1)
        await sandbox.old.come_back()
        await ledger.queue.retry()
        assert (await ledger.work()).done == 1
        assert ledger.arrived(user)


async def test_a_locked_mailbox_postpones_and_is_not_called_a_wrong_password() -> None:
    async with world() as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user)
        user.locked = True
        await ledger.work()
        assert (await ledger.job(user)).phase is Phase.PENDING


async def test_a_password_that_communigate_refuses_is_copied_by_the_administrator() -> None:
    async with world() as (sandbox, ledger):
        (user,) = sandbox.users
        sandbox.communigate.directory.password_policy = lambda _password: "too simple"
        await ledger.log_in(user)
        assert (await ledger.work()).done == 1
        assert ledger.arrived(user)
        assert await ledger.logins.adoption_of(user.address) is Adoption.REFUSED
        assert sandbox.communigate.account(user.address).option("UseExtPassword")  # type: ignore[union-attr]


async def test_a_user_who_changed_the_new_password_is_copied_by_the_administrator() -> None:
    async with world() as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user, adopted=True)
        sandbox.communigate.account(user.address).settings.update(  # type: ignore[union-attr]
            {"Password": "new one", "UseAppPassword": "YES", "UseExtPassword": "NO"}
        )
        assert (await ledger.work()).done == 1
        assert ledger.arrived(user)


async def test_copy_as_user_only_is_held_when_the_user_cannot_log_in() -> None:
    async with world(settings={"communigate": {"copy_as": '"user"'}}) as (sandbox, ledger):
        (user,) = sandbox.users
        sandbox.communigate.directory.password_policy = lambda _password: "too simple"
        await ledger.log_in(user)
        await ledger.work()
        job = await ledger.job(user)
        assert job.phase is Phase.HELD
        assert 'copy_as is "user"' in job.reason


async def test_copy_as_admin_never_logs_in_as_the_user() -> None:
    async with world(settings={"communigate": {"copy_as": '"admin"'}}) as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user)
        assert (await ledger.work()).done == 1
        assert ledger.arrived(user)
        assert {record.address for record in sandbox.communigate.logins} == {"postmaster"}


async def test_an_account_with_access_rights_is_neither_adopted_nor_copied() -> None:
    async with world() as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user)
        sandbox.communigate.account(user.address).rights = ["Monitor"]  # type: ignore[union-attr]
        await ledger.work()
        job = await ledger.job(user)
        assert job.phase is Phase.HELD
        assert "access rights" in job.reason
        assert sandbox.communigate.account(user.address).option("UseExtPassword")  # type: ignore[union-attr]


async def test_two_accounts_with_one_mailbox_are_copied_once_and_the_second_is_held() -> None:
    async with world() as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user)
        await ledger.work()
        await ledger.log_in(user, account="alias@one.test")
        outlook = await ledger.work()
        assert (outlook.done, outlook.held) == (1, 1)
        (held,) = await ledger.queue.jobs(Phase.HELD)
        assert held.account == "alias@one.test"
        assert user.address in held.reason
        assert contents(sandbox.communigate.account("alias@one.test").store) == []  # type: ignore[union-attr]


async def test_an_old_server_that_is_communigate_itself_is_held() -> None:
    async with world() as (sandbox, ledger):
        (user,) = sandbox.users
        text = sandbox.config_text().replace(f":{sandbox.old.imap.port}", f":{sandbox.communigate.imap.port}")
        sandbox.config_path.write_text(text.replace("127.0.0.1", "localhost", 1))
        ledger.settings = load_settings(sandbox.config_path, {})
        await ledger.log_in(user)
        await ledger.work()
        job = await ledger.job(user)
        assert job.phase is Phase.HELD
        assert "CommuniGate itself" in job.reason


async def begin_at(ledger: Ledger, source: str) -> None:
    """As if the login had come when the configuration still named `source`."""
    host = server_of(source)
    for table in ("jobs", "logins"):
        await ledger.store.write(
            lambda c, t=table: c.execute(f"UPDATE {t} SET source = ?, server = ?", (source, host)) and None
        )


async def test_a_corrected_port_is_followed() -> None:
    async with world() as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user)
        await begin_at(ledger, "imaps://127.0.0.1:1")
        assert (await ledger.work()).done == 1
        assert ledger.arrived(user)


async def test_another_old_server_is_not_taken_without_a_word_from_a_person() -> None:
    async with world() as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user)
        await begin_at(ledger, "imap://elsewhere.test:143")
        await ledger.work()
        job = await ledger.job(user)
        assert job.phase is Phase.HELD
        assert f"migrator retry --moved {user.address}" in job.reason
        source = f"imap://127.0.0.1:{sandbox.old.imap.port}"
        assert await ledger.queue.move([user.address], lambda _domain: source) == 1
        await ledger.queue.retry([user.address])
        assert (await ledger.work()).done == 1
        assert ledger.arrived(user)


async def test_a_copy_begun_by_pop_does_not_go_on_by_imap() -> None:
    async with world() as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user)
        await begin_at(ledger, f"pop3://127.0.0.1:{sandbox.old.pop.port}")
        await ledger.store.write(lambda c: c.execute("UPDATE jobs SET copied = 1") and None)
        await ledger.work()
        job = await ledger.job(user)
        assert job.phase is Phase.HELD
        assert "began by pop3" in job.reason


async def test_options_that_cannot_be_used_hold_the_copy() -> None:
    plan = DomainPlan("one.test", settings={"copy_options": '["--noSuchFlag"]'})
    async with world(domains=[plan]) as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user)
        await ledger.work()
        job = await ledger.job(user)
        assert job.phase is Phase.HELD
        assert "--noSuchFlag" in job.reason


async def test_options_are_honoured() -> None:
    plan = DomainPlan("one.test", settings={"copy_options": '["--skipMailbox", "INBOX"]'})
    async with world(domains=[plan]) as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user)
        assert (await ledger.work()).done == 1
        assert sandbox.communigate.account(user.address).store.inbox.messages == []  # type: ignore[union-attr]


async def test_a_password_sealed_with_another_key_is_held_and_the_others_go_on(tmp_path: Path) -> None:
    async with world(users=2) as (sandbox, ledger):
        first, second = sandbox.users
        await ledger.log_in(first)
        await ledger.log_in(second)
        generate_keys(tmp_path / "other.pub", tmp_path / "other.key")
        box = Sealer(tmp_path / "other.pub").seal(Secret(b"x"), first.address)
        await ledger.store.write(
            lambda c: c.execute("UPDATE logins SET sealed = ? WHERE account = ?", (box, first.address)) and None
        )
        outlook = await ledger.work()
        assert (outlook.done, outlook.held) == (1, 1)
        assert "does not open" in (await ledger.job(first)).reason
        assert ledger.arrived(second)


@asynccontextmanager
async def world_with_admin(tmp_path: Path, password: bytes) -> AsyncIterator[tuple[Sandbox, Ledger]]:
    (tmp_path / "admin.password").write_bytes(password)
    (tmp_path / "admin.password").chmod(0o600)
    settings = {"admin_login": '"boss"', "admin_password_file": f'"{tmp_path}/admin.password"'}
    async with world(domains=[DomainPlan("one.test", settings=settings)]) as (sandbox, ledger):
        sandbox.old._admin = (b"boss", b"boss secret")
        yield sandbox, ledger


async def test_the_old_servers_administrator_opens_what_the_saved_password_no_longer_does(tmp_path: Path) -> None:
    async with world_with_admin(tmp_path, b"boss secret") as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user)
        user.password = b"changed since"
        assert (await ledger.work()).done == 1
        assert ledger.arrived(user)


async def test_the_administrator_copies_for_accounts_without_a_password(tmp_path: Path) -> None:
    async with world_with_admin(tmp_path, b"boss secret") as (sandbox, ledger):
        (user,) = sandbox.users
        sandbox.communigate.directory.create_account(user.address)
        await ledger.queue.add(user.address, "one.test", f"imap://127.0.0.1:{sandbox.old.imap.port}")
        assert (await ledger.work()).done == 1
        assert ledger.arrived(user)


async def test_an_administrator_who_is_refused_needs_a_person(tmp_path: Path) -> None:
    async with world_with_admin(tmp_path, b"wrong") as (sandbox, ledger):
        (user,) = sandbox.users
        sandbox.communigate.directory.create_account(user.address)
        await ledger.queue.add(user.address, "one.test", f"imap://127.0.0.1:{sandbox.old.imap.port}")
        await ledger.work()
        job = await ledger.job(user)
        assert job.phase is Phase.HELD
        assert "admin_login" in job.reason


async def test_a_cli_that_hangs_keeps_no_copy_from_its_turn() -> None:
    async with world(users=2) as (sandbox, ledger):
        first, second = sandbox.users
        await ledger.log_in(first)
        await ledger.log_in(second, adopted=True)
        await ledger.store.write(
            lambda c: c.execute("UPDATE jobs SET not_before = 1e12 WHERE account = ?", (first.address,)) and None
        )
        account = sandbox.communigate.account(second.address)
        assert account is not None
        account.settings.update({"Password": second.password.decode(), "UseAppPassword": "YES", "UseExtPassword": "NO"})
        hang = sandbox.communigate.faults.hang("GETACCOUNTEFFECTIVESETTINGS", times=None)
        worker = ledger.worker()
        working = asyncio.create_task(worker.work())
        while not ((await ledger.queue.outlook()).done and hang.hits):
            assert not working.done()
        worker.stop()
        await asyncio.wait_for(working, 10)
        assert ledger.arrived(second)


async def test_a_domain_that_is_no_longer_configured_is_held() -> None:
    async with world() as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user)
        await ledger.store.write(lambda c: c.execute("UPDATE jobs SET domain = 'gone.test'") and None)
        await ledger.work()
        assert "gone.test" in (await ledger.job(user)).reason


class Scripted:
    """A copier that does what a test says; everything around it is the real thing."""

    def __init__(self, script) -> None:
        self.script = script
        self.calls: list[str] = []

    async def __call__(self, account, source, target, options, *, progress, before_copy):
        self.calls.append(account)
        result = self.script(len(self.calls))
        if isinstance(result, Exception):
            raise result
        if result is not None:
            await result
        return Report("source", "target")


def scripted(ledger: Ledger, script) -> Scripted:
    copy = Scripted(script)
    runner = ledger.workshop.runner()
    changed = JobRunner(runner.settings, runner.logins, runner.opener, runner.adopter, copy)
    ledger.runner = lambda: changed  # type: ignore[method-assign]
    return copy


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
        assert any(line["event"].startswith("configuration unusable") for line in log)  # type: ignore[union-attr]


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
