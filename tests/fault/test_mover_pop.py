"""Copies fetched by POP: broken off at every step, without UIDLs, with shared and new ones; submitted by SMTP."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from migrator import pop_mover
from migrator.access import Access
from migrator.ledger.marks import LedgerUidls
from migrator.ledger.store import Store
from migrator.options import CopyOptions
from migrator.pop_smtp import Submission
from migrator.pop_submit import submit_account
from migrator.quarantine import Quarantine
from migrator.report import CopyInterrupted, InboxIdentity, MailboxReport, Report, SameMailbox, SourceRefused
from migrator.session import Surroundings
from migrator.window import Window
from tests.servers.memory_imap import MemoryImap
from tests.servers.memory_pop import MemoryPop
from tests.servers.memory_smtp import MemorySmtp
from wire.endpoint import Endpoint, TlsPolicy
from wire.outcome import MailboxUnavailable, Permanent, Temporary
from wire.secret import Secret


class Crash(BaseException):
    """What kill -9 is to a process."""


class World:
    """A maildrop, an IMAP server, an SMTP server, a ledger."""

    def __init__(self, pop: MemoryPop, imap: MemoryImap, store: Store) -> None:
        self.pop, self.imap, self.store = pop, imap, store
        self.clock = 1_300_000_000.0
        self.steps: list[str] = []
        self.crash_at = 0
        self.quarantine: Quarantine | None = None
        self.patient = False

    def around(self) -> Surroundings:
        self.steps = []
        return Surroundings(
            checkpoint=self._checkpoint,
            now=lambda: self.clock,
            sleep=self._sleep,
            quarantine=self.quarantine,
            patient=self.patient,
        )

    def _checkpoint(self, step: str) -> None:
        self.steps.append(step)
        if len(self.steps) == self.crash_at:
            self.crash_at = 0
            raise Crash(step)

    async def _sleep(self, seconds: float) -> None:
        self.clock += seconds
        await asyncio.sleep(0)

    def source(self) -> Access:
        return Access(Endpoint("pop3", "127.0.0.1", self.pop.port), b"user", Secret(b"old"))

    async def copy(
        self,
        *,
        delete: bool = False,
        archive: str = "",
        older: float = 0.0,
        max_size: int = 0,
        window: Window | None = None,
    ) -> Report:
        target = Access(Endpoint("imap", "127.0.0.1", self.imap.port), b"user@new", Secret(b"new"))
        options = CopyOptions(
            timeout=10, delete=delete, archive_seen=archive, seen_older=older, max_size=max_size, window=window
        )
        return await pop_mover.copy_account(
            self.source(), target, options, LedgerUidls(self.store, "user@new"), self.around()
        )

    @property
    def arrived(self) -> list[bytes]:
        return self.imap.boxes[b"INBOX"].contents


@asynccontextmanager
async def world(path: Path, *, capabilities: bytes | None = None, count: int = 9) -> AsyncIterator[World]:
    store = Store(path / "marks.db", create_directory=True)
    async with MemoryPop() as pop, MemoryImap(capabilities=capabilities) as imap:
        for number in range(count):
            pop.messages.append((b"uid%d" % number, letter(number)))
        try:
            yield World(pop, imap, store)
        finally:
            await store.close()


def letter(number: int) -> bytes:
    return (
        b"Received: from a by b; Thu, %02d Oct 2009 10:00:00 +0200\r\nMessage-ID: <%d@x>\r\n\r\n.dot\r\n..body %d\r\n"
        % (number % 28 + 1, number, number)
    )


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches from nine messages."""
    monkeypatch.setattr(pop_mover, "BATCH_MESSAGES", 4)


def box(report: Report) -> MailboxReport:
    assert len(report.mailboxes) == 1
    return report.mailboxes[0]


async def test_messages_arrive_as_they_are_with_their_dates_and_another_run_adds_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.pop.messages.append((b"undated", b"Subject: none\r\n\r\nbody\r\n"))
        report = await it.copy()
        assert (box(report).copied, report.unexplained, report.problems) == (10, 0, [])
        assert it.arrived == [content for _, content in it.pop.messages]
        dates = [kept.date for kept in it.imap.boxes[b"INBOX"].messages]
        assert dates[:2] == [b" 1-Oct-2009 10:00:00 +0200", b" 2-Oct-2009 10:00:00 +0200"]
        assert dates[-1] == b"13-Feb-2009 23:31:30 +0000", "the server's own clock: no date was sent"
        before = it.pop.retrieved
        again = await it.copy()
        assert (box(again).copied, box(again).already) == (0, 10)
        assert it.pop.retrieved == before, "what is known by its UIDL is not fetched"


async def _without_uidl(it: World) -> None:
    it.pop.has_uidl = False


