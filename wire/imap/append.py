"""Messages into a server: one as a stream of pieces of any size, or many small ones without waiting in between.

RFC 3501 6.3.11, RFC 3502 (MULTIAPPEND), RFC 4315 (UIDPLUS), RFC 7888 (LITERAL+). An APPEND whose source fails is cut
off with the connection, never padded, so that the server stores nothing. Neither form ever tries a message twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from wire.imap.classify import classify_append_failure
from wire.imap.dialogue import Dialogue
from wire.imap.encoder import Arg, LiteralOf, Text, Unsendable, quote, render_flags, undisputed
from wire.imap.results import Appended, read_all_appended, read_appended
from wire.imap.transfer import CHUNK
from wire.outcome import MailboxUnavailable, MessageRefused, ProtocolTrouble, Trouble

UNASKED_LIMIT: Final = 1 << 20  # larger literals are announced first ({n}), so that a refusal costs no upload
_WRITE: Final = 1 << 18  # bytes in one write of a long command


@dataclass(frozen=True, slots=True)
class Letter:
    """A whole message to be stored, with its flags and its INTERNALDATE (None: the server's clock)."""

    content: bytes = field(repr=False)
    flags: tuple[bytes, ...] = ()
    internal_date: bytes | None = None


class OutOfStep(ProtocolTrouble):
    """BAD to an APPEND whose literal was not asked for: the server may have taken mail for commands."""


class Pipeline:
    """APPEND commands to one mailbox, sent without waiting and answered in the order they were sent.

    Only for servers with LITERAL+, and only behind arguments that no server can dispute: Dovecot answers BAD to an
    APPEND with a bad date and then reads the mail as commands. While answers are due, the connection is for nothing
    else.
    """

    def __init__(self, dialogue: Dialogue, mailbox: bytes) -> None:
        self._dialogue = dialogue
        self._mailbox = mailbox
        self._head = b" APPEND " + quote(mailbox)
        self._due: deque[tuple[bytes, int]] = deque()  # tag and number of letters of each command
        self._arguments: dict[tuple[tuple[bytes, ...], bytes | None], bytes | None] = {}
        self.many = dialogue.has("MULTIAPPEND")

    @staticmethod
    def possible(dialogue: Dialogue, mailbox: bytes) -> bool:
        """Whether this server takes literals unasked, and this name can go before them."""
        return dialogue.unasked and dialogue.has("LITERAL+") and undisputed(mailbox, (), None)

    @property
    def waiting(self) -> int:
        """Commands that are not answered yet."""
        return len(self._due)

    def takes(self, letter: Letter) -> bool:
        """Whether `letter` may go unasked. An empty one never does: in MULTIAPPEND it would end the command."""
        return 0 < len(letter.content) <= UNASKED_LIMIT and self._rendered(letter) is not None

    def _rendered(self, letter: Letter) -> bytes | None:
        """Flags and date as the command has them; None where a server might dispute them."""
        key = (letter.flags, letter.internal_date)
        try:
            return self._arguments[key]
        except KeyError:
            pass
        if len(self._arguments) >= 10_000:
            self._arguments.clear()  # dates have no end; flags come again
        text: bytes | None = None
        if undisputed(self._mailbox, letter.flags, letter.internal_date):
            text = b" " + render_flags(letter.flags) if letter.flags else b""
            if letter.internal_date is not None:
                text += b" " + quote(letter.internal_date)
        self._arguments[key] = text
        return text

    async def settle(self) -> None:
        """To be called before `send`: hear what came unasked. Temporary where it was BYE, before anything was sent."""
        if not self._due and self._dialogue.stream.buffered:
            self._dialogue.renew()
            await self._dialogue.settle()

    async def send(self, letters: Sequence[Letter]) -> None:
        """Send one APPEND with these letters, several only with `many`. Each must be one that it `takes`.

        Temporary when the connection is lost; then the server may have any number of them.
        """
        dialogue = self._dialogue
        dialogue.renew()
        tag = dialogue.next_tag()
        parts: list[bytes] = [tag, self._head]
        self._due.append((tag, len(letters)))
        size = 0
        for letter in letters:
            arguments = self._rendered(letter)
            assert arguments is not None
            parts += (arguments, b" {%d+}\r\n" % len(letter.content), letter.content)
            size += len(letter.content)
            if size >= _WRITE:
                await dialogue.stream.write(b"".join(parts))
                dialogue.renew()
                parts, size = [], 0
        parts.append(b"\r\n")
        await dialogue.stream.write(b"".join(parts))

    async def answer(self) -> list[Appended] | Trouble:
        """Where the letters of the oldest command were put, one for each; the trouble when the server said NO to it.

        Then nothing of that command was stored (RFC 3502 6.3.11). Raises Temporary when the connection is lost,
        OutOfStep for BAD: both leave all commands under way in doubt.
        """
        tag, count = self._due[0]
        reply = await self._dialogue.read_reply(tag)
        if reply.status == b"BAD":
            self._dialogue.stream.abort()
            raise OutOfStep(f"{self._dialogue.stream.endpoint}: BAD to an APPEND: {reply.text}", code=reply.code)
        self._due.popleft()
        if reply.status != b"OK":
            return classify_append_failure(reply.status, reply.code, reply.text, what="APPEND")
        return read_all_appended(reply, count)


async def append(
    dialogue: Dialogue,
    mailbox: bytes,
    flags: Sequence[bytes],
    internal_date: bytes | None,
    *,
    size: int,
    chunks: AsyncIterator[bytes],
) -> Appended:
    """Store one message of exactly `size` bytes.

    MessageRefused for a NO about the message (or flags and a date that cannot be sent), MailboxUnavailable for one
    about the mailbox, Temporary by code (OVERQUOTA among them). When `chunks` raise, end early or give too much, the
    connection is cut off in the literal.
    """
    dialogue.renew()
    if dialogue.stream.buffered:
        await dialogue.settle()
    tag = dialogue.next_tag()
    heads = _append_heads(dialogue, tag, mailbox, flags=flags, date=internal_date, size=size)
    head = heads.pop() if heads[-1].endswith(b"+}\r\n") else b""  # one that waits for no `+` goes with the message
    try:
        reply = await dialogue.ask(heads, tag)
        if reply is not None and reply.status == b"OK":
            raise dialogue.broken("OK to a message that was not sent")
        if reply is None:
            await _send_literal(dialogue, head, size, chunks)
            reply = await dialogue.read_reply(tag)
            if head and reply.status == b"BAD":
                await dialogue.find_place_again()
    except BaseException:  # cancelled or failed in the middle of a literal: nothing but an end can follow
        dialogue.stream.abort()
        raise
    if reply.status != b"OK":
        raise classify_append_failure(reply.status, reply.code, reply.text, what="APPEND")
    return read_appended(reply)


def _append_heads(
    dialogue: Dialogue, tag: bytes, mailbox: bytes, *, flags: Sequence[bytes], date: bytes | None, size: int
) -> list[bytes]:
    """The command up to the message; nothing is sent for what cannot be."""
    ask = size > UNASKED_LIMIT or not undisputed(mailbox, flags, date)
    try:
        args: list[Arg] = [render_flags(flags)] if flags else []
        if date is not None:
            args.append(quote(date))
    except Unsendable as error:
        raise MessageRefused(error.text) from None
    try:
        return dialogue.encode(tag, b"APPEND", (Text(mailbox), *args, LiteralOf(size, ask)))
    except Unsendable as error:
        raise MailboxUnavailable(error.text) from None


async def _send_literal(dialogue: Dialogue, head: bytes, size: int, chunks: AsyncIterator[bytes]) -> None:
    """Write the literal and its CRLF, holding the last piece back until `chunks` ended well."""
    held, left = head, size
    async for piece in chunks:
        left -= len(piece)
        if left < 0:
            raise ProtocolTrouble(f"the message is longer than the {size} bytes announced")
        if len(held) >= CHUNK:
            await dialogue.stream.write(held)
            dialogue.renew()
            held = piece
        else:
            held += piece
    if left:
        raise ProtocolTrouble(f"the message ended {left} bytes before the {size} announced")
    await dialogue.stream.write(held + b"\r\n")
