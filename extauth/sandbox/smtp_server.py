"""The SMTP listeners of the sandbox, on aiosmtpd: recipients and deliveries are decided outside.

Faults strike at CONNECT, EHLO, HELO, MAIL, RCPT and DATA.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

from aiosmtpd.smtp import SMTP, Envelope, Session

from extauth.sandbox.faults import Fault, Faults
from extauth.sandbox.listener import LINE_LIMIT, Listener


@dataclass(frozen=True, slots=True)
class RcptReply:
    """The answer to one RCPT; `context` comes back at delivery."""

    code: int
    text: str
    context: object = None


Rcpt = Callable[[str, str, str], Awaitable[RcptReply]]
Deliver = Callable[[str, list[RcptReply], bytes], Awaitable[str]]


class _Smtp(SMTP):
    """aiosmtpd's dialogue without its limit of 1,001 bytes a line: real mail has longer ones."""

    line_length_limit = LINE_LIMIT

    def __init__(self, smtp: SmtpServer) -> None:
        super().__init__(
            _Handler(smtp),
            data_size_limit=smtp.size_limit,
            enable_SMTPUTF8=True,
            hostname=smtp.host_name,
            ident=smtp.name,
            tls_context=smtp.tls,
            loop=asyncio.get_running_loop(),
        )
        self._smtp = smtp

    async def _handle_client(self) -> None:
        instead = await self._smtp.strike(self, "CONNECT")
        if instead:
            await self.push(instead)
            assert self.transport is not None
            self.transport.close()
            return
        await super()._handle_client()


@dataclass(slots=True)
class SmtpServer:
    """Asks `rcpt(sender, recipient, ip)` at RCPT and `deliver(sender, accepted, message)` at the end of DATA."""

    rcpt: Rcpt
    deliver: Deliver
    name: str = "ESMTP"
    host_name: str = "smtp.sandbox.test"
    tls: ssl.SSLContext | None = None  # for STARTTLS
    size_limit: int = 64 << 20
    refusal_limit: int | None = None  # refused recipients of one session before it is ended with 421
    faults: Faults = field(default_factory=Faults)
    envelopes: list[tuple[str, str, int]] = field(default_factory=list)  # sender, recipient, reply code of each RCPT
    listener: Listener = field(init=False)

    def __post_init__(self) -> None:
        self.listener = Listener(factory=self._protocol)

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

    def _protocol(self) -> asyncio.Protocol:
        return _Smtp(self)

    async def strike(self, server: SMTP, verb: str, line: bytes = b"") -> str | None:
        """Let an armed fault strike; the reply to say in place of the right one, if any."""
        fault = self.faults.next_for(verb, line)
        return None if fault is None else await _suffer(server, fault)


async def _suffer(server: SMTP, fault: Fault) -> str | None:
    if fault.delay:
        await asyncio.sleep(fault.delay)
    if fault.hang:
        await asyncio.get_running_loop().create_future()
    said = fault.raw if fault.raw is not None else fault.reply or b""
    if fault.cut or fault.raw is not None:
        transport = cast(asyncio.Transport, server.transport)
        transport.write(said[: fault.keep] if fault.cut else said)
        transport.close()
        await asyncio.get_running_loop().create_future()  # connection_lost cancels the dialogue
    return said.decode("ascii", "replace") or None


class _Handler:
    """aiosmtpd's hooks for one connection."""

    def __init__(self, smtp: SmtpServer) -> None:
        self._smtp = smtp
        self._accepted: list[RcptReply] = []
        self._refused = 0

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        instead = await self._smtp.strike(server, "EHLO")
        session.host_name = hostname
        return [instead] if instead else responses

    async def handle_HELO(self, server: SMTP, session: Session, envelope: Envelope, hostname: str) -> str:
        instead = await self._smtp.strike(server, "HELO")
        session.host_name = hostname
        return instead or f"250 {server.hostname}"

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self._accepted = []
        instead = await self._smtp.strike(server, "MAIL", address.encode("utf-8", "replace"))
        if instead:
            return instead
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 sender accepted"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        instead = await self._smtp.strike(server, "RCPT", address.encode("utf-8", "replace"))
        if instead:
            return instead
        if self._smtp.refusal_limit is not None and self._refused >= self._smtp.refusal_limit:
            await server.push("421 4.7.0 too many errors")
            cast(asyncio.Transport, server.transport).close()
            await asyncio.get_running_loop().create_future()  # connection_lost cancels the dialogue
        peer: Any = session.peer
        reply = await self._smtp.rcpt(envelope.mail_from or "", address, peer[0])
        self._smtp.envelopes.append((envelope.mail_from or "", address, reply.code))
        if reply.code == 250:
            envelope.rcpt_tos.append(address)
            self._accepted.append(reply)
        else:
            self._refused += 1
        return f"{reply.code} {reply.text}"

    async def handle_RSET(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self._accepted = []
        return "250 2.0.0 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        instead = await self._smtp.strike(server, "DATA")
        if instead:
            return instead
        content = envelope.original_content or b""
        accepted, self._accepted = self._accepted, []
        return await self._smtp.deliver(envelope.mail_from or "", accepted, content)
