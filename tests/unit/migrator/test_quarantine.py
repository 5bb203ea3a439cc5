"""Refused messages as files: complete or not there, for nobody else to read, never outside their directory."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.quarantine import Origin, PopOrigin, Quarantine, safe_name
from wire.outcome import Permanent, Temporary

ORIGIN = Origin("user@example.com", b"INBOX.Pr&APw-fung", 7, 42)
DETAILS = {"date": "13-Feb-2009 23:31:30 +0000", "flags": ["\\Seen"]}


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece


async def broken(*content: bytes) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece
    raise Temporary("the source is gone")


async def keep(quarantine: Quarantine, content: bytes = b"a\0b", origin: Origin = ORIGIN, reason: str = "no") -> Path:
    return await quarantine.store(origin, pieces(content), reasons=[reason], details=DETAILS)


def files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir())


async def test_message_and_what_is_known_of_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        path = await Quarantine(tmp_path / "q").store(
            ORIGIN, pieces(b"a\0", b"", b"b\n"), reasons=["first", "wrapped: \udcff"], details=DETAILS
        )
    finally:
        os.umask(old)
    assert path == tmp_path / "q" / "user@example.com" / "INBOX.Pr%26APw-fung" / "7-42.eml"
    assert path.read_bytes() == b"a\0b\n"
    assert json.loads(path.with_suffix(".json").read_text()) == {
        "account": "user@example.com",
        "mailbox": "INBOX.Prüfung",
        "uidvalidity": 7,
        "uid": 42,
        "size": 4,
        "date": "13-Feb-2009 23:31:30 +0000",
        "flags": ["\\Seen"],
        "reasons": ["first", "wrapped: \udcff"],
    }
    assert files(tmp_path) == [f"q/user@example.com/INBOX.Pr%26APw-fung/7-42.{end}" for end in ("eml", "json")]
    for made in (tmp_path / "q").rglob("*"):
        assert stat.S_IMODE(made.stat().st_mode) == (0o700 if made.is_dir() else 0o600)
    assert stat.S_IMODE((tmp_path / "q").stat().st_mode) == 0o700


async def test_same_message_again_replaces_the_file(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    await keep(quarantine, b"longer than the next", reason="first")
    left = tmp_path / "user@example.com" / "INBOX.Pr%26APw-fung" / ".7-42.eml.part"
    left.write_bytes(b"of a run that was killed")
    path = await keep(quarantine, b"short", reason="second")
    assert path.read_bytes() == b"short"
    assert json.loads(path.with_suffix(".json").read_text())["reasons"] == ["second"]
    assert len(files(tmp_path)) == 2


async def test_source_that_breaks_leaves_what_was_there(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    with pytest.raises(Temporary, match="the source is gone"):
        await quarantine.store(ORIGIN, broken(b"half of"), reasons=[], details={})
    assert files(tmp_path) == []
    await keep(quarantine, b"whole")
    with pytest.raises(Temporary, match="the source is gone"):
        await quarantine.store(ORIGIN, broken(b"half of"), reasons=[], details={})
    assert quarantine.path(ORIGIN).read_bytes() == b"whole"
    assert len(files(tmp_path)) == 2


async def test_cancelled_leaves_nothing(tmp_path: Path) -> None:
    reached = asyncio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        yield b"half of"
        reached.set()
        await asyncio.Event().wait()

    storing = asyncio.ensure_future(Quarantine(tmp_path).store(ORIGIN, stalled(), reasons=[], details={}))
    await reached.wait()
    storing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await storing
    assert files(tmp_path) == []


async def test_forget(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "q")
    assert not quarantine.forget(ORIGIN)
    other = Origin("user@example.com", ORIGIN.mailbox, 7, 43)
    await keep(quarantine)
    await keep(quarantine, origin=other)
    assert quarantine.forget(ORIGIN)
    assert not quarantine.forget(ORIGIN)
    assert quarantine.path(other).exists()
    assert quarantine.forget(other)
    assert list((tmp_path / "q").iterdir()) == []  # directories of nothing go, too


@pytest.mark.parametrize("level", [0, 1, 2])
async def test_no_link_is_followed(tmp_path: Path, level: int) -> None:
    """A link in place of the account, the mailbox or the file leads nowhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"precious")
    quarantine = Quarantine(tmp_path / "q")
    path = quarantine.path(ORIGIN)
    link = [path.parent.parent, path.parent, path][level]
    link.parent.mkdir(mode=0o700, parents=True)
    for made in (path.parent, path.parent.parent):
        if made.is_dir():
            made.chmod(0o700)
    link.symlink_to(outside / "file" if level == 2 else outside)
    if level == 2:
        await keep(quarantine, b"new")
        assert not path.is_symlink()
        assert path.read_bytes() == b"new"
    else:
        with pytest.raises(Permanent, match="cannot be kept"):
            await keep(quarantine)
        with pytest.raises(Permanent, match="cannot be kept"):
            quarantine.forget(ORIGIN)
    assert files(outside) == ["file"]
    assert (outside / "file").read_bytes() == b"precious"


