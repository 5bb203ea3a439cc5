"""An old system's file with those that belong to it: read as often as needed, and how a bad entry is given back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from migrator.alias_file import BadLine
from migrator.directory.entry import Entry
from migrator.directory.ldap_entries import read_exchange, read_ldap
from migrator.directory.ldif import read_records
from migrator.directory.postfix_maps import read_mailbox_map
from migrator.directory.tables import Layout, header_of, read_exchange_table, read_table
from migrator.directory.text_lines import numbered_lines
from migrator.directory.unix_files import (
    FIRST_USER,
    read_dovecot,
    read_master_passwd,
    read_passwd,
    read_shadow,
    shadow_passwords,
)
from migrator.table_file import TableKind, TableRow, parse_table
from wire.secret import Secret

_LDIF: Final = ("ldif", "exchange-ldif")
TABLES: Final = ("csv", "tab", "exchange-csv")
BY_ADDRESS: Final = ("exchange-ldif", "exchange-csv")  # an Exchange user is known by the address, not by the login


@dataclass(frozen=True)
class Source:
    """One file of accounts. Nothing is kept of it but what `shadow` and `virtual_aliases` name."""

    path: Path
    kind: str
    shadow: Path | None = None
    virtual_aliases: Path | None = None
    layout: Layout = field(default_factory=Layout)
    first_user: int = FIRST_USER

    def entries(self) -> Iterator[Entry]:
        """Every entry, from the first line on. BadFile when the file cannot be used."""
        return _READERS[self.kind](self)

    @cached_property
    def hashes(self) -> Mapping[str, Secret]:
        """The shadow file's password fields by name."""
        return shadow_passwords(numbered_lines(self.shadow)) if self.shadow is not None else {}

    def alias_lines(self) -> Iterator[TableRow | BadLine]:
        """The lines of the file of virtual aliases."""
        if self.virtual_aliases is not None:
            yield from parse_table(_bytes(self.virtual_aliases), TableKind.POSTFIX)

    def head(self) -> bytes:
        """What a file of this kind begins with, before its first entry."""
        if self.kind in TABLES:
            header = header_of(numbered_lines(self.path), self.layout)
            return header + b"\n" if header else b""
        return b"version: 1\n\n" if self.kind in _LDIF else b""

    def given_back(self, line: int, raw: Secret, reasons: tuple[str, ...]) -> bytes:
        """A bad entry as it stood, behind a comment with the reasons where the format has comments."""
        end = b"\n\n" if self.kind in _LDIF else b"\n"
        if self.kind in TABLES:
            return raw.reveal() + end
        words = "; ".join(reasons).encode("utf-8", "backslashreplace")
        if self.kind in _LDIF:  # a comment of an earlier run stands in the record itself
            kept = [one for one in raw.reveal().split(b"\n") if not one.startswith(b"# line ")]
            return b"# line %d: %s\n" % (line, words) + b"\n".join(kept) + end
        return b"# line %d: %s\n" % (line, words) + raw.reveal() + end


def _bytes(path: Path) -> Iterator[bytes]:
    for _, line in numbered_lines(path):
        yield line


def _passwd(source: Source) -> Iterator[Entry]:
    return read_passwd(numbered_lines(source.path), shadow=source.hashes, first_user=source.first_user)


_READERS: Final[dict[str, Callable[[Source], Iterator[Entry]]]] = {
    "passwd": _passwd,
    "shadow": lambda source: read_shadow(numbered_lines(source.path)),
    "master.passwd": lambda source: read_master_passwd(numbered_lines(source.path), first_user=source.first_user),
    "ldif": lambda source: read_ldap(read_records(numbered_lines(source.path))),
    "exchange-ldif": lambda source: read_exchange(read_records(numbered_lines(source.path))),
    "csv": lambda source: read_table(numbered_lines(source.path), source.layout),
    "tab": lambda source: read_table(numbered_lines(source.path), source.layout),
    "exchange-csv": lambda source: read_exchange_table(numbered_lines(source.path), source.layout),
    "dovecot": lambda source: read_dovecot(numbered_lines(source.path)),
    "postfix-mailbox": lambda source: read_mailbox_map(_bytes(source.path)),
}
KINDS: Final = tuple(_READERS)
