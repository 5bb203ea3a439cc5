"""Finds names that stand in a file more than once, as accounts or aliases, in any case. Pure; 8 bytes for a name."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from hashlib import blake2b
from itertools import pairwise


class Names:
    """`note` the names of every account first, then `close`, then ask in the file's order."""

    def __init__(self) -> None:
        self._noted = array("Q")
        self._first_lines: dict[int, int] = {}

    def note(self, names: Iterable[str]) -> None:
        """Remember the addresses (lower-case) that one account takes."""
        self._noted.extend([_number(name) for name in names])

    def close(self) -> None:
        """Everything is noted."""
        numbers = sorted(self._noted)
        self._noted = array("Q", numbers)
        self._first_lines = dict.fromkeys([one for one, after in pairwise(numbers) if one == after], 0)

    def taken(self, name: str) -> bool:
        """Whether an account or alias of the file has this address."""
        number = _number(name)
        at = bisect_left(self._noted, number)
        return at < len(self._noted) and self._noted[at] == number

    def clashes(self, names: Iterable[str], line: int) -> tuple[str, ...]:
        """Why an account with these names, in this line, cannot be made beside the others."""
        found = []
        for name in names:
            number = _number(name)
            if number in self._first_lines:
                first = self._first_lines[number] = self._first_lines[number] or line
                where = "further below" if first == line else f"in line {first}"
                found.append(f"the name {name} stands {where} too, as an account or an alias")
        return tuple(found)


def _number(name: str) -> int:
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest())
