"""The client's commands on a scripted server: what is sent, and what the replies come to."""

from __future__ import annotations

import pytest

from tests.fault.imap_script import Step, logged_in
from wire.imap.encoder import Text, Unsendable
from wire.imap.listing import Survey
from wire.imap.results import Listed, Namespaces, Selected, Summary
from wire.outcome import MailboxUnavailable, Permanent, ProtocolTrouble, SetupTrouble, Temporary

PLAIN = b"IMAP4rev1"
FULL = b"IMAP4rev1 NAMESPACE UIDPLUS ESEARCH LIST-EXTENDED SPECIAL-USE ID ENABLE LITERAL+"


async def test_list() -> None:
    """Names as on the wire: quoted, literal, atom; each once; attributes in lower case."""
    reply = (
        b'* LIST (\\HasNoChildren \\Trash) "/" "Deleted Items"\r\n* LIST () NIL {5}\r\na"b\\c\r\n* 3 EXISTS\r\n'
        b'* LIST (\\Noselect) "/" [Gmail]\r\n* LIST () "/" nil\r\n* LIST () "/" [Gmail]\r\n* LIST broken\r\nTAG OK\r\n'
    )
    async with logged_in(PLAIN, Step(b'LIST "" "*"\r\n', reply)) as (client, _):
        assert await client.list_mailboxes() == [
            Listed(b"Deleted Items", b"/", frozenset({"\\hasnochildren", "\\trash"})),
            Listed(b'a"b\\c', None, frozenset()),
            Listed(b"[Gmail]", b"/", frozenset({"\\noselect"})),
            Listed(b"NIL", b"/", frozenset()),
        ]


async def test_list_asks_for_special_use() -> None:
    """Where it must be asked for; and without, when a proxy announces what the server behind does not know."""
    steps = [
        Step(b'LIST "" "*" RETURN (SPECIAL-USE)\r\n', b"TAG BAD what\r\n"),
        Step(b'LIST "" "*"\r\n', b'* LIST (\\All) "/" All\r\nTAG OK\r\n'),
    ]
    async with logged_in(FULL, *steps) as (client, _):
        assert await client.list_mailboxes() == [Listed(b"All", b"/", frozenset({"\\all"}))]


async def test_list_ten_thousand() -> None:
    """A large account is one command."""
    reply = b"".join(b'* LIST () "." "mailbox %d"\r\n' % number for number in range(10_000)) + b"TAG OK\r\n"
    async with logged_in(PLAIN, Step(b"LIST", reply)) as (client, _):
        assert len(await client.list_mailboxes()) == 10_000


async def test_lsub() -> None:
    """Subscriptions, with a pattern and reference that need quoting."""
    reply = b'* LIST () "." wrong\r\n* LSUB () "." right\r\nTAG OK\r\n'
    async with logged_in(PLAIN, Step(b'LSUB "a\\"" "%"\r\n', reply)) as (client, _):
        assert await client.list_mailboxes(b"%", reference=b'a"', subscribed=True) == [
            Listed(b"right", b".", frozenset())
        ]


async def test_namespace() -> None:
    """Personal, other users', shared; NIL and missing ones are empty."""
    reply = b'* NAMESPACE (("INBOX." ".")("" NIL)) NIL (("#s." "." "X-PARAM" ("F")))\r\nTAG OK\r\n'
    async with logged_in(FULL, Step(b"NAMESPACE", reply)) as (client, _):
        expected = Namespaces(((b"INBOX.", b"."), (b"", None)), (), ((b"#s.", b"."),))
        assert await client.namespaces() == expected
    async with logged_in(FULL, Step(b"NAMESPACE", b"TAG NO no\r\n")) as (client, _):
        assert await client.namespaces() is None
    async with logged_in(PLAIN) as (client, script):
        assert await client.namespaces() is None
    assert len(script.lines) == 1


