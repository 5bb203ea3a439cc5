"""A proxy on loopback that makes the way longer, not narrower: `python -m tests.servers.delay PORT MILLISECONDS`.

Each byte arrives half of the round trip later, in order; the bandwidth is not limited. It prints its own port and
serves until it is ended. A process of its own, so that it takes no time from whoever is measured.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

_ROOT = Path(__file__).resolve().parents[2]


class _Side(asyncio.Protocol):
    """One connection; what it receives goes out of its peer later."""

    def __init__(self, delay: float, port: int = 0) -> None:
        self._delay = delay
        self._port = port  # of the server, for a client's connection
        self._waiting: deque[tuple[float, bytes]] = deque()  # b"": the end
        self._timer: asyncio.TimerHandle | None = None
        self.peer: _Side | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self._port:
            task = asyncio.ensure_future(self._connect())
            task.add_done_callback(lambda done: done.exception())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, other = await loop.create_connection(lambda: _Side(self._delay), "127.0.0.1", self._port)
        self.peer, other.peer = other, self
        self._pass_on()
        other._pass_on()

    def data_received(self, data: bytes) -> None:
        self._waiting.append((asyncio.get_running_loop().time() + self._delay, bytes(data)))
        self._pass_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self.data_received(b"")

    def _pass_on(self) -> None:
        """Send what is due, and look again when the next is."""
        if self.peer is None or self._timer is not None:
            return
        loop = asyncio.get_running_loop()
        out = []
        while self._waiting and self._waiting[0][0] <= loop.time():
            out.append(self._waiting.popleft()[1])
        transport = self.peer.transport
        if out and transport is not None and not transport.is_closing():
            transport.write(b"".join(out))
            if not out[-1]:
                transport.close()
        if self._waiting:
            self._timer = loop.call_at(self._waiting[0][0], self._again)

    def _again(self) -> None:
        self._timer = None
        self._pass_on()


async def _serve(port: int, round_trip: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Side(round_trip / 2, port), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def delayed(port: int, milliseconds: float) -> Iterator[int]:
    """The port of a proxy before `port` that adds this round trip; `port` itself for 0."""
    if not milliseconds:
        yield port
        return
    arguments = [sys.executable, "-m", "tests.servers.delay", str(port), str(milliseconds)]
    child = subprocess.Popen(arguments, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        yield int(child.stdout.readline())
    finally:
        child.terminate()
        child.wait()
        child.stdout.close()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(int(sys.argv[1]), float(sys.argv[2]) / 1000))
