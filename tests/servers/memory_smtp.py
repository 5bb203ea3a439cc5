"""An SMTP server in memory whose manners a test chooses: with PIPELINING and CHUNKING or without, limiting, cutting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

_LARGEST = 1 << 22  # bytes of a message


class MemorySmtp:
    """`async with MemorySmtp(b"PIPELINING", b"CHUNKING") as server: server.port`.

    Counts of `answer` begin with 1 and go on over connections; `arrived` holds what was accepted, answered or not.
    """

    def __init__(self, *extensions: bytes) -> None:
        self.extensions = (b"8BITMIME", b"SIZE 100000", *extensions)
        self.banner = b"220 ready"
        self.port = 0
        self.arrived: list[bytes] = []
        self.recipients: list[list[bytes]] = []  # of each that arrived: the addresses of its RCPT commands
        self.senders: set[bytes] = set()
        self.log: list[bytes] = []  # command lines
        self.connections = 0
        self.count = 0  # messages that came whole
        # What a test may replace. A reply of 421 or 521 is the last one; None hangs up.
        self.answer: Callable[[int], bytes | None] = lambda _number: b"250 2.0.0 queued"  # to the n-th whole message
        self.judge: Callable[[bytes], bytes | None] = lambda _content: None  # the same by content, asked first
        self.on_command: Callable[[bytes], bytes | None] = lambda _line: None  # a reply instead of the usual one
        self.cut_after: int | None = None  # bytes said in all, then every connection is closed
        self.said = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_LARGEST)
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
        self.connections += 1
        try:
            await _Dialogue(self, reader, writer).run()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


class _Dialogue:
    def __init__(self, server: MemorySmtp, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.mail = self.rcpt = False
        self.to: list[bytes] = []

    def say(self, reply: bytes) -> None:
        data = reply + b"\r\n"
        server = self.server
        if server.cut_after is not None and server.said + len(data) >= server.cut_after:
            self.writer.write(data[: max(0, server.cut_after - server.said)])
            server.said = server.cut_after
            raise ConnectionError("cut, as asked")
        server.said += len(data)
        self.writer.write(data)
        if reply.startswith((b"421", b"521")):
            raise ConnectionError("the last word")

    async def run(self) -> None:
        self.say(self.server.banner)
        while True:
            line = (await self.reader.readuntil(b"\n")).rstrip(b"\r\n")
            self.server.log.append(line)
            word = line.upper().split(b" ")[0].split(b":")[0]
            chunk = await self.reader.readexactly(int(line.split()[1])) if word == b"BDAT" else b""
            instead = self.server.on_command(line)
            if instead is not None:
                if word in (b"MAIL", b"RCPT") and instead.startswith(b"2"):
                    self.mail, self.rcpt = True, word == b"RCPT"
                self.say(instead)
            else:
                await self.obey(word, line, chunk)

    async def obey(self, word: bytes, line: bytes, chunk: bytes) -> None:
        match word:
            case b"EHLO":
                self.say(b"250-here")
                for extension in self.server.extensions[:-1]:
                    self.say(b"250-" + extension)
                self.say(b"250 " + self.server.extensions[-1])
            case b"MAIL" if self.mail:
                self.say(b"503 nested MAIL")
            case b"MAIL":
                self.server.senders.add(line.split(b">")[0] + b">")
                self.mail = True
                self.to = []
                self.say(b"250 ok")
            case b"RCPT" if self.mail:
                self.rcpt = True
                self.to.append(line.partition(b"<")[2].partition(b">")[0])
                self.say(b"250 ok")
            case b"DATA" if self.rcpt:
                self.say(b"354 go")
                content = b"\r\n" + await self.reader.readuntil(b"\r\n.\r\n")
                self.take(content[2:-3].replace(b"\r\n..", b"\r\n."))
            case b"BDAT" if self.rcpt:
                self.take(chunk)
            case b"DATA" | b"BDAT" | b"RCPT":
                self.say(b"503 no recipients")
            case _:
                self.mail = self.rcpt = False
                self.say(b"250 ok")

    def take(self, content: bytes) -> None:
        self.mail = self.rcpt = False
        self.server.count += 1
        answer = self.server.judge(content) or self.server.answer(self.server.count)
        if answer is None or answer.startswith(b"2"):
            self.server.arrived.append(content)
            self.server.recipients.append(self.to)
        if answer is None:
            raise ConnectionError("unanswered, as asked")
        self.say(answer)
