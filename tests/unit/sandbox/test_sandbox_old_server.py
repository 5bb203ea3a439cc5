"""The old server and the mail it holds, with the standard library's clients."""

from __future__ import annotations

import asyncio
import imaplib
import poplib
import smtplib
from collections.abc import AsyncIterator, Callable

import pytest

from extauth.sandbox.letters import KINDS, LetterBox, fill
from extauth.sandbox.mailstore import MailStore
from extauth.sandbox.old_server import OldServer
from extauth.sandbox.pop_server import stuffed
from extauth.sandbox.world import Sandbox


@pytest.fixture
async def old() -> AsyncIterator[OldServer]:
    server = OldServer(("old.test",), admin_login=b"master", admin_password=b"master pw")
    server.add_user("ann@old.test", b"secret \xe4", login="ann", aliases=("ann.alias@old.test",))
    await server.start()
    yield server
    await server.close()


async def smtp(server: OldServer, work: Callable[[smtplib.SMTP], None]) -> None:
    def run() -> None:
        with smtplib.SMTP("127.0.0.1", server.smtp.port, timeout=10) as client:
            client.ehlo()
            client.mail("")
            work(client)

    await asyncio.to_thread(run)


async def test_rcpt_answers(old: OldServer) -> None:
    def work(client: smtplib.SMTP) -> None:
        assert client.rcpt("ann@old.test")[0] == 250
        assert client.rcpt("Ann.Alias@old.test")[0] == 250
        assert client.rcpt("postmaster@old.test")[0] == 250
        assert client.rcpt("bob@old.test") == (550, b"5.1.1 <bob@old.test> user unknown")
        assert client.rcpt("ann@elsewhere.test")[0] == 554

    await smtp(old, work)


async def test_rcpt_policies(old: OldServer) -> None:
    old.greylist_tries = 1

    def greylisted(client: smtplib.SMTP) -> None:
        assert client.rcpt("ann@old.test")[0] == 451
        assert client.rcpt("ann@old.test")[0] == 250

    await smtp(old, greylisted)
    old.greylist_tries = 0
    old.accept_all = True
    old.users["ann@old.test"].full = True
    old.smtp.faults.reply("RCPT", b"451 4.3.0 disk", having=b"later")
    old.smtp.refusal_limit = 2

    def work(client: smtplib.SMTP) -> None:
        assert client.rcpt("bob@old.test")[0] == 250
        assert client.rcpt("later@old.test")[0] == 451
        assert client.rcpt("ann@old.test")[0] == 552
        assert client.rcpt("x@elsewhere.test")[0] == 554
        assert client.rcpt("bob@old.test")[0] == 421
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.rcpt("ann@old.test")

    await smtp(old, work)


async def test_smtp_delivers_byte_for_byte(old: OldServer) -> None:
    message = b"Subject: x\r\n\r\n.\r\n..dots\r\n" + b"y" * 5000 + b"\r\n\xff\r\n"

    def work(client: smtplib.SMTP) -> None:
        client.rset()
        client.sendmail("", ["ann@old.test"], message)

    await smtp(old, work)
    assert [m.data for m in old.users["ann@old.test"].store.inbox.messages] == [message]


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "MAIL", "DATA"])
async def test_smtp_faults(old: OldServer, verb: str) -> None:
    old.smtp.faults.reply(verb, b"421 4.3.2 going down")

    def run() -> int:
        try:
            with smtplib.SMTP("127.0.0.1", old.smtp.port, timeout=10) as client:
                if client.ehlo()[0] != 250:
                    return 421
                client.sendmail("a@b.test", ["ann@old.test"], b"x: y\r\n\r\n")
        except smtplib.SMTPResponseException as error:
            return error.smtp_code
        return 250

    assert await asyncio.to_thread(run) == 421
    assert await asyncio.to_thread(run) == 250


async def test_smtp_cut_in_a_reply(old: OldServer) -> None:
    old.smtp.faults.cut("RCPT", reply=b"250 2.1.5 OK", keep=5)
    reader, writer = await asyncio.open_connection("127.0.0.1", old.smtp.port)
    writer.write(b"EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<ann@old.test>\r\n")
    assert (await reader.read()).endswith(b"\r\n250 2")
    writer.close()


async def test_poplib_gets_every_message_byte_for_byte(old: OldServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poplib, "_MAXLINE", 1 << 20)  # it refuses lines that real mail has
    box = old.users["ann@old.test"].store.inbox
    for letter in LetterBox("ann@old.test", 1, big=5000).letters(len(KINDS)):
        box.add(letter.data)

    def run() -> list[bytes]:
        client = poplib.POP3("127.0.0.1", old.pop.port)
        assert b"PLAIN" in b" ".join(str(v).encode() for v in client.capa()["SASL"])
        client.encoding = "latin-1"
        client.user("ann")
        with pytest.raises(poplib.error_proto, match="AUTH"):
            client.pass_("wrong")
        client.user("ann")
        client.pass_("secret \xe4")
        count, size = client.stat()
        assert (count, size) == (len(box.messages), box.size)
        assert len({line.split()[1] for line in client.uidl()[1]}) == count
        found = [b"\r\n".join(client.retr(n + 1)[1]) + b"\r\n" for n in range(count)]
        client.dele(1)
        client.quit()
        return found

    before = [m.data for m in box.messages]
    assert await asyncio.to_thread(run) == before
    assert len(box.messages) == len(before) - 1


