"""An SMTP client (RFC 5321, 3207, 1870, 6152, 6531): asks about recipients, and hands over messages.

Replies are values: what a 550 to RCPT means, the caller decides (`classify_rcpt`). Failures of the connection, replies
that are no replies, and refusals before MAIL raise; the connection is then closed.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import Final

from wire.endpoint import Endpoint, Security, TlsPolicy
from wire.outcome import MailboxUnavailable, MessageRefused, Permanent, Scope, SetupTrouble, Temporary
from wire.smtp_message import MessageWriter
from wire.smtp_reply import REPLY_LINE_LIMIT, ReplyParser, SmtpReply, classify_rcpt
from wire.stream import Stream

__all__ = ["DeliveryUnclear", "SmtpClient", "SmtpReply", "classify_rcpt"]

ADDRESS_LIMIT: Final = 320  # RFC 5321, 4.5.3.1: 64 for the local part, 255 for the domain


class DeliveryUnclear(Temporary):
    """The message went out whole, and no whole reply came: it may have been accepted, so a repetition may double it."""


_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_ADDRESS: Final = re.compile(
    r"""(?:"(?:[^"\\<>]|\\[^<>])*"|[^\s()<>@,;:\\"\[\]]+)          # a quoted local part, or one without syntax in it
        (?:@(?:[^\W_](?:[\w.-]*\w)?\.?|\[[0-9A-Za-z.:-]+\]))?  # a domain or an address literal; none for postmaster
    """,
    re.VERBOSE,
)


class SmtpClient:
    """One connection. Not for two commands at once."""

    def __init__(self, stream: Stream, helo: str) -> None:
        self.stream = stream
        self.greeting = ""
        self.extensions: dict[str, str] = {}
        self._helo = helo
        self._in_reply = False
        self._utf8 = False  # whether the open transaction may hold addresses that are not ASCII

    @classmethod
    async def connect(
        cls, endpoint: Endpoint, tls: TlsPolicy, *, helo: str, deadline: float | None, opportunistic: bool = False
    ) -> SmtpClient:
        """Connect, read the banner, say EHLO (HELO where that is not known), start TLS.

        TLS is required where the endpoint says so; with `opportunistic` it is also used where it is offered. Any
        refusal here is about the server and raises Temporary; SetupTrouble where TLS is required and not to be had.
        """
        if not re.fullmatch(r"[A-Za-z0-9._:\[\]-]+", helo):
            raise SetupTrouble(f"not a name for EHLO: {helo!r}")
        client = cls(await Stream.open(endpoint, tls, deadline=deadline), helo)
        finished = False
        try:
            await client._start(tls, opportunistic)
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

    @property
    def usable(self) -> bool:
        """Open, in step, and the server has neither said anything unasked nor hung up."""
        return not self._in_reply and self.stream.usable

    @property
    def size_limit(self) -> int | None:
        """The largest message that the server takes (SIZE), None where it does not say."""
        text = self.extensions.get("SIZE", "")
        return int(text) if text.isdecimal() and len(text) < 20 and int(text) else None

    # -- one command, one reply ----------------------------------------------------------------------------------------

    async def mail(
        self, sender: str, *, size: int | None = None, eight_bit: bool = False, utf8: bool = False
    ) -> SmtpReply:
        """MAIL FROM; an empty sender is the null sender `<>`. Parameters go out only where the server knows them.

        Permanent for an address that cannot be sent, or one that is not ASCII to a server without SMTPUTF8.
        """
        line = self.mail_line(sender, size=size, eight_bit=eight_bit, utf8=utf8)
        reply = await self._command(line)
        self._utf8 = line.endswith(" SMTPUTF8")
        return reply

    async def rcpt(self, recipient: str) -> SmtpReply:
        """RCPT TO. Permanent for an address that cannot be sent in this transaction."""
        if not recipient.isascii() and not self._utf8:
            raise Permanent("the transaction takes no addresses that are not ASCII", scope=Scope.USER)
        return await self._command(self.rcpt_line(recipient))

    def mail_line(self, sender: str, *, size: int | None = None, eight_bit: bool = False, utf8: bool = False) -> str:
        """The command that `mail` sends, without its line end."""
        utf8 = utf8 or not sender.isascii()
        if utf8 and "SMTPUTF8" not in self.extensions:
            raise Permanent("the server takes no addresses that are not ASCII", scope=Scope.USER)
        path = check_address(sender) if sender else ""
        parameters = ""
        if size is not None and "SIZE" in self.extensions:
            parameters += f" SIZE={size}"
        if (eight_bit or utf8) and "8BITMIME" in self.extensions:
            parameters += " BODY=8BITMIME"
        if utf8:
            parameters += " SMTPUTF8"
        return f"MAIL FROM:<{path}>{parameters}"

    def rcpt_line(self, recipient: str) -> str:
        """The command that `rcpt` sends, without its line end."""
        return f"RCPT TO:<{check_address(recipient)}>"

    async def rset(self) -> SmtpReply:
        """Forget the transaction."""
        return await self._command("RSET")

    async def noop(self) -> SmtpReply:
        """Nothing, to keep the connection."""
        return await self._command("NOOP")

    async def data(self, chunks: AsyncIterator[bytes]) -> SmtpReply:
        """DATA and the message; the reply to it, or the refusal of DATA itself (nothing was sent then).

        When `chunks` fails in the middle, the connection is dropped and nothing is accepted. DeliveryUnclear when the
        end went out and the reply did not come whole.
        """
        reply = await self._command("DATA")
        if reply.code != 354:
            return reply
        writer = MessageWriter()
        self._in_reply = True
        ended = False
        answered = False
        try:
            async for chunk in chunks:
                await self.stream.write(writer.feed(chunk))
            self.stream.write_soon(writer.end())
            ended = True
            await self.stream.drain()
            reply = await self.read_reply()
            answered = True
        except Temporary as trouble:
            if ended:
                raise DeliveryUnclear(f"the message may have been accepted: {trouble.text}") from None
            if not self.stream.buffered:
                raise
            reply = await self.read_reply()  # the server said why before it hung up
            if reply.code < 400:
                raise
        finally:
            if answered:
                self._in_reply = False
            else:
                self.stream.abort()
        return reply

    async def quit(self) -> None:
        """Say goodbye and close; a server that does not answer has lost nothing."""
        try:
            if self.usable:
                await self._command("QUIT")
        except Temporary:
            pass  # it is gone either way
        finally:
            self.stream.close()

    def close(self) -> None:
        """Close without a word."""
        self.stream.close()

    # -- a whole message -----------------------------------------------------------------------------------------------

    async def send(
        self,
        sender: str,
        recipients: Sequence[str],
        chunks: AsyncIterator[bytes],
        *,
        size: int | None = None,
        eight_bit: bool = False,
    ) -> SmtpReply:
        """One transaction: every recipient or none.

        MailboxUnavailable when a recipient is refused, MessageRefused when the message is, Temporary for any 4xx,
        DeliveryUnclear as `data`. The connection can be used again after a refusal.
        """
        limit = self.size_limit
        if size is not None and limit is not None and size > limit:
            raise MessageRefused(f"the server takes messages of at most {limit} bytes, this one has {size}", code="552")
        utf8 = not all(recipient.isascii() for recipient in recipients)
        await self._must(await self.mail(sender, size=size, eight_bit=eight_bit, utf8=utf8), "MAIL", MessageRefused)
        for recipient in recipients:
            await self._must(await self.rcpt(recipient), "RCPT", MailboxUnavailable)
        return await self._must(await self.data(chunks), "DATA", MessageRefused)

    async def _must(self, reply: SmtpReply, word: str, refusal: type[Permanent]) -> SmtpReply:
        if 200 <= reply.code < 300:
            return reply
        if reply.code == 421:
            self.stream.abort()
        elif self.usable:
            await self.rset()
        code = reply.enhanced or str(reply.code)
        if reply.code < 500:
            raise Temporary(f"{word}: {reply}", code=code)
        raise refusal(f"{word}: {reply}", code=code)

    # -- the dialogue --------------------------------------------------------------------------------------------------

    async def _start(self, tls: TlsPolicy, opportunistic: bool) -> None:
        endpoint = self.stream.endpoint
        banner = await self.read_reply()
        if banner.code != 220:
            raise Temporary(f"{endpoint}: banner: {banner}", code=str(banner.code))
        self.greeting = banner.text
        await self._hello()
        if endpoint.security is Security.STARTTLS or (
            opportunistic and endpoint.security is Security.PLAIN and "STARTTLS" in self.extensions
        ):
            await self._start_tls(tls)

    async def _hello(self) -> None:
        self.extensions = {}
        reply = await self._command(f"EHLO {self._helo}")
        if 500 <= reply.code < 600:
            reply = await self._command(f"HELO {self._helo}")
        elif reply.code == 250:
            for line in reply.lines[1:]:
                keyword, _, parameter = line.partition(" ")
                self.extensions[keyword.upper()] = parameter.strip()
        if reply.code != 250:
            raise Temporary(f"{self.stream.endpoint}: EHLO: {reply}", code=str(reply.code))

    async def _start_tls(self, tls: TlsPolicy) -> None:
        if "STARTTLS" not in self.extensions:
            raise SetupTrouble(f"{self.stream.endpoint}: STARTTLS is required and not offered")
        reply = await self._command("STARTTLS")
        if reply.code != 220:
            kind = Temporary if reply.code < 500 else SetupTrouble
            raise kind(f"{self.stream.endpoint}: STARTTLS: {reply}", code=str(reply.code))
        await self.stream.start_tls(tls)
        await self._hello()  # what was offered in the clear does not count (RFC 3207, 4.2)

    async def _command(self, line: str) -> SmtpReply:
        if _CONTROL.search(line):
            raise Permanent("a command line holds no control characters", scope=Scope.USER)
        stream = self.stream
        if not self.usable:
            trouble = "a reply came before the command" if stream.buffered else "connection closed before"
            stream.abort()
            raise Temporary(f"{stream.endpoint}: {trouble} {line[:4]}")
        self._in_reply = True
        try:
            await stream.write(line.encode("utf-8") + b"\r\n")
            reply = await self.read_reply()
            self._in_reply = False
        finally:
            if self._in_reply:
                stream.abort()
        return reply

    async def read_reply(self) -> SmtpReply:
        """The next reply, to a command that went out ahead of it."""
        parser = ReplyParser()
        while (reply := parser.feed(await self.stream.read_line(REPLY_LINE_LIMIT))) is None:
            pass
        return reply


def check_address(address: str) -> str:
    """`address`, fit to stand between `<` and `>`. Permanent for one that holds syntax, controls, or is too long."""
    if (
        _CONTROL.search(address)
        or len(address.encode("utf-8", "replace")) > ADDRESS_LIMIT
        or not _ADDRESS.fullmatch(address)
    ):
        raise Permanent("the address cannot be sent over SMTP", scope=Scope.USER)
    return address
