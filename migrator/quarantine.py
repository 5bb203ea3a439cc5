"""Messages that the target refused in every form, kept as files: the last rung, so that nothing is dropped.

`<directory>/<account>/<mailbox>/<uidvalidity>-<uid>.eml` (or `~<UIDL>.eml` of what came by POP) holds the original as
the source gave it, a `.json` beside it says where it came from and why it is here. Files are 0600 in directories 0700,
and appear under their names only when they are complete and on disk. No step follows a symbolic link below the
directory, and none leaves it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import AsyncIterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from migrator.plan import show
from wire.outcome import Permanent, Scope, Temporary

_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789@_-+=.")
_LONGEST: Final = 120  # characters of a name, with those of its hash far below the 255 of any file system
_FOLLOW_NONE: Final = os.O_NOFOLLOW | os.O_CLOEXEC
_PASSES: Final = frozenset(  # gets better without a person, or by one who mends more than this
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ESTALE, errno.ENOMEM}
)


@dataclass(frozen=True, slots=True)
class Origin:
    """The one message at the source that a file is of. `mailbox` is its name on the wire."""

    account: str
    mailbox: bytes
    uidvalidity: int
    uid: int

    @property
    def parts(self) -> tuple[str, str, str]:
        """Directory, directory and file name without its ending; different for different messages."""
        return safe_name(self.account), safe_name(self.mailbox), f"{self.uidvalidity}-{self.uid}"

    @property
    def identity(self) -> Mapping[str, str | int]:
        """What tells it from the others of its mailbox, for the `.json`."""
        return {"uidvalidity": self.uidvalidity, "uid": self.uid}

    def __str__(self) -> str:
        return f"message {self.uid} of {show(self.mailbox)!r}"


@dataclass(frozen=True, slots=True)
class PopOrigin:
    """The same for a message of a maildrop. `key` is that of its mark: `u` and its UIDL, or `d` and its content's."""

    account: str
    key: bytes
    mailbox: bytes = b"INBOX"

    @property
    def parts(self) -> tuple[str, str, str]:
        """The marks are `~` for a UIDL and `~~` for a digest: no safe name and no number begins so."""
        mark = "~" if self.key.startswith(b"u") else "~~"
        return safe_name(self.account), safe_name(self.mailbox), mark + safe_name(self.key[1:])

    @property
    def identity(self) -> Mapping[str, str | int]:
        """The UIDL, or the digest of a message that its UIDL does not tell from others."""
        return {"uidl" if self.key.startswith(b"u") else "digest": self.key[1:].decode("latin-1")}

    def __str__(self) -> str:
        (name,) = self.identity.values()
        return f"message {ascii(name)[1:-1]} of {show(self.mailbox)!r}"


AnyOrigin = Origin | PopOrigin