async def test_pop_apop_sasl_and_locks(old: OldServer) -> None:
    old.users["ann@old.test"].password = b"ascii"
    old.pop.exclusive = True

    def run() -> None:
        client = poplib.POP3("127.0.0.1", old.pop.port)
        client.apop("ann", "ascii")
        other = poplib.POP3("127.0.0.1", old.pop.port)
        with pytest.raises(poplib.error_proto, match="IN-USE"):
            other._shortcmd("AUTH PLAIN AGFubgBhc2NpaQ==")  # type: ignore[attr-defined]  # poplib has no AUTH
        client.quit()
        other._shortcmd("AUTH PLAIN AGFubgBhc2NpaQ==")  # type: ignore[attr-defined]  # poplib has no AUTH
        other.quit()

    await asyncio.to_thread(run)


async def test_a_short_login_is_known_where_only_one_user_has_it(old: OldServer) -> None:
    for address in ("bob@old.test", "joe@old.test", "joe@other.test"):
        old.add_user(address, b"ascii")

    def run(login: str) -> None:
        client = poplib.POP3("127.0.0.1", old.pop.port)
        try:
            client.apop(login, "ascii")
        finally:
            client.close()

    await asyncio.to_thread(run, "bob")
    await asyncio.to_thread(run, "joe@other.test")
    with pytest.raises(poplib.error_proto):
        await asyncio.to_thread(run, "joe")


async def test_locked_users_and_the_admin(old: OldServer) -> None:
    user = old.users["ann@old.test"]
    user.locked = True

    def run(login: str, password: str) -> None:
        with imaplib.IMAP4("127.0.0.1", old.imap.port) as client:
            client.login(login, password)

    user.password = b"ascii"
    with pytest.raises(imaplib.IMAP4.error, match="UNAVAILABLE"):
        await asyncio.to_thread(run, "ann", "ascii")
    user.locked = False
    await asyncio.to_thread(run, "ANN", "ascii")
    await asyncio.to_thread(run, '"ann*master"', "master pw")

    def proxy() -> None:
        client = imaplib.IMAP4("127.0.0.1", old.imap.port)
        client.login("master", "master pw")
        assert client.proxyauth("ann")[0] == "OK"
        assert client.select()[0] == "OK"
        client.logout()

    await asyncio.to_thread(proxy)
    assert old.log_in_attempts["ann"] == 2


async def test_an_outage_keeps_the_ports(old: OldServer) -> None:
    ports = (old.smtp.port, old.imap.port, old.pop.port)
    await old.go_down()
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
    await old.come_back()
    assert (old.smtp.port, old.imap.port, old.pop.port) == ports
    _, writer = await asyncio.open_connection("127.0.0.1", ports[0])
    writer.close()


def test_letters_are_the_same_each_time_and_of_every_kind() -> None:
    first = list(LetterBox("a@b.test", 7, big=3000).letters(40))
    assert first == list(LetterBox("a@b.test", 7, big=3000).letters(40))
    assert first != list(LetterBox("c@b.test", 7, big=3000).letters(40))
    data = [letter.data for letter in first]
    assert all(d.endswith(b"\r\n") and b"\0" not in d for d in data)
    assert len(set(data)) < len(data)  # twins
    assert any(max(map(len, d.split(b"\r\n"))) > 5000 for d in data)
    assert any(b"\r\n.\r\n" in d for d in data)
    assert any(b"message-id" not in d.lower() for d in data)
    assert all(letter.date.tzinfo is not None for letter in first)


def test_fill_makes_nested_special_and_subscribed_mailboxes() -> None:
    store = MailStore(b".", prefix=b"INBOX.", makes_parents=False)
    count = fill(store, LetterBox("a@b.test", 1, big=3000), inbox=3, mailboxes=9, each=2)
    assert count == 3 + 8 * 2 == sum(len(box.messages) for box in store)
    assert store.mailboxes[b"INBOX.Archive"].selectable is False
    assert store.mailboxes[b"INBOX.Sent"].special == (b"\\Sent",)
    assert b"INBOX.Entw&APw-rfe &- Ideen" in store.subscriptions
    assert store.mailboxes[b"INBOX.empty"].messages == []


def test_dots_are_stuffed() -> None:
    assert stuffed(b".\r\na\r\n..b") == b"..\r\na\r\n...b\r\n.\r\n"


def test_a_world_can_have_fixed_ports() -> None:
    world = Sandbox(users=1, inbox=1, mailboxes=0)
    world.fix_ports(20106)
    new, old = world.communigate, world.old
    ports = [server.listener.port for server in (new.cli, new.imap, new.smtp, old.smtp, old.imap, old.pop)]
    assert ports == [20106, 20107, 20108, 20109, 20110, 20111]
    assert world.messages == 1
