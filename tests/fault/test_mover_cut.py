"""The connection to either server cut after any number of bytes in either direction: nothing lost, nothing doubled."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from migrator.access import Access
from migrator.ledger.marks import LedgerMarks
from migrator.ledger.store import Store
from migrator.mover import copy_account
from migrator.options import CopyOptions
from migrator.report import Report
from migrator.session import Surroundings
from tests.servers.memory_imap import MemoryImap
from wire.endpoint import Endpoint
from wire.outcome import Temporary
from wire.secret import Secret


class Proxy:
    """Passes bytes on to a server; its first connection is cut after `limit` bytes of one direction."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.passed = {"up": 0, "down": 0}
        self._target = port
        self._cut: tuple[str, int] | None = None

    def cut_after(self, direction: str, limit: int) -> None:
        self._cut = (direction, limit)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        cut, self._cut = self._cut, None
        ways = (("up", reader, server_writer), ("down", server_reader, writer))
        tasks = [
            asyncio.ensure_future(self._pass(name, source, sink, cut[1] if cut and cut[0] == name else None))
            for name, source, sink in ways
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            server_writer.close()  # what has come this far arrives; then the connection ends
            writer.close()

    async def _pass(
        self, name: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter, limit: int | None
    ) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                if limit is not None and len(data) >= limit:
                    sink.write(data[:limit])
                    await sink.drain()
                    return
                limit = limit - len(data) if limit is not None else None
                self.passed[name] += len(data)
                sink.write(data)
                await sink.drain()


@asynccontextmanager
async def proxy(port: int) -> AsyncIterator[Proxy]:
    one = Proxy(port)
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    async with server:
        yield one


def letters() -> list[bytes]:
    letters = [b"Message-ID: <%d@x>\r\n\r\nbody %d\r\n" % (number, number) for number in range(6)]
    return [*letters, b"twin", b"twin"]


async def copy(source: Proxy, target: Proxy, store: Store) -> Report:
    return await copy_account(
        Access(Endpoint("imap", "127.0.0.1", source.port), b"user", Secret(b"old")),
        Access(Endpoint("imap", "127.0.0.1", target.port), b"user@new", Secret(b"new")),
        CopyOptions(timeout=10),
        LedgerMarks(store, "copy"),
        Surroundings(sleep=lambda _seconds: asyncio.sleep(0)),
    )


@pytest.mark.parametrize("capabilities", [None, b"IMAP4rev1 NAMESPACE"])
@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("side", ["source", "target"])
async def test_cut_anywhere(tmp_path: Path, side: str, direction: str, capabilities: bytes | None) -> None:
    step = 0
    limit = 1
    while True:
        store = Store(tmp_path / f"{step}.db")
        async with (
            MemoryImap() as old,
            MemoryImap(capabilities=capabilities) as new,
            proxy(old.port) as to_old,
            proxy(new.port) as to_new,
        ):
            for letter in letters():
                old.boxes[b"INBOX"].store(letter)
            cut = to_old if side == "source" else to_new
            cut.cut_after(direction, limit)
            with suppress(Temporary):
                await copy(to_old, to_new, store)
            report = await copy(to_old, to_new, store)
            where = f"{side} cut {direction} after {limit} bytes"
            assert Counter(new.boxes[b"INBOX"].contents) == Counter(letters()), where
            assert (report.unexplained, report.problems, report.total("copied") + report.total("already")) == (
                0, [], 8,
            ), where  # fmt: skip
            await store.close()
            if cut.passed[direction] < limit // 2:
                raise AssertionError("the proxy passed nothing on")
            longest = cut.passed[direction]
        step += 1
        limit += 67  # a prime: it falls into every part of a command in turn
        if limit > longest and step > 5:
            return
