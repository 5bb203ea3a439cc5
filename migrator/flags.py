"""Which of a message's flags the target can keep. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_SYSTEM: Final = {b"\\answered", b"\\flagged", b"\\deleted", b"\\seen", b"\\draft"}
_ATOM: Final = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\\]]+")  # RFC 3501 9: flag-keyword = atom


@dataclass(frozen=True, slots=True)
class FlagRules:
    """What PERMANENTFLAGS of the target allows."""

    allowed: frozenset[bytes]  # lower case
    any_keyword: bool

    @classmethod
    def of(cls, permanent_flags: Iterable[str]) -> FlagRules:
        """The rules of a selected mailbox. A server that names no flags at all may still take them: try them all."""
        words = frozenset(flag.encode("utf-8", "surrogateescape").lower() for flag in permanent_flags)
        return cls(words or frozenset(_SYSTEM), b"\\*" in words or not words)

    def split(self, flags: Iterable[bytes]) -> tuple[list[bytes], list[bytes]]:
        """(flags to send, flags that the target cannot keep). `\\Recent` is in neither: it is the server's own."""
        keep: list[bytes] = []
        lost: list[bytes] = []
        seen: set[bytes] = set()
        for flag in flags:
            name = flag.lower()
            if name == b"\\recent" or name in seen:
                continue
            seen.add(name)
            (keep if self._takes(flag, name) else lost).append(flag)
        return keep, lost

    def _takes(self, flag: bytes, name: bytes) -> bool:
        if flag.startswith(b"\\"):
            return name in self.allowed and name in _SYSTEM
        return bool(_ATOM.fullmatch(flag)) and (self.any_keyword or name in self.allowed)
