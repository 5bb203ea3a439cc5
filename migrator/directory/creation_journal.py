"""What a run that makes accounts has begun and done, so that the next one goes on where it ended.

A line for each step, appended: address, state, reason. `begun` is on the disk before CreateAccount goes out, and only
for a name that was free a moment before: after a crash an account that is there and was begun is this program's own.
Never holds a password.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from migrator.directory.text_lines import clean_text

_MARK: Final = "# accounts made at "


class State(Enum):
    """How far an account has come; the value is the journal's and the report's word."""

    FREE = "free"  # of a dry run: it would be made
    BEGUN = "begun"  # CreateAccount may have gone out
    MADE = "made"  # it is there; its aliases may be missing
    DONE = "done"
    EXISTS = "exists"  # there was something of that name already: nothing was touched
    REFUSED = "refused"
    ALIASES = "aliases refused"  # the account is there, some of its aliases are not
    LATER = "later"


LASTING: Final = frozenset({State.BEGUN, State.MADE, State.DONE, State.ALIASES})


class WrongJournal(Exception):
    """The file is no journal, or one of another server."""


def _lock(file: int, path: Path) -> None:
    """One run at a time; the kernel frees it when the process ends."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WrongJournal(f"{path} is in use: another run makes accounts with it") from None


class CreationJournal:
    """The journal at `path`, for the server called `server`. OSError where it cannot be read or written.

    `writes=False` only reads it, where there is one.
    """

    def __init__(self, path: Path, server: str, *, writes: bool = True) -> None:
        self._head = f"{_MARK}{server}\n"
        self.states: dict[str, State] = {}  # of accounts that are this program's
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND if writes else os.O_RDONLY
        if not writes and not path.exists():
            path = Path(os.devnull)
        file = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._writes = writes
        self._stream = open(file, "r+b" if writes else "rb", buffering=0)  # noqa: SIM115 - closed by __exit__
        try:
            if writes:
                _lock(file, path)
            self._read(path)
        except BaseException:
            self._stream.close()
            raise

    def _read(self, path: Path) -> None:
        with open(os.dup(self._stream.fileno()), "rb") as stream:
            head = stream.readline()
            if not head:
                if self._writes:
                    self._stream.write(self._head.encode())
                return
            if head != self._head.encode():
                raise WrongJournal(f"{path} is no journal of accounts at this server: name another, or remove it")
            ended = True
            for line in stream:
                ended = line.endswith(b"\n")
                cells = line.rstrip(b"\n").decode("utf-8", "replace").split("\t")
                if ended and len(cells) == 3:
                    self._remember(cells[0], cells[1])
            if not ended and self._writes:
                self._stream.write(b"\n")  # the crash cut a line short: the next one begins anew

    def _remember(self, address: str, word: str) -> None:
        try:
            state = State(word)
        except ValueError:
            return
        if state in LASTING:
            self.states[address] = state
        elif state in (State.REFUSED, State.EXISTS):
            self.states.pop(address, None)  # whatever has this name is not ours

    def note(self, address: str, state: State, reason: str = "") -> None:
        """A step that is done. It is written, and durable with the next `begin` or at the end."""
        self._stream.write(f"{address}\t{state.value}\t{clean_text(reason)}\n".encode())
        self._remember(address, state.value)

    def begin(self, addresses: Iterable[str]) -> None:
        """These are about to be made: durable when this returns."""
        lines = "".join([f"{address}\t{State.BEGUN.value}\t\n" for address in addresses])
        if lines:
            self._stream.write(lines.encode())
            os.fsync(self._stream.fileno())
            for address in lines.splitlines():
                self._remember(address.partition("\t")[0], State.BEGUN.value)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._writes:
                os.fsync(self._stream.fileno())
        finally:
            self._stream.close()
