"""What entries of the old server become at CommuniGate: values that the plan makes and the apply step carries out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from migrator.alias_file import Target
from migrator.execute import Programs
from migrator.mail_rule import MailRule

# as the sandbox and the helper have it: letters, digits, . _ - without a dot at the ends, at most 128
_NAME: Final = re.compile(r"[a-z0-9_-](?:[a-z0-9._-]{0,126}[a-z0-9_-])?")


class Form(Enum):
    """What an entry becomes."""

    ALIAS = "account alias"
    FORWARDER = "forwarder"
    GROUP = "group"
    LIST = "mailing list"
    ROUTER = "router line"
    RULE = "account rule"
    NOTHING = "nothing to do"


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of any file. `name` is "" for a whole domain; name and domain in lower case.

    `error` is a refusal that the old server gave on purpose.
    """

    source: str
    line: int
    name: str
    domain: str
    targets: tuple[Target, ...]
    error: str = ""
    text: str = ""  # the entry as its file has it, to be fed back

    @property
    def address(self) -> str:
        """The address that the entry is about."""
        return f"{self.name}@{self.domain}"


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to be made, and why so. `address` is what mail comes for.

    `values`: the account of an alias, the target of a forwarder, members, subscribers, the router line.
    """

    form: Form
    address: str
    values: tuple[str, ...]
    why: str
    item: Item
    owner: str = ""  # of a mailing list: an account of its domain
    rules: tuple[MailRule, ...] = ()
    mailboxes: tuple[str, ...] = ()  # what a rule stores into

    def as_json(self) -> dict[str, Any]:
        """Plain values for json.dumps."""
        found: dict[str, Any] = {
            "becomes": self.form.value,
            "address": self.address,
            "values": list(self.values),
            "why": self.why,
            "file": self.item.source,
            "line": self.item.line,
        }
        if self.owner:
            found["owner"] = self.owner
        if self.rules:
            found["rules"] = [rule.as_value() for rule in self.rules]
        return found


@dataclass(frozen=True, slots=True)
class Undecided:
    """An entry that a person must decide about; nothing of it is made."""

    item: Item
    reason: str
    decide: str

    def as_json(self) -> dict[str, Any]:
        """Plain values for json.dumps."""
        return {
            "address": self.item.address if self.item.domain else self.item.name,
            "reason": self.reason,
            "decide": self.decide,
            "file": self.item.source,
            "line": self.item.line,
        }


@dataclass(frozen=True, slots=True)
class Site:
    """What the plan knows of both servers. Addresses and domains in lower case.

    `domain` is that of names without one; `local` are domains that the old server took for it (mydestination, class w);
    `domains` are CommuniGate's. `is_account` says whether an address is an account there, `exists` whether it is any
    object there, `is_protected` whether nothing may be done to it.
    """

    domain: str
    local: frozenset[str]
    domains: frozenset[str]
    is_account: Callable[[str], bool]
    exists: Callable[[str], bool]
    is_protected: Callable[[str], bool]
    read_include: Callable[[str], list[str]]  # the addresses of an :include: file; ValueError says what is wrong
    list_owner: str = ""  # an account for mailing lists without an owner- alias
    forward_missing: bool = False  # a name that is no account yet gets a forwarder instead of an account alias
    programs: Programs = field(default_factory=Programs)  # those that mail may be given to

    def canonical(self, address: str) -> str:
        """The address with its domain, and the main one instead of those that were the same."""
        user, at, domain = address.rpartition("@")
        if not at:
            return f"{address.lower()}@{self.domain}"
        domain = domain.lower()
        if domain in self.local or domain == self.domain:
            return f"{user.lower()}@{self.domain}"
        return f"{user.lower() if domain in self.domains else user}@{domain}"

    def is_here(self, address: str) -> bool:
        """Whether CommuniGate holds the domain of a canonical address."""
        return address.rpartition("@")[2] in self.domains


_PLAIN_ADDRESS: Final = re.compile(
    r"[^\s,;:=*<>()\[\]\"\\|@\x00-\x1f\x7f]+@(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[[0-9A-Fa-f.:]+\])"
)


def is_plain_address(address: str) -> bool:
    """Whether an address can stand in a list of addresses, a rule and a Router line without being read as more."""
    return _PLAIN_ADDRESS.fullmatch(address) is not None and address.isprintable()


def is_object_name(name: str) -> bool:
    """Whether an alias, forwarder, group or list can have this name."""
    return _NAME.fullmatch(name) is not None and ".." not in name
