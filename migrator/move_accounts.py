"""MoveAccounts: many accounts from a tab-delimited file, as the migration guide has it, several at a time.

The copies run within this process: no password is ever an argument of another one. A row that cannot be
used, and an account that cannot be copied, are reported and stop nobody else.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from migrator.access import Access
from migrator.account_list import BadFile, Row, read_accounts
from migrator.account_results import DONE, ResultsFile, RowResult, count_line
from migrator.exit_codes import BAD_DATA, CANNOT_WRITE, INTERRUPTED, NEEDS_A_PERSON, TRY_LATER
from migrator.ledger.store import Store
from migrator.move_imap import move_imap
from migrator.move_pop import Target, is_imap, move_pop
from migrator.move_program import (
    UsageTrouble,
    exit_code,
    print_json,
    read_flags,
    read_server,
    run_program,
    tls_of,
    with_marks,
)
from migrator.options import CopyOptions
from migrator.pop_smtp import Submission
from migrator.preview import Preview
from migrator.proof import summary
from migrator.report import CopyInterrupted, Report
from migrator.screen import Screen, complain
from wire.endpoint import Endpoint
from wire.outcome import Temporary, Trouble

USAGE_TEXT: Final = (
    "usage: MoveAccounts [--POP | --IMAP] [--jobs N] [--report FILE] [--resume]\n"
    "  file sourceServer targetServer [supplementary parameters]\n"
    "file: tab-delimited; the first line has the field names: Name, Password, and perhaps NewName, NewPassword\n"
    "supplementary parameters: the flags of MovePOPMail (--POP, the default) or MoveIMAPMail (--IMAP)\n"
    "--jobs N: accounts at a time, 4 if not given\n"
    "--report FILE: a line for each account, tab-delimited; file.report if not given\n"
    "--resume: accounts that the report says are done are not looked at again"
)
_OPERANDS: Final = ("file", "sourceServer", "targetServer")
_JOBS: Final = 4
_MOST_JOBS: Final = 100  # each has two connections and its buffers
_OK: Final = 0


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Our own flags."""

    imap: bool = False
    jobs: int = _JOBS
    report: str = ""
    resume: bool = False


@dataclass(frozen=True, slots=True)
class _Task:
    """What is the same for every account."""

    imap: bool
    source: Endpoint
    target: Endpoint
    options: CopyOptions
    store: Store | None
    screen: Screen


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return run_program("MoveAccounts", USAGE_TEXT, given, lambda: _move(given))


async def _move(arguments: Sequence[str]) -> int:
    wanted, rest = _own_flags(arguments)
    if len(rest) < len(_OPERANDS):
        raise UsageTrouble("a file and two servers are needed")
    file, source, target, *supplementary = rest
    options, stray = read_flags(supplementary, pop=not wanted.imap)
    if stray:
        raise UsageTrouble(f"{stray[0]!r} is not a parameter")
    _refuse_flags_for_one(options)
    old = read_server(source, "imap" if wanted.imap else "pop3")
    new = read_server(target, "imap" if wanted.imap or is_imap(target) else "smtp")
    try:
        rows = read_accounts(Path(file))
    except BadFile as error:
        complain(f"MoveAccounts: {file}: {error}")
        return BAD_DATA
    results = ResultsFile(Path(wanted.report or f"{file}.report"), f"{old} -> {new}")

    async def work(store: Store | None) -> int:
        task = _Task(wanted.imap, old, new, options, store, Screen.of(options))
        return await _Accounts(rows, task, results).move(wanted.jobs, resume=wanted.resume)

    try:
        return await with_marks(options, work)
    except OSError as error:
        complain(f"MoveAccounts: the report {error.filename or ''} cannot be used: {error.strerror or error}")
        return CANNOT_WRITE


def _refuse_flags_for_one(options: CopyOptions) -> None:
    """UsageTrouble for what makes no sense with a file of accounts."""
    if options.old_password_file or options.new_password_file:
        raise UsageTrouble("the passwords are those of the file: password files are not for MoveAccounts")
    for flag, given in (
        ("--sourceUser", options.source_user),
        ("--targetUser", options.target_user),
        ("--proxyAuth", options.proxy_user),
    ):
        if given:
            raise UsageTrouble(f"{flag} names one account: it is not for MoveAccounts")
    if options.preauth:
        raise UsageTrouble("--preauth is not for MoveAccounts: every account would get the mail of one")


def _own_flags(arguments: Sequence[str]) -> tuple[_Wanted, list[str]]:
    """Our own flags, wherever they stand, and what else there is."""
    kinds: set[str] = set()
    jobs, report, resume = _JOBS, "", False
    rest, others = list(arguments), list[str]()
    while rest:
        flag = rest.pop(0)
        if flag in ("--POP", "--IMAP"):
            kinds.add(flag)
        elif flag == "--jobs" and rest and rest[0].isdecimal() and 0 < int(rest[0]) <= _MOST_JOBS:
            jobs = int(rest.pop(0))
        elif flag == "--jobs":
            raise UsageTrouble(f"--jobs needs a number from 1 to {_MOST_JOBS}")
        elif flag == "--report" and rest and rest[0]:
            report = rest.pop(0)
        elif flag == "--report":
            raise UsageTrouble("--report needs the name of a file")
        elif flag == "--resume":
            resume = True
        elif flag.startswith("--") and len(others) < len(_OPERANDS):
            raise UsageTrouble(f"{flag} cannot stand before the file and the servers")
        else:
            others.append(flag)
    if len(kinds) > 1:
        raise UsageTrouble("--POP and --IMAP exclude each other")
    return _Wanted(kinds == {"--IMAP"}, jobs, report, resume), others


