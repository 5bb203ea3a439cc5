"""The IMAP client against a real Dovecot: logins with odd passwords, TLS, and mail that arrives byte for byte."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager

import pytest

from tests.servers.certificates import Certificates
from tests.servers.corpus import Message
from tests.servers.dovecot import Dovecot
from wire.endpoint import Endpoint, Security, TlsPolicy
from wire.imap.client import ImapClient
from wire.imap.names import decode_mailbox, encode_mailbox
from wire.outcome import MailboxUnavailable, MessageRefused, SetupTrouble, Verdict
from wire.secret import Secret

PASSWORDS = {
    "spaces": b" two  spaces ",
    "quotes": b'"quo"te\'',
    "backslash": b"back\\slash\\",
    "number": b"#1234",
    "zero": b"0",
    "utf8": "pässwörd-пароль-密码".encode(),
    "latin1": b"p\xe4ssw\xf6rd",
    "delete": b"a\x7fb",
    "braces": b"{5}",
    "percent": b"%s%*(){}[]&~",
    "colon": b"a:b:c",
    "long": b"x" * 500,
}


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> Iterator[Dovecot]:
    """Its own instance: one user for each odd password, and some with mail."""
    users = {**PASSWORDS, "mail": b"x", "corpus": b"x", "names": b"x", "big": b"x"}
    with Dovecot(users, certificate=certificates.good, tuned=True) as dovecot:
        yield dovecot


@pytest.fixture(scope="module")
def sasl(certificates: Certificates) -> Iterator[Dovecot]:
    """One that offers PLAIN as its only mechanism."""
    with Dovecot(PASSWORDS, certificate=certificates.good, mechanisms="plain", tuned=True) as dovecot:
        yield dovecot


def plain(server: Dovecot) -> Endpoint:
    """The listener without TLS."""
    return Endpoint("imap", server.host, server.imap_port)


@asynccontextmanager
async def connected(endpoint: Endpoint, tls: TlsPolicy | None = None) -> AsyncIterator[ImapClient]:
    """A client before its login."""
    deadline = asyncio.get_running_loop().time() + 60
    client = await ImapClient.connect(endpoint, tls or TlsPolicy(), deadline=deadline)
    try:
        yield client
    finally:
        await client.logout(wait=True)


@asynccontextmanager
async def logged_in(server: Dovecot, login: bytes = b"mail") -> AsyncIterator[ImapClient]:
    """A client past its login."""
    async with connected(plain(server)) as client:
        assert (await client.login(login, Secret(b"x"))).verdict is Verdict.YES
        yield client


async def chunks(content: bytes, size: int = 65536) -> AsyncIterator[bytes]:
    """A message in pieces."""
    for at in range(0, len(content), size):
        yield content[at : at + size]


async def bodies(client: ImapClient, uids: list[int]) -> dict[int, bytes]:
    """Each message whole."""
    found = {}
    async with aclosing(client.fetch_bodies(uids)) as messages:
        async for body in messages:
            content = b"".join([piece async for piece in body.chunks])
            assert body.size == len(content)
            found[body.uid] = content
    return found


@pytest.mark.parametrize("name", PASSWORDS)
@pytest.mark.parametrize("security", Security)
async def test_right_passwords(server: Dovecot, certificates: Certificates, name: str, security: Security) -> None:
    """Every byte arrives: in the clear, after STARTTLS, and over TLS."""
    port = server.imaps_port if security is Security.TLS else server.imap_port
    endpoint = Endpoint("imap", server.host, port, security)
    async with connected(endpoint, TlsPolicy(ca_file=str(certificates.ca_file))) as client:
        answer = await client.login(name.encode(), Secret(PASSWORDS[name]), refresh_capabilities=False)
        assert answer.verdict is Verdict.YES
        assert PASSWORDS[name].decode("latin-1") not in answer.reason or name == "zero"


@pytest.mark.parametrize("name", PASSWORDS)
async def test_right_passwords_by_sasl(sasl: Dovecot, certificates: Certificates, name: str) -> None:
    """The same over AUTHENTICATE PLAIN, which a server with LOGIN takes as well (an authzid asks for it)."""
    endpoint = Endpoint("imap", sasl.host, sasl.imap_port, Security.STARTTLS)
    async with connected(endpoint, TlsPolicy(ca_file=str(certificates.ca_file))) as client:
        answer = await client.login(name.encode(), Secret(PASSWORDS[name]), authzid=name.encode())
        assert answer.verdict is Verdict.YES
        assert "UIDPLUS" in client.capabilities


async def test_wrong_passwords(server: Dovecot) -> None:
    """Near misses are refused, in so many words; an unknown user as well."""
    wrong = [
        (b"spaces", b"two  spaces"),
        (b"spaces", b" two spaces "),
        (b"backslash", b"back\\\\slash\\\\"),
        (b"utf8", "pässwörd".encode()),
        (b"latin1", "pässwörd".encode()),
        (b"zero", b""),
        (b"nobody", b"0"),
    ]

    async def verdict(login: bytes, password: bytes) -> Verdict:
        async with connected(plain(server)) as client:
            return (await client.login(login, Secret(password))).verdict

    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(verdict(login, password)) for login, password in wrong]
    assert [task.result() for task in asked] == [Verdict.NO] * len(wrong)


@pytest.mark.parametrize("security", [Security.TLS, Security.STARTTLS])
async def test_a_wrong_authority(server: Dovecot, certificates: Certificates, security: Security) -> None:
    """The certificate is not accepted; off only by explicit configuration."""
    port = server.imaps_port if security is Security.TLS else server.imap_port
    endpoint = Endpoint("imap", server.host, port, security)
    with pytest.raises(SetupTrouble, match="certificate"):
        await ImapClient.connect(endpoint, TlsPolicy(ca_file=str(certificates.other_ca_file)))
    async with connected(endpoint, TlsPolicy(verify=False)) as client:
        assert (await client.login(b"zero", Secret(b"0"))).verdict is Verdict.YES


async def test_starttls_where_there_is_none() -> None:
    """Required and not offered."""
    with Dovecot({"u": b"x"}) as dovecot, pytest.raises(SetupTrouble, match="STARTTLS"):
        await ImapClient.connect(Endpoint("imap", dovecot.host, dovecot.imap_port, Security.STARTTLS), TlsPolicy())


async def test_an_administrator_opens_a_mailbox() -> None:
    """An authzid goes by SASL; Dovecot's master users do it."""
    with Dovecot({"u": b"x"}, masters={"admin": b"m\xe4ster"}) as dovecot:
        async with connected(plain(dovecot)) as client:
            assert (await client.login(b"admin", Secret(b"m\xe4ster"), authzid=b"u")).verdict is Verdict.YES
        async with connected(plain(dovecot)) as client:
            assert (await client.login(b"admin", Secret(b"x"), authzid=b"u")).verdict is Verdict.NO


