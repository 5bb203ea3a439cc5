"""The same IMAP checks against a real Dovecot and against the sandbox's server, by our client and by others.

What our client finds at Dovecot it must find at the sandbox, or the sandbox would teach us wrong.
"""

from __future__ import annotations

import asyncio
import hashlib
import imaplib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import imapclient
import pytest

from extauth.sandbox.imap_listing import MailUser
from extauth.sandbox.imap_server import ImapServer
from extauth.sandbox.imap_session import LoginRefused
from extauth.sandbox.mailstore import MailStore
from tests.servers.certificates import Certificates, ServerCertificate
from tests.servers.corpus import generated, spread_date, stored_form
from tests.servers.dovecot import Dovecot
from tests.servers.passwords import ODD
from tests.servers.raw_imap import internal_date
from wire.endpoint import Endpoint, Security, TlsPolicy
from wire.imap.client import ImapClient
from wire.imap.names import encode_mailbox
from wire.outcome import MailboxUnavailable, SetupTrouble, Temporary, Verdict
from wire.secret import Secret

_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Peer:
    """A server with the users of ODD and a fresh user for this test."""

    host: str
    port: int
    tls_port: int
    keeps: Callable[[bytes], bytes]  # what becomes of a message that is appended


def _context(certificate: ServerCertificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    return context


@pytest.fixture(params=["dovecot", "sandbox"])
async def peer(request: pytest.FixtureRequest, certificates: Certificates) -> AsyncIterator[Peer]:
    """Each server in turn; the users' names are those of ODD."""
    if request.param == "dovecot":
        dovecot: Dovecot = request.getfixturevalue("dovecot")
        yield Peer(dovecot.host, dovecot.imap_port, dovecot.imaps_port, stored_form)
        return
    stores = {name: MailStore() for name in ODD}

    async def log_in(login: bytes, password: bytes, _authzid: bytes, _client: str) -> MailUser:
        name = login.decode("utf-8", "replace").lower()
        if ODD.get(name) != password:
            raise LoginRefused("AUTHENTICATIONFAILED", "Authentication failed.")
        return MailUser(name, stores[name])

    context = _context(certificates.good)
    plain, implicit = ImapServer(log_in, tls=context), ImapServer(log_in, tls=context, implicit_tls=True)
    await plain.start()
    await implicit.start()
    yield Peer("127.0.0.1", plain.port, implicit.port, lambda content: content)
    await plain.close()
    await implicit.close()


async def _connect(peer: Peer, security: Security = Security.PLAIN, policy: TlsPolicy | None = None) -> ImapClient:
    port = peer.tls_port if security is Security.TLS else peer.port
    deadline = asyncio.get_running_loop().time() + _SECONDS
    return await ImapClient.connect(
        Endpoint("imap", peer.host, port, security), policy or TlsPolicy(), deadline=deadline
    )


async def _logged_in(peer: Peer, name: str) -> ImapClient:
    client = await _connect(peer)
    answer = await client.login(name.encode(), Secret(ODD[name]))
    assert answer.verdict is Verdict.YES, answer
    return client


@pytest.mark.parametrize("name", ODD)
async def test_right_password_is_yes(peer: Peer, name: str) -> None:
    """Any bytes of a password reach the server as they are."""
    client = await _connect(peer)
    answer = await client.login(name.encode(), Secret(ODD[name]))
    assert answer.verdict is Verdict.YES
    await client.logout()


@pytest.mark.parametrize("name", ["plain", "quotes", "latin1", "spaces"])
async def test_wrong_password_is_no(peer: Peer, name: str) -> None:
    """Only the explicit refusal is a NO; a password one byte off is wrong, and so is its trimmed form."""
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


async def test_login_name_of_odd_bytes_is_no_or_later(peer: Peer) -> None:
    """A name that needs a literal is sent as one and refused; it never breaks the dialogue."""
    client = await _connect(peer)
    answer = await client.login(b'no "body" \xe4 \\', Secret(b"secret1"))
    client.close()
    assert answer.verdict is not Verdict.YES


@pytest.mark.parametrize("security", [Security.TLS, Security.STARTTLS])
async def test_tls_with_the_right_ca(peer: Peer, certificates: Certificates, security: Security) -> None:
    """Implicit TLS and STARTTLS with a CA file; the connection is secure before the password goes."""
    client = await _connect(peer, security, TlsPolicy(ca_file=str(certificates.ca_file)))
    assert client.stream.secure
    answer = await client.login(b"latin1", Secret(ODD["latin1"]))
    assert answer.verdict is Verdict.YES
    client.stream.abort()  # TLS takes its leave in the background, and this test's loop would not wait for it


@pytest.mark.parametrize("security", [Security.TLS, Security.STARTTLS])
async def test_tls_with_a_wrong_ca_is_setup_trouble(peer: Peer, certificates: Certificates, security: Security) -> None:
    """A certificate that our CA does not vouch for is about the setup, never about a user."""
    for policy in (TlsPolicy(ca_file=str(certificates.other_ca_file)), TlsPolicy()):
        with pytest.raises(SetupTrouble):
            await _connect(peer, security, policy)


@pytest.mark.parametrize("security", [Security.TLS, Security.STARTTLS])
async def test_tls_unverified_where_written_down(peer: Peer, security: Security) -> None:
    """verify = false accepts any certificate."""
    client = await _connect(peer, security, TlsPolicy(verify=False))
    assert (await client.login(b"plain", Secret(ODD["plain"]))).verdict is Verdict.YES
    client.stream.abort()  # as above


async def test_tls_to_a_plain_port_is_never_a_verdict(peer: Peer) -> None:
    """TLS towards a listener that greets in the clear fails as setup or as temporary trouble."""
    swapped = Peer(peer.host, peer.tls_port, peer.port, peer.keeps)
    with pytest.raises((SetupTrouble, Temporary)):
        await _connect(swapped, Security.TLS, TlsPolicy(verify=False))


async def test_mailboxes_and_messages_survive_the_round_trip(peer: Peer) -> None:
    """Create, list, subscribe, append with flags and dates, fetch back: names, bytes, flags and dates are the same."""
    client = await _logged_in(peer, "quotes")
    separator = next(listed.separator for listed in await client.list_mailboxes(b"INBOX"))
    assert separator is not None
    mailbox = encode_mailbox("Grüße & Ко") + separator + b'in "quotes"'
    with suppress(MailboxUnavailable):
        await client.create(mailbox)
    assert await client.subscribe([mailbox]) == {}
    messages = [message.content for message in generated()]
    dates = [internal_date(spread_date(number)) for number in range(len(messages))]
    for content, date in zip(messages, dates, strict=True):
        appended = await client.append(mailbox, [rb"\Seen", b"$Forwarded"], date, len(content), _chunks(content))
        assert appended.uid is not None
    assert mailbox in {listed.name for listed in await client.list_mailboxes(b"*")}
    assert mailbox in {listed.name for listed in await client.list_mailboxes(b"*", subscribed=True)}
    selected = await client.examine(mailbox)
    assert (selected.exists, selected.read_only) == (len(messages), True)
    summaries = await client.fetch_summaries(b"1:*")
    assert [summary.internal_date for summary in summaries] == dates
    assert {flag for summary in summaries for flag in summary.flags} - {rb"\Recent"} == {rb"\Seen", b"$Forwarded"}
    found = []
    async for body in client.fetch_bodies([summary.uid for summary in summaries]):
        content = b"".join([chunk async for chunk in body.chunks])
        assert body.size == len(content)
        found.append(content)
    assert [_digest(content) for content in found] == [_digest(peer.keeps(content)) for content in messages]
    assert await client.uid_search() == [summary.uid for summary in summaries]
    await client.logout()


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 1000):
        yield content[start : start + 1000]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_missing_mailbox_is_unavailable(peer: Peer) -> None:
    """A mailbox that does not exist costs that mailbox, not the connection."""
    client = await _logged_in(peer, "zero")
    with pytest.raises(MailboxUnavailable):
        await client.examine(b"no such mailbox")
    assert (await client.examine(b"INBOX")).exists == 0
    await client.logout()


