"""A hash file on disk: read whole, off the event loop, and again whenever it changes.

Must be a plain file of mode 0600 that holds text. Whatever is wrong with it is Temporary or SetupTrouble and never an
answer about anybody: while it cannot be read, nobody is told that a password is wrong.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from migrator.file_stamp import Stamp, stamp_from, stamp_of
from migrator.hash_table import HashTable
from wire.outcome import SetupTrouble, Temporary, Trouble

_LARGEST: Final = 512 * 1024 * 1024  # bytes: some millions of lines, which are held in memory

_NOBODY: Final = "no line ADDRESS<TAB>HASH or ADDRESS:HASH"


class HashFile:
    """The table of one file, as it is now."""

    def __init__(self, path: Path, *, domain: str = "", clock: Callable[[], int] = time.time_ns) -> None:
        """`domain` is that of the names without one. `clock` gives ns since the epoch."""
        self.path = path
        self._domain = domain
        self._clock = clock
        self._lock = asyncio.Lock()
        self._stamp: Stamp | None = None
        self._table: HashTable | None = None

    async def table(self) -> HashTable:
        """The lines of the file. One look at its date where it has not changed."""
        if table := self._unchanged():
            return table
        async with self._lock:
            if table := self._unchanged():
                return table
            self._table = self._stamp = None  # while it cannot be read, the old one is not the file any more
            content, stamp = await asyncio.to_thread(read_hash_file, self.path)
            table = await asyncio.to_thread(HashTable, content, domain=self._domain)
            if not len(table):
                raise SetupTrouble(f"{self.path} holds {_NOBODY}")
            self._table = table
            if stamp.settled(self._clock()):
                self._stamp = stamp
            return table

    def _unchanged(self) -> HashTable | None:
        """The table that was read last, if the file is still the same."""
        if self._stamp is None:
            return None
        return self._table if stamp_of(self.path) == self._stamp else None


def read_hash_file(path: Path, *, private: bool = True) -> tuple[bytes, Stamp]:
    """The content of `path`, and by what to know that it has changed since. SetupTrouble, Temporary.

    A file that others may read is refused, unless it need not be `private`: the system's own files are not.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not make us wait
    except OSError as error:
        raise SetupTrouble(f"cannot read {path}: {error.strerror}") from None
    before = os.fstat(file)
    if not stat.S_ISREG(before.st_mode):
        os.close(file)
        raise SetupTrouble(f"{path} is not a plain file")
    with open(file, "rb") as stream:
        if private and stat.S_IMODE(before.st_mode) & 0o077:
            mode = stat.S_IMODE(before.st_mode)
            raise SetupTrouble(f"{path} holds password hashes but is open to others (mode {mode:04o}); chmod 600 it")
        if before.st_size > _LARGEST:
            raise SetupTrouble(f"{path} is larger than {_LARGEST // 1024 // 1024} MiB")
        try:
            content = stream.read(before.st_size + 1)
        except OSError as error:
            raise Temporary(f"cannot read {path}: {error.strerror}") from None
        stamp = stamp_from(before)
        if len(content) != before.st_size or stamp_from(os.fstat(file)) != stamp:
            raise Temporary(f"{path} is being written; put a new one in place by renaming it")
    if b"\0" in content:
        raise SetupTrouble(f"{path} is not a text file: it holds a zero byte")
    return content, stamp


def find_trouble(path: Path) -> str:
    """Why `path` cannot be used, in words; "" where it can."""
    try:
        content, _stamp = read_hash_file(path)
    except Trouble as trouble:
        return str(trouble)
    return "" if len(HashTable(content)) else f"{path} holds {_NOBODY}"
