"""A stored message as IMAP shows it: lines end in CRLF, and headers in which an mbox keeps its own notes are left out.

Nothing else is changed: a bare CR, a NUL and `>From ` stay as they stand in the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

HEADER_LIMIT: Final = 1 << 20  # bytes; what comes behind counts as body
_LINE: Final = re.compile(rb"[^\n]*\n|[^\n]+\Z")  # a bare CR ends none
# What c-client and Dovecot write into an mbox and show to no client
_OWN: Final = frozenset((b"status", b"x-status", b"x-keywords", b"x-uid", b"x-imap", b"x-imapbase", b"content-length"))


def with_crlf(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes with CRLF for every line end. A line end that a piece cuts in two is still one."""
    after_cr = False
    for piece in pieces:
        if not piece:
            continue
        first = b"\n" if after_cr and piece[:1] == b"\n" else b""
        after_cr = piece[-1:] == b"\r"
        rest = piece[len(first) :] if first else piece
        if b"\r\n" in rest:
            rest = rest.replace(b"\r\n", b"\n")
        yield first + rest.replace(b"\n", b"\r\n")


def split_header(text: bytes) -> tuple[bytes, bytes]:
    """The header with its empty line, and what follows; all of it where there is no empty line."""
    found = re.search(rb"\A\r?\n|\n\r?\n", text)
    end = found.end() if found else len(text)
    return text[:end], text[end:]


def read_fields(header: bytes) -> list[tuple[bytes, bytes]]:
    """Each field as (name in lower case, the whole of its lines); lines of another form have the name b""."""
    fields: list[tuple[bytes, bytes]] = []
    for line in _LINE.findall(header):
        if line[:1] in b" \t" and line.strip() and fields:
            fields[-1] = fields[-1][0], fields[-1][1] + line
        else:
            name, colon, _ = line.partition(b":")
            fields.append((name.strip().lower() if colon else b"", line))
    return fields


def without_own_fields(header: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """A header of an mbox as it was before the file's own notes were put in, and those notes by name."""
    kept, own = [], {}
    for name, text in read_fields(header):
        if name in _OWN:
            own[name] = text.partition(b":")[2].strip()
        else:
            kept.append(text)
    return b"".join(kept), own
