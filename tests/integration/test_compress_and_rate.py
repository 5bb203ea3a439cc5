"""COMPRESS and rate limits against Dovecot: the same mail over fewer bytes, and no faster than allowed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from migrator import mover, pop_mover
from migrator.access import Access
from migrator.ledger.marks import LedgerMarks, LedgerUidls
from migrator.ledger.store import Store
from migrator.options import CopyOptions
from tests.fault.imap_script import serving
from tests.servers.certificates import Certificates
from tests.servers.dovecot import Dovecot
from tests.servers.relay import relay_to
from wire.endpoint import Endpoint, Security, TlsPolicy
from wire.imap.client import ImapClient
from wire.rate import RateLimit
from wire.secret import Secret

_COMPRESSES = "protocol imap {\n  mail_plugins = $mail_plugins imap_zlib\n}\n"
CONTENT = b"Subject: large\r\n\r\n" + b"".join(b"Line %d of a text as people write it.\r\n" % n for n in range(150_000))


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> Iterator[Dovecot]:
    """One user, COMPRESS offered."""
    users = dict.fromkeys(["u1", "old", "new", "pop", "popped"], b"secret")
    with Dovecot(users, certificate=certificates.good, extra=_COMPRESSES) as dovecot:
        yield dovecot


async def open_client(endpoint: Endpoint, certificates: Certificates) -> ImapClient:
    """Logged in."""
    deadline = asyncio.get_running_loop().time() + 60
    client = await ImapClient.connect(endpoint, TlsPolicy(ca_file=str(certificates.ca_file)), deadline=deadline)
    await client.login(b"u1", Secret(b"secret"))
    return client


async def pieces() -> AsyncIterator[bytes]:
    for at in range(0, len(CONTENT), 65536):
        yield CONTENT[at : at + 65536]


async def there_and_back(client: ImapClient) -> bytes:
    """Append, and fetch what was appended."""
    await client.create(b"Large")
    appended = await client.append(b"Large", (), None, len(CONTENT), pieces())
    await client.examine(b"Large")
    got = bytearray()
    async for body in client.fetch_bodies([appended.uid or 0]):
        async for piece in body.chunks:
            got += piece
    return bytes(got)


@pytest.mark.parametrize("security", Security)
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_compressed_both_ways(
    server: Dovecot, certificates: Certificates, run: Callable[..., bytes], security: Security
) -> None:
    """In the clear and within TLS, on either loop."""

    async def copy() -> bytes:
        port = server.imaps_port if security is Security.TLS else server.imap_port
        client = await open_client(Endpoint("imap", "localhost", port, security), certificates)
        assert await client.compress()
        assert await client.compress()  # once more is nothing
        assert client.stream.compressed
        got = await there_and_back(client)
        await client.logout(wait=True)
        return got

    assert run(copy()) == CONTENT


@asynccontextmanager
async def counting(port: int) -> AsyncIterator[tuple[Endpoint, list[int]]]:
    """A proxy before an IMAP server, and the bytes that went there and back."""
    counted = [0, 0]

    def count(way: int, data: bytes) -> None:
        counted[way] += len(data)

    async with serving(relay_to(port, count)) as proxy:
        yield Endpoint("imap", "127.0.0.1", proxy), counted


async def test_fewer_bytes(server: Dovecot, certificates: Certificates) -> None:
    """What goes over the line, both ways, with and without."""
    totals = []
    for compress in (False, True):
        async with counting(server.imap_port) as (endpoint, counted):
            client = await open_client(endpoint, certificates)
            assert not compress or await client.compress()
            assert await there_and_back(client) == CONTENT
            await client.logout(wait=True)
        totals.append(counted)
    assert totals[1][0] < totals[0][0] / 4
    assert totals[1][1] < totals[0][1] / 4


async def test_not_offered(dovecot: Dovecot) -> None:
    """Then nothing is asked, and the dialogue goes on."""
    deadline = asyncio.get_running_loop().time() + 60
    client = await ImapClient.connect(Endpoint("imap", dovecot.host, dovecot.imap_port), TlsPolicy(), deadline=deadline)
    login, password = next(iter(dovecot.users.items()))
    await client.login(login.encode(), Secret(password))
    assert not await client.compress()
    await client.noop()
    await client.logout(wait=True)


@pytest.mark.parametrize(
    ("run", "security"), [(asyncio.run, Security.PLAIN), (asyncio.run, Security.TLS), (uvloop.run, Security.TLS)]
)
def test_mean_rate(
    server: Dovecot, certificates: Certificates, run: Callable[..., tuple[list[int], float]], security: Security
) -> None:
    """Two connections together take the time that the rate says: less would be too fast, more may be the machine's."""
    port = server.imaps_port if security is Security.TLS else server.imap_port
    endpoint = Endpoint("imap", "localhost", port, security)
    rate = len(CONTENT)

    async def fetch(client: ImapClient, uid: int) -> int:
        await client.examine(b"Rate")
        got = 0
        async for body in client.fetch_bodies([uid]):
            async for piece in body.chunks:
                got += len(piece)
        return got

    async def both() -> tuple[list[int], float]:
        loop = asyncio.get_running_loop()
        clients = [await open_client(endpoint, certificates) for _ in range(2)]
        await clients[0].create(b"Rate")
        uid = (await clients[0].append(b"Rate", (), None, len(CONTENT), pieces())).uid or 0
        limit = RateLimit(rate, clock=loop.time)
        for client in clients:
            client.stream.keep_to(limit)
        began = loop.time()
        got = await asyncio.gather(*(fetch(client, uid) for client in clients))
        took = loop.time() - began
        for client in clients:
            await client.logout(wait=True)
        return got, took

    got, took = run(both())
    assert got == [len(CONTENT)] * 2
    slack = rate + (1 << 19)  # a second's worth comes at once, and what came last is not waited for
    assert took > (2 * len(CONTENT) - slack) / rate


