"""A roster: the addresses that may become accounts, one a line, in a file that may change while it is used.

Read when somebody asks for the first time, in a thread of its own, and again when the file has changed. A file that is
missing, empty or holds lines that are no addresses never means that somebody does not exist: whoever is not found in it
then is Temporary. So is, for a minute, a name that stood in the file before its last change: it may be half written.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wire.outcome import Scope, Temporary

_PAUSE: Final = 1.0  # seconds between two looks at the file: an edit counts at once for a person
_GRACE: Final = 60.0  # seconds: whoever writes a roster line by line has written it by then
_LARGEST: Final = 256 << 20  # bytes: two million addresses are 60 MB
_ENTRY: Final = re.compile(r"[^\s@,;:<>()\[\]\"\\]+(?:@[^\s@,;:<>()\[\]\"\\]+)?")

_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Listed:
    """One version of the file. `problem` is what is wrong with it, "" for nothing."""

    names: frozenset[str] = frozenset()
    problem: str = ""


@dataclass(slots=True)
class Roster:
    """The file at `path` of `domain`, whose names may stand there alone ("default": full addresses only)."""

    path: Path
    domain: str
    clock: Callable[[], float] = time.monotonic
    _listed: Listed = Listed()
    _before: frozenset[str] = frozenset()
    _changed_at: float = 0.0
    _stamp: _Stamp | None = None
    _next_look: float = float("-inf")
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def holds(self, address: str) -> bool:
        """Whether `address` (lower-case) is listed. Temporary where the file does not tell."""
        if self.clock() >= self._next_look:
            async with self._reading:
                if self.clock() >= self._next_look:
                    await self._look()
        if address in self._listed.names:
            return True
        if self._listed.problem:
            raise Temporary(f"the roster {self.path}: {self._listed.problem}", scope=Scope.SETUP)
        if address in self._before and self.clock() < self._changed_at + _GRACE:
            raise Temporary(f"the roster {self.path}: {address} has just gone from it; it counts in a minute")
        return False

    def read(self) -> Listed:
        """The file as it is now. Never raises for what it holds."""
        try:
            with self.path.open("rb") as file:
                content = file.read(_LARGEST + 1)
        except OSError as error:
            return Listed(problem=f"cannot be read: {error.strerror}")
        if len(content) > _LARGEST:
            return Listed(problem=f"is larger than {_LARGEST >> 20} MiB")
        return parse_roster(content, self.domain)

    async def _look(self) -> None:
        stamp = _stamp_of(self.path)
        if stamp is None or stamp != self._stamp:
            listed = await asyncio.to_thread(self.read)
            if self._listed.names:
                self._before, self._changed_at = self._listed.names | self._kept(), self.clock()
            # a file that was changed while it was read keeps its older stamp and is read again at the next look
            self._stamp, self._listed = stamp, listed
        self._next_look = self.clock() + _PAUSE

    def _kept(self) -> frozenset[str]:
        """Names that went a while ago stay in doubt while the file goes on changing."""
        return self._before if self.clock() < self._changed_at + _GRACE else frozenset()


def parse_roster(content: bytes, domain: str) -> Listed:
    """The addresses of a roster, in lower case; `#` begins a comment. Good lines count beside bad ones. Pure."""
    names: set[str] = set()
    problem = ""
    for number, entry in _entries(content.decode("utf-8", "replace").removeprefix("\ufeff")):
        if _ENTRY.fullmatch(entry) is None or "\ufffd" in entry:
            problem = problem or f"line {number} is no address"
        elif "@" in entry:
            names.add(entry)
        elif domain == "default":
            problem = problem or f"line {number} has no domain, which the roster of domains.default needs"
        else:
            names.add(f"{entry}@{domain}")
    return Listed(frozenset(names), problem or ("" if names else "holds no address"))


def _entries(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.lower().split("\n"), 1):
        entry = line.partition("#")[0].strip() if "#" in line else line.strip()
        if entry:
            yield number, entry


def _stamp_of(path: Path) -> _Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