async def test_fetching_what_is_gone_gives_no_content(peer: Peer) -> None:
    """A UID that vanished between the listing and the fetch yields no body, and the others all the same."""
    client = await _logged_in(peer, "number")
    await client.append(b"INBOX", [], None, 10, _chunks(b"A: b\r\n\r\nc\r"))
    await client.select(b"INBOX")
    uid = (await client.uid_search())[-1]
    sizes = {}
    async for body in client.fetch_bodies([uid, uid + 1000]):
        sizes[body.uid] = body.size
        async for _ in body.chunks:
            pass
    assert sizes[uid] is not None
    assert sizes[uid + 1000] is None
    await client.logout()


@pytest.mark.parametrize("name", ["plain", "spaces", "quotes", "backslash", "number", "literal", "injection", "long"])
async def test_imaplib_and_imapclient_agree(peer: Peer, name: str) -> None:
    """Clients that others wrote get the same verdict for the same password."""

    def ask(password: str) -> tuple[bool, bool]:
        return _imaplib(peer, name, password), _imapclient(peer, name, password)

    right = ODD[name].decode("ascii")
    assert await asyncio.to_thread(ask, right) == (True, True)
    assert await asyncio.to_thread(ask, right + "x") == (False, False)


def _imaplib(peer: Peer, name: str, password: str) -> bool:
    with suppress(imaplib.IMAP4.error), imaplib.IMAP4(peer.host, peer.port, timeout=_SECONDS) as session:
        session.login(name, password)
        return True
    return False


def _imapclient(peer: Peer, name: str, password: str) -> bool:
    refused = suppress(imapclient.exceptions.LoginError)
    with imapclient.IMAPClient(peer.host, peer.port, ssl=False, timeout=_SECONDS) as session, refused:
        session.login(name, password)
        return True
    return False


async def test_imapclient_reads_what_we_stored(peer: Peer) -> None:
    """A mailbox made and filled by our client looks the same to another client."""
    client = await _logged_in(peer, "backslash")
    mailbox = encode_mailbox("Über uns")
    await client.create(mailbox)
    content = b"Subject: seen by two\r\n\r\nbody\r\n"
    await client.append(mailbox, [rb"\Flagged"], b"13-Feb-2009 23:31:30 +0530", len(content), _chunks(content))
    await client.logout()

    def read() -> dict[bytes, object]:
        with imapclient.IMAPClient(peer.host, peer.port, ssl=False, timeout=_SECONDS) as session:
            session.normalise_times = False
            session.login("backslash", ODD["backslash"].decode())
            session.select_folder("Über uns", readonly=True)
            found: dict[bytes, object] = next(
                iter(session.fetch(session.search(), ["BODY.PEEK[]", "FLAGS", "INTERNALDATE"]).values())
            )
            return found

    found = await asyncio.to_thread(read)
    assert found[b"BODY[]"] == content
    assert isinstance(found[b"FLAGS"], tuple)
    assert rb"\Flagged" in found[b"FLAGS"]
    # the instant counts: Dovecot shows it in its own zone
    assert found[b"INTERNALDATE"] == datetime(2009, 2, 13, 18, 1, 30, tzinfo=UTC)
