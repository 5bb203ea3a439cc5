"""One IMAP connection as commands and replies: tags, literals, limits. It decides nothing about what a reply means.

After any Temporary the connection is closed: a dialogue that lost its place is never taken up again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Final

from wire.imap.classify import classify_bye
from wire.imap.encoder import Arg, encode_command
from wire.imap.parser import Assembler, Continuation, Response, Status, Untagged, check_literal
from wire.outcome import ProtocolTrouble
from wire.stream import Stream

GREETING_LINE_LIMIT: Final = 65536  # before login: no list, no message, only capabilities
GREETING_LITERAL_LIMIT: Final = 8192
LINE_LIMIT: Final = 32 << 20  # after login: a SEARCH reply of two million UIDs is one line of 20 MB
LITERAL_LIMIT: Final = 4 << 20  # names, headers; message bodies are streamed and have no limit
GREETING_COLLECT_LIMIT: Final = 1 << 18  # bytes of untagged replies kept for one command before login
COLLECT_LIMIT: Final = 64 << 20  # and after; lists and summaries are not kept but read as they come
STRAY_LIMIT: Final = 10_000  # replies to a message taken for commands, one for each of its lines


@dataclass(frozen=True, slots=True)
class Completed:
    """A tagged reply with everything untagged that came before it."""

    status: bytes  # b"OK", b"NO" or b"BAD"
    code: str  # first word of the [code], upper case; "" without
    code_args: bytes
    text: str
    untagged: list[Untagged] = field(default_factory=list)
    notices: list[Status] = field(default_factory=list)  # untagged OK, NO, BAD with their codes


class _Closing:
    """A context that is entered for every response: a generator of contextlib would cost as much as reading a line."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, ProtocolTrouble):
            self._stream.abort()


