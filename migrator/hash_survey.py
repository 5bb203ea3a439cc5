"""What is in a file of hashes: how many of each kind, what CommuniGate takes as it is, and who needs what. Pure.

Nothing here ever holds a hash: numbers, names and reasons only.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from migrator.hash_table import HashTable, Line, read_entry
from migrator.password_check import too_costly
from migrator.passwords import PasswordHash, Scheme, Use

_NO_TROUBLE: Final = frozenset({Scheme.LOCKED, Scheme.ABSENT})  # as the old system wants it: nobody has to mend it


@dataclass(frozen=True, slots=True)
class Finding:
    """A line that a person should look at."""

    line: int
    name: str
    scheme: str
    problem: str


@dataclass(slots=True)
class Survey:
    """The whole file. `schemes` counts by use and kind."""

    accounts: int = 0
    schemes: dict[str, Counter[str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    samples: dict[Scheme, PasswordHash] = field(default_factory=dict, repr=False)  # one of each kind to be checked here

    def as_json(self) -> dict[str, Any]:
        """Plain values for json.dumps."""
        return {
            "accounts": self.accounts,
            "uses": {use.value: self.schemes.get(use.value, Counter()).total() for use in Use},
            "schemes": {use: dict(sorted(kinds.items())) for use, kinds in self.schemes.items()},
            "problems": [
                {"line": f.line, "name": f.name, "scheme": f.scheme, "problem": f.problem} for f in self.findings
            ],
        }


def survey(table: HashTable) -> Survey:
    """Look at every line once."""
    found = Survey()
    for line in table:
        stored = read_entry(line)
        use, problem = use_of(stored)
        found.accounts += 1
        found.schemes.setdefault(use.value, Counter())[stored.scheme.value] += 1
        if use is Use.FIRST_LOGIN:
            found.samples.setdefault(stored.scheme, stored)
        if problem and stored.scheme not in _NO_TROUBLE:
            found.findings.append(_finding(line, stored, problem))
    skipped = [Finding(line.number, "", "", line.problem) for line in table.skipped]
    found.findings = sorted(found.findings + skipped, key=lambda finding: finding.line)
    return found


def use_of(stored: PasswordHash) -> tuple[Use, str]:
    """What becomes of the user, and why it is a new password if it is one."""
    if stored.use is Use.FIRST_LOGIN and (excess := too_costly(stored)):
        return Use.NEW_PASSWORD, excess
    return stored.use, stored.problem


def _finding(line: Line, stored: PasswordHash, problem: str) -> Finding:
    name = line.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return Finding(line.number, name, stored.scheme.value, problem)