async def test_directories_of_others_are_not_used(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "q")
    await keep(quarantine)
    (tmp_path / "q").chmod(0o770)
    with pytest.raises(Permanent, match="open to other users"):
        await keep(quarantine)
    (tmp_path / "q").chmod(0o755)  # to be seen is nothing bad: what is in it is closed
    await keep(quarantine)
    quarantine.path(ORIGIN).parent.chmod(0o750)
    with pytest.raises(Permanent, match="open to other users"):
        await keep(quarantine)


async def test_what_the_system_says(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"message 42 of .* cannot be kept in .*: No such file"):
        await keep(Quarantine(tmp_path / "not" / "there"))
    (tmp_path / "file").touch()
    with pytest.raises(Permanent, match="Not a directory"):
        await keep(Quarantine(tmp_path / "file"))


async def test_too_many_open_files_is_temporary(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1, hard))
    try:
        with pytest.raises(Temporary, match="Too many open files"):
            await keep(Quarantine(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("outside", "inside"),
    [
        ("user@example.com", "user@example.com"),
        ("", "~"),
        (".", "%2E"),
        ("..", "%2E."),
        (".hidden", "%2Ehidden"),
        ("../../etc", "%2E.%2F..%2Fetc"),
        ("a/b\\c\0", "a%2Fb%5Cc%00"),
        ("~", "%7E"),
        ("%", "%25"),
        ("ü", "%C3%BC"),
        (b"\xff", "%FF"),
    ],
)
def test_safe_name(outside: str | bytes, inside: str) -> None:
    assert safe_name(outside) == inside


@given(
    st.lists(st.one_of(st.binary(max_size=300), st.text(alphabet="./~%aA", max_size=300).map(str.encode)), min_size=2)
)
def test_safe_names_are_safe_and_distinct(names: list[bytes]) -> None:
    safe = [safe_name(name) for name in names]
    assert len(set(safe)) == len(set(names))
    for name in safe:
        assert name
        assert name[0] != "."
        assert not set(name) & set("/\\\0 ")
        assert name.isascii()
        assert name.isprintable()
        assert len(name) <= 160


@given(st.binary(max_size=90), st.binary(max_size=90), st.sampled_from([b"u", b"d"]), st.sampled_from([b"u", b"d"]))
def test_a_uidl_is_a_file_name_of_its_own(one: bytes, other: bytes, kind: bytes, another: bytes) -> None:
    """No two messages share a file, whatever a server calls them, and none is taken for one that came by IMAP."""
    names = [PopOrigin("user", kind + one).parts[-1], PopOrigin("user", another + other).parts[-1]]
    assert (names[0] == names[1]) == (kind + one == another + other)
    for name in names:
        assert name.startswith("~")
        assert name.isascii()
        assert name.isprintable()
        assert not set("/\\") & set(name)
        assert len(name) < 200


async def test_what_came_by_pop_is_kept_and_forgotten_under_its_uidl(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "q")
    origin = PopOrigin("user@example.com", b"u../../etc")
    path = await quarantine.store(origin, pieces(b"x"), reasons=["no"], details={})
    assert path == tmp_path / "q" / "user@example.com" / "INBOX" / "~%2E.%2F..%2Fetc.eml"
    assert json.loads(path.with_suffix(".json").read_text())["uidl"] == "../../etc"
    assert quarantine.kept("user@example.com", b"INBOX") == {"~%2E.%2F..%2Fetc"}
    assert str(origin) == "message ../../etc of 'INBOX'"
    assert quarantine.forget(origin)
    assert files(tmp_path / "q") == []
    assert quarantine.kept("user@example.com", b"INBOX") == set()
