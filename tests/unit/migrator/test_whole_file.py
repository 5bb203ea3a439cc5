"""Files that are replaced as a whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from migrator.whole_file import write_whole, writing_whole


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"content")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"content", 0o600)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_like_the_file_that_it_replaces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o640)
    os.chown(path, os.getuid(), os.getgid())
    write_whole(path, b"new", like=path.stat())
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o640)


def test_what_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(path, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "nowhere" / "file", b"new")


def test_a_stream_that_ends_badly_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), writing_whole(path) as stream:
        stream.write(b"new" * (100_000 // 0))
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
