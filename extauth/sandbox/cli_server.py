"""The PWD listener of the simulated CommuniGate: its CLI.

Greeting with an APOP stamp; APOP, USER and PASS, AUTH PLAIN; then one command a line. INLINE puts data on the reply
line. A limit of sessions per client address, an idle limit, and faults at any command.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from collections import Counter
from dataclasses import dataclass, field
from functools import partial

from cli_client.format import FormatError, Value, parse_object, render_data, render_pretty
from extauth.sandbox.accounts import Account, Refusal
from extauth.sandbox.cli_commands import Commands
from extauth.sandbox.faults import Faults
from extauth.sandbox.listener import LINE_LIMIT, Listener, answer, read_command

_LOGIN_LIMIT = 5  # wrong passwords on one session before it is ended (554)


@dataclass(slots=True)
class _Session:
    """One connection's state."""

    stamp: bytes
    account: Account | None = None
    user: str = ""
    inline: bool = False
    refused: int = 0
    over: bool = False


@dataclass(slots=True)
class Executed:
    """One command that was carried out, for tests: who, the whole line, and the reply's code."""

    login: str
    line: bytes
    code: int

    @property
    def verb(self) -> str:
        """The command word in lower case."""
        return self.line.split(b" ", 1)[0].decode("ascii", "replace").lower()


