"""The sandbox's IMAP server, in bytes and with the standard library's client and imapclient."""

from __future__ import annotations

import asyncio
import imaplib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import pytest
from imapclient import IMAPClient

from extauth.sandbox.imap_listing import MailUser
from extauth.sandbox.imap_server import ImapServer
from extauth.sandbox.imap_session import LoginRefused
from extauth.sandbox.mailstore import MailStore

MESSAGE = (
    b"From: Ann <ann@a.test>\r\nTo: c@d.test\r\nSubject: =?utf-8?q?h=C3=A9llo?=\r\nMessage-ID: <1@x>\r\n"
    b'Date: Mon, 7 Feb 1994 21:52:25 -0800\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\npre\r\n--b\r\n'
    b"Content-Type: text/plain; charset=utf-8\r\n\r\nhello\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n"
    b"Subject: inner\r\n\r\nbody\r\n--b--\r\n\xff\xfe\r\n"
)


class World:
    """One server with one user whose password is `pass word`."""

    def __init__(self) -> None:
        self.store = MailStore()
        self.server = ImapServer(self.log_in, extensions=("MULTIAPPEND", "ACL"))

    async def log_in(self, login: bytes, password: bytes, authzid: bytes, ip: str) -> MailUser:
        if (login, password) != (b"user", b"pass word"):
            raise LoginRefused("AUTHENTICATIONFAILED", "no")
        return MailUser("user", self.store)

    async def dialogue(self, *, log_in: bool = True) -> Dialogue:
        dialogue = Dialogue(*await asyncio.open_connection("127.0.0.1", self.server.port))
        assert (await dialogue.line()).startswith(b"* OK ")
        if log_in:
            assert b" OK " in (await dialogue.run(b'LOGIN user "pass word"'))[-1]
        return dialogue


