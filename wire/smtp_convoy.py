"""Messages for one recipient over one SMTP connection, sent ahead of the replies as far as the server allows.

With PIPELINING and CHUNKING (RFC 2920, 3030) several whole messages are under way; with PIPELINING alone the next
message's MAIL, RCPT and DATA go out with the end of the one before; else everything is asked one by one. Every message
gets an answer of its own, in order. When the connection is lost, `unclear` says how many of the oldest unanswered
messages may have been accepted; the others were not, for certain.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

from wire.outcome import MailboxUnavailable, MessageRefused, Permanent, ProtocolTrouble, Temporary, Trouble
from wire.smtp import DeliveryUnclear, SmtpClient, SmtpReply
from wire.smtp_message import MessageWriter

UNASKED_LIMIT: Final = 1 << 20  # a larger message waits until its recipient was accepted: a refusal costs no upload
_HELD: Final = 1 << 18  # bytes put together for one write

COMMAND_PATIENCE: Final = 300.0  # seconds for the reply to a command (RFC 5321 4.5.3.2)
MESSAGE_PATIENCE: Final = 600.0  # for the one to a whole message: who gives up earlier sends twice what was accepted

_GO_ON: Final = 354
LAST_WORDS: Final = frozenset({421, 521})  # the server closes after these, and has taken nothing that came behind


@dataclass(slots=True)
class Parcel:
    """One message: its exact size, and its bytes, from the beginning each time they are asked for."""

    size: int
    chunks: Callable[[], AsyncIterator[bytes]]
    refusal: MessageRefused | None = None  # known before it is sent
    reset: bool = False  # RSET goes before MAIL
    enveloped: bool = False  # MAIL and RCPT went out
    ended: bool = False  # all of it went out


@dataclass(slots=True)
class Convoy:
    """Hands messages over, in order. After a Temporary was raised the connection is closed and no answer comes."""

    client: SmtpClient
    sender: str
    recipient: str
    command_patience: float = COMMAND_PATIENCE
    message_patience: float = MESSAGE_PATIENCE
    _last: SmtpReply | None = None  # the server's last word
    _queue: deque[Parcel] = field(default_factory=deque)
    _dirty: bool = False  # a transaction may be open that has failed
    _begun: bool = False
    _closing: bool = False  # nothing that has no answer was accepted, and nothing more will be

    def __post_init__(self) -> None:
        self.client.stream.acknowledge_at_once()

    @property
    def pipelined(self) -> bool:
        """Whether more than one message at a time makes sense."""
        return "PIPELINING" in self.client.extensions

    @property
    def chunking(self) -> bool:
        """Whether messages go out by BDAT, without waiting for 354."""
        return self.pipelined and "CHUNKING" in self.client.extensions

    @property
    def usable(self) -> bool:
        """With no message unanswered: whether another one can be added."""
        return not self._closing and self.client.usable

    @property
    def closed(self) -> bool:
        """Whether the server said that it closes: the messages without an answer were not accepted."""
        return self._closing

    @property
    def unclear(self) -> int:
        """How many of the oldest messages without an answer may have been accepted."""
        return 0 if self._closing else sum(parcel.ended for parcel in self._queue)

    async def add(self, parcel: Parcel) -> None:
        """Take one more message; it goes out as soon as it may."""
        limit = self.client.size_limit
        if limit is not None and parcel.size > limit:
            text = f"the server takes messages of at most {limit} bytes, this one has {parcel.size}"
            parcel.refusal = MessageRefused(text, code="552")
        self._queue.append(parcel)
        if self.chunking:
            await self._push()

    def withdraw(self) -> int:
        """Take back the newest messages of which nothing went out; how many. They get no answer."""
        before = len(self._queue)
        while self._queue and not self._queue[-1].enveloped:
            self._queue.pop()
        return before - len(self._queue)

    async def answer(self) -> SmtpReply | Trouble:
        """What the server says to the oldest message: the reply that accepts it, or the trouble that refuses it.

        MessageRefused, MailboxUnavailable (the recipient) and Temporary with the server's code are returned; Temporary
        is raised when the connection is lost.
        """
        parcel = self._queue[0]
        if parcel.refusal is not None:
            said: SmtpReply | Trouble = parcel.refusal
        elif not self.pipelined:
            said = await self._one_by_one(parcel)
        else:
            try:
                if self.chunking:
                    await self._push()
                said = await self._hear(parcel)
            except BaseException:
                self.client.stream.abort()
                raise
        self._queue.popleft()
        self._closing = self._closing or self._last is not None
        if self._closing:
            self.client.stream.abort()
        return said

    async def _one_by_one(self, parcel: Parcel) -> SmtpReply | Trouble:
        self._be_patient(self.message_patience)
        parcel.enveloped = parcel.ended = True  # until the contrary is known
        try:
            return await self.client.send(
                self.sender, [self.recipient], self._renewing(parcel), size=parcel.size, eight_bit=True
            )
        except DeliveryUnclear:
            raise
        except Temporary as trouble:
            parcel.ended = False
            if not trouble.code:
                raise
            return trouble
        except Permanent as trouble:
            return trouble

    async def _renewing(self, parcel: Parcel) -> AsyncIterator[bytes]:
        async for chunk in parcel.chunks():
            self._be_patient(self.message_patience)
            yield chunk

    def _be_patient(self, seconds: float) -> None:
        self.client.deadline = asyncio.get_running_loop().time() + seconds

    # -- ahead of the replies ------------------------------------------------------------------------------------------

    async def _hear(self, parcel: Parcel) -> SmtpReply | Trouble:
        if not parcel.enveloped:
            self._check_silence()
            await self._write(self._envelope(parcel))
        if parcel.reset:
            await self._reply()
        mail = await self._reply()
        rcpt = await self._reply()
        trouble = _refusal(mail, "MAIL", MessageRefused) or _refusal(rcpt, "RCPT", MailboxUnavailable)
        if self.chunking and parcel.ended:
            reply = await self._reply(self.message_patience)
            return trouble or _refusal(reply, "BDAT", MessageRefused) or reply
        if self.chunking:
            return trouble or await self._send_chunk(parcel)
        data = await self._reply()
        if data.code == _GO_ON and trouble is None:
            return await self._send_data(parcel)
        if data.code == _GO_ON:  # DATA without a recipient: the message is empty (RFC 2920 3.1)
            await self._write(b".\r\n")
            await self._reply()
        self._dirty = True
        trouble = trouble or _refusal(data, "DATA", MessageRefused)
        if trouble is None:
            raise ProtocolTrouble(f"{self.client.stream.endpoint}: DATA: {data}")
        return trouble

    async def _send_chunk(self, parcel: Parcel) -> SmtpReply | Trouble:
        await self._write_chunk(b"", parcel)
        reply = await self._reply(self.message_patience)
        return _refusal(reply, "BDAT", MessageRefused) or reply

    async def _send_data(self, parcel: Parcel) -> SmtpReply | Trouble:
        writer = MessageWriter()
        held = b""
        try:
            async for chunk in parcel.chunks():
                held += writer.feed(chunk)
                if len(held) >= _HELD:
                    await self._write(held)
                    held = b""
            held += writer.end()
            following = self._queue[1] if len(self._queue) > 1 else None
            if following is not None and following.refusal is None:
                held += self._envelope(following)
            await self._write(held, parcel)
        except Temporary:
            if not self.client.stream.buffered:
                raise
            reply = await self._reply()  # the server said why before it hung up
            trouble = _refusal(reply, "DATA", MessageRefused)
            if trouble is None:
                raise
            self._closing = True
            return trouble
        reply = await self._reply(self.message_patience)
        return _refusal(reply, "DATA", MessageRefused) or reply

    def _envelope(self, parcel: Parcel) -> bytes:
        parcel.enveloped = True
        parcel.reset = self._dirty or (self.chunking and self._begun)  # what stands before it may fail
        self._dirty, self._begun = False, True
        lines = ["RSET"] if parcel.reset else []
        utf8 = not self.recipient.isascii()
        lines.append(self.client.mail_line(self.sender, size=parcel.size, eight_bit=True, utf8=utf8))
        lines.append(self.client.rcpt_line(self.recipient))
        if not self.chunking:
            lines.append("DATA")
        return "".join(f"{line}\r\n" for line in lines).encode("utf-8")

    async def _push(self) -> None:
        """By BDAT: send what waits, up to a message whose recipient must be asked about first."""
        try:
            for parcel in self._queue:
                if parcel.ended or parcel.refusal is not None:
                    continue
                if parcel.enveloped:
                    return
                self._check_silence()
                if parcel.size > UNASKED_LIMIT:
                    await self._write(self._envelope(parcel))
                    return
                await self._write_chunk(self._envelope(parcel), parcel)
        except Temporary:
            if not self.client.stream.buffered:  # else replies are here, and the last of them may say why
                raise
        except BaseException:
            self.client.stream.abort()
            raise

    async def _write_chunk(self, held: bytes, parcel: Parcel) -> None:
        held += b"BDAT %d LAST\r\n" % parcel.size
        left = parcel.size
        async for chunk in parcel.chunks():
            left -= len(chunk)
            if len(held) >= _HELD:
                await self._write(held)
                held = b""
            held += chunk
        if left:
            raise ProtocolTrouble(f"a message of {parcel.size} bytes has {parcel.size - left}")
        await self._write(held, parcel)

    def _check_silence(self) -> None:
        """With nothing under way, no reply is due: one that is here would be taken for the answer to what comes."""
        if not any(parcel.enveloped for parcel in self._queue) and not self.client.usable:
            raise Temporary(f"{self.client.stream.endpoint}: connection closed, or a reply came before the command")

    async def _write(self, data: bytes, ends: Parcel | None = None) -> None:
        """Send `data`; from the moment it is on its way, the message that it `ends` may be accepted."""
        stream = self.client.stream
        self._be_patient(self.command_patience)
        stream.write_soon(data)
        if ends is not None:
            ends.ended = True
        await stream.drain()

    async def _reply(self, patience: float = 0.0) -> SmtpReply:
        """The next reply; after the server's last word that one again, for it answers everything that is under way."""
        if self._last is not None:
            return self._last
        self._be_patient(patience or self.command_patience)
        reply = await self.client.read_reply()
        if reply.code in LAST_WORDS:
            self._last = reply
        return reply


def _refusal(reply: SmtpReply, word: str, kind: type[Permanent]) -> Trouble | None:
    if 200 <= reply.code < 300:
        return None
    if reply.code < 400:
        raise ProtocolTrouble(f"{word}: {reply}")
    code = reply.enhanced or str(reply.code)
    return (Temporary if reply.code < 500 else kind)(f"{word}: {reply}", code=code)
