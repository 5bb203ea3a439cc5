"""Opening a file below a directory that somebody else writes to: an ordinary file, and none that a link leads to.

Mailboxes lie in the users' own directories, and whoever copies them may read everything: a link there must not bring
another user's mail, or /etc/shadow, into an account; and nothing may be waited for that is no file.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_plain(path: Path) -> BinaryIO:
    """For reading. OSError for a link, a device, a pipe, a directory, and for all that `open` raises."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "a symbolic link is not followed", str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no ordinary file", str(path))
    return open(descriptor, "rb")


def is_real_directory(path: Path) -> bool:
    """Whether it is a directory, and no link to one."""
    return path.is_dir() and not path.is_symlink()
