"""A roster: the addresses that may become accounts, one a line, in a file that may change while it is used.

Read when somebody asks for the first time, in a thread of its own, and again when the file has changed. A file that is
missing, empty or holds lines that are no addresses never means that somebody does not exist: whoever is not found in it
then is Temporary. So is, for a minute, a name that stood in the file before its last change: it may be half written.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from migrator.live_file import LiveFile
from wire.outcome import Scope, Temporary

_GRACE: Final = 60.0  # seconds: whoever writes a roster line by line has written it by then
_ENTRY: Final = re.compile(r"[^\s@,;:<>()\[\]\"\\]+(?:@[^\s@,;:<>()\[\]\"\\]+)?")


@dataclass(frozen=True, slots=True)
class Listed:
    """One version of the file. `problem` is what is wrong with it, "" for nothing."""

    names: frozenset[str] = frozenset()
    problem: str = ""


class Roster:
    """The file at `path` of `domain`, whose names may stand there alone ("default": full addresses only)."""

    def __init__(self, path: Path, domain: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._file = LiveFile(path, lambda content: parse_roster(content, domain), _broken, clock)
        self._listed: Listed | None = None
        self._gone: frozenset[str] = frozenset()  # names of earlier versions
        self._changed_at = 0.0

    async def holds(self, address: str) -> bool:
        """Whether `address` (lower-case) is listed. Temporary where the file does not tell."""
        listed = await self._file.look()
        if listed is not self._listed:
            self._take_up(listed)
        if address in listed.names:
            return True
        if listed.problem:
            raise Temporary(f"the roster {self.path}: {listed.problem}", scope=Scope.SETUP)
        if address in self._gone and self._in_doubt:
            raise Temporary(f"the roster {self.path}: {address} has just gone from it; it counts in a minute")
        return False

    def read(self) -> Listed:
        """The file as it is now. Never raises for what it holds."""
        return self._file.read()

    @property
    def _in_doubt(self) -> bool:
        return self._file.clock() < self._changed_at + _GRACE

    def _take_up(self, listed: Listed) -> None:
        before, self._listed = self._listed, listed
        if before is not None and before.names:
            # while the file goes on changing, what went a while ago stays in doubt
            self._gone = before.names | (self._gone if self._in_doubt else frozenset())
            self._changed_at = self._file.clock()


def _broken(problem: str) -> Listed:
    return Listed(problem=problem)


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
