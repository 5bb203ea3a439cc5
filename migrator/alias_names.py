"""The `aliases` file of a domain: which names are no accounts of their own, and where each leads. Pure.

Lines as in an aliases file (`name: target, target`) or a virtual table (`name@domain target`), mixed as one likes. A
name whose line cannot be followed (a command, a file, a list in another file, nonsense) is still no account: it is kept
as one that lives elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from migrator.account_name import is_account_name
from migrator.alias_file import BadLine, Entry, Kind, Target, parse_aliases
from migrator.table_file import TableKind, TableRow, parse_table

_HOPS: Final = 20  # aliases of aliases; more is a ring or a mistake
_LEADING: Final = re.compile(r"\"?([^\s:\"@]+(?:@[^\s:\"@]+)?)\"?\s*(?::|\s)")
_COLON: Final = re.compile(r"(\S+@[^\s:]+)\s*:\s*(.+)", re.DOTALL)


class Leads(Enum):
    """What a name is."""

    ACCOUNT = "account"  # another name of one account of its own domain
    AWAY = "away"  # one address of another domain
    SEVERAL = "several"  # a list
    ELSEWHERE = "elsewhere"  # something that only the old server can do


@dataclass(frozen=True, slots=True)
class Lead:
    """Where a name leads; full addresses, local ones in lower case."""

    kind: Leads
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AliasNames:
    """One version of the file. `problem` is what is wrong with it; `unread` says that nothing of it could be read."""

    entries: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # no targets: it lives elsewhere
    problem: str = ""
    unread: bool = False

    def lead(self, address: str) -> Lead | None:
        """Where `address` (lower-case) leads; None where it is no alias, or one that keeps its own mail too."""
        if address not in self.entries:
            return None
        at = address
        for _ in range(_HOPS):
            targets = self.entries[at]
            if at in targets:
                return None if at == address else Lead(Leads.ACCOUNT, (at,))
            if not targets:
                return Lead(Leads.ELSEWHERE)
            if len(targets) > 1:
                return Lead(Leads.SEVERAL, targets)
            (at,) = targets
            if at not in self.entries:
                return self._end(address, at)
        return Lead(Leads.ELSEWHERE)  # a ring

    def _end(self, address: str, target: str) -> Lead:
        if target.rpartition("@")[2] != address.rpartition("@")[2]:
            return Lead(Leads.AWAY, (target,))
        return Lead(Leads.ACCOUNT, (target,)) if is_account_name(target) else Lead(Leads.ELSEWHERE)


def broken(problem: str) -> AliasNames:
    """A file that could not be read."""
    return AliasNames(problem=problem, unread=True)


def parse_alias_names(content: bytes, domain: str) -> AliasNames:
    """The names of a file for `domain` ("default": full names only). Nothing is raised for any bytes."""
    entries: dict[str, tuple[str, ...]] = {}
    problem = ""
    for item in parse_aliases(content.removeprefix(b"\xef\xbb\xbf")):
        try:
            name, targets = _read(item, domain)
        except ValueError as error:
            problem = problem or f"line {item.line}: {error}"
            name, targets = _name_of(item, domain), ()
        if name in entries and entries[name] != targets:
            problem = problem or f"line {item.line}: {name} stands there more than once"
        elif name:
            entries[name] = targets
    return AliasNames(entries, problem)


def _read(item: Entry | BadLine, domain: str) -> tuple[str, tuple[str, ...]]:
    """A line's full name and its targets; () where it cannot be followed. ValueError for nonsense."""
    if isinstance(item, Entry):
        name, targets = _full(item.name, domain), _followed(item.targets, domain)
    else:
        row = _table_row(item)
        name, targets = _full(row.key, domain), _addresses(row.addresses, domain)
    if not name:
        raise ValueError("a name without a domain, which the aliases of domains.default need")
    return name, targets


def _table_row(line: BadLine) -> TableRow:
    colon = _COLON.fullmatch(line.text)
    text = f"{colon[1]} {colon[2]}" if colon else line.text
    row = next(parse_table(text.encode("utf-8", "surrogateescape"), TableKind.POSTFIX), line)
    if isinstance(row, BadLine):
        raise ValueError(line.reason)
    if not row.user:
        raise ValueError("a whole domain is no alias")
    return row


def _followed(targets: Iterable[Target], domain: str) -> tuple[str, ...]:
    targets = tuple(targets)
    if any(target.kind not in (Kind.ADDRESS, Kind.ACCOUNT) for target in targets):
        return ()
    return _addresses([target.text for target in targets], domain)


def _addresses(texts: Iterable[str], domain: str) -> tuple[str, ...]:
    found = [_full(text, domain) for text in texts]
    return tuple(dict.fromkeys(found)) if all(found) else ()


def _full(name: str, domain: str) -> str:
    """The full address; "" for a bare name where no domain is known. The domain is lower case, a local name too."""
    user, at, host = name.rpartition("@")
    if not at:
        return "" if domain == "default" else f"{name.lower()}@{domain}"
    host = host.lower()
    return f"{user.lower() if domain in (host, 'default') else user}@{host}"


def _name_of(item: Entry | BadLine, domain: str) -> str:
    """The name of a line that makes no sense, if it can be seen; "" where not."""
    if isinstance(item, Entry):
        return _full(item.name, domain)
    found = _LEADING.match(item.text)
    return _full(found[1], domain).lower() if found else ""
