"""A loopback server that plays a script: for dialogues whose every byte the test decides."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from wire.endpoint import Endpoint

_STRANGER = re.compile(rb"(?P<tag>\S+ )?(?P<verb>LOGIN|USER|RCPT TO:) ?[\"<]?nobody[.0-9a-z]{14}", re.IGNORECASE)


class Stranger(ConnectionError):
    """A login of nobody was refused: the connection was none of the test's."""


class Talk:
    """The server's side of one connection. `knows` is whether it refuses names that nobody has before the play does."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lines: list[bytes], *, knows: bool = False
    ) -> None:
        self._reader = reader
        self.writer = writer
        self._lines = lines
        self._knows = knows

    async def line(self) -> bytes:
        """The client's next line without its line end; b"" and ConnectionError when it has hung up."""
        while True:
            line = await self._reader.readline()
            if not line.endswith(b"\n"):
                raise ConnectionError("the client hung up")
            line = line.removesuffix(b"\n").removesuffix(b"\r")
            if not self._knows or not (stranger := _STRANGER.match(line)):
                self._lines.append(line)
                return line
            await self._refuse(stranger)

    async def _refuse(self, stranger: re.Match[bytes]) -> None:
        verb = stranger["verb"].upper()
        if verb == b"RCPT TO:":
            await self.send(b"550 5.1.1 no such user\r\n")
            return
        await self.send(b"-ERR no such user\r\n" if verb == b"USER" else stranger["tag"] + b"NO no such user\r\n")
        raise Stranger

    async def send(self, data: bytes) -> None:
        """Say `data` at once."""
        self.writer.write(data)
        await self.writer.drain()

    async def silence(self) -> None:
        """Say nothing until the client hangs up."""
        while await self._reader.read(65536):
            pass

    def cut(self) -> None:
        """Reset the connection."""
        self.writer.transport.abort()


Play = Callable[[Talk], Awaitable[None]]


async def until(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    """Let the loop run until `condition` holds: for what comes over a socket and no future tells of."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # the state looked at is not ours to put an event into
            await asyncio.sleep(0.001)


class ScriptServer:
    """What came in so far, over all connections in the order they were opened."""

    def __init__(self) -> None:
        self.port = 0
        self.talks: list[list[bytes]] = []
        self.open = 0  # connections open now
        self.most = 0  # the most that ever were

    @property
    def lines(self) -> list[bytes]:
        """All lines of all connections."""
        return [line for talk in self.talks for line in talk]

    def endpoint(self, protocol: str) -> Endpoint:
        """Where it listens."""
        return Endpoint(protocol, "127.0.0.1", self.port)


@asynccontextmanager
async def serve(
    play: Play, *, context: ssl.SSLContext | None = None, port: int = 0, refuses_strangers: bool = True
) -> AsyncIterator[ScriptServer]:
    """Play `play` on each connection, over TLS with `context`; a connection is closed when its play is over.

    Names that nobody has, by which the helper tries what a yes is worth, are refused and not shown to the play.
    """
    state = ScriptServer()
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        lines: list[bytes] = []
        state.talks.append(lines)
        state.open += 1
        state.most = max(state.most, state.open)
        try:
            await play(Talk(reader, writer, lines, knows=refuses_strangers))
        except Stranger:
            state.talks[:] = [talk for talk in state.talks if talk is not lines]
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            state.open -= 1
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", port, ssl=context)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def transcript(says: Sequence[bytes], *, cut: int | None = None) -> Play:
    """Says the parts one by one, each but the first after a line of the client; with `cut` only so many bytes in all.

    Then hangs up: after a cut at once, else when the client does.
    """

    async def play(talk: Talk) -> None:
        left = sum(map(len, says)) if cut is None else cut
        for number, part in enumerate(says):
            if number:
                await talk.line()
            if len(part) > left:
                await talk.send(part[:left])
                return
            left -= len(part)
            await talk.send(part)
            if cut is not None and not left:
                return
        await talk.silence()

    return play