class Dialogue:
    """Sends commands and reads responses over one stream, one command at a time or pipelined."""

    def __init__(self, stream: Stream, *, tag_prefix: bytes = b"") -> None:
        self.stream = stream
        self.capabilities: frozenset[str] | None = None  # None: not known now, ask
        self.line_limit = GREETING_LINE_LIMIT
        self.literal_limit = GREETING_LITERAL_LIMIT
        self.collect_limit = GREETING_COLLECT_LIMIT
        self.progress_timeout: float | None = None
        self.unasked = True  # LITERAL+ may be used; see `find_place_again`
        # Random, so that a reply sent before the command was cannot carry its tag.
        self._closing = _Closing(stream)
        self._prefix = tag_prefix or b"x" + os.urandom(3).hex().encode()
        self._count = 0
        self._last_size = 0  # bytes of the response read last

    def authenticated(self) -> None:
        """Logged in: longer lines and literals are to be expected now."""
        self.line_limit, self.literal_limit, self.collect_limit = LINE_LIMIT, LITERAL_LIMIT, COLLECT_LIMIT

    def next_tag(self) -> bytes:
        """A tag never used before on this connection."""
        self._count += 1
        return b"%b%d" % (self._prefix, self._count)

    def has(self, capability: str) -> bool:
        """Whether the server announced `capability` (upper case)."""
        return self.capabilities is not None and capability in self.capabilities

    def renew(self) -> None:
        """A step went well: where a progress time-out is set, the next one has that long."""
        if self.progress_timeout is not None:
            self.stream.deadline = asyncio.get_running_loop().time() + self.progress_timeout

    def encode(self, tag: bytes, name: bytes, args: Sequence[Arg]) -> list[bytes]:
        """The command as chunks, with the literal forms that the server offers."""
        plus, minus = (self.unasked and self.has(form) for form in ("LITERAL+", "LITERAL-"))
        return encode_command(tag, name, args, literal_plus=plus, literal_minus=minus)

    async def read(self) -> Response:
        """The next whole response; ProtocolTrouble (and the connection closed) if it cannot be understood."""
        assembler = Assembler()
        with self.closing():
            while (size := assembler.add_line(await self.stream.read_line(self.line_limit))) is not None:
                check_literal(size, self.literal_limit)
                assembler.add_literal(await self.stream.read_exact(size))
            self._last_size = sum(map(len, assembler.parts))
            response = assembler.take()
        if isinstance(response, Untagged) and response.name == b"CAPABILITY":
            self.note_capabilities(response)
        return response

    def note_capabilities(self, response: Untagged | Status) -> None:
        """Remember what `* CAPABILITY ...` or `[CAPABILITY ...]` announced."""
        if isinstance(response, Status):
            if response.code == "CAPABILITY":
                self.capabilities = frozenset(response.code_args.decode("ascii", "replace").upper().split())
        else:
            words = (word.decode("ascii", "replace").upper() for word in response.data if isinstance(word, bytes))
            self.capabilities = frozenset(words)

    async def read_reply(self, tag: bytes, take: Callable[[Untagged], bool] | None = None) -> Completed:
        """Read up to the tagged reply of `tag`. What `take` returns True for is not collected.

        BYE is Temporary: the server is going away, whatever else it says. So is a tag that is not `tag`.
        """
        untagged: list[Untagged] = []
        notices: list[Status] = []
        kept = 0
        while True:
            response = await self.read()
            if isinstance(response, Untagged):
                with self.closing():
                    if take is not None and take(response):
                        continue
                untagged.append(response)
            elif isinstance(response, Status):
                if response.tag:
                    return self.complete(tag, response, untagged, notices)
                self.refuse_bye(response)
                notices.append(response)
            else:
                raise self.broken("the server asks for more where nothing more is due")
            kept = self._keep(kept)

    def _keep(self, kept: int) -> int:
        """Count what is kept for one command."""
        kept += self._last_size
        if kept > self.collect_limit:
            raise self.broken("the reply never ends")
        return kept

    def complete(
        self, tag: bytes, reply: Status, untagged: Sequence[Untagged] = (), notices: Sequence[Status] = ()
    ) -> Completed:
        """The tagged `reply` with what came before it; ProtocolTrouble if its tag is not `tag`."""
        if reply.tag != tag:
            raise self.broken("the reply carries the tag of another command")
        text = reply.text.decode("utf-8", "backslashreplace")
        return Completed(reply.status, reply.code, reply.code_args, text, list(untagged), list(notices))

    def refuse_bye(self, response: Status) -> None:
        """Temporary for an untagged BYE (RFC 3501 7.1.5), and for a greeting that comes twice."""
        if response.status == b"BYE":
            self.stream.abort()
            raise classify_bye(response.code, response.text)
        if response.status == b"PREAUTH":
            raise self.broken("PREAUTH in the middle of a dialogue")

    def closing(self) -> _Closing:
        """Close the connection when what is read inside turns out to be no IMAP."""
        return self._closing

    def broken(self, text: str) -> ProtocolTrouble:
        """Close the connection; the exception to raise."""
        self.stream.abort()
        return ProtocolTrouble(f"{self.stream.endpoint}: {text}")

    async def settle(self) -> None:
        """Read what the server said unasked, before a command goes out; a reply among it is ProtocolTrouble."""
        while self.stream.buffered:
            response = await self.read()
            if isinstance(response, Status) and not response.tag:
                self.refuse_bye(response)
            elif not isinstance(response, Untagged):
                raise self.broken("a reply came before the command was sent")

    async def send(self, chunks: Sequence[bytes], tag: bytes) -> Completed | None:
        """Send a whole command, waiting for `+` between its chunks; a tagged reply that came instead ends it."""
        early = await self.ask(chunks[:-1], tag)
        if early is None:
            await self.stream.write(chunks[-1])
        return early

    async def ask(self, chunks: Sequence[bytes], tag: bytes) -> Completed | None:
        """Send chunks and wait for `+` after each; the tagged reply when the server refuses instead."""
        for chunk in chunks:
            await self.stream.write(chunk)
            early = await self.read_continuation(tag)
            if early is not None:
                return early
        return None

    async def read_continuation(self, tag: bytes) -> Completed | None:
        """Wait for `+`: None when it came, the tagged reply when the server refused instead."""
        untagged: list[Untagged] = []
        notices: list[Status] = []
        kept = 0
        while True:
            response = await self.read()
            if isinstance(response, Continuation):
                return None
            if isinstance(response, Untagged):
                untagged.append(response)
            elif response.tag:
                return self.complete(tag, response, untagged, notices)
            else:
                self.refuse_bye(response)
                notices.append(response)
            kept = self._keep(kept)

    async def find_place_again(self) -> None:
        """After BAD to a command with an unasked literal: the server may have read the literal as commands.

        Passes over whatever it says to them, up to the reply to a NOOP, and asks before every literal from now on.
        """
        self.unasked = False
        tag = self.next_tag()
        await self.stream.write(tag + b" NOOP\r\n")
        for _ in range(STRAY_LIMIT):
            response = await self.read()
            if isinstance(response, Status):
                self.refuse_bye(response)
                if response.tag == tag:
                    return
        raise self.broken("the server took a literal for commands")

    async def run_in_a_row(
        self, *commands: tuple[bytes, Sequence[Arg]], take: Callable[[Untagged], bool] | None = None
    ) -> list[Completed]:
        """Commands (name, arguments) in one round trip, for a server that works on them in their order.

        One after the other where a literal must be asked for. Each is sent whatever comes of those before. Every
        reply holds everything untagged that came, but for what `take` accepts: Dovecot may put the first tagged reply
        off behind the second.
        """
        self.renew()
        if self.stream.buffered:
            await self.settle()
        sent = [(tag := self.next_tag(), self.encode(tag, name, args)) for name, args in commands]
        if any(len(chunks) > 1 for _, chunks in sent):
            return [await self.run(name, args, take=take) for name, args in commands]
        await self.stream.write(b"".join(chunks[0] for _, chunks in sent))
        replies: dict[bytes, Completed] = {}
        untagged: list[Untagged] = []
        notices: list[Status] = []
        kept = 0
        while len(replies) < len(sent):
            response = await self.read()
            if isinstance(response, Untagged):
                with self.closing():
                    if take is not None and take(response):
                        continue
                untagged.append(response)
            elif not isinstance(response, Status):
                raise self.broken("the server asks for more where nothing more is due")
            elif response.tag:
                due = next((tag for tag, _ in sent if tag == response.tag and tag not in replies), b"")
                replies[due] = self.complete(due, response)
            else:
                self.refuse_bye(response)
                notices.append(response)
            kept = self._keep(kept)
        return [replace(replies[tag], untagged=untagged, notices=notices) for tag, _ in sent]

    async def run(
        self, name: bytes, args: Sequence[Arg] = (), *, take: Callable[[Untagged], bool] | None = None
    ) -> Completed:
        """One command to its tagged reply, whatever that says."""
        self.renew()
        if self.stream.buffered:
            await self.settle()
        tag = self.next_tag()
        early = await self.send(self.encode(tag, name, args), tag)
        if early is not None:
            if early.status == b"OK":
                raise self.broken("OK to a command that was not sent to its end")
            return early
        return await self.read_reply(tag, take)