def kept(content: bytes) -> bytes:
    """What Dovecot makes of a message: bare LF as CRLF, `\\r\\r\\n` as `\\r\\n`, one final lone CR gone."""
    content = content.replace(b"\r\r\n", b"\r\n")
    content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return content.removesuffix(b"\r")


async def test_mail_arrives_as_it_was(server: Dovecot, corpus: list[Message]) -> None:
    """Every odd message goes in and comes out; what Dovecot changes, it changes in its known ways only."""
    async with logged_in(server, b"corpus") as client:
        sent = {}
        for message in corpus:
            if b"\0" in message.content:
                continue
            size = len(message.content)
            appended = await client.append(b"INBOX", (), None, size, chunks(message.content, 1000))
            assert appended.uid is not None
            sent[appended.uid] = message.content
        await client.examine(b"INBOX")
        assert await client.uid_search() == sorted(sent)
        got = await bodies(client, sorted(sent))
        for uid, content in sent.items():
            if b"\r\r" not in content:
                assert got[uid] == kept(content)
        again = await bodies(client, sorted(sent))  # what it gives is the same each time
        assert {uid: hashlib.sha256(text).digest() for uid, text in again.items()} == {
            uid: hashlib.sha256(text).digest() for uid, text in got.items()
        }
        headers = await client.fetch_headers(sorted(sent), ["Message-ID"])
        assert sorted(headers) == sorted(sent)


async def test_flags_dates_and_uids(server: Dovecot) -> None:
    """All that goes with a message."""
    async with logged_in(server) as client:
        name = encode_mailbox("Flags")
        assert await client.create(name)
        content = b"Subject: a\r\n\r\nb\r\n"
        date = b"17-Jul-1996 02:44:25 -0700"
        flags = (b"\\Seen", b"\\Flagged", b"$Forwarded", b"NonJunk")
        appended = await client.append(name, flags, date, len(content), chunks(content))
        selected = await client.select(name)
        assert (selected.exists, selected.uidvalidity) == (1, appended.uidvalidity)
        assert selected.uidnext == (appended.uid or 0) + 1
        assert "\\*" in selected.permanent_flags
        assert not selected.read_only
        assert selected.uid_sticky
        assert (await client.examine(name)).read_only
        [summary] = await client.fetch_summaries()
        assert summary.uid == appended.uid
        assert summary.size == len(content)
        assert set(flags) <= set(summary.flags)
        assert summary.internal_date in (b"17-Jul-1996 02:44:25 -0700", b"17-Jul-1996 09:44:25 +0000")
        await client.select(name)
        await client.store_flags([summary.uid], b"+FLAGS.SILENT", [b"\\Deleted"])
        assert await client.expunge_uids([summary.uid])
        assert await client.uid_search() == []
        assert await client.fetch_summaries() == []
        status = await client.status(name)
        assert status["MESSAGES"] == 0


