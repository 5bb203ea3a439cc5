"""A password, kept out of logs, reprs, exceptions, pickles and argument lists."""

from __future__ import annotations

import hashlib
import hmac
from typing import NoReturn


class Secret:
    """Bytes exactly as they came. Only `reveal` gives them back, and only code that puts them on a wire calls it."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = bytes(value)

    def reveal(self) -> bytes:
        """The bytes themselves: for a socket or a seal, never for a log, a file or a command line."""
        return self._value

    def digest(self, key: bytes) -> bytes:
        """32 bytes that equal passwords share under one `key` (HMAC-SHA-256); useless to whoever lacks the key."""
        return hmac.new(key, self._value, hashlib.sha256).digest()

    def __len__(self) -> int:
        return len(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a dict keyed by passwords would leak their hashes and their timing

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is never pickled")