class Dialogue:
    """One client connection in bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def line(self) -> bytes:
        return (await self.reader.readline()).removesuffix(b"\r\n")

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def until(self, tag: bytes) -> list[bytes]:
        lines = [await self.line()]
        while not lines[-1].startswith(tag + b" "):
            assert lines[-1] or not self.reader.at_eof()
            lines.append(await self.line())
        return lines

    async def run(self, command: bytes) -> list[bytes]:
        self.send(b"t " + command + b"\r\n")
        return await self.until(b"t")

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    found = World()
    await found.server.start()
    yield found
    await found.server.close()


@pytest.fixture
async def imap(world: World) -> AsyncIterator[Dialogue]:
    dialogue = await world.dialogue()
    yield dialogue
    await dialogue.close()


# -- with other people's clients ---------------------------------------------------------------------------------------


async def in_thread(world: World, work: Callable[[IMAPClient], None]) -> None:
    def run() -> None:
        client = IMAPClient("127.0.0.1", world.server.port, ssl=False)
        client.login("user", "pass word")
        work(client)
        client.logout()

    await asyncio.to_thread(run)


async def test_imapclient_reads_back_what_it_appends(world: World) -> None:
    moment = datetime(2020, 2, 29, 23, 59, 58, tzinfo=UTC)

    def work(client: IMAPClient) -> None:
        assert client.append("INBOX", MESSAGE, [b"\\Seen", b"$Label1"], moment).startswith(b"[APPENDUID ")
        client.select_folder("INBOX")
        items = ["BODY.PEEK[]", "FLAGS", "INTERNALDATE", "ENVELOPE", "BODYSTRUCTURE", "RFC822.SIZE"]
        items += ["BODY.PEEK[1]", "BODY.PEEK[2.HEADER]", "BODY.PEEK[HEADER.FIELDS (SUBJECT)]", "BODY.PEEK[TEXT]<0.3>"]
        found = client.fetch([1], items)[1]
        assert found[b"BODY[]"] == MESSAGE
        assert set(found[b"FLAGS"]) == {b"\\Seen", b"$Label1", b"\\Recent"}
        assert found[b"RFC822.SIZE"] == len(MESSAGE)
        assert found[b"ENVELOPE"].message_id == b"<1@x>"
        assert found[b"ENVELOPE"].sender == found[b"ENVELOPE"].from_
        assert found[b"BODY[1]"] == b"hello"
        assert found[b"BODY[2.HEADER]"] == b"Subject: inner\r\n\r\n"
        assert found[b"BODY[TEXT]<0>"] == b"pre"
        assert found[b"BODYSTRUCTURE"][1] == b"MIXED"
        assert client.search(["SUBJECT", "HÉLLO"], "UTF-8") == [1]
        assert client.search(["SENTON", datetime(1994, 2, 7, tzinfo=UTC).date()]) == [1]
        assert client.search(["ON", moment.date(), "NOT", "DELETED"]) == [1]

    await in_thread(world, work)
    assert world.store.inbox.messages[0].date == moment


async def test_imapclient_manages_mailboxes(world: World) -> None:
    def work(client: IMAPClient) -> None:
        client.create_folder("Entwürfe/a b")
        assert [name for _, _, name in client.list_folders()] == ["INBOX", "Entwürfe", "Entwürfe/a b"]
        assert [name for _, _, name in client.list_folders("", "%")] == ["INBOX", "Entwürfe"]
        client.subscribe_folder("Entwürfe/a b")
        assert [name for _, _, name in client.list_sub_folders()] == ["Entwürfe/a b"]
        assert client.namespace() == ((("", "/"),), None, None)
        client.multiappend("Entwürfe", [MESSAGE, b"x: y\r\n\r\n."])
        client.select_folder("Entwürfe")
        client.copy([1, 2], "Entwürfe/a b")
        client.move([1], "INBOX")
        client.rename_folder("Entwürfe/a b", "Neu")
        status = client.folder_status("Neu", ["MESSAGES", "UIDNEXT", "UNSEEN"])
        assert status == {b"MESSAGES": 2, b"UIDNEXT": 3, b"UNSEEN": 2}
        client.setacl("Neu", "bob", "lrs")
        assert (b'"bob"', b"lrs") in client.getacl("Neu")
        client.delete_folder("Neu")
        assert not client.folder_exists("Neu")

    await in_thread(world, work)
    assert [m.data for m in world.store.inbox.messages] == [MESSAGE]


async def test_imaplib_logs_in_and_expunges(world: World) -> None:
    for _ in range(3):
        world.store.inbox.add(MESSAGE)

    def run() -> None:
        client = imaplib.IMAP4("127.0.0.1", world.server.port)
        with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
            client.login("user", "wrong")
        client.authenticate("PLAIN", lambda _: b"\0user\0pass word")
        assert client.select() == ("OK", [b"3"])
        client.store("1,3", "+FLAGS", r"(\Deleted)")
        assert client.expunge() == ("OK", [b"3", b"1"])
        assert client.uid("SEARCH", "ALL") == ("OK", [b"2"])
        client.logout()

    await asyncio.to_thread(run)


# -- in bytes ----------------------------------------------------------------------------------------------------------


async def test_select_says_all_that_must_be_said(world: World, imap: Dialogue) -> None:
    world.store.inbox.add(MESSAGE, [b"\\Seen", b"kw"])
    world.store.inbox.add(MESSAGE)
    lines = await imap.run(b"SELECT inbox")
    validity = world.store.inbox.uidvalidity
    assert lines == [
        rb"* FLAGS (\Answered \Flagged \Deleted \Seen \Draft kw)",
        rb"* OK [PERMANENTFLAGS (\Answered \Flagged \Deleted \Seen \Draft kw \*)] limited",
        b"* 2 EXISTS",
        b"* 2 RECENT",
        b"* OK [UNSEEN 2] first unseen",
        b"* OK [UIDVALIDITY %d] UIDs valid" % validity,
        b"* OK [UIDNEXT 3] predicted next UID",
        b"t OK [READ-WRITE] Select completed",
    ]
    assert b"* 0 RECENT" in await imap.run(b"EXAMINE INBOX")


async def test_a_read_only_mailbox_stays_as_it_is(world: World, imap: Dialogue) -> None:
    world.store.inbox.add(MESSAGE)
    await imap.run(b"EXAMINE INBOX")
    assert (await imap.run(rb"STORE 1 +FLAGS (\Seen)"))[-1].startswith(b"t NO [READ-ONLY]")
    await imap.run(b"FETCH 1 BODY[]")
    assert world.store.inbox.messages[0].flags == set()
    await imap.run(b"SELECT INBOX")
    await imap.run(b"FETCH 1 BODY[]")
    assert world.store.inbox.messages[0].flags == {b"\\Seen"}


async def test_literals_synchronizing_and_not(world: World, imap: Dialogue) -> None:
    imap.send(b"a APPEND INBOX {5}\r\n")
    assert (await imap.line()).startswith(b"+ ")
    imap.send(b"a: b\n\r\nb APPEND {5+}\r\nINBOX (kw) {2+}\r\n\xff\xfe\r\n")
    assert b"[APPENDUID" in (await imap.until(b"a"))[-1]
    assert b"[APPENDUID" in (await imap.until(b"b"))[-1]
    assert [m.data for m in world.store.inbox.messages] == [b"a: b\n", b"\xff\xfe"]


async def test_without_literal_plus_such_a_literal_ends_the_connection(world: World, imap: Dialogue) -> None:
    world.server.offer.extensions.discard("LITERAL+")
    assert (await imap.run(b"APPEND INBOX {5+}"))[-1].startswith(b"t BAD")
    assert await imap.line() == b""


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (b"APPEND none {1+}\r\nx", b"t NO [TRYCREATE]"),
        (b"APPEND INBOX {0+}\r\n", b"t NO "),
        (b"APPEND INBOX {3+}\r\na\0b", b"t NO "),
        (b'APPEND INBOX "31-Feb-2020 00:00:00 +0000" {1+}\r\nx', b"t BAD"),
        (b"SELECT none", b"t NO [NONEXISTENT]"),
        (b"CREATE INBOX", b"t NO [ALREADYEXISTS]"),
        (b"DELETE INBOX", b"t NO [CANNOT]"),
        (b"FETCH 1 FLAGS", b"t BAD"),
        (b"NONSENSE", b"t BAD"),
        (b"LOGIN a b", b"t BAD"),
        (b"STATUS INBOX (NOTHING)", b"t BAD"),
        (b"UNSUBSCRIBE none", b"t NO"),
        (b"UID NOOP", b"t BAD"),
    ],
)
async def test_refusals(world: World, imap: Dialogue, command: bytes, reply: bytes) -> None:
    assert (await imap.run(command))[-1].startswith(reply)
    assert world.store.inbox.messages == []


async def test_multiappend_is_all_or_nothing(world: World, imap: Dialogue) -> None:
    assert (await imap.run(b"APPEND INBOX {1+}\r\na {1+}\r\n\0"))[-1].startswith(b"t NO")
    assert world.store.inbox.messages == []
    done = (await imap.run(b'APPEND INBOX (\\Seen) {1+}\r\na (kw) "01-Feb-2020 00:00:00 +0100" {1+}\r\nb'))[-1]
    assert done.startswith(b"t OK [APPENDUID %d 1:2]" % world.store.inbox.uidvalidity)
    world.server.offer.extensions.discard("MULTIAPPEND")
    assert (await imap.run(b"APPEND INBOX {1+}\r\na {1+}\r\nb"))[-1].startswith(b"t BAD")


async def test_an_ancient_server_has_no_extension_and_peeks_only_where_told(world: World) -> None:
    world.store.inbox.add(MESSAGE)
    world.server.offer.be_ancient(peeks=True)
    old = await world.dialogue()
    assert (await old.run(b"CAPABILITY"))[0] == b"* CAPABILITY IMAP4rev1 AUTH=PLAIN"
    assert (await old.run(b"NAMESPACE"))[-1].startswith(b"t BAD")
    await old.run(b"SELECT INBOX")
    assert (await old.run(b"UID FETCH 1 (UID BODY.PEEK[])"))[-1].startswith(b"t BAD")
    assert b"RFC822 {" in (await old.run(b"UID FETCH 1 (UID RFC822.PEEK)"))[0]
    assert world.store.inbox.messages[0].flags == set()
    world.server.offer.be_ancient(peeks=False)
    assert (await old.run(b"UID FETCH 1 (UID RFC822.PEEK)"))[-1].startswith(b"t BAD")
    await old.run(b"EXAMINE INBOX")
    assert b"RFC822 {" in (await old.run(b"UID FETCH 1 (UID RFC822)"))[0]
    assert world.store.inbox.messages[0].flags == set()
    await old.run(b"SELECT INBOX")
    await old.run(b"UID FETCH 1 (UID RFC822)")
    assert world.store.inbox.messages[0].flags == {b"\\Seen"}
    await old.close()


async def test_quota(world: World, imap: Dialogue) -> None:
    world.store.quota = 3
    assert b" OK " in (await imap.run(b"APPEND INBOX {2+}\r\nab"))[-1]
    assert (await imap.run(b"APPEND INBOX {2+}\r\nab"))[-1].startswith(b"t NO [OVERQUOTA]")


async def test_other_sessions_learn_of_changes_when_the_protocol_allows_it(world: World, imap: Dialogue) -> None:
    for _ in range(3):
        world.store.inbox.add(MESSAGE)
    await imap.run(b"SELECT INBOX")
    other = await world.dialogue()
    await other.run(b"SELECT INBOX")
    assert await other.run(rb"UID STORE 1 FLAGS (\Deleted)") == [
        rb"* 1 FETCH (UID 1 FLAGS (\Deleted))",
        b"t OK Store completed",
    ]
    assert (await other.run(b"EXPUNGE"))[0] == b"* 1 EXPUNGE"
    assert await imap.run(b"FETCH 2:3 UID") == [
        b"* 2 FETCH (UID 2)",
        b"* 3 FETCH (UID 3)",
        b"t OK Fetch completed",
    ]
    assert await imap.run(b"NOOP") == [b"* 1 EXPUNGE", b"t OK Noop completed"]
    await other.run(b"APPEND INBOX {1+}\r\nx")
    assert (await imap.run(b"NOOP"))[:1] == [b"* 3 EXISTS"]
    assert await imap.run(b"UID FETCH 3:* UID") == [
        b"* 2 FETCH (UID 3)",
        b"* 3 FETCH (UID 4)",
        b"t OK Fetch completed",
    ]
    await other.close()


async def test_idle_is_told(world: World, imap: Dialogue) -> None:
    await imap.run(b"SELECT INBOX")
    imap.send(b"t IDLE\r\n")
    assert await imap.line() == b"+ idling"
    other = await world.dialogue()
    await other.run(b"APPEND INBOX {1+}\r\nx")
    assert await imap.line() == b"* 1 EXISTS"
    imap.send(b"DONE\r\n")
    assert (await imap.until(b"t"))[-1] == b"t OK idle completed"
    await other.close()


async def test_uid_expunge_takes_only_what_is_named(world: World, imap: Dialogue) -> None:
    for _ in range(3):
        world.store.inbox.add(MESSAGE, [b"\\Deleted"])
    await imap.run(b"SELECT INBOX")
    assert await imap.run(b"UID EXPUNGE 2:9") == [b"* 3 EXPUNGE", b"* 2 EXPUNGE", b"t OK Expunge completed"]
    await imap.run(b"CLOSE")
    assert world.store.inbox.messages == []


async def test_search_keys(world: World, imap: Dialogue) -> None:
    world.store.inbox.add(MESSAGE, [b"\\Seen", b"kw"], datetime(2020, 1, 5, tzinfo=UTC))
    world.store.inbox.add(b"Subject: second\r\n\r\nBody\r\n", [], datetime(2021, 1, 5, tzinfo=UTC))
    await imap.run(b"SELECT INBOX")
    for keys, numbers in (
        (b"ALL", b" 1 2"),
        (b"UNSEEN", b" 2"),
        (b"KEYWORD KW", b" 1"),
        (b"OR KEYWORD kw SUBJECT second", b" 1 2"),
        (b"NOT (SEEN UID 1:*)", b" 2"),
        (b"SINCE 1-Jan-2021", b" 2"),
        (b"BEFORE 5-Jan-2020", b""),
        (b"SENTBEFORE 1-Jan-1995", b" 1"),
        (b"LARGER 100", b" 1"),
        (b"BODY body", b" 1 2"),
        (b"HEADER message-id {3+}\r\n1@x", b" 1"),
        (b'HEADER Message-ID ""', b" 1"),
        (b"FROM ann TO d.test", b" 1"),
        (b"CHARSET UTF-8 SUBJECT {6+}\r\nh\xc3\xa9llo", b" 1"),
        (b"2:*", b" 2"),
    ):
        assert (await imap.run(b"SEARCH " + keys))[0] == b"* SEARCH" + numbers, keys
    assert (await imap.run(b"UID SEARCH RETURN (MIN MAX COUNT ALL) ALL"))[0] == (
        b'* ESEARCH (TAG "t") UID MIN 1 MAX 2 ALL 1:2 COUNT 2'
    )
    assert (await imap.run(b"SEARCH CHARSET KOI8-R ALL"))[-1].startswith(b"t NO [BADCHARSET")


async def test_list_in_all_its_forms(world: World, imap: Dialogue) -> None:
    world.store.create(b"a/b/c")
    world.store.create(b"Sent", special=(b"\\Sent",))
    world.store.subscribe(b"a/b/c")
    world.store.subscribe(b"gone")
    assert await imap.run(b'LIST "" ""') == [b'* LIST (\\Noselect) "/" ""', b"t OK List completed"]
    assert await imap.run(b'LIST "" %') == [
        b'* LIST (\\HasNoChildren) "/" INBOX',
        b'* LIST (\\HasNoChildren \\Sent) "/" Sent',
        b'* LIST (\\HasChildren) "/" a',
        b"t OK List completed",
    ]
    assert await imap.run(b"LIST a/ %") == [b'* LIST (\\HasChildren) "/" a/b', b"t OK List completed"]
    assert await imap.run(b'LIST (SUBSCRIBED) "" *') == [
        b'* LIST (\\HasNoChildren \\Subscribed) "/" a/b/c',
        b'* LIST (\\NonExistent \\Subscribed) "/" gone',
        b"t OK List completed",
    ]
    assert await imap.run(b'LIST "" (INBOX Sent) RETURN (STATUS (MESSAGES))') == [
        b'* LIST (\\HasNoChildren) "/" INBOX',
        b"* STATUS INBOX (MESSAGES 0)",
        b'* LIST (\\HasNoChildren \\Sent) "/" Sent',
        b"* STATUS Sent (MESSAGES 0)",
        b"t OK List completed",
    ]
    assert await imap.run(b'LSUB "" %') == [
        b'* LSUB (\\Noselect) "/" gone',
        b'* LSUB (\\Noselect) "/" a',
        b"t OK Lsub completed",
    ]
    assert (await imap.run(b"DELETE a/b"))[-1].startswith(b"t OK")
    assert b'* LIST (\\Noselect \\HasChildren) "/" a/b' in await imap.run(b'LIST "" *')


async def test_login_disabled_and_connection_limits(world: World) -> None:
    world.server.offer.login_disabled = True
    dialogue = await world.dialogue(log_in=False)
    assert b"LOGINDISABLED" in (await dialogue.run(b"CAPABILITY"))[0]
    assert (await dialogue.run(b'LOGIN user "pass word"'))[-1].startswith(b"t NO [PRIVACYREQUIRED]")
    await dialogue.close()
    world.server.offer.login_disabled = False
    world.server.max_per_user = 1
    first = await world.dialogue()
    second = await world.dialogue(log_in=False)
    assert (await second.run(b'LOGIN user "pass word"'))[-1].startswith(b"t NO [LIMIT]")
    await first.close()
    await second.close()


async def test_faults_strike_where_they_are_told(world: World, imap: Dialogue) -> None:
    world.store.inbox.add(MESSAGE)
    world.server.faults.reply("SELECT", b"NO [UNAVAILABLE] later")
    assert await imap.run(b"SELECT INBOX") == [b"t NO [UNAVAILABLE] later"]
    await imap.run(b"SELECT INBOX")
    world.server.faults.cut("FETCH", executed=True, keep=30)
    imap.send(b"t FETCH 1 BODY.PEEK[]\r\n")
    assert len(await imap.reader.read()) == 30
    again = await world.dialogue()
    world.server.faults.cut("APPEND", executed=True)
    again.send(b"t APPEND INBOX {1+}\r\nx\r\n")
    assert await again.reader.read() == b""
    assert world.store.inbox.messages[-1].data == b"x"
    await again.close()


async def test_conditions_of_the_network(world: World) -> None:
    conditions = world.server.listener.conditions
    conditions.cut_after = 10
    reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
    assert len(await reader.read()) == 10
    writer.close()
    conditions.cut_after = None
    conditions.drop = True
    reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
    assert await reader.read() == b""
    writer.close()
    conditions.drop = False
    conditions.latency = 0.01
    dialogue = await world.dialogue()
    await dialogue.close()
    port = world.server.port
    await world.server.listener.refuse()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    conditions.latency = 0
    await world.server.start()
    assert world.server.port == port
    conditions.black_hole = True
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.05)
    writer.close()