async def test_select() -> None:
    """Everything that SELECT says, in the order of a real server."""
    reply = (
        b"* FLAGS (\\Answered \\Seen kw)\r\n* OK [PERMANENTFLAGS (\\Seen kw \\*)] Flags permitted.\r\n* 172 EXISTS\r\n"
        b"* 1 RECENT\r\n* OK [UNSEEN 12] first\r\n* OK [UIDVALIDITY 3857529045] UIDs\r\n* OK [UIDNEXT 4392] next\r\n"
        b"* OK [HIGHESTMODSEQ 715194045007] hm\r\nTAG OK [READ-WRITE] done\r\n"
    )
    async with logged_in(PLAIN, Step(b'SELECT "INBOX"', reply)) as (client, _):
        assert await client.select(b"INBOX") == Selected(
            172,
            3857529045,
            4392,
            frozenset({"\\Answered", "\\Seen", "kw"}),
            frozenset({"\\Seen", "kw", "\\*"}),
            read_only=False,
            uid_sticky=True,
            highestmodseq=715194045007,
        )


async def test_select_of_a_poor_server() -> None:
    """No PERMANENTFLAGS, no UIDNEXT, UIDs that do not last, a mailbox that may only be read."""
    reply = b"* 0 EXISTS\r\n* FLAGS (a)\r\n* OK [UIDVALIDITY 1]\r\n* NO [UIDNOTSTICKY] hm\r\nTAG OK [READ-ONLY]\r\n"
    async with logged_in(PLAIN, Step(b"SELECT", reply)) as (client, _):
        selected = await client.select(b"x")
    assert selected == Selected(
        0, 1, 0, frozenset("a"), frozenset("a"), read_only=True, uid_sticky=False, highestmodseq=None
    )


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"TAG NO Mailbox does not exist\r\n", MailboxUnavailable),
        (b"TAG NO [NONEXISTENT] no\r\n", MailboxUnavailable),
        (b"TAG NO [INUSE] exclusive\r\n", Temporary),
        (b"TAG NO [SERVERBUG] oops\r\n", Temporary),
        (b"TAG NO Mailbox is locked, try again later\r\n", Temporary),
        (b"* 0 EXISTS\r\nTAG OK\r\n", MailboxUnavailable),
        (b"* OK [UIDVALIDITY 1]\r\nTAG OK\r\n", ProtocolTrouble),
    ],
)
async def test_a_mailbox_that_does_not_open(reply: bytes, kind: type[Exception]) -> None:
    """The damage is one mailbox, unless the server is in trouble."""
    async with logged_in(PLAIN, Step(b"EXAMINE", reply)) as (client, _):
        with pytest.raises(kind) as caught:
            await client.examine(b"x")
        assert type(caught.value) is kind


async def test_create() -> None:
    """Existing already is no failure, with the code or with a sentence; a bad name is."""
    steps = [
        Step(b'CREATE "a"', b"TAG OK\r\n"),
        Step(b"CREATE", b"TAG NO [ALREADYEXISTS] exists\r\n"),
        Step(b"CREATE", b"TAG NO Mailbox already exists\r\n"),
        Step(b"CREATE", b"TAG NO [CANNOT] bad name\r\n"),
        Step(b"CREATE", b"TAG NO [OVERQUOTA] full\r\n"),
    ]
    async with logged_in(PLAIN, *steps) as (client, _):
        assert await client.create(b"a") is True
        assert await client.create(b"a") is False
        assert await client.create(b"a") is False
        with pytest.raises(MailboxUnavailable) as caught:
            await client.create(b"a")
        assert caught.value.code == "CANNOT"
        with pytest.raises(Temporary):
            await client.create(b"a")