def access(endpoint: Endpoint, login: bytes) -> Access:
    return Access(endpoint, login, Secret(b"secret"))


async def fill(server: Dovecot, login: bytes) -> None:
    """One large message in INBOX."""
    deadline = asyncio.get_running_loop().time() + 60
    client = await ImapClient.connect(Endpoint("imap", server.host, server.imap_port), TlsPolicy(), deadline=deadline)
    await client.login(login, Secret(b"secret"))
    await client.append(b"INBOX", (), None, len(CONTENT), pieces())
    await client.logout(wait=True)


async def test_copy_compressed_and_slow(server: Dovecot, tmp_path: Path) -> None:
    """--compress packs on both sides; --limit-rate counts what is on the line."""
    await fill(server, b"old")
    store = Store(tmp_path / "marks.db")
    loop = asyncio.get_running_loop()
    async with (
        counting(server.imap_port) as (old, from_old),
        counting(server.imap_port) as (new, to_new),
    ):
        began = loop.time()
        report = await mover.copy_account(
            access(old, b"old"),
            access(new, b"new"),
            CopyOptions(compress=True, rate=150_000),
            LedgerMarks(store, "new"),
        )
        took = loop.time() - began
    await store.close()
    assert [mailbox.copied for mailbox in report.mailboxes if mailbox.messages] == [1]
    assert from_old[1] < len(CONTENT) / 4
    assert to_new[0] < len(CONTENT) / 4
    assert took > (from_old[1] - 150_000 - (1 << 17)) / 150_000 > 0.1


async def test_pop_copy_keeps_to_its_rate(server: Dovecot, tmp_path: Path) -> None:
    await fill(server, b"pop")
    store = Store(tmp_path / "marks.db")
    loop = asyncio.get_running_loop()
    began = loop.time()
    rate = len(CONTENT) // 2
    report = await pop_mover.copy_account(
        access(Endpoint("pop3", server.host, server.pop3_port), b"pop"),
        access(Endpoint("imap", server.host, server.imap_port), b"popped"),
        CopyOptions(rate=rate),
        LedgerUidls(store, "popped"),
    )
    took = loop.time() - began
    await store.close()
    assert sum(mailbox.copied for mailbox in report.mailboxes) == 1
    assert took > (len(CONTENT) - rate - (1 << 18)) / rate
