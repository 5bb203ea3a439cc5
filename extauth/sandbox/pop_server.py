"""The sandbox's POP3 listener (RFC 1939, 2449, 5034): one INBOX a session, byte for byte, with faults at any step."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from extauth.sandbox.faults import Faults
from extauth.sandbox.listener import Listener, answer, read_command
from extauth.sandbox.mailstore import Mailbox, Message


@dataclass(frozen=True, slots=True)
class PopRefused(Exception):
    """A login that does not go through; `code` is the response code of RFC 2449 and 3206, or empty."""

    text: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class PopUser:
    """Who logs in: a name for the session lock, the password for APOP, and the mailbox."""

    name: str
    password: bytes
    inbox: Mailbox


LogIn = Callable[[bytes, bytes, str], Awaitable[PopUser]]
Find = Callable[[bytes], PopUser | None]


@dataclass(slots=True)
class _Session:
    stamp: bytes
    address: str
    login: bytes = b""
    user: PopUser | None = None
    messages: list[Message] = field(default_factory=list)
    deleted: set[int] = field(default_factory=set)
    secure: bool = False
    over: bool = False


class PopServer:
    """Serves whoever `log_in` lets in; `find` gives the password for APOP."""

    def __init__(
        self,
        log_in: LogIn,
        find: Find,
        *,
        name: str = "POP3 server",
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
    ) -> None:
        self.name = name
        self.apop = True
        self.user_command = True  # whether USER and PASS are offered
        self.sasl = True  # whether AUTH PLAIN is offered
        self.uidl = True
        self.capa = True
        self.exclusive = False  # one session of a mailbox at a time
        self.idle_seconds = 600.0  # RFC 1939: at least ten minutes
        self.faults = Faults()
        self.commands: list[str] = []
        self.listener = Listener(self._serve, tls=tls if implicit_tls else None)
        self._tls = None if implicit_tls else tls
        self._implicit = implicit_tls
        self._log_in = log_in
        self._find = find
        self._locked: set[str] = set()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.listener.port

    async def start(self) -> None:
        """Listen."""
        await self.listener.start()

    async def close(self) -> None:
        """Stop, cutting every session."""
        await self.listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stamp = f"<{secrets.token_hex(8)}@pop.sandbox.test>" if self.apop else ""
        session = _Session(stamp.encode(), writer.get_extra_info("peername")[0], secure=self._implicit)
        greeting = f"+OK {self.name} ready {stamp}".rstrip().encode() + b"\r\n"

        async def greet() -> bytes:
            return greeting

        try:
            await answer(reader, writer, self.faults.next_for("CONNECT"), greet)
            while not session.over:
                async with asyncio.timeout(self.idle_seconds):
                    line = await read_command(reader, 4096)
                if line is None:
                    return
                await self._command(session, line, reader, writer)
        except (TimeoutError, ValueError):
            writer.write(b"-ERR idle for too long, or a line too long\r\n")
        finally:
            if session.user is not None:
                self._locked.discard(session.user.name)

    async def _command(
        self, session: _Session, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        word, _, rest = line.partition(b" ")
        verb = word.decode("ascii", "replace").upper()
        self.commands.append(verb)
        fault = self.faults.next_for(verb, line)
        await answer(reader, writer, fault, partial(self._execute, session, verb, rest, reader, writer))
        if verb == "STLS" and fault is None and self._tls is not None and not session.secure and session.user is None:
            await writer.start_tls(self._tls)
            session.secure = True

    async def _execute(
        self,
        session: _Session,
        verb: str,
        rest: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bytes:
        try:
            if verb == "QUIT":
                return self._quit(session)
            if verb == "CAPA" and self.capa:
                return self._capabilities(session)
            if session.user is None:
                return await self._authorization(session, verb, rest, reader, writer)
            return self._transaction(session, verb, rest)
        except PopRefused as refused:
            code = f"[{refused.code}] " if refused.code else ""
            return f"-ERR {code}{refused.text}\r\n".encode()

    def _capabilities(self, session: _Session) -> bytes:
        lines = [b"+OK", b"TOP", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING"]
        lines += [b"USER"] * self.user_command + [b"SASL PLAIN"] * self.sasl + [b"UIDL"] * self.uidl
        if self._tls is not None and not session.secure:
            lines.append(b"STLS")
        return b"\r\n".join([*lines, b".", b""])

    # -- logging in ----------------------------------------------------------------------------------------------------

    async def _authorization(
        self,
        session: _Session,
        verb: str,
        rest: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bytes:
        if verb == "STLS" and self._tls is not None and not session.secure:
            return b"+OK begin TLS\r\n"
        if verb == "USER" and self.user_command:
            session.login = rest
            return b"+OK\r\n"
        if verb == "PASS" and session.login:
            login, session.login = session.login, b""
            return self._enter(session, await self._log_in(login, rest, session.address))
        if verb == "AUTH" and self.sasl:
            return await self._sasl_plain(session, rest, reader, writer)
        if verb == "APOP" and self.apop:
            name, _, digest = rest.rpartition(b" ")
            user = self._find(name)
            expected = hashlib.md5(session.stamp + (user.password if user else b""), usedforsecurity=False).hexdigest()
            if user is None or not hmac.compare_digest(expected.encode(), digest.lower()):
                raise PopRefused("authentication failed", "AUTH")
            return self._enter(session, user)
        raise PopRefused("unknown command")

    async def _sasl_plain(
        self, session: _Session, rest: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes:
        method, _, response = rest.partition(b" ")
        if method.upper() != b"PLAIN":
            raise PopRefused("unknown mechanism")
        if not response:
            writer.write(b"+ \r\n")
            await writer.drain()
            response = await read_command(reader) or b"*"
        try:
            _, login, password = base64.b64decode(response, validate=True).split(b"\0")
        except (binascii.Error, ValueError):
            raise PopRefused("invalid response") from None
        return self._enter(session, await self._log_in(login, password, session.address))

    def _enter(self, session: _Session, user: PopUser) -> bytes:
        if self.exclusive and user.name in self._locked:
            raise PopRefused("mailbox is in use", "IN-USE")
        self._locked.add(user.name)
        session.user = user
        session.messages = list(user.inbox.messages)
        return b"+OK logged in\r\n"

    def _quit(self, session: _Session) -> bytes:
        session.over = True
        if session.user is not None:
            session.user.inbox.remove({session.messages[n - 1].uid for n in session.deleted})
        return b"+OK bye\r\n"

    # -- messages ------------------------------------------------------------------------------------------------------

    def _transaction(self, session: _Session, verb: str, rest: bytes) -> bytes:
        words = rest.split()
        present = [(n, m) for n, m in enumerate(session.messages, 1) if n not in session.deleted]
        if verb == "NOOP":
            return b"+OK\r\n"
        if verb == "STAT":
            return b"+OK %d %d\r\n" % (len(present), sum(len(m.data) for _, m in present))
        if verb == "RSET":
            session.deleted.clear()
            return b"+OK\r\n"
        if verb in ("LIST", "UIDL") and (verb == "LIST" or self.uidl):
            assert session.user is not None
            validity = session.user.inbox.uidvalidity
            shown = {n: b"%d" % len(m.data) if verb == "LIST" else b"%08x%08x" % (validity, m.uid) for n, m in present}
            if words:
                number, _ = self._message(session, words[0])
                return b"+OK %d " % number + shown[number] + b"\r\n"
            return b"+OK\r\n" + b"".join(b"%d " % n + text + b"\r\n" for n, text in shown.items()) + b".\r\n"
        if verb in ("RETR", "DELE", "TOP") and words:
            number, message = self._message(session, words[0])
            if verb == "DELE":
                session.deleted.add(number)
                return b"+OK deleted\r\n"
            if verb == "RETR":
                return b"+OK %d octets\r\n" % len(message.data) + stuffed(message.data)
            if len(words) > 1 and words[1].isdigit():
                return b"+OK\r\n" + stuffed(_top(message.data, int(words[1])))
        raise PopRefused("unknown command")

    def _message(self, session: _Session, word: bytes) -> tuple[int, Message]:
        number = int(word) if word.isdigit() else 0
        if not 0 < number <= len(session.messages) or number in session.deleted:
            raise PopRefused("no such message")
        return number, session.messages[number - 1]


def stuffed(data: bytes) -> bytes:
    """A message as RETR sends it: dots doubled, a final line end, the closing dot."""
    if not data.endswith(b"\r\n"):
        data += b"\r\n"
    if data.startswith(b"."):
        data = b"." + data
    return data.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def _top(data: bytes, lines: int) -> bytes:
    header, blank, body = data.partition(b"\r\n\r\n")
    return header + blank + b"".join(body.splitlines(keepends=True)[:lines])
