"""The old server's files: read into items for the plan; what cannot be read is an Undecided at its line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from migrator.alias_file import (
    BadLine,
    Kind,
    Target,
    decode_line,
    logical_lines,
    parse_aliases,
    parse_targets,
    render_entry,
)
from migrator.alias_plan import item_of_alias, item_of_row
from migrator.mail_objects import Item, Site, Undecided
from migrator.table_file import TableKind, column_lines, parse_addresses, parse_table

_CORRECT: Final = "correct the line, and feed it back"
_NESTED: Final = 20  # :include: files within each other; deeper ones are a loop that was missed

Read = Iterator[Item | Undecided]


def read_aliases(path: Path, site: Site) -> Read:
    """The entries of an aliases file. OSError where it cannot be read."""
    with path.open("rb") as file:
        for entry in parse_aliases(file):
            if isinstance(entry, BadLine):
                yield _bad(entry, str(path))
            else:
                yield item_of_alias(entry, str(path), site, render_entry(entry))


def read_table(path: Path, kind: TableKind, site: Site) -> Read:
    """The rows of a virtual user table."""
    with path.open("rb") as file:
        for row in parse_table(file, kind):
            if isinstance(row, BadLine):
                yield _bad(row, str(path))
            else:
                value = f"error:{row.error}" if row.error else ", ".join(row.addresses)
                yield item_of_row(row, str(path), site, f"{row.key}\t{value}")


def read_generics(path: Path, site: Site) -> Read:
    """The rows of a genericstable: the address that a user's mail is sent from, which is to reach the user."""
    with path.open("rb") as file:
        for row in parse_table(file, TableKind.SENDMAIL):
            if isinstance(row, BadLine):
                yield _bad(row, str(path))
                continue
            text = f"{row.key}\t{' '.join(row.addresses)}"
            address = site.canonical(row.addresses[0]) if row.addresses else ""
            name, _, domain = address.rpartition("@")
            item = Item(str(path), row.line, name, domain, (Target(Kind.ADDRESS, row.key),), text=text)
            if row.user and name and site.is_here(address) and site.canonical(row.key) != address:
                yield item
            elif site.canonical(row.key) != address:
                yield Undecided(
                    item,
                    "CommuniGate does not rewrite senders by a table",
                    f"let {row.key} set the From address {address} in the account's preferences",
                )


def read_subscribers(name: str, path: Path, site: Site, column: str = "") -> tuple[Item, list[Undecided]]:
    """A list of subscribers, one address a line: a list by that name. Also the lines that are no address.

    With `column` the file is tab-delimited, and that column has the addresses. ValueError where there is none.
    """
    canonical = site.canonical(name)
    user, _, domain = canonical.rpartition("@")
    with path.open("rb") as file:
        lines = column_lines(file, column) if column else file
        bad = [_bad(found, str(path)) for found in parse_addresses(lines) if isinstance(found, BadLine)]
    return Item(str(path), 0, user, domain, (Target(Kind.INCLUDE, str(path)),)), bad


def _bad(line: BadLine, source: str) -> Undecided:
    return Undecided(Item(source, line.line, "", "", (), text=line.text), line.reason, _CORRECT)


class Includes:
    """The addresses of :include: files, found below `root` where the old server's files were copied to.

    Never follows `..` out of the root. `lists` are files that were named themselves; they are read where they are.
    """

    def __init__(self, root: Path | None, lists: Iterable[Path] = (), column: str = "") -> None:
        self._root = root
        self._column = column  # of the lists, where they are tab-delimited
        self._lists = {str(path) for path in lists}
        self._read: dict[str, list[str] | str] = {}

    def __call__(self, name: str) -> list[str]:
        """The addresses in the order of the file; a list within it in its place. ValueError says what is wrong."""
        found = self._read.get(name)
        if found is None:
            try:
                found = self._addresses(name, ())
            except ValueError as error:
                found = str(error)
            self._read[name] = found
        if isinstance(found, str):
            raise ValueError(found)
        return found

    def _addresses(self, name: str, above: tuple[str, ...]) -> list[str]:
        if name in above or len(above) > _NESTED:
            raise ValueError(f":include: {name} includes itself")
        found: list[str] = []
        try:
            with self._path(name).open("rb") as file:
                lines = column_lines(file, self._column) if self._column and name in self._lists else file
                for number, raw in logical_lines(lines):
                    text, trouble = decode_line(raw)
                    if trouble:
                        raise ValueError(f":include: {name}, line {number}: {trouble}")
                    found += self._line(name, number, text, above)
        except OSError as error:
            raise ValueError(f":include: {name} cannot be read: {error.strerror}") from None
        return found

    def _line(self, name: str, number: int, text: str, above: tuple[str, ...]) -> Iterator[str]:
        try:
            targets = parse_targets(text)
        except ValueError as error:
            if name in self._lists:
                return  # it was told as a bad line of its own
            raise ValueError(f":include: {name}, line {number}: {error}") from None
        for target in targets:
            if target.kind is Kind.INCLUDE:
                yield from self._addresses(target.text, (*above, name))
            elif target.kind in (Kind.ADDRESS, Kind.ACCOUNT):
                yield target.text
            elif name not in self._lists:
                raise ValueError(f":include: {name}, line {number}: it gives mail to {target.text}")

    def _path(self, name: str) -> Path:
        if name in self._lists:
            return Path(name)
        if self._root is None:
            return Path(name)
        parts = PurePosixPath(name).parts
        if ".." in parts:
            raise ValueError(f":include: {name} leaves the directory of the old server's files")
        return self._root.joinpath(*[part for part in parts if part != "/"])
