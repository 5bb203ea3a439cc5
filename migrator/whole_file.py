"""A file written whole: whoever opens it finds all of the old content or all of the new, also after a crash."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def write_whole(path: Path, content: bytes, *, like: os.stat_result | None = None) -> None:
    """Put `content` where `path` is, durably; the same promises as `writing_whole`."""
    with writing_whole(path, like=like) as stream:
        stream.write(content)


@contextlib.contextmanager
def writing_whole(path: Path, *, like: os.stat_result | None = None) -> Iterator[BinaryIO]:
    """A stream whose content takes the place of `path`, durably, when the block ends well; else nothing has changed.

    The file is its owner's alone (0600) from its first byte on; with `like`, which `os.stat` gave for the file that is
    replaced, it gets that one's owner, group and mode before it takes its place, and its extended attributes.
    OSError when the file cannot be written.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}")
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(file, "wb") as stream:
            yield stream
            stream.flush()
            if like is not None:
                os.fchown(file, like.st_uid, like.st_gid)
                os.fchmod(file, like.st_mode & 0o7777)
                _copy_attributes(path, file)
            os.fsync(file)
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make what was created, renamed or removed in a directory durable."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _copy_attributes(path: Path, file: int) -> None:
    """SELinux labels and ACLs, where the system and the file system have such."""
    if not hasattr(os, "listxattr"):
        return
    for name in os.listxattr(path):
        with contextlib.suppress(OSError):  # a label that only the kernel sets
            os.setxattr(file, name, os.getxattr(path, name))
