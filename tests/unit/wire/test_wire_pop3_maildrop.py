"""The maildrop read over POP3: lists, messages byte for byte, pipelining, and what goes wrong in the middle."""

from __future__ import annotations

import asyncio
import hashlib
import resource
from contextlib import aclosing

import pytest

from tests.servers.script import Play, ScriptServer, Talk, serve, transcript, until
from wire.endpoint import TlsPolicy
from wire.outcome import MessageRefused, Permanent, ProtocolTrouble, Temporary
from wire.pop3 import Pop3Client, UnsupportedCommand

GREETING = b"+OK ready\r\n"


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def connect(server: ScriptServer, *, seconds: float = 5.0) -> Pop3Client:
    return await Pop3Client.connect(server.endpoint("pop3"), TlsPolicy(), deadline=soon(seconds))


async def test_the_lists_are_read() -> None:
    says = [
        GREETING,
        b"+OK 2 320\r\n",
        b"+OK\r\n1 120\r\n2 200 extra\r\n.\r\n",
        b"+OK\r\n1 whqtswO00WBw418f9t5JxYwZ\r\n2 ..a b\r\n.\r\n",
        b"+OK\r\nTOP\r\nSASL plain LOGIN\r\nPIPELINING\r\n.\r\n",
        b"+OK\r\n",
        b"+OK\r\n",
        b"+OK bye\r\n",
    ]
    async with serve(transcript(says)) as server:
        client = await connect(server)
        assert await client.stat() == (2, 320)
        assert await client.list_sizes() == {1: 120, 2: 200}
        assert await client.uidl() == [(1, b"whqtswO00WBw418f9t5JxYwZ"), (2, b"..a b")]
        assert await client.capabilities() == {"TOP": (), "SASL": ("PLAIN", "LOGIN"), "PIPELINING": ()}
        assert await client.capabilities()
        await client.dele(1)
        await client.noop()
        await client.quit()
    assert server.lines == [b"STAT", b"LIST", b"UIDL", b"CAPA", b"DELE 1", b"NOOP", b"QUIT"]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"-ERR unknown command", UnsupportedCommand),
        (b"-ERR [SYS/TEMP] no", Temporary),
        (b"-ERR no", Permanent),
        (b"gibberish", ProtocolTrouble),
        (b"+OK\r\nx\r\n.", ProtocolTrouble),
        (b"+OK\r\n1x a\r\n.", ProtocolTrouble),
    ],
)
async def test_a_list_that_does_not_come(reply: bytes, kind: type[Exception]) -> None:
    async with serve(transcript([GREETING, reply + b"\r\n"])) as server:
        client = await connect(server)
        with pytest.raises(kind):
            await client.uidl()
        client.close()


MESSAGES = [
    b"Subject: a\r\n\r\nbody\r\n",
    b"",
    b"\r\n",
    b".\r\n..\r\n.hidden\r\n",
    b"bare \r and \n inside, \n.\n and \r. too\r\n",
    b"\0\xff\xe4\r\n" + b"x" * 200_000 + b"\r\n",
]


def stuff(message: bytes) -> bytes:
    lines = message.split(b"\r\n")[:-1]
    return b"".join((b"." + line if line.startswith(b".") else line) + b"\r\n" for line in lines) + b".\r\n"


def maildrop(messages: list[bytes]) -> Play:
    """Serves RETR, and refuses numbers that do not exist."""

    async def play(talk: Talk) -> None:
        await talk.send(GREETING)
        while True:
            word, _, argument = (await talk.line()).partition(b" ")
            number = int(argument or b"0")
            if word == b"RETR" and 0 < number <= len(messages):
                await talk.send(b"+OK\r\n" + stuff(messages[number - 1]))
            else:
                await talk.send(b"-ERR no such message\r\n")

    return play


async def test_messages_come_byte_for_byte() -> None:
    async with serve(maildrop(MESSAGES)) as server:
        client = await connect(server)
        for number, message in enumerate(MESSAGES, 1):
            assert b"".join([chunk async for chunk in client.retr(number)]) == message
        with pytest.raises(MessageRefused):
            await anext(client.retr(99))
        assert b"".join([chunk async for chunk in client.retr(1)]) == MESSAGES[0]
        client.close()


@pytest.mark.parametrize("window", [1, 2, 100])
async def test_pipelined_messages_come_in_order(window: int) -> None:
    async with serve(maildrop(MESSAGES)) as server:
        client = await connect(server)
        taken = []
        async for message in client.retrieve([1, 99, *range(2, len(MESSAGES) + 1)], window=window):
            body = b"".join([chunk async for chunk in message.chunks])
            taken.append((message.number, body, type(message.refusal)))
        assert taken[1] == (99, b"", MessageRefused)
        assert [body for number, body, _ in taken if number != 99] == MESSAGES
        assert client.stream.usable
        client.close()


async def test_a_message_left_in_the_middle_costs_the_connection() -> None:
    async with serve(maildrop([b"x\r\n" * 100_000])) as server:
        client = await connect(server)
        async with aclosing(client.retr(1)) as chunks:
            assert await anext(chunks)
        assert not client.stream.usable
        with pytest.raises(Temporary):
            await client.stat()


async def test_skipping_a_message_is_found_out() -> None:
    async with serve(maildrop(MESSAGES)) as server:
        client = await connect(server)
        with pytest.raises(ProtocolTrouble, match="middle"):
            async for _ in client.retrieve([1, 2]):
                pass
        assert not client.stream.usable


async def test_a_cancelled_reader_costs_the_connection() -> None:
    async with serve(transcript([GREETING, b"+OK\r\nhalf a message"])) as server:
        client = await connect(server)

        taken = b""

        async def take() -> None:
            nonlocal taken
            async for chunk in client.retr(1):
                taken += chunk

        task = asyncio.create_task(take())
        await until(lambda: bool(taken))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not client.stream.usable


async def test_bytes_behind_the_end_are_trouble() -> None:
    async with serve(transcript([GREETING, b"+OK\r\nx\r\n.\r\n+OK more\r\n"])) as server:
        client = await connect(server)
        with pytest.raises(ProtocolTrouble):
            [chunk async for chunk in client.retr(1)]


async def test_cut_after_every_byte_a_message_is_never_complete() -> None:
    says = [GREETING, b"+OK\r\nSubject: a\r\n\r\n..b\r\n.\r\n"]
    total = sum(map(len, says))

    async def once(cut: int) -> bool:
        async with serve(transcript(says, cut=cut)) as server:
            try:
                client = await connect(server)
                body = b"".join([chunk async for chunk in client.retr(1)])
            except Temporary:
                return False
            return body == b"Subject: a\r\n\r\n.b\r\n"

    results = await asyncio.gather(*(once(cut) for cut in range(total + 1)))
    assert results == [False] * total + [True]


async def test_a_large_message_takes_little_memory() -> None:
    block = (b"x" * 998 + b"\r\n") * 1000
    count = 200

    async def play(talk: Talk) -> None:
        await talk.send(GREETING)
        await talk.line()
        await talk.send(b"+OK\r\n")
        for _ in range(count):
            await talk.send(block)
        await talk.send(b".\r\n")
        await talk.silence()

    async with serve(play) as server:
        client = await connect(server, seconds=60)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        digest, size = hashlib.sha256(), 0
        async for chunk in client.retr(1):
            digest.update(chunk)
            size += len(chunk)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        client.close()
    expected = hashlib.sha256()
    for _ in range(count):
        expected.update(block)
    assert size == len(block) * count
    assert digest.digest() == expected.digest()
    assert grown < 50_000  # kilobytes; the message has 200,000
