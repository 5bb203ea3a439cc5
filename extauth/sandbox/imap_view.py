"""A selected mailbox as one IMAP session sees it: its numbers, what it was told, and the commands on messages. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from extauth.sandbox.imap_fetch import Item, parse_items, render_items
from extauth.sandbox.imap_grammar import BadCommand, Cursor, Numbers, uid_set
from extauth.sandbox.imap_search import Candidate, Known, parse_search
from extauth.sandbox.mailstore import SYSTEM_FLAGS, Mailbox, MailboxError, MailStore, Message


class View:
    """The numbers this session gave to messages; they change only when it is told so."""

    def __init__(self, box: Mailbox, *, read_only: bool) -> None:
        self.box = box
        self.read_only = read_only
        self.uids = [m.uid for m in box.messages]
        self.recent = {m.uid for m in box.messages if m.recent}
        self._flags = {m.uid: frozenset(m.flags) for m in box.messages}
        self._version = box.version
        self._index: dict[int, Message] = {}
        self._index_key = (-1, 0, 0)
        if not read_only:
            for message in box.messages:
                message.recent = False

    def greeting(self) -> list[bytes]:
        """The untagged replies to SELECT and EXAMINE (RFC 9051 6.3.2, with RFC 3501's RECENT and UNSEEN)."""
        keywords = list(self.box.keywords.values())
        permanent = [*SYSTEM_FLAGS, *keywords, *([b"\\*"] if self.box.permanent else [])]
        lines = [
            b"* FLAGS (" + b" ".join([*SYSTEM_FLAGS, *keywords]) + b")\r\n",
            b"* OK [PERMANENTFLAGS (" + (b"" if self.read_only else b" ".join(permanent)) + b")] limited\r\n",
            b"* %d EXISTS\r\n" % len(self.uids),
            b"* %d RECENT\r\n" % len(self.recent),
            b"* OK [UIDVALIDITY %d] UIDs valid\r\n" % self.box.uidvalidity,
            b"* OK [UIDNEXT %d] predicted next UID\r\n" % self.box.uidnext,
        ]
        unseen = next((n for n, m in enumerate(self.box.messages, 1) if b"\\Seen" not in m.flags), None)
        if unseen is not None:
            lines.insert(4, b"* OK [UNSEEN %d] first unseen\r\n" % unseen)
        return lines

    def updates(self, *, expunge: bool = True) -> list[bytes]:
        """What changed since the session was last told; EXPUNGE only where the protocol allows it."""
        if self._version == self.box.version:
            return []
        present = self._by_uid()
        gone = [n for n, uid in enumerate(self.uids, 1) if uid not in present]
        lines: list[bytes] = []
        if gone and expunge:
            for number in reversed(gone):
                lines.append(b"* %d EXPUNGE\r\n" % number)
                uid = self.uids.pop(number - 1)
                self._flags.pop(uid, None)
                self.recent.discard(uid)
        lines += self._news(present)
        if expunge or not gone:
            self._version = self.box.version
        return lines

    def _news(self, present: dict[int, Message]) -> list[bytes]:
        lines: list[bytes] = []
        for number, uid in enumerate(self.uids, 1):
            message = present.get(uid)
            if message is not None and self._flags[uid] != message.flags:
                self._flags[uid] = frozenset(message.flags)
                lines.append(b"* %d FETCH (UID %d FLAGS (%s))\r\n" % (number, uid, self.flags_of(message)))
        last = self.uids[-1] if self.uids else 0
        new = [m for m in self.box.messages if m.uid > last]
        if new:
            for message in new:
                self.uids.append(message.uid)
                self._flags[message.uid] = frozenset(message.flags)
                if message.recent:
                    self.recent.add(message.uid)
                    message.recent = self.read_only
            lines.append(b"* %d EXISTS\r\n" % len(self.uids))
            lines.append(b"* %d RECENT\r\n" % len(self.recent))
        return lines

    def flags_of(self, message: Message) -> bytes:
        r"""The flags as this session shows them, \Recent included."""
        flags = sorted(message.flags)
        if message.uid in self.recent:
            flags.append(b"\\Recent")
        return b" ".join(flags)

    def chosen(self, numbers: Numbers, *, by_uid: bool) -> list[tuple[int, Message]]:
        """Number and message of each member of a set that is still there. BadCommand for a number there is not."""
        if not by_uid and (numbers.highest() > len(self.uids) or (b"*" in numbers.text and not self.uids)):
            raise BadCommand("no such message number")
        present = self._by_uid()
        if by_uid:
            wanted = [uid for uid in numbers.of(self.uids) if uid in present]
            return [(bisect_left(self.uids, uid) + 1, present[uid]) for uid in wanted]
        pairs = [(n, self.uids[n - 1]) for n in numbers.of(range(1, len(self.uids) + 1))]
        return [(n, present[uid]) for n, uid in pairs if uid in present]

    def _by_uid(self) -> dict[int, Message]:
        """The mailbox's messages by UID, kept from one command to the next: clients fetch one message at a time."""
        messages = self.box.messages
        key = (self.box.version, id(messages), len(messages))
        if key != self._index_key:
            self._index, self._index_key = {m.uid: m for m in messages}, key
        return self._index

    def _writable(self) -> None:
        if self.read_only:
            raise MailboxError("Mailbox is read-only", "READ-ONLY")

    # -- commands ------------------------------------------------------------------------------------------------------

    def fetch(self, cursor: Cursor, *, by_uid: bool, unknown: frozenset[bytes] = frozenset()) -> list[bytes]:
        """FETCH and UID FETCH; BadCommand for an item that this server is not to know."""
        numbers = cursor.sequence_set()
        cursor.space()
        items = parse_items(cursor, unknown)
        cursor.end()
        if by_uid and all(item.name != b"UID" for item in items):
            items.insert(0, Item(b"UID"))
        lines = []
        for number, message in self.chosen(numbers, by_uid=by_uid):
            shown = items
            if not self.read_only and b"\\Seen" not in message.flags and any(item.sets_seen for item in items):
                message.flags.add(b"\\Seen")
                self._touched(message)
                if all(item.name != b"FLAGS" for item in items):
                    shown = [*items, Item(b"FLAGS")]
            rendered = render_items(shown, message, self.flags_of(message))
            lines.append(b"* %d FETCH (" % number + rendered + b")\r\n")
        return lines

    def store(self, cursor: Cursor, *, by_uid: bool) -> list[bytes]:
        """STORE and UID STORE."""
        self._writable()
        numbers = cursor.sequence_set()
        cursor.space()
        sign = b"+" if cursor.skip(b"+") else b"-" if cursor.skip(b"-") else b""
        cursor.need(b"FLAGS")
        silent = cursor.skip(b".SILENT")
        cursor.space()
        given = cursor.bare_flags()
        cursor.end()
        lines = []
        for number, message in self.chosen(numbers, by_uid=by_uid):
            self._change(message, sign, given)
            if not silent:
                uid = b"UID %d " % message.uid if by_uid else b""
                lines.append(b"* %d FETCH (%sFLAGS (%s))\r\n" % (number, uid, self.flags_of(message)))
        return lines

    def _change(self, message: Message, sign: bytes, given: Sequence[bytes]) -> None:
        flags = self.box.known(given)
        if sign == b"-":
            lowered = {f.lower() for f in flags}
            message.flags -= {f for f in message.flags if f.lower() in lowered}
        elif sign == b"+":
            message.flags |= flags
        else:
            message.flags = flags
        self._touched(message)

    def _touched(self, message: Message) -> None:
        """A change this session made itself: others are told, it is not."""
        told = self._version == self.box.version
        self.box.version += 1
        self._flags[message.uid] = frozenset(message.flags)
        if told:
            self._version = self.box.version

    def search(self, cursor: Cursor, tag: bytes, *, by_uid: bool, extended: bool) -> list[bytes]:
        """SEARCH and UID SEARCH; RETURN options where `extended` (RFC 4731)."""
        options: list[bytes] | None = None
        if extended and cursor.skip(b"RETURN "):
            options = cursor.words()
            cursor.space()
        test = parse_search(cursor)
        present = self._by_uid()
        known = Known(range(1, len(self.uids) + 1), self.uids)
        found = [
            uid if by_uid else number
            for number, uid in enumerate(self.uids, 1)
            if uid in present and test(Candidate(number, present[uid], uid in self.recent), known)
        ]
        if options is None:
            return [b"* SEARCH" + b"".join(b" %d" % n for n in found) + b"\r\n"]
        return [_esearch(found, options, tag, by_uid=by_uid)]

    def expunge(self, uids: Numbers | None = None) -> tuple[list[bytes], list[int]]:
        """EXPUNGE, or UID EXPUNGE with a set; the replies, and the UIDs that went."""
        self._writable()
        wanted = None if uids is None else set(uids.of(self.uids))
        gone = self.box.expunge(wanted)
        return self.updates(), gone

    def copy(
        self, numbers: Numbers, store: MailStore, name: bytes, *, by_uid: bool
    ) -> tuple[Mailbox, list[Message], list[Message]]:
        """COPY: the target, the messages, and their copies. All or none."""
        target = store.get(name, "TRYCREATE")
        messages = [message for _, message in self.chosen(numbers, by_uid=by_uid)]
        if not store.room_for(sum(len(m.data) for m in messages)):
            raise MailboxError("Quota exceeded", "OVERQUOTA")
        copies = [target.add(m.data, m.flags, m.date) for m in messages]
        return target, messages, copies

    def move(self, messages: Iterable[Message]) -> list[bytes]:
        """The second half of MOVE."""
        self._writable()
        self.box.remove({m.uid for m in messages})
        return self.updates()


def _esearch(found: list[int], options: list[bytes], tag: bytes, *, by_uid: bool) -> bytes:
    parts = [b'* ESEARCH (TAG "' + tag + b'")']
    if by_uid:
        parts.append(b"UID")
    wanted = options or [b"ALL"]
    if found and b"MIN" in wanted:
        parts.append(b"MIN %d" % found[0])
    if found and b"MAX" in wanted:
        parts.append(b"MAX %d" % found[-1])
    if found and b"ALL" in wanted:
        parts.append(b"ALL " + uid_set(found))
    if b"COUNT" in wanted:
        parts.append(b"COUNT %d" % len(found))
    return b" ".join(parts) + b"\r\n"
