"""What each alias, virtual user and list becomes at CommuniGate, with the reason. Pure: items in, choices out.

The rules are the migration guide's (Migrating from sendmail): an account's other names are account aliases, one address
elsewhere is a forwarder, several are a group, a list with an owner is a mailing list, an account that sends its mail on
has a rule, and what no object can hold is a Router line. An entry that cannot be made whole is not made at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from migrator.alias_file import Entry, Kind, Target
from migrator.alias_programs import OWNER, execute_choice, is_list_manager, no_object, pipe_choice, way_to_allow
from migrator.execute import NotAllowed
from migrator.mail_objects import Choice, Form, Item, Site, Undecided, is_object_name, is_plain_address
from migrator.mail_rule import redirect_rule
from migrator.table_file import TableRow

Outcome = Choice | Undecided

_LIST_TAILS: Final = (
    "-request", "-owner", "-admin", "-bounces", "-confirm", "-join", "-leave", "-subscribe", "-unsubscribe",
    "-approval", "-outgoing", "-digest",
)  # fmt: skip


def item_of_alias(entry: Entry, source: str, site: Site, text: str) -> Item:
    """An alias of the aliases file, which is one of the site's own domain."""
    return Item(source, entry.line, entry.name.lower(), site.domain, entry.targets, text=text)


def item_of_row(row: TableRow, source: str, site: Site, text: str) -> Item:
    """A row of a virtual user table."""
    domain = site.domain if not row.domain or row.domain in site.local else row.domain
    addresses = [row.user + address if row.user and address[0] == "@" else address for address in row.addresses]
    if row.user:
        addresses = [address.replace("%1", row.user) for address in addresses]
    targets = tuple([Target(Kind.ADDRESS, address) for address in addresses])
    return Item(source, row.line, row.user, domain, targets, error=row.error, text=text)


def plan_aliases(items: Iterable[Item], site: Site) -> list[Outcome]:
    """An outcome for each item, in their order."""
    plan = _Plan(site)
    return plan.run(list(items))


@dataclass(slots=True)
class _Ends:
    """An item's targets, sorted: whether its own name is among them, the others, and what no object can do."""

    keeps: bool = False
    others: list[str] = field(default_factory=list)  # canonical addresses
    includes: list[str] = field(default_factory=list)  # files that were read into `others`
    commands: list[str] = field(default_factory=list)  # of programs that are allowed, as CommuniGate is to run them
    trouble: tuple[str, str] | None = None  # why it cannot be decided, and what to do


