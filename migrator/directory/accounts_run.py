"""One run of `migrator accounts`: the file is sifted, and every row goes where it belongs. No option is read here.

Every file is its owner's alone, and there whole or not at all; no password is printed.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import click

from migrator.directory.account import NewAccount, Rejected
from migrator.directory.advice import advice
from migrator.directory.creation import Result
from migrator.directory.creation_journal import State
from migrator.directory.entry import Entry
from migrator.directory.import_file import MOST_FILES, ImportFiles, forward_line, provisioning_record
from migrator.directory.sifting import Group, Sifting
from migrator.directory.text_lines import clean_text
from migrator.exit_codes import DONE, NEEDS_A_PERSON, TRY_LATER
from migrator.whole_file import writing_whole
from wire.secret import Secret

_EVERY: Final = 1000  # rows between two updates of the progress line
_SHOWN: Final = 300  # characters of a name; an address has at most 254
Maker = Callable[[Iterator[NewAccount]], AsyncIterator[Result]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where rows go. A path that is None: nowhere."""

    output: Path | None = None
    new_name: bool = False
    ldap_output: Path | None = None
    ldap_base: str = ""
    forwards: Path | None = None
    bad: Path | None = None
    report: Path | None = None
    hashes: Path | None = None
    external: bool = False  # External INBOX
    dry_run: bool = False
    as_json: bool = False

    @property
    def paths(self) -> tuple[Path | None, ...]:
        """Every file that may be written."""
        return self.output, self.ldap_output, self.forwards, self.bad, self.report, self.hashes


