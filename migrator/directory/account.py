"""What an entry becomes at CommuniGate: an account with its settings, or the reasons why it cannot. Pure.

Nothing is guessed: a name that CommuniGate cannot have, a password that it does not take, an alias that is somebody
else's name make a bad entry, and a person decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from cli_client.commands import Encrypted, Settings, settable
from migrator.account_name import NAME_RULE, is_domain, is_local_name
from migrator.directory.entry import Entry, Stored
from migrator.directory.quota import render_size
from migrator.directory.text_lines import clean_text
from migrator.password_forms import read_password
from migrator.passwords import Scheme, Use
from wire.secret import Secret

_SENDABLE: Final = re.compile(r"[^\s\x00-\x1f\x7f,]+")  # an address, as far as it matters to a list of addresses
_BEST: Final = (Use.AS_IT_IS, Use.PASSWORD, Use.FIRST_LOGIN, Use.NEW_PASSWORD)


class Passwords(Enum):
    """What is done about passwords; the value is the option's word."""

    TAKEN = "taken"  # each account needs one that CommuniGate takes
    FIRST_LOGIN = "first-login"  # others are asked about at the old server, or its hashes, at the first login
    OS = "os"  # Use OS Password (migration guide, Converting Passwords)
    NONE = "none"  # no password: nobody logs in until one is set


@dataclass(frozen=True, slots=True)
class Rules:
    """How entries are read. Domains are lower-case."""

    domain: str = ""  # of names without one, and then the only one
    same_domains: frozenset[str] = frozenset()  # other names of `domain`
    by_address: bool = False  # the account is called like the main address, and not like the login
    passwords: Passwords = Passwords.TAKEN
    protected: Callable[[str], bool] = field(default=lambda address: False)


@dataclass(frozen=True, slots=True)
class Forward:
    """Mail for `address` goes to `targets`: for the tools that make forwarders, groups and rules of it."""

    address: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NewAccount:
    """One account to be made. `address` is lower-case; `aliases` are local names of the same domain."""

    line: int
    raw: Secret
    address: str
    old_name: str
    password: Encrypted | Secret | None = None  # a Secret is clear text
    waits: bool = False  # external authentication until the first login
    stored: Secret | None = None  # the hash that can tell the password then
    real_name: str = ""
    aliases: tuple[str, ...] = ()
    forwards: tuple[Forward, ...] = ()
    quota: int | None = None

    @property
    def name(self) -> str:
        """Without the domain."""
        return self.address.rpartition("@")[0]

    @property
    def domain(self) -> str:
        """The domain."""
        return self.address.rpartition("@")[2]

    @property
    def names(self) -> tuple[str, ...]:
        """Every address that it takes at CommuniGate."""
        return (self.address, *(f"{alias}@{self.domain}" for alias in self.aliases))


@dataclass(frozen=True, slots=True)
class Rejected:
    """An entry that becomes no account, and every reason."""

    line: int
    raw: Secret
    name: str
    reasons: tuple[str, ...]


def make_account(entry: Entry, rules: Rules, extra_aliases: Iterable[str] = ()) -> NewAccount | Rejected:
    """The account of an entry that is one. `extra_aliases` are addresses that other files lead to it."""
    problems: list[str] = []
    address = _address(entry, rules, problems)
    name, _, domain = address.rpartition("@")
    if not problems:
        if not is_domain(domain):
            problems.append(f"{domain[:60]!r} is no domain name")
        if not is_local_name(name):
            problems.append(NAME_RULE)
        elif rules.protected(address):
            problems.append("it is a protected name: CommuniGate's own administrator, or one that the site protects")
    aliases, forwards = _aliases(entry, rules, address, extra_aliases, problems)
    password, waits, stored = _password(entry.passwords, rules.passwords, problems)
    unsendable = [target for target in entry.forwards if not _SENDABLE.fullmatch(target)]
    problems += [f"its mail cannot be sent on to {target[:60]!r}" for target in unsendable]
    if problems:
        return Rejected(entry.line, entry.raw, address or entry.name, tuple(problems))
    if entry.forwards:
        forwards.append(Forward(address, entry.forwards))
    return NewAccount(
        entry.line,
        entry.raw,
        address,
        clean_text(entry.name),
        password=password,
        waits=waits,
        stored=stored,
        real_name=entry.real_name,
        aliases=aliases,
        forwards=tuple(forwards),
        quota=entry.quota,
    )


def address_of(entry: Entry, rules: Rules) -> str:
    """The address the entry's account would have; "" where that cannot be said."""
    return _address(entry, rules, [])