class Quarantine:
    """The files below `directory`, which is made with the first of them; its parent must be there.

    What the operating system says against it is raised as Temporary (no room) or Permanent, in a sentence.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, origin: AnyOrigin) -> Path:
        """Where the message lies, or would."""
        account, mailbox, name = origin.parts
        return self._directory / account / mailbox / f"{name}.eml"

    def kept(self, account: str, mailbox: bytes) -> set[str]:
        """File names, without their endings, of what is kept of a mailbox; none where it cannot be looked at."""
        folder = self._directory / safe_name(account) / safe_name(mailbox)
        with contextlib.suppress(OSError):
            return {name.removesuffix(".eml") for name in os.listdir(folder) if name.endswith(".eml")}
        return set()

    async def store(
        self,
        origin: AnyOrigin,
        chunks: AsyncIterable[bytes],
        *,
        reasons: Sequence[str],
        details: Mapping[str, str | int | Sequence[str]],
    ) -> Path:
        """Keep a message; one that is there already is replaced. What `chunks` raises passes, and no file is left.

        `reasons` are those of every step, in order; `details` (date, flags) go into the `.json` as they are.
        """
        name = origin.parts[-1]
        with self._speaking_of(origin), self._opened(origin, make=True) as (*_, folder):
            size = await _write_content(folder, f"{name}.eml", chunks)
            about = {
                **details,
                "account": origin.account,
                "mailbox": show(origin.mailbox),
                **origin.identity,
                "size": size,
                "reasons": list(reasons),
            }
            text = json.dumps(about, ensure_ascii=False, indent=2) + "\n"
            await _write_content(folder, f"{name}.json", _once(text.encode("utf-8", "backslashreplace")))
            await asyncio.to_thread(os.fsync, folder)
        return self.path(origin)

    def forget(self, origin: AnyOrigin) -> bool:
        """Remove the message, which arrived after all, and what was made for it alone; whether it was there."""
        account, mailbox, name = origin.parts
        try:
            with self._speaking_of(origin), self._opened(origin, make=False) as (top, above, folder):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{name}.json", dir_fd=folder)
                os.unlink(f"{name}.eml", dir_fd=folder)
                with contextlib.suppress(OSError):  # other messages are there, as a rule
                    os.rmdir(mailbox, dir_fd=above)
                    os.rmdir(account, dir_fd=top)
        except _NotThere:
            return False
        return True

    @contextmanager
    def _speaking_of(self, origin: AnyOrigin) -> Iterator[None]:
        """Raise what the operating system says in our words."""
        try:
            yield
        except FileNotFoundError as error:
            raise _NotThere(
                f"{origin} cannot be kept in {self._directory}: {error.strerror}", scope=Scope.SETUP
            ) from None
        except OSError as error:
            kind = Temporary if error.errno in _PASSES else Permanent
            raise kind(f"{origin} cannot be kept in {self._directory}: {error.strerror}", scope=Scope.SETUP) from None

    @contextmanager
    def _opened(self, origin: AnyOrigin, *, make: bool) -> Iterator[list[int]]:
        """Descriptors of the directories: the first, the account's, the mailbox's, each looked up in the one before."""
        opened: list[int] = []
        try:
            opened.append(self._open_top(make=make))
            for part in origin.parts[:-1]:
                if make:
                    _make(part, opened[-1])
                opened.append(os.open(part, os.O_RDONLY | os.O_DIRECTORY | _FOLLOW_NONE, dir_fd=opened[-1]))
                self._check(opened[-1], stat.S_IRWXG | stat.S_IRWXO)
            yield opened
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def _open_top(self, *, make: bool) -> int:
        """The quarantine itself may be a link: the operator has named it."""
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._directory, 0o700)
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._check(descriptor, stat.S_IWGRP | stat.S_IWOTH)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _check(self, descriptor: int, forbidden: int) -> None:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid():
            raise Permanent(f"a directory in {self._directory} belongs to another user", scope=Scope.SETUP)
        if found.st_mode & forbidden:
            raise Permanent(f"a directory in {self._directory} is open to other users", scope=Scope.SETUP)


class _NotThere(Permanent):
    """A directory or a file is missing."""


def _make(name: str, folder: int) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=folder)
    except FileExistsError:
        return
    os.fsync(folder)


async def _write_content(folder: int, name: str, chunks: AsyncIterable[bytes]) -> int:
    """Write a file under a name of its own, then give it `name`: there is no moment with half of it."""
    unfinished = f".{name}.part"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(unfinished, dir_fd=folder)  # of a run that was killed
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FOLLOW_NONE, 0o600, dir_fd=folder)
    try:
        size = 0
        with os.fdopen(descriptor, "wb") as file:
            async for chunk in chunks:
                size += file.write(chunk)
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        os.rename(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(unfinished, dir_fd=folder)
        raise
    return size


async def _once(block: bytes) -> AsyncIterable[bytes]:
    yield block


def safe_name(outside: str | bytes) -> str:
    """A name from outside as one part of a path: never empty, `.` or `..`, without separators; distinct ones distinct.

    Bytes that are not plain become `%XX`, and so does a `.` at the beginning. A long name is cut, and its hash added.
    """
    raw = outside.encode("utf-8", "surrogatepass") if isinstance(outside, str) else outside
    name = "".join(
        chr(octet) if octet in _PLAIN and (at or octet != 0x2E) else f"%{octet:02X}" for at, octet in enumerate(raw)
    )
    if len(name) > _LONGEST:
        return f"{name[:_LONGEST]}~{hashlib.sha256(raw).hexdigest()[:32]}"
    return name or "~"
