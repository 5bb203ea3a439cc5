"""A disk that is full under the ledger: the copy stops, says so, and goes on without doubling when there is room."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from migrator.ledger.store import Store
from tests.servers.copy_pair import copy_pair, fill
from wire.outcome import Temporary


async def limit_pages(store: Store, more: int) -> None:
    """Give the database `more` pages than it has. The store connects anew after trouble: then there is room again."""

    def work(connection: sqlite3.Connection) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + more}")

    await store.write(work)


@pytest.mark.parametrize("more", [0, 3, 6])
async def test_the_copy_stops_and_goes_on_without_doubling(tmp_path: Path, more: int) -> None:
    async with copy_pair(tmp_path) as it:
        # long names fill pages quickly, so that the disk is full at another place for each `more`
        names = [b"INBOX", *(b"%d-" % number + b"x" * 150 for number in range(80))]
        for name in names:
            fill(it.old, 3, name)
        await it.store.open()
        await limit_pages(it.store, more)
        with pytest.raises(Temporary, match="disk is full"):
            await it.copy()
        assert len(it.new.boxes) < len(names), "it would be the same with every other mailbox"
        stored = sum(len(box.messages) for box in it.new.boxes.values())
        assert stored < 3 * len(names)
        report = await it.copy()
        assert report.unexplained == 0
        for name in names:
            assert sorted(it.new.box(name).contents) == sorted(it.old.box(name).contents)
        assert (await it.copy()).total("copied") == 0
