"""Messages of any size through bounded memory: FETCH as a stream of pieces, APPEND from one. RFC 3501 6.3.11, 6.4.5.

A body's `chunks` end normally only after its whole literal and the end of its FETCH response came, and raise otherwise.
An APPEND whose source fails is cut off with the connection, never padded, so that the server stores nothing.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from wire.imap.classify import classify_append_failure, classify_failure
from wire.imap.dialogue import Completed, Dialogue
from wire.imap.encoder import Arg, LiteralOf, Text, Unsendable, quote, render_flags, undisputed
from wire.imap.parser import Assembler, Response, Status, Untagged, check_literal
from wire.imap.results import Appended, read_appended, read_fetch, read_number
from wire.outcome import MailboxUnavailable, MessageRefused, ProtocolTrouble, Temporary

CHUNK: Final = 65536  # bytes handed on at once: one socket read
UNASKED_LIMIT: Final = 1 << 20  # larger literals are announced first ({n}), so that a refusal costs no upload


@dataclass(slots=True)
class Body:
    """One message on its way. `size` is the length of its literal; None when the server gave none.

    Then `trouble` is "" for a message that is gone, else the server's words for not giving it. `chunks`
    may be read once, and before the next body is asked for; what is left unread is passed over.
    """

    uid: int
    size: int | None
    chunks: AsyncGenerator[bytes, None]
    trouble: str = ""


_RFC822: Final = frozenset({"RFC822", "RFC822.TEXT", "RFC822.HEADER"})
_UID: Final = re.compile(rb"[( ]UID (\d{1,10})[ )]", re.IGNORECASE)


class Fetcher:
    """Pipelined `UID FETCH uid (UID item)` commands, one for each message.

    Bodies come in the order in which the server sends them: that asked for, with every known server, but a message
    that is gone may show late. Tagged replies may lag behind the content of later commands (Dovecot puts off several
    and sends them together), so a message is finished by the end of its FETCH response; a NO after that is Temporary.
    """

    def __init__(self, dialogue: Dialogue, uids: Iterable[int], *, item: bytes, window: int) -> None:
        self._dialogue = dialogue
        self._item = item
        self._window = max(1, window)
        self._waiting = deque(dict.fromkeys(uids))
        self._open: dict[bytes, int] = {}  # tag -> uid, until the tagged reply
        self._due: dict[int, None] = {}  # uids asked for and not answered with content, in order
        self._assembler = Assembler()
        self._whole = True  # no response is half read

    async def bodies(self) -> AsyncGenerator[Body, None]:
        """Each message in turn. Left before the end, it closes the connection: replies are still on their way."""
        if self._dialogue.stream.buffered:
            await self._dialogue.settle()
        try:
            while self._waiting or self._open:
                await self._ask()
                body = await self._answer()
                if body is None:
                    continue
                yield body
                async for _ in body.chunks:
                    pass
                if not self._whole:
                    raise self._dialogue.broken("a message was left in the middle")
        finally:
            if self._open:
                self._dialogue.stream.abort()

    async def _ask(self) -> None:
        """Keep the window full, several commands to a write."""
        self._dialogue.renew()
        if not self._waiting or len(self._due) > self._window // 2:
            return
        commands: list[bytes] = []
        while self._waiting and len(self._due) < self._window:
            uid = self._waiting.popleft()
            tag = self._dialogue.next_tag()
            commands.append(b"%b UID FETCH %d (UID %b)\r\n" % (tag, uid, self._item))
            self._open[tag] = uid
            self._due[uid] = None
        await self._dialogue.stream.write(b"".join(commands))

    async def _answer(self) -> Body | None:
        """The next message, from one response; None if that response was about none."""
        response = await self._read()
        if isinstance(response, int):
            named = _UID.search(self._assembler.parts[0])
            uid = self._take_due(int(named[1]) if named else next(iter(self._due), 0))
            self._whole = False
            return Body(uid, response, self._stream(uid, response))
        if isinstance(response, Untagged):
            with self._dialogue.closing():
                return self._inline(response)
        if not isinstance(response, Status):
            raise self._dialogue.broken("the server asks for more where nothing more is due")
        if not response.tag:
            self._dialogue.refuse_bye(response)
            return None
        uid = self._open.pop(response.tag, 0)
        return self._without_content(uid, self._dialogue.complete(response.tag if uid else b"", response))

    def _inline(self, response: Untagged) -> Body | None:
        """A FETCH without a literal: flags that changed, or content as a quoted string or NIL."""
        if response.name != b"FETCH":
            return None
        items = read_fetch(response)
        found = [value for key, value in items.items() if key.startswith(("BODY[", "BINARY[")) or key in _RFC822]
        if not found:
            return None
        uid = self._take_due(read_number(items["UID"]) if "UID" in items else next(iter(self._due), 0))
        if isinstance(found[0], bytes):
            return Body(uid, len(found[0]), _pieces(found[0]))
        return Body(uid, None, _pieces(b""), "the server sent NIL for the message")

    def _without_content(self, uid: int, reply: Completed) -> Body | None:
        if reply.status != b"OK":
            trouble = classify_failure(reply.status, reply.code, reply.text, what=f"FETCH {uid}")
            if isinstance(trouble, Temporary):
                raise trouble
            if uid not in self._due:  # content came, and now the server takes it back
                raise Temporary(trouble.text, code=reply.code)
            del self._due[uid]
            return Body(uid, None, _pieces(b""), "" if reply.code == "EXPUNGEISSUED" else str(trouble))
        if uid not in self._due:
            return None
        del self._due[uid]
        return Body(uid, None, _pieces(b""))

    def _take_due(self, uid: int) -> int:
        if uid not in self._due:
            raise self._dialogue.broken("the server sent a message that was not asked for")
        del self._due[uid]
        return uid

    async def _stream(self, uid: int, size: int) -> AsyncGenerator[bytes, None]:
        left = size
        while left:
            piece = await self._dialogue.stream.read_some(min(left, CHUNK))
            left -= len(piece)
            self._dialogue.renew()
            yield piece
        self._assembler.add_literal(b"")  # its bytes went another way
        response = await self._read()
        with self._dialogue.closing():
            if not isinstance(response, Untagged):
                raise ProtocolTrouble("a FETCH response with two literals of content")
            if read_fetch(response).get("UID", b"%d" % uid) != b"%d" % uid:
                raise ProtocolTrouble("the server sent a message that was not asked for")
        self._whole = True

    async def _read(self) -> Response | int:
        """The next response, or the length of a literal of message content that comes next."""
        dialogue, assembler = self._dialogue, self._assembler
        with dialogue.closing():
            while (size := assembler.add_line(await dialogue.stream.read_line(dialogue.line_limit))) is not None:
                if assembler.body_follows():
                    return size
                check_literal(size, dialogue.literal_limit)
                assembler.add_literal(await dialogue.stream.read_exact(size))
            return assembler.take()


async def _pieces(block: bytes) -> AsyncGenerator[bytes, None]:
    if block:
        yield block


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
