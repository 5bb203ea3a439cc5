"""MoveAccounts: many accounts from a tab-delimited file, as the migration guide has it, several at a time.

The copies run within this process: no password is ever an argument of another one. A row that cannot be
used, and an account that cannot be copied, are reported and stop nobody else.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from migrator.access import Access
from migrator.ledger.store import Store
from migrator.move_imap import move_imap
from migrator.move_pop import Target, is_imap, move_pop
from migrator.move_program import (
    BAD_DATA,
    DONE,
    NEEDS_A_PERSON,
    TRY_LATER,
    UsageTrouble,
    exit_code,
    print_line,
    read_flags,
    read_server,
    run_program,
    summary,
    tls_of,
    with_marks,
)
from migrator.options import CopyOptions
from migrator.pop_submit import Submission
from migrator.report import CopyInterrupted, Report
from wire.endpoint import Endpoint
from wire.outcome import Temporary, Trouble
from wire.secret import Secret

USAGE_TEXT: Final = (
    "usage: MoveAccounts [--POP | --IMAP] [--jobs N] file sourceServer targetServer [supplementary parameters]\n"
    "file: tab-delimited; the first line has the field names: Name, Password, and perhaps NewName, NewPassword\n"
    "supplementary parameters: the flags of MovePOPMail (--POP, the default) or MoveIMAPMail (--IMAP)"
)
_JOBS: Final = 4
_MOST_JOBS: Final = 100  # each has two connections and its buffers


class BadFile(Exception):
    """The file cannot be used at all."""


@dataclass(frozen=True, slots=True)
class Row:
    """One account of the file. `trouble` says why it cannot be used; the rest is empty then."""

    line: int
    name: bytes = b""
    password: Secret = field(default_factory=lambda: Secret(b""))
    new_name: bytes = b""
    new_password: Secret = field(default_factory=lambda: Secret(b""))
    trouble: str = ""

    @property
    def label(self) -> str:
        """For the result line: never the password."""
        return (self.name or b"line %d" % self.line).decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class _Task:
    imap: bool
    source: Endpoint
    target: Endpoint
    options: CopyOptions
    store: Store


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return run_program("MoveAccounts", USAGE_TEXT, given, lambda: _move(given))


async def _move(arguments: Sequence[str]) -> int:
    imap, jobs, rest = _own_flags(arguments)
    if len(rest) < 3:
        raise UsageTrouble("a file and two servers are needed")
    file, source, target, *supplementary = rest
    options, stray = read_flags(supplementary, pop=not imap)
    if stray:
        raise UsageTrouble(f"{stray[0]!r} is not a parameter")
    if options.old_password_file or options.new_password_file:
        raise UsageTrouble("the passwords are those of the file: password files are not for MoveAccounts")
    old = read_server(source, "imap" if imap else "pop3")
    new = read_server(target, "imap" if imap or is_imap(target) else "smtp")
    try:
        rows = read_accounts(Path(file))
    except BadFile as error:
        sys.stderr.write(f"MoveAccounts: {file}: {error}\n")
        return BAD_DATA

    async def work(store: Store) -> int:
        return await _move_all(rows, _Task(imap, old, new, options, store), jobs)

    return await with_marks(work)


def _own_flags(arguments: Sequence[str]) -> tuple[bool, int, list[str]]:
    """--POP or --IMAP, --jobs, and what follows."""
    kinds: set[str] = set()
    jobs = _JOBS
    rest = list(arguments)
    while rest and rest[0].startswith("--"):
        flag = rest.pop(0)
        if flag in ("--POP", "--IMAP"):
            kinds.add(flag)
        elif flag == "--jobs" and rest and rest[0].isdecimal() and 0 < int(rest[0]) <= _MOST_JOBS:
            jobs = int(rest.pop(0))
        elif flag == "--jobs":
            raise UsageTrouble(f"--jobs needs a number from 1 to {_MOST_JOBS}")
        else:
            raise UsageTrouble(f"{flag} cannot stand before the file")
    if len(kinds) > 1:
        raise UsageTrouble("--POP and --IMAP exclude each other")
    return kinds == {"--IMAP"}, jobs, rest


def read_accounts(path: Path) -> list[Row]:
    """The rows of a file. BadFile if it cannot be read or used."""
    try:
        return parse_accounts(path.read_bytes())
    except OSError as error:
        raise BadFile(error.strerror or str(error)) from None


def parse_accounts(data: bytes) -> list[Row]:
    """The rows of an account list; bytes stay as they are. BadFile without a header that names Name and Password."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    ending = b"\n" if b"\n" in data else b"\r"  # the extractors of old Macintosh servers write CR
    lines = [line.removesuffix(b"\r") for line in data.split(ending)]
    names = [name.strip().lower() for name in lines[0].split(b"\t")]
    for needed in (b"name", b"password"):
        if names.count(needed) != 1:
            raise BadFile(f"the first line must name the field {needed.decode().title()} once")
    rows = []
    for number, line in enumerate(lines[1:], 2):
        if line.strip():
            rows.append(_parse_row(number, dict(zip(names, line.split(b"\t"), strict=False))))
    seen = Counter((row.name, row.new_name) for row in rows if not row.trouble)
    return [
        Row(row.line, row.name, trouble="this account stands in the file more than once")
        if not row.trouble and seen[row.name, row.new_name] > 1
        else row
        for row in rows
    ]


