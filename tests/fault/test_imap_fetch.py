"""Messages streamed out of an IMAP server: in any order of replies, of any size, and never more than was sent."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

import pytest

from tests.fault.imap_script import Script, Step, imap_script, serving
from wire.endpoint import TlsPolicy, parse_endpoint
from wire.imap.client import ImapClient
from wire.outcome import ProtocolTrouble, Temporary
from wire.secret import Secret

GREETING = [
    Step(None, b"* OK [CAPABILITY IMAP4rev1] ready\r\n"),
    Step(b"LOGIN", b"TAG OK [CAPABILITY IMAP4rev1] done\r\n"),
]


@asynccontextmanager
async def logged_in(steps: Sequence[Step], *, cut: int | None = None) -> AsyncIterator[tuple[ImapClient, Script]]:
    """A client past its login; `steps` follow. `cut` counts from there."""
    before = len(GREETING[0].reply) + len(GREETING[1].reply) + 5  # a tag is `x`, six digits and a number: 8, not 3
    async with imap_script([*GREETING, *steps], cut=None if cut is None else before + cut) as script:
        deadline = asyncio.get_running_loop().time() + 20
        client = await ImapClient.connect(script.endpoint, TlsPolicy(), deadline=deadline)
        try:
            await client.login(b"u1", Secret(b"x"))
            yield client, script
        finally:
            client.close()


async def fetch(
    client: ImapClient, uids: Sequence[int], *, window: int = 8, item: bytes = b"BODY.PEEK[]"
) -> list[tuple[int, int | None, bytes, str]]:
    """(uid, size, content, trouble) of each body."""
    found = []
    async with aclosing(client.fetch_bodies(uids, window=window, item=item)) as bodies:
        async for body in bodies:
            content = b"".join([piece async for piece in body.chunks])
            found.append((body.uid, body.size, content, body.trouble))
    return found


def asked(*uids: int) -> list[Step]:
    """Wait for the fetch commands of these uids."""
    return [Step(b" UID FETCH %d (UID BODY.PEEK[])\r\n" % uid) for uid in uids]


def sent(number: int, uid: int, content: bytes) -> bytes:
    """A FETCH response as Dovecot writes it."""
    return b"* %d FETCH (UID %d BODY[] {%d}\r\n%b)\r\n" % (number, uid, len(content), content)


async def test_pipelined() -> None:
    """Commands of a window go out together; each reply finds its message, byte for byte."""
    contents = {5: b"five\r\n", 7: b"", 9: b"* OK x\r\n)\r\na1 OK\r\n\0\xff"}
    tagged = {5: b"TAG@1 OK done\r\n", 7: b"TAG@2 OK done\r\n", 9: b"TAG@3 OK done\r\n"}
    said = b"".join(sent(uid, uid, content) + tagged[uid] for uid, content in contents.items())
    async with logged_in([*asked(5, 7, 9), Step(None, said)]) as (client, script):
        assert await fetch(client, [5, 7, 9]) == [(uid, len(text), text, "") for uid, text in contents.items()]
        assert client.stream.usable
    assert script.troubles == []


async def test_tagged_replies_may_lag() -> None:
    """Dovecot puts off several and sends them together, even behind the content of later messages."""
    said = sent(1, 5, b"a") + sent(2, 6, b"b") + b"TAG@1 OK done\r\n" + sent(3, 7, b"c") + b"TAG@2 OK\r\nTAG@3 OK\r\n"
    async with logged_in([*asked(5, 6, 7), Step(None, said)]) as (client, _):
        assert [text for _, _, text, _ in await fetch(client, [5, 6, 7])] == [b"a", b"b", b"c"]
        assert client.stream.usable


async def test_another_order_is_no_mistake() -> None:
    """A server that works on several commands at once is understood by the UIDs it names."""
    said = sent(3, 7, b"c") + b"TAG@3 OK\r\n" + sent(1, 5, b"a") + b"TAG@1 OK\r\n" + sent(2, 6, b"b") + b"TAG@2 OK\r\n"
    async with logged_in([*asked(5, 6, 7), Step(None, said)]) as (client, _):
        assert [(uid, text) for uid, _, text, _ in await fetch(client, [5, 6, 7])] == [(7, b"c"), (5, b"a"), (6, b"b")]


async def test_news_in_between() -> None:
    """EXISTS, EXPUNGE, flags of any message and remarks may come anywhere between responses."""
    news = b"* 9 EXISTS\r\n* 1 RECENT\r\n* 3 EXPUNGE\r\n* 2 FETCH (UID 6 FLAGS (a))\r\n* OK hm\r\n"
    said = news + sent(1, 5, b"a") + news + b"TAG@1 OK\r\n" + news + sent(2, 6, b"b") + news + b"TAG@2 OK\r\n"
    async with logged_in([*asked(5, 6), Step(None, said)]) as (client, _):
        assert [text for _, _, text, _ in await fetch(client, [5, 6])] == [b"a", b"b"]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"TAG OK done\r\n", (5, None, b"", "")),
        (b"TAG NO [EXPUNGEISSUED] gone\r\n", (5, None, b"", "")),
        (b"* 1 FETCH (UID 5 FLAGS (\\Seen))\r\nTAG OK done\r\n", (5, None, b"", "")),
        (b"TAG NO cannot read it\r\n", (5, None, b"", "FETCH 5: NO cannot read it")),
        (b"TAG BAD Command Error. 12\r\n", (5, None, b"", "FETCH 5: BAD Command Error. 12")),
        (b"* 1 FETCH (UID 5 BODY[] NIL)\r\nTAG OK\r\n", (5, None, b"", "the server sent NIL for the message")),
        (b'* 1 FETCH (UID 5 BODY[] "ab\\"c")\r\nTAG OK\r\n', (5, 4, b'ab"c', "")),
        (b'* 1 FETCH (BODY[] "" UID 5)\r\nTAG OK\r\n', (5, 0, b"", "")),
        (b"* 1 FETCH (BODY[] {3}\r\nabc UID 5)\r\nTAG OK\r\n", (5, 3, b"abc", "")),
        (b"* 1 FETCH (BODY[] {3}\r\nabc)\r\nTAG OK\r\n", (5, 3, b"abc", "")),
        (b"* 1 FETCH (UID 5 BODY[] {3}\r\nabc FLAGS (\\Seen))\r\nTAG OK\r\n", (5, 3, b"abc", "")),
        (b"* 1 fetch (uid 5 flags (\\Seen) body[] {3}\r\nabc)\r\nTAG ok\r\n", (5, 3, b"abc", "")),
        (b"* 1 FETCH (UID 5 RFC822 {3}\r\nabc)\r\nTAG OK\r\n", (5, 3, b"abc", "")),
        (b"* 1 FETCH (UID 5 BINARY[] ~{3}\r\na\0c)\r\nTAG OK\r\n", (5, 3, b"a\0c", "")),
    ],
)
async def test_one_message(reply: bytes, expected: tuple[int, int | None, bytes, str]) -> None:
    """Gone, refused, NIL, quoted, and every place where the UID may stand."""
    async with logged_in([Step(b"UID FETCH 5", reply)]) as (client, _):
        assert await fetch(client, [5]) == [expected]
        assert client.stream.usable


@pytest.mark.parametrize(
    "reply",
    [
        sent(1, 6, b"abc"),
        b"* 1 FETCH (BODY[] {3}\r\nabc UID 6)\r\nTAG OK\r\n",
        b'* 1 FETCH (UID 6 BODY[] "abc")\r\nTAG OK\r\n',
        sent(1, 5, b"abc") + sent(1, 5, b"abc") + b"TAG OK\r\n",
        b"* 1 FETCH (UID 5 BODY[] {3}\r\nabc BODY[] {3}\r\nabc)\r\nTAG OK\r\n",
        b"* 1 FETCH (UID 5 BODY[] {3}\r\nabc\r\nTAG OK\r\n",
        b"* 1 FETCH (UID 5 BODY[] {3}\r\nabcdef)\r\nTAG OK\r\n",
        b"zzz OK done\r\n",
        b"+ go on\r\n",
        b"* PREAUTH again\r\n",
    ],
)
async def test_nonsense_ends_the_connection(reply: bytes) -> None:
    """Content of another message, twice the same, lists that do not close: nothing is guessed."""
    async with logged_in([Step(b"UID FETCH 5", reply)]) as (client, _):
        with pytest.raises(ProtocolTrouble):
            await fetch(client, [5])
        assert not client.stream.usable


@pytest.mark.parametrize(
    "reply", [b"TAG NO [UNAVAILABLE] later\r\n", b"* BYE shutting down\r\n", b"TAG NO [INUSE] x\r\n"]
)
async def test_a_server_in_trouble_is_temporary(reply: bytes) -> None:
    """Nothing is said of the message."""
    async with logged_in([Step(b"UID FETCH 5", reply)]) as (client, _):
        with pytest.raises(Temporary):
            await fetch(client, [5])


async def test_a_refusal_after_the_content_takes_it_back() -> None:
    """What was handed on may be wrong: the run stops, and the message is looked at again."""
    async with logged_in([Step(b"UID FETCH 5", sent(1, 5, b"abc") + b"TAG NO sorry\r\n")]) as (client, _):
        with pytest.raises(Temporary):
            await fetch(client, [5])


async def test_cut_after_every_byte() -> None:
    """The end of `chunks` is reached only when the whole response came; before that, Temporary."""
    content = b"From: a\r\n\r\nhello\r\n"
    reply = sent(1, 5, content)
    steps = [Step(b"UID FETCH 5", reply + b"TAG OK done\r\n")]
    for cut in range(len(reply) + 10):
        async with logged_in(steps, cut=cut) as (client, _):
            finished: list[bytes] = []
            with pytest.raises(Temporary):
                await read_into(finished, client)
            assert finished == ([content] if cut >= len(reply) else [])


async def read_into(finished: list[bytes], client: ImapClient) -> None:
    """Note each message whose `chunks` came to their end."""
    async for body in client.fetch_bodies([5]):
        content = b"".join([piece async for piece in body.chunks])
        finished.append(content)  # a comprehension would lose what came before the break


async def test_what_is_not_read_is_passed_over() -> None:
    """A consumer that skips a message, or stops within it, gets the next one whole."""
    said = b"".join(sent(uid, uid, b"%d" % uid * 100_000) + b"TAG@%d OK\r\n" % uid for uid in (1, 2, 3))
    async with logged_in([*asked(1, 2, 3), Step(None, said)]) as (client, _):
        found = []
        async for body in client.fetch_bodies([1, 2, 3]):
            if body.uid == 2:
                async for _ in body.chunks:
                    break
            elif body.uid == 3:
                found.append(b"".join([piece async for piece in body.chunks]))
        assert found == [b"3" * 100_000]
        assert client.stream.usable


async def test_leaving_early_closes_the_connection() -> None:
    """Replies are still on their way; they must not answer the next command."""
    async with logged_in([*asked(1, 2), Step(None, sent(1, 1, b"a"))]) as (client, _):
        async with aclosing(client.fetch_bodies([1, 2])) as bodies:
            async for _ in bodies:
                break
        assert not client.stream.usable


async def test_the_window_bounds_what_is_asked() -> None:
    """Never more commands without content than the window, and each UID asked once."""
    most = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal most
        writer.write(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
        login = await reader.readline()
        writer.write(login.split()[0] + b" OK [CAPABILITY IMAP4rev1] done\r\n")
        done = 0
        while done < 30:
            lines = [await reader.readline()]
            buffered = bytes(reader._buffer)  # type: ignore[attr-defined]  # what else has come already
            lines += [await reader.readline() for _ in range(buffered.count(b"\n"))]
            most = max(most, len(lines))
            for line in lines:
                tag, uid = line.split()[0], int(line.split()[3])
                done += 1
                assert uid == done
                writer.write(sent(uid, uid, b"x") + tag + b" OK\r\n")
        await reader.read()

    async with serving(serve) as port, logged_in_at(port) as client:
        assert [uid for uid, *_ in await fetch(client, [*range(1, 31), 1], window=4)] == list(range(1, 31))
    assert 1 < most <= 4


@asynccontextmanager
async def logged_in_at(port: int) -> AsyncIterator[ImapClient]:
    """A client past its login at a server of the test's own."""
    deadline = asyncio.get_running_loop().time() + 60
    client = await ImapClient.connect(parse_endpoint(f"127.0.0.1:{port}", "imap"), TlsPolicy(), deadline=deadline)
    try:
        await client.login(b"u1", Secret(b"x"))
        yield client
    finally:
        client.close()


