"""LIST, LSUB and STATUS lines, and whose mailboxes a name may mean. Pure."""

from __future__ import annotations

from collections.abc import Container

from extauth.sandbox.imap_grammar import BadCommand, Cursor, astring, quoted
from extauth.sandbox.mailstore import Mailbox, MailStore, name_pattern


class MailUser:
    """Who is logged in, and which store a mailbox name belongs to."""

    def __init__(self, name: str, store: MailStore) -> None:
        self.name = name
        self.store = store

    @property
    def other_users(self) -> bytes:
        """The prefix of other users' mailboxes; b"" when there are none."""
        return b""

    def locate(self, name: bytes) -> tuple[MailStore, bytes, bytes]:
        """The store that holds `name`, the name within it, and the prefix to put before names of that store."""
        return self.store, name, b""


def status_line(box: Mailbox, name: bytes, items: list[bytes]) -> bytes:
    """STATUS's reply."""
    values = {
        b"MESSAGES": len(box.messages),
        b"RECENT": sum(1 for m in box.messages if m.recent),
        b"UIDNEXT": box.uidnext,
        b"UIDVALIDITY": box.uidvalidity,
        b"UNSEEN": sum(1 for m in box.messages if b"\\Seen" not in m.flags),
        b"DELETED": sum(1 for m in box.messages if b"\\Deleted" in m.flags),
        b"SIZE": box.size,
    }
    unknown = [item for item in items if item not in values]
    if unknown or not items:
        raise BadCommand("unknown status item")
    shown = b" ".join(item + b" %d" % values[item] for item in items)
    return b"* STATUS " + astring(name) + b" (" + shown + b")\r\n"


class Listing:
    """LIST and LSUB of one session (RFC 9051 6.3.9, RFC 3501 6.3.9)."""

    def __init__(self, user: MailUser, extensions: Container[str]) -> None:
        self._user = user
        self._extensions = extensions

    def listing(self, cursor: Cursor) -> list[bytes]:
        """LIST, with selection and return options where LIST-EXTENDED is offered."""
        selection = cursor.flags() if cursor.peek(b"(") else []
        if selection or cursor.peek(b" "):
            cursor.space()
        wanted = {option.upper() for option in selection}
        reference = cursor.mailbox()
        cursor.space()
        patterns = self._patterns(cursor)
        status, returned = self._returns(cursor)
        cursor.end()
        if patterns == [b""] and not wanted:
            return [b'* LIST (\\Noselect) %s ""\r\n' % self._separator(self._user.store)]
        lines: list[bytes] = []
        for pattern in patterns:
            lines += self._matching(reference + pattern, wanted, returned, status)
        return lines

    def _patterns(self, cursor: Cursor) -> list[bytes]:
        if not cursor.skip(b"("):
            return [cursor.list_mailbox()]
        patterns = [cursor.list_mailbox()]
        while not cursor.skip(b")"):
            cursor.space()
            patterns.append(cursor.list_mailbox())
        return patterns

    def _returns(self, cursor: Cursor) -> tuple[list[bytes], set[bytes]]:
        status: list[bytes] = []
        returned: set[bytes] = set()
        if cursor.skip(b" RETURN ("):
            while not cursor.skip(b")"):
                cursor.skip(b" ")
                option = cursor.word()
                returned.add(option)
                if option == b"STATUS":
                    cursor.space()
                    status = cursor.words()
        return status, returned

    def _matching(self, pattern: bytes, wanted: set[bytes], returned: set[bytes], status: list[bytes]) -> list[bytes]:
        store, inner, prefix = self._user.locate(pattern)
        matches = name_pattern(store.canonical(inner), store.separator)
        lines: list[bytes] = []
        for box in sorted(store, key=lambda b: (b.name != b"INBOX", b.name)):
            subscribed = box.name in store.subscriptions
            if not matches.fullmatch(box.name) or (b"SUBSCRIBED" in wanted and not subscribed):
                continue
            if b"SPECIAL-USE" in wanted and not box.special:
                continue
            attributes = self._attributes(store, box)
            if subscribed and {b"SUBSCRIBED"} & (wanted | returned):
                attributes.append(b"\\Subscribed")
            name = prefix + box.name
            lines.append(self._line(b"LIST", attributes, store, name))
            if status and box.selectable:
                lines.append(status_line(box, name, status))
        if b"SUBSCRIBED" in wanted:
            gone = [n for n in store.subscriptions if n not in store.mailboxes and matches.fullmatch(n)]
            lines += [self._line(b"LIST", [b"\\NonExistent", b"\\Subscribed"], store, prefix + n) for n in gone]
        return lines

    def lsub(self, cursor: Cursor) -> list[bytes]:
        """LSUB: what is subscribed; with `%` also the levels above it."""
        reference = cursor.mailbox()
        cursor.space()
        pattern = reference + cursor.list_mailbox()
        cursor.end()
        store, inner, prefix = self._user.locate(pattern)
        matches = name_pattern(store.canonical(inner), store.separator)
        lines = []
        for name in store.subscriptions:
            if matches.fullmatch(name):
                box = store.mailboxes.get(name)
                attributes = [] if box is not None and box.selectable else [b"\\Noselect"]
                lines.append(self._line(b"LSUB", attributes, store, prefix + name))
        if pattern.endswith(b"%"):
            above = {n[: m.end()] for n in store.subscriptions if (m := matches.match(n)) and m.end() < len(n)}
            hidden = sorted(above - set(store.subscriptions) - {b""})
            lines += [self._line(b"LSUB", [b"\\Noselect"], store, prefix + n) for n in hidden]
        return lines

    def _attributes(self, store: MailStore, box: Mailbox) -> list[bytes]:
        attributes = [] if box.selectable else [b"\\Noselect"]
        if "CHILDREN" in self._extensions:
            attributes.append(b"\\HasChildren" if store.has_children(box.name) else b"\\HasNoChildren")
        if "SPECIAL-USE" in self._extensions:
            attributes += box.special
        return attributes

    def _separator(self, store: MailStore) -> bytes:
        return quoted(store.separator) if store.separator else b"NIL"

    def _line(self, word: bytes, attributes: list[bytes], store: MailStore, name: bytes) -> bytes:
        shown = b"(" + b" ".join(attributes) + b") " + self._separator(store) + b" " + astring(name)
        return b"* " + word + b" " + shown + b"\r\n"
