"""An old and a new server in memory with a ledger between them, for tests of one account's copy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from migrator.access import Access
from migrator.ledger.marks import LedgerMarks
from migrator.ledger.store import Store
from migrator.mover import copy_account
from migrator.options import CopyOptions, parse_options
from migrator.report import InboxIdentity, Report
from migrator.session import Surroundings
from tests.servers.memory_imap import MemoryImap
from wire.endpoint import Endpoint
from wire.secret import Secret


class CopyPair:
    """Both servers; `copy` runs one copy with the flags given."""

    def __init__(self, old: MemoryImap, new: MemoryImap, store: Store) -> None:
        self.old, self.new, self.store = old, new, store
        self.source_port = 0  # of what stands before the old server, if anything does
        self.timeout = 10.0
        self.marks = LedgerMarks(store, "copy")
        self.around = Surroundings(sleep=lambda _seconds: asyncio.sleep(0))

    def source(self) -> Access:
        return Access(Endpoint("imap", "127.0.0.1", self.source_port or self.old.port), b"user", Secret(b"old"))

    def target(self) -> Access:
        return Access(Endpoint("imap", "127.0.0.1", self.new.port), b"user@new", Secret(b"new"))

    async def copy(self, *flags: str, connections: int = 1) -> Report:
        options = parse_options(flags, timeout=self.timeout, connections=connections)[0]
        return await copy_account(self.source(), self.target(), options, self.marks, self.around)

    async def identity(self) -> InboxIdentity:
        """What a copy with all defaults is shown of the source's INBOX before it begins."""
        seen: list[InboxIdentity] = []

        async def see(identity: InboxIdentity) -> None:
            seen.append(identity)

        options = CopyOptions(timeout=self.timeout)
        await copy_account(self.source(), self.target(), options, self.marks, self.around, before_copy=see)
        return seen[0]


@asynccontextmanager
async def copy_pair(
    path: Path, *, source: bytes | None = None, target: bytes | None = None, separator: bytes = b"/"
) -> AsyncIterator[CopyPair]:
    store = Store(path / "marks.db")
    async with MemoryImap(separator=separator, capabilities=source) as old, MemoryImap(capabilities=target) as new:
        try:
            yield CopyPair(old, new, store)
        finally:
            await store.close()


def fill(server: MemoryImap, count: int, name: bytes = b"INBOX", *, size: int = 0) -> None:
    """`count` messages, each of about `size` bytes or little."""
    for number in range(count):
        text = b"Message-ID: <%d@%b>\r\nSubject: %d\r\n\r\nbody\r\n" % (number, name, number)
        server.box(name).store(text + b"x" * max(0, size - len(text)))
