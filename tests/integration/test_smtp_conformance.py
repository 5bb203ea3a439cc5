"""The same RCPT probes against a real Postfix and against the sandbox's server, by our client and by smtplib."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from extauth.sandbox.old_server import OldServer
from tests.servers.certificates import Certificates
from tests.servers.postfix import Postfix
from wire.endpoint import Endpoint, Security, TlsPolicy
from wire.outcome import SetupTrouble, Verdict
from wire.smtp import SmtpClient, classify_rcpt

_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Peer:
    """Knows known@old.test, postmaster@old.test and alias@old.test."""

    host: str
    port: int


@pytest.fixture(params=["postfix", "sandbox"])
async def peer(request: pytest.FixtureRequest, certificates: Certificates) -> AsyncIterator[Peer]:
    """Each server in turn."""
    if request.param == "postfix":
        postfix: Postfix = request.getfixturevalue("postfix")
        yield Peer(postfix.host, postfix.port)
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.good.chain, certificates.good.key)
    old = OldServer(tls=context)
    old.add_user("known@old.test", "x", aliases=["alias@old.test"])
    old.add_user("postmaster@old.test", "x")
    await old.start()
    yield Peer("127.0.0.1", old.smtp.port)
    await old.close()


async def _connect(peer: Peer, security: Security = Security.PLAIN, policy: TlsPolicy | None = None) -> SmtpClient:
    deadline = asyncio.get_running_loop().time() + _SECONDS
    endpoint = Endpoint("smtp", peer.host, peer.port, security)
    return await SmtpClient.connect(endpoint, policy or TlsPolicy(), helo="probe.test", deadline=deadline)


@pytest.mark.parametrize("recipient", ["known@old.test", "alias@old.test", "Known@OLD.test", "postmaster@old.test"])
async def test_known_recipient_is_yes(peer: Peer, recipient: str) -> None:
    """A user, an alias, any case: 250."""
    client = await _connect(peer)
    assert (await client.mail("")).code == 250
    reply = await client.rcpt(recipient)
    assert classify_rcpt(reply, known_accepted=None).verdict is Verdict.YES
    await client.quit()


async def test_unknown_recipient_is_no(peer: Peer) -> None:
    """550 5.1.1 is the server's own word about this user, whatever else it accepts."""
    client = await _connect(peer)
    await client.mail("")
    reply = await client.rcpt("nobody@old.test")
    assert (reply.code, reply.enhanced) == (550, "5.1.1")
    assert classify_rcpt(reply, known_accepted=None).verdict is Verdict.NO
    assert classify_rcpt(reply, known_accepted=True).verdict is Verdict.NO
    await client.quit()


async def test_foreign_domain_is_no_verdict(peer: Peer) -> None:
    """Relaying denied is about us, not about a user."""
    client = await _connect(peer)
    await client.mail("")
    reply = await client.rcpt("someone@elsewhere.test")
    assert 500 <= reply.code <= 599
    assert classify_rcpt(reply, known_accepted=None).verdict is Verdict.LATER
    await client.quit()


async def test_one_session_probes_many(peer: Peer) -> None:
    """RSET between the probes keeps a session good for the next."""
    client = await _connect(peer)
    for _ in range(12):
        await client.mail("")
        assert classify_rcpt(await client.rcpt("known@old.test"), known_accepted=None).verdict is Verdict.YES
        await client.rset()
    assert client.usable
    await client.quit()


async def test_starttls(peer: Peer, certificates: Certificates) -> None:
    """STARTTLS with the right CA; a wrong one is a matter of the setup."""
    client = await _connect(peer, Security.STARTTLS, TlsPolicy(ca_file=str(certificates.ca_file)))
    assert client.stream.secure
    await client.mail("")
    assert (await client.rcpt("known@old.test")).code == 250
    await client.quit()
    for policy in (TlsPolicy(ca_file=str(certificates.other_ca_file)), TlsPolicy()):
        with pytest.raises(SetupTrouble):
            await _connect(peer, Security.STARTTLS, policy)


async def test_data_with_lone_dots_is_accepted(peer: Peer) -> None:
    """Dot-stuffed content ends where it ends, and the session goes on."""

    async def chunks() -> AsyncIterator[bytes]:
        for piece in (b"Subject: dots\r\n\r\n.\r", b"\n..\r\n.a\r\n", b"no line end"):
            yield piece

    client = await _connect(peer)
    await client.mail("")
    await client.rcpt("known@old.test")
    reply = await client.data(chunks())
    assert reply.code == 250
    assert (await client.mail("")).code == 250
    await client.quit()


async def test_smtplib_agrees(peer: Peer) -> None:
    """A client that others wrote gets the same codes."""

    def ask() -> list[int]:
        with smtplib.SMTP(peer.host, peer.port, "probe.test", timeout=_SECONDS) as session:
            session.ehlo()
            session.mail("")
            return [session.rcpt(f"{name}@old.test")[0] for name in ("known", "alias", "nobody")]

    assert await asyncio.to_thread(ask) == [250, 250, 550]
