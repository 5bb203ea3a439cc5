"""FETCH: reads the items that are asked for and renders them (RFC 9051 6.4.5, and the old RFC822 items). Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from extauth.sandbox.imap_grammar import BadCommand, Cursor, literal, render_date_time
from extauth.sandbox.imap_message import body_structure, envelope, parse_message, section
from extauth.sandbox.mailstore import Message

_MACROS = {
    b"ALL": (b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE", b"ENVELOPE"),
    b"FAST": (b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE"),
    b"FULL": (b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE", b"ENVELOPE", b"BODY"),
}
_PLAIN = frozenset(
    {
        b"FLAGS",
        b"INTERNALDATE",
        b"RFC822.SIZE",
        b"ENVELOPE",
        b"BODY",
        b"BODYSTRUCTURE",
        b"UID",
        b"RFC822",
        b"RFC822.PEEK",
        b"RFC822.HEADER",
        b"RFC822.TEXT",
    }
)
_ITEM = re.compile(rb"[A-Za-z0-9.]+")
_SECTION = re.compile(
    rb"((?:[1-9][0-9]*)(?:\.[1-9][0-9]*)*)?\.?(HEADER\.FIELDS\.NOT|HEADER\.FIELDS|HEADER|TEXT|MIME)?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to fetch. A section has its name as it goes back to the client."""

    name: bytes
    path: tuple[int, ...] = ()
    what: bytes = b""
    fields: tuple[bytes, ...] = ()
    start: int | None = None
    count: int = 0
    peek: bool = False

    @property
    def is_section(self) -> bool:
        """Whether this is BODY[...]."""
        return self.name.startswith(b"BODY[")

    @property
    def sets_seen(self) -> bool:
        r"""Whether fetching it marks the message \Seen."""
        return (self.is_section and not self.peek) or self.name in (b"RFC822", b"RFC822.TEXT")


def parse_items(cursor: Cursor, unknown: frozenset[bytes] = frozenset()) -> list[Item]:
    """A macro, one item, or items in parentheses; those in `unknown` are no items to this server."""
    for macro, names in _MACROS.items():
        if cursor.rest.upper() == macro:
            cursor.skip(macro)
            return [Item(name) for name in names]
    if not cursor.skip(b"("):
        return [_item(cursor, unknown)]
    items = [_item(cursor, unknown)]
    while not cursor.skip(b")"):
        cursor.space()
        items.append(_item(cursor, unknown))
    return items


def _item(cursor: Cursor, unknown: frozenset[bytes]) -> Item:
    name = cursor.match(_ITEM, "a fetch item").upper()
    if name in unknown:
        raise BadCommand("unknown fetch item")
    if name in (b"BODY", b"BODY.PEEK") and cursor.peek(b"["):
        return _section_item(cursor, peek=name == b"BODY.PEEK")
    if name not in _PLAIN:
        raise BadCommand("unknown fetch item")
    return Item(name)


def _section_item(cursor: Cursor, *, peek: bool) -> Item:
    cursor.need(b"[")
    text = cursor.match(_SECTION, "a section").upper()
    found = _SECTION.fullmatch(text)
    assert found is not None
    path = tuple(int(n) for n in found[1].split(b".")) if found[1] else ()
    what = found[2] or b""
    if what == b"MIME" and not path:
        raise BadCommand("MIME needs a part number")
    fields: list[bytes] = []
    if what.startswith(b"HEADER.FIELDS"):
        cursor.space()
        cursor.need(b"(")
        while not cursor.skip(b")"):
            if fields:
                cursor.space()
            fields.append(cursor.astring())
        text += b" (" + b" ".join(fields) + b")"
    cursor.need(b"]")
    shown = b"BODY[" + text + b"]"
    if not cursor.skip(b"<"):
        return Item(shown, path, what, tuple(fields), peek=peek)
    start = cursor.number()
    cursor.need(b".")
    count = cursor.number()
    cursor.need(b">")
    return Item(shown + b"<%d>" % start, path, what, tuple(fields), start, count, peek)


def render_items(items: Sequence[Item], message: Message, flags: bytes) -> bytes:
    """The items of one message, without the parentheses; `flags` as this session sees them."""
    return b" ".join(_render(item, message, flags) for item in items)


def _render(item: Item, message: Message, flags: bytes) -> bytes:
    if item.is_section:
        data = section(message.data, item.path, item.what, item.fields)
        if data is None:
            return item.name + b" NIL"
        if item.start is not None:
            data = data[item.start : item.start + item.count]
        return item.name + b" " + literal(data)
    if item.name == b"FLAGS":
        return b"FLAGS (" + flags + b")"
    if item.name == b"UID":
        return b"UID %d" % message.uid
    if item.name == b"RFC822.SIZE":
        return b"RFC822.SIZE %d" % len(message.data)
    if item.name == b"INTERNALDATE":
        return b"INTERNALDATE " + render_date_time(message.date)
    if item.name in (b"RFC822", b"RFC822.PEEK"):
        return b"RFC822 " + literal(message.data)
    if item.name in (b"RFC822.HEADER", b"RFC822.TEXT"):
        return item.name + b" " + literal(section(message.data, (), item.name[7:]) or b"")
    part = parse_message(message.data)
    if item.name == b"ENVELOPE":
        return b"ENVELOPE " + envelope(part)
    return item.name + b" " + body_structure(part, extended=item.name == b"BODYSTRUCTURE")
