"""A ledger of an earlier program goes on working: nothing is lost, and nothing in it is asked twice."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest

from migrator.ledger import schema
from migrator.ledger.jobs import LedgerQueue
from migrator.ledger.logins import Logins
from migrator.ledger.marks import LedgerMarks, LedgerUidls
from migrator.ledger.store import Store
from migrator.marks import Change, MailboxMarks
from migrator.model import Phase
from migrator.passes import Pass, Standing
from migrator.uidl_marks import UidlChange, UidlMark, UidlState

VECTORS = Path(__file__).resolve().parents[2] / "vectors"


@asynccontextmanager
async def made_by(version: int, path: Path) -> AsyncIterator[Store]:
    """A store on a ledger that this version made."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((VECTORS / f"ledger_{version}.sql").read_text())
    store = Store(path)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture(params=[1, 2])
async def any_old(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A store on a ledger that an earlier version made."""
    async with made_by(request.param, tmp_path / "state.db") as store:
        yield store


@pytest.fixture
async def old(tmp_path: Path) -> AsyncIterator[Store]:
    """A store on a ledger that the first version made."""
    async with made_by(1, tmp_path / "state.db") as store:
        yield store


def layout(connection: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    """The tables with their columns, and the indexes."""
    names = connection.execute("SELECT name, type FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name")
    return {
        name: connection.execute(
            f"SELECT * FROM pragma_{'table' if kind == 'table' else 'index'}_info(?)", (name,)
        ).fetchall()
        for name, kind in names.fetchall()
    }


async def test_it_becomes_what_a_new_one_is(any_old: Store, tmp_path: Path) -> None:
    new = Store(tmp_path / "new.db")
    assert await any_old.read(layout) == await new.read(layout)
    assert await any_old.read(schema.version) == schema.VERSION
    await new.close()


async def test_jobs_logins_and_marks_are_as_they_were(old: Store) -> None:
    queue = LedgerQueue(old, keep_done=True)
    assert [(job.account, job.phase, job.passes, job.counts.copied) for job in await queue.jobs()] == [
        ("done@example.com", Phase.DONE, 1, 3),
        ("held@example.com", Phase.HELD, 0, 0),
    ]
    login = await Logins(old).login_of("done@example.com", "imap://old:143")
    assert login is not None
    assert login.sealed == b"box"
    marks = await LedgerMarks(old, "done@example.com").load(b"INBOX")
    assert marks is not None
    assert (str(marks.runs), list(marks.intents), marks.refused) == ("1:3 1:3", [4], {5: "too big"})
    assert not marks.recopy


async def test_its_marks_are_gone_on_with(old: Store) -> None:
    marks = LedgerMarks(old, "done@example.com")
    assert await marks.passes() == {}
    inbox = await marks.load(b"INBOX")
    assert inbox is not None
    await marks.record(inbox, Change(copied=[(4, 4)]))
    last = Pass(Standing(1000, 6, 5, 7), 2000, complete=True)
    await marks.passed(inbox, last)
    assert await marks.passes() == {b"INBOX": last}
    await marks.record(inbox, Change(copied=[(5, 5)]))
    assert not (await marks.passes())[b"INBOX"].complete, "the marks have changed since"
    await marks.open(MailboxMarks(b"INBOX", b"INBOX", 1001, 2000))
    assert await marks.passes() == {}, "others took their place"


async def test_marks_of_copies_by_pop_are_as_they_were_and_in_inbox(tmp_path: Path) -> None:
    """The second version knew no other mailbox at the target."""
    async with made_by(2, tmp_path / "state.db") as store:
        assert await store.read(schema.version) == schema.VERSION
        uidls = LedgerUidls(store, "pop@example.com")
        copied = UidlMark(UidlState.COPIED, 2000, 1, 1000000000.0, "", b"\1" * 32)
        refused = UidlMark(UidlState.REFUSED, 2000, 0, 1000000001.0, "too big", b"\2" * 32)
        intent = UidlMark(UidlState.INTENT, 2000, 2, 1000000002.0, "nul", b"\3" * 32)
        assert await uidls.load() == {b"ucopied": copied, b"urefused": refused, b"uintent": intent}
        assert copied.mailbox == b""
        archived = replace(intent, state=UidlState.COPIED, mailbox=b"Old mail")
        await uidls.record(UidlChange(settled={b"uintent": archived}))
        assert (await uidls.load())[b"uintent"] == archived
        marks = LedgerMarks(store, "done@example.com")
        assert await marks.passes() == {b"INBOX": Pass(Standing(1000, 6, 5, 7), 2000, complete=True)}
        inbox = await marks.load(b"INBOX")
        assert inbox is not None
        assert str(inbox.runs) == "1:4 1:4"
