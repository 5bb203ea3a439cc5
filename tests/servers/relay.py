"""Bytes passed on to a server by the test's own loop, seen on their way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def relay_to(port: int, seen: Callable[[int, bytes], None] = lambda _way, _data: None) -> Handler:
    """What `asyncio.start_server` takes. `seen` hears of every piece: 0 on the way to the server, 1 back.

    Both connections are closed however it ends, by a test that is over included: one left open is reported minutes
    later, in the name of whichever test runs then.
    """

    async def pump(one: asyncio.StreamReader, other: asyncio.StreamWriter, way: int) -> None:
        while data := await one.read(65536):
            seen(way, data)
            other.write(data)
            await other.drain()
        other.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        ways = [asyncio.ensure_future(pump(reader, back, 0)), asyncio.ensure_future(pump(there, writer, 1))]
        try:
            await asyncio.gather(*ways)
        finally:
            for way in ways:
                way.cancel()
            back.close()
            writer.close()

    return relay