@dataclass(slots=True)
class CliServer:
    """Serves `commands` on a listener. Nothing is written to any log; `executed` stays in memory."""

    commands: Commands
    host_name: str = "cgp.sandbox.test"
    max_per_address: int = 5  # sessions of one client address at once
    idle_seconds: float = 300.0
    apop: bool = True  # whether the greeting has a stamp
    rights: bool = True  # whether Get/SetAccountRights are known; older servers have neither
    faults: Faults = field(default_factory=Faults)
    executed: list[Executed] = field(default_factory=list)
    most_sessions: int = 0  # the most that were open at once
    logins: int = 0
    turned_away: int = 0
    listener: Listener = field(init=False)
    _sessions: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.listener = Listener(self._serve)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.listener.port

    @property
    def sessions(self) -> int:
        """How many are open now."""
        return self._sessions.total()

    def verbs(self) -> list[str]:
        """The words of all commands carried out, in order."""
        return [entry.verb for entry in self.executed]

    async def start(self) -> None:
        """Listen."""
        await self.listener.start()

    async def close(self) -> None:
        """Stop, cutting every session."""
        await self.listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = writer.get_extra_info("peername")[0]
        if self._sessions[address] >= self.max_per_address:
            self.turned_away += 1
            writer.write(b"559 too many connections from your address\r\n")
            await writer.drain()
            return
        self._sessions[address] += 1
        self.most_sessions = max(self.most_sessions, self._sessions[address])
        try:
            await self._dialogue(reader, writer)
        finally:
            self._sessions[address] -= 1

    async def _dialogue(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stamp = f"<{secrets.token_hex(8)}@{self.host_name}>" if self.apop else ""
        session = _Session(stamp.encode())
        greeting = f"200 {self.host_name} CommuniGate Pro PWD Server 5.2 ready {stamp}".rstrip().encode() + b"\r\n"

        async def greet() -> bytes:
            return greeting

        await answer(reader, writer, self.faults.next_for("CONNECT"), greet)
        while not session.over:
            try:
                async with asyncio.timeout(self.idle_seconds):
                    line = await read_command(reader, LINE_LIMIT)
            except (TimeoutError, ValueError):
                return
            if line is None:
                return
            if not line.strip():
                continue
            verb = line.split(None, 1)[0].decode("ascii", "replace").upper()
            step = partial(self._execute, session, verb, line, reader, writer)
            await answer(reader, writer, self.faults.next_for(verb, line), step)

    async def _execute(
        self,
        session: _Session,
        verb: str,
        line: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bytes:
        """Carry one line out; the bytes to say."""
        rest = line.strip()[len(verb) :].strip()
        try:
            if verb == "QUIT":
                session.over = True
                return b"200 CommuniGate Pro PWD connection closed\r\n"
            if verb == "INLINE":
                session.inline = True
                return b"200 OK\r\n"
            if session.account is None:
                if verb == "AUTH":
                    return await self._auth(session, rest, reader, writer)
                return self._log_in(session, verb, rest)
            return self._command(session, verb, line)
        except Refusal as refusal:
            return f"{refusal.code} {refusal.text}\r\n".encode()

    # -- logging in ----------------------------------------------------------------------------------------------------

    def _log_in(self, session: _Session, verb: str, rest: bytes) -> bytes:
        if verb == "USER":
            session.user = rest.decode("utf-8", "surrogateescape")
            return b"300 please send the PASS\r\n"
        if verb == "PASS":
            if not session.user:
                raise Refusal(501, "send USER first")
            return self._check(session, session.user, rest)  # as it is: quotes and blanks belong to it
        if verb == "APOP" and self.apop:
            name, _, digest = rest.rpartition(b" ")
            return self._check_apop(session, _word(name), digest.decode("ascii", "replace"))
        if verb == "NOOP":
            return b"200 OK\r\n"
        if verb == "APOP":
            raise Refusal(500, "unknown command")
        raise Refusal(500, "please log in first")

    async def _auth(
        self, session: _Session, rest: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes:
        method, _, initial = rest.partition(b" ")
        if method.upper() != b"PLAIN":
            raise Refusal(500, "unknown authentication method")
        if not initial:
            writer.write(b"300 \r\n")
            await writer.drain()
            initial = await read_command(reader) or b""
        try:
            _, name, password = base64.b64decode(initial, validate=True).split(b"\0")
        except (binascii.Error, ValueError):
            raise Refusal(501, "incorrect authentication data") from None
        return self._check(session, name.decode("utf-8", "surrogateescape"), password)

    def _check(self, session: _Session, name: str, password: bytes) -> bytes:
        account = self.commands.directory.find(name)
        right = account is not None and account.option("UseAppPassword") and account.accepts(password)
        return self._logged_in(session, account if right else None)

    def _check_apop(self, session: _Session, name: str, digest: str) -> bytes:
        account = self.commands.directory.find(name)
        right = False
        if account is not None and account.option("UseAppPassword"):
            stored = str(account.effective.get("Password", "")).encode("utf-8", "surrogateescape")
            expected = hashlib.md5(session.stamp + stored, usedforsecurity=False).hexdigest()
            right = bool(stored) and hmac.compare_digest(expected.encode(), digest.lower().encode())
        return self._logged_in(session, account if right else None)

    def _logged_in(self, session: _Session, account: Account | None) -> bytes:
        if account is None:
            session.refused += 1
            if session.refused >= _LOGIN_LIMIT:
                session.over = True
                return b"554 too many failed logins\r\n"
            return b"515 incorrect password or account name\r\n"
        session.account = account
        self.logins += 1
        return b"200 login OK\r\n"

    # -- commands ------------------------------------------------------------------------------------------------------

    def _command(self, session: _Session, verb: str, line: bytes) -> bytes:
        assert session.account is not None
        try:
            if verb in ("USER", "PASS", "APOP", "AUTH"):
                raise Refusal(501, "already logged in")
            if not self.rights and verb in ("GETACCOUNTRIGHTS", "SETACCOUNTRIGHTS"):
                raise Refusal(500, "unknown command")
            if not session.account.is_admin:
                raise Refusal(500, "access rights are required")
            data = self.commands.run(line)
        except Refusal as refusal:
            self.executed.append(Executed(session.account.address, line, refusal.code))
            raise
        code = 201 if data is not None and session.inline else 200
        self.executed.append(Executed(session.account.address, line, code))
        return _reply(data, session.inline)


def _reply(data: Value | None, inline: bool) -> bytes:
    if data is None:
        return b"200 OK\r\n"
    if inline:
        return b"201 " + render_data(data) + b"\r\n"
    return b"200 data follow\r\n" + render_pretty(data).replace("\n", "\r\n").encode() + b"\r\n"


def _word(text: bytes) -> str:
    """A name or password as clients send it: a quoted data-format string, or everything as it stands."""
    if text.startswith(b'"'):
        try:
            value, end = parse_object(text, 0)
        except FormatError:
            return text.decode("utf-8", "surrogateescape")
        if isinstance(value, str) and not text[end:].strip():
            return value
    return text.decode("utf-8", "surrogateescape")