async def test_subscriptions_are_asked_for_together() -> None:
    """One that is refused is told by its name; a server in trouble ends it."""
    steps = [
        Step(b'SUBSCRIBE "a"\r\n'),
        Step(b'SUBSCRIBE "b"\r\n'),
        Step(b'SUBSCRIBE "c"\r\n', b"TAG@1 OK\r\nTAG@2 NO [CANNOT] not that\r\nTAG@3 OK\r\n"),
        Step(b'SUBSCRIBE "d"\r\n', b"TAG NO [UNAVAILABLE] later\r\n"),
    ]
    async with logged_in(PLAIN, *steps) as (client, _):
        refused = await client.subscribe([b"a", b"b", b"c"])
        assert [(name, why.code) for name, why in refused.items()] == [(b"b", "CANNOT")]
        with pytest.raises(Temporary):
            await client.subscribe([b"d"])


async def test_status() -> None:
    """Numbers by name; a name with spaces unquoted (Courier) does not confuse it."""
    reply = b"* STATUS a b (MESSAGES 231 UIDNEXT 44292 UIDVALIDITY 1)\r\nTAG OK\r\n"
    async with logged_in(PLAIN, Step(b'STATUS "a b" (MESSAGES UIDNEXT UIDVALIDITY)\r\n', reply)) as (client, _):
        assert await client.status(b"a b") == {"MESSAGES": 231, "UIDNEXT": 44292, "UIDVALIDITY": 1}
    for broken in (b"TAG OK\r\n", b"* STATUS a\r\nTAG OK\r\n", b"* STATUS a (MESSAGES x)\r\nTAG OK\r\n"):
        async with logged_in(PLAIN, Step(b"STATUS", broken)) as (client, _):
            with pytest.raises(ProtocolTrouble):
                await client.status(b"a")
            assert not client.stream.usable


async def test_search() -> None:
    """SEARCH in any order and in several lines, ESEARCH as ranges, nothing as nothing."""
    async with logged_in(PLAIN, Step(b"UID SEARCH ALL\r\n", b"* SEARCH 7 2\r\n* SEARCH 3\r\nTAG OK\r\n")) as (
        client,
        _,
    ):
        assert await client.uid_search() == [2, 3, 7]
    steps = [
        Step(b"UID SEARCH RETURN (ALL) UNSEEN\r\n", b'* ESEARCH (TAG "TAG") UID ALL 1:3,9\r\nTAG OK\r\n'),
        Step(b"UID SEARCH RETURN (ALL) ALL\r\n", b'* ESEARCH (TAG "TAG") UID\r\nTAG OK\r\n'),
        Step(b"UID SEARCH", b"* SEARCH 5\r\nTAG OK\r\n"),
        Step(b"UID SEARCH", b"* SEARCH 5 (MODSEQ 9)\r\nTAG OK\r\n"),
        Step(b"UID SEARCH", b"* SEARCH five\r\nTAG OK\r\n"),
    ]
    async with logged_in(FULL, *steps) as (client, _):
        assert await client.uid_search(b"UNSEEN") == [1, 2, 3, 9]
        assert await client.uid_search() == []
        assert await client.uid_search() == [5]
        assert await client.uid_search() == [5]
        with pytest.raises(ProtocolTrouble):
            await client.uid_search()


async def test_a_million_search_results_in_one_line() -> None:
    """Servers without ESEARCH send them all at once: eight megabytes."""
    reply = b"* SEARCH " + b" ".join(b"%d" % uid for uid in range(1, 1_000_001)) + b"\r\nTAG OK\r\n"
    async with logged_in(PLAIN, Step(b"UID SEARCH", reply)) as (client, _):
        assert len(await client.uid_search()) == 1_000_000


