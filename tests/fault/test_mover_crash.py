"""A copy broken off anywhere and run again leaves what an undisturbed run leaves, and a third run adds nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from migrator import delivery
from migrator.access import Access
from migrator.ledger.marks import LedgerMarks
from migrator.ledger.store import Store
from migrator.mover import copy_account
from migrator.options import CopyOptions
from migrator.report import CopyInterrupted, Report
from migrator.session import Surroundings
from tests.servers.memory_imap import MemoryImap
from wire.endpoint import Endpoint
from wire.outcome import Temporary
from wire.secret import Secret

OPTIONS = CopyOptions(timeout=10)


class Crash(BaseException):
    """What kill -9 is to a process: nothing of the copy runs after it."""


class World:
    """An old server, a new one, and a ledger."""

    def __init__(self, old: MemoryImap, new: MemoryImap, store: Store) -> None:
        self.old, self.new, self.store = old, new, store
        self.clock = 1000.0
        self.steps: list[str] = []
        self.crash_at = 0

    def _checkpoint(self, step: str) -> None:
        self.steps.append(step)
        if len(self.steps) == self.crash_at:
            self.crash_at = 0
            raise Crash(step)

    async def _sleep(self, seconds: float) -> None:
        self.clock += seconds
        await asyncio.sleep(0)

    async def copy(self, options: CopyOptions = OPTIONS) -> Report:
        self.steps = []
        around = Surroundings(checkpoint=self._checkpoint, now=lambda: self.clock, sleep=self._sleep)
        return await copy_account(
            Access(Endpoint("imap", "127.0.0.1", self.old.port), b"user", Secret(b"old")),
            Access(Endpoint("imap", "127.0.0.1", self.new.port), b"user@new", Secret(b"new")),
            options,
            LedgerMarks(self.store, "user@new"),
            around,
        )

    def mail(self) -> dict[bytes, Counter[tuple[bytes, bytes, frozenset[bytes]]]]:
        """Everything in the new server: content, date, flags."""
        return {
            name: Counter((kept.content, kept.date, frozenset(kept.flags)) for kept in box.messages)
            for name, box in self.new.boxes.items()
        }


@asynccontextmanager
async def world(path: Path, *, capabilities: bytes | None = None) -> AsyncIterator[World]:
    store = Store(path / "marks.db")
    async with MemoryImap(separator=b".") as old, MemoryImap(capabilities=capabilities) as new:
        inbox = old.box(b"INBOX")
        for number in range(7):
            content = b"Message-ID: <%d@x>\r\nSubject: %d\r\n\r\nbody %d\r\n" % (number, number, number)
            inbox.store(content, [b"\\Seen", b"kw"], b"%02d-Feb-2009 10:00:00 +0100" % (number + 1))
        inbox.store(b"Subject: twin\r\n\r\nthe same\r\n")
        inbox.store(b"Subject: twin\r\n\r\nthe same\r\n")
        inbox.store(b"Subject: twin\r\n\r\nthe same\r\n")
        old.box(b"Sent.2009").store(b"no header at all")
        old.box(b"Sent.2009").store(b"To: x\r\n\r\none\r\r\ntwo", [b"\\Draft"])
        old.box(b"Empty")
        old.subscribed = {b"INBOX", b"Sent.2009"}
        try:
            yield World(old, new, store)
        finally:
            await store.close()


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches from ten messages."""
    monkeypatch.setattr(delivery, "BATCH_MESSAGES", 4)


def strict(content: bytes) -> bytes | None:
    """A target that refuses one message of each mailbox in its own form."""
    return b"NO not so" if b"\r\r\n" in content or content.startswith(b"Message-ID: <3@x>") else None


MANY = b"IMAP4rev1 LITERAL+ UIDPLUS NAMESPACE MULTIAPPEND"
MANNERS = {
    "many at once": (MANY, lambda content: content),
    "many at once, no uidplus": (b"IMAP4rev1 LITERAL+ MULTIAPPEND", lambda content: content),
    "one at a time": (b"IMAP4rev1 UIDPLUS", lambda content: content),
    "uidplus": (None, lambda content: content),
    "no uidplus": (b"IMAP4rev1 NAMESPACE", lambda content: content),
    "changes line ends": (None, lambda content: content.replace(b"\r\r\n", b"\r\n") + b"\r\n"),
    "no uidplus, changes line ends": (b"IMAP4rev1", lambda content: content.replace(b"\r\r\n", b"\r\n") + b"\r\n"),
}


