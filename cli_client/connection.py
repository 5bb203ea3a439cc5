"""One CLI session: greeting, login, commands one after the other.

After a time-out, a cancelled command or a line that does not belong, the session is closed and never used again:
the next reply would be taken for the answer to another command.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

from cli_client.errors import CliLoginRefused, CliTemporary, SessionsExhausted, error_of
from cli_client.format import ObjectScanner
from cli_client.protocol import (
    DATA_LIMIT,
    REPLY_LIMIT,
    Command,
    Reply,
    apop_command,
    checked_line,
    login_command,
    parse_greeting,
    parse_reply,
)
from wire.endpoint import Endpoint, Security, TlsPolicy
from wire.outcome import ProtocolTrouble, SetupTrouble, Temporary, Trouble
from wire.secret import Secret
from wire.stream import Stream

COMMAND_TIMEOUT = 30.0  # seconds for a caller that sets no deadline: no wait is endless

# only these say that APOP itself is not there; any other refusal may count as a failed login, and is never repeated
_NO_APOP: Final = re.compile(
    r"unknown command|not (?:supported|implemented|available)|unsupported|unavailable method", re.IGNORECASE
)


class CliConnection:
    """A session that is logged in. Not for two commands at once."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._answered = True  # no reply is outstanding
        self._heard = True  # a line of the last reply has come
        self.inline = False
        self.uses = 0

    @classmethod
    async def connect(
        cls, endpoint: Endpoint, login: str, password: Secret, *, tls: TlsPolicy | None = None, deadline: float | None
    ) -> CliConnection:
        """Connect and log in once: APOP where the greeting offers it, else USER and PASS.

        SessionsExhausted when the server takes no further session; CliLoginRefused when it refuses the login; other
        Temporary when it cannot be reached or ends the dialogue. The password is never sent after APOP was refused,
        except where the server says that it has no APOP.
        """
        if endpoint.security is Security.STARTTLS:
            raise SetupTrouble(f"{endpoint}: the CLI has no STARTTLS; use cli+tls:// or a plain address")
        stream = await Stream.open(endpoint, tls or TlsPolicy(), deadline=_bounded(deadline))
        connection = cls(stream)
        finished = False
        try:
            await connection._start(login, password)
            finished = True
        finally:
            if not finished:
                connection.abort()
        return connection

    @property
    def usable(self) -> bool:
        """Open, in step, and the server has neither said anything unasked nor hung up."""
        return self._answered and self._stream.usable

    @property
    def silent(self) -> bool:
        """After a failed command: not one byte of its reply had come."""
        return not self._heard and not self._stream.buffered

    @property
    def timed_out(self) -> bool:
        """The deadline of the last command has passed."""
        deadline = self._stream.deadline
        return deadline is not None and asyncio.get_running_loop().time() >= deadline

    async def run(self, command: Command | bytes, *, deadline: float | None = None) -> Reply:
        """Send one command and give its whole reply; raises what an error reply means.

        ValueError if the line could be taken for two. Temporary when the session is lost or the deadline passes.
        """
        if isinstance(command, bytes):
            command = Command(checked_line(command))
        reply = await self._exchange(command, deadline)
        self.uses += 1
        if 200 <= reply.code <= 201:
            return reply
        if 400 <= reply.code <= 599:
            raise error_of(reply.code, reply.text, secrets=command.secrets)
        self.abort()
        raise ProtocolTrouble(f"unexpected reply code {reply.code}")

    async def quit(self, *, deadline: float | None = None) -> None:
        """Say QUIT and close; a server that does not answer is not waited for beyond the deadline."""
        try:
            if self.usable:
                await self._exchange(Command(b"QUIT"), deadline)
        except Temporary:
            pass  # it is gone either way
        finally:
            self.close()

    def close(self) -> None:
        """Close without waiting."""
        self._stream.close()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._stream.abort()

    async def _exchange(self, command: Command, deadline: float | None) -> Reply:
        """One command, one reply of any code. Whatever interrupts it, the session is closed with it."""
        stream = self._stream
        stream.deadline = _bounded(deadline)
        if not self.usable:
            self.abort()
            raise CliTemporary(f"{stream.endpoint}: the session was closed or is out of step")
        self._answered = self._heard = False
        try:
            await stream.write(command.line + b"\r\n")
            reply = await self._read_reply()
            self._answered = True
        finally:
            if not self._answered:
                self.abort()
        return reply

    async def _read_reply(self) -> Reply:
        line = await self._stream.read_line(DATA_LIMIT if self.inline else REPLY_LIMIT)
        self._heard = True
        reply = parse_reply(line)
        if not reply.data_follows:
            return reply
        scanner = ObjectScanner()
        lines: list[bytes] = []
        size = 0
        while True:
            line = await self._stream.read_line(DATA_LIMIT)
            lines.append(line)
            size += len(line) + 1
            if size > DATA_LIMIT:
                raise ProtocolTrouble(f"data of more than {DATA_LIMIT} bytes")
            if scanner.feed(line):
                return Reply(reply.code, reply.text, b"\n".join(lines))

    async def _start(self, login: str, password: Secret) -> None:
        endpoint = self._stream.endpoint
        try:
            line = await self._stream.read_line(REPLY_LIMIT)
        except ProtocolTrouble:
            raise
        except Temporary:
            if self.timed_out:
                raise
            raise SessionsExhausted(f"{endpoint}: closed before its greeting") from None
        greeting = parse_greeting(line)
        if greeting.code != 200:
            raise SessionsExhausted(f"{endpoint}: no session: {greeting.text}", code=str(greeting.code))
        await self._log_in(greeting.stamp, login, password)
        reply = await self._step(Command(b"INLINE"))
        self.inline = reply.code == 200

    async def _log_in(self, stamp: bytes, login: str, password: Secret) -> None:
        if stamp:
            reply = await self._step(apop_command(login, stamp, password))
            if reply.code == 200:
                return
            if reply.code != 500 and not (reply.code >= 500 and _NO_APOP.search(reply.text)):
                raise self._login_trouble(reply, password)
        try:
            user, proof = login_command("USER", login), login_command("PASS", _text(password))
        except ValueError:
            raise SetupTrouble(f"{self._stream.endpoint}: the login or password holds CR, LF or NUL") from None
        reply = await self._step(user)
        if reply.code == 300:
            reply = await self._step(proof)
        if reply.code != 200:
            raise self._login_trouble(reply, password)

    async def _step(self, command: Command) -> Reply:
        return await self._exchange(command, self._stream.deadline)

    def _login_trouble(self, reply: Reply, password: Secret) -> Trouble:
        if not 400 <= reply.code <= 599:
            return ProtocolTrouble(f"{self._stream.endpoint}: unexpected reply code {reply.code} to the login")
        trouble = error_of(reply.code, reply.text, secrets=(_text(password),))
        if isinstance(trouble, Temporary):
            return trouble
        return CliLoginRefused(f"{self._stream.endpoint}: login refused: {trouble.text}", code=trouble.code)


def _bounded(deadline: float | None) -> float:
    return asyncio.get_running_loop().time() + COMMAND_TIMEOUT if deadline is None else deadline


def _text(password: Secret) -> str:
    return password.reveal().decode("utf-8", "surrogateescape")
