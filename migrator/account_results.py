"""What became of each account of a list: result lines, and the report file that --resume goes on from.

The file is tab-delimited, with the names as they stand in the list and never a password. It is replaced as a whole,
so that whoever reads it, or a crash, meets a complete one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from migrator.account_list import Row
from migrator.preview import Preview
from migrator.report import Report
from migrator.whole_file import write_whole

DONE: Final = "done"
_FIELDS: Final = (
    "Name", "NewName", "Result", "ExitCode", "Messages", "Copied", "Already", "LeftOut", "Refused", "Left", "Bytes",
    "Unexplained", "Reason", "Copy",
)  # fmt: skip
_COUNTERS: Final = ("messages", "copied", "already", "left_out", "refused", "left", "octets", "unexplained")
_EVERY: Final = 1.0  # seconds between two writings of the file: what a crash costs --resume

Key = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class RowResult:
    """One account. `result` is a word; `text` is for its result line; `reason` says why, where it is not done."""

    row: Row
    result: str
    code: int
    text: str
    reason: str = ""
    end: Report | Preview | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values for json.dumps."""
        return {
            "name": self.row.name.decode("utf-8", "backslashreplace"),
            "new_name": self.row.new_name.decode("utf-8", "backslashreplace"),
            "line": self.row.line,
            "result": self.result,
            "exit_code": self.code,
            "reason": self.reason,
            "report": self.end.as_json() if self.end is not None else None,
        }

    def as_line(self, copy: str) -> bytes:
        """Its line of the report file."""
        numbers = [str(self.end.total(name)) for name in _COUNTERS] if isinstance(self.end, Report) else []
        numbers += [""] * (len(_COUNTERS) - len(numbers))
        cells = [self.row.name, self.row.new_name]
        cells += [_clean(text) for text in (self.result, str(self.code), *numbers, self.reason, copy)]
        return b"\t".join(cells)


class ResultsFile:
    """The report file. `note` each result, `close` in the end; OSError where it cannot be read or written."""

    def __init__(self, path: Path, copy: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._copy = copy  # both servers: what is done between others is not done here
        self._clock = clock
        self._lines: dict[Key, bytes] = {}
        self._bad: list[bytes] = []
        self._written_at = 0.0
        self._stale = True

    def read(self) -> Mapping[Key, bytes]:
        """The lines of accounts that an earlier run between the same servers has done. Empty without a file."""
        try:
            header, *lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return {}
        if header != _header():
            raise OSError(0, "it is not a report of this program", str(self._path))
        done = {}
        for line in lines:
            cells = line.split(b"\t")
            if len(cells) == len(_FIELDS) and cells[2] == DONE.encode() and cells[-1] == _clean(self._copy):
                done[cells[0], cells[1]] = line
        return done

    def keep(self, key: Key, line: bytes) -> None:
        """Keep a line of an earlier run."""
        self._lines[key] = line

    def note(self, result: RowResult) -> None:
        """Remember a result, and write the file if the last writing was a while ago; `close` tells of trouble."""
        line = result.as_line(self._copy)
        if result.row.trouble:
            self._bad.append(line)  # perhaps without a name, or with one that stands there more than once
        else:
            self._lines[result.row.name, result.row.new_name] = line
        self._stale = True
        if self._clock() - self._written_at >= _EVERY:
            with suppress(OSError):  # a full disk stops no copy, and there may be room in the end
                self.write()

    def write(self) -> None:
        """The file as it is now, in one piece, for its owner alone."""
        self._written_at = self._clock()
        write_whole(self._path, b"\n".join((_header(), *self._lines.values(), *self._bad, b"")))
        self._stale = False

    def close(self) -> None:
        """Write what is not on disk yet."""
        if self._stale:
            self.write()


def _header() -> bytes:
    return "\t".join(_FIELDS).encode()


def _clean(text: str) -> bytes:
    """One cell: no tabs and no line ends."""
    return " ".join(text.split()).encode("utf-8", "backslashreplace")


def count_line(results: Sequence[RowResult], *, total: int) -> str:
    """The last line: how many accounts came to what."""
    done = sum(1 for result in results if result.code == 0)
    return f"{total} accounts: {done} done, {total - done} not"