async def test_names_of_any_kind(server: Dovecot) -> None:
    """Created, listed, subscribed, opened: what comes back is what was meant."""
    names = [
        "Büro",
        "R&D",
        "日本語",
        'quo"te',
        "back\\slash",
        "two  spaces",
        "per%cent st*r",
        "(paren)",
        "{5}",
        "NIL",
        "😀",
    ]
    async with logged_in(server, b"names") as client:
        for name in names:
            assert await client.create(encode_mailbox(name)) is True
            assert await client.create(encode_mailbox(name)) is False
            assert not await client.subscribe([encode_mailbox(name)])
        listed = {decode_mailbox(found.name) for found in await client.list_mailboxes()}
        assert listed == {*names, "INBOX"}
        subscribed = await client.list_mailboxes(subscribed=True)
        assert {decode_mailbox(found.name) for found in subscribed} == set(names)
        for found in subscribed:
            assert found.separator == b"."
            assert (await client.examine(found.name)).exists == 0
            assert (await client.status(found.name))["MESSAGES"] == 0
        with pytest.raises(MailboxUnavailable):
            await client.select(b"no such mailbox")
        with pytest.raises(MailboxUnavailable):
            await client.append(b"no such mailbox", (), None, 1, chunks(b"x"))
        namespaces = await client.namespaces()
        assert namespaces is not None
        assert namespaces.personal == ((b"", b"."),)


async def test_a_refused_message_leaves_the_connection(server: Dovecot) -> None:
    """A month that no calendar has is not taken; the next message is."""
    async with logged_in(server) as client:
        with pytest.raises(MessageRefused):
            await client.append(b"INBOX", (), b"01-Foo-2000 00:00:00 +0000", 3, chunks(b"abc"))
        assert (await client.append(b"INBOX", (), None, 3, chunks(b"abc"))).uid is not None


@pytest.mark.parametrize(
    ("flags", "date"), [((), b"01-Foo-2020 00:00:00 +0000"), ((), b"no date"), ((b"\\XOdd",), None)]
)
async def test_mail_is_never_run_as_commands(server: Dovecot, flags: tuple[bytes, ...], date: bytes | None) -> None:
    """Dovecot refuses the arguments, and would then read an unasked literal as commands: none is sent."""
    content = b'x CREATE Evil\r\ny LIST "" "*"\r\n\r\n'
    async with logged_in(server) as client:
        with pytest.raises(MessageRefused):
            await client.append(b"INBOX", flags, date, len(content), chunks(content))
        assert b"Evil" not in {found.name for found in await client.list_mailboxes()}


async def test_a_copy_cut_off_stores_nothing(server: Dovecot) -> None:
    """The source dies within a message: the target has none of it."""

    async def dies() -> AsyncIterator[bytes]:
        yield b"Subject: half"
        raise MessageRefused("the source died")

    async with logged_in(server) as client:
        await client.create(b"Cut")
        with pytest.raises(MessageRefused):
            await client.append(b"Cut", (), None, 1000, dies())
    async with logged_in(server) as client:
        assert (await client.status(b"Cut"))["MESSAGES"] == 0


async def test_large_messages_stream(server: Dovecot) -> None:
    """Both ways at once: out of one mailbox into another, 20 MB in pieces, windows of messages."""
    line = b"0123456789" * 7 + b"\r\n"
    large = b"Subject: large\r\n\r\n" + line * 280_000
    async with logged_in(server, b"big") as source, logged_in(server, b"big") as target:
        await target.create(b"Copy")
        for content in (b"Subject: 1\r\n\r\n", large, b"Subject: 3\r\n\r\nx\r\n"):
            await source.append(b"INBOX", (), None, len(content), chunks(content))
        await source.examine(b"INBOX")
        async with aclosing(source.fetch_bodies(await source.uid_search())) as messages:
            async for body in messages:
                assert body.size is not None
                await target.append(b"Copy", (), None, body.size, body.chunks)
        await target.examine(b"Copy")
        got = await bodies(target, await target.uid_search())
    assert [len(content) for content in got.values()] == [14, len(large), 17]
    assert list(got.values())[1] == large


async def test_a_message_that_went_while_it_was_asked_for(server: Dovecot) -> None:
    """Another session expunges it; the rest arrives."""
    async with logged_in(server) as client, logged_in(server) as other:
        await client.create(b"Gone")
        for number in range(5):
            await client.append(b"Gone", (), None, 1, chunks(b"%d" % number))
        await client.examine(b"Gone")
        await other.select(b"Gone")
        await other.store_flags([2, 4], b"+FLAGS.SILENT", [b"\\Deleted"])
        await other.expunge_uids([2, 4])
        found = {}
        async with aclosing(client.fetch_bodies([1, 2, 3, 4, 5, 99])) as messages:
            async for body in messages:
                found[body.uid] = b"".join([piece async for piece in body.chunks]) if body.size is not None else None
        assert [found[uid] for uid in (1, 3, 5)] == [b"0", b"2", b"4"]
        assert found[99] is None
        assert set(found) == {1, 2, 3, 4, 5, 99}
        await client.noop()
