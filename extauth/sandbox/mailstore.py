"""Mailboxes in memory: messages byte for byte, UIDs, flags, dates, subscriptions and access lists. No socket, no clock.

Names are the bytes IMAP uses (modified UTF-7) with the store's own separator; INBOX matches in any case.
A refusal is a MailboxError with the response code that IMAP has for it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count

_UIDVALIDITY = count(1_700_000_001)  # every mailbox ever made in this process has its own

SYSTEM_FLAGS = (b"\\Answered", b"\\Flagged", b"\\Deleted", b"\\Seen", b"\\Draft")
_CANONICAL = {flag.lower(): flag for flag in SYSTEM_FLAGS}


class MailboxError(Exception):
    """What a store refuses; `code` is the IMAP response code or empty."""

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.code = code


@dataclass(slots=True)
class Message:
    """One stored message."""

    uid: int
    data: bytes
    flags: set[bytes]
    date: datetime  # INTERNALDATE, aware, whole seconds
    recent: bool = True

    @property
    def digest(self) -> str:
        """SHA-256 of its bytes, in hex."""
        return hashlib.sha256(self.data).hexdigest()


def canonical_flag(flag: bytes) -> bytes:
    """System flags in their own spelling; keywords as they came (they match in any case)."""
    return _CANONICAL.get(flag.lower(), flag)


@dataclass(slots=True)
class Mailbox:
    """One mailbox; `messages` ascend by UID."""

    name: bytes
    uidvalidity: int = field(default_factory=lambda: next(_UIDVALIDITY))
    uidnext: int = 1
    messages: list[Message] = field(default_factory=list)
    selectable: bool = True
    special: tuple[bytes, ...] = ()  # RFC 6154 attributes, such as \\Sent
    keywords: dict[bytes, bytes] = field(default_factory=dict)  # lower-case: as first spelt
    permanent: bool = True  # whether new keywords may be made
    acl: dict[str, str] = field(default_factory=dict)
    kind: str = ""  # CommuniGate's mailbox class
    version: int = 0  # grows with every change, so that sessions know when to look

    def add(self, data: bytes, flags: Iterable[bytes] = (), date: datetime | None = None) -> Message:
        """Store one message under the next UID; byte for byte."""
        moment = (date or datetime.now(UTC)).replace(microsecond=0)
        message = Message(self.uidnext, data, self.known(flags), moment)
        self.uidnext += 1
        self.messages.append(message)
        self.version += 1
        return message

    def known(self, flags: Iterable[bytes]) -> set[bytes]:
        r"""The flags as this mailbox spells them; \Recent is the server's own and left out."""
        spelt = set()
        for flag in flags:
            if flag.startswith(b"\\"):
                if flag.lower() != b"\\recent":
                    spelt.add(canonical_flag(flag))
            elif self.permanent or flag.lower() in self.keywords:
                spelt.add(self.keywords.setdefault(flag.lower(), flag))
        return spelt

    def expunge(self, uids: set[int] | None = None) -> list[int]:
        r"""Remove messages that are \Deleted (and in `uids`, where given); the UIDs that went."""
        gone = [m.uid for m in self.messages if b"\\Deleted" in m.flags and (uids is None or m.uid in uids)]
        self.remove(set(gone))
        return gone

    def remove(self, uids: set[int]) -> None:
        """Remove these messages."""
        if uids:
            self.messages = [m for m in self.messages if m.uid not in uids]
            self.version += 1

    @property
    def size(self) -> int:
        """Bytes of all messages."""
        return sum(len(m.data) for m in self.messages)


