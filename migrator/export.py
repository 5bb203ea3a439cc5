"""The saved name/password pairs as files for MoveAccounts: tab-delimited, `Name`, `Password`, `NewName` first.

One file for each old server, mode 0600, complete or not there at all. Names and passwords are the bytes
they came as. A row that holds a tab or a line end cannot be written in this form: it is listed instead.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from migrator.ledger.exports import ExportRow, Exports
from migrator.seal import Opener
from migrator.whole_file import write_whole
from wire.outcome import SetupTrouble

_HEADER: Final = b"Name\tPassword\tNewName\n"
_UNFIT: Final = re.compile(rb"[\t\r\n\0]")


class CannotWrite(SetupTrouble):
    """A file cannot be written (exit code 73). What stood there before still stands."""


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """One file for MoveAccounts."""

    source: str
    path: Path
    rows: int


@dataclass(frozen=True, slots=True)
class Unfit:
    """A login that is not in any file, and why."""

    account: str
    source: str
    reason: str


@dataclass(slots=True)
class Exported:
    """What an export came to."""

    files: list[ExportedFile] = field(default_factory=list)
    unfit: list[Unfit] = field(default_factory=list)
    purged: int = 0

    def as_json(self) -> dict[str, Any]:
        """Plain values for json.dumps; no password is among them."""
        return {
            "files": [{"source": file.source, "path": str(file.path), "rows": file.rows} for file in self.files],
            "unfit": [{"account": u.account, "source": u.source, "reason": u.reason} for u in self.unfit],
            "purged": self.purged,
        }


async def export_passwords(exports: Exports, opener: Opener, output: Path, *, purge: bool = False) -> Exported:
    """Write the files: `output` itself for one old server, else one file for each in the directory `output`.

    With `purge` the rows that were written are taken out of the ledger once the files are on disk; those
    that could not be written stay. CannotWrite when a file cannot be made, Temporary for the ledger.
    """
    actor = _actor()
    done = Exported()
    written: list[ExportRow] = []
    by_source: dict[str, list[ExportRow]] = {}
    for row in await exports.rows():
        by_source.setdefault(row.source, []).append(row)
    for source, rows in by_source.items():
        path = _place(output, source, alone=len(by_source) == 1)
        fit, text = _render(rows, opener, done.unfit)
        if fit:
            _write_file(path, text)
            done.files.append(ExportedFile(source, path, len(fit)))
            written += fit
    await exports.note(actor, "export", f"{len(written)} rows in {len(done.files)} files, {len(done.unfit)} unfit")
    if purge:
        done.purged = await exports.purge(written, actor)
    return done


def _render(rows: Sequence[ExportRow], opener: Opener, unfit: list[Unfit]) -> tuple[list[ExportRow], bytes]:
    lines = [_HEADER]
    fit = []
    for row in rows:
        try:
            password = opener.open(row.sealed, row.account).reveal()
        except SetupTrouble as trouble:
            unfit.append(Unfit(row.account, row.source, trouble.text))
            continue
        fields = (row.login, password, row.account.encode("utf-8", "surrogateescape"))
        if any(_UNFIT.search(text) for text in fields):
            unfit.append(
                Unfit(row.account, row.source, "the name or the password holds a tab, a line end or a zero byte")
            )
            continue
        lines.append(b"\t".join(fields) + b"\n")
        fit.append(row)
    return fit, b"".join(lines)


def _place(output: Path, source: str, *, alone: bool) -> Path:
    return output if alone and not output.is_dir() else _in_directory(output, source)


def _in_directory(directory: Path, source: str) -> Path:
    """`imap+starttls://old.example.com:143` is in `old.example.com-143-imap+starttls.txt`."""
    scheme, _, place = source.partition("://")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"cannot make the directory {directory}: {error.strerror}") from None
    host, _, port = place.rpartition(":")
    return directory / re.sub(r"[^A-Za-z0-9.+_-]", "_", f"{host}-{port}-{scheme}.txt".removeprefix("-"))


def _write_file(path: Path, text: bytes) -> None:
    try:
        write_whole(path, text)
    except OSError as error:
        raise CannotWrite(f"cannot write {path}: {error.strerror}") from None


def _actor() -> str:
    """Who runs this, for the audit."""
    try:
        return f"{pwd.getpwuid(os.getuid()).pw_name} ({os.getuid()})"
    except KeyError:
        return str(os.getuid())