class _Plan:
    def __init__(self, site: Site) -> None:
        self.site = site
        self.items: dict[str, Item] = {}
        self.ends: dict[str, _Ends] = {}
        self.done: dict[str, Outcome] = {}
        self.catch_all: set[str] = set()
        self.clashes: set[str] = set()  # addresses that stand there with different targets

    def run(self, items: list[Item]) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        for at, item in enumerate(items):
            clash = self._note(item)
            if clash is not None:
                outcomes[at] = clash
        for address in sorted(self.items, key=lambda name: not name.startswith(OWNER)):
            self._settle(address)  # owners first: a list asks for its own
        return [outcomes.get(at) or self.done[item.address] for at, item in enumerate(items)]

    def _note(self, item: Item) -> Outcome | None:
        """Take an item in; what stands there twice is said of the second."""
        first = self.items.get(item.address)
        if first is None:
            self.items[item.address] = item
            if not item.name:
                self.catch_all.add(item.domain)
            return None
        if not first.line and self._is_list_program(item):
            return Choice(Form.NOTHING, item.address, (), f"the mailing list {first.name} takes its place", item)
        if _same_targets(first, item, self.site):
            return Choice(Form.NOTHING, item.address, (), f"the same as line {first.line} of {first.source}", item)
        self.clashes.add(item.address)
        return Undecided(
            item,
            f"{item.address} stands in line {first.line} of {first.source} too, with another target",
            "keep one of them; the old server used the first of an aliases file, and a virtual table before aliases",
        )

    # -- in the order of what depends on what --------------------------------------------------------------------------

    def _settle(self, address: str) -> None:
        """Decide about an item after all that it leads to; without recursion, since chains may be long."""
        stack = [address]
        path: dict[str, None] = {}  # what is being decided, in order
        while stack:
            at = stack[-1]
            if at in self.done:
                stack.pop()
                path.pop(at, None)
                continue
            item = self.items[at]
            ends = self._ends(item)
            open_ends = [end for end in ends.others if end in self.items and end not in self.done]
            loop = next((end for end in open_ends if end in path), None)
            if loop is not None:
                self._break_loop([*path, at], loop)
                continue
            if open_ends:
                path[at] = None
                stack += open_ends
            else:
                self.done[at] = self._decide(item, ends)

    def _break_loop(self, path: list[str], start: str) -> None:
        ring = list(dict.fromkeys(path[path.index(start) :]))
        shown = " -> ".join([*ring[:6], *(["..."] if len(ring) > 6 else []), start])
        for address in ring:
            self.done[address] = Undecided(
                self.items[address],
                f"it leads back to itself: {shown}",
                "take one of these out of the ring; CommuniGate would send such mail round and round",
            )

    def _ends(self, item: Item) -> _Ends:
        found = self.ends.get(item.address)
        if found is None:
            found = self.ends[item.address] = self._sort_targets(item)
        return found

    def _sort_targets(self, item: Item) -> _Ends:
        ends = _Ends()
        addresses: list[str] = []
        for target in item.targets:
            if target.kind is Kind.ADDRESS:
                addresses.append(target.text)
            elif target.kind is Kind.ACCOUNT:
                own = self.site.canonical(target.text)
                if own != item.address and own in self.items:
                    ends.trouble = (
                        f"\\{target.text} is the account for sendmail, and the alias {target.text} for Postfix",
                        f"write the address of the account that is meant, or {target.text} for the alias",
                    )
                addresses.append(target.text)
            elif target.kind is Kind.INCLUDE:
                try:
                    addresses += self.site.read_include(target.text)
                    ends.includes.append(target.text)
                except ValueError as error:
                    ends.trouble = str(error), "name the directory with the old server's files by --root, or correct it"
            elif target.text == "/dev/null" and len(item.targets) == 1:
                pass
            elif target.kind is Kind.FILE or is_list_manager(target):
                ends.trouble = no_object(target, item.name)
        others = dict.fromkeys([self.site.canonical(address) for address in addresses])
        ends.keeps = item.address in others
        others.pop(item.address, None)
        ends.others = list(others)
        self._sort_programs(item, ends)
        return ends

    def _sort_programs(self, item: Item, ends: _Ends) -> None:
        for target in item.targets:
            if target.kind is Kind.COMMAND and not is_list_manager(target):
                try:
                    ends.commands.append(self.site.programs.command(target.text))
                except NotAllowed as refusal:
                    keep = ends.keeps or bool(ends.others) if self.site.is_account(item.address) else None
                    ends.trouble = refusal.reason, refusal.decide or way_to_allow(target.text, item.address, keep=keep)

    # -- one item, when all that it leads to is decided ----------------------------------------------------------------

    def _decide(self, item: Item, ends: _Ends) -> Outcome:
        if self._is_list_program(item) and (of := self._list_of(item)):
            return Choice(Form.NOTHING, item.address, (), f"the mailing list {of} has addresses of its own", item)
        if ends.trouble is not None:
            return Undecided(item, *ends.trouble)
        if not item.name:
            return self._decide_domain(item)
        odd = [address for address in (item.address, *ends.others) if not is_plain_address(address)]
        if odd:
            return Undecided(item, f"{_some(odd)}: no address that is sure to be read right", "enter it by hand")
        if item.error:
            return self._decide_refusal(item)
        if ends.commands and not self.site.is_account(item.address):
            alone = not (ends.others or ends.keeps or self.site.is_protected(item.address))
            return pipe_choice(item, ends.commands, alone=alone)
        if not self.site.is_here(item.address):
            return self._decide_elsewhere(item, ends)
        if item.targets and item.targets[0] == Target(Kind.FILE, "/dev/null"):
            line = f"<{item.address}> = NULL"
            return Choice(Form.ROUTER, item.address, (line,), "its mail is thrown away; NULL does that", item)
        if self.site.is_protected(item.address) and (ends.others or ends.commands or not ends.keeps):
            return Undecided(
                item,
                f"{item.address} is a protected name: no rule or object is made for it",
                f"let its mail be read where it is, or redirect it by hand to {_some(ends.others)}",
            )
        if not is_object_name(item.name):
            return Undecided(
                item,
                f"{item.name!r} is a name that no object can have",
                f"give it another name, or enter a Router line for <{item.address}>",
            )
        missing = [end for end in ends.others if self._is_missing(end)]
        if missing and not self.site.forward_missing:
            return Undecided(
                item,
                f"{_some(missing)}: there is no such account or alias at CommuniGate",
                "create it and run this again, or say --missing forward: then mail goes to that name once it is there",
            )
        blocked = [end for end in ends.others if isinstance(self.done.get(end), Undecided) or end in self.clashes]
        if blocked:
            return Undecided(
                item, f"{_some(blocked)}: not decided itself", "decide about that one, then run this again"
            )
        if self.site.is_account(item.address):
            return self._decide_account(item, ends)
        if ends.keeps:
            return Undecided(
                item,
                "it names itself, and there is no such account at CommuniGate",
                f"create the account {item.address} and run this again, or take the name out of its targets",
            )
        if not ends.others:
            return Undecided(item, "it leads nowhere: its list is empty", "fill the list or leave the alias out")
        if len(ends.others) == 1 and not ends.includes:
            return self._decide_single(item, ends.others[0])
        return self._decide_many(item, ends)

    def _decide_account(self, item: Item, ends: _Ends) -> Outcome:
        if ends.commands:
            return execute_choice(item, ends.commands, ends.others, keep=ends.keeps)
        if not ends.others:
            return Choice(Form.NOTHING, item.address, (), "it is an account and keeps its mail", item)
        how = "keeps its mail and mirrors it" if ends.keeps else "sends all its mail on; the old server kept none"
        return Choice(
            Form.RULE,
            item.address,
            tuple(ends.others),
            f"the account {how}: a rule that the user sees as a redirection",
            item,
            rules=(redirect_rule(ends.others, keep=ends.keeps),),
        )

    def _decide_single(self, item: Item, end: str) -> Choice:
        by_way, final = "", end
        led = self.done.get(end)
        if isinstance(led, Choice) and led.form is Form.ALIAS:
            final, by_way = led.values[0], f", by way of {end}"
        is_account = self.site.is_account(final) and not (final == end and end in self.items and not _stays(led))
        same_domain = final.rpartition("@")[2] == item.domain
        if is_account and self.site.is_protected(final):
            why = f"{final} is a protected account: it gets no further name to log in with"
        elif is_account and same_domain:
            why = f"another name of the account {final}{by_way}: it goes with the account when that is renamed"
            return Choice(Form.ALIAS, item.address, (final,), why, item)
        elif is_account:
            why = f"{final} is an account of another domain; an account alias stays within its domain"
        elif self._is_missing(end):
            why = f"{end} is no account yet; mail finds it once it is there"
        elif end in self.items:
            why = f"{end} is no account but a {led.form.value}" if isinstance(led, Choice) else f"it leads to {end}"
        else:
            why = f"one address elsewhere: {end}"
        return Choice(Form.FORWARDER, item.address, (end,), why, item)

    def _decide_many(self, item: Item, ends: _Ends) -> Outcome:
        owner = self._owner_of(item) if ends.includes and len(item.targets) == 1 else ""
        if owner:
            return Choice(
                Form.LIST,
                item.address,
                tuple(ends.others),
                f"a list kept in a file, with an owner: the LIST module sends to its {len(ends.others)} subscribers",
                item,
                owner=owner,
            )
        members = tuple([_member(end, item.domain) for end in ends.others])
        why = f"{len(members)} addresses: a group sends to each, and leaves the message as it is"
        if ends.includes and len(item.targets) == 1:
            why += f"; a mailing list would need an owner (alias owner-{item.name}, or --list-owner)"
        return Choice(Form.GROUP, item.address, members, why, item)

    def _owner_of(self, item: Item) -> str:
        """The account in the list's domain that owner-NAME leads to, or that was named for all lists."""
        led = self.done.get(f"{OWNER}{item.name}@{item.domain}")
        if isinstance(led, Choice) and led.form is Form.ALIAS:
            return led.values[0]
        owner = self.site.canonical(self.site.list_owner) if self.site.list_owner else ""
        return owner if owner.rpartition("@")[2] == item.domain and self.site.is_account(owner) else ""

    # -- domains and refusals ------------------------------------------------------------------------------------------

    def _decide_domain(self, item: Item) -> Outcome:
        if item.error:
            return Choice(
                Form.NOTHING, item.address, (), "names that do not exist are refused without it (Mail to Unknown)", item
            )
        target = item.targets[0].text if len(item.targets) == 1 else ""
        right = _domain_target(target)
        if self.site.is_here(item.address):
            return Undecided(
                item,
                f"it catches all names of {item.domain}, also those of users who are not moved yet",
                f"when all accounts are there, set Mail to Unknown of {item.domain} to be rerouted to"
                f" {right or 'the address'}; a Router line would take the accounts' mail too",
            )
        if not right:
            return Undecided(item, "no Router line says that", f"enter one for {item.address} by hand")
        why = f"{item.domain} is no domain of CommuniGate: all its mail is sent on"
        return Choice(Form.ROUTER, item.address, (f"<*@{item.domain}> = {right}",), why, item)

    def _decide_refusal(self, item: Item) -> Outcome:
        if self.site.is_account(item.address) or item.domain in self.catch_all:
            line = f"<{item.address}> = ERROR"
            return Choice(
                Form.ROUTER, item.address, (line,), f"the old server refused it on purpose: {item.error}", item
            )
        return Choice(Form.NOTHING, item.address, (), "a name that does not exist is refused without it", item)

    def _decide_elsewhere(self, item: Item, ends: _Ends) -> Outcome:
        if len(ends.others) == 1 and not ends.includes:
            if self._is_missing(ends.others[0]) and not self.site.forward_missing:
                reason = f"{ends.others[0]}: there is no such account or alias at CommuniGate"
                return Undecided(item, reason, "create it and run this again, or say --missing forward")
            line = f"<{item.address}> = {ends.others[0]}"
            why = f"{item.domain} is no domain of CommuniGate, so there is no place for a forwarder"
            return Choice(Form.ROUTER, item.address, (line,), why, item)
        return Undecided(
            item,
            f"{item.domain} is no domain of CommuniGate, and a Router line has one target",
            f"create the domain {item.domain} (or say --local-domain if it is {self.site.domain}), then run this again",
        )

    def _is_list_program(self, item: Item) -> bool:
        return bool(item.targets) and all(is_list_manager(target) for target in item.targets)

    def _list_of(self, item: Item) -> str:
        """The list named on the command line that this is a helper address of."""
        names = [item.name.removeprefix(OWNER), *(item.name.removesuffix(tail) for tail in _LIST_TAILS)]
        for name in names:
            of = self.items.get(f"{name}@{item.domain}")
            if name != item.name and of is not None and not of.line:
                return name
        return ""

    def _is_missing(self, address: str) -> bool:
        return self.site.is_here(address) and address not in self.items and not self.site.exists(address)


def _stays(led: Outcome | None) -> bool:
    """Whether mail for an account with an entry of its own still ends in that account, whole."""
    return isinstance(led, Choice) and (led.form is Form.NOTHING or led.form is Form.RULE)


def _same_targets(one: Item, other: Item, site: Site) -> bool:
    def plain(item: Item) -> set[tuple[Kind, str]]:
        return {
            (target.kind, site.canonical(target.text) if target.kind is Kind.ADDRESS else target.text)
            for target in item.targets
        }

    return plain(one) == plain(other) and one.error == other.error


def _domain_target(target: str) -> str:
    """The right side of a Router line for a whole domain; "" where none says it."""
    if target.startswith("@"):
        return "*" + target
    if "%2" in target or "%3" in target or target.count("%1") > 1 or "*" in target or not target:
        return ""
    return target.replace("%1", "*")


def _member(address: str, domain: str) -> str:
    return address.removesuffix(f"@{domain}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