class MailStore:
    """The mailboxes of one account."""

    def __init__(
        self,
        separator: bytes = b"/",
        *,
        check_name: Callable[[bytes], None] | None = None,
        quota: int | None = None,
        prefix: bytes = b"",
        makes_parents: bool = True,
    ) -> None:
        self.separator = separator
        self.prefix = prefix  # of the personal namespace, such as INBOX.
        self.makes_parents = makes_parents  # levels above a new mailbox can hold mail; False: they are Noselect
        self.mailboxes: dict[bytes, Mailbox] = {b"INBOX": Mailbox(b"INBOX")}
        self.subscriptions: list[bytes] = []
        self.quota = quota  # bytes; None: no limit
        self._check_name = check_name

    def __iter__(self) -> Iterator[Mailbox]:
        return iter(self.mailboxes.values())

    @property
    def inbox(self) -> Mailbox:
        """Where mail is delivered."""
        return self.mailboxes[b"INBOX"]

    @property
    def size(self) -> int:
        """Bytes of all messages of the account."""
        return sum(box.size for box in self)

    def canonical(self, name: bytes) -> bytes:
        """INBOX in its own spelling, also as the first level of a deeper name."""
        first, separator, rest = name.partition(self.separator)
        return b"INBOX" + separator + rest if first.upper() == b"INBOX" else name

    def find(self, name: bytes) -> Mailbox | None:
        """The mailbox, or None."""
        return self.mailboxes.get(self.canonical(name))

    def get(self, name: bytes, code: str = "NONEXISTENT") -> Mailbox:
        """The selectable mailbox; MailboxError when there is none."""
        box = self.find(name)
        if box is None or not box.selectable:
            raise MailboxError("Mailbox does not exist", code)
        return box

    def create(self, name: bytes, *, special: tuple[bytes, ...] = ()) -> Mailbox:
        """Make a mailbox and the levels above it (RFC 9051 6.3.4)."""
        name = self.canonical(name)
        if name.endswith(self.separator):
            name = name[: -len(self.separator)]
        levels = name.split(self.separator)
        if not name or not all(levels):
            raise MailboxError("Invalid mailbox name", "CANNOT")
        old = self.mailboxes.get(name)
        if old is not None and old.selectable:
            raise MailboxError("Mailbox already exists", "ALREADYEXISTS")
        if not name.startswith(self.prefix):
            raise MailboxError("Mailboxes here begin with " + self.prefix.decode("ascii", "replace"), "CANNOT")
        if self._check_name is not None:
            self._check_name(name)
        for depth in range(1, len(levels)):
            parent = self.separator.join(levels[:depth])
            if parent not in self.mailboxes:
                self.mailboxes[parent] = Mailbox(parent, selectable=self.makes_parents)
        box = Mailbox(name, special=special)
        self.mailboxes[name] = box
        return box

    def delete(self, name: bytes) -> None:
        """Remove a mailbox; one with children becomes a level without mail."""
        box = self.find(name)
        if box is None:
            raise MailboxError("Mailbox does not exist", "NONEXISTENT")
        if box.name == b"INBOX":
            raise MailboxError("INBOX cannot be deleted", "CANNOT")
        has_children = any(other.startswith(box.name + self.separator) for other in self.mailboxes)
        if has_children:
            if not box.selectable:
                raise MailboxError("Mailbox has children", "HASCHILDREN")
            self.mailboxes[box.name] = Mailbox(box.name, selectable=False)
        else:
            del self.mailboxes[box.name]
        box.messages = []
        box.version += 1

    def rename(self, name: bytes, new_name: bytes) -> None:
        """Rename a mailbox and what is below it; INBOX moves its mail instead (RFC 9051 6.3.6)."""
        new_name = self.canonical(new_name)
        box = self.find(name)
        if box is None:
            raise MailboxError("Mailbox does not exist", "NONEXISTENT")
        if self.find(new_name) is not None:
            raise MailboxError("Mailbox already exists", "ALREADYEXISTS")
        if box.name == b"INBOX":
            target = self.create(new_name)
            for message in box.messages:
                target.add(message.data, message.flags, message.date)
            box.remove({m.uid for m in box.messages})
            return
        if new_name.startswith(box.name + self.separator):
            raise MailboxError("A mailbox cannot move below itself", "CANNOT")
        placeholder = self.create(new_name)
        del self.mailboxes[placeholder.name]
        for old in [n for n in self.mailboxes if n == box.name or n.startswith(box.name + self.separator)]:
            moved = self.mailboxes.pop(old)
            moved.name = new_name + old[len(box.name) :]
            self.mailboxes[moved.name] = moved

    def subscribe(self, name: bytes) -> None:
        """Remember a name; it need not exist (RFC 9051 6.3.7)."""
        name = self.canonical(name)
        if name not in self.subscriptions:
            self.subscriptions.append(name)

    def unsubscribe(self, name: bytes) -> None:
        """Forget a name; MailboxError when it was not subscribed."""
        name = self.canonical(name)
        if name not in self.subscriptions:
            raise MailboxError("Not subscribed")
        self.subscriptions.remove(name)

    def room_for(self, size: int) -> bool:
        """Whether the quota allows `size` more bytes."""
        return self.quota is None or self.size + size <= self.quota

    def has_children(self, name: bytes) -> bool:
        """Whether a mailbox lies below `name`."""
        return any(other.startswith(name + self.separator) for other in self.mailboxes)


def name_pattern(pattern: bytes, separator: bytes) -> re.Pattern[bytes]:
    """LIST's pattern as a regular expression: `*` is anything, `%` anything up to a separator; INBOX in any case."""
    parts = []
    for byte in (pattern[i : i + 1] for i in range(len(pattern))):
        if byte == b"*":
            parts.append(b".*")
        elif byte == b"%":
            parts.append(b"[^" + re.escape(separator) + b"]*" if separator else b".*")
        else:
            parts.append(re.escape(byte))
    return re.compile(b"".join(parts), re.DOTALL)