async def test_summaries() -> None:
    """Items in any order, unsolicited ones merged away, what vanished left out."""
    date = b'INTERNALDATE " 1-Jan-2001 00:00:00 +0000"'
    reply = (
        b"* 2 FETCH (RFC822.SIZE 20 UID 9 " + date + b" FLAGS (\\Seen kw))\r\n* 1 FETCH (FLAGS (x))\r\n"
        b"* 1 FETCH (UID 5 FLAGS () "
        + date
        + b" RFC822.SIZE 10 MODSEQ (12))\r\n* 2 FETCH (UID 9 FLAGS (x))\r\n* 3 EXPUNGE\r\n"
        b"* 3 FETCH (UID 11 INTERNALDATE NIL RFC822.SIZE 0 FLAGS NIL)\r\nTAG OK\r\n"
    )
    async with logged_in(PLAIN, Step(b"UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)\r\n", reply)) as (client, _):
        assert await client.fetch_summaries() == [
            Summary(5, (), b" 1-Jan-2001 00:00:00 +0000", 10),
            Summary(9, (b"\\Seen", b"kw"), b" 1-Jan-2001 00:00:00 +0000", 20),
            Summary(11, (), None, 0),
        ]


@pytest.mark.parametrize("reply", [b"* 1 FETCH (UID)\r\n", b"* 1 FETCH\r\n", b"* 1 FETCH (UID x RFC822.SIZE 1)\r\n"])
async def test_broken_fetches(reply: bytes) -> None:
    """Pairs that are none end the connection."""
    async with logged_in(PLAIN, Step(b"UID FETCH", reply + b"TAG OK\r\n")) as (client, _):
        with pytest.raises(ProtocolTrouble):
            await client.fetch_summaries(b"1")
        assert not client.stream.usable


async def test_headers() -> None:
    """In pieces where the set is long; NIL is an empty header."""
    steps = [
        Step(
            b'UID FETCH 1:3 (UID BODY.PEEK[HEADER.FIELDS ("Date" "Message-ID")])\r\n',
            b'* 1 FETCH (UID 1 BODY[HEADER.FIELDS ("Date" "Message-ID")] {4}\r\na\r\n\r)\r\n'
            b"* 2 FETCH (BODY[HEADER.FIELDS (DATE MESSAGE-ID)] NIL UID 2)\r\nTAG OK\r\n",
        ),
    ]
    async with logged_in(PLAIN, *steps) as (client, _):
        assert await client.fetch_headers([1, 2, 3], ["Date", "Message-ID"]) == {1: b"a\r\n\r", 2: b""}
    async with logged_in(PLAIN, *[Step(b"UID FETCH", b"TAG OK\r\n")] * 2, Step(b"NOOP", b"TAG OK\r\n")) as (client, _):
        assert await client.fetch_headers(range(1, 2000, 2), ["Date"]) == {}
        await client.noop()


async def test_store_and_expunge() -> None:
    """UID EXPUNGE only where UIDPLUS is: a plain EXPUNGE would take others' mail with it."""
    steps = [
        Step(b"UID STORE 1:2 +FLAGS.SILENT (\\Deleted)\r\n", b"TAG OK\r\n"),
        Step(b"UID EXPUNGE 1:2\r\n", b"* 1 EXPUNGE\r\n* 1 EXPUNGE\r\nTAG OK\r\n"),
    ]
    async with logged_in(FULL, *steps) as (client, _):
        await client.store_flags([1, 2], b"+FLAGS.SILENT", [b"\\Deleted"])
        assert await client.expunge_uids([1, 2]) is True
    async with logged_in(PLAIN) as (client, script):
        assert await client.expunge_uids([1]) is False
    assert len(script.lines) == 1


async def test_id_and_enable() -> None:
    """Only where offered, and nothing hangs on the answer."""
    steps = [
        Step(b'ID ("name" "x" "x-originating-ip" "192.0.2.1")\r\n', b"TAG BAD no\r\n"),
        Step(b"ENABLE UTF8=ACCEPT\r\n", b"* ENABLED UTF8=ACCEPT\r\nTAG OK\r\n"),
        Step(b"ENABLE QRESYNC\r\n", b"* ENABLED\r\nTAG OK\r\n"),
    ]
    async with logged_in(FULL, *steps) as (client, _):
        await client.identify({"name": "x", "x-originating-ip": "192.0.2.1"})
        assert await client.enable(b"UTF8=ACCEPT") is True
        assert await client.enable(b"QRESYNC") is False
    async with logged_in(PLAIN) as (client, script):
        await client.identify({"name": "x"})
        assert await client.enable(b"UTF8=ACCEPT") is False
    assert len(script.lines) == 1


