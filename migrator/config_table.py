"""Tables of the configuration: keys taken out one by one, with what is wrong named by key and line."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from wire.secret import Secret

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to change. `line` is 0 where no line of the file is to blame (a missing key, a variable)."""

    key: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.key}: {self.text}" if self.line else f"{self.key}: {self.text}"


class ConfigurationTrouble(Exception):
    """The configuration cannot be used. `files` are those whose change is worth another try."""

    def __init__(self, path: Path, problems: list[Problem], files: tuple[Path, ...]) -> None:
        self.path = path
        self.problems = problems
        self.files = files
        super().__init__("; ".join(f"{path}: {problem}" for problem in problems))

    def lines(self) -> list[str]:
        """Each problem as `FILE:LINE: key: text`, in the order of the file."""
        return [f"{self.path}:{p.line}: {p.key}: {p.text}" for p in self.problems]


class Table:
    """One table of the file: takes keys out one by one and collects what is wrong with them."""

    def __init__(self, reader: Reader, name: tuple[str, ...], values: Mapping[str, Any]) -> None:
        self.reader = reader
        self.name = name
        self.values = dict(values)

    def problem(self, key: str, text: str) -> None:
        """Something is wrong with a key of this table."""
        self.reader.problem((*self.name, key), text)

    def missing(self, key: str, reason: str) -> None:
        """A problem, unless what is there for `key` is one already."""
        if not self.reader.is_problem((*self.name, key)):
            self.problem(key, f"missing: {reason}")

    def take(self, key: str, read: Callable[[Any], T], default: T) -> T:
        """The value of `key` read by `read`, whose ValueError becomes a problem."""
        if key not in self.values:
            return default
        value = self.values.pop(key)
        try:
            return read(value)
        except ValueError as error:
            self.problem(key, str(error))
            return default

    def finish(self) -> None:
        """Every key that is left is unknown."""
        for key in self.values:
            self.problem(key, "unknown key")


class Reader:
    """Everything that was found wrong, and every file that was looked at."""

    def __init__(
        self,
        path: Path,
        lines: Mapping[tuple[str, ...], int],
        *,
        check_files: bool,
        check_keys: bool,
        check_places: bool,
    ) -> None:
        self.path = path
        self.lines = lines
        self.check_files = check_files
        self.check_keys = check_files and check_keys
        self.check_places = check_places
        self.variables: dict[tuple[str, ...], str] = {}  # keys set by the environment: the variables
        self.problems: list[Problem] = []
        self.files: list[Path] = [path]

    def problem(self, key: tuple[str, ...], text: str) -> None:
        """Something is wrong with a key; its line, or that of the table around it, is looked up."""
        line = next((self.lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in self.lines), 0)
        if (variable := self.variables.get(key[:2])) is not None:
            line, text = 0, f"{text} ({variable} sets it)"
        self.problems.append(Problem(dotted(key), line, text))

    def is_problem(self, key: tuple[str, ...]) -> bool:
        """Whether something is wrong with this key already."""
        return any(problem.key == dotted(key) for problem in self.problems)

    def check_place(self, key: tuple[str, ...], file: Path) -> None:
        """A missing directory that the file names is told to the operator; it never stops the helper, which lets users
        in without it."""
        if self.check_places and key in self.lines and not self.is_problem(key) and not file.parent.is_dir():
            self.problem(key, f"there is no directory {file.parent}; make it, owned by the helper's user")

    def resolve(self, text: str) -> Path:
        """A path, from the directory of the configuration where it is not absolute."""
        path = Path(text)
        return path if path.is_absolute() else self.path.parent / path

    def secret_file(self, text: str) -> Secret:
        """The first line of a file that others may not read. ValueError without one."""
        path = self.resolve(text)
        self.files.append(path)
        if not self.check_files:
            return Secret(b"")
        try:
            mode = path.stat().st_mode
            content = path.read_bytes()
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror}") from None
        if stat.S_IMODE(mode) & 0o007:
            raise ValueError(f"{path} is open to everybody (mode {stat.S_IMODE(mode):04o}); chmod 600 it")
        line = content.split(b"\n", 1)[0].removesuffix(b"\r")
        if not line:
            raise ValueError(f"{path} holds no password on its first line")
        return Secret(line)

    def hash_file(self, key: tuple[str, ...], text: str) -> Path:
        """Told to the operator when it cannot be used; it never stops the helper, which answers FAILURE for the users
        of this one domain until it can."""
        path = self.resolve(text)
        if self.check_places:
            from migrator.hash_file import find_trouble  # noqa: PLC0415 - most sites have no hashes

            if trouble := find_trouble(path):
                self.problem(key, trouble)
        return path

    def list_file(self, text: str) -> frozenset[str]:
        """The lines of a file in lower case, without comments. ValueError where it cannot be read."""
        path = self.resolve(text)
        self.files.append(path)
        if not self.check_files:
            return frozenset()
        try:
            content = path.read_text("utf-8", "surrogateescape")
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror}") from None
        lines = (line.split("#", 1)[0].strip().lower() for line in content.splitlines())
        return frozenset(line for line in lines if line)


def dotted(key: tuple[str, ...]) -> str:
    """A key with its tables, as TOML writes it."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"' for part in key)
