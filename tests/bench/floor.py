"""The raw floor: how many logins and probes a second the servers themselves give, with a client that does no more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import cast

import uvloop

Step = tuple[bytes, Callable[[bytes], bool]]  # what is sent, and whether the reply line ends the step


class _Dialogue(asyncio.Protocol):
    def __init__(self, steps: Sequence[Step], done: asyncio.Future[None]) -> None:
        self._steps = iter(steps)
        self._done = done
        self._rest = b""
        self._ends: Callable[[bytes], bool] = lambda _line: True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of asyncio's
        self._next()

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        for line in lines:
            if self._ends(line):
                self._next()

    def _next(self) -> None:
        step = next(self._steps, None)
        if step is None:
            self._transport.close()
            if not self._done.done():
                self._done.set_result(None)
            return
        self._ends = step[1]
        if step[0]:
            self._transport.write(step[0])

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("the server hung up"))


def rate(host: str, port: int, dialogues: Sequence[Sequence[Step]], concurrency: int) -> float:
    """Dialogues a second, each on a fresh connection, `concurrency` at once."""

    async def run() -> float:
        loop = asyncio.get_running_loop()
        waiting = iter(dialogues)

        async def lane() -> None:
            for steps in waiting:
                done = loop.create_future()
                await loop.create_connection(lambda: _Dialogue(steps, done), host, port)  # noqa: B023 - used at once
                await done

        begun = time.perf_counter()
        await asyncio.gather(*(lane() for _ in range(concurrency)))
        return len(dialogues) / (time.perf_counter() - begun)

    return uvloop.run(run())


def imap_login(login: str, password: str) -> list[Step]:
    """Greeting, LOGIN, its tagged OK."""
    return [
        (b"", lambda line: line.startswith(b"* OK")),
        (f'a LOGIN "{login}" "{password}"\r\n'.encode(), lambda line: line.startswith(b"a OK")),
    ]


def pop_login(login: str, password: str) -> list[Step]:
    """Greeting, USER, PASS."""
    return [
        (b"", lambda line: line.startswith(b"+OK")),
        (f"USER {login}\r\n".encode(), lambda line: line.startswith(b"+OK")),
        (f"PASS {password}\r\n".encode(), lambda line: line.startswith(b"+OK")),
    ]


def smtp_probe(recipients: Sequence[str]) -> list[Step]:
    """Banner, EHLO, then MAIL and RCPT for each recipient, with RSET between them."""

    def positive(line: bytes) -> bool:
        return line[:4] == b"250 "

    steps: list[Step] = [(b"", lambda line: line[:4] == b"220 "), (b"EHLO bench.test\r\n", positive)]
    for number, recipient in enumerate(recipients):
        if number:
            steps.append((b"RSET\r\n", positive))
        steps.append((b"MAIL FROM:<>\r\n", positive))
        steps.append((f"RCPT TO:<{recipient}>\r\n".encode(), positive))
    return steps