async def _sharing_uidls(it: World) -> None:
    it.pop.messages = [(b"same", content) for _, content in it.pop.messages]


async def _with_twins(it: World) -> None:
    twin = it.pop.messages[3][1]
    it.pop.messages[5:7] = [(b"twin1", twin), (b"twin2", twin)]


async def _as_it_is(_it: World) -> None:
    return


@pytest.mark.parametrize("capabilities", [None, b"IMAP4rev1 LITERAL+"])
@pytest.mark.parametrize("shape", [_as_it_is, _without_uidl, _sharing_uidls, _with_twins])
async def test_a_crash_at_every_step(tmp_path: Path, shape: Callable[[World], object], capabilities: bytes) -> None:
    async with world(tmp_path / "whole", capabilities=capabilities) as it:
        await shape(it)  # type: ignore[misc]  # one of the coroutines above
        await it.copy()
        expected, steps = Counter(it.arrived), list(it.steps)
    assert sum(expected.values()) == 9
    for crash_at in range(1, len(steps) + 1):
        where = f"crash at step {crash_at}: {steps[crash_at - 1]}"
        async with world(tmp_path / str(crash_at), capabilities=capabilities) as it:
            await shape(it)  # type: ignore[misc]  # as above
            it.crash_at = crash_at
            with pytest.raises(Crash):
                await it.copy()
            report = await it.copy()
            assert Counter(it.arrived) == expected, where
            assert (report.unexplained, box(report).left) == (0, 0), where
            assert box(await it.copy()).copied == 0, where
            assert Counter(it.arrived) == expected, where


@pytest.mark.parametrize("capabilities", [None, b"IMAP4rev1"])
@pytest.mark.parametrize("number", range(1, 10, 2))
async def test_an_append_that_is_stored_and_never_answered(
    tmp_path: Path, number: int, capabilities: bytes | None
) -> None:
    async with world(tmp_path, capabilities=capabilities) as it:

        def store_and_cut(appends: int) -> bool:
            if appends == number:
                asyncio.get_running_loop().call_soon(it.imap.release)
            return appends == number

        it.imap.store_late = store_and_cut
        with pytest.raises(CopyInterrupted) as stopped:
            await it.copy()
        assert stopped.value.report.unexplained == 0
        report = await it.copy()
        assert box(report).copied + box(report).already == 9
        assert Counter(it.arrived) == Counter(content for _, content in it.pop.messages)


