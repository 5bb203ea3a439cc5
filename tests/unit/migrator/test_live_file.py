"""A file that changes while it is used is read again, however it was changed."""

from __future__ import annotations

import os
from pathlib import Path

from migrator.live_file import LiveFile


def _file(path: Path, times: list[float], now: list[int]) -> LiveFile[bytes]:
    return LiveFile(path, bytes, lambda text: text.encode(), lambda: times[0], lambda: now[0])


async def test_a_change_that_hides_its_date(tmp_path: Path) -> None:
    """The same size, and the date put back, as `cp -p` and `rsync` do it."""
    path = tmp_path / "file"
    path.write_bytes(b"one")
    before = path.stat()
    times, now = [0.0], [before.st_ctime_ns + 1]  # so young that the clock may not have ticked since
    file = _file(path, times, now)
    assert await file.look() == b"one"
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert await file.look() == b"one"
    times[0] = 2.0
    assert await file.look() == b"two"


async def test_a_file_that_stays_is_read_once(tmp_path: Path) -> None:
    """When it is no longer young."""
    path = tmp_path / "file"
    path.write_bytes(b"one")
    times, now = [0.0], [path.stat().st_ctime_ns + 1_000_000_000]
    reads: list[bytes] = []

    def read(content: bytes) -> bytes:
        reads.append(content)
        return content

    file = LiveFile(path, read, str.encode, lambda: times[0], lambda: now[0])
    for second in range(0, 10, 2):
        times[0] = float(second)
        assert await file.look() == b"one"
    assert reads == [b"one"]
