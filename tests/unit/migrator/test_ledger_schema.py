"""A ledger of an earlier program goes on working: nothing is lost, and nothing in it is asked twice."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from migrator.ledger import schema
from migrator.ledger.jobs import LedgerQueue
from migrator.ledger.logins import Logins
from migrator.ledger.marks import LedgerMarks
from migrator.ledger.store import Store
from migrator.marks import Change, MailboxMarks
from migrator.model import Phase
from migrator.passes import Pass, Standing

FIRST = Path(__file__).resolve().parents[2] / "vectors" / "ledger_1.sql"


@pytest.fixture
async def old(tmp_path: Path):
    """A store on a ledger that the first version made."""
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FIRST.read_text())
    store = Store(path)
    yield store
    await store.close()


def layout(connection: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    """The tables with their columns, and the indexes."""
    names = connection.execute("SELECT name, type FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name")
    return {
        name: connection.execute(
            f"SELECT * FROM pragma_{'table' if kind == 'table' else 'index'}_info(?)", (name,)
        ).fetchall()
        for name, kind in names.fetchall()
    }


async def test_it_becomes_what_a_new_one_is(old: Store, tmp_path: Path) -> None:
    new = Store(tmp_path / "new.db")
    assert await old.read(layout) == await new.read(layout)
    assert await old.read(schema.version) == schema.VERSION
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