async def test_uidls_that_changed_when_the_server_was_replaced(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        await it.copy()
        it.pop.messages = [(b"new%d" % number, content) for number, (_, content) in enumerate(it.pop.messages)]
        it.pop.messages.append((b"new", letter(77)))
        report = await it.copy()
        assert (box(report).copied, box(report).already) == (1, 9)
        assert len(it.arrived) == 10


async def test_status_lines_that_an_old_server_changes_make_no_new_message(tmp_path: Path) -> None:
    async with world(tmp_path, count=3) as it:
        it.pop.has_uidl = False
        await it.copy()
        it.pop.messages = [(uidl, b"Status: RO\r\n" + content) for uidl, content in it.pop.messages]
        assert box(await it.copy()).copied == 0


async def test_a_source_that_hangs_up_within_a_message(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.pop.cut_within = lambda number: 20 if number == 6 else None
        with pytest.raises(CopyInterrupted) as stopped:
            await it.copy()
        assert it.arrived == [letter(number) for number in range(5)], "and nothing of a half message"
        assert stopped.value.report.unexplained == 0
        it.pop.cut_within = lambda _number: None
        assert box(await it.copy()).copied == 4
        assert sorted(it.arrived) == sorted(content for _, content in it.pop.messages)


async def test_refusals_on_either_side_are_reported(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.imap.on_append = lambda content: b"NO bad header" if b"<2@x>" in content else None
        it.pop.on_command = lambda line: b"-ERR damaged\r\n" if line == b"RETR 5" else None
        report = await it.copy()
        reasons = {message.uid: message.reason for message in box(report).refused}
        assert (box(report).copied, report.unexplained, set(reasons)) == (7, 0, {"uid2", "uid4"})
        assert "bad header" in reasons["uid2"]
        assert "damaged" in reasons["uid4"]
        it.imap.on_append = lambda _content: None
        it.pop.on_command = lambda _line: None
        again = await it.copy()
        assert (box(again).copied, again.problems) == (2, [])


async def test_delete_removes_only_what_arrived(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.imap.on_append = lambda content: b"NO bad header" if b"<2@x>" in content else None
        await it.copy()
        it.imap.boxes[b"INBOX"].messages.pop(0)
        report = await it.copy(delete=True)
        assert [uidl for uidl, _ in it.pop.messages] == [b"uid0", b"uid2"]
        assert box(report).deleted == 7


@pytest.mark.parametrize("words", [b"OK stored", b"OK [APPENDUID 1000 77] stored"])
@pytest.mark.parametrize("capabilities", [b"IMAP4rev1 LITERAL+ UIDPLUS", b"IMAP4rev1"])
async def test_ok_to_what_is_never_stored(tmp_path: Path, capabilities: bytes, words: bytes) -> None:
    async with world(tmp_path, capabilities=capabilities) as it:
        it.imap.on_append = lambda _content: words
        report = await it.copy(delete=True)
        assert (box(report).copied, report.unexplained, len(it.pop.messages)) == (0, 0, 9)
        assert len(report.problems) == 9
        it.imap.on_append = lambda _content: None
        again = await it.copy(delete=True)
        assert (box(again).copied, box(again).deleted, len(it.arrived)) == (9, 9, 9)


async def test_without_delete_nothing_is_deleted(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        await it.copy()
        assert len(it.pop.messages) == 9
        assert not any(line.startswith(b"DELE") for line in it.pop.log)


async def test_a_target_made_anew_is_held(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        await it.copy()
        it.imap.boxes[b"INBOX"].uidvalidity += 1
        it.pop.messages.append((b"new", letter(50)))
        report = await it.copy()
        assert "made anew" in box(report).held
        assert len(it.arrived) == 9


async def test_a_maildrop_that_is_the_targets_inbox(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        for _, content in it.pop.messages:
            it.imap.boxes[b"INBOX"].store(content)
        with pytest.raises(SameMailbox):
            await it.copy()
        assert len(it.arrived) == 9


async def test_who_the_maildrop_is_and_logins(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        await it.copy()

        async def hold(identity: InboxIdentity) -> None:
            assert identity.oldest[0] == f"uid0 {len(letter(0))}"
            raise Permanent("another account copies it")

        target = Access(Endpoint("imap", "127.0.0.1", it.imap.port), b"other@new", Secret(b"new"))
        with pytest.raises(Permanent, match="another account"):
            await pop_mover.copy_account(
                it.source(), target, CopyOptions(), LedgerUidls(it.store, "other"), before_copy=hold
            )
        it.pop.accepts_login = lambda: b"-ERR [AUTH] wrong"
        with pytest.raises(SourceRefused):
            await it.copy()


async def submit(it: World, server: MemorySmtp, *, delete: bool = False) -> Report:
    target = Submission(Endpoint("smtp", "127.0.0.1", server.port), "user@new", TlsPolicy())
    options = CopyOptions(timeout=10, delete=delete)
    return await submit_account(it.source(), target, options, LedgerUidls(it.store, "smtp"), it.around())


async def test_submitted_messages_arrive_as_they_are_with_the_null_sender(tmp_path: Path) -> None:
    async with world(tmp_path) as it, MemorySmtp() as server:
        report = await submit(it, server)
        assert (box(report).copied, report.unexplained) == (9, 0)
        assert server.arrived == [content for _, content in it.pop.messages]
        assert server.senders == {b"MAIL FROM:<>"}
        assert box(await submit(it, server)).copied == 0
        assert len(server.arrived) == 9
        assert box(await submit(it, server, delete=True)).deleted == 9
        assert it.pop.messages == []


async def test_a_refused_message_does_not_keep_the_others_and_is_not_deleted(tmp_path: Path) -> None:
    async with world(tmp_path) as it, MemorySmtp() as server:
        server.answer = lambda number: b"554 5.6.0 not this one" if number == 3 else b"250 ok"
        report = await submit(it, server, delete=True)
        assert (box(report).copied, len(box(report).refused), report.unexplained) == (8, 1, 0)
        assert [uidl for uidl, _ in it.pop.messages] == [b"uid2"]


async def test_a_message_that_is_too_large_for_the_server_is_refused_without_sending_it(tmp_path: Path) -> None:
    async with world(tmp_path, count=2) as it, MemorySmtp() as server:
        it.pop.messages.append((b"big", b"Subject: big\r\n\r\n" + b"x" * 120_000 + b"\r\n"))
        report = await submit(it, server)
        assert (box(report).copied, len(box(report).refused)) == (2, 1)


async def test_a_server_that_limits_incoming_mail_is_waited_for(tmp_path: Path) -> None:
    async with world(tmp_path) as it, MemorySmtp() as server:
        server.answer = lambda number: b"452 4.3.1 too fast" if number in (3, 4) else b"250 ok"
        start = it.clock
        report = await submit(it, server)
        assert (box(report).copied, len(server.arrived)) == (9, 9)
        assert it.clock > start


async def test_a_server_that_keeps_saying_later_ends_as_temporary(tmp_path: Path) -> None:
    async with world(tmp_path) as it, MemorySmtp() as server:
        server.answer = lambda number: b"250 ok" if number < 3 else b"452 4.3.1 too fast"
        with pytest.raises(CopyInterrupted) as stopped:
            await submit(it, server)
        assert (box(stopped.value.report).copied, stopped.value.report.unexplained) == (2, 0)
        server.answer = lambda _number: b"250 ok"
        report = await submit(it, server)
        assert (box(report).copied, box(report).doubled, len(server.arrived)) == (7, 0, 9)


async def test_an_answer_that_never_came_is_sent_again_and_reported_as_perhaps_doubled(tmp_path: Path) -> None:
    async with world(tmp_path) as it, MemorySmtp() as server:
        server.answer = lambda number: None if number == 4 else b"250 ok"
        with pytest.raises(CopyInterrupted):
            await submit(it, server)
        report = await submit(it, server)
        assert (box(report).doubled, box(report).copied, report.unexplained) == (1, 6, 0)
        assert any("doubled" in problem for problem in report.problems)
        assert len(server.arrived) == 10
        assert set(server.arrived) == {content for _, content in it.pop.messages}


async def test_submitting_broken_off_at_every_step_loses_nothing(tmp_path: Path) -> None:
    async with world(tmp_path / "whole") as it, MemorySmtp() as server:
        await submit(it, server)
        steps = list(it.steps)
    for crash_at in range(1, len(steps) + 1):
        async with world(tmp_path / str(crash_at)) as it, MemorySmtp() as server:
            it.crash_at = crash_at
            with pytest.raises(Crash):
                await submit(it, server)
            report = await submit(it, server)
            assert set(server.arrived) == {content for _, content in it.pop.messages}
            assert len(server.arrived) <= 9 + box(report).doubled, steps[crash_at - 1]
            assert box(report).doubled <= 1
            assert box(await submit(it, server)).copied == 0


async def test_a_recipient_that_is_refused_ends_the_copy(tmp_path: Path) -> None:
    async with world(tmp_path) as it, MemorySmtp() as server:
        server.on_command = lambda line: b"550 5.1.1 no such user" if line.startswith(b"RCPT") else None
        with pytest.raises(MailboxUnavailable):
            await submit(it, server)
        server.on_command = lambda _line: None
        assert (box(await submit(it, server)).doubled, len(server.arrived)) == (0, 9)


async def test_a_server_that_cannot_be_reached_is_temporary(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        async with MemorySmtp() as server:
            pass
        with pytest.raises(Temporary):
            await submit(it, server)


async def test_a_message_at_which_the_source_breaks_off_keeps_no_other_from_arriving(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.pop.cut_within = lambda number: 20 if number == 3 else None
        with pytest.raises(CopyInterrupted) as stopped:
            await it.copy()
        assert it.arrived == [letter(0), letter(1)], "what came whole is not fetched again"
        assert (box(stopped.value.report).copied, box(stopped.value.report).left) == (2, 7)
        with pytest.raises(CopyInterrupted) as stopped:
            await it.copy()
        assert sorted(it.arrived) == sorted(letter(number) for number in range(9) if number != 2)
        assert (box(stopped.value.report).left, stopped.value.report.unexplained) == (1, 0)
        it.pop.cut_within = lambda _number: None
        report = await it.copy()
        assert (box(report).copied, box(report).already, report.problems) == (1, 8, [])


async def test_a_message_at_which_the_source_breaks_off_keeps_no_other_from_being_sent(tmp_path: Path) -> None:
    async with world(tmp_path) as it, MemorySmtp() as server:
        it.pop.cut_within = lambda number: 20 if number == 3 else None
        for _ in range(2):
            with pytest.raises(CopyInterrupted):
                await submit(it, server)
        assert sorted(server.arrived) == sorted(letter(number) for number in range(9) if number != 2)
        it.pop.cut_within = lambda _number: None
        assert box(await submit(it, server)).copied == 1


@pytest.mark.parametrize("line", [b"", b"4\r\n", b"4 \r\n"])
async def test_a_message_without_a_uidl_is_copied_like_any_other(tmp_path: Path, line: bytes) -> None:
    async with world(tmp_path) as it:
        uidls = b"".join(b"%d uid%d\r\n" % (n, n) if n != 4 else line for n in range(1, 10))
        it.pop.on_command = lambda command: b"+OK\r\n" + uidls + b".\r\n" if command == b"UIDL" else None
        assert box(await it.copy()).copied == 9
        assert box(await it.copy()).already == 9
        assert len(it.arrived) == 9


async def test_any_refusal_of_uidl_means_that_there_are_none(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.pop.on_command = lambda line: b"-ERR sorry\r\n" if line == b"UIDL" else None
        assert box(await it.copy()).copied == 9
        assert box(await it.copy()).already == 9