@dataclass
class AccountsRun:
    """The rows of one file on their way. `check` first; then `write`, or `create` with what makes accounts."""

    sifting: Sifting
    wanted: Wanted
    states: Counter[str] = field(default_factory=Counter)
    _stack: ExitStack = field(default_factory=ExitStack)
    _bad: BinaryIO | None = None
    _report: BinaryIO | None = None
    _hashes: BinaryIO | None = None
    _rows: int = 0

    def write(self) -> int:
        """Check every row, and write the files that are wanted. The exit code."""
        with self._opened():
            files, ldap = self._files()
            for account in self._accounts():
                if files is not None:
                    files.write(account)
                if ldap is not None:
                    ldap.write(provisioning_record(account, self.wanted.ldap_base))
                self._tell(account.line, account.address, "good", "")
            self._finish()
            if files is not None and not self.wanted.as_json:
                for path in files.paths.values():
                    click.echo(f"{path}: for WebAdmin's Account Import")
        return self._end(makes=False)

    async def create(self, make: Maker) -> int:
        """Check every row, and make the accounts. The exit code."""
        with self._opened():
            async for result in make(self._accounts()):
                account = result.account
                self._tell(account.line, account.address, result.state.value, result.reason)
                if result.state is State.REFUSED:
                    self._give_back(account.line, account.raw, (result.reason,))
            self._finish()
        return self._end(makes=True)

    def _opened(self) -> ExitStack:
        """The files that every run may write."""
        wanted = self.wanted
        stack = self._stack
        if wanted.dry_run:
            return stack
        if wanted.bad is not None:
            self._bad = stack.enter_context(writing_whole(wanted.bad))
            self._bad.write(self.sifting.source.head())
        if wanted.report is not None:
            self._report = stack.enter_context(writing_whole(wanted.report))
            self._report.write(b"Line\tName\tResult\tReason\n")
        if wanted.hashes is not None:
            self._hashes = stack.enter_context(writing_whole(wanted.hashes))
        return stack

    def _files(self) -> tuple[ImportFiles | None, BinaryIO | None]:
        wanted = self.wanted
        files = ldap = None
        if wanted.dry_run:
            return None, None
        if wanted.output is not None:
            _check_place(wanted.output, self.sifting.groups)
            plan = self.sifting.rules.passwords
            files = ImportFiles(wanted.output, self.sifting.groups, self._stack, new_name=wanted.new_name, plan=plan)
        if wanted.ldap_output is not None:
            ldap = self._stack.enter_context(writing_whole(wanted.ldap_output))
            ldap.write(b"version: 1\n\n")
        return files, ldap

    def _accounts(self) -> Iterator[NewAccount]:
        """The good rows; what is said about the others is said here. The forwards are written on the way."""
        path = None if self.wanted.dry_run else self.wanted.forwards
        with nullcontext() if path is None else writing_whole(path) as forwards:
            for item in self.sifting.sift():
                self._progress()
                if isinstance(item, NewAccount):
                    for forward in item.forwards:
                        self._count("forwards")
                        if forwards is not None:
                            forwards.write(forward_line(forward))
                    if self._hashes is not None and item.waits and item.stored is not None:
                        self._hashes.write(item.address.encode() + b"\t" + item.stored.reveal() + b"\n")
                    yield item
                elif isinstance(item, Rejected):
                    self._tell(item.line, item.name, "bad", "; ".join(item.reasons))
                    self._give_back(item.line, item.raw, item.reasons)
                else:
                    self._leave_out(item)
            for forward in self.sifting.loose:
                self._count("forwards")
                if forwards is not None:
                    forwards.write(forward_line(forward))

    def _leave_out(self, entry: Entry) -> None:
        self._tell(entry.line, entry.name, "left out", entry.reason)

    def _give_back(self, line: int, raw: Secret, reasons: tuple[str, ...]) -> None:
        if self._bad is not None:
            self._bad.write(self.sifting.source.given_back(line, raw, reasons))

    def _count(self, word: str) -> None:
        self.states[word] += 1

    def _tell(self, line: int, name: str, state: str, reason: str) -> None:
        """A row in the report; to a person only what is not as it should be."""
        self._count(state)
        name, reason = clean_text(name[:_SHOWN]), clean_text(reason)
        if self._report is not None:
            cells = (str(line), name, state, reason)
            self._report.write(("\t".join(cells) + "\n").encode("utf-8", "backslashreplace"))
        if self.wanted.as_json:
            click.echo(json.dumps({"line": line, "name": name, "result": state, "reason": reason}))
        elif state not in _QUIET:
            click.echo(f"{self.sifting.source.path}:{line}: {name or 'no name'}: {state}: {reason}", err=True)

    def _progress(self) -> None:
        self._rows += 1
        if self._rows % _EVERY == 0 and not self.wanted.as_json and sys.stderr.isatty():
            click.echo(f"\r{self._rows} rows", err=True, nl=False)

    def _finish(self) -> None:
        for line, reason in self.sifting.bad_aliases:
            path = self.sifting.source.virtual_aliases
            self._count("bad aliases")
            if self.wanted.as_json:
                click.echo(json.dumps({"file": str(path), "line": line, "result": "bad alias", "reason": reason}))
            else:
                click.echo(f"{path}:{line}: bad alias: {reason}", err=True)

    def _end(self, *, makes: bool) -> int:
        code = exit_code(self.states)
        plan, groups = self.sifting.rules.passwords, self.sifting.groups
        to_set = advice(groups, plan, external=self.wanted.external, makes=makes)
        if self.wanted.as_json:
            click.echo(json.dumps({"summary": self._summary(), "exit_code": code, "to_set": to_set}))
        else:
            words = ", ".join(f"{count} {word}" for word, count in self._summary().items())
            click.echo(f"{self._rows} rows: {words or 'nothing'}" + (" (dry run)" if self.wanted.dry_run else ""))
            for line in to_set:
                click.echo(f"to set: {line}")
        return code

    def _summary(self) -> dict[str, Any]:
        return dict(sorted(self.states.items()))


def _check_place(path: Path, groups: Collection[Group]) -> None:
    """UsageError where so many files have no room."""
    if len(groups) > MOST_FILES:
        raise click.UsageError(f"the rows are of more than {MOST_FILES} domains: take them one by one with --domain")
    if len(groups) > 1 and not path.is_dir():
        names = ", ".join(sorted({domain for domain, _ in groups})[:5])
        raise click.UsageError(
            f"{path} must be a directory that is there: the rows make {len(groups)} files, by domain and kind of"
            f" password ({names})"
        )


_QUIET: Final = frozenset({"good", "left out", State.DONE.value, State.FREE.value})
_PERSONS: Final = ("bad", "bad aliases", State.EXISTS.value, State.REFUSED.value, State.ALIASES.value)


def exit_code(states: Counter[str]) -> int:
    """1 where a person must look at rows, 75 where some are to be tried again, else 0."""
    if any(states[word] for word in _PERSONS):
        return NEEDS_A_PERSON
    return TRY_LATER if states[State.LATER.value] else DONE
