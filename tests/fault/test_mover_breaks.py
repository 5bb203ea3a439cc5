"""A message within which a connection breaks each time keeps no other message, and no other mailbox, from arriving."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from migrator.access import Access
from migrator.ledger.marks import LedgerMarks
from migrator.ledger.store import Store
from migrator.mover import copy_account
from migrator.options import parse_copy_options
from migrator.report import Report
from migrator.session import Surroundings
from tests.servers.memory_imap import MemoryImap
from wire.endpoint import Endpoint
from wire.secret import Secret

MANNERS = [b"IMAP4rev1", b"IMAP4rev1 LITERAL+ UIDPLUS NAMESPACE"]


class World:
    def __init__(self, old: MemoryImap, new: MemoryImap, store: Store) -> None:
        self.old, self.new, self.store = old, new, store
        self.stop_at: str = ""

    def checkpoint(self, step: str) -> None:
        if step == self.stop_at:
            raise InterruptedError(step)

    async def copy(self, *flags: str) -> Report:
        around = Surroundings(checkpoint=self.checkpoint, sleep=lambda _seconds: asyncio.sleep(0))
        return await copy_account(
            Access(Endpoint("imap", "127.0.0.1", self.old.port), b"user", Secret(b"old")),
            Access(Endpoint("imap", "127.0.0.1", self.new.port), b"user@new", Secret(b"new")),
            replace(parse_copy_options(flags), timeout=10),
            LedgerMarks(self.store, "copy"),
            around,
        )

    def missing(self) -> list[bytes]:
        left: Counter[bytes] = Counter()
        for name, box in self.old.boxes.items():
            left += Counter(box.contents)
            left -= Counter(self.new.box(name).contents)
        return list(left.elements())


@asynccontextmanager
async def world(path: Path, capabilities: bytes) -> AsyncIterator[World]:
    store = Store(path / "marks.db")
    async with MemoryImap(capabilities=capabilities) as old, MemoryImap(capabilities=capabilities) as new:
        for name in (b"INBOX", b"Sent"):
            for number in range(12):
                old.box(name).store(b"Subject: %b %d\r\n\r\nbody\r\n" % (name, number))
        try:
            yield World(old, new, store)
        finally:
            await store.close()


@pytest.mark.parametrize("capabilities", MANNERS)
async def test_a_source_that_breaks_off_within_some_messages(tmp_path: Path, capabilities: bytes) -> None:
    async with world(tmp_path, capabilities) as it:
        bad = {1: 0, 2: 3, 6: 10}
        it.old.cut_within_fetch = bad.get
        for already in (0, 18):
            report = await it.copy()
            assert (report.total("copied") + report.total("already"), report.total("already")) == (18, already)
            assert (report.total("left"), report.unexplained, report.problems) == (6, 0, [])
            assert len(report.postponed) == 2
            assert "message 6: the connection broke off" in report.postponed[0]
        it.old.cut_within_fetch = lambda _uid: None
        report = await it.copy()
        assert (report.total("copied"), report.postponed, it.missing()) == (6, [], [])
        assert len(it.new.boxes[b"INBOX"].messages) == 12


@pytest.mark.parametrize("capabilities", MANNERS)
async def test_a_target_that_breaks_off_at_a_message(tmp_path: Path, capabilities: bytes) -> None:
    async with world(tmp_path, capabilities) as it:

        def crash(content: bytes) -> bytes | None:
            if b"INBOX 3" in content:
                raise ConnectionError("no answer, as asked")
            return None

        it.new.on_append = crash
        report = await it.copy()
        assert it.missing() == [b"Subject: INBOX 3\r\n\r\nbody\r\n"]
        assert (report.total("left"), report.unexplained, len(report.postponed)) == (1, 0, 1)
        it.new.on_append = lambda _content: None
        await it.copy()
        assert (it.missing(), len(it.new.boxes[b"INBOX"].messages)) == ([], 12)


async def test_an_open_intent_of_such_a_message_does_not_stop_the_others(tmp_path: Path) -> None:
    """A run was killed with the whole batch in doubt: to settle it, the messages are fetched again."""
    async with world(tmp_path, MANNERS[1]) as it:
        it.stop_at = "target: before APPEND"
        with pytest.raises(InterruptedError):
            await it.copy()
        it.stop_at = ""
        it.old.cut_within_fetch = {5: 4}.get
        await it.copy()
        assert sorted(it.missing()) == [b"Subject: INBOX 4\r\n\r\nbody\r\n", b"Subject: Sent 4\r\n\r\nbody\r\n"]


async def test_messages_confirmed_before_a_break_count_as_copied(tmp_path: Path) -> None:
    async with world(tmp_path, MANNERS[0]) as it:
        it.old.cut_within_fetch = lambda uid: 3 if uid == 12 else None
        report = await it.copy()
        assert (report.total("copied"), report.total("left"), report.unexplained) == (22, 2, 0)


@pytest.mark.parametrize("capabilities", MANNERS)
async def test_long_lines_are_broken_and_nothing_else_is_changed(tmp_path: Path, capabilities: bytes) -> None:
    async with world(tmp_path, capabilities) as it:
        inbox = it.old.boxes[b"INBOX"]
        inbox.store(b"Subject: long\r\n\r\n" + b"x" * 250 + b"\r\n.\r\n", [b"\\Seen"], b" 1-Jan-1999 23:59:59 -1130")
        inbox.store(b"Subject: not\r\n\r\n" + b"y" * 100 + b"\r\nbare\rcr\n")
        inbox.store(b"z" * 300_000)
        report = await it.copy("--fixLongLines", "100")
        *_, long, right, huge = it.new.boxes[b"INBOX"].messages
        expected = [b"x" * 100, b"x" * 100, b"x" * 50]
        assert long.content == b"Subject: long\r\n\r\n" + b"\r\n".join(expected) + b"\r\n.\r\n"
        assert (long.flags, long.date) == ({b"\\Seen"}, b" 1-Jan-1999 23:59:59 -1130")
        assert right.content == inbox.contents[-2]
        assert huge.content == b"\r\n".join([b"z" * 100] * 3000)
        assert "2 messages had lines longer than 100 bytes, which were broken: 13, 15" in report.mailboxes[0].notes
        again = await it.copy("--fixLongLines", "100")
        assert (again.total("copied"), again.total("already"), again.problems) == (0, 27, [])


async def test_a_message_with_broken_lines_is_known_again_after_a_crash(tmp_path: Path) -> None:
    async with world(tmp_path, MANNERS[0]) as it:
        for number in range(3):  # nothing tells them but their content, and the target gives each a date of its own
            it.old.boxes[b"INBOX"].store(b"%d" % number * 2000)
        dates = iter(range(10, 60))
        late: list[int] = []

        def store_late(number: int) -> bool:
            late.append(number)
            return number == 14

        it.new.store_late = store_late
        before = it.new.release

        def released(step: str) -> None:
            if step == "connection lost":
                before()
                for message in it.new.boxes[b"INBOX"].messages:
                    message.date = b"13-Feb-2009 23:31:%d +0000" % next(dates)

        it.checkpoint = released  # type: ignore[method-assign]  # the moment between two connections
        report = await it.copy("--fixLongLines", "100")
        assert (len(it.new.boxes[b"INBOX"].messages), report.problems, report.total("copied")) == (15, [], 27)
        assert len(late) == 15 + 12
