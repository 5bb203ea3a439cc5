"""What `extauth forget` asks of helpers that run: a file of names beside the ledger, looked at when it matters.

It holds addresses that an administrator typed, nothing else. It is looked at only before something remembered is held
against a user, so it costs nobody else anything.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from migrator.ledger.store import share_file
from wire.outcome import SetupTrouble

_FILE: Final = "forgotten"
_MOST: Final = 65_536  # bytes; then it begins anew: what was asked so long ago has been done


class Forgotten:
    """The file in the state `directory`. One object is a writer or a reader."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _FILE
        self._read: tuple[int, int] = (0, 0)  # inode, bytes

    def add(self, name: str) -> None:
        """Ask every helper to forget `name`. SetupTrouble when the file cannot be written."""
        line = name.encode("utf-8", "surrogateescape")
        if b"\n" in line:
            return  # no account has such a name, so nothing is remembered of it
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            file = os.open(self._path, flags, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if os.fstat(file).st_size > _MOST:
                    os.ftruncate(file, 0)
                os.write(file, line + b"\n")
            finally:
                os.close(file)
        except OSError as error:
            raise SetupTrouble(f"cannot write {self._path}: {error.strerror}") from None
        share_file(self._path)

    def look(self) -> list[str]:
        """The names that were added since the last look; some may be old. Nothing where the file cannot be read."""
        try:
            found = os.stat(self._path)
            inode, size = self._read
            if (found.st_ino, found.st_size) == (inode, size):
                return []
            with open(self._path, "rb") as stream:
                if found.st_ino == inode and found.st_size > size:
                    stream.seek(size)
                content = stream.read(2 * _MOST)
        except OSError:
            return []
        whole = content.rpartition(b"\n")[0]
        self._read = (found.st_ino, found.st_size)
        return [line.decode("utf-8", "surrogateescape") for line in whole.split(b"\n") if line]