async def test_a_huge_message_takes_little_memory() -> None:
    """100 MB pass through a few: nothing holds the message, and reading pauses when nobody takes it."""
    size = 100_000_000
    block = b"0123456789abcdef" * 4096

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
        login = await reader.readline()
        writer.write(login.split()[0] + b" OK [CAPABILITY IMAP4rev1] done\r\n")
        fetching = await reader.readline()
        writer.write(b"* 1 FETCH (UID 5 BODY[] {%d}\r\n" % size)
        left = size
        while left:
            writer.write(block[:left])
            left -= min(left, len(block))
            await writer.drain()
        writer.write(b")\r\n" + fetching.split()[0] + b" OK\r\n")
        await reader.read()

    async with serving(serve) as port, logged_in_at(port) as client:
        tracemalloc.start()
        try:
            total = 0
            async for body in client.fetch_bodies([5]):
                async for piece in body.chunks:
                    total += len(piece)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert total == size
    assert peak < 12_000_000


async def test_a_transfer_that_moves_keeps_its_deadline_ahead() -> None:
    """With a progress time-out a long transfer ends only when nothing moves any more."""
    async with logged_in([Step(b"UID FETCH 5", b"* 1 FETCH (UID 5 BODY[] {10}\r\nabc"), Step(b"never")]) as (client, _):
        client.progress_timeout = 0.2
        client.deadline = asyncio.get_running_loop().time()  # passed already: progress moves it
        with pytest.raises(Temporary, match="in time"):
            await fetch(client, [5])