async def test_command_failures() -> None:
    """By code and sentence; without `ok` the reply is handed back. Nothing unsendable leaves."""
    steps = [
        Step(b"XLIST", b"TAG BAD unknown\r\n"),
        Step(b"XLIST", b"TAG NO [PRIVACYREQUIRED] no\r\n"),
        Step(b'GETACL "a \\"b\\""\r\n', b"* ACL a me lrs\r\nTAG NO [NOPERM] no\r\n"),
        Step(b"NOOP", b"TAG OK\r\n"),
    ]
    async with logged_in(PLAIN, *steps) as (client, _):
        with pytest.raises(Permanent):
            await client.command(b"XLIST")
        with pytest.raises(SetupTrouble):
            await client.command(b"XLIST")
        reply = await client.command(b"GETACL", Text(b'a "b"'), ok=False)
        assert (reply.status, reply.code, reply.untagged[0].data) == (b"NO", "NOPERM", [b"a", b"me", b"lrs"])
        with pytest.raises(Unsendable):
            await client.command(b"UID FETCH", b"1\r\nx DELETE INBOX")
        await client.noop()


NETEASE = b"TAG NO SELECT Unsafe Login. Please contact kefu@188.com for help\r\n"


async def test_a_server_that_wants_to_know_the_client() -> None:
    """NetEase opens no mailbox before ID: it is said then, once, and the command repeated."""
    opened = b"* 0 EXISTS\r\n* OK [UIDVALIDITY 1] ok\r\nTAG OK\r\n"
    steps = [Step(b"EXAMINE", NETEASE), Step(b'ID ("name"', b"* ID NIL\r\nTAG OK\r\n"), Step(b"EXAMINE", opened)]
    async with logged_in(FULL, *steps) as (client, _):
        assert (await client.examine(b"INBOX")).uidvalidity == 1


async def test_a_server_that_is_not_content_with_id() -> None:
    steps = [Step(b"EXAMINE", NETEASE), Step(b"ID", b"TAG OK\r\n"), *[Step(b"EXAMINE", NETEASE)] * 2]
    async with logged_in(FULL, *steps) as (client, _):
        for _ in range(2):
            with pytest.raises(MailboxUnavailable, match="Unsafe Login"):
                await client.examine(b"INBOX")


async def test_two_commands_in_a_row() -> None:
    """One write, and both replies in whatever order they come: Dovecot may put the first one off behind the second."""
    selected = b"* 3 EXISTS\r\n* OK [UIDVALIDITY 7] valid\r\n* OK [UIDNEXT 10] next\r\n"
    found = b"* SEARCH 4 6 9\r\n"
    for said in (
        selected + b"TAG@1 OK [READ-ONLY] done\r\n" + found + b"TAG@2 OK\r\n",
        selected + found + b"TAG@2 OK\r\nTAG@1 OK [READ-ONLY] done\r\n",
    ):
        steps = [Step(b'EXAMINE "INBOX"'), Step(b"UID SEARCH ALL", said)]
        async with logged_in(PLAIN, *steps) as (client, _):
            opened, uids = await client.open_with_uids(b"INBOX")
            assert (opened.exists, opened.uidvalidity, opened.read_only, uids) == (3, 7, True, [4, 6, 9])
            assert client.stream.usable


