"""By what a file is known to be another than it was: when it was written or changed, its size, and which file it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

_YOUNG: Final = 50_000_000  # ns: a file system's clock ticks in 4 ms or so; a file this young may change unseen


class Stamp(NamedTuple):
    """What stat says of one content. `changed` (ctime) moves where a program has put the older date back."""

    modified: int
    changed: int
    size: int
    inode: int

    def settled(self, now: int) -> bool:
        """Whether a later change would show. `now` is in ns since the epoch."""
        return not 0 <= now - self.changed <= _YOUNG


def stamp_of(path: Path) -> Stamp | None:
    """None where it cannot be looked at."""
    try:
        return stamp_from(os.stat(path))
    except OSError:
        return None


def stamp_from(found: os.stat_result) -> Stamp:
    """The stamp in what stat said."""
    return Stamp(found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)
