"""A ledger between a sandbox's servers and a worker, for the tests of the worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from extauth.sandbox.accounts import Account
from extauth.sandbox.mailstore import MailStore
from extauth.sandbox.old_server import OldUser
from extauth.sandbox.world import DomainPlan, Sandbox
from migrator.access import Access
from migrator.config import load_settings
from migrator.copy_job import BeforeCopy, JobRunner
from migrator.ledger.jobs import LedgerQueue
from migrator.ledger.logins import Logins
from migrator.ledger.store import Store
from migrator.model import Job, Outlook, VerifiedLogin
from migrator.options import CopyOptions
from migrator.processes import this_worker
from migrator.report import ProgressListener, Report
from migrator.seal import Sealer
from migrator.worker import LEASE, CopyWorker
from migrator.workshop import Workshop
from wire.secret import Secret

ME = this_worker("test")
Script = Callable[[int], Exception | Awaitable[object] | None]
"""How the n-th copy goes: raises, waits, or just ends."""


def keep_log() -> list[dict[str, object]]:
    """What is logged from now on, as dictionaries."""
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

    @property
    def store_path(self) -> Path:
        return self.settings.state.path

    def runner(self) -> JobRunner:
        return self.workshop.runner()

    def worker(self, *, lease: float = LEASE) -> CopyWorker:
        return CopyWorker(ME, self.queue, self.runner, lease=lease, poll=0.02)

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

    def account(self, address: str) -> Account:
        """CommuniGate's account of this address."""
        account = self.sandbox.communigate.account(address)
        assert account is not None
        return account

    def arrived(self, user: OldUser) -> bool:
        """Whether each message of the old mailbox is in the new one, once."""
        return contents(self.account(user.address).store) == contents(user.store)

    async def close(self) -> None:
        await self.workshop.close()
        await self.store.close()


def contents(store: MailStore) -> list[bytes]:
    return sorted(message.data for mailbox in store.mailboxes.values() for message in mailbox.messages)


@asynccontextmanager
async def world(
    *,
    users: int = 1,
    domains: Sequence[DomainPlan | str] = ("one.test",),
    mailboxes: int = 2,
    settings: Mapping[str, Mapping[str, str]] | None = None,
) -> AsyncIterator[tuple[Sandbox, Ledger]]:
    async with Sandbox(
        users=users, domains=domains, inbox=4, mailboxes=mailboxes, each=2, big=1000, settings=settings
    ) as sandbox:
        ledger = Ledger(sandbox)
        try:
            yield sandbox, ledger
        finally:
            await ledger.close()


class Scripted:
    """A copier that does what a test says; everything around it is the real thing."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.calls: list[str] = []

    async def __call__(
        self,
        account: str,
        source: Access,
        target: Access,
        options: CopyOptions,
        *,
        progress: ProgressListener,
        before_copy: BeforeCopy,
    ) -> Report:
        self.calls.append(account)
        result = self.script(len(self.calls))
        if isinstance(result, Exception):
            raise result
        if result is not None:
            await result
        return Report("source", "target")


def scripted(ledger: Ledger, script: Script) -> Scripted:
    copy = Scripted(script)
    runner = ledger.workshop.runner()
    changed = JobRunner(runner.settings, runner.logins, runner.opener, runner.adopter, copy)
    ledger.runner = lambda: changed  # type: ignore[method-assign]  # all but its copier stays
    return copy
