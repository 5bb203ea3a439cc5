"""A POP server in memory whose manners a test chooses: without UIDL, with shared ones, cutting connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self


class MemoryPop:
    """`async with MemoryPop() as server: server.port`. Messages are (UIDL, content) pairs, by the order they came."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bytes]] = []
        self.port = 0
        self.has_uidl = True
        self.retrieved = 0
        self.log: list[bytes] = []
        self.accepts_login: Callable[[], bytes] = lambda: b"+OK in"
        self.cut_within: Callable[[int], int | None] = lambda _number: None  # bytes of a message to send, then hang up
        self.on_command: Callable[[bytes], bytes | None] = lambda _line: None
        self.cut_after: int | None = None  # bytes said in all, then every connection is closed
        self.said = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        deleted: set[int] = set()
        try:
            self._say(writer, b"+OK ready\r\n")
            while True:
                line = (await reader.readuntil(b"\n")).strip()
                self.log.append(line)
                reply = self.on_command(line)
                word, _, rest = line.partition(b" ")
                self._say(writer, reply if reply is not None else self._answer(word.upper(), rest, deleted))
                await writer.drain()
                if word.upper() == b"QUIT":
                    self.messages = [
                        message for number, message in enumerate(self.messages, 1) if number not in deleted
                    ]
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except _CutOff as cut:
            writer.write(cut.data)
        finally:
            self._writers.discard(writer)
            writer.close()

    def _say(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if self.cut_after is not None and self.said + len(data) >= self.cut_after:
            data, self.said = data[: max(0, self.cut_after - self.said)], self.cut_after
            raise _CutOff(data)
        self.said += len(data)
        writer.write(data)

    def _answer(self, word: bytes, rest: bytes, deleted: set[int]) -> bytes:
        match word:
            case b"USER" | b"NOOP" | b"QUIT":
                return b"+OK\r\n"
            case b"PASS":
                return self.accepts_login() + b"\r\n"
            case b"CAPA":
                return b"+OK\r\nPIPELINING\r\n.\r\n"
            case b"STAT":
                return b"+OK %d %d\r\n" % (len(self.messages), sum(len(content) for _, content in self.messages))
            case b"LIST":
                return _list(b"%d" % len(content) for _, content in self.messages)
            case b"UIDL" if self.has_uidl:
                return _list(uidl for uidl, _ in self.messages)
            case b"DELE":
                deleted.add(int(rest))
                return b"+OK\r\n"
            case b"RETR":
                self.retrieved += 1
                content = self.messages[int(rest) - 1][1]
                cut = self.cut_within(int(rest))
                if cut is not None:
                    raise _CutOff(b"+OK\r\n" + content[:cut])
                stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
                return b"+OK\r\n" + stuffed + (b"" if stuffed.endswith(b"\r\n") else b"\r\n") + b".\r\n"
        return b"-ERR unknown command\r\n"


class _CutOff(Exception):
    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data


def _list(values: object) -> bytes:
    assert hasattr(values, "__iter__")
    return b"+OK\r\n" + b"".join(b"%d %b\r\n" % (number, value) for number, value in enumerate(values, 1)) + b".\r\n"