async def test_open_and_see_the_first_messages_in_one_round_trip() -> None:
    """What is known of them comes behind the list of all; where it is not to be had, the rest still counts."""
    found = b"* 2 EXISTS\r\n* OK [UIDVALIDITY 7] valid\r\nTAG@1 OK done\r\n* SEARCH 4 60000\r\nTAG@2 OK\r\n"
    seen = b'* 1 FETCH (UID 4 FLAGS (\\Seen) INTERNALDATE "01-Jan-2004 10:00:00 +0000" RFC822.SIZE 12)\r\n'
    for said, expected in (
        (seen + b"TAG@3 OK\r\n", {4: (frozenset({b"\\Seen"}), b"01-Jan-2004 10:00:00 +0000", 12)}),
        (b"* 1 FETCH (FLAGS (\\Seen))\r\nTAG@3 OK\r\n", {}),
        (seen + b"TAG@3 NO some messages are damaged\r\n", None),
        (b"TAG@3 BAD no such messages\r\n", None),
    ):
        steps = [
            Step(b'SELECT "INBOX"'),
            Step(b"UID SEARCH ALL"),
            Step(b"UID FETCH 1:1000 (UID FLAGS INTERNALDATE RFC822.SIZE)", found + said),
        ]
        async with logged_in(PLAIN, *steps) as (client, _):
            opened, uids, seen_first = await client.open_with_summaries(b"INBOX", 1000, writing=True)
            assert (opened.exists, uids) == (2, [4, 60000])
            known: object = seen_first and {
                uid: (frozenset(one.flags), one.internal_date, one.size) for uid, one in seen_first.items()
            }
            assert known == expected
            assert client.stream.usable


async def test_survey() -> None:
    """The list, the subscribed ones and the namespaces in one write; a refused question leaves the others' answers."""
    listed = b'* LIST () "." a\r\n* LSUB () "." b\r\n'
    space = b'* NAMESPACE (("" ".")) NIL NIL\r\n'
    names = [Listed(b"a", b".", frozenset())], [Listed(b"b", b".", frozenset())]
    for said, namespaces, subscribed in (
        (listed + space + b"TAG@1 OK\r\nTAG@2 OK\r\nTAG@3 OK\r\n", Namespaces(((b"", b"."),), (), ()), names[1]),
        (listed + b"TAG@1 OK\r\nTAG@2 NO not here\r\nTAG@3 BAD what\r\n", None, None),
    ):
        steps = [Step(b'LIST "p" "*" RETURN (SPECIAL-USE)\r\n'), Step(b'LSUB "p" "*"'), Step(b"NAMESPACE", said)]
        async with logged_in(FULL, *steps) as (client, _):
            assert await client.survey(reference=b"p", subscribed=True) == Survey(names[0], namespaces, subscribed)
    steps = [Step(b'LIST "" "*"', b'* LIST () "." a\r\nTAG OK\r\n')]
    async with logged_in(PLAIN, *steps) as (client, _):  # no NAMESPACE, and nobody asks for subscriptions
        assert await client.survey() == Survey(names[0], None, None)
    steps = [
        Step(b'LIST "" "*" RETURN (SPECIAL-USE)\r\n'),
        Step(b"NAMESPACE", b"TAG@1 BAD what\r\nTAG@2 NO no\r\n"),
        Step(b'LIST "" "*" RETURN (SPECIAL-USE)\r\n', b"TAG BAD what\r\n"),
        Step(b'LIST "" "*"\r\n', b'* LIST () "." a\r\nTAG OK\r\n'),
    ]
    async with logged_in(FULL, *steps) as (client, _):  # announced by a proxy
        assert await client.survey() == Survey(names[0], None, None)


async def test_what_is_wrong_with_the_first_of_two_is_said_as_if_it_came_alone() -> None:
    steps = [
        Step(b'EXAMINE "Gone"'),
        Step(b"UID SEARCH ALL", b"TAG@1 NO [NONEXISTENT] no such mailbox\r\nTAG@2 BAD no mailbox selected\r\n"),
        Step(b'EXAMINE "Gone"', b"TAG NO [NONEXISTENT] no such mailbox\r\n"),
    ]
    async with logged_in(PLAIN, *steps) as (client, _):
        with pytest.raises(MailboxUnavailable, match="no such mailbox"):
            await client.open_with_uids(b"Gone")


