"""The lock that lets one embedded worker run for one state directory, and tells which version it is.

The kernel drops the lock when the process dies. The file holds `{"pid": …, "version": …}` of the holder.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from migrator.ledger.store import share_file
from wire.outcome import Scope, Temporary

LOCK_NAME: Final = "worker.lock"
_HOLDER_LIMIT: Final = 1024
_TRIES, _PAUSE = 5, 0.02  # a look takes microseconds


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lock now. `pid` is 0 when it has not said yet."""

    pid: int
    version: str


class WorkerLock:
    """The lock, held until `release` or the end of the process. Child processes do not inherit it."""

    def __init__(self, file: int) -> None:
        self._file = file

    @classmethod
    def take(cls, directory: Path) -> WorkerLock | None:
        """The lock of `directory`, or None when another process holds it. Temporary when it cannot be written."""
        path = directory / LOCK_NAME
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            share_file(path)
        except OSError as error:
            raise Temporary(f"the worker's lock {path}: {error.strerror}", scope=Scope.SETUP) from None
        if not _lock(file):
            os.close(file)
            return None
        text = json.dumps({"pid": os.getpid(), "version": program_version()}).encode()
        with contextlib.suppress(OSError):  # a full disk: the lock counts, the text is for others to read
            os.pwrite(file, text, 0)
            os.ftruncate(file, len(text))
        return cls(file)

    def release(self) -> None:
        """Let another process have it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _lock(file: int) -> bool:
    for _ in range(_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE)  # perhaps somebody only looks who holds it
        else:
            return True
    return False


def read_holder(directory: Path) -> Holder | None:
    """Who holds the lock of `directory`; None when nobody does. Never keeps a worker from taking it for long."""
    try:
        file = os.open(directory / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _parse_holder(os.pread(file, _HOLDER_LIMIT, 0))
        return None
    finally:
        os.close(file)


def _parse_holder(text: bytes) -> Holder:
    try:
        value = json.loads(text)
        return Holder(int(value["pid"]), str(value["version"]))
    except (ValueError, KeyError, TypeError):
        return Holder(0, "")


def program_version() -> str:
    """The version of the installed distribution."""
    try:
        return version("extauth")
    except PackageNotFoundError:
        return "unknown"
