"""Which names an account can have (CommuniGate's rule). Pure."""

from __future__ import annotations

import re
from typing import Final

NAME_LIMIT: Final = 128  # characters of an account name: CommuniGate's own limit
NAME_RULE: Final = "an account name holds letters, digits, '.', '_' and '-' only, with no '.' at its ends"
_NAME: Final = re.compile(r"[a-z0-9_-](?:[a-z0-9._-]*[a-z0-9_-])?\Z")
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN: Final = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\Z")


def qualify(name: str, main_domain: str) -> str | None:
    """`name` with its domain; a bare name is of the main domain. None for a bare name where none is configured."""
    if "@" in name:
        return name
    return f"{name}@{main_domain}" if main_domain else None


def is_local_name(name: str) -> bool:
    """Whether `name` (lower-case, without a domain) is one that an account or an alias can have."""
    return len(name) <= NAME_LIMIT and _NAME.match(name) is not None


def is_domain(name: str) -> bool:
    """Whether `name` (lower-case) is a domain name."""
    return _DOMAIN.match(name) is not None


def is_account_name(address: str) -> bool:
    """Whether `address` (lower-case) is a name and a domain that an account can have."""
    local, _, domain = address.rpartition("@")
    return is_local_name(local) and is_domain(domain)