@pytest.mark.parametrize(
    ("manner", "refuses"), [*((manner, False) for manner in MANNERS), ("many at once", True), ("no uidplus", True)]
)
async def test_a_crash_at_every_step(tmp_path: Path, manner: str, refuses: bool) -> None:
    capabilities, stored_form = MANNERS[manner]
    judge = strict if refuses else lambda _content: None
    (tmp_path / "whole").mkdir()
    async with world(tmp_path / "whole", capabilities=capabilities) as undisturbed:
        undisturbed.new.stored_form, undisturbed.new.on_append = stored_form, judge
        report = await undisturbed.copy()
        expected, subscribed = undisturbed.mail(), undisturbed.new.subscribed
        steps = list(undisturbed.steps)
    assert (report.total("copied"), report.unexplained, report.problems) == (12, 0, [])
    assert subscribed == {b"INBOX", b"Sent/2009"}
    if not refuses:
        assert steps.count("target: before APPEND") == (5 if b"MULTIAPPEND" in (capabilities or b"") else 12)
    assert report.total("repaired") == (2 if refuses else 0)

    for crash_at in range(1, len(steps) + 1):
        path = tmp_path / str(crash_at)
        path.mkdir()
        async with world(path, capabilities=capabilities) as disturbed:
            disturbed.new.stored_form, disturbed.new.on_append = stored_form, judge
            disturbed.crash_at = crash_at
            with pytest.raises(Crash):
                await disturbed.copy()
            await disturbed.store.close()
            disturbed.store = Store(path / "marks.db")  # another process
            resumed = await disturbed.copy()
            where = f"crash at step {crash_at}: {steps[crash_at - 1]}"
            assert disturbed.mail() == expected, where
            assert disturbed.new.subscribed == subscribed, where
            assert (resumed.unexplained, resumed.problems) == (0, []), where
            assert resumed.total("copied") + resumed.total("already") == 12, where

            again = await disturbed.copy()
            assert disturbed.mail() == expected, where
            assert (again.total("copied"), again.total("already"), again.unexplained) == (0, 12, 0), where


async def test_two_crashes_one_behind_the_other(tmp_path: Path) -> None:
    async with world(tmp_path) as undisturbed:
        await undisturbed.copy()
        expected, count = undisturbed.mail(), len(undisturbed.steps)
    for first in range(5, count, 3):
        path = tmp_path / str(first)
        path.mkdir()
        async with world(path) as disturbed:
            for crash_at in (first, first, 12):
                disturbed.crash_at = crash_at
                with suppress(Crash):  # a resumed run may end in fewer steps
                    await disturbed.copy()
                disturbed.crash_at = 0
            report = await disturbed.copy()
            assert disturbed.mail() == expected, first
            assert report.unexplained == 0


@pytest.mark.parametrize("capabilities", [None, b"IMAP4rev1 NAMESPACE"])
@pytest.mark.parametrize("number", range(1, 13))
async def test_an_append_that_is_stored_and_never_answered(
    tmp_path: Path, number: int, capabilities: bytes | None
) -> None:
    """The server stores the message, and the connection is gone before its OK: another run must not add it again."""
    async with world(tmp_path, capabilities=capabilities) as it:

        def store_and_cut(appends: int) -> bool:
            if appends == number:
                asyncio.get_running_loop().call_soon(it.new.release)
            return appends == number

        it.new.store_late = store_and_cut
        report = await it.copy()  # goes on over a new connection where the first one had brought something over
        assert report.unexplained == 0
        assert sum(len(box.messages) for box in it.new.boxes.values()) == 12
        assert report.total("copied") + report.total("already") == 12
        again = await it.copy()
        assert again.total("copied") == 0
        assert sum(len(box.messages) for box in it.new.boxes.values()) == 12


async def test_a_server_that_stores_a_while_after_the_connection_was_lost(tmp_path: Path) -> None:
    """It finishes only when we have already come back and looked: we look until it has been quiet for a while."""
    async with world(tmp_path) as it:
        it.new.store_late = lambda appends: appends == 6
        waits = []

        async def sleep(seconds: float) -> None:
            waits.append(seconds)
            it.clock += seconds
            if len(waits) == 4:
                it.new.release()
            await asyncio.sleep(0)

        it._sleep = sleep  # type: ignore[method-assign]  # the world's clock, not our code
        report = await it.copy()
        assert len(waits) > 4
        assert sum(len(box.messages) for box in it.new.boxes.values()) == 12
        assert (report.unexplained, report.problems) == (0, [])


