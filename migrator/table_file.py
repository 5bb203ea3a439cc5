"""Tables of sendmail and Postfix: virtusertable, genericstable, virtual(5). Pure: bytes in, rows out.

A row is a key, white space, and the value. In Postfix's tables a line that begins with white space goes on with the
line before, and the value is a list of addresses; in sendmail's it is one address, or `error:code text`.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from migrator.alias_file import BadLine, Kind, decode_line, exact, logical_lines, numbered_lines, parse_targets


class TableKind(Enum):
    """Whose table it is."""

    POSTFIX = "virtual"
    SENDMAIL = "virtusertable"


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row. `user` is "" for a whole domain, `domain` is "" for a name without one; both in lower case.

    `error` is what a sendmail `error:` value says; `addresses` is empty then.
    """

    line: int
    user: str
    domain: str
    addresses: tuple[str, ...]
    error: str = ""

    @property
    def key(self) -> str:
        """The key as the table has it."""
        return f"{self.user}@{self.domain}" if self.domain else self.user


_ROW: Final = re.compile(r"(\"(?:[^\"\\]|\\.)*\"(?:@\S+)?|\S+)[ \t]+(\S.*)", re.DOTALL)
_DOMAIN: Final = re.compile(r"\[[0-9A-Fa-f.:]+\]|[^\s@,:;<>()\"\\/|%]+")
_ADDRESS: Final = re.compile(r"[^\s@,<>()\"\\|/:;][^\s@,<>()\"\\|:;]*(?:@(?:\[[0-9A-Fa-f.:]+\]|[^\s@,:;<>()\"\\/|]+))?")


def parse_table(lines: bytes | Iterable[bytes], kind: TableKind) -> Iterator[TableRow | BadLine]:
    """Rows and bad lines in the order of the file. Nothing is raised for any bytes."""
    joined = logical_lines(lines) if kind is TableKind.POSTFIX else _single_lines(lines)
    for number, raw in joined:
        text, trouble = decode_line(raw)
        if trouble:
            yield BadLine(number, trouble, exact(raw))
            continue
        try:
            yield _parse_row(number, text, kind)
        except ValueError as error:
            yield BadLine(number, str(error), text)


def _single_lines(lines: bytes | Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """As makemap reads them: a line is a row, whatever it begins with."""
    for number, line in numbered_lines(lines):
        if line.strip() and not line.startswith(b"#"):
            yield number, line.rstrip(b"\r\n")


def _parse_row(line: int, text: str, kind: TableKind) -> TableRow:
    match = _ROW.fullmatch(text.strip())
    if match is None:
        raise ValueError("there is no value behind the key")
    key, value = match[1], match[2].strip()
    user, at, domain = key.lower().rpartition("@")
    if not at:
        user, domain = domain, ""
    if not user and not domain:
        raise ValueError("the key is empty")
    if user.startswith('"') or any(mark in user for mark in '"\\,:;<>()|/'):
        raise ValueError("the key's name is one that no object here can have")
    if (at and not domain) or (domain and not _DOMAIN.fullmatch(domain)):
        raise ValueError("the key's domain is none")
    if kind is TableKind.SENDMAIL:
        if value.lower().startswith("error:"):
            return TableRow(line, user, domain, (), value[6:].strip() or "nouser")
        addresses = [value]
    else:
        addresses = _postfix_addresses(value)
    for address in addresses:
        if not _ADDRESS.fullmatch(address) and not _is_whole_domain(address):
            raise ValueError(f"{address!r} is no address")
    return TableRow(line, user, domain, tuple(addresses))


def _is_whole_domain(address: str) -> bool:
    return address.startswith("@") and _DOMAIN.fullmatch(address[1:]) is not None


def _postfix_addresses(value: str) -> list[str]:
    """The addresses of a list with commas. ValueError for what a virtual table cannot hold."""
    found = []
    for part in value.split(","):
        if "<" in part or '"' in part or "(" in part or "\\" in part:
            for target in parse_targets(part):
                if target.kind is not Kind.ADDRESS:
                    raise ValueError(f"{part.strip()!r} is no address; a virtual table holds nothing else")
                found.append(target.text)
        elif " " in part.strip() or "\t" in part.strip():
            raise ValueError(f"{part.strip()!r}: addresses need commas between them")
        elif part.strip():
            found.append(part.strip())
    if not found:
        raise ValueError("there is no address behind the key")
    return found


def parse_addresses(lines: bytes | Iterable[bytes]) -> Iterator[tuple[int, str] | BadLine]:
    """Addresses with their lines of an :include: file or a plain list of subscribers (Mailman, Majordomo).

    Lines may hold several with commas, `Real Name <address>`, (comments). What is no address is given as a BadLine.
    """
    for number, raw in logical_lines(lines):
        text, trouble = decode_line(raw)
        try:
            if trouble:
                raise ValueError(trouble)
            targets = parse_targets(text)
            for target in targets:
                if target.kind is not Kind.ADDRESS or not _ADDRESS.fullmatch(target.text):
                    raise ValueError(f"{target.text!r} is no address")
        except ValueError as error:
            yield BadLine(number, str(error), exact(raw))
        else:
            yield from ((number, target.text) for target in targets)


def column_lines(lines: Iterable[bytes], column: str) -> Iterator[bytes]:
    """One column of a tab-delimited file as lines, so that numbers stay: the header becomes an empty line.

    `column` is a name of the first line, or a number from 1. ValueError where there is no such column.
    """
    at: int | None = None
    for line in lines:
        cells = line.rstrip(b"\r\n").split(b"\t")
        if at is None:
            cells[0] = cells[0].removeprefix(BOM_UTF8)
            names = [cell.decode("utf-8", "replace").strip().lower() for cell in cells]
            if column.lower() in names:
                at = names.index(column.lower())
            elif column.isdigit() and 0 < int(column) <= len(cells):
                at = int(column) - 1
            else:
                raise ValueError(f"there is no column {column}; the first line has: {', '.join(names)}")
            yield b"\n"
            continue
        yield (cells[at].strip() if at < len(cells) else b"") + b"\n"
