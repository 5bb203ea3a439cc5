"""A POP3 client (RFC 1939, 2449, 2595, 3206, 5034): one login attempt, and the maildrop read byte for byte.

Failures of the connection and replies that are no replies raise Temporary; the connection is then closed. A login ends
in an Answer: YES only from one complete `+OK` line to the command that carried the proof.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from wire.endpoint import Endpoint, Security, TlsPolicy
from wire.imap.classify import means_busy
from wire.outcome import (
    Answer,
    MessageRefused,
    Permanent,
    ProtocolTrouble,
    Scope,
    SetupTrouble,
    Temporary,
    Trouble,
    Verdict,
    clean_reason,
)
from wire.pop3_message import MessageReader
from wire.secret import Secret
from wire.stream import Stream

REPLY_LIMIT: Final = 4096  # RFC 2449 allows 512 bytes; servers with long sentences exist
LIST_LIMIT: Final = 2_000_000  # lines of UIDL or LIST: more messages than any maildrop holds
_CHUNK: Final = 1 << 16

_CODE: Final = re.compile(r"\[([^\]\s]+)[^\]]*\]")
_NO_TLS: Final = re.compile(
    r"plain-?\s?text|clear-?\s?text|\b(?:start)?tls\b|\bssl\b|encrypt|secure (?:connection|channel)", re.IGNORECASE
)
_NO_COMMAND: Final = re.compile(
    r"unknown command|(?:invalid|unrecogni[sz]ed|bad|illegal) command|syntax error|mechanism|unsupported|unimplemented"
    r"|command (?:not|is not|unknown|disabled|unrecogni[sz]ed)|not (?:supported|implemented|available)",
    re.IGNORECASE,
)
_TEMPORARY_CODES: Final = frozenset({"IN-USE", "LOGIN-DELAY", "SYS/TEMP"})
_USER_CODES: Final = frozenset({"AUTH", "IN-USE", "LOGIN-DELAY"})
_UNSENDABLE: Final = re.compile(rb"[\r\n\0]")


def classify_login(line: bytes, *, hide: Sequence[bytes] = ()) -> Answer:
    """The reply to PASS, AUTH or APOP, or a refusal of USER, as a verdict. `line` came whole, without its line end.

    NO from a plain `-ERR` or `[AUTH]`; every other response code (RFC 2449, 3206), a sentence about locks, load or
    missing TLS, and a line that is no reply say nothing about the password. What stands in `hide` never enters the
    reason: there are servers that repeat the password in their refusal.
    """
    reply = _parse_reply(line)
    if reply is None:
        return Answer(Verdict.LATER, "the reply is neither +OK nor -ERR", Scope.SERVER)
    reason = _without(f"{'+OK' if reply.ok else '-ERR'} {reply.sentence}".rstrip(), hide)
    if reply.ok:
        return Answer(Verdict.YES, reason)
    if _NO_TLS.search(reply.sentence):
        return Answer(Verdict.LATER, reason, Scope.SETUP)
    if reply.code in ("", "AUTH") and not means_busy(reply.text):
        return Answer(Verdict.NO, reason)
    return Answer(Verdict.LATER, reason, Scope.USER if reply.code in _USER_CODES or not reply.code else Scope.SERVER)


@dataclass(frozen=True, slots=True)
class Pop3Reply:
    """The first line of a reply. `code` is the response code in upper case, "" if there is none."""

    ok: bool
    code: str
    text: str

    @property
    def sentence(self) -> str:
        """The code and the text as one clean line."""
        return f"[{self.code}] {self.text}" if self.code else self.text


@dataclass(frozen=True, slots=True)
class Retrieved:
    """One message on its way. With `refusal` the server did not give it, and `chunks` is empty."""

    number: int
    refusal: Trouble | None
    chunks: AsyncGenerator[bytes, None]


class Pop3Client:
    """One connection. Not for two commands at once."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.greeting = ""
        self._stamp = b""
        self._capabilities: dict[str, tuple[str, ...]] | None = None

    @classmethod
    async def connect(cls, endpoint: Endpoint, tls: TlsPolicy, *, deadline: float | None) -> Pop3Client:
        """Connect, read the greeting, start TLS where the endpoint says so.

        Temporary for a greeting that refuses, or is none of POP3; SetupTrouble where TLS is required and not to be had.
        """
        client = cls(await Stream.open(endpoint, tls, deadline=deadline))
        finished = False
        try:
            line = await client.stream.read_line(REPLY_LIMIT)
            greeting = _parse_reply(line)
            if greeting is None:
                raise ProtocolTrouble(f"{endpoint}: the greeting is not POP3: {clean_reason(line)}")
            if not greeting.ok:
                raise Temporary(f"{endpoint}: greeting: {clean_reason(line)}", code=greeting.code)
            client.greeting = greeting.text
            stamp = re.search(rb"<[^<>\s]+>", line)
            client._stamp = stamp.group() if stamp else b""
            if endpoint.security is Security.STARTTLS:
                await client._start_tls(tls)
            finished = True
        finally:
            if not finished:
                client.stream.abort()
        return client

    @property
    def deadline(self) -> float | None:
        """When every wait of this connection ends (absolute)."""
        return self.stream.deadline

    @deadline.setter
    def deadline(self, value: float | None) -> None:
        self.stream.deadline = value

    async def forward_address(self, address: str) -> bool:
        """Tell a trusting server whose login this is: Dovecot's XCLIENT, which its greeting offers. Whether it took it.

        To be said before the login. A server that refuses goes on as if nothing was said; ValueError for no address.
        """
        plain = str(ip_address(address.partition("%")[0])).encode("ascii")  # a zone means nothing to the other side
        if not self.greeting.startswith("[XCLIENT]"):
            return False
        reply = _parse_reply(await self._exchange(b"XCLIENT ADDR=" + plain, "XCLIENT"))
        return reply is not None and reply.ok

    # -- login ---------------------------------------------------------------------------------------------------------

    async def login(self, login: bytes, password: Secret, *, apop: bool = False) -> Answer:
        """One attempt, by USER and PASS; by APOP only where asked for.

        CAPA is not asked first: it costs every login a round trip, and nearly every server has USER. Where USER
        itself is refused as a command, the capabilities are read and AUTH PLAIN is used if it is offered; the
        password has not been sent by then. What POP3 cannot carry (CR, LF, NUL) is never sent: no server can have
        accepted it, so it is NO. An empty password is LATER without asking: some servers accept it.
        """
        if not password:
            return Answer(Verdict.LATER, "an empty password is never tried")
        if _UNSENDABLE.search(login) or _UNSENDABLE.search(password.reveal()):
            return Answer(Verdict.NO, "the login name or password holds CR, LF or NUL, which POP3 cannot carry")
        if apop:
            return await self._apop(login, password)
        hide = (password.reveal(),)
        line = await self._exchange(b"USER " + login, "USER")
        reply = _parse_reply(line)
        if reply is not None and reply.ok:
            return await self._prove(b"PASS " + password.reveal(), "PASS", hide)
        if reply is not None and not reply.code and _NO_COMMAND.search(reply.text):
            return await self._plain(login, password, line)
        return classify_login(line, hide=hide)

    async def _apop(self, login: bytes, password: Secret) -> Answer:
        if not self._stamp:
            return Answer(Verdict.LATER, "APOP is configured, but the greeting offers no time stamp", Scope.SETUP)
        digest = hashlib.md5(self._stamp + password.reveal(), usedforsecurity=False).hexdigest()
        line = await self._exchange(b"APOP " + login + b" " + digest.encode("ascii"), "APOP")
        reply = _parse_reply(line)
        if reply is not None and not reply.ok and not reply.code and _NO_COMMAND.search(reply.text):
            return Answer(Verdict.LATER, f"-ERR {reply.sentence}", Scope.SETUP)
        return self._verdict(line, (password.reveal(),))

    async def _plain(self, login: bytes, password: Secret, refusal: bytes) -> Answer:
        """AUTH PLAIN (RFC 5034, 4616) in place of a USER command that the server does not have."""
        mechanisms = (await self.capabilities()).get("SASL", ())
        if "PLAIN" not in mechanisms:
            return Answer(Verdict.LATER, f"USER: {clean_reason(refusal)}; AUTH PLAIN is not offered", Scope.SETUP)
        first = await self._exchange(b"AUTH PLAIN", "AUTH")
        if first.rstrip() != b"+":
            return Answer(Verdict.LATER, f"AUTH PLAIN: {clean_reason(first)}", Scope.SETUP)
        response = base64.b64encode(b"\0" + login + b"\0" + password.reveal())
        return await self._prove(response, "AUTH", (password.reveal(), response))

    async def _prove(self, command: bytes, word: str, hide: Sequence[bytes]) -> Answer:
        return self._verdict(await self._exchange(command, word), hide)

    def _verdict(self, line: bytes, hide: Sequence[bytes]) -> Answer:
        answer = classify_login(line, hide=hide)
        if answer.verdict is Verdict.YES and self.stream.buffered:
            self.stream.abort()
            return Answer(Verdict.LATER, "more than one reply came to the login", Scope.SERVER)
        return answer

    # -- the maildrop --------------------------------------------------------------------------------------------------

    async def capabilities(self) -> dict[str, tuple[str, ...]]:
        """CAPA: names in upper case with their arguments; empty where the server has no CAPA. Asked once."""
        if self._capabilities is None:
            self._capabilities = {}
            reply = _parse_reply(await self._exchange(b"CAPA", "CAPA"))
            if reply is not None and reply.ok:
                async for line in self._lines():
                    name, *arguments = line.decode("ascii", "replace").upper().split() or [""]
                    self._capabilities[name] = tuple(arguments)
        return self._capabilities

    async def stat(self) -> tuple[int, int]:
        """How many messages, and how many bytes together."""
        reply = await self._command(b"STAT")
        numbers = reply.text.split()
        if len(numbers) < 2 or not (numbers[0].isdecimal() and numbers[1].isdecimal()):
            raise self._protocol_trouble("STAT", reply.text)
        return int(numbers[0]), int(numbers[1])

    async def uidl(self) -> list[tuple[int, bytes]]:
        """Number and unique id of every message, b"" where a line has none. UnsupportedCommand without UIDL."""
        result: list[tuple[int, bytes]] = []
        await self._command(b"UIDL")
        async for line in self._lines():
            number, _, uid = line.strip().partition(b" ")
            if not number.isdigit():
                raise self._protocol_trouble("UIDL", clean_reason(line))
            result.append((int(number), uid.strip()))
        return result

    async def list_sizes(self) -> dict[int, int]:
        """Size in bytes of every message, as the server counts it: an estimate, never a length to rely on."""
        result: dict[int, int] = {}
        await self._command(b"LIST")
        async for line in self._lines():
            number, size, *_ = [*line.split(), b"", b""]
            if not (number.isdigit() and size.isdigit()):
                raise self._protocol_trouble("LIST", clean_reason(line))
            result[int(number)] = int(size)
        return result

    async def retr(self, number: int) -> AsyncGenerator[bytes, None]:
        """One message in chunks, byte for byte, the CRLF before the final dot included.

        MessageRefused or Temporary when the server does not give it. A caller that stops in the middle loses the
        connection, because the rest would be taken for the next reply.
        """
        refusal: Trouble | None = None
        async with aclosing(self.retrieve([number])) as messages:
            async for message in messages:
                refusal = message.refusal
                async with aclosing(message.chunks) as chunks:
                    async for chunk in chunks:
                        yield chunk
        if refusal is not None:
            raise refusal

    async def retrieve(self, numbers: Iterable[int], *, window: int = 1) -> AsyncGenerator[Retrieved, None]:
        """Messages one after the other, with up to `window` commands under way (more than 1 only with PIPELINING).

        Each message's chunks must be taken to their end before the next message is asked for.
        """
        waiting = deque(numbers)
        asked: deque[int] = deque()
        reader: MessageReader | None = None
        self._in_step("RETR")
        try:
            while waiting or asked:
                while waiting and len(asked) < max(window, 1):
                    asked.append(waiting.popleft())
                    self.stream.write_soon(b"RETR %d\r\n" % asked[-1])
                reply = self._checked(await self.stream.read_line(REPLY_LIMIT), "RETR")
                number = asked.popleft()
                if not reply.ok:
                    yield Retrieved(number, _trouble(f"RETR {number}", reply, message=True), _nothing())
                    continue
                reader = MessageReader()
                yield Retrieved(number, None, self._chunks(reader))
                if not reader.ended:
                    raise ProtocolTrouble("a message was left in the middle")
                if not asked and self.stream.buffered:
                    self.stream.abort()
                    raise ProtocolTrouble(f"{self.stream.endpoint}: bytes behind the end of a message")
        finally:
            if asked or (reader is not None and not reader.ended):
                self.stream.abort()

    async def _chunks(self, reader: MessageReader) -> AsyncGenerator[bytes, None]:
        try:
            while not reader.ended:
                part = reader.feed(await self.stream.read_some(_CHUNK))
                if reader.rest:
                    self.stream.unread(reader.rest)
                    reader.rest = b""
                if part:
                    yield part
        finally:
            if not reader.ended:
                self.stream.abort()

    async def dele(self, number: int) -> None:
        """Mark a message for deletion; QUIT carries it out."""
        await self._command(b"DELE %d" % number)

    async def last(self) -> int:
        """The highest message number accessed (RFC 1460). Permanent where the server has no LAST, as most have none."""
        reply = await self._command(b"LAST")
        number = (reply.text.split() or [""])[0]
        if not (number.isascii() and number.isdecimal()):
            raise self._protocol_trouble("LAST", reply.text)
        return int(number)

    async def noop(self) -> None:
        """Nothing, to keep the connection."""
        await self._command(b"NOOP")

    async def quit(self) -> None:
        """End the session; only this deletes what was marked. Raises when the server does not say that it did."""
        await self._command(b"QUIT")
        self.stream.close()

    def close(self) -> None:
        """Close without QUIT: nothing is deleted."""
        self.stream.close()

    # -- replies -------------------------------------------------------------------------------------------------------

    async def _start_tls(self, tls: TlsPolicy) -> None:
        reply = self._checked(await self._exchange(b"STLS", "STLS"), "STLS")
        if not reply.ok:
            raise SetupTrouble(f"{self.stream.endpoint}: no TLS: {reply.sentence}")
        await self.stream.start_tls(tls)
        self._stamp = b""  # it came in the clear, where anybody could have put it

    def _in_step(self, word: str) -> None:
        """Refuse to send when a reply is here already: it would be taken for the answer to this command."""
        if not self.stream.usable:
            trouble = "a reply came before the command" if self.stream.buffered else "connection closed before"
            self.stream.abort()
            raise Temporary(f"{self.stream.endpoint}: {trouble} {word}")

    async def _exchange(self, command: bytes, word: str) -> bytes:
        """Send one command, give the first line of its reply; interrupted, the connection is closed."""
        finished = False
        try:
            self._in_step(word)
            await self.stream.write(command + b"\r\n")
            line = await self.stream.read_line(REPLY_LIMIT)
            finished = True
        finally:
            if not finished:
                self.stream.abort()
        return line

    async def _command(self, command: bytes) -> Pop3Reply:
        word = command.decode("ascii")
        reply = self._checked(await self._exchange(command, word), word)
        if not reply.ok:
            raise _trouble(word, reply, message=command.startswith(b"DELE"))
        return reply

    async def _lines(self) -> AsyncGenerator[bytes, None]:
        """The lines of a multi-line reply, unstuffed. A caller that stops early must drop the connection."""
        finished = False
        try:
            for _ in range(LIST_LIMIT):
                line = await self.stream.read_line(REPLY_LIMIT)
                if line == b".":
                    finished = True
                    return
                yield line.removeprefix(b".")
            raise ProtocolTrouble(f"a list of more than {LIST_LIMIT} lines")
        finally:
            if not finished:
                self.stream.abort()

    def _checked(self, line: bytes, word: str) -> Pop3Reply:
        reply = _parse_reply(line)
        if reply is None:
            raise self._protocol_trouble(word, clean_reason(line))
        return reply

    def _protocol_trouble(self, word: str, text: str) -> ProtocolTrouble:
        self.stream.abort()
        return ProtocolTrouble(f"{self.stream.endpoint}: {word}: not a reply: {text}")


