"""A listening socket whose network can be told to misbehave: refuse, swallow, cut after n bytes, be late.

Every server of the sandbox stands behind one. `Conditions` are read at each connection and each write, so a test
changes them while the server runs. Binds port 0 on loopback and keeps that port while it refuses and accepts again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from extauth.sandbox.faults import Fault

LINE_LIMIT = 1 << 20  # bytes of one command line a sandbox server takes; above any real server's limit
_CLOSING = 1.0  # seconds that closing waits for connections that were never handed to a session


@dataclass(slots=True)
class Conditions:
    """How the way to a server is."""

    black_hole: bool = False  # connections are accepted, nothing is ever said
    drop: bool = False  # connections are accepted and closed at once
    cut_after: int | None = None  # bytes a server may say on one connection before it is cut
    latency: float = 0.0  # seconds by which every write is late (order is kept)


class _Wire:
    """The transport a session writes to: counts what is said, and keeps to the Conditions."""

    def __init__(self, transport: asyncio.Transport, conditions: Conditions) -> None:
        self._transport = transport
        self._conditions = conditions
        self._said = 0
        self._due = 0.0  # when the write before this one goes out

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        limit = self._conditions.cut_after
        if limit is not None and self._said + len(data) >= limit:
            rest = max(0, limit - self._said)
            self._said = limit
            self._later(self._transport.write, bytes(data[:rest]))
            self._later(self._close)
            return
        self._said += len(data)
        self._later(self._transport.write, data)

    def writelines(self, chunks: list[bytes]) -> None:
        self.write(b"".join(chunks))

    def close(self) -> None:
        self._later(self._close)

    def _close(self) -> None:
        if not self._transport.is_closing():  # a TLS transport that is closed twice can no longer be aborted
            self._transport.close()

    def _later(self, call: Callable[..., None], *arguments: bytes) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._due = max(self._due, now + self._conditions.latency) if self._conditions.latency else self._due
        if self._due > now:
            loop.call_at(self._due, self._call, call, *arguments)
        else:
            call(*arguments)

    def _call(self, call: Callable[..., None], *arguments: bytes) -> None:
        if not self._transport.is_closing():
            call(*arguments)


class _Silent(asyncio.Protocol):
    """A black hole."""


class _Dropping(asyncio.Protocol):
    """Closes at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """Accepts connections on `host:port` and gives each to `serve` (streams) or to a protocol made by `factory`."""

    def __init__(
        self,
        serve: Serve | None = None,
        *,
        factory: Callable[[], asyncio.Protocol] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.conditions = Conditions()
        self.accepted = 0  # connections that reached a session
        self._serve = serve
        self._factory = factory
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._transports: set[asyncio.BaseTransport] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def open_connections(self) -> int:
        """Connections that are open now, silent ones included."""
        return len(self._transports)

    async def start(self) -> None:
        """Listen; the port is known afterwards. Nothing happens when it listens already."""
        if self._server is not None:
            return
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, self.host, self.port, ssl=self._tls, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Refuse new connections and drop the open ones, until `start`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.drop_all()
        await asyncio.sleep(0)

    def drop_all(self) -> None:
        """Cut every open connection."""
        for transport in list(self._transports):
            transport.abort()  # type: ignore[attr-defined]  # every TCP and TLS transport has it

    async def close(self) -> None:
        """Stop listening, cut every connection and wait for the sessions to end."""
        server = self._server
        await self.refuse()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # a TLS handshake that failed is not among our transports, and the loop needs a moment to close its socket
        until = asyncio.get_running_loop().time() + _CLOSING
        while getattr(server, "_active_count", 0) and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)

    def _accept(self) -> asyncio.BaseProtocol:
        if self.conditions.drop:
            return _Dropping()
        inner: asyncio.Protocol
        if self.conditions.black_hole:
            inner = _Silent()
        elif self._factory is not None:
            self.accepted += 1
            inner = self._factory()
        else:
            self.accepted += 1
            reader = asyncio.StreamReader(limit=LINE_LIMIT)
            inner = asyncio.StreamReaderProtocol(reader, self._connected)
        return self._tracked(inner)

    def _tracked(self, inner: asyncio.Protocol) -> asyncio.Protocol:
        made, lost = inner.connection_made, inner.connection_lost

        def connection_made(transport: asyncio.BaseTransport) -> None:
            self._transports.add(transport)
            inner._sandbox_transport = transport  # type: ignore[attr-defined]  # to forget it when it is lost
            made(_Wire(transport, self.conditions))  # type: ignore[arg-type]  # a transport by delegation

        def connection_lost(error: Exception | None) -> None:
            self._transports.discard(inner._sandbox_transport)  # type: ignore[attr-defined]  # set above
            lost(error)

        inner.connection_made = connection_made  # type: ignore[method-assign]  # one protocol object per connection
        inner.connection_lost = connection_lost  # type: ignore[method-assign,assignment]  # the same
        return inner

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._session(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._serve is not None
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, Cut):
            pass  # the client went away, or a fault ended the connection: the session is over either way
        finally:
            with contextlib.suppress(ConnectionError, RuntimeError):
                writer.close()


class Cut(Exception):
    """A fault ended this connection."""


async def read_command(reader: asyncio.StreamReader, limit: int = LINE_LIMIT) -> bytes | None:
    """The next line without its line end; None at end of file. ValueError when it is too long."""
    line = await reader.readline()
    if not line.endswith(b"\n"):
        return None
    if len(line) > limit:
        raise ValueError("line too long")
    return line[:-2] if line.endswith(b"\r\n") else line[:-1]


async def answer(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    fault: Fault | None,
    execute: Callable[[], Awaitable[bytes]],
    instead: Callable[[bytes], bytes] = lambda reply: reply + b"\r\n",
) -> None:
    """Carry a command out and say its reply, or do what `fault` says. Raises Cut where the connection must end."""
    if fault is None:
        writer.write(await execute())
        await writer.drain()
        return
    if fault.delay:
        await asyncio.sleep(fault.delay)
    said = await execute() if fault.executed else b""
    if fault.raw is not None:
        said = fault.raw
    elif fault.reply is not None:
        said = instead(fault.reply)
    if fault.hang:
        while await reader.read(65536):
            pass  # until the client gives up
        raise Cut
    if fault.cut:
        if fault.keep:
            writer.write(said[: fault.keep])
            await writer.drain()
        raise Cut
    writer.write(said)
    await writer.drain()
