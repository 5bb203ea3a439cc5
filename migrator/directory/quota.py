"""Mail quotas of old systems, in bytes, and as CommuniGate's MaxAccountSize has them. Pure."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {"": 0, "B": 0, "K": 10, "KB": 10, "M": 20, "MB": 20, "G": 30, "GB": 30, "T": 40, "TB": 40}
_SIZE: Final = re.compile(r"(\d{1,15})(?:\.(\d{1,6}))?\s*([A-Za-z]*)", re.ASCII)
_UNLIMITED: Final = frozenset({"", "-1", "0", "unlimited", "none", "noquota", "default"})


def read_quota(text: str, *, unit: str = "") -> int | None:
    """Bytes; None where there is no limit of its own. `unit` is that of a bare number: "", K, M or G.

    ValueError, with a reason, for what is no size. 0 and -1 mean no limit in the systems read here.
    """
    text = text.strip()
    if text.lower() in _UNLIMITED:
        return None
    match = _SIZE.fullmatch(text)
    if match is None or match[3].upper() not in _UNITS:
        raise ValueError(f"{text[:40]!r} is no size of a mailbox")
    shift = _UNITS[(match[3] or unit).upper()]
    whole = int(match[1]) << shift
    part = (int(match[2]) << shift) // 10 ** len(match[2]) if match[2] else 0
    return whole + part or None


def read_maildir_quota(text: str) -> int | None:
    """qmail-ldap's and Maildir++'s `10000000S,1000C`: the S part. A bare number is bytes."""
    for part in text.split(","):
        if part.strip()[-1:].upper() == "S":
            return read_quota(part.strip()[:-1])
        if part.strip()[-1:].upper() != "C":
            return read_quota(part)
    return None


def read_dovecot_quota(text: str) -> int | None:
    """Dovecot's quota_rule `*:storage=1G` or `*:bytes=1000`; a bare number of storage is kilobytes."""
    for part in text.split(":"):
        key, _, value = part.partition("=")
        if key == "storage":
            return read_quota(value, unit="K")
        if key == "bytes":
            return read_quota(value)
    return None


def render_size(size: int) -> str:
    """As the guide's account list writes sizes: `10K`, `31M`. Rounded up to kilobytes: nobody gets less."""
    for letter, shift in (("G", 30), ("M", 20)):
        if size >> shift and not size & ((1 << shift) - 1):
            return f"{size >> shift}{letter}"
    return f"{-(-size // 1024)}K"
