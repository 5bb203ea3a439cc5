"""Sorts the entries of a file: accounts to be made, bad ones with their reasons, and what is no user.

The file is read twice: names that stand there more than once are known only at its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from cli_client.commands import Encrypted
from migrator.account_name import is_local_name
from migrator.alias_file import BadLine
from migrator.directory.account import Forward, NewAccount, Rejected, Rules, address_of, make_account
from migrator.directory.entry import Entry, Standing
from migrator.directory.names import Names
from migrator.directory.source import Source

HASHED, CLEAR, WITHOUT = "", "clear", "none"  # kinds of passwords: an import file has one
Group = tuple[str, str]  # domain and kind of password


def group_of(account: NewAccount) -> Group:
    """Which import file the account belongs to: one column of passwords must not empty the other."""
    if account.password is None:
        return account.domain, WITHOUT
    return account.domain, HASHED if isinstance(account.password, Encrypted) else CLEAR


@dataclass(slots=True)
class Tally:
    """How many entries came to what."""

    accounts: int = 0
    bad: int = 0
    left_out: int = 0


@dataclass
class Sifting:
    """One file under one set of rules. `survey` first, then `sift`; `forwards` is whole when `sift` has ended."""

    source: Source
    rules: Rules
    groups: Counter[Group] = field(default_factory=Counter)
    tally: Tally = field(default_factory=Tally)
    loose: list[Forward] = field(default_factory=list)  # virtual aliases that are no account's alias
    bad_aliases: list[tuple[int, str]] = field(default_factory=list)
    _names: Names = field(default_factory=Names)
    _aliases: dict[str, list[str]] = field(default_factory=dict)

    def survey(self) -> None:
        """Read the file once, for its names. BadFile when it cannot be used."""
        for entry in self.source.entries():
            if entry.standing is Standing.LEFT_OUT:
                continue
            made = self._made(entry)
            if isinstance(made, NewAccount):
                self._names.note(made.names)
                self.groups[group_of(made)] += 1
            elif "@" in made.name:
                self._names.note((made.name,))  # it may yet be mended: nobody else may have its name
        self._names.close()
        self._read_aliases()

    def sift(self) -> Iterator[NewAccount | Rejected | Entry]:
        """Every entry in the file's order: an account, a rejected one, or an Entry that is left out."""
        for entry in self.source.entries():
            if entry.standing is Standing.LEFT_OUT:
                self.tally.left_out += 1
                yield entry
                continue
            made = self._made(entry)
            if isinstance(made, NewAccount):
                clashes = self._names.clashes(made.names, made.line)
                if clashes:
                    made = Rejected(made.line, made.raw, made.address, clashes)
            if isinstance(made, NewAccount):
                self.tally.accounts += 1
            else:
                self.tally.bad += 1
            yield made
        self.loose.extend(Forward(alias, (target,)) for target, aliases in self._aliases.items() for alias in aliases)
        self._aliases.clear()

    def _made(self, entry: Entry) -> NewAccount | Rejected:
        if entry.standing is Standing.BAD:
            return Rejected(entry.line, entry.raw, entry.name, (entry.reason,))
        extra = self._aliases.pop(address_of(entry, self.rules), ())
        return make_account(entry, self.rules, extra)

    def _read_aliases(self) -> None:
        """Virtual aliases that lead to one account become its aliases; the rest are forwards."""
        for one in self.source.alias_lines():
            if isinstance(one, BadLine):
                self.bad_aliases.append((one.line, one.reason))
                continue
            if not one.user:
                self.bad_aliases.append((one.line, f"{one.key} is for every name of a domain: a Router line"))
                continue
            address = self._whole(one.key)
            targets = tuple(self._whole(target) for target in one.addresses)
            if targets == (address,):
                continue  # a mailbox that Postfix looks up as itself
            local, _, domain = address.rpartition("@")
            fits = len(targets) == 1 and targets[0].rpartition("@")[2] == domain and is_local_name(local)
            if fits and self._names.taken(targets[0]) and not self._names.taken(address):
                self._aliases.setdefault(targets[0], []).append(address)
            else:
                self.loose.append(Forward(address, targets))

    def _whole(self, address: str) -> str:
        name, at, domain = address.lower().rpartition("@")
        if not at:
            return f"{domain}@{self.rules.domain}" if self.rules.domain else domain
        return f"{name}@{self.rules.domain}" if domain in self.rules.same_domains else f"{name}@{domain}"
