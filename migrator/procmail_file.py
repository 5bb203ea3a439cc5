"""A .procmailrc read into recipes with their line numbers. Pure: bytes in, values out; only an RcTrouble is raised.

Follows procmailrc(5): assignments, `:0 flags : lock`, `*` conditions with lines that go on after a backslash, one
action line or a nested block. What a recipe means is decided in procmail_rules.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from migrator.alias_file import decode_line, numbered_lines

SIZE_LIMIT: Final = 1 << 20  # bytes of a file: thousands of recipes


class RcTrouble(ValueError):
    """A file that cannot be read as procmail would. `line` says where."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Assignment:
    """`NAME=value`; without `=` the name is unset."""

    line: int
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """One recipe. Conditions are without their `*`; `nested` says that the action is a block, which is not read."""

    line: int
    flags: str
    locked: bool
    conditions: tuple[str, ...]
    action: str
    nested: bool = False


_START: Final = re.compile(r":0([ \ta-zA-Z]*)(:.*)?")
_ASSIGNMENT: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)[ \t]*(?:=[ \t]*(.*))?")


def parse_procmailrc(data: bytes) -> list[Assignment | Recipe]:
    """Everything in the order of the file. RcTrouble for the first line that does not fit."""
    if len(data) > SIZE_LIMIT:
        raise RcTrouble(1, f"a file of more than {SIZE_LIMIT} bytes")
    lines = _Lines(data)
    found: list[Assignment | Recipe] = []
    while (line := lines.next()) is not None:
        number, text = line
        start = _START.fullmatch(text)
        if start is not None:
            found.append(_recipe(lines, number, start[1], start[2] is not None))
            continue
        assigned = _ASSIGNMENT.fullmatch(text)
        if assigned is None:
            raise RcTrouble(number, f"neither a recipe nor an assignment: {text[:80]}")
        found.append(Assignment(number, assigned[1], _unquoted(number, assigned[2] or "")))
    return found


class _Lines:
    """Lines with their numbers; a backslash at the end joins the next one, comments and empty lines are left out."""

    def __init__(self, data: bytes) -> None:
        self._lines = [line for _, line in numbered_lines(data)]
        self._at = 0

    def next(self) -> tuple[int, str] | None:
        while self._at < len(self._lines):
            number = self._at + 1
            raw = self._take()
            if raw.strip() and not raw.lstrip().startswith(b"#"):
                while raw.endswith(b"\\") and self._at < len(self._lines):
                    raw = raw[:-1] + self._take().lstrip()
                text, trouble = decode_line(raw)
                if trouble:
                    raise RcTrouble(number, trouble)
                return number, text.strip()
        return None

    def _take(self) -> bytes:
        self._at += 1
        return self._lines[self._at - 1].rstrip(b"\r")


def _recipe(lines: _Lines, number: int, flags: str, locked: bool) -> Recipe:
    conditions = []
    while True:
        line = lines.next()
        if line is None:
            raise RcTrouble(number, "the recipe has no action")
        at, text = line
        if not text.startswith("*"):
            break
        conditions.append(text[1:].strip())
    if text.startswith("{"):
        _skip_block(lines, at, text)
        return Recipe(number, "".join(flags.split()), locked, tuple(conditions), text, nested=True)
    if text.startswith(":0"):
        raise RcTrouble(number, "the recipe has no action")
    return Recipe(number, "".join(flags.split()), locked, tuple(conditions), text)


def _skip_block(lines: _Lines, number: int, text: str) -> None:
    depth = 1
    if text.rstrip().endswith("}"):
        return
    while depth:
        line = lines.next()
        if line is None:
            raise RcTrouble(number, "the block does not end")
        depth += line[1].startswith("{") and not line[1].endswith("}")
        depth -= line[1].startswith("}")


def _unquoted(line: int, value: str) -> str:
    """The value up to its comment, without quotes; a back quote runs a program, which is shown as it is."""
    value = value.strip()
    for quote in ('"', "'"):
        if value.startswith(quote):
            end = value.find(quote, 1)
            if end < 0:
                raise RcTrouble(line, "a quote does not end")
            return value[1:end]
    return re.split(r"[ \t]#", value, maxsplit=1)[0].strip()
