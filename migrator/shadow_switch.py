"""The switching of a password file, so that all mail can be copied without knowing anybody's password, and back.

The migration guide's eleven steps ("If you cannot obtain the clear-text passwords"), with what they leave to luck:
a journal beside the file says what is under way, so that `end` restores it from any state, also after kill -9.
Only the file that is named is changed, and only its password fields. What others change meanwhile stays.

Beside FILE stand, while a switch is under way: `FILE.shadow-switch` (the journal) and `FILE.shadow-switch-backup`
(the file as it was), both 0600; and, for the moment of a change, `FILE.lock`, as the system's own tools have it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from migrator.processes import process_exists
from migrator.shadow_file import Restored, find_problems, read_records, restore, show, switch
from migrator.whole_file import sync_directory, write_whole

_VERSION: Final = 1
_LARGEST: Final = 1 << 30  # bytes; a million accounts are a tenth of it

Checkpoint = Callable[[str], None]


class Unsafe(Exception):
    """Refused, for a reason that a person can mend; nothing was changed. `lines` are for that person."""

    def __init__(self, *lines: str) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


class Busy(Exception):
    """Another program is changing the file at the moment."""


@dataclass(frozen=True, slots=True)
class Journal:
    """What is under way. `names` are those whose password was switched."""

    began: float  # seconds since the epoch
    before: str  # SHA-256 of the file as it was
    after: str  # and as it is with the common password
    common: bytes  # a hash
    names: list[bytes]
    restored: bool = False  # `end` has done what it can; somebody must look at who is left

    def as_json(self) -> bytes:
        """For the disk: names are bytes of no certain encoding."""
        told: dict[str, Any] = {
            "version": _VERSION,
            "began": self.began,
            "before": self.before,
            "after": self.after,
            "common": self.common.decode("latin-1"),
            "names": [name.decode("latin-1") for name in self.names],
            "restored": self.restored,
        }
        return json.dumps(told, indent=1).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Journal:
        """ValueError for what is none."""
        told = json.loads(text)
        if told["version"] != _VERSION:
            raise ValueError(f"version {told['version']}")
        names = [name.encode("latin-1") for name in told["names"]]
        common = told["common"].encode("latin-1")
        return cls(float(told["began"]), told["before"], told["after"], common, names, bool(told["restored"]))


@dataclass(frozen=True, slots=True)
class Standing:
    """How a file stands: `nothing`, `begun` (written down, not yet done), `switched`, or `restored` with strangers."""

    state: str
    since: float = 0.0
    names: list[bytes] = field(default_factory=list)
    changed: list[bytes] = field(default_factory=list)
    gone: list[bytes] = field(default_factory=list)
    strangers: list[bytes] = field(default_factory=list)


class ShadowSwitch:
    """One password file. `checkpoint` hears of each step, before and after it."""

    def __init__(
        self, file: Path, *, now: Callable[[], float] = time.time, checkpoint: Checkpoint | None = None
    ) -> None:
        self.file = file
        self.journal_file = file.with_name(f"{file.name}.shadow-switch")
        self.backup_file = file.with_name(f"{file.name}.shadow-switch-backup")
        self._lock_file = file.with_name(f"{file.name}.lock")
        self._now = now
        self._checkpoint = checkpoint or (lambda _step: None)

    # What a person asks -------------------------------------------------------------------------------------------

    def plan(self, *, common: bytes, only: Collection[bytes] = (), keep: Collection[bytes] = ()) -> list[bytes]:
        """Whose password `begin` would switch. Unsafe where it would refuse."""
        return self._planned(self._read(), common, only, keep)

    def hash_of(self, account: bytes) -> bytes:
        """The password field of an account, as it stands. Unsafe where there is none."""
        for record in read_records(self._read()):
            if record.name == account:
                return record.hash
        raise Unsafe(f"{self.file}: {show(account)} does not stand there")

    def content(self) -> bytes:
        """The file. Unsafe where it may not be switched by us."""
        return self._read()

    def begin(self, *, common: bytes, only: Collection[bytes] = (), keep: Collection[bytes] = ()) -> list[bytes]:
        """Give all these accounts the hash `common`; whose they are. A `begin` that was cut off is done again.

        Unsafe for a file that is not fit for it, and while another switch is under way; Busy; OSError.
        """
        with self._locked():
            content = self._read()
            under_way = self._journal()
            if under_way is not None and digest(content) != under_way.before:
                raise Unsafe(
                    f"{self.file}: a switch is under way since {_time(under_way.began)}",
                    "take it back with `migrator shadow-switch end` first",
                )
            names = self._planned(content, common, only, keep)
            done = switch(content, common, only=only, keep=keep)
            self._back_up(content, fresh=under_way is not None)
            journal = Journal(self._now(), digest(content), digest(done.content), common, names)
            self._write_journal(journal)
            self._replace(content, done.content)
            self._verify(done.content)
            return names

    def end(self) -> Standing:
        """Give everybody back what they had before `begin`, whatever became of it. What it found and did.

        A password that was changed meanwhile stays. Somebody who has the common password and never had another is a
        `stranger`: for a person to look at; the journal stays until there is none. Unsafe where the backup is not what
        was saved; Busy; OSError.
        """
        with self._locked():
            journal = self._journal()
            if journal is None:
                self._read()  # a name that was mistyped must not look like a file that is as it was
                self._remove_orphan()
                return Standing("nothing")
            content = self._read()
            back = self._restored(journal, content)
            if back.content != content:
                self._replace(content, back.content)
                self._verify(back.content)
            if not journal.restored:
                self._write_journal(replace(journal, restored=True))
            if back.strangers:
                return _standing("restored", journal, back)
            self._clean_up()
            return _standing("nothing", journal, back)

    def status(self) -> Standing:
        """How the file stands now. Changes nothing, and waits for nobody."""
        journal = self._journal()
        content = self._read()
        if journal is None:
            return Standing("nothing")
        back = self._restored(journal, content)
        if journal.restored:
            return _standing("restored" if back.strangers else "nothing", journal, back)
        state = "begun" if digest(content) == journal.before else "switched"
        return _standing(state, journal, back)

    # Its steps ----------------------------------------------------------------------------------------------------

    def _planned(self, content: bytes, common: bytes, only: Collection[bytes], keep: Collection[bytes]) -> list[bytes]:
        problems = [f"{self.file}: {problem}" for problem in find_problems(content)]
        there = {record.name for record in read_records(content)}
        problems += [f"{self.file}: {show(name)} does not stand there" for name in sorted({*only, *keep} - there)]
        if problems:
            raise Unsafe(*problems)
        names = switch(content, common, only=only, keep=keep).names
        if not names:
            raise Unsafe(
                f"{self.file}: nobody there has a password that could be switched",
                "where the fields hold `x`, the passwords are in another file: shadow or master.passwd",
            )
        return names

    def _read(self) -> bytes:
        """The content. Unsafe for a file that must not be replaced by another of its name."""
        try:
            found = self.file.lstat()
        except FileNotFoundError:
            raise Unsafe(f"{self.file}: no such file") from None
        if stat.S_ISLNK(found.st_mode):
            raise Unsafe(f"{self.file} is a symbolic link: name the file itself, {self.file.resolve()}")
        if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
            raise Unsafe(f"{self.file} is not a password file")
        if found.st_nlink > 1:
            raise Unsafe(f"{self.file} has {found.st_nlink} hard links: it would be changed by one of its names only")
        if found.st_mode & 0o022:
            raise Unsafe(f"{self.file} can be written by others than its owner: chmod go-w it first")
        return self.file.read_bytes()

    def _journal(self) -> Journal | None:
        try:
            return Journal.from_json(self.journal_file.read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise Unsafe(
                f"{self.journal_file} cannot be read: {error}",
                f"the file as it was is {self.backup_file}: compare it with {self.file} by hand",
            ) from None

    def _write_journal(self, journal: Journal) -> None:
        self._checkpoint("before the journal")
        write_whole(self.journal_file, journal.as_json())
        self._checkpoint("after the journal")

    def _back_up(self, content: bytes, *, fresh: bool) -> None:
        """Save the file. A backup without a journal was left by a `begin` that had changed nothing yet."""
        if not fresh and self.backup_file.exists() and digest(self.backup_file.read_bytes()) != digest(content):
            raise self._unexplained()
        self._checkpoint("before the backup")
        write_whole(self.backup_file, content)
        if digest(self.backup_file.read_bytes()) != digest(content):
            raise OSError(errno.EIO, "the backup does not read as it was written", str(self.backup_file))
        self._checkpoint("after the backup")

    def _replace(self, expected: bytes, content: bytes) -> None:
        """Put `content` in place of `expected`. Busy where that is not what stands there any more."""
        self._checkpoint("before the change")
        like = self.file.stat()
        if self.file.read_bytes() != expected:
            raise Busy(f"{self.file} was changed by another program at this moment: try again")
        write_whole(self.file, content, like=like)
        self._checkpoint("after the change")

    def _verify(self, content: bytes) -> None:
        if self.file.read_bytes() != content:
            raise OSError(errno.EIO, "it does not read as it was written", str(self.file))

    def _restored(self, journal: Journal, content: bytes) -> Restored:
        """What `end` would make of the file."""
        try:
            original = self.backup_file.read_bytes()
        except FileNotFoundError:
            if journal.restored:  # `end` was cut off while it cleaned up
                return Restored(content, [])
            original = content if digest(content) == journal.before else b""
        if digest(original) != journal.before:
            raise Unsafe(
                f"{self.backup_file} is not the file as it was saved: nothing is restored from it",
                "find another copy, put it there and try again",
            )
        return restore(content, original, journal.common, journal.names)

    def _clean_up(self) -> None:
        """Remove what stands beside the file, the journal last: until then it says that all is restored."""
        self._checkpoint("before cleaning up")
        self.backup_file.unlink(missing_ok=True)
        sync_directory(self.file.parent)
        self._checkpoint("between backup and journal")
        self.journal_file.unlink(missing_ok=True)
        sync_directory(self.file.parent)
        self._checkpoint("after cleaning up")

    def _remove_orphan(self) -> None:
        """A backup without a journal: of a `begin` that was cut off early if it equals the file, else nobody knows."""
        if not self.backup_file.exists():
            return
        if digest(self.backup_file.read_bytes()) != digest(self._read()):
            raise self._unexplained()
        self.backup_file.unlink()
        sync_directory(self.file.parent)

    def _unexplained(self) -> Unsafe:
        return Unsafe(
            f"{self.backup_file} is there, differs from {self.file}, and no journal says what it is",
            "compare the two by hand, and move it away",
        )

    # Locks --------------------------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep the system's own tools, and another of us, from the file. Busy where somebody else is at it.

        `FILE.lock` with a process id in it is what useradd, chage and the like look for; of a process that is no more
        it is stale, for them as for us. lckpwdf(3) locks `.pwd.lock`, which is taken where it exists, and not made.
        """
        with self._pwd_lock():
            self._take_lock_file()
            try:
                self._sweep()
                yield
            finally:
                self._lock_file.unlink(missing_ok=True)

    @contextmanager
    def _pwd_lock(self) -> Iterator[None]:
        try:
            descriptor = os.open(self.file.with_name(".pwd.lock"), os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            yield
            return
        try:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                raise Busy(f"{self.file}: another program is changing the accounts: try again") from None
            yield
        finally:
            os.close(descriptor)

    def _take_lock_file(self) -> None:
        mine = self._lock_file.with_name(f"{self._lock_file.name}.{os.getpid()}")
        mine.unlink(missing_ok=True)
        descriptor = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as stream:
                stream.write(b"%d\0" % os.getpid())
            for _ in range(3):
                try:
                    os.link(mine, self._lock_file)
                    return
                except FileExistsError:
                    holder = self._holder()
                    if holder is None:
                        raise Busy(f"{self._lock_file}: another program is changing {self.file}: try again") from None
            raise Busy(f"{self._lock_file}: others take it again and again: try again")
        finally:
            mine.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove what processes of ours that were killed have left: copies not yet put in place, and their locks."""
        ours = (self.file.name, self.journal_file.name, self.backup_file.name)
        names = "|".join([rf"\.{re.escape(name)}" for name in ours] + [re.escape(self._lock_file.name)])
        for path in self.file.parent.iterdir():
            found = re.fullmatch(rf"(?:{names})\.([1-9][0-9]*)", path.name)
            if found and not process_exists(int(found[1])):
                path.unlink(missing_ok=True)

    def _holder(self) -> int | None:
        """Remove a lock whose process is no more and give its number; None for one that holds."""
        try:
            process = int(self._lock_file.read_bytes().rstrip(b"\0 \n") or b"0")
        except FileNotFoundError:
            return 0
        except ValueError:
            return None
        if process <= 0 or process_exists(process):
            return None
        with suppress(FileNotFoundError):
            self._lock_file.unlink()
        return process


def digest(content: bytes) -> str:
    """SHA-256, as hex."""
    return hashlib.sha256(content).hexdigest()


def _standing(state: str, journal: Journal, back: Restored) -> Standing:
    return Standing(state, journal.began, back.names, back.changed, back.gone, back.strangers)


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
