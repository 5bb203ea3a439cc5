"""What the worker does with each outcome of a copy, between a real ledger and the sandbox's servers."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from extauth.sandbox.world import DomainPlan, Sandbox
from migrator.config import load_settings
from migrator.ledger.logins import server_of
from migrator.model import Adoption, Phase
from migrator.seal import Sealer, generate_keys
from tests.unit.migrator.worker_world import Ledger, contents, keep_log, world
from wire.secret import Secret


@pytest.fixture(autouse=True)
def log() -> list[dict[str, object]]:
    """What is logged, as dictionaries."""
    return keep_log()


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
        assert ledger.account(user.address).option("UseExtPassword")


async def test_a_user_who_changed_the_new_password_is_copied_by_the_administrator() -> None:
    async with world() as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user, adopted=True)
        ledger.account(user.address).settings.update(
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
        ledger.account(user.address).rights = ["Monitor"]
        await ledger.work()
        job = await ledger.job(user)
        assert job.phase is Phase.HELD
        assert "access rights" in job.reason
        assert ledger.account(user.address).option("UseExtPassword")


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
        assert contents(ledger.account("alias@one.test").store) == []


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

    def begin(connection: sqlite3.Connection) -> None:
        for table in ("jobs", "logins"):
            connection.execute(f"UPDATE {table} SET source = ?, server = ?", (source, host))

    await ledger.store.write(begin)


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


async def test_options_are_honoured() -> None:
    plan = DomainPlan("one.test", settings={"copy_options": '["--skipMailbox", "INBOX"]'})
    async with world(domains=[plan]) as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user)
        assert (await ledger.work()).done == 1
        assert ledger.account(user.address).store.inbox.messages == []


async def test_options_of_a_copy_by_pop_are_honoured() -> None:
    options = '["--archiveSeen", "Old mail", "--seenOlder", "1d", "--max-size", "900"]'
    plan = DomainPlan("one.test", verify="pop", copy="pop", settings={"copy_options": options})
    async with world(domains=[plan], mailboxes=0) as (sandbox, ledger):
        (user,) = sandbox.users
        await ledger.log_in(user)
        assert (await ledger.work()).done == 1
        (box,) = json.loads((await ledger.job(user)).report)["mailboxes"]
        account = sandbox.communigate.account(user.address)
        assert account is not None
        small = sorted(one.data for one in user.store.inbox.messages if len(one.data) <= 900)
        assert sorted(one.data for one in account.store.mailboxes[b"Old mail"].messages) == small
        assert account.store.inbox.messages == []
        assert (box["copied"], box["left_out"]) == (len(small), len(user.store.inbox.messages) - len(small))
        assert box["too_large_in_all"] == box["left_out"] > 0


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
        sandbox.old.admin = (b"boss", b"boss secret")
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
