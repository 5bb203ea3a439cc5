"""COMPRESS: what a stream gives does not depend on how the packed bytes were cut, and swells within bounds."""

from __future__ import annotations

import asyncio
import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.endpoint import Endpoint
from wire.outcome import ProtocolTrouble, Temporary
from wire.stream import Stream, _Protocol

BOUND = 2 << 20  # bytes unpacked and not yet taken


class Wire(asyncio.Transport):
    """A transport that goes nowhere: what is written is kept, and whether it is to read."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.reading = True
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None: ...

    def abort(self) -> None:
        self.aborted = True


def compressing(before: bytes = b"") -> tuple[Stream, _Protocol, Wire]:
    """A stream past the server's OK, `before` having come with it."""
    protocol, transport = _Protocol(), Wire()
    protocol.connection_made(transport)
    stream = Stream(Endpoint("imap", "test", 143), protocol, transport)
    protocol.data_received(before)
    stream.start_compression()
    return stream, protocol, transport


def packed(parts: list[bytes], level: int = 6) -> bytes:
    """As a server sends them, flushed after each."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    return b"".join(packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH) for part in parts)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(marks)]


PARTS = st.lists(st.one_of(st.binary(max_size=50), st.sampled_from([b"a" * 70_000, b"* 1 EXISTS\r\n"])), max_size=8)


@given(PARTS, st.lists(st.integers(0, 1 << 20), max_size=8), st.integers(0, 20), st.integers(0, 9))
def test_any_split(parts: list[bytes], places: list[int], behind: int, level: int) -> None:
    """Bytes behind the OK, then pieces; what comes out is what was packed."""
    data = packed(parts, level)
    expected = b"".join(parts)

    async def read() -> bytes:
        stream, protocol, _ = compressing(data[:behind])

        async def deliver() -> None:
            for piece in cut(data[behind:], places):
                await asyncio.sleep(0)
                protocol.data_received(piece)

        delivering = asyncio.ensure_future(deliver())
        block = await stream.read_exact(len(expected)) if expected else b""
        await delivering
        return block

    assert asyncio.run(read()) == expected


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_each_write_can_be_unpacked_at_once(parts: list[bytes]) -> None:
    async def write() -> list[bytes]:
        stream, _, transport = compressing()
        for part in parts:
            await stream.write(part)
        return transport.written

    unpacker = zlib.decompressobj(-15)
    assert [unpacker.decompress(piece) for piece in asyncio.run(write())] == parts


async def test_bomb() -> None:
    """Two hundred thousand bytes that are two hundred million: a portion at a time, reading paused, nothing lost."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    total = 200 << 20
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush(zlib.Z_SYNC_FLUSH)
    stream, protocol, transport = compressing()
    protocol.data_received(bomb)
    assert not transport.reading
    taken = 0
    while taken < total:
        assert stream.buffered <= BOUND
        taken += len(await stream.read_some())
    assert taken == total
    assert transport.reading
    assert stream.buffered == 0


async def test_bomb_as_a_line() -> None:
    stream, protocol, _ = compressing()
    protocol.data_received(packed([b"a" * (50 << 20)]))
    with pytest.raises(ProtocolTrouble, match="line of more than"):
        await stream.read_line()
    assert stream.buffered <= BOUND


async def test_block_larger_than_the_buffer() -> None:
    stream, protocol, transport = compressing()
    data = packed([b"a" * (5 << 20), b"end\r\n"])
    reading = asyncio.ensure_future(stream.read_exact(5 << 20))
    for piece in cut(data, [1000, 3000]):
        protocol.data_received(piece)
        await asyncio.sleep(0)
    assert await reading == b"a" * (5 << 20)
    assert await stream.read_line() == b"end"
    assert transport.reading


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"* OK still in the clear\r\n", "damaged"),
        (packed([b"a\r\n"])[:-5] + b"\xff\xff\xff\xff\xff\xff", "damaged"),
        (zlib.compress(b"a\r\n", wbits=-15) + b"more", "behind the end"),
    ],
)
async def test_what_is_not_deflated(data: bytes, message: str) -> None:
    stream, protocol, transport = compressing()
    protocol.data_received(data)
    with pytest.raises(ProtocolTrouble, match=message):
        await stream.read_exact(100)
    assert transport.aborted


async def test_end_of_file_behind_the_last_bytes() -> None:
    """What came before the end can be read; then the connection is lost."""
    stream, protocol, _ = compressing()
    protocol.data_received(packed([b"a" * (3 << 20) + b"\r\n* BYE\r\n"]))
    protocol.eof_received()
    protocol.connection_lost(None)
    assert len(await stream.read_exact(3 << 20)) == 3 << 20
    assert await stream.read_line() == b""
    assert await stream.read_line() == b"* BYE"
    with pytest.raises(Temporary, match="closed by the server"):
        await stream.read_line()
