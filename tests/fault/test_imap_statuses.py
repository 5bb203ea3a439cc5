"""STATUS of many mailboxes in one go: in order, bounded, and right about who said what."""

from __future__ import annotations

import pytest

from tests.fault.imap_script import Step, logged_in
from tests.servers.memory_imap import MemoryImap
from wire.endpoint import Endpoint, TlsPolicy
from wire.imap.client import ImapClient
from wire.imap.windowed import WINDOW
from wire.outcome import Temporary
from wire.secret import Secret

ITEMS = ("MESSAGES", "UIDNEXT")


async def test_all_are_sent_before_the_first_answer() -> None:
    steps = [
        Step(b'STATUS "a" (MESSAGES UIDNEXT)\r\n'),
        Step(b'STATUS "b" (MESSAGES UIDNEXT)\r\n'),
        Step(
            b'STATUS "c" (MESSAGES UIDNEXT)\r\n',
            b"* STATUS a (MESSAGES 1 UIDNEXT 2)\r\nTAG@1 OK\r\nTAG@2 NO [NONEXISTENT] none\r\n"
            b"* 5 EXISTS\r\n* STATUS c (UIDNEXT 9)\r\nTAG@3 OK\r\n",
        ),
    ]
    async with logged_in(b"IMAP4rev1", *steps) as (client, _):
        assert await client.status_many([b"a", b"b", b"c"], ITEMS) == {
            b"a": {"MESSAGES": 1, "UIDNEXT": 2},
            b"c": {"UIDNEXT": 9},
        }


async def test_a_server_that_is_asked_too_much_is_temporary() -> None:
    async with logged_in(b"IMAP4rev1", Step(b"STATUS", b"TAG NO [LIMIT] slowly\r\n")) as (client, _):
        with pytest.raises(Temporary):
            await client.status_many([b"a"], ITEMS)


async def test_more_than_a_window_and_names_of_every_kind() -> None:
    names = [b"box %d" % number for number in range(3 * WINDOW)] + ['ä"\\'.encode(), b"last"]
    for capabilities in (b"IMAP4rev1", b"IMAP4rev1 LITERAL+"):
        async with MemoryImap(capabilities=capabilities) as server:
            for name in names:
                server.box(name).store(b"x")
            client = await ImapClient.connect(Endpoint("imap", "127.0.0.1", server.port), TlsPolicy())
            await client.login(b"u", Secret(b"p"))
            found = await client.status_many([*names, b"none", b"line\r\nfeed"], ITEMS)
            client.close()
            assert found == {name: {"MESSAGES": 1, "UIDNEXT": 2} for name in names}
