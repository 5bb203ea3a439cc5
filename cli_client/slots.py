"""A session limit that all processes of a machine keep together: one locked file for each open session.

The kernel drops the lock of a process that dies, so a slot is never lost. Nothing is written into the files.
A process without any session raises a hand (a shared lock on `wanted`); the others then give up one they do not use.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from wire.descriptors import is_short
from wire.outcome import OutOfFiles, SetupTrouble

_WANTED = "wanted"


class Slot:
    """The right to one open session, until released."""

    __slots__ = ("_file",)

    def __init__(self, file: int) -> None:
        self._file = file

    def release(self) -> None:
        """Give the right back; a second release does nothing."""
        if self._file >= 0:
            os.close(self._file)  # closing the only descriptor drops the lock
            self._file = -1


class SlotDirectory:
    """`count` slots as files in `path`, which is made if it is missing (its parent must exist).

    The files get the owner, group and group rights of the directory, so that processes of several users can share it.
    SetupTrouble when the directory cannot be used, OutOfFiles when this process has too many files open.
    """

    def __init__(self, path: Path, count: int) -> None:
        self._path = path
        self._count = count
        self._hand = -1
        self._ear = -1

    def try_take(self, numbers: Iterable[int] | None = None) -> Slot | None:
        """A free slot, or None when all are taken; of `numbers` only, in their order, where given. Never waits."""
        if is_short():
            raise OutOfFiles(f"{self._path}: {os.strerror(errno.EMFILE)} here")
        for number in range(self._count) if numbers is None else numbers:
            file = self._open(f"slot-{number}")
            if _lock(file, fcntl.LOCK_EX):
                return Slot(file)
            os.close(file)
        return None

    def raise_hand(self) -> None:
        """Tell the other processes that this one has no session and needs one."""
        if self._hand < 0:
            file = self._open(_WANTED)
            if _lock(file, fcntl.LOCK_SH):
                self._hand = file
            else:
                os.close(file)  # somebody is just looking; the next try comes in a moment

    def lower_hand(self) -> None:
        """Undo `raise_hand`."""
        if self._hand >= 0:
            os.close(self._hand)
            self._hand = -1

    @property
    def wanted(self) -> bool:
        """Whether another process has its hand up."""
        if self._ear < 0:
            self._ear = self._open(_WANTED)
        if not _lock(self._ear, fcntl.LOCK_EX):
            return True
        fcntl.flock(self._ear, fcntl.LOCK_UN)
        return False

    def close(self) -> None:
        """Release what listens and signals; taken slots stay taken."""
        self.lower_hand()
        if self._ear >= 0:
            os.close(self._ear)
            self._ear = -1

    def _open(self, name: str) -> int:
        try:
            try:
                return self._open_file(name)
            except FileNotFoundError:
                _make_directory(self._path)
                return self._open_file(name)
        except OSError as error:
            kind = OutOfFiles if error.errno in (errno.EMFILE, errno.ENFILE) else SetupTrouble
            raise kind(f"{self._path / name}: {error.strerror}") from None

    def _open_file(self, name: str) -> int:
        path = self._path / name
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            file = os.open(path, flags | os.O_CREAT, 0o600)
            _share(file, self._path)
            return file


def _lock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def make_shared_directory(path: Path) -> None:
    """Make a directory for the users who share its parent, if it is missing. SetupTrouble where it cannot be made."""
    try:
        if not path.is_dir():
            _make_directory(path)
    except OSError as error:
        raise SetupTrouble(f"{path}: {error.strerror}") from None


def _make_directory(path: Path) -> None:
    parent = path.parent.stat()
    path.mkdir(mode=0o700, exist_ok=True)
    if path.stat().st_uid == os.geteuid():
        if os.geteuid() == 0:
            os.chown(path, parent.st_uid, parent.st_gid)
        path.chmod(stat.S_IMODE(parent.st_mode) & 0o2770 | 0o700)


def _share(file: int, directory: Path) -> None:
    """Give a file that we made to those who own the directory."""
    owner = directory.stat()
    if os.fstat(file).st_uid == os.geteuid():
        if os.geteuid() == 0:
            os.fchown(file, owner.st_uid, owner.st_gid)
        os.fchmod(file, 0o660 if owner.st_mode & stat.S_IWGRP else 0o600)
