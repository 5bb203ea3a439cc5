"""The Store: what is acknowledged is on disk, trouble is Temporary, and the directory decides who may use the files."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from migrator.ledger.store import Store, share_file
from wire.outcome import SetupTrouble, Temporary

DIRECTORY_OF_THE_MAIL_GROUP = 8  # Debian's gid of mail


def note(detail: str) -> Callable[[sqlite3.Connection], object]:
    return lambda c: (
        c.execute("INSERT INTO audit (at, actor, action, detail) VALUES (0, '', '', ?)", (detail,)) and None
    )


def details(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT detail FROM audit ORDER BY id")]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "state.db")
    yield store
    await store.close()


async def test_what_was_written_is_there_for_another_connection(store: Store) -> None:
    await store.write(note("one"))
    with sqlite3.connect(store.path) as other:
        assert details(other) == ["one"]
    other.close()


async def test_a_write_gives_its_result(store: Store) -> None:
    assert await store.write(lambda c: c.execute("SELECT 6 * 7").fetchone()[0]) == 42


async def test_file_is_in_wal_mode_with_full_synchronous_and_foreign_keys(store: Store) -> None:
    def pragmas(c: sqlite3.Connection) -> list[object]:
        return [c.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "foreign_keys")]

    assert await store.write(pragmas) == ["wal", 2, 1]


async def test_waiting_writes_share_one_commit(store: Store) -> None:
    await store.open()
    commits: list[str] = []
    await store.write(lambda c: c.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None))
    gate = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    def hold_the_writer(_c: sqlite3.Connection) -> None:
        asyncio.run_coroutine_threadsafe(asyncio.wait_for(asyncio.shield(gate), 10), loop).result()

    blocked = asyncio.ensure_future(store.write(hold_the_writer))
    rest = [asyncio.ensure_future(store.write(note(str(n)))) for n in range(100)]
    await asyncio.sleep(0)
    commits.clear()
    gate.set_result(None)
    await asyncio.gather(blocked, *rest)
    assert len(commits) in (1, 2)  # the one that blocked, alone or with what had come by then, and all the rest
    assert await store.read(details) == [str(n) for n in range(100)]


async def test_a_failing_write_undoes_only_its_own_changes(store: Store) -> None:
    def broken(c: sqlite3.Connection) -> None:
        note("half")(c)
        raise ZeroDivisionError

    results = await asyncio.gather(
        store.write(note("a")), store.write(broken), store.write(note("b")), store.write(broken), return_exceptions=True
    )
    assert [type(result) for result in results] == [type(None), ZeroDivisionError, type(None), ZeroDivisionError]
    assert await store.read(details) == ["a", "b"]


async def test_a_failing_write_alone_in_its_commit_undoes_its_changes(store: Store) -> None:
    def broken(c: sqlite3.Connection) -> None:
        note("half")(c)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.write(broken)
    assert await store.read(details) == []


async def test_a_broken_constraint_is_not_called_temporary(store: Store) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        await store.write(
            lambda c: c.execute("INSERT INTO logins (account, source, login, verified_at) VALUES ('a','b','c',1)")
        )


async def test_a_cancelled_waiter_does_not_undo_its_write_nor_disturb_others(store: Store) -> None:
    await store.open()
    first = asyncio.ensure_future(store.write(note("first")))
    second = asyncio.ensure_future(store.write(note("second")))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert first.cancelled()
    assert await store.read(details) == ["first", "second"]


async def test_reading_cannot_write(store: Store) -> None:
    with pytest.raises(Temporary):
        await store.read(note("no"))
    assert await store.read(details) == []


async def test_a_failing_read_disturbs_none_of_those_that_wait_with_it(store: Store) -> None:
    await store.write(note("a"))
    entered, go_on = threading.Event(), threading.Event()

    def hold_the_reader(_c: sqlite3.Connection) -> bool:
        entered.set()
        return go_on.wait(10)

    def broken(_c: sqlite3.Connection) -> None:
        raise ZeroDivisionError

    blocked = asyncio.ensure_future(store.read(hold_the_reader))
    assert await asyncio.to_thread(entered.wait, 10)
    rest = [asyncio.ensure_future(store.read(work)) for work in (details, broken, details)]
    await asyncio.sleep(0)
    await store.write(note("b"))
    go_on.set()
    first, failed, last = await asyncio.gather(*rest, return_exceptions=True)
    assert await blocked
    assert first == last == ["a", "b"]  # their snapshot is as young as the youngest of them
    assert isinstance(failed, ZeroDivisionError)


async def test_reads_see_one_snapshot(store: Store) -> None:
    await store.write(note("before"))
    loop = asyncio.get_running_loop()

    def twice(c: sqlite3.Connection) -> tuple[list[str], list[str]]:
        first = details(c)
        asyncio.run_coroutine_threadsafe(store.write(note("meanwhile")), loop).result(10)
        return first, details(c)

    assert await store.read(twice) == (["before"], ["before"])
    assert await store.read(details) == ["before", "meanwhile"]


async def test_two_stores_on_one_file_see_each_other(store: Store) -> None:
    other = Store(store.path)
    await asyncio.gather(*(s.write(note(str(n))) for n in range(50) for s in (store, other)))
    assert sorted(await other.read(details)) == sorted(str(n) for n in range(50) for _ in range(2))
    await other.close()


async def test_many_stores_may_create_the_file_at_once(tmp_path: Path) -> None:
    stores = [Store(tmp_path / "state.db") for _ in range(8)]
    await asyncio.gather(*(store.write(note(str(n))) for n, store in enumerate(stores)))
    assert sorted(await stores[0].read(details)) == [str(n) for n in range(8)]
    await asyncio.gather(*(store.close() for store in stores))


async def test_a_lock_held_by_another_process_is_temporary_after_the_wait(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db", lock_wait=0.05)
    await store.open()
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Temporary, match="held its lock"):
        await store.write(note("locked out"))
    assert await store.read(details) == []
    other.execute("ROLLBACK")
    other.close()
    await store.write(note("later"))
    assert await store.read(details) == ["later"]
    await store.close()


async def test_a_full_disk_is_temporary_for_all_who_wait_and_passes(store: Store) -> None:
    await store.open()
    pages = await store.write(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
    await store.write(lambda c: c.execute(f"PRAGMA max_page_count = {pages}") and None)
    results = await asyncio.gather(*(store.write(note("x" * 100_000)) for _ in range(3)), return_exceptions=True)
    assert {type(result) for result in results} == {Temporary}
    assert all("the disk is full" in str(result) for result in results)
    await store.write(note("small again"))  # a new connection, without the limit
    assert await store.read(details) == ["small again"]


async def test_a_missing_directory_is_temporary_and_passes_once_it_is_there(tmp_path: Path) -> None:
    store = Store(tmp_path / "missing" / "state.db")
    with pytest.raises(Temporary, match="No such file or directory"):
        await store.write(note("x"))
    (tmp_path / "missing").mkdir()
    await store.write(note("x"))
    await store.close()


async def test_a_persons_own_directory_is_made_private(tmp_path: Path) -> None:
    store = Store(tmp_path / "state" / "extauth" / "moves.db", create_directory=True)
    await store.write(note("x"))
    assert stat.S_IMODE((tmp_path / "state" / "extauth").stat().st_mode) == 0o700
    await store.close()


async def test_a_file_that_is_no_database_is_a_set_up_fault(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"no database at all" * 500)
    store = Store(tmp_path / "state.db")
    with pytest.raises(SetupTrouble, match="no database"):
        await store.write(note("x"))
    await store.close()


async def test_a_newer_version_of_the_tables_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "state.db") as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    store = Store(tmp_path / "state.db")
    with pytest.raises(SetupTrouble, match="version 99"):
        await store.read(details)
    await store.close()


async def test_a_deleted_file_is_noticed_and_nothing_is_written_into_the_void(store: Store) -> None:
    await store.write(note("gone"))
    for path in store.path.parent.iterdir():
        path.unlink()
    await store.write(note("kept"))
    with sqlite3.connect(store.path) as other:
        assert details(other) == ["kept"]
    other.close()
    assert await store.read(details) == ["kept"]


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db")
    await store.write(note("x"))
    await store.close()
    with pytest.raises(Temporary, match="closed"):
        await store.write(note("y"))


async def test_close_finishes_what_waits(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db")
    waiting = [asyncio.ensure_future(store.write(note(str(n)))) for n in range(500)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*waiting)
    with sqlite3.connect(tmp_path / "state.db") as other:
        assert len(details(other)) == 500
    other.close()


@pytest.mark.parametrize(
    ("directory_mode", "file_mode"), [(0o700, 0o600), (0o755, 0o600), (0o770, 0o660), (0o2770, 0o660)]
)
async def test_directory_decides_owner_and_mode_of_all_files(
    tmp_path: Path, directory_mode: int, file_mode: int
) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    os.chown(directory, 65534, DIRECTORY_OF_THE_MAIL_GROUP)
    directory.chmod(directory_mode)
    before = os.umask(0o077)
    try:
        store = Store(directory / "state.db")
        await store.write(note("x"))
    finally:
        os.umask(before)
    found = {
        path.name: (path.stat().st_uid, path.stat().st_gid, stat.S_IMODE(path.stat().st_mode))
        for path in directory.iterdir()
    }
    assert set(found) == {"state.db", "state.db-wal", "state.db-shm"}
    assert set(found.values()) == {(65534, DIRECTORY_OF_THE_MAIL_GROUP, file_mode)}
    await store.close()


def test_share_file_never_follows_a_link(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"")
    target.chmod(0o644)
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o770)
    (shared / "link").symlink_to(target)
    share_file(shared / "link")
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


def test_share_file_leaves_a_file_with_two_names_alone(tmp_path: Path) -> None:
    """A hard link to somebody's file must not be handed to the directory's group by root's tools."""
    target = tmp_path / "target"
    target.write_bytes(b"")
    target.chmod(0o644)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o770)
    os.link(target, shared / "state.db-wal")
    share_file(shared / "state.db-wal")
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


async def test_looking_at_the_files_does_not_drop_sqlites_locks(store: Store) -> None:
    """POSIX locks of a process end when it closes any ordinary descriptor of the file."""
    await store.open()
    locked, free = threading.Event(), threading.Event()

    def hold(_c: sqlite3.Connection) -> None:
        locked.set()
        free.wait(30)

    held = asyncio.ensure_future(store.write(hold))
    await asyncio.to_thread(locked.wait, 30)
    for path in store.path.parent.iterdir():
        share_file(path)
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(store.path), stderr=asyncio.subprocess.PIPE
    )
    _, said = await other.communicate()
    free.set()
    await held
    assert b"database is locked" in said
