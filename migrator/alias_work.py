"""Files of aliases read and planned with what CommuniGate holds: the work of `migrator aliases`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from migrator.alias_file import Kind
from migrator.alias_plan import plan_aliases
from migrator.alias_sources import Includes, read_aliases, read_generics, read_subscribers, read_table
from migrator.execute import Programs
from migrator.mail_objects import Choice, Item, Site, Undecided
from migrator.table_file import TableKind


class InputTrouble(ValueError):
    """The command cannot run with what it was given."""


@dataclass(slots=True)
class Inputs:
    """The files named on the command line."""

    aliases: Sequence[Path] = ()
    virtual: Sequence[Path] = ()
    virtusertable: Sequence[Path] = ()
    generics: Sequence[Path] = ()
    lists: Mapping[str, Path] = field(default_factory=dict)
    root: Path | None = None
    column: str = ""  # of the lists, where they are tab-delimited


@dataclass(slots=True)
class Known:
    """What there is at CommuniGate: domains, accounts and all other names, as addresses in lower case.

    `asked` is False where nobody was asked: then a name that no file defines is taken for an account.
    """

    asked: bool
    domains: frozenset[str] = frozenset()
    accounts: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)
    main_domain: str = ""
    is_protected: Callable[[str], bool] = lambda _: False


class AliasWork:
    """One run over all files."""

    def __init__(
        self, inputs: Inputs, *, domain: str, local: Iterable[str], list_owner: str, forward_missing: bool,
        programs: Programs,
    ) -> None:  # fmt: skip
        self._inputs = inputs
        self._domain = domain.lower()
        self._local = frozenset(name.lower() for name in local)
        self._list_owner = list_owner
        self._forward_missing = forward_missing
        self._programs = programs
        self._defined: set[str] = set()  # by a file, so that it is no account that was taken for granted
        self._items: list[Item] = []
        self._bad: list[Undecided] = []
        self._site: Site | None = None

    def read(self, known: Known) -> set[str]:
        """Read all files; the domains that they speak of. InputTrouble without a domain, OSError for a file."""
        site = self._site_of(known)
        for found in self._found(site):
            if isinstance(found, Item):
                self._items.append(found)
            else:
                self._bad.append(found)
        if not known.asked:  # a domain with names of its own is taken for one that CommuniGate has
            known.domains = frozenset(item.domain for item in self._items if item.name)
            site = self._site_of(known)
        self._site = site
        spoken_of = {site.domain}
        for item in self._items:
            spoken_of.add(item.domain)
            ends = {site.canonical(address) for address in _addresses(item, site)}
            spoken_of |= {end.rpartition("@")[2] for end in ends}
            if item.address not in ends:
                self._defined.add(item.address)
        return spoken_of

    def plan(self, known: Known) -> tuple[list[Choice], list[Undecided]]:
        """What everything becomes, and what a person must decide."""
        assert self._site is not None
        choices: list[Choice] = []
        undecided = self._bad
        for outcome in plan_aliases(self._items, self._site):
            if isinstance(outcome, Choice):
                choices.append(outcome)
            else:
                undecided.append(outcome)
        return choices, undecided

    def _found(self, site: Site) -> Iterator[Item | Undecided]:
        # lists first: an alias for the old list manager gives way to the list
        for name, path in self._inputs.lists.items():
            try:
                item, bad = read_subscribers(name, path, site, self._inputs.column)
            except ValueError as error:
                raise InputTrouble(f"{path}: {error}") from None
            yield item
            yield from bad
        for path in self._inputs.virtual:
            yield from read_table(path, TableKind.POSTFIX, site)
        for path in self._inputs.virtusertable:
            yield from read_table(path, TableKind.SENDMAIL, site)
        for path in self._inputs.aliases:
            yield from read_aliases(path, site)
        for path in self._inputs.generics:
            yield from read_generics(path, site)

    def _site_of(self, known: Known) -> Site:
        domain = self._domain or known.main_domain.lower()
        if not domain:
            raise InputTrouble("name the domain: --domain, or main_domain in [communigate]")
        if known.asked and domain not in known.domains:
            raise InputTrouble(f"CommuniGate has no domain {domain}: create it, or say another --domain")
        domains = known.domains if known.asked else known.domains | {domain}

        def is_account(address: str) -> bool:
            if known.asked:
                return address in known.accounts
            return address.rpartition("@")[2] in domains and address not in self._defined

        return Site(
            domain=domain,
            local=self._local,
            domains=domains,
            is_account=is_account,
            exists=lambda address: is_account(address) or address in known.others,
            is_protected=known.is_protected,
            read_include=Includes(self._inputs.root, self._inputs.lists.values(), self._inputs.column),
            list_owner=self._list_owner,
            forward_missing=self._forward_missing,
            programs=self._programs,
        )


def _addresses(item: Item, site: Site) -> Iterator[str]:
    """All addresses that an item leads to. A file that cannot be read is told by the plan."""
    for target in item.targets:
        if target.kind in (Kind.ADDRESS, Kind.ACCOUNT):
            yield target.text
        elif target.kind is Kind.INCLUDE:
            try:
                yield from site.read_include(target.text)
            except ValueError:
                continue
