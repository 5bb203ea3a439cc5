"""One reader for each kind of value in the configuration; each raises ValueError with a sentence for a person."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

from migrator.account_name import is_domain
from migrator.quantities import parse_duration
from migrator.settings import PLACEHOLDER, Quota, Value
from wire.endpoint import Endpoint, parse_endpoint
from wire.secret import Secret

T = TypeVar("T")

NOT_A_DOMAIN: Final = "is not the name of a domain, such as example.com"
_RESERVED: Final = ("password", "useapppassword", "useextpassword")


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
