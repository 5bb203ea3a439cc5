"""The database file: one writer thread that commits for many at once, one reader thread.

Every process that shares the state directory opens its own Store on the same SQLite file (WAL,
synchronous=FULL: what was acknowledged survives a power cut). The writer takes all writes that
wait, runs each in its own savepoint and commits them together, so that a hundred logins in
flight cost one fsync.

Never does: block the event loop; hold a lock while nothing is to be written; open the file to
more users than the state directory is open to. A full disk, a read-only file or a lock held by
another process is `Temporary`, and the next write tries afresh, with a new connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from migrator.ledger import schema
from wire.outcome import Scope, SetupTrouble, Temporary, Trouble

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

LOCK_WAIT: Final = 5.0  # seconds for another process's lock: commits take milliseconds, a login may wait 15 s
_BATCH: Final = 256  # writes in one commit: enough to share the fsync, few enough that the first waits little
_BUSY: Final = 4  # writes in the last commit: more are on their way (PostgreSQL's commit_siblings and commit_delay)
_GATHER: Final = 0.004  # seconds that a commit then waits for them: it costs as much as several logins' statements
_READS: Final = 32  # reads on one snapshot: none waits long for the answers of those behind it
_WAITING: Final = 20_000  # requests in line; more means that the disk has stopped, and memory must not follow
_CACHED_STATEMENTS: Final = 256  # all statements of the ledger, so that none is parsed twice


class Store:
    """One database file, for one process. Opens the file at the first use, and again after trouble."""

    def __init__(self, path: Path, *, lock_wait: float = LOCK_WAIT, create_directory: bool = False) -> None:
        """`create_directory` makes a missing parent (0700): for a person's own state, never for a shared one."""
        self.path = Path(path)
        self._file = _File(self.path, lock_wait, create_directory)
        self._writer = _Lane("ledger-writer", self._file, _write_batch, _BATCH, query_only=False)
        self._reader = _Lane("ledger-reader", self._file, _read_batch, _READS, query_only=True)

    async def open(self) -> None:
        """Open the file now, so that trouble shows at once. Nobody needs to call it."""
        await self.read(_nothing)

    async def write(self, work: Work[T]) -> T:
        """Run `work` in a transaction and return its result when it is on disk.

        `work` runs in the writer's thread and must only use the connection; it may be undone and run once more. When
        it raises, its own changes are undone and the exception comes out here; the writes that share its commit are
        not touched. Work that was handed over is done even when the waiter is cancelled.
        """
        return await self._writer.run(work)

    async def read(self, work: Work[T]) -> T:
        """Run `work` on one snapshot of what is committed, beside the writer."""
        return await self._reader.run(work)

    async def tidy(self) -> None:
        """Leave nothing on disk that was deleted: what is in the log of changes goes into the file, the log is emptied.

        Waits for nobody who is at work; then the next call does it. Never raises.
        """
        await asyncio.to_thread(_empty_log, self.path)

    async def close(self) -> None:
        """Finish what waits, then let go of the file. The Store is not used afterwards."""
        await asyncio.gather(self._writer.close(), self._reader.close())


def _empty_log(path: Path) -> None:
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path, timeout=1.0)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _nothing(_connection: sqlite3.Connection) -> None:
    return None


class _Request(Generic[T]):
    __slots__ = ("future", "loop", "work")

    def __init__(self, work: Work[T], loop: asyncio.AbstractEventLoop) -> None:
        self.work = work
        self.loop = loop
        self.future: asyncio.Future[T] = loop.create_future()


_Outcome = tuple["_Request[Any]", Any, BaseException | None]
_RunBatch = Callable[[sqlite3.Connection, "list[_Request[Any]]"], "list[_Outcome]"]


