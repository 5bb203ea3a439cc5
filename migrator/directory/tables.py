"""Accounts of tables: CSV and tab-delimited files, by a map of their columns. Pure: lines in, entries out.

The fields of an account: Name, Address, Password (clear text), UnixPassword (a hash), RealName, Aliases, Forward,
MaxAccountSize (Limit is the same). A file whose header has these names needs no map. Values of several addresses are
separated with blanks, commas or semicolons.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from migrator.directory.entry import Entry, Stored, bad_entry, left_out
from migrator.directory.ldap_entries import proxy_addresses
from migrator.directory.quota import read_quota
from migrator.directory.text_lines import BadFile, clean_text
from wire.secret import Secret

FIELDS: Final = ("Name", "Address", "Password", "UnixPassword", "RealName", "Aliases", "Forward", "MaxAccountSize")
_SAME: Final = {"limit": "maxaccountsize", "realname": "realname", "email": "address"}
_BETWEEN: Final = re.compile(r"[\s,;]+")
# how Exchange's own exports name what is needed: csvde, Export-Csv of Get-Mailbox, and the directory export of 5.5
_EXCHANGE: Final = {
    "proxy": ("proxyaddresses", "emailaddresses", "e-mail addresses", "secondary-proxy-addresses"),
    "mail": ("mail", "primarysmtpaddress", "windowsemailaddress", "e-mail address"),
    "login": ("samaccountname", "mailnickname", "alias", "alias name"),
    "name": ("displayname", "display name", "cn", "name"),
    "class": ("objectclass", "recipienttypedetails", "obj-class"),
    "quota": ("mdboverhardquotalimit", "mdbstoragequota"),
}
_NO_MAILBOX: Final = re.compile(r"group|contact|computer|publicfolder|organizationalunit|\bdl\b|\bremote\b", re.I)
Lines = Iterable[tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the values by lower-case column name, or why there are none."""

    line: int
    raw: bytes
    values: Mapping[str, str]
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a table is laid out. `columns`: our fields and the file's columns; without `header` 1, 2..."""

    delimiter: str = ","
    quoted: bool = True
    header: bool = True
    columns: Mapping[str, str] | None = None
    quota_unit: str = ""


def parse_columns(text: str) -> dict[str, str]:
    """`Name=login,RealName=full name` as a map. ValueError for a field that is not one of FIELDS."""
    known = {field.lower(): field.lower() for field in FIELDS} | {"limit": "maxaccountsize"}
    columns = {}
    for part in text.split(","):
        field, equals, column = part.partition("=")
        if not equals or not column.strip() or field.strip().lower() not in known:
            raise ValueError(f"{part.strip()!r}: say FIELD=COLUMN, with FIELD one of {', '.join(FIELDS)}")
        columns[known[field.strip().lower()]] = column.strip().lower()
    if "name" not in columns and "address" not in columns:
        raise ValueError("the map needs Name or Address")
    return columns


def read_table(lines: Lines, layout: Layout) -> Iterator[Entry]:
    """Accounts of a table with a column map. BadFile when a column that the map names is not there."""
    chosen: dict[str, str] | None = None
    for row in read_rows(lines, layout):
        if chosen is None and row.values:
            chosen = _chosen(layout, row.values)
        if row.trouble or chosen is None:
            yield bad_entry(row.line, row.raw, row.trouble or "it has no columns")
            continue
        values = {field: row.values[column] for field, column in chosen.items()}
        yield _entry(row, values, layout.quota_unit)


def _chosen(layout: Layout, found: Mapping[str, str]) -> dict[str, str]:
    """Our fields and the columns they are in."""
    if layout.columns is not None:
        missing = sorted({column for column in layout.columns.values() if column not in found})
        if missing and found:
            raise BadFile(f"there is no column {', '.join(missing)}; the file has {', '.join(found)}")
        return dict(layout.columns)
    chosen = {}
    for column in found:
        field = _SAME.get(column, column)
        if field in {name.lower() for name in FIELDS}:
            chosen[field] = column
    if found and "name" not in chosen and "address" not in chosen:
        raise BadFile(f"no column is called Name: say which with --columns; the file has {', '.join(found)}")
    return chosen


def _entry(row: Row, values: Mapping[str, str], quota_unit: str) -> Entry:
    name = values.get("name", "").strip() or values.get("address", "").strip()
    if not name:
        return bad_entry(row.line, row.raw, "there is no name")
    passwords = []
    if password := values.get("unixpassword", "").strip():
        passwords.append(Stored(Secret(password.encode())))
    if password := values.get("password", ""):
        passwords.append(Stored(Secret(password.encode()), clear=True))
    try:
        quota = read_quota(values.get("maxaccountsize", ""), unit=quota_unit)
    except ValueError as error:
        return bad_entry(row.line, row.raw, f"quota: {error}", name=name)
    return Entry(
        row.line,
        Secret(row.raw),
        name,
        address=values.get("address", "").strip(),
        passwords=tuple(passwords),
        real_name=clean_text(values.get("realname", "")),
        aliases=_several(values.get("aliases", "")),
        forwards=_several(values.get("forward", "")),
        quota=quota,
    )


