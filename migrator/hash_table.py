"""Who has which stored password, from the lines of a hash file. Pure.

A line is `ADDRESS<TAB>HASH` or `ADDRESS:HASH`, or one of passwd, shadow, master.passwd or a Dovecot passwd-file, of
which the first two fields count. Empty lines and those that begin with `#` are left out. Names are compared without
case.

Whoever is not clearly in the file is not in it: a line that cannot be read, a name that stands there twice with
different hashes, a last line that may be cut off. None of them is ever read as "wrong password".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from migrator.password_forms import read_password
from migrator.passwords import PasswordHash, Scheme
from migrator.settings import DomainSettings

_CLEAR: Final = re.compile(r"\{(?:PLAIN|CLEAR|CLEARTEXT)\}", re.IGNORECASE)
_PASSWD_FIELDS: Final = (7, 9, 10)  # passwd, shadow, master.passwd


class Line(NamedTuple):
    """One line that holds somebody. `problem` says why its password cannot be used, before it is even looked at."""

    number: int
    name: str
    text: str
    problem: str = ""


class HashTable:
    """The lines of one file by name."""

    def __init__(self, content: bytes, *, domain: str = "") -> None:
        """`domain` is that of the names without one; "" leaves them as they are."""
        self._entries: dict[str, Line] = {}
        self.skipped: list[Line] = []  # lines that hold nobody
        for line in read_lines(content, domain=domain):
            if not line.name:
                self.skipped.append(line)
                continue
            before = self._entries.get(line.name)
            self._entries[line.name] = line if before is None else _join(before, line)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Line]:
        return iter(self._entries.values())

    def find(self, *names: str) -> Line | None:
        """The line of whoever goes by one of `names` (lower case); with a problem where they have different hashes."""
        found = None
        for name in dict.fromkeys(names):
            line = self._entries.get(name)
            if line is None:
                continue
            if found is not None and found.text != line.text:
                return line._replace(problem=f"lines {found.number} and {line.number} hold different hashes for it")
            found = line
        return found


def _join(before: Line, line: Line) -> Line:
    """Two lines of one name: the same hash twice does no harm."""
    if before.text == line.text:
        return before if before.problem else line
    return line._replace(problem=f"the name stands in line {before.number} too, with another hash")


def read_entry(line: Line) -> PasswordHash:
    """The password of `line`, with the line's own problem where it has one."""
    stored = read_password(line.text)
    if not line.problem:
        return stored
    return PasswordHash(stored.scheme, problem=line.problem)


def read_lines(content: bytes, *, domain: str = "") -> Iterator[Line]:
    """Every line that is not empty or a comment; those without a name have a `problem` and hold nobody."""
    text = content.decode("utf-8-sig", "surrogateescape")
    lines = text.split("\n")
    last = len(lines) if lines[-1] else 0  # its number, where no line feed ends it
    for number, raw in enumerate(lines, 1):
        line = raw.removesuffix("\r")
        if not line.strip() or line.startswith("#"):
            continue
        yield _read_line(number, line, domain, cut=number == last)


def _read_line(number: int, line: str, domain: str, *, cut: bool) -> Line:
    if "\t" in line:
        name, _, rest = line.partition("\t")
        text, problem = rest.partition("\t")[0], ""
    elif ":" in line:
        name, _, rest = line.partition(":")
        text, problem = _first_field(rest)
    else:
        return Line(number, "", "", "neither a tab nor a colon after the name")
    name = name.strip().lower()
    if not name or any(c.isspace() for c in name):
        return Line(number, "", "", "no name before the tab or colon")
    if cut and not problem and read_password(text).may_be_cut:
        problem = "the last line has no end: it may be cut off"
    return Line(number, name if "@" in name or not domain else f"{name}@{domain}", text.strip(), problem)


def _first_field(rest: str) -> tuple[str, str]:
    """The password of `HASH[:FIELDS...]`. Only clear text may hold a colon itself, and then nobody knows its end."""
    fields = rest.split(":")
    if not _CLEAR.match(rest) or len(fields) == 1 or len(fields) + 1 in _PASSWD_FIELDS:
        return fields[0], ""
    return fields[0], "clear text with a colon in it or after it: put a tab between name and password"


def find_account(table: HashTable, domain: DomainSettings, address: str) -> Line | None:
    """The line of `address`, under its own name or the one it has at the old server."""
    login = domain.source_login(address).decode("utf-8", "surrogateescape").lower()
    names = [address, domain.old_address(address)]
    if "@" in login:
        names.append(login)
    elif domain.name != "default":  # a bare name is of the table's domain, and of nobody where the table serves many
        names.append(f"{login}@{domain.name}")
    return table.find(*names)


def account_of(domain: DomainSettings, name: str) -> str:
    """The address here of whoever has the address `name` at the old server."""
    user, _, old = name.rpartition("@")
    return f"{user}@{domain.name}" if old == domain.old_domain and domain.name != "default" else name


def addresses_of(table: HashTable) -> list[str]:
    """The names of all whose line holds an account, in order; locked ones too."""
    return [line.name for line in table if read_entry(line).scheme is not Scheme.ABSENT]