class _Lane:
    """A thread with one connection, working off requests in the order they came."""

    def __init__(self, name: str, file: _File, run_batch: _RunBatch, batch: int, *, query_only: bool) -> None:
        self._name = name
        self._file = file
        self._run_batch = run_batch
        self._batch = batch
        self._query_only = query_only
        self._requests: queue.SimpleQueue[_Request[Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._connection: sqlite3.Connection | None = None

    def run(self, work: Work[T]) -> asyncio.Future[T]:
        if self._closed:
            raise Temporary("the ledger is closed")
        if self._requests.qsize() >= _WAITING:
            raise Temporary("the ledger is far behind: too many requests wait for the disk")
        request = _Request(work, asyncio.get_running_loop())
        self._requests.put(request)
        if self._thread is None:
            # a daemon: a process that ends without close() must not hang, and nothing unacknowledged is owed to anyone
            self._thread = threading.Thread(target=self._work_off, name=self._name, daemon=True)
            self._thread.start()
        return request.future

    async def close(self) -> None:
        self._closed = True
        if self._thread is not None:
            self._requests.put(None)
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def _work_off(self) -> None:
        last, before = False, 0
        while not last:
            batch: list[_Request[Any]] = []
            request = self._requests.get()
            if before >= _BUSY and not self._query_only:
                time.sleep(_GATHER)  # in the lane's own thread
            while request is not None:
                batch.append(request)
                if len(batch) >= self._batch:
                    break
                try:
                    request = self._requests.get_nowait()
                except queue.Empty:
                    break
            last, before = request is None, len(batch)
            if batch:
                _deliver(self._outcomes(batch))
                batch.clear()  # nothing of a request, a sealed password perhaps, stays while the lane is idle
        self._disconnect()

    def _outcomes(self, batch: list[_Request[Any]]) -> list[_Outcome]:
        try:
            if self._connection is not None and self._file.was_replaced():
                self._disconnect()
            if self._connection is None:
                self._connection = self._file.connect(query_only=self._query_only)
            return self._run_batch(self._connection, batch)
        except Exception as error:  # noqa: BLE001 - this loop owns the scope: whatever happens, the waiters must hear of it
            trouble = self._file.explain(error)
            if isinstance(error, sqlite3.Error) and not _is_busy(error):
                self._disconnect()  # after an I/O error nothing that the connection remembers is trusted
            return [(request, None, trouble) for request in batch]

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _deliver(outcomes: list[_Outcome]) -> None:
    """Hand the results to the loops that wait, with one wake-up for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
    for outcome in outcomes:
        by_loop.setdefault(outcome[0].loop, []).append(outcome)
    for loop, theirs in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, theirs)


def _settle(outcomes: list[_Outcome]) -> None:
    for request, result, error in outcomes:
        if request.future.done():  # the waiter was cancelled
            continue
        if error is None:
            request.future.set_result(result)
        else:
            request.future.set_exception(error)


def _write_batch(connection: sqlite3.Connection, batch: list[_Request[Any]]) -> list[_Outcome]:
    """All of `batch` in one commit. Raises when nothing of it was kept."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        outcomes = _run_all(connection, batch)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return outcomes


def _run_all(connection: sqlite3.Connection, batch: list[_Request[Any]]) -> list[_Outcome]:
    """Run `batch`, hardly ever in savepoints: every statement hands the interpreter's lock back and forth."""
    try:
        return [(request, request.work(connection), None) for request in batch]
    except Exception:
        if len(batch) == 1:
            raise
    # one of them raised: all from the start, each for itself
    if connection.in_transaction:
        connection.execute("ROLLBACK")
    connection.execute("BEGIN IMMEDIATE")
    return [_in_savepoint(connection, request) for request in batch]


def _in_savepoint(connection: sqlite3.Connection, request: _Request[Any]) -> _Outcome:
    connection.execute("SAVEPOINT one")
    try:
        result = request.work(connection)
    except Exception as error:
        if not connection.in_transaction:
            raise  # SQLite has rolled everything back (disk full, for one): nothing of this batch was kept
        connection.execute("ROLLBACK TO one")
        connection.execute("RELEASE one")
        return request, None, _translate(error) or error
    connection.execute("RELEASE one")
    return request, result, None


def _read_batch(connection: sqlite3.Connection, batch: list[_Request[Any]]) -> list[_Outcome]:
    """All of `batch` on one snapshot, taken after the last of them was asked."""
    connection.execute("BEGIN")
    try:
        return [_read_one(connection, request) for request in batch]
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _read_one(connection: sqlite3.Connection, request: _Request[Any]) -> _Outcome:
    try:
        return request, request.work(connection), None
    except sqlite3.Error:
        raise  # about the file, and so about all of them
    except Exception as error:  # noqa: BLE001 - the waiter owns the scope; it is raised there
        return request, None, error


class _File:
    """Opens connections to one database file; creates it with the owner and mode that its directory asks for."""

    def __init__(self, path: Path, lock_wait: float, create_directory: bool) -> None:
        self._path = path
        self._lock_wait = lock_wait
        self._create_directory = create_directory
        self._opening = threading.Lock()  # one lane creates the file and its tables, the other then finds them
        self._identity: tuple[int, int] | None = None

    def connect(self, *, query_only: bool) -> sqlite3.Connection:
        with self._opening:
            self._create()
            connection = sqlite3.connect(
                self._path, timeout=self._lock_wait, isolation_level=None, cached_statements=_CACHED_STATEMENTS
            )
            try:
                self._prepare(connection)
                if query_only:
                    connection.execute("PRAGMA query_only = ON")
            except BaseException:
                connection.close()
                raise
            self._identity = self._look()
            return connection

    def was_replaced(self) -> bool:
        """Whether the name now means another file, or none: what is written to a deleted file is lost."""
        return self._look() != self._identity

    def explain(self, error: Exception) -> Exception:
        """The Trouble to raise for `error`; a bug stays as it is."""
        return _translate(error, self._path, self._lock_wait) or error

    def _look(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _create(self) -> None:
        """Make the empty file if it is not there. Never opens an existing one: closing it drops SQLite's locks."""
        if self._create_directory:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            return
        share_file(self._path)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        self._use_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")  # a password that is wiped leaves zeros behind
        connection.execute("PRAGMA journal_size_limit = 67108864")  # a burst must not leave a gigabyte of WAL behind
        if schema.version(connection) != schema.VERSION:
            connection.execute("BEGIN IMMEDIATE")
            try:
                schema.migrate(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        for ending in ("-wal", "-shm"):  # made by SQLite with the database's mode, but with the creator's group
            share_file(self._path.with_name(self._path.name + ending))

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """Switch to WAL. SQLite does not wait for a lock in this one statement, so the waiting is done here."""
        deadline = time.monotonic() + self._lock_wait
        while True:
            try:
                mode: str = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)  # in the lane's own thread
                continue
            if mode != "wal":
                raise SetupTrouble(f"the ledger {self._path} needs a file system that can do WAL; it got {mode!r}")
            return


def share_file(path: Path) -> None:
    """Give `path` the owner, group and mode that its directory asks for; files of other users are left alone.

    A directory that its group may write to gets files for the group (0660), any other files for
    the owner alone (0600), whatever the umask. When root's tools create a file, it goes to the
    directory's owner, so that the service's own user can go on with it.
    """
    try:
        # O_PATH: closing it leaves SQLite's locks alone, and what it names cannot be exchanged for a link meanwhile
        handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        file, directory = os.fstat(handle), os.stat(path.parent)
        if not stat.S_ISREG(file.st_mode) or file.st_nlink != 1 or os.geteuid() not in (0, file.st_uid):
            return
        owner = directory.st_uid if os.geteuid() == 0 else file.st_uid
        name = f"/proc/self/fd/{handle}"
        if (owner, directory.st_gid) != (file.st_uid, file.st_gid):
            with contextlib.suppress(OSError):  # a group we are not a member of: the mode still holds
                os.chown(name, owner, directory.st_gid)
        mode = 0o660 if directory.st_mode & stat.S_IWGRP else 0o600
        if stat.S_IMODE(file.st_mode) != mode:
            with contextlib.suppress(OSError):
                os.chmod(name, mode)
    finally:
        os.close(handle)


def _code(error: BaseException) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code, the rest details


def _is_busy(error: BaseException) -> bool:
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


_PLAIN_WORDS: Final = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "it is read-only, or belongs to another user",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: the directory is missing, or not ours to use",
    sqlite3.SQLITE_PERM: "permission denied",
    sqlite3.SQLITE_IOERR: "the disk reports an error",
    sqlite3.SQLITE_NOMEM: "out of memory",
    sqlite3.SQLITE_PROTOCOL: "too many processes want it at once",
    sqlite3.SQLITE_INTERRUPT: "interrupted",
}


def _translate(error: Exception, path: Path | None = None, lock_wait: float = LOCK_WAIT) -> Trouble | None:
    """What a person is told; None when `error` is a bug of ours and must stay what it is."""
    name = f"the ledger {path}" if path else "the ledger"
    if isinstance(error, OSError):
        return Temporary(f"{name}: {error.strerror or type(error).__name__}", scope=Scope.SETUP)
    if not isinstance(error, sqlite3.Error):
        return None
    detail = getattr(error, "sqlite_errorname", "")
    if _is_busy(error):
        return Temporary(f"{name}: another process has held its lock for {lock_wait:g} s", code=detail)
    if _code(error) in _PLAIN_WORDS:
        return Temporary(f"{name}: {_PLAIN_WORDS[_code(error)]}", code=detail, scope=Scope.SETUP)
    if _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return SetupTrouble(f"{name} is damaged or is no database: {error}", code=detail)
    return None
