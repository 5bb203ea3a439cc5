"""A helper's service and a worker on one ledger, in this process, between a CommuniGate and an old server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from extauth import login
from extauth.notices import Notices
from extauth.protocol import Reply, Verify
from extauth.sandbox.communigate import CommuniGate
from extauth.service import Service
from migrator.config import load_settings
from migrator.digest_key import make_digest_key
from migrator.ledger.jobs import LedgerQueue
from migrator.ledger.logins import Logins
from migrator.ledger.store import Store
from migrator.processes import this_worker
from migrator.worker import CopyWorker
from migrator.workshop import Workshop
from tests.end_to_end.helper_child import DOMAIN, add_account, communigate, imap_server, write_config
from tests.servers.script import serve
from wire.secret import Secret

USER = f"u@{DOMAIN}"
BEFORE = {"Password": None, "UseAppPassword": "NO", "UseExtPassword": "YES"}
AFTER = {"Password": "secret-7", "UseAppPassword": "YES", "UseExtPassword": "NO"}
QUIET: Any = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(50))


class Site:
    """A helper's service and a worker on one ledger, in this process."""

    def __init__(self, server: CommuniGate, config: Path, passwords: dict[bytes, bytes]) -> None:
        self.server = server
        self.passwords = passwords  # of the old server: what a login line holds, and the answer
        self.settings = load_settings(config, {})
        self.said: list[str] = []
        self.store = Store(self.settings.state.path)
        self.logins = Logins(self.store)
        self.reload()

    def reload(self) -> None:
        """A new service, for the configuration as it is now."""
        self.settings = load_settings(self.settings.path, {})
        self.service = Service(self.settings, Notices(self.said.append, QUIET))

    async def verify(self, password: bytes = b"secret-7", seconds: float = 20.0) -> Reply:
        """The answer to one VRFY, and everything it began done."""
        deadline = asyncio.get_running_loop().time() + seconds
        reply = await self.service.answer(Verify(b"1", USER, Secret(password), "IMAP", "192.0.2.1"), deadline)
        await self.service._checks.finish(20.0)
        while self.service._login._notes is not None:
            await self.service._login._notes
        return reply

    async def work(self) -> None:
        """One run of a worker, in which every adoption's time has come."""
        await self.store.write(lambda c: c.execute("UPDATE accounts SET not_before = 0") and None)
        workshop = Workshop(self.settings, self.store)
        try:
            worker = CopyWorker(this_worker("test"), LedgerQueue(self.store), workshop.runner, poll=0.01)
            await worker.work(until_idle=True)
        finally:
            await workshop.close()

    @property
    def account(self) -> dict[str, object]:
        """The settings that adoption is about."""
        account = self.server.account(USER)
        assert account is not None
        return {key: account.effective.get(key) for key in BEFORE}

    def change(self, **settings: str) -> None:
        """What a user or administrator changes at CommuniGate."""
        account = self.server.account(USER)
        assert account is not None
        self.server.directory.update_account(account, settings)


@asynccontextmanager
async def site(directory: Path, domain: str = 'after_login = "nothing"', limits: str = "") -> AsyncIterator[Site]:
    """A CommuniGate, an old server with one user, and both programs; everything is closed at the end."""
    passwords = {b'"secret-7"': b"OK in", b'"another-8"': b"OK in"}
    async with communigate() as server, serve(imap_server(passwords)) as old:
        add_account(server, USER)
        make_digest_key(directory / "digest.key", directory)
        more = f"interface = 7\n[limits]\n{limits}"
        config = write_config(directory, cli=server.cli.port, imap=old.port, domain=domain, helper=more)
        text = config.read_text()
        config.write_text(
            text.replace('key_file = "seal.key"', 'key_file = "seal.key"\ndigest_key_file = "digest.key"')
        )
        made = Site(server, config, passwords)
        try:
            yield made
        finally:
            server.faults.clear()
            await made.service.retire(5.0)
            await made.store.close()


def be_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CLI that hangs is given up soon: only how long is changed."""
    monkeypatch.setattr(login, "_ADOPTION", 0.25)
    monkeypatch.setattr(login, "_RIGHTS", 0.25)