class _Accounts:
    """One call of the program: the rows, and what became of them."""

    def __init__(self, rows: Sequence[Row], task: _Task, file: ResultsFile) -> None:
        self._rows = rows
        self._task = task
        self._file = file
        self._results: list[RowResult] = []
        self._running: dict[int, Row] = {}

    async def move(self, jobs: int, *, resume: bool) -> int:
        """Every account, `jobs` at a time; the exit code of the whole. The report is written however it ends."""
        waiting = iter(self._resumed() if resume else self._rows)
        if not self._task.options.dry_run:
            self._file.write()  # where it cannot be written nothing begins
        ended = False
        try:
            with self._task.screen as screen:
                screen.count_accounts(len(self._rows) - len(self._results))
                async with asyncio.TaskGroup() as group:
                    for _ in range(jobs):
                        group.create_task(self._work_off(waiting))
            ended = True
        finally:
            if not ended:
                for row in (*self._running.values(), *waiting):
                    self._note(RowResult(row, "interrupted", TRY_LATER, "interrupted", "the program was stopped"))
            if not self._task.options.dry_run:
                self._file.close()
            self._say_end(self._code() if ended else INTERRUPTED)
        return self._code()

    def _resumed(self) -> list[Row]:
        """The rows that an earlier run has not done; the others are results already."""
        done = self._file.read()
        left = []
        for row in self._rows:
            line = None if row.trouble else done.get((row.name, row.new_name))
            if line is None:
                left.append(row)
            else:
                self._file.keep((row.name, row.new_name), line)
                self._results.append(RowResult(row, DONE, _OK, "done by an earlier run"))
        return left

    async def _work_off(self, waiting: Iterator[Row]) -> None:
        for row in waiting:
            self._running[row.line] = row
            result = await _move_row(row, self._task)
            del self._running[row.line]
            self._note(result)
            self._task.screen.account_done(_label(row))
            if not self._task.options.json:
                self._task.screen.show(f"{row.label}: {result.text}")

    def _note(self, result: RowResult) -> None:
        self._results.append(result)
        if not self._task.options.dry_run:
            self._file.note(result)

    def _code(self) -> int:
        codes = [result.code for result in self._results]
        if any(code not in (_OK, TRY_LATER) for code in codes):
            return NEEDS_A_PERSON
        return TRY_LATER if TRY_LATER in codes else _OK

    def _say_end(self, code: int) -> None:
        if self._task.options.json:
            accounts = [result.as_json() for result in sorted(self._results, key=lambda result: result.row.line)]
            print_json({"accounts": accounts, "exit_code": code})
        else:
            self._task.screen.show(count_line(self._results, total=len(self._rows)))


async def _move_row(row: Row, task: _Task) -> RowResult:
    """One account. Never raises but when cancelled."""
    if row.trouble:
        return RowResult(row, "bad row", BAD_DATA, f"line {row.line} cannot be used: {row.trouble}", row.trouble)
    try:
        end = await _copy(row, task)
    except CopyInterrupted as trouble:
        text = f"to be gone on with: {trouble} ({summary(trouble.report)})"
        return RowResult(row, "later", TRY_LATER, text, str(trouble), trouble.report)
    except Temporary as trouble:
        return RowResult(row, "later", TRY_LATER, f"to be tried again: {trouble}", str(trouble))
    except Trouble as trouble:
        return RowResult(row, "not copied", exit_code(trouble), f"not copied: {trouble}", str(trouble))
    except Exception as error:  # noqa: BLE001 - one account's bug must not end the others' copies
        reason = f"by a fault of this program: {type(error).__name__}: {error}"
        return RowResult(row, "not copied", NEEDS_A_PERSON, f"not copied, {reason}", reason)
    code = exit_code(end)
    problems = "; ".join(end.problems[:5] + end.postponed[:5])
    result = DONE if code == _OK else "later" if code == TRY_LATER else "problems"
    if isinstance(end, Preview):
        result = "planned"
    return RowResult(row, result, code, summary(end) + (f" | {problems}" if problems else ""), problems, end)


async def _copy(row: Row, task: _Task) -> Report | Preview:
    tls, screen, label = tls_of(task.options), task.screen, _label(row)
    source = Access(task.source, row.name, row.password, tls)
    target: Target
    if task.target.protocol == "smtp":
        target = Submission(task.target, os.fsdecode(row.new_name), tls)
    else:
        target = Access(task.target, row.new_name, row.new_password, tls)
    if task.imap:
        assert isinstance(target, Access)
        return await move_imap(source, target, task.options, task.store, screen=screen, label=label)
    return await move_pop(source, target, task.options, task.store, screen=screen, label=label)


def _label(row: Row) -> str:
    return f"{row.label}: "


if __name__ == "__main__":
    sys.exit(main())