def _several(text: str) -> tuple[str, ...]:
    return tuple(part for part in _BETWEEN.split(text) if part)


def read_exchange_table(lines: Lines, layout: Layout) -> Iterator[Entry]:
    """Accounts of an Exchange address list saved as CSV: csvde, Get-Mailbox | Export-Csv, directory export of 5.5."""
    columns: dict[str, str] | None = None
    for row in read_rows(lines, layout):
        if columns is None and row.values:
            columns = _exchange_columns(row.values)
        if row.trouble or columns is None:
            yield bad_entry(row.line, row.raw, row.trouble or "it has no columns")
            continue
        yield _exchange_entry(row, {key: row.values[column] for key, column in columns.items()})


def _exchange_columns(found: Mapping[str, str]) -> dict[str, str]:
    columns = {key: column for key, names in _EXCHANGE.items() for column in names[::-1] if column in found}
    if "proxy" not in columns and "mail" not in columns:
        raise BadFile(f"there is no column with addresses ({_EXCHANGE['proxy'][0]}, {_EXCHANGE['mail'][0]})")
    return columns


def _exchange_entry(row: Row, values: Mapping[str, str]) -> Entry:
    primary, others = proxy_addresses([values.get("proxy", "")])
    primary = primary or values.get("mail", "").strip()
    login = values.get("login", "").strip() or primary
    kind = _NO_MAILBOX.search(values.get("class", ""))
    if kind is not None:
        return left_out(row.line, row.raw, f"it is no user ({kind.group().lower()})", name=login)
    if not primary:
        return left_out(row.line, row.raw, "it has no SMTP address", name=login)
    try:
        quota = read_quota(values.get("quota", ""), unit="K")
    except ValueError as error:
        return bad_entry(row.line, row.raw, f"quota: {error}", name=login)
    name = clean_text(values.get("name", ""))
    raw = Secret(row.raw)
    return Entry(row.line, raw, login, address=primary, real_name=name, aliases=tuple(others), quota=quota)


def read_rows(lines: Lines, layout: Layout) -> Iterator[Row]:
    """The rows behind the header, or all by position. `#TYPE`, PowerShell's first line, is passed over."""
    names: Sequence[str] | None = None
    for number, raw, cells in _cells(lines, layout):
        if isinstance(cells, str):
            yield Row(number, raw, {}, cells)
            continue
        if names is None:
            if layout.header:
                names = [cell.strip().lower() for cell in cells]
                doubled = sorted({name for name in names if name and names.count(name) > 1})
                if doubled:
                    raise BadFile(f"line {number}: the header names {', '.join(doubled)} more than once")
                continue
            names = [str(position) for position in range(1, len(cells) + 1)]
        if len(cells) > len(names) and any(cells[len(names) :]):
            yield Row(number, raw, {}, f"it has {len(cells)} fields where {len(names)} belong")
        else:
            missing = [""] * (len(names) - len(cells))
            yield Row(number, raw, dict(zip(names, [*cells, *missing], strict=False)))


def header_of(lines: Lines, layout: Layout) -> bytes:
    """The header as it stands, for a file of bad rows; empty without one."""
    if layout.header:
        for _, raw, _ in _cells(lines, layout):
            return raw
    return b""


def _cells(lines: Lines, layout: Layout) -> Iterator[tuple[int, bytes, list[str] | str]]:
    taken = _Taken(lines)
    if not layout.quoted:
        for number, raw in lines:
            if raw.strip():
                text = _decoded(raw)
                yield number, raw, text.split(layout.delimiter) if text is not None else _NOT_UTF8
        return
    rows = csv.reader(taken, delimiter=layout.delimiter, strict=True)
    while True:
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            number, raw = taken.pop()
            rows = csv.reader(taken, delimiter=layout.delimiter, strict=True)  # the old one remembers half a row
            yield number, raw, f"it is no CSV: {error}"
            continue
        number, raw = taken.pop()
        if not cells or not raw.strip() or raw.startswith(b"#TYPE "):
            continue
        yield number, raw, list(cells) if _decoded(raw) is not None else _NOT_UTF8


_NOT_UTF8: Final = "it is not UTF-8: convert the file first (iconv -f latin1 -t utf-8)"


def _decoded(raw: bytes) -> str | None:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


class _Taken:
    """Hands lines to csv.reader, and tells which it has taken for a row: one may go over several."""

    def __init__(self, lines: Lines) -> None:
        self._lines = iter(lines)
        self._first = 0
        self._raw: list[bytes] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        number, raw = next(self._lines)
        if not self._raw:
            self._first = number
        self._raw.append(raw)
        return raw.decode("utf-8", "backslashreplace") + "\n"

    def pop(self) -> tuple[int, bytes]:
        raw, self._raw = b"\n".join(self._raw), []
        return self._first, raw
