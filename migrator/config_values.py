"""One reader for each kind of value in the configuration; each raises ValueError with a sentence for a person."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

from migrator.account_name import is_domain
from migrator.settings import PLACEHOLDER, Quota, Value
from wire.endpoint import Endpoint, parse_endpoint
from wire.secret import Secret

T = TypeVar("T")

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)(B|KiB|MiB|GiB|KB|MB|GB)?")
_OCTETS: Final = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_SIZE: Final = 20  # characters: more digits than any mailbox has bytes
NOT_A_DOMAIN: Final = "is not the name of a domain, such as example.com"
_RESERVED: Final = ("password", "useapppassword", "useextpassword")


def parse_duration(text: object) -> float:
    """`15s`, `20m`, `3d`, also `500ms` and `2h`, in seconds. ValueError with a sentence otherwise."""
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError('a duration is a string such as "15s", "20m" or "3d"')
    return float(match[1]) * _SECONDS[match[2]]


def parse_size(text: object) -> int:
    """`8MiB`, `500KB`, `1.5GiB` or a number of bytes. ValueError with a sentence otherwise, and for none at all."""
    match = _SIZE.fullmatch(text) if isinstance(text, str) and len(text) < _LONGEST_SIZE else None
    size = int(float(match[1]) * _OCTETS[match[2] or "B"]) if match else 0
    if not size:
        raise ValueError('a size is a string such as "8MiB" or "500KB"')
    return size


def parse_rate(text: object) -> int:
    """`2MiB/s` in bytes per second. ValueError with a sentence otherwise."""
    try:
        if not isinstance(text, str) or not text.endswith("/s"):
            raise ValueError
        return parse_size(text.removesuffix("/s"))
    except ValueError:
        raise ValueError('a rate is a string such as "2MiB/s" or "500KB/s"') from None


def parse_quota(text: object) -> Quota:
    """`1000/1h`, `200/10m`; `0` is no limit. ValueError with a sentence otherwise."""
    if text in ("0", 0) and not isinstance(text, bool):
        return Quota(0, 1.0)
    count, _, duration = text.partition("/") if isinstance(text, str) else ("", "", "")
    try:
        if not re.fullmatch(r"[0-9]{1,9}", count) or not int(count):
            raise ValueError
        seconds = parse_duration(duration)
        if seconds <= 0:
            raise ValueError
    except ValueError:
        raise ValueError('a limit is a string such as "1000/1h", so many in that time; "0" is none') from None
    return Quota(int(count), seconds)


def read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return value


def read_clean_text(value: Any) -> str:
    text = read_text(value)
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise ValueError("must not hold control characters")
    return text


def read_name(value: Any) -> str:
    if not (text := read_clean_text(value)):
        raise ValueError("must not be empty")
    return text


def read_domain_name(value: Any) -> str:
    """In lower case; "" is none."""
    text = read_text(value).lower()
    if text and not is_domain(text):
        raise ValueError(NOT_A_DOMAIN)
    return text


def read_secret_text(value: Any) -> Secret:
    if not read_text(value):
        raise ValueError("must not be empty")
    return Secret(value.encode())


def read_boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def read_number(least: int, most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return value

    return read


def read_choice(*words: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in words:
            raise ValueError("must be one of " + ", ".join(f'"{word}"' for word in words))
        return str(value)

    return read


def read_endpoint(protocol: str) -> Callable[[Any], Endpoint]:
    return lambda value: parse_endpoint(read_text(value), protocol)


def read_optional(read: Callable[[Any], T]) -> Callable[[Any], T | None]:
    return lambda value: None if value == "" else read(value)


def read_strings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ValueError("must be a list of strings")
    return tuple(value)


def read_names(value: Any) -> frozenset[str]:
    return frozenset(name.lower() for name in read_strings(value))


def read_networks(value: Any) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    try:
        return tuple(ipaddress.ip_network(text) for text in read_strings(value))
    except ValueError as error:
        raise ValueError(f'must be a list of addresses and networks such as "192.0.2.0/24": {error}') from None


def read_senders(value: Any) -> tuple[str, ...]:
    senders = tuple(read_clean_text(sender) for sender in read_strings(value))
    if not senders or any(sender and "@" not in sender for sender in senders):
        raise ValueError('must be a list of addresses; "" is the empty sender <>')
    return senders


def read_template(value: Any) -> str:
    text = read_clean_text(value)
    if "{" in PLACEHOLDER.sub("", text) or "}" in PLACEHOLDER.sub("", text):
        raise ValueError("may hold {user}, {domain} and {address} and no other braces")
    if not PLACEHOLDER.search(text):
        raise ValueError("must hold {user} or {address}: one login for everybody would open one mailbox for all")
    return text


def read_create(value: Any) -> dict[str, Value]:
    if not isinstance(value, dict):
        raise ValueError('must be a table of account settings such as { ServiceClass = "basic" }')
    for key in value:
        if key.lower() in _RESERVED:
            raise ValueError(f"{key} is set by the migration itself")
    return {key: read_setting(entry) for key, entry in value.items()}


def read_setting(value: Any) -> Value:
    if isinstance(value, bool):
        return "YES" if value else "NO"
    if isinstance(value, int | str):
        return str(value)
    if isinstance(value, list):
        return [read_setting(entry) for entry in value]
    if isinstance(value, dict):
        return {key: read_setting(entry) for key, entry in value.items()}
    raise ValueError("account settings are strings, numbers, true or false, lists and tables")