class UnsupportedCommand(Permanent):
    """The server does not have this command (UIDL is optional)."""

    scope = Scope.SETUP


def _parse_reply(line: bytes) -> Pop3Reply | None:
    """A first line, or None if it is no reply. The words are in upper case (RFC 1939, section 3)."""
    if line == b"+OK" or line.startswith(b"+OK "):
        return Pop3Reply(True, "", line[4:].decode("utf-8", "surrogateescape").strip())
    if line == b"-ERR" or line.startswith(b"-ERR "):
        text = line[5:].decode("utf-8", "surrogateescape").strip()
        code = _CODE.match(text)
        return (
            Pop3Reply(False, code.group(1).upper(), text[code.end() :].strip()) if code else Pop3Reply(False, "", text)
        )
    return None


def _trouble(word: str, reply: Pop3Reply, *, message: bool) -> Trouble:
    text = f"{word}: {reply.sentence}"
    if reply.code in _TEMPORARY_CODES or means_busy(reply.text):
        return Temporary(text, code=reply.code)
    if _NO_COMMAND.search(reply.text):
        return UnsupportedCommand(text, code=reply.code)
    return MessageRefused(text, code=reply.code) if message else Permanent(text, code=reply.code, scope=Scope.USER)


_SHORT: Final = 4  # characters; a shorter password is part of ordinary words, so only the whole word is taken out


def _without(reason: str, hide: Sequence[bytes]) -> str:
    shown = clean_reason(reason, 1 << 20)  # no limit before secrets are taken out: half of one would not be found
    for secret in hide:
        cleaned = clean_reason(secret, 1 << 20)  # escaped as the reason is, so that it is found there
        if len(cleaned) >= _SHORT:
            shown = shown.replace(cleaned, "***")
        elif cleaned:
            shown = re.sub(rf"(?<!\w){re.escape(cleaned)}(?!\w)", "***", shown)
    return shown


async def _nothing() -> AsyncGenerator[bytes, None]:
    nothing: tuple[bytes, ...] = ()
    for chunk in nothing:
        yield chunk
