"""The relay that other tests put before a server."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.fault.imap_script import serving
from tests.servers.relay import relay_to


@pytest.mark.parametrize("end", ["reset by the client", "over in the middle"])
async def test_nothing_is_left_open(end: str) -> None:
    """However it ends, the server sees the end of its connection."""
    gone = asyncio.Event()
    began = asyncio.Event()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began.set()
        while await reader.read(100):
            writer.write(b"x" * 100)
        gone.set()

    async with serving(server) as port:
        relay = relay_to(port)
        under_way: list[asyncio.Task[None]] = []

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(relay(reader, writer))
            under_way.append(task)
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()

        async with serving(accept) as front:
            reader, writer = await asyncio.open_connection("127.0.0.1", front)
            writer.write(b"hello")
            await began.wait()
            assert await reader.readexactly(100)
            if end == "reset by the client":
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                writer.transport.abort()
            else:
                under_way[0].cancel()
            async with asyncio.timeout(5):
                await gone.wait()
            writer.close()
