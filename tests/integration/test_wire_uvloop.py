"""The streams and the IMAP client on uvloop, which the helper runs on: its transports differ from asyncio's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import uvloop

from tests.servers.certificates import Certificates
from tests.servers.dovecot import Dovecot
from wire.endpoint import Endpoint, Security, TlsPolicy
from wire.imap.client import ImapClient
from wire.outcome import SetupTrouble, Temporary, Verdict
from wire.secret import Secret


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> Iterator[Dovecot]:
    """One user."""
    with Dovecot({"u1": b"s\xe4cret"}, certificate=certificates.good, tuned=True) as dovecot:
        yield dovecot


async def verdict(endpoint: Endpoint, tls: TlsPolicy, password: bytes, seconds: float = 30) -> Verdict:
    """One login."""
    deadline = asyncio.get_running_loop().time() + seconds
    client = await ImapClient.connect(endpoint, tls, deadline=deadline)
    try:
        return (await client.login(b"u1", Secret(password), refresh_capabilities=False)).verdict
    finally:
        await client.logout(wait=True)


@pytest.mark.parametrize("security", Security)
def test_logins(server: Dovecot, certificates: Certificates, security: Security) -> None:
    """In the clear, after STARTTLS, over TLS; right, and a wrong authority."""
    port = server.imaps_port if security is Security.TLS else server.imap_port
    endpoint = Endpoint("imap", "localhost", port, security)
    good = TlsPolicy(ca_file=str(certificates.ca_file))
    assert uvloop.run(verdict(endpoint, good, b"s\xe4cret")) is Verdict.YES
    if security is not Security.PLAIN:
        with pytest.raises(SetupTrouble, match="certificate"):
            uvloop.run(verdict(endpoint, TlsPolicy(ca_file=str(certificates.other_ca_file)), b"s\xe4cret"))


def test_a_wrong_password(server: Dovecot) -> None:
    """Refused."""
    assert uvloop.run(verdict(Endpoint("imap", server.host, server.imap_port), TlsPolicy(), b"x")) is Verdict.NO


@pytest.mark.parametrize("said", [None, b"", b"* OK half"])
def test_nobody_silence_and_half_a_line(said: bytes | None) -> None:
    """A refused connection, a hang-up, and a deadline: each Temporary."""

    async def attempt() -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if said:
                writer.write(said)
                await reader.read()
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        endpoint = Endpoint("imap", "127.0.0.1", server.sockets[0].getsockname()[1])
        if said is None:
            server.close()
            await server.wait_closed()
        try:
            await verdict(endpoint, TlsPolicy(), b"x", seconds=0.3)
        finally:
            server.close()

    with pytest.raises(Temporary):
        uvloop.run(attempt())


@pytest.mark.parametrize("security", [Security.PLAIN, Security.TLS])
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_large_messages(
    server: Dovecot, certificates: Certificates, run: Callable[..., bytes], security: Security
) -> None:
    """Pausing and resuming on both sides, on either loop: 10 MB in and out."""
    content = b"Subject: large\r\n\r\n" + b"0123456789abcd\r\n" * 640_000

    async def copy() -> bytes:
        deadline = asyncio.get_running_loop().time() + 60
        port = server.imaps_port if security is Security.TLS else server.imap_port
        endpoint = Endpoint("imap", server.host, port, security)
        tls = TlsPolicy(ca_file=str(certificates.ca_file))
        client = await ImapClient.connect(endpoint, tls, deadline=deadline)
        await client.login(b"u1", Secret(b"s\xe4cret"))

        async def pieces() -> AsyncIterator[bytes]:
            for at in range(0, len(content), 65536):
                yield content[at : at + 65536]

        appended = await client.append(b"INBOX", (), None, len(content), pieces())
        await client.examine(b"INBOX")
        got = bytearray()
        async for body in client.fetch_bodies([appended.uid or 0]):
            async for piece in body.chunks:
                got += piece
                await asyncio.sleep(0)
        await client.logout(wait=True)
        return bytes(got)

    assert run(copy()) == content