async def test_a_reply_to_a_command_that_was_not_sent_ends_the_dialogue() -> None:
    async with logged_in(PLAIN, Step(b"NOOP"), Step(b"UID SEARCH", b"TAG@1 OK\r\nelse OK\r\n")) as (client, _):
        with pytest.raises(ProtocolTrouble, match="another command"):
            await client.fresh_uid_search()
        assert not client.stream.usable


async def test_create_and_select() -> None:
    opened = b"* 0 EXISTS\r\n* OK [UIDVALIDITY 7] valid\r\nTAG@2 OK [READ-WRITE] done\r\n"
    steps = [Step(b'CREATE "New"'), Step(b'SELECT "New"', b"TAG@1 NO [ALREADYEXISTS] it is there\r\n" + opened)]
    async with logged_in(PLAIN, *steps) as (client, _):
        selected = await client.create_and_select(b"New")
        assert selected is not None
        assert (selected.uidvalidity, selected.read_only) == (7, False)
    steps = [Step(b'CREATE "New"'), Step(b'SELECT "New"', b"TAG@1 NO not such a name\r\nTAG@2 NO no such mailbox\r\n")]
    async with logged_in(PLAIN, *steps) as (client, _):
        assert await client.create_and_select(b"New") is None


async def test_outlines_come_in_one_round_trip() -> None:
    header = b"* 1 FETCH (UID 4 BODY[HEADER.FIELDS (DATE)] {9}\r\nDate: x\r\n)\r\n"
    summary = b'* 1 FETCH (UID 4 FLAGS (\\Seen) INTERNALDATE "17-Jul-1996 02:44:25 -0700" RFC822.SIZE 12)\r\n'
    for said in (header + b"TAG@1 OK\r\n" + summary + b"TAG@2 OK\r\n", header + summary + b"TAG@2 OK\r\nTAG@1 OK\r\n"):
        steps = [Step(b'UID FETCH 4 (UID BODY.PEEK[HEADER.FIELDS ("Date")])'), Step(b"UID FETCH 4 (UID FLAGS", said)]
        async with logged_in(PLAIN, *steps) as (client, _):
            headers, (found,) = await client.fetch_outlines([4], ["Date"])
            assert headers == {4: b"Date: x\r\n"}
            assert (found.uid, found.flags, found.size) == (4, (b"\\Seen",), 12)
    async with logged_in(PLAIN) as (client, _):
        assert await client.fetch_outlines([], ["Date"]) == ({}, [])


async def test_outlines_of_a_server_that_does_not_know_header_fields() -> None:
    summary = b"* 1 FETCH (UID 4 FLAGS () INTERNALDATE NIL RFC822.SIZE 12)\r\n"
    steps = [
        Step(b"BODY.PEEK[HEADER.FIELDS"),
        Step(b"RFC822.SIZE", b"TAG@1 BAD what\r\n" + summary + b"TAG@2 OK\r\n"),
        Step(b"BODY.PEEK[HEADER.FIELDS", b"TAG BAD what\r\n"),
        Step(b"RFC822.HEADER", b"* 1 FETCH (UID 4 RFC822.HEADER {18}\r\nDate: x\r\nTo: y\r\n\r\n)\r\nTAG OK\r\n"),
        Step(b"RFC822.SIZE", summary + b"TAG OK\r\n"),
    ]
    async with logged_in(PLAIN, *steps) as (client, _):
        headers, (found,) = await client.fetch_outlines([4], ["Date"])
        assert (headers, found.size) == ({4: b"Date: x\r\n\r\n"}, 12)