def _parse_row(line: int, fields: dict[bytes, bytes]) -> Row:
    name, password = fields.get(b"name", b"").strip(), fields.get(b"password", b"")
    if not name:
        return Row(line, trouble="there is no name")
    if not password:
        return Row(line, name, trouble="there is no password")
    new_name = fields.get(b"newname", b"").strip() or name
    new_password = fields.get(b"newpassword", b"") or password
    return Row(line, name, Secret(password), new_name, Secret(new_password))


async def _move_all(rows: Sequence[Row], task: _Task, jobs: int) -> int:
    """Every account, `jobs` at a time; the exit code of the whole."""
    gate = asyncio.Semaphore(jobs)

    async def one(row: Row) -> int:
        async with gate:
            code, text = await _move_row(row, task)
            print_line(f"{row.label}: {text}")
            return code

    codes = await asyncio.gather(*(one(row) for row in rows))
    done = sum(1 for code in codes if code == DONE)
    print_line(f"{len(codes)} accounts: {done} done, {len(codes) - done} not")
    if any(code not in (DONE, TRY_LATER) for code in codes):
        return NEEDS_A_PERSON
    return TRY_LATER if TRY_LATER in codes else DONE


async def _move_row(row: Row, task: _Task) -> tuple[int, str]:
    """One account: its exit code and its result line. Never raises but when cancelled."""
    if row.trouble:
        return BAD_DATA, f"line {row.line} cannot be used: {row.trouble}"
    try:
        report = await _copy(row, task)
    except CopyInterrupted as trouble:
        return TRY_LATER, f"to be gone on with: {trouble} ({summary(trouble.report)})"
    except Temporary as trouble:
        return TRY_LATER, f"to be tried again: {trouble}"
    except Trouble as trouble:
        return exit_code(trouble), f"not copied: {trouble}"
    except Exception as error:  # noqa: BLE001 - one account's bug must not end the others' copies
        return NEEDS_A_PERSON, f"not copied, by a fault of this program: {type(error).__name__}: {error}"
    problems = "; ".join(report.problems[:5] + report.postponed[:5])
    return exit_code(report), summary(report) + (f" | {problems}" if problems else "")


async def _copy(row: Row, task: _Task) -> Report:
    tls, label = tls_of(task.options), f"{row.label}: "
    source = Access(task.source, row.name, row.password, tls)
    target: Target
    if task.target.protocol == "smtp":
        target = Submission(task.target, os.fsdecode(row.new_name), tls)
    else:
        target = Access(task.target, row.new_name, row.new_password, tls)
    if task.imap:
        assert isinstance(target, Access)
        return await move_imap(source, target, task.options, task.store, label)
    return await move_pop(source, target, task.options, task.store, label)


if __name__ == "__main__":
    sys.exit(main())