async def test_a_server_that_stores_after_all_patience_is_found_out_and_reported(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.new.store_late = lambda appends: appends == 6
        it.new.on_append = lambda content: it.new.release() if it.new.appends == 11 else None
        report = await it.copy()
        assert sum(len(box.messages) for box in it.new.boxes.values()) == 13
        assert report.total("doubled") == 1
        assert any("doubled" in problem for problem in report.problems)
        assert (await it.copy()).total("copied") == 0


async def test_an_old_intent_is_settled_without_waiting(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.crash_at = 25
        with pytest.raises(Crash):
            await it.copy()
        it.clock += 3600
        before = it.clock
        await it.copy()
        assert it.clock == before
        assert sum(len(box.messages) for box in it.new.boxes.values()) == 12


async def test_mail_that_others_deliver_meanwhile_is_neither_taken_for_ours_nor_touched(tmp_path: Path) -> None:
    async with world(tmp_path, capabilities=b"IMAP4rev1") as undisturbed:
        await undisturbed.copy()
        steps = len(undisturbed.steps)
    for crash_at in range(8, steps, 4):
        path = tmp_path / str(crash_at)
        path.mkdir()
        async with world(path, capabilities=b"IMAP4rev1") as it:
            deliveries: list[bytes] = []

            def deliver(content: bytes, it: World = it, deliveries: list[bytes] = deliveries) -> None:
                new = b"Message-ID: <new%d@x>\r\nSubject: new\r\n\r\nbody\r\n" % it.new.appends
                deliveries.append(it.new.boxes[b"INBOX"].store(new).content)

            it.new.on_append = deliver
            it.crash_at = crash_at
            with pytest.raises(Crash):
                await it.copy()
            deliver(b"")
            report = await it.copy()
            assert (report.unexplained, report.total("left")) == (0, 0)
            theirs = Counter(deliveries)
            ours = Counter(it.new.boxes[b"INBOX"].contents) - theirs
            assert ours == Counter(it.old.boxes[b"INBOX"].contents)
            assert (await it.copy()).total("copied") == 0


async def test_a_message_moved_away_at_the_target_before_the_crash_was_settled_is_reported(tmp_path: Path) -> None:
    """It may have arrived and been moved by its owner since: it is copied, and the report says so."""
    async with world(tmp_path) as it:
        it.crash_at = 24
        with pytest.raises(Crash):
            await it.copy()
        it.clock += 3600
        inbox = it.new.boxes[b"INBOX"]
        inbox.messages.pop()
        report = await it.copy()
        assert any("may be there twice" in note for box in report.mailboxes for note in box.notes)
        assert report.unexplained == 0


async def test_a_source_that_dies_within_a_message_leaves_nothing_of_it(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        cuts = iter([3, 0])
        it.old.cut_within_fetch = lambda uid: next(cuts, None) if uid == 6 else None
        report = await it.copy()
        assert report.total("copied") == 12
        assert Counter(it.new.boxes[b"INBOX"].contents) == Counter(it.old.boxes[b"INBOX"].contents)


async def test_a_source_that_always_dies_within_a_message_keeps_no_other(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.old.cut_within_fetch = lambda uid: 5 if uid == 6 else None
        report = await it.copy()
        assert (report.total("copied"), report.total("left"), report.unexplained) == (11, 1, 0)
        assert len(report.postponed) == 1
        missing = Counter(it.old.boxes[b"INBOX"].contents) - Counter(it.new.boxes[b"INBOX"].contents)
        assert list(missing.elements()) == [it.old.boxes[b"INBOX"].contents[5]], "never padded, never cut short"


async def test_a_target_that_is_gone_before_anything_arrived_is_temporary(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.new.accepts_login = lambda: b"NO [UNAVAILABLE] later"
        with pytest.raises(Temporary):
            await it.copy()
        assert all(line.split()[0] in (b"LOGIN", b"CAPABILITY") for line in it.old.log)


async def test_a_full_quota_stops_the_copy_and_a_later_run_goes_on(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.new.on_append = lambda _content: b"NO [OVERQUOTA] full" if it.new.appends > 6 else None
        with pytest.raises(CopyInterrupted) as stopped:
            await it.copy()
        assert stopped.value.code == "OVERQUOTA"
        assert (stopped.value.report.total("copied"), stopped.value.report.unexplained) == (6, 0)
        it.new.on_append = lambda _content: None
        assert (await it.copy()).total("copied") == 6
        assert sum(len(box.messages) for box in it.new.boxes.values()) == 12
