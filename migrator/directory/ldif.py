"""LDIF (RFC 2849): records of a file, and a record as a file has it. Pure: lines in, records out.

`<` URLs are refused, never opened. Of change records only additions are records here. A record that cannot be read
has its trouble, and the next one is not affected.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from wire.secret import Secret

RECORD_LIMIT: Final = 16 << 20  # bytes of one record: a photograph or a certificate list, and the rest
_NAME: Final = re.compile(rb"(?:[A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)*)(?:;[A-Za-z0-9-]+)*\Z")
_SAFE: Final = re.compile(rb"(?![ :<])[\x01-\x09\x0b\x0c\x0e-\x7f]*(?<! )\Z")
_WIDTH: Final = 76  # columns of a folded line, as slapcat writes
_BINARY: Final = ";binary"


@dataclass(frozen=True, slots=True)
class Record:
    """One record. Attribute names are lower-case, options (`;lang-de`) stay part of them, `;binary` is dropped."""

    line: int
    raw: Secret
    dn: bytes = b""
    attributes: dict[str, list[bytes]] = field(default_factory=dict, repr=False)
    trouble: str = ""

    def texts(self, *names: str) -> list[str]:
        """The values of the first of these attributes that is there, as text; what is not UTF-8 is left out."""
        for name in names:
            found = []
            for value in self.attributes.get(name.lower(), ()):
                try:
                    found.append(value.decode("utf-8").strip())
                except UnicodeDecodeError:
                    continue
            if any(found):
                return [text for text in found if text]
        return []

    def text(self, *names: str) -> str:
        """The first value of the first of these attributes that is there, or ""."""
        return next(iter(self.texts(*names)), "")


class _Broken(Exception):
    """The record cannot be read."""


def read_records(lines: Iterable[tuple[int, bytes]]) -> Iterator[Record]:
    """Every record of an LDIF file."""
    for number, raw, folded in _blocks(lines):
        if len(folded) == 1 and re.fullmatch(rb"version:[ ]*[0-9]+[ ]*", folded[0][1]):
            continue
        record = _record(number, raw, folded)
        if record is not None:
            yield record


def _blocks(lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes, list[tuple[int, bytes]]]]:
    """The lines of each record: where it begins, as they stand, and unfolded without comments."""
    raw: list[bytes] = []
    folded: list[tuple[int, list[bytes]]] = []
    size = 0
    for number, line in lines:
        if not line:
            if folded:
                yield _block(raw, folded, size)
            raw, folded, size = [], [], 0
            continue
        size += len(line)
        if size > RECORD_LIMIT:  # its lines are dropped until the next empty one
            raw, folded = raw[:1], folded[:1] or [(number, [b""])]
            continue
        raw.append(line)
        if line[:1] == b" " and folded:
            folded[-1][1].append(line[1:])
        else:
            folded.append((number, [line]))
    if folded:
        yield _block(raw, folded, size)


def _block(
    raw: list[bytes], folded: list[tuple[int, list[bytes]]], size: int
) -> tuple[int, bytes, list[tuple[int, bytes]]]:
    joined = [(number, b"".join(parts)) for number, parts in folded]
    if size > RECORD_LIMIT:
        joined = [(folded[0][0], b"")]
    return folded[0][0], b"\n".join(raw), [(number, line) for number, line in joined if not line.startswith(b"#")]


def _record(number: int, raw: bytes, lines: list[tuple[int, bytes]]) -> Record | None:
    """A record of its unfolded lines; None where they are comments only."""
    if not lines:
        return None
    if not lines[0][1]:
        return Record(number, Secret(raw), trouble=f"the record is larger than {RECORD_LIMIT} bytes")
    attributes: dict[str, list[bytes]] = {}
    dn = b""
    try:
        pairs = [_pair(at, line) for at, line in lines]
        if pairs[0][0] == "version":
            pairs = pairs[1:]
        if not pairs or pairs[0][0] != "dn":
            raise _Broken(f"line {lines[0][0]}: a record begins with its dn")
        dn = pairs[0][1]
        rest = pairs[1:]
        while rest and rest[0][0] == "control":
            rest = rest[1:]
        if rest and rest[0][0] == "changetype":
            if rest[0][1].strip().lower() != b"add":
                kind = rest[0][1].decode("ascii", "backslashreplace")[:20]
                raise _Broken(f"it is a change ({kind}), and no entry: export the entries as they are now")
            rest = rest[1:]
        for name, value in rest:
            attributes.setdefault(name, []).append(value)
    except _Broken as broken:
        return Record(number, Secret(raw), dn, trouble=str(broken))
    return Record(number, Secret(raw), dn, attributes)


def _pair(number: int, line: bytes) -> tuple[str, bytes]:
    """One `name: value`, `name:: base64`."""
    name, colon, value = line.partition(b":")
    if line == b"-":
        return "-", b""  # between the parts of a modification; its changetype comes first and is refused
    if not colon or not _NAME.match(name):
        raise _Broken(f"line {number}: it is neither `name: value` nor the continuation of one")
    lower = name.decode("ascii").lower().replace(_BINARY, "")
    if value[:1] == b"<":
        raise _Broken(f"line {number}: {lower} refers to a URL, which is never opened")
    if value[:1] == b":":
        try:
            return lower, base64.b64decode(value[1:].strip(b" "), validate=True)
        except (binascii.Error, ValueError):
            raise _Broken(f"line {number}: {lower} is not base64") from None
    return lower, value.lstrip(b" ")


def render_record(dn: bytes, attributes: Sequence[tuple[str, bytes]]) -> bytes:
    """A record with the empty line behind it; `read_records` reads it back byte for byte."""
    return b"".join([_rendered("dn", dn), *(_rendered(name, value) for name, value in attributes), b"\n"])


def _rendered(name: str, value: bytes) -> bytes:
    line = name.encode("ascii")
    line += b": " + value if _SAFE.match(value) else b":: " + base64.b64encode(value)
    parts = [line[:_WIDTH]]
    parts += [b" " + line[at : at + _WIDTH - 1] for at in range(_WIDTH, len(line), _WIDTH - 1)]
    return b"\n".join(parts) + b"\n"
