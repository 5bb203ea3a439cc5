"""Which names can be accounts, and whose mail a name that cannot be one is. Pure.

Addresses that only carry something for a user (`user+detail`, BATV's `prvs=`, SRS) never become accounts: they
lead to the base address, which is asked about instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from migrator.account_name import NAME_LIMIT, NAME_RULE, is_account_name, is_domain, is_local_name

_PRVS: Final = re.compile(r"prvs=(?:[0-9a-z]+=(?P<after>.+)|(?P<before>[^=/]+)/[0-9a-z]+)\Z")  # BATV, both drafts
_SRS0: Final = re.compile(r"srs0[=+-][^=]+=[^=]+=(?P<domain>[^=]+)=(?P<local>.+)\Z")
_SRS1: Final = re.compile(r"srs1[=+-][^=]+=[^=]+=(?P<inner>[=+-].+)\Z")
_SENDABLE: Final = re.compile(r"[!-~]+\Z")


@dataclass(frozen=True, slots=True)
class Account:
    """`address` can be an account."""

    address: str


@dataclass(frozen=True, slots=True)
class Carrier:
    """`address` is no account name; what comes for it is meant for `base`."""

    address: str
    base: str


@dataclass(frozen=True, slots=True)
class Illegal:
    """No account can have this name. `sendable` tells whether an SMTP server can be asked about it at all."""

    address: str
    reason: str
    sendable: bool


Named = Account | Carrier | Illegal


def read_name(address: str) -> Named:
    """What kind of name `address` (lower-case, with its domain) is."""
    local, _, domain = address.rpartition("@")
    if not is_domain(domain):
        return Illegal(address, "the domain is not a domain name", sendable=False)
    if is_local_name(local):
        return Account(address)
    base = _find_base(local, domain)
    if base is not None and is_account_name(base):
        return Carrier(address, base)
    if len(local) > NAME_LIMIT:
        return Illegal(address, f"a name of more than {NAME_LIMIT} characters", sendable=False)
    sendable = _SENDABLE.match(local) is not None and not re.search(r'[<>()\[\]\\,;:@"]', local)
    return Illegal(address, NAME_RULE, sendable)


def _find_base(local: str, domain: str) -> str | None:
    """The address behind BATV, SRS and details, each taken off once, outermost first; None if there is none."""
    original = f"{local}@{domain}"
    if match := _PRVS.match(local):
        local = match["after"] or match["before"]
    if match := _SRS1.match(local):
        local = "srs0" + match["inner"]
    if match := _SRS0.match(local):
        local, domain = match["local"], match["domain"]
    if "+" in local:
        local = local.partition("+")[0]
    base = f"{local}@{domain}"
    return base if local and base != original else None
