"""A stored message as FETCH shows it: sections, ENVELOPE and BODYSTRUCTURE (RFC 9051 7.5.2). Never alters a byte."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.utils import getaddresses

from extauth.sandbox.imap_grammar import nstring, quoted

_HEADER_END = re.compile(rb"\r?\n\r?\n")
_FIELD = re.compile(rb"^([\x21-\x39\x3b-\x7e]+)[ \t]*:[ \t]*((?:.*)(?:\r?\n[ \t].*)*)(?:\r?\n|\Z)", re.MULTILINE)
_PARAMETER = re.compile(rb';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))')
_DEPTH = 20  # nested multiparts read; deeper ones count as plain parts


@dataclass(slots=True)
class Part:
    """One MIME part: where its header and body lie, and its type."""

    header: bytes
    body: bytes
    kind: bytes = b"TEXT"
    subtype: bytes = b"PLAIN"
    parameters: list[tuple[bytes, bytes]] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    inner: Part | None = None  # of a message/rfc822

    def header_fields(self) -> list[tuple[bytes, bytes]]:
        """Name and unfolded value of each field, in order."""
        return [(m[1], re.sub(rb"\r?\n(?=[ \t])", b"", m[2]).strip()) for m in _FIELD.finditer(self.header)]

    def field(self, name: bytes) -> bytes | None:
        """The value of the first field of this name."""
        return next((value for key, value in self.header_fields() if key.lower() == name.lower()), None)


def parse_message(data: bytes, depth: int = 0, default: bytes = b"text/plain") -> Part:
    """The part tree of a message or a MIME part."""
    header, body = split_header(data)
    part = Part(header, body)
    content_type = part.field(b"content-type") or default
    kind, _, subtype = content_type.split(b";", 1)[0].strip().partition(b"/")
    if kind and subtype.strip():
        part.kind, part.subtype = kind.strip().upper(), subtype.strip().upper()
    else:
        content_type = default
    part.parameters = [
        (m[1].upper(), re.sub(rb"\\(.)", rb"\1", m[2]) if m[2] is not None else m[3])
        for m in _PARAMETER.finditer(content_type)
    ]
    if depth >= _DEPTH:
        return part
    boundary = dict(part.parameters).get(b"BOUNDARY")
    if part.kind == b"MULTIPART" and boundary:
        inner_default = b"message/rfc822" if part.subtype == b"DIGEST" else b"text/plain"
        part.parts = [parse_message(piece, depth + 1, inner_default) for piece in _pieces(body, boundary)]
    elif (part.kind, part.subtype) == (b"MESSAGE", b"RFC822"):
        part.inner = parse_message(body, depth + 1)
    return part


def split_header(data: bytes) -> tuple[bytes, bytes]:
    """Header with the empty line that ends it, and body."""
    if data.startswith((b"\r\n", b"\n")):
        cut = 2 if data.startswith(b"\r\n") else 1
        return data[:cut], data[cut:]
    match = _HEADER_END.search(data)
    return (data[: match.end()], data[match.end() :]) if match else (data, b"")


def _pieces(body: bytes, boundary: bytes) -> list[bytes]:
    delimiter = re.compile(rb"(?:\A|\r?\n)--" + re.escape(boundary) + rb"(--)?[ \t]*(?=\r?\n|\Z)")
    found = list(delimiter.finditer(body))
    pieces = []
    for index, match in enumerate(found):
        if match[1]:
            break
        start = body.find(b"\n", match.end()) + 1
        if not start:
            break
        end = found[index + 1].start() if index + 1 < len(found) else len(body)
        pieces.append(body[start : max(start, end)])
    return pieces


def section(message: bytes, path: Sequence[int], what: bytes, names: Sequence[bytes] = ()) -> bytes | None:
    """BODY[path.what]'s bytes; None for a part that is not there. `what`: "", HEADER, HEADER.FIELDS, TEXT, MIME."""
    if not path and not what:
        return message
    if not path:
        header, body = split_header(message)
        return body if what == b"TEXT" else _header(header, what, names)
    part = _descend(parse_message(message), path)
    if part is None:
        return None
    if not what:
        return part.body
    if what == b"MIME":
        return part.header
    inner = part.inner
    if inner is None:
        return None
    return inner.body if what == b"TEXT" else _header(inner.header, what, names)


