"""The same POP3 checks against a real Dovecot and against the sandbox's server, by our client and by poplib."""

from __future__ import annotations

import asyncio
import poplib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass

import pytest

from extauth.sandbox.old_server import OldServer
from tests.servers.certificates import Certificates
from tests.servers.corpus import generated, stored_form
from tests.servers.dovecot import Dovecot
from tests.servers.passwords import ODD
from tests.servers.raw_imap import RawImap
from wire.endpoint import Endpoint, Security, TlsPolicy
from wire.outcome import SetupTrouble, Verdict
from wire.pop3 import Pop3Client
from wire.secret import Secret

_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Peer:
    """A server with the users of ODD. `fill` puts messages into an INBOX and gives them as POP shows them."""

    host: str
    port: int
    tls_port: int
    fill: Callable[[str], list[bytes]]


@pytest.fixture(params=["dovecot", "sandbox"])
async def peer(request: pytest.FixtureRequest, certificates: Certificates) -> AsyncIterator[Peer]:
    """Each server in turn."""
    messages = [message.content for message in generated()]
    if request.param == "dovecot":
        dovecot: Dovecot = request.getfixturevalue("dovecot")

        def append(name: str) -> list[bytes]:
            with RawImap(dovecot.host, dovecot.imap_port, name, ODD[name]) as session:
                session.append(b"INBOX", messages)
            return [stored_form(content) for content in messages]

        yield Peer(dovecot.host, dovecot.pop3_port, dovecot.pop3s_port, append)
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.good.chain, certificates.good.key)
    plain, implicit = OldServer(tls=context), OldServer(tls=context, implicit_tls=True)
    for server in (plain, implicit):
        for name, password in ODD.items():
            server.add_user(f"{name}@old.test", password, login=name)
        await server.start()

    def store(name: str) -> list[bytes]:
        user = plain.find(f"{name}@old.test")
        assert user is not None
        for content in messages:
            user.store.inbox.add(content)
        return messages

    yield Peer("127.0.0.1", plain.pop.port, implicit.pop.port, store)
    await plain.close()
    await implicit.close()


async def _connect(peer: Peer, security: Security = Security.PLAIN, policy: TlsPolicy | None = None) -> Pop3Client:
    port = peer.tls_port if security is Security.TLS else peer.port
    deadline = asyncio.get_running_loop().time() + _SECONDS
    return await Pop3Client.connect(
        Endpoint("pop3", peer.host, port, security), policy or TlsPolicy(), deadline=deadline
    )


@pytest.mark.parametrize("name", ODD)
async def test_right_password_is_yes(peer: Peer, name: str) -> None:
    """Any bytes of a password reach the server as they are: PASS takes the rest of its line."""
    client = await _connect(peer)
    answer = await client.login(name.encode(), Secret(ODD[name]))
    assert answer.verdict is Verdict.YES
    await client.quit()


@pytest.mark.parametrize("name", ["plain", "quotes", "latin1", "spaces"])
async def test_wrong_password_is_no(peer: Peer, name: str) -> None:
    """A password one byte off is wrong, and so is its trimmed form; the reason never repeats it."""
    for wrong in (ODD[name] + b"x", ODD[name][:-1], b"wrong"):
        client = await _connect(peer)
        answer = await client.login(name.encode(), Secret(wrong))
        client.close()
        assert answer.verdict is Verdict.NO
        assert wrong.decode("latin-1") not in answer.reason


async def test_unknown_user_is_no(peer: Peer) -> None:
    """A user that the server does not know is refused like a wrong password."""
    client = await _connect(peer)
    answer = await client.login(b"nobody-at-all", Secret(b"secret1"))
    client.close()
    assert answer.verdict is Verdict.NO


@pytest.mark.parametrize("security", [Security.TLS, Security.STARTTLS])
async def test_tls_with_the_right_ca(peer: Peer, certificates: Certificates, security: Security) -> None:
    """Implicit TLS and STLS with a CA file."""
    client = await _connect(peer, security, TlsPolicy(ca_file=str(certificates.ca_file)))
    assert client.stream.secure
    assert (await client.login(b"latin1", Secret(ODD["latin1"]))).verdict is Verdict.YES
    await client.quit()


@pytest.mark.parametrize("security", [Security.TLS, Security.STARTTLS])
async def test_tls_with_a_wrong_ca_is_setup_trouble(peer: Peer, certificates: Certificates, security: Security) -> None:
    """A certificate that our CA does not vouch for is about the setup, never about a user."""
    for policy in (TlsPolicy(ca_file=str(certificates.other_ca_file)), TlsPolicy()):
        with pytest.raises(SetupTrouble):
            await _connect(peer, security, policy)


async def test_messages_come_byte_for_byte(peer: Peer) -> None:
    """Lone dots, bare CR, long lines and 8-bit bytes come out of RETR as the server holds them, each with its UID."""
    expected = peer.fill("literalplus")
    client = await _connect(peer)
    assert (await client.login(b"literalplus", Secret(ODD["literalplus"]))).verdict is Verdict.YES
    uids = await client.uidl()
    assert [number for number, _ in uids] == list(range(1, len(expected) + 1))
    assert len({uid for _, uid in uids}) == len(expected)
    assert set(await client.list_sizes()) == {number for number, _ in uids}
    found = []
    for number, _ in uids:
        found.append(b"".join([chunk async for chunk in client.retr(number)]))
    # POP ends every message with a line end, one that has none included (RFC 1939, section 3)
    assert found == [content if content.endswith(b"\r\n") else content + b"\r\n" for content in expected]
    await client.quit()


@pytest.mark.parametrize("name", ["plain", "spaces", "quotes", "backslash", "number", "injection", "utf8"])
async def test_poplib_agrees(peer: Peer, name: str) -> None:
    """A client that others wrote gets the same verdict for the same password."""

    def ask(password: bytes) -> bool:
        with closing(poplib.POP3(peer.host, peer.port, timeout=_SECONDS)) as session:
            session.encoding = "utf-8"
            try:
                session.user(name)
                return session.pass_(password.decode()).startswith(b"+OK")
            except poplib.error_proto:
                return False

    assert await asyncio.to_thread(ask, ODD[name])
    assert not await asyncio.to_thread(ask, ODD[name] + b"x")
