"""The helper's questions about addresses, in this process: over real connections, with a clock to be moved."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import structlog

from extauth.accept_all import AcceptAll
from extauth.brake import Asker, Brake
from extauth.gates import Gates
from extauth.guard import OwnServers, UnderWay
from extauth.inquiry import Inquiry, Word
from extauth.notices import Notices
from extauth.probe import Prober
from migrator.config import load_settings
from migrator.ledger.habits import Habits
from migrator.ledger.probes import Probes
from migrator.ledger.store import Store
from migrator.settings import DomainSettings

SECONDS = 20.0
NOBODY: Any = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(50))


class Asking:
    """An Inquiry on a ledger in `directory`, with what was said aloud in `said`."""

    def __init__(self, directory: Path, port: int, domain: str = "old.test", more: str = "", *, bound: int = 1000):
        self.now = 1_000_000.0
        self.said: list[str] = []
        self.store = Store(directory / "state" / "state.db")
        self._bound = bound
        (directory / "state").mkdir(exist_ok=True)
        config = directory / "extauth.toml"
        config.write_text(
            f'[communigate]\npassword = "x"\n[state]\nurl = "sqlite:///{directory}/state/state.db"\n'
            f'[domains."{domain}"]\nsmtp = "127.0.0.1:{port}"\nimap = "127.0.0.1"\nafter_login = "nothing"\n{more}\n'
        )
        config.chmod(0o600)
        self.domain: DomainSettings = load_settings(config).domains[domain]
        self.start()

    def start(self) -> None:
        """A new process on the same ledger."""
        own = OwnServers()
        under_way = UnderWay(own)
        self.notices = Notices(self.said.append, NOBODY, self.clock)
        self.prober = Prober(own, under_way, Gates({self.domain.name: self.domain}, guarded=False))
        self.accept_all = AcceptAll(self.notices, Habits(self.store, self.clock), self.clock, self.clock)
        self.inquiry = Inquiry(
            self.notices,
            prober=self.prober,
            probes=Probes(self.store, self._bound, self.clock),
            accept_all=self.accept_all,
            brake=Brake(self.notices, self.clock),
            under_way=under_way,
        )

    def clock(self) -> float:
        """The time that all of it goes by."""
        return self.now

    async def ask(self, address: str, asker: Asker = Asker()) -> Word:  # noqa: B008 - frozen
        """The word on `address`."""
        deadline = asyncio.get_running_loop().time() + SECONDS
        return await self.inquiry.ask(address, self.domain, asker, deadline)

    async def settle(self) -> None:
        """Let what goes on in the background come to its end."""
        while tasks := [*self.inquiry._background, *([self.inquiry._writing] if self.inquiry._writing else [])]:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Let go of everything."""
        await self.inquiry.finish()
        await self.prober.close()

    async def restart(self) -> None:
        """End this process, and begin another."""
        await self.close()
        self.start()

    async def end(self) -> None:
        """Close the ledger too."""
        await self.close()
        await self.store.close()
