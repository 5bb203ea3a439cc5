"""An IMAP server in memory whose manners a test chooses: without UIDPLUS, refusing, late, cutting connections.

It keeps messages byte for byte unless told to change them, and knows just the commands that a copy uses. What it does
not understand is answered BAD, so that a test fails and nothing passes by chance.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

Token = bytes | list["Token"]  # a parenthesised list holds tokens

_LITERAL = re.compile(rb"\{(\d+)(\+?)\}\Z")
_TOKEN = re.compile(rb'"((?:[^"\\]|\\.)*)"|([()])|([^\s()"\x00]+(?:\[[^\]]*\])?)|\x00(\d+)\x00', re.DOTALL)


@dataclass(slots=True)
class Kept:
    """One message."""

    uid: int
    content: bytes
    flags: set[bytes] = field(default_factory=set)
    date: bytes = b"13-Feb-2009 23:31:30 +0000"
    modseq: int = 1


@dataclass(slots=True)
class Box:
    """One mailbox."""

    uidvalidity: int
    messages: list[Kept] = field(default_factory=list)
    uidnext: int = 1
    modseq: int = 1  # HIGHESTMODSEQ

    def flag(self, uid: int, change: bytes, flags: Iterable[bytes]) -> None:
        """What a client does with `+FLAGS` or `-FLAGS`."""
        for message in self.messages:
            if message.uid == uid:
                named = {flag.lower() for flag in flags}
                others = {flag for flag in message.flags if flag.lower() not in named}
                message.flags = others if change[:1] == b"-" else others | set(flags)
                self.modseq += 1
                message.modseq = self.modseq

    def flags(self) -> list[set[bytes]]:
        return [message.flags for message in self.messages]

    def store(self, content: bytes, flags: Sequence[bytes] = (), date: bytes = b"") -> Kept:
        kept = Kept(self.uidnext, content, set(flags), date or b"13-Feb-2009 23:31:30 +0000")
        self.modseq += 1
        kept.modseq = self.modseq
        self.messages.append(kept)
        self.uidnext += 1
        return kept

    @property
    def contents(self) -> list[bytes]:
        return [message.content for message in self.messages]


class MemoryImap:
    """`async with MemoryImap() as server: server.port`. The mail outlives connections and `cut()`."""

    def __init__(self, *, separator: bytes = b"/", prefix: bytes = b"", capabilities: bytes | None = None) -> None:
        self.separator = separator
        self.prefix = prefix
        self.capabilities = capabilities or b"IMAP4rev1 LITERAL+ UIDPLUS NAMESPACE"
        self.boxes: dict[bytes, Box] = {b"INBOX": Box(1000)}
        self.attributes: dict[bytes, bytes] = {}  # of LIST
        self.subscribed: set[bytes] = set()
        self.permanent_flags = rb"\Answered \Flagged \Deleted \Seen \Draft \*"
        self.untold: set[bytes] = set()  # items that STATUS leaves out
        self.log: list[bytes] = []  # commands without their tags and literals
        self.port = 0
        # What a test may replace:
        self.accepts_login: Callable[[], bytes] = lambda: b"OK in"
        self.on_append: Callable[[bytes], bytes | None] = lambda _content: None  # a refusal, such as b"NO too big"
        self.refuses_flag: Callable[[bytes], bool] = lambda _flag: False  # whatever PERMANENTFLAGS say
        self.stored_form: Callable[[bytes], bytes] = lambda content: content
        self.on_command: Callable[[bytes], bytes | None] = lambda _line: None  # a reply instead of the real one
        self.before_reply: Callable[[bytes], bytes] = lambda _line: b""  # untagged lines
        self.gives_nil: Callable[[bytes], bool] = lambda _content: False  # to a FETCH of content
        self.cut_within_fetch: Callable[[int], int | None] = lambda _uid: None  # bytes of the literal to send
        self.store_late: Callable[[int], bool] = lambda _number: False  # store the n-th APPEND at release(), unanswered
        self.refuses_name: Callable[[bytes], bool] = lambda _name: False
        self.hides: set[int] = set()  # uids that are listed, and that no FETCH brings
        self.broken: set[int] = set()  # uids for which a FETCH brings nothing of any message, and ends in NO
        self.most_letters = 1000  # of one APPEND, else [LIMIT]
        self.one_session = False  # a login ends all earlier ones
        self.appends = 0
        self._next_uidvalidity = 1001
        self._late: list[tuple[Box, bytes, list[bytes], bytes]] = []
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    def box(self, name: bytes) -> Box:
        """The mailbox of this name, made if it is missing."""
        if name not in self.boxes:
            self.boxes[name] = Box(self._next_uidvalidity)
            self._next_uidvalidity += 1
        return self.boxes[name]

    def cut(self) -> None:
        """Drop every connection."""
        for writer in self._writers:
            writer.transport.abort()

    def dismiss(self, *, but: asyncio.StreamWriter | None = None) -> None:
        """Say BYE on every connection, or on every other one, and close it."""
        for writer in self._writers - {but}:
            writer.write(b"* BYE go\r\n")
            writer.close()

    def release(self) -> None:
        """Store what `store_late` held back."""
        for box, content, flags, date in self._late:
            box.store(content, flags, date)
        self._late.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            writer.write(b"* OK [CAPABILITY " + self.capabilities + b"] ready\r\n")
            await _Session(self, reader, writer).run()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


class _Session:
    def __init__(self, server: MemoryImap, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.name = b""
        self.box: Box | None = None
        self.told = 0  # messages the client knows of

    async def run(self) -> None:
        while True:
            line, literals = await self._command()
            tag, _, rest = line.partition(b" ")
            words = rest.split()
            name = b" ".join(words[: 2 if words and words[0].upper() == b"UID" else 1]).upper()
            tokens = _tokens(rest, literals)[len(name.split()) :]
            self.server.log.append(re.sub(rb"\x00\d+\x00", b"{}", rest))
            special = self.server.on_command(rest)
            self.writer.write(self.server.before_reply(rest))
            if special is not None:
                self.writer.write(tag + b" " + special + b"\r\n")
            else:
                method = getattr(self, "do_" + name.decode().lower().replace(" ", "_"), None)
                reply = method(*tokens) if method else b"BAD unknown"
                if name not in (b"UID FETCH", b"UID SEARCH", b"LOGOUT"):
                    self._news()
                self.writer.write(tag + b" " + reply + b"\r\n")
            await self.writer.drain()
            if name == b"LOGOUT":
                return

    async def _command(self) -> tuple[bytes, list[bytes]]:
        line, literals = b"", list[bytes]()
        while True:
            piece = await self.reader.readuntil(b"\n")
            piece = piece.removesuffix(b"\n").removesuffix(b"\r")
            found = _LITERAL.search(piece)
            if found is None:
                return line + piece, literals
            if not found[2]:
                self.writer.write(b"+ go on\r\n")
            elif b"LITERAL+" not in self.server.capabilities:
                raise ConnectionError("LITERAL+ was not offered")
            literals.append(await self.reader.readexactly(int(found[1])))
            line += piece[: found.start()] + b"\x00%d\x00" % (len(literals) - 1)

    def _news(self) -> None:
        if self.box is not None and len(self.box.messages) != self.told:
            self.told = len(self.box.messages)
            self.writer.write(b"* %d EXISTS\r\n" % self.told)

    def do_capability(self) -> bytes:
        self.writer.write(b"* CAPABILITY " + self.server.capabilities + b"\r\n")
        return b"OK done"

    def do_login(self, _login: bytes, _password: bytes) -> bytes:
        if self.server.one_session:
            self.server.dismiss(but=self.writer)
        return self.server.accepts_login()

    def do_noop(self) -> bytes:
        return b"OK done"

    def do_logout(self) -> bytes:
        self.writer.write(b"* BYE gone\r\n")
        return b"OK done"

    def do_namespace(self) -> bytes:
        place = b'(("%b" "%b"))' % (self.server.prefix, self.server.separator)
        self.writer.write(b"* NAMESPACE " + place + b' (("~" "/")) NIL\r\n')
        return b"OK done"

    def do_list(self, reference: bytes, pattern: bytes, *_returns: Token) -> bytes:
        wanted = re.compile(re.escape(reference + pattern).replace(rb"\*", b".*").replace(b"%", b"[^/.]*") + rb"\Z")
        for name in sorted(self.server.boxes):
            if wanted.match(name):
                attributes = self.server.attributes.get(name, b"")
                self.writer.write(b'* LIST (%b) "%b" %b\r\n' % (attributes, self.server.separator, _quoted(name)))
        return b"OK done"

    def do_lsub(self, _reference: bytes, _pattern: bytes) -> bytes:
        for name in sorted(self.server.subscribed):
            self.writer.write(b'* LSUB () "%b" %b\r\n' % (self.server.separator, _quoted(name)))
        return b"OK done"

    def do_subscribe(self, name: bytes) -> bytes:
        self.server.subscribed.add(name)
        return b"OK done"

    def do_create(self, name: bytes) -> bytes:
        if name in self.server.boxes:
            return b"NO [ALREADYEXISTS] it is there"
        if self.server.refuses_name(name):
            return b"NO [CANNOT] not such a name"
        self.server.box(name)
        return b"OK done"

    def do_select(self, name: bytes, *, access: bytes = b"READ-WRITE") -> bytes:
        box = self.server.boxes.get(b"INBOX" if name.upper() == b"INBOX" else name)
        if box is None:
            self.box = None
            return b"NO [NONEXISTENT] no such mailbox"
        self.box, self.told = box, len(box.messages)
        for line in (
            rb"* FLAGS (\Answered \Flagged \Deleted \Seen \Draft)",
            b"* OK [PERMANENTFLAGS (%b)] these" % self.server.permanent_flags,
            b"* %d EXISTS" % self.told,
            b"* OK [UIDVALIDITY %d] valid" % box.uidvalidity,
            b"* OK [UIDNEXT %d] next" % box.uidnext,
            b"* OK [HIGHESTMODSEQ %d] modseq" % box.modseq,
        ):
            self.writer.write(line + b"\r\n")
        return b"OK [%b] done" % access

    def do_examine(self, name: bytes) -> bytes:
        return self.do_select(name, access=b"READ-ONLY")

    def do_uid_search(self, *criteria: bytes) -> bytes:
        assert self.box is not None
        if criteria == (b"ALL",):
            found = [message.uid for message in self.box.messages]
        elif criteria == (b"DELETED",):
            found = [message.uid for message in self.box.messages if b"\\Deleted" in message.flags]
        elif len(criteria) == 2 and criteria[0] == b"UID":
            found = [message.uid for message in self._in_set(criteria[1])]
        else:
            return b"BAD criteria"
        self.writer.write(b"* SEARCH " + b" ".join(b"%d" % uid for uid in found) + b"\r\n")
        return b"OK done"

    def _in_set(self, text: bytes) -> list[Kept]:
        assert self.box is not None
        top = self.box.messages[-1].uid if self.box.messages else 0
        wanted: set[int] = set()
        for piece in text.split(b","):
            first, _, last = piece.replace(b"*", b"%d" % top).partition(b":")
            low, high = sorted((int(first), int(last or first)))
            wanted.update(range(low, high + 1))
        return [message for message in self.box.messages if message.uid in wanted]

    def do_status(self, name: bytes, items: Token) -> bytes:
        box = self.server.boxes.get(name)
        if box is None:
            return b"NO [NONEXISTENT] no such mailbox"
        numbers = {
            b"MESSAGES": len(box.messages), b"UIDNEXT": box.uidnext, b"UIDVALIDITY": box.uidvalidity,
            b"HIGHESTMODSEQ": box.modseq,
        }  # fmt: skip
        told = [item for item in items if isinstance(item, bytes) and item not in self.server.untold]
        words = b" ".join(b"%b %d" % (item, numbers[item]) for item in told)
        self.writer.write(b"* STATUS %b (%b)\r\n" % (_quoted(name), words))
        return b"OK done"

    def do_uid_fetch(self, uids: bytes, items: Token, modifiers: Token = b"") -> bytes:
        names = [item for item in items if isinstance(item, bytes)] if isinstance(items, list) else [items]
        since = int(modifiers[1]) if isinstance(modifiers, list) and isinstance(modifiers[1], bytes) else 0
        if any(message.uid in self.server.broken for message in self._in_set(uids)):
            return b"NO [SERVERBUG] internal error"
        for message in self._in_set(uids):
            assert self.box is not None
            if message.modseq <= since or message.uid in self.server.hides:
                continue
            number = self.box.messages.index(message) + 1
            self.writer.write(b"* %d FETCH (UID %d" % (number, message.uid))
            for item in names:
                if item != b"UID":
                    self.writer.write(b" " + self._item(message, item))
            self.writer.write(b")\r\n")
        return b"OK done"

    def _item(self, message: Kept, item: bytes) -> bytes:
        if item == b"FLAGS":
            return b"FLAGS (%b)" % b" ".join(sorted(message.flags))
        if item == b"INTERNALDATE":
            return b'INTERNALDATE "%b"' % message.date
        if item == b"RFC822.SIZE":
            wrong = 3 if message.content else 0  # as it is at real servers
            return b"RFC822.SIZE %d" % (len(message.content) + wrong)
        if item.startswith(b"BODY.PEEK[HEADER.FIELDS"):
            header = message.content.partition(b"\r\n\r\n")[0] + b"\r\n"
            names = item.rstrip(b"]").split(b"/")[1:]
            wanted = {name.lower() for name in names}
            fields = re.findall(rb"(?m)^[!-9;-~]+:.*\r\n(?:[ \t].*\r\n)*", header)
            kept = b"".join(line for line in fields if line.partition(b":")[0].lower() in wanted) + b"\r\n"
            return b"BODY[HEADER.FIELDS (%b)] {%d}\r\n" % (b" ".join(names), len(kept)) + kept
        assert item in (b"BODY.PEEK[]", b"RFC822.PEEK"), item
        cut = self.server.cut_within_fetch(message.uid)
        name = b"BODY[]" if item == b"BODY.PEEK[]" else b"RFC822"
        if self.server.gives_nil(message.content):
            return name + b" NIL"
        literal = name + b" {%d}\r\n" % len(message.content) + message.content[:cut]
        if cut is not None:
            self.writer.write(b" " + literal)
            self.writer.close()
            raise ConnectionError("cut off within a literal, as asked")
        return literal

    def do_append(self, name: bytes, *rest: Token) -> bytes:
        """One message, or several where MULTIAPPEND was offered: all of them or none (RFC 3502)."""
        server, box = self.server, self.server.boxes.get(name)
        letters = _letters(rest)
        server.appends += len(letters)
        if len(letters) > 1 and b"MULTIAPPEND" not in server.capabilities:
            return b"BAD one message at a time"
        if len(letters) > server.most_letters:
            return b"NO [LIMIT] too many at once"
        if box is None:
            return b"NO [TRYCREATE] no such mailbox"
        refusals = [server.on_append(content) for _, _, content in letters]
        if refusal := next((refusal for refusal in refusals if refusal is not None), None):
            return refusal
        if any(server.refuses_flag(flag) for flags, _, _ in letters for flag in flags):
            return b"NO [CANNOT] no such flag"
        letters = [(flags, date, server.stored_form(content)) for flags, date, content in letters]
        if server.store_late(server.appends):
            server._late += [(box, content, flags, date) for flags, date, content in letters]
            raise ConnectionError("unanswered, as asked")
        uids = [box.store(content, flags, date).uid for flags, date, content in letters]
        places = b"%d" % uids[0] if len(uids) == 1 else b"%d:%d" % (uids[0], uids[-1])
        code = b"[APPENDUID %d %b] " % (box.uidvalidity, places) if b"UIDPLUS" in server.capabilities else b""
        return b"OK " + code + b"done"

    def do_uid_store(self, uids: bytes, change: bytes, flags: Token) -> bytes:
        assert self.box is not None
        for message in self._in_set(uids):
            self.box.flag(message.uid, change, [flag for flag in flags if isinstance(flag, bytes)])
        return b"OK done"

    def do_uid_expunge(self, uids: bytes) -> bytes:
        return self._expunge(self._in_set(uids))

    def do_expunge(self) -> bytes:
        assert self.box is not None
        return self._expunge(list(self.box.messages))

    def _expunge(self, messages: list[Kept]) -> bytes:
        assert self.box is not None
        for message in messages:
            if b"\\Deleted" in message.flags:
                self.writer.write(b"* %d EXPUNGE\r\n" % (self.box.messages.index(message) + 1))
                self.box.messages.remove(message)
        self.told = len(self.box.messages)
        return b"OK done"


def _letters(tokens: Sequence[Token]) -> list[tuple[list[bytes], bytes, bytes]]:
    """Flags, date and content of each message of APPEND; a literal is told from a date by what is before it."""
    letters: list[tuple[list[bytes], bytes, bytes]] = []
    flags: list[bytes] = []
    date = b""
    for token in tokens:
        if isinstance(token, list):
            flags = [flag for flag in token if isinstance(flag, bytes)]
        elif not isinstance(token, _Literal):
            date = token
        else:
            letters.append((flags, date, bytes(token)))
            flags, date = [], b""
    return letters


class _Literal(bytes):
    """An argument that came as a literal."""


def _tokens(text: bytes, literals: list[bytes]) -> list[Token]:
    stack: list[list[Token]] = [[]]
    for quoted, bracket, atom, literal in _TOKEN.findall(_join_header_fields(text)):
        if bracket == b"(":
            stack.append([])
        elif bracket == b")":
            done = stack.pop()
            stack[-1].append(done)
        elif literal:
            stack[-1].append(_Literal(literals[int(literal)]))
        elif atom:
            stack[-1].append(atom)
        else:
            stack[-1].append(re.sub(rb"\\(.)", rb"\1", quoted))
    return stack[0]


def _join_header_fields(text: bytes) -> bytes:
    """`BODY.PEEK[HEADER.FIELDS ("Date" "From")]` as one word."""
    return re.sub(
        rb"BODY\.PEEK\[HEADER\.FIELDS \(([^)]*)\)\]",
        lambda found: b"BODY.PEEK[HEADER.FIELDS/" + found[1].replace(b'"', b"").replace(b" ", b"/") + b"]",
        text,
    )


def _quoted(name: bytes) -> bytes:
    return b'"' + name.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
