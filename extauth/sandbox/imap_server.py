"""The sandbox's IMAP listener: one server for the old side and the new one.

Written here because a server is needed that stores byte for byte, opens `~account/`, asks for logins from outside and
fails on command at any step.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
from collections.abc import Iterable
from functools import partial

from extauth.sandbox.faults import Fault, Faults
from extauth.sandbox.imap_grammar import LITERAL_LIMIT, Assembly
from extauth.sandbox.imap_offer import Offer
from extauth.sandbox.imap_session import ImapSession, LogIn
from extauth.sandbox.listener import Cut, Listener, answer, read_command

_IDLE_SECONDS = 1800.0  # RFC 9051 5.4: at least 30 minutes


class ImapServer:
    """Serves whoever `log_in` lets in. `offer` says what it can do; `faults` what goes wrong."""

    def __init__(
        self,
        log_in: LogIn,
        *,
        name: str = "IMAP server",
        extensions: Iterable[str] = (),
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
    ) -> None:
        self.offer = Offer(name=name, tls=tls is not None and not implicit_tls)
        self.offer.extensions |= set(extensions)
        self.faults = Faults()
        self.listener = Listener(self._serve, tls=tls if implicit_tls else None)
        self.commands: list[str] = []  # words of all commands, in order; never their arguments
        self.fetches: list[bytes] = []  # FETCH commands as they came, without their tags
        self.idle_seconds = _IDLE_SECONDS
        self.most_sessions = 0
        self.max_per_user: int | None = None  # sessions of one user at once
        self._log_in = log_in
        self._tls = tls
        self._implicit = implicit_tls
        self._sessions: dict[ImapSession, asyncio.StreamWriter] = {}
        self._changed: asyncio.Event = asyncio.Event()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.listener.port

    @property
    def sessions(self) -> list[ImapSession]:
        """Those open now."""
        return list(self._sessions)

    async def start(self) -> None:
        """Listen."""
        await self.listener.start()

    async def close(self) -> None:
        """Stop, cutting every session."""
        await self.listener.close()

    def wake(self) -> None:
        """A mailbox has changed: sessions in IDLE look."""
        self._changed.set()
        self._changed = asyncio.Event()

    def end_sessions(self, user_name: str) -> None:
        """Cut all sessions of one user."""
        for session, writer in list(self._sessions.items()):
            if session.user is not None and session.user.name == user_name:
                writer.transport.abort()

    # -- one connection ------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = ImapSession(self.offer, self._log_in, self.wake, writer.get_extra_info("peername")[0])
        session.secure = self._implicit
        self._sessions[session] = writer
        self.most_sessions = max(self.most_sessions, len(self._sessions))
        try:
            await answer(reader, writer, self.faults.next_for("CONNECT"), partial(self._greet, session))
            while not session.over:
                async with asyncio.timeout(self.idle_seconds):
                    assembly = await self._read(reader, writer)
                if assembly is None:
                    return
                await self._command(session, assembly, reader, writer)
        except (TimeoutError, ValueError):
            writer.write(b"* BYE idle for too long, or a line too long\r\n")
        finally:
            del self._sessions[session]

    async def _greet(self, session: ImapSession) -> bytes:
        shown = b""
        if self.offer.greeting_capabilities:
            shown = b"[CAPABILITY " + self.offer.capabilities(secure=session.secure) + b"] "
        return b"* OK " + shown + self.offer.name.encode() + b" ready\r\n"

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Assembly | None:
        """One whole command with its literals; None at end of file or after a literal that is too long."""
        assembly = Assembly()
        while True:
            line = await read_command(reader)
            if line is None:
                return None
            wanted = assembly.add_line(line)
            if wanted is None:
                return assembly
            if wanted.size > LITERAL_LIMIT or not (wanted.synchronizing or self.offer.has("LITERAL+")):
                writer.write(assembly.tag + b" BAD [TOOBIG] no such literal here\r\n")
                if wanted.synchronizing:
                    assembly = Assembly()
                    continue
                return None
            if wanted.synchronizing:
                writer.write(b"+ go ahead\r\n")
            assembly.literals.append(await reader.readexactly(wanted.size))

    async def _command(
        self,
        session: ImapSession,
        assembly: Assembly,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        words = bytes(assembly.text).upper().split(None, 3)[1:3]
        verb = (words[-1] if words[:1] == [b"UID"] else (words or [b""])[0]).decode("ascii", "replace")
        self.commands.append(verb)
        if verb == "FETCH":
            self.fetches.append(bytes(assembly.text).partition(b" ")[2])
        fault = self.faults.next_for(verb, bytes(assembly.text))
        step = partial(self._execute, session, assembly, verb, reader, writer)
        await answer(reader, writer, fault, step, lambda reply: assembly.tag + b" " + reply + b"\r\n")
        if verb == "STARTTLS" and session.over is False and self._starts_tls(session, fault):
            await writer.start_tls(self._tls)  # type: ignore[arg-type]  # only offered with a context
            session.secure = True

    def _starts_tls(self, session: ImapSession, fault: Fault | None) -> bool:
        return self.offer.tls and self._tls is not None and not session.secure and fault is None

    async def _execute(
        self,
        session: ImapSession,
        assembly: Assembly,
        verb: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bytes:
        tag = assembly.tag
        if verb == "STARTTLS":
            if self._starts_tls(session, None):
                return tag + b" OK begin TLS\r\n"
            return tag + b" BAD TLS is not offered\r\n"
        if verb == "AUTHENTICATE":
            return b"".join(await self._authenticate(session, assembly, reader, writer))
        if verb == "IDLE" and self.offer.has("IDLE") and session.user is not None:
            return await self._idle(session, tag, reader, writer)
        before = session.user
        said = await session.execute(assembly)
        if session.user is not before and session.user is not None and self._too_many(session):
            session.user = None
            return tag + b" NO [LIMIT] too many connections of this user\r\n"
        return b"".join(said)

    def _too_many(self, session: ImapSession) -> bool:
        assert session.user is not None
        mine = sum(1 for s in self._sessions if s.user is not None and s.user.name == session.user.name)
        return self.max_per_user is not None and mine > self.max_per_user

    async def _authenticate(
        self,
        session: ImapSession,
        assembly: Assembly,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> list[bytes]:
        tag = assembly.tag
        words = bytes(assembly.text).split()
        if session.user is not None or len(words) < 3:
            return [tag + b" BAD not now\r\n"]
        if words[2].upper() != b"PLAIN":
            return [tag + b" NO [CANNOT] unknown mechanism\r\n"]
        if self.offer.login_disabled and not session.secure:
            return [tag + b" NO [PRIVACYREQUIRED] TLS is required\r\n"]
        if len(words) > 3 and self.offer.has("SASL-IR"):
            response = words[3]
        else:
            writer.write(b"+ \r\n")
            await writer.drain()
            response = await read_command(reader) or b"*"
        if response == b"*":
            return [tag + b" BAD cancelled\r\n"]
        try:
            authzid, login, password = base64.b64decode(b"" if response == b"=" else response, validate=True).split(
                b"\0"
            )
        except (binascii.Error, ValueError):
            return [tag + b" BAD invalid response\r\n"]
        return await session.authenticate(tag, login, password, authzid)

    async def _idle(
        self, session: ImapSession, tag: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes:
        writer.write(b"+ idling\r\n")
        done = asyncio.ensure_future(read_command(reader))
        try:
            while not done.done():
                changed = self._changed
                view = session.view
                writer.write(b"".join(view.updates()) if view is not None else b"")
                await writer.drain()
                waiting = asyncio.ensure_future(changed.wait())
                await asyncio.wait([done, waiting], return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
        finally:
            done.cancel()
        line = done.result()
        if line is None:
            raise Cut
        if line.upper() != b"DONE":
            return tag + b" BAD expected DONE\r\n"
        return tag + b" OK idle completed\r\n"