def _address(entry: Entry, rules: Rules, problems: list[str]) -> str:
    given = entry.address if rules.by_address and entry.address else entry.name
    name, at, domain = given.strip().lower().rpartition("@")
    if not at:
        name, domain = domain, entry.address.lower().rpartition("@")[2] or rules.domain
    if domain in rules.same_domains:
        domain = rules.domain
    if not domain:
        problems.append("its domain is not known: say --domain")
    elif rules.domain and domain != rules.domain:
        problems.append(f"it is of the domain {domain[:60]!r}, not of {rules.domain}")
    return f"{name}@{domain}" if domain else name


def _aliases(
    entry: Entry, rules: Rules, address: str, extra: Iterable[str], problems: list[str]
) -> tuple[tuple[str, ...], list[Forward]]:
    """Local names of the account's domain; addresses of other domains are forwards to it."""
    own, _, domain = address.rpartition("@")
    aliases: dict[str, None] = {}
    forwards: dict[str, Forward] = {}
    for alias in (entry.address, *entry.aliases, *extra):
        name, at, other = alias.strip().lower().rpartition("@")
        if not at:
            name, other = other, domain
        if not name:
            continue
        if other in rules.same_domains:
            other = rules.domain
        if not _SENDABLE.fullmatch(name) or not is_domain(other):
            problems.append(f"{alias[:60]!r} is no address")
        elif other != domain:
            forwards[f"{name}@{other}"] = Forward(f"{name}@{other}", (address,))
        elif name != own:
            aliases[name] = None
            if not is_local_name(name):
                problems.append(f"no alias can be called {name[:60]!r}")
            elif rules.protected(f"{name}@{domain}"):
                problems.append(f"its alias {name} is a protected name")
    return tuple(aliases), list(forwards.values())


def _password(
    stored: tuple[Stored, ...], plan: Passwords, problems: list[str]
) -> tuple[Encrypted | Secret | None, bool, Secret | None]:
    """What is stored at CommuniGate, whether the account waits for its first login, and the hash to check it with."""
    if plan in (Passwords.OS, Passwords.NONE):
        return None, False, None
    found = sorted((_read(each) for each in stored), key=lambda one: _BEST.index(one.use))
    best = found[0] if found else _Reading(Use.NEW_PASSWORD, trouble="there is no password")
    if best.password is None and plan is Passwords.TAKEN:
        problems.append(best.trouble)
    return best.password, best.password is None, best.checkable


@dataclass(frozen=True, slots=True)
class _Reading:
    """What is to be done with one stored password."""

    use: Use
    password: Encrypted | Secret | None = None  # what CommuniGate stores
    checkable: Secret | None = None  # the hash, where only the first login can use it
    trouble: str = ""


def _read(stored: Stored) -> _Reading:
    if stored.clear:
        if settable(stored.text):
            return _Reading(Use.PASSWORD, stored.text)
        return _Reading(Use.NEW_PASSWORD, trouble="the password is empty or holds a control character")
    found = read_password(stored.text.reveal().decode("utf-8", "backslashreplace"))
    if found.use is Use.AS_IT_IS:
        return _Reading(found.use, Encrypted(Secret(found.communigate.encode())))
    if found.use is Use.PASSWORD:
        return _read(Stored(Secret(found.communigate.encode()), clear=True))
    if found.use is Use.FIRST_LOGIN:
        salt = f" with {len(found.salt)} bytes of salt" if found.scheme is Scheme.SALTED_SHA1 else ""  # 8 are taken
        words = f"CommuniGate takes no {found.scheme.value} hash{salt}; --passwords first-login makes the account"
        return _Reading(found.use, checkable=stored.text, trouble=words)
    if found.scheme in (Scheme.ABSENT, Scheme.LOCKED):
        return _Reading(found.use, trouble=found.problem)
    return _Reading(found.use, trouble=f"its password cannot be used: {found.problem or found.scheme.value}")


def settings_of(account: NewAccount, plan: Passwords, more: Settings) -> Settings:
    """The settings for CreateAccount. `more` is what the site sets for every account."""
    settings = dict(more)
    if account.password is not None:
        # said outright, because the template of a migration may have external authentication on
        settings |= {"Password": account.password, "UseAppPassword": "YES", "UseExtPassword": "NO"}
    elif account.waits:
        settings |= {"UseAppPassword": "NO", "UseExtPassword": "YES"}
    if plan is Passwords.OS:
        settings["UseSysPassword"] = "YES"
    if account.real_name:
        settings["RealName"] = account.real_name
    if account.quota is not None:
        settings["MaxAccountSize"] = render_size(account.quota)
    return settings
