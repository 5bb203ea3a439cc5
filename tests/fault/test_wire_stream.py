"""The stream on real sockets: deadlines, limits, TLS, and what is left when a side goes away."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext, suppress

import pytest
import uvloop

from tests.fault.imap_script import serving
from tests.servers.certificates import Certificates
from wire.endpoint import Endpoint, Security, TlsPolicy
from wire.outcome import ProtocolTrouble, Scope, SetupTrouble, Temporary
from wire.stream import Stream

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


def at(seconds: float) -> float:
    """A deadline."""
    return asyncio.get_running_loop().time() + seconds


@asynccontextmanager
async def streamed(said: bytes = b"", *, hang: bool = True) -> AsyncIterator[Stream]:
    """A stream to a server that says `said`, then stays silent or hangs up."""

    async def handle(reader: Reader, writer: Writer) -> None:
        writer.write(said)
        await writer.drain()
        if hang:
            await reader.read()

    async with serving(handle) as port:
        stream = await Stream.open(Endpoint("imap", "127.0.0.1", port), TlsPolicy(), deadline=at(20))
        try:
            yield stream
        finally:
            stream.close()


async def test_lines_and_blocks() -> None:
    """In the order they came, and the rest stays."""
    async with streamed(b"one\r\n12345two\n") as stream:
        assert await stream.read_line() == b"one"
        assert await stream.read_exact(5) == b"12345"
        assert await stream.read_line() == b"two"
        assert stream.buffered == 0
        assert stream.usable
        assert stream.peer is not None
        assert stream.peer[0] == "127.0.0.1"


async def test_small_writes_are_not_delayed() -> None:
    """TCP_NODELAY is set: a late small segment would cost 40 ms."""
    async with streamed() as stream:
        sock = stream._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("said", [b"", b"half a line"])
async def test_the_end_within_a_line(said: bytes) -> None:
    """A line that was cut off is never given."""
    async with streamed(said, hang=False) as stream:
        with pytest.raises(Temporary, match="closed"):
            await stream.read_line()
        assert not stream.usable
        with pytest.raises(Temporary):
            await stream.write(b"x")


async def test_what_came_before_the_end_is_given() -> None:
    """A reply and a hang-up: the reply counts."""
    async with streamed(b"one\r\nBYE\r\n", hang=False) as stream:
        assert await stream.read_line() == b"one"
        async with asyncio.timeout(5):
            await stream._protocol.wait_data(stream.deadline)  # the rest, or the end
        assert await stream.read_line() == b"BYE"


@pytest.mark.parametrize("read", ["read_line", "read_exact", "read_some"])
async def test_every_wait_ends_at_the_deadline(read: str) -> None:
    """And the stream is closed with it."""
    async with streamed() as stream:
        stream.deadline = at(0.05)
        with pytest.raises(Temporary, match="in time"):
            await (stream.read_exact(1) if read == "read_exact" else getattr(stream, read)())
        assert not stream.usable


async def test_a_deadline_that_passed_ends_at_once() -> None:
    """Also for the connection itself."""
    async with streamed() as stream:
        with pytest.raises(Temporary, match="no connection in time"):
            await Stream.open(stream.endpoint, TlsPolicy(), deadline=at(-1))


async def test_a_peer_that_takes_nothing() -> None:
    """Writing waits for it, up to the deadline."""
    wait = asyncio.Event()

    async def handle(_reader: Reader, _writer: Writer) -> None:
        await wait.wait()

    async with serving(handle) as port:
        stream = await Stream.open(Endpoint("imap", "127.0.0.1", port), TlsPolicy(), deadline=at(0.3))
        with pytest.raises(Temporary, match="takes no data"):
            await stream.write(b"x" * 100_000_000)
        wait.set()


async def test_reading_pauses_when_nobody_takes() -> None:
    """A flood stays in the network, not in memory."""
    async with streamed(b"x" * 30_000_000) as stream:
        await stream.read_exact(10)
        for _ in range(50):
            await asyncio.sleep(0)
        assert stream.buffered < 3_000_000
        assert len(await stream.read_exact(29_999_990)) == 29_999_990


async def test_a_line_too_long() -> None:
    """Refused at the limit."""
    async with streamed(b"x" * 100_000) as stream:
        with pytest.raises(ProtocolTrouble):
            await stream.read_line()


async def test_nothing_unasked_makes_a_pooled_stream_unusable() -> None:
    """Bytes that nobody asked for, or a hang-up, show before it is used again."""
    async with streamed(b"421 closing\r\n") as stream:
        await stream.read_exact(1)
        assert not stream.usable


async def test_nobody_listens() -> None:
    """A refused connection is Temporary, and about the server."""
    async with streamed() as stream:
        endpoint = stream.endpoint
    with pytest.raises(Temporary) as caught:
        await Stream.open(endpoint, TlsPolicy(), deadline=at(20))
    assert caught.value.scope is Scope.SERVER


async def test_cancelling_passes() -> None:
    """CancelledError is never turned into anything else, and nothing is left waiting."""
    async with streamed() as stream:
        waiting = asyncio.ensure_future(stream.read_line())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_a_name_is_connected_to() -> None:
    """`localhost` may be two addresses; one of them listens."""
    async with streamed() as stream:
        named = await Stream.open(Endpoint("imap", "localhost", stream.endpoint.port), TlsPolicy(), deadline=at(20))
        assert named.usable
        named.close()


@asynccontextmanager
async def tls_server(context: ssl.SSLContext) -> AsyncIterator[int]:
    """A server that speaks TLS from the first byte."""

    async def handle(reader: Reader, writer: Writer) -> None:
        await writer.start_tls(context)
        writer.write(b"hello\r\n")
        await reader.read()

    async with serving(handle) as port:
        yield port


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1.2", "TLSv1.3"])
async def test_tls_versions(certificates: Certificates, version: str) -> None:
    """An old server's TLS works where it is asked for by name, and is refused otherwise."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.good.chain, certificates.good.key)
    wanted = {"TLSv1": ssl.TLSVersion.TLSv1, "TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
    with pytest.warns(DeprecationWarning, match="TLSv1") if version == "TLSv1" else nullcontext():
        context.minimum_version = context.maximum_version = wanted[version]
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    ca_file = str(certificates.ca_file)
    async with tls_server(context) as port:
        endpoint = Endpoint("imap", "127.0.0.1", port, Security.TLS)
        policy = TlsPolicy(ca_file=ca_file, minimum=version)
        stream = await Stream.open(endpoint, policy, deadline=at(20))
        assert stream.secure
        assert await stream.read_line() == b"hello"
        stream.abort()
        if version == "TLSv1":  # the server may hang up instead of saying why
            with pytest.raises((SetupTrouble, Temporary)):
                await Stream.open(endpoint, TlsPolicy(ca_file=ca_file), deadline=at(20))


def taciturn(listening: socket.socket, context: ssl.SSLContext, end: threading.Event) -> None:
    """Serve one client: greet it under TLS, and then neither answer nor close before `end`."""
    with listening.accept()[0] as plain, context.wrap_socket(plain, server_side=True) as secured:
        secured.sendall(b"hello\r\n")
        end.wait(30)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_closing_tls_waits_for_nobody(certificates: Certificates, run: Callable[..., None]) -> None:
    """The socket is closed within a few turns of the loop, while the server still holds its end open."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.good.chain, certificates.good.key)
    policy = TlsPolicy(ca_file=str(certificates.ca_file))

    async def close(port: int) -> None:
        stream = await Stream.open(Endpoint("imap", "127.0.0.1", port, Security.TLS), policy, deadline=at(20))
        assert await stream.read_line() == b"hello"
        mine = [number for number in os.listdir("/proc/self/fd") if peer_of(int(number)) == ("127.0.0.1", port)]
        assert len(mine) == 1
        stream.close()
        for _ in range(20):
            await asyncio.sleep(0)
        assert peer_of(int(mine[0])) != ("127.0.0.1", port)

    end = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        serving = pool.submit(taciturn, listening, context, end)
        try:
            run(close(listening.getsockname()[1]))
        finally:
            end.set()
        serving.result()


def peer_of(descriptor: int) -> object:
    """Who is at the other end of a descriptor; None where it is no connected socket."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as sock:
        return sock.getpeername()
    return None


async def test_a_server_that_hangs_up_before_tls(certificates: Certificates) -> None:
    """That is no word about certificates, and is known at once."""

    async def handle(_reader: Reader, _writer: Writer) -> None:
        return

    async with serving(handle) as port:
        with pytest.raises(Temporary):
            await Stream.open(Endpoint("imap", "127.0.0.1", port, Security.TLS), TlsPolicy(), deadline=at(20))


async def test_a_server_without_tls_on_its_tls_port() -> None:
    """It greets in the clear."""
    async with streamed(b"* OK hello\r\n") as stream:
        endpoint = Endpoint("imap", "127.0.0.1", stream.endpoint.port, Security.TLS)
        with pytest.raises(SetupTrouble, match="TLS"):
            await Stream.open(endpoint, TlsPolicy(), deadline=at(20))


@pytest.mark.parametrize("first", [0.05, 60.0])
async def test_a_deadline_that_moves_is_kept_to(first: float) -> None:
    """The next wait may end later or sooner than the one before; the timer of the one before does not decide."""
    async with streamed() as stream:
        stream.deadline = at(first)
        earlier = asyncio.get_running_loop().create_task(stream.read_line())
        await asyncio.sleep(0)  # it waits now, and its timer runs
        earlier.cancel()
        with pytest.raises(asyncio.CancelledError):
            await earlier
        stream.deadline = ends = at(0.2)
        with pytest.raises(Temporary, match="no answer in time"):
            await stream.read_line()
        assert asyncio.get_running_loop().time() >= ends - 0.01
