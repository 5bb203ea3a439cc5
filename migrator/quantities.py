"""Durations, sizes and rates as the configuration and the flags have them; ValueError with a sentence for a person."""

from __future__ import annotations

import re
from typing import Final

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)(B|KiB|MiB|GiB|KB|MB|GB)?")
_OCTETS: Final = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_SIZE: Final = 20  # characters: more digits than any mailbox has bytes


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
