"""Messages out of a server through bounded memory: small ones whole, large ones as a stream of pieces (RFC 3501 6.4.5).

A body's `chunks` end normally only after its whole literal and the end of its FETCH response came, and raise otherwise.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from typing import Final

from wire.imap.classify import classify_failure
from wire.imap.dialogue import Completed, Dialogue
from wire.imap.encoder import render_uid_set
from wire.imap.parser import Assembler, Response, Status, Untagged, check_literal
from wire.imap.results import read_fetch, read_number
from wire.outcome import ProtocolTrouble, Temporary, Throttled

CHUNK: Final = 65536  # bytes handed on at once: one socket read
_NOT_GIVEN: Final = 3  # messages in a row that a server may be unable to give for now, before it is its own trouble


@dataclass(slots=True)
class Body:
    """One message on its way. `size` is the length of its literal; None when the server gave none.

    Then `trouble` is "" for a message that is gone, else the server's words for not giving it. `content` is the
    whole message where it is no longer than what was asked for as whole; else `chunks` may be read once, and before
    the next body is asked for; what is left unread is passed over.
    """

    uid: int
    size: int | None
    chunks: AsyncGenerator[bytes, None]
    trouble: str = ""
    content: bytes | None = None
    later: bool = False  # the server may give it another time
    nil: bool = False  # the server sent NIL for it: an empty one, where its size says so


_RFC822: Final = frozenset({"RFC822", "RFC822.TEXT", "RFC822.HEADER"})
_UID: Final = re.compile(rb"[( ]UID (\d{1,10})[ )]", re.IGNORECASE)
# What nearly every server says; all else takes the longer way through the parser.
_USUAL: Final = re.compile(
    rb"\* \d+ FETCH \(UID (\d{1,10}) (?:FLAGS \([^()\"{]*\) )?(?:BODY\[\]|RFC822) \{(\d{1,15})\}\Z"
)


class Fetcher:
    """Pipelined `UID FETCH uids (UID item)` commands, each for `group` messages, `window` of them under way.

    Bodies come in the order in which the server sends them: that asked for, with every known server, but a message
    that is gone may show late. Tagged replies may lag behind the content of later commands (Dovecot puts off several
    and sends them together), so a message is finished by the end of its FETCH response. A NO to a group says nothing
    about each of its messages: those that did not come are asked for one by one. A NO after all content is Temporary.
    With `lenient`, a message that the server cannot give for now is passed over, by a Body that says so.
    """

    def __init__(
        self,
        dialogue: Dialogue,
        uids: Iterable[int],
        *,
        item: bytes,
        window: int,
        group: int = 1,
        whole: int = 0,
        lenient: bool = False,
    ) -> None:
        self._dialogue = dialogue
        self._item = item
        self._group = max(1, group)
        self._window = max(1, window) * self._group
        self._whole_limit = whole
        self._waiting = deque(dict.fromkeys(uids))
        self._alone: deque[int] = deque()  # of groups that the server did not give whole
        self._open: dict[bytes, list[int]] = {}  # tag -> uids, until the tagged reply
        self._due: dict[int, None] = {}  # uids asked for and not answered with content, in order
        self._ready: deque[Body] = deque()
        self._assembler = Assembler()
        self._whole = True  # no response is half read
        self._reading = 0  # the uid of a short message that is half read
        self._lenient = lenient
        self._not_given = 0  # messages in a row that the server could not give for now

    @property
    def next_due(self) -> int:
        """The message that the server is sending, or is to send next; 0 if none is."""
        return self._reading or next(iter(self._due), 0)

    async def bodies(self) -> AsyncGenerator[Body, None]:
        """Each message in turn. Left before the end, it closes the connection: replies are still on their way."""
        if self._dialogue.stream.buffered:
            await self._dialogue.settle()
        try:
            while self._waiting or self._alone or self._open or self._ready:
                if not self._ready:
                    await self._ask()
                    await self._answer()
                    continue
                body = self._ready.popleft()
                yield body
                if body.content is not None or body.size is None:
                    continue
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
        if not (self._waiting or self._alone) or len(self._due) > self._window // 2:
            return
        commands: list[bytes] = []
        while len(self._due) < self._window and (uids := self._next_group()):
            tag = self._dialogue.next_tag()
            commands.append(b"%b UID FETCH %b (UID %b)\r\n" % (tag, render_uid_set(uids), self._item))
            self._open[tag] = uids
            self._due.update(dict.fromkeys(uids))
        await self._dialogue.stream.write(b"".join(commands))

    def _next_group(self) -> list[int]:
        if self._alone:
            return [self._alone.popleft()]
        count = min(self._group, len(self._waiting))
        return [self._waiting.popleft() for _ in range(count)]

    async def _answer(self) -> None:
        """Read one response; what it holds of messages is ready then."""
        dialogue, ready = self._dialogue, self._ready
        with dialogue.closing():
            line = await dialogue.stream.read_line(dialogue.line_limit)
        usual = _USUAL.match(line)
        if usual is not None:
            self._assembler.add_line(line)
            ready.append(await self._begin(self._take_due(int(usual[1])), int(usual[2])))
            return
        response = await self._read(line)
        if isinstance(response, int):
            named = _UID.search(self._assembler.parts[0])
            ready.append(await self._begin(self._take_due(int(named[1]) if named else self.next_due), response))
        elif isinstance(response, Untagged):
            with dialogue.closing():
                body = self._inline(response)
            if body is not None:
                ready.append(body)
        elif not isinstance(response, Status):
            raise dialogue.broken("the server asks for more where nothing more is due")
        elif not response.tag:
            dialogue.refuse_bye(response)
        else:
            uids = self._open.pop(response.tag, [])
            self._without_content(uids, dialogue.complete(response.tag if uids else b"", response))

    async def _begin(self, uid: int, size: int) -> Body:
        """The message whose literal comes next: whole if it is short."""
        self._not_given = 0
        if size > self._whole_limit:
            self._whole = False
            return Body(uid, size, self._stream(uid, size))
        self._reading = uid
        content = await self._dialogue.stream.read_exact(size)
        self._dialogue.renew()
        await self._end(uid)
        self._reading = 0
        return Body(uid, size, _pieces(content), content=content)

    def _inline(self, response: Untagged) -> Body | None:
        """A FETCH without a literal: flags that changed, or content as a quoted string or NIL."""
        if response.name != b"FETCH":
            return None
        items = read_fetch(response)
        found = [value for key, value in items.items() if key.startswith(("BODY[", "BINARY[")) or key in _RFC822]
        if not found:
            return None
        uid = self._take_due(read_number(items["UID"]) if "UID" in items else self.next_due)
        if isinstance(found[0], bytes):
            return Body(uid, len(found[0]), _pieces(found[0]), content=found[0])
        return Body(uid, None, _pieces(b""), "the server sent NIL for the message", nil=True)

    def _without_content(self, uids: list[int], reply: Completed) -> None:
        """The end of a command: what it did not bring is gone, or not given."""
        missing = [uid for uid in uids if uid in self._due]
        trouble = None
        if reply.status != b"OK":
            what = f"FETCH {uids[0]}" if len(uids) == 1 else "FETCH"
            trouble = classify_failure(reply.status, reply.code, reply.text, what=what)
            if isinstance(trouble, Temporary) and not self._is_of_one(trouble, uids):
                raise trouble
            if not missing:  # content came, and now the server takes it back
                raise Temporary(trouble.text, code=reply.code)
        for uid in missing:
            del self._due[uid]
            if trouble is not None and len(uids) > 1:
                self._alone.append(uid)
                continue
            gone = trouble is None or reply.code == "EXPUNGEISSUED"
            later = isinstance(trouble, Temporary)
            self._ready.append(Body(uid, None, _pieces(b""), "" if gone else str(trouble), later=later))

    def _is_of_one(self, trouble: Temporary, uids: list[int]) -> bool:
        """Whether the server may be in trouble with one message: Yahoo says [UNAVAILABLE] of one that it cannot read.

        Those of a group are asked for one by one. A few such answers in a row are about the server.
        """
        if not self._lenient or isinstance(trouble, Throttled) or not any(uid in self._due for uid in uids):
            return False
        self._not_given += len(uids) == 1
        return self._not_given <= _NOT_GIVEN

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
        await self._end(uid)
        self._whole = True

    async def _end(self, uid: int) -> None:
        """Read the rest of a response behind its literal, whose bytes went another way."""
        dialogue = self._dialogue
        with dialogue.closing():
            line = await dialogue.stream.read_line(dialogue.line_limit)
        if line == b")" and len(self._assembler.parts) == 1:
            self._assembler.parts.clear()
            return
        self._assembler.add_literal(b"")
        response = await self._read(line)
        with dialogue.closing():
            if not isinstance(response, Untagged):
                raise ProtocolTrouble("a FETCH response with two literals of content")
            if read_fetch(response).get("UID", b"%d" % uid) != b"%d" % uid:
                raise ProtocolTrouble("the server sent a message that was not asked for")

    async def _read(self, line: bytes) -> Response | int:
        """The response that goes on with `line`, or the length of a literal of message content that comes next."""
        dialogue, assembler = self._dialogue, self._assembler
        with dialogue.closing():
            while (size := assembler.add_line(line)) is not None:
                if assembler.body_follows():
                    return size
                check_literal(size, dialogue.literal_limit)
                assembler.add_literal(await dialogue.stream.read_exact(size))
                line = await dialogue.stream.read_line(dialogue.line_limit)
            return assembler.take()


async def _pieces(block: bytes) -> AsyncGenerator[bytes, None]:
    if block:
        yield block