def _descend(part: Part, path: Sequence[int]) -> Part | None:
    for depth, number in enumerate(path):
        holder = part.inner if part.inner is not None and depth else part
        if holder.parts:
            if number > len(holder.parts):
                return None
            part = holder.parts[number - 1]
        elif number == 1:
            part = holder
        else:
            return None
    return part


def _header(header: bytes, what: bytes, names: Sequence[bytes]) -> bytes:
    if what == b"HEADER":
        return header
    wanted = {name.lower() for name in names}
    inverse = what == b"HEADER.FIELDS.NOT"
    kept = [m[0] for m in _FIELD.finditer(header) if (m[1].lower() in wanted) != inverse]
    return b"".join(line if line.endswith(b"\n") else line + b"\r\n" for line in kept) + b"\r\n"


def envelope(part: Part) -> bytes:
    """ENVELOPE."""
    sender = part.field(b"from")
    items = [nstring(part.field(b"date")), nstring(part.field(b"subject")), _addresses(sender)]
    items += [_addresses(part.field(name) or sender) for name in (b"sender", b"reply-to")]
    items += [_addresses(part.field(name)) for name in (b"to", b"cc", b"bcc")]
    items += [nstring(part.field(b"in-reply-to")), nstring(part.field(b"message-id"))]
    return b"(" + b" ".join(items) + b")"


def _addresses(value: bytes | None) -> bytes:
    if not value:
        return b"NIL"
    found = []
    for name, address in getaddresses([value.decode("latin-1")]):
        if not address and not name:
            continue
        local, _, host = address.rpartition("@")
        parts = [name or None, None, local or address, host if local else ""]
        found.append(b"(" + b" ".join(nstring(None if p is None else p.encode("latin-1")) for p in parts) + b")")
    return b"(" + b"".join(found) + b")" if found else b"NIL"


def body_structure(part: Part, *, extended: bool) -> bytes:
    """BODYSTRUCTURE, or BODY when not `extended`."""
    if part.kind == b"MULTIPART":
        inner = b"".join(body_structure(p, extended=extended) for p in part.parts) or _EMPTY_TEXT
        text = b"(" + inner + b" " + quoted(part.subtype)
        if extended:
            text += b" " + _parameters(part.parameters) + b" " + _extension(part)
        return text + b")"
    items = [
        quoted(part.kind),
        quoted(part.subtype),
        _parameters(part.parameters or ([(b"CHARSET", b"US-ASCII")] if part.kind == b"TEXT" else [])),
        nstring(part.field(b"content-id")),
        nstring(part.field(b"content-description")),
        quoted((part.field(b"content-transfer-encoding") or b"7BIT").upper()),
        b"%d" % len(part.body),
    ]
    if part.inner is not None:
        items += [envelope(part.inner), body_structure(part.inner, extended=extended), _lines(part.body)]
    elif part.kind == b"TEXT":
        items.append(_lines(part.body))
    if extended:
        items += [nstring(part.field(b"content-md5")), _extension(part)]
    return b"(" + b" ".join(items) + b")"


_EMPTY_TEXT = b'("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 0 0)'


def _lines(body: bytes) -> bytes:
    return b"%d" % body.count(b"\n")


def _parameters(parameters: Sequence[tuple[bytes, bytes]]) -> bytes:
    if not parameters:
        return b"NIL"
    return b"(" + b" ".join(quoted(key) + b" " + quoted(value) for key, value in parameters) + b")"


def _extension(part: Part) -> bytes:
    """Disposition, language and location."""
    disposition = part.field(b"content-disposition")
    shown = b"NIL"
    if disposition:
        kind = disposition.split(b";", 1)[0].strip()
        found = [(m[1].upper(), m[2] if m[2] is not None else m[3]) for m in _PARAMETER.finditer(disposition)]
        shown = b"(" + quoted(kind.upper()) + b" " + _parameters(found) + b")"
    language = part.field(b"content-language")
    return b" ".join([shown, nstring(language), nstring(part.field(b"content-location"))])
