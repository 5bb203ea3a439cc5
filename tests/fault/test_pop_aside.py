"""What a copy by POP leaves out or puts aside, and the hours it keeps to: into an IMAP mailbox and by SMTP."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from migrator import pop_mover
from migrator.options import CopyOptions
from migrator.preview import preview_maildrop
from migrator.quarantine import Quarantine
from migrator.report import CopyInterrupted, LargeMessage, Report
from migrator.window import Window, local_time
from tests.fault.test_mover_pop import Crash, World, box, letter, world
from tests.fault.test_pop_submit import submit
from tests.servers.memory_smtp import MemorySmtp

ODD = b"Subject: odd\r\n\r\n" + b"a line with a NUL \0 in it\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"x" * 5000 + b"\r\n"


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches from nine messages."""
    monkeypatch.setattr(pop_mover, "BATCH_MESSAGES", 4)


def files(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.rglob("*.eml"))


async def test_larger_messages_are_left_out_and_listed_and_come_when_the_limit_is_gone(tmp_path: Path) -> None:
    async with world(tmp_path, count=3) as it, MemorySmtp() as server:
        it.pop.messages.insert(1, (b"large", LARGE))

        async def by_imap(max_size: int) -> Report:
            return await it.copy(delete=True, max_size=max_size)

        async def by_smtp(max_size: int) -> Report:
            return await submit(it, server, delete=True, max_size=max_size)

        listed = list(it.pop.messages)
        ways: list[tuple[Callable[[int], Awaitable[Report]], Callable[[], list[bytes]]]] = [
            (by_imap, lambda: it.arrived),
            (by_smtp, lambda: server.arrived),
        ]
        for copy, arrived in ways:
            it.pop.messages = list(listed)
            planned = await preview_maildrop(it.source(), "new", CopyOptions(max_size=2000), None)
            assert (planned.mailboxes[0].to_copy, planned.mailboxes[0].left_out) == (3, 1)
            assert planned.mailboxes[0].too_large == [LargeMessage("large", len(LARGE))]
            report = await copy(2000)
            assert (box(report).copied, box(report).left_out, box(report).left, report.unexplained) == (3, 1, 0, 0)
            assert box(report).too_large == [LargeMessage("large", len(LARGE))]
            assert report.problems == []
            assert it.pop.messages == [(b"large", LARGE)], "what was left out stays at the source"
            assert box(await copy(0)).copied == 1
            assert LARGE in arrived()


@pytest.mark.parametrize("uidls", [True, False])
async def test_what_an_imap_target_takes_in_no_form_is_kept_as_a_file_until_it_arrives(
    tmp_path: Path, uidls: bool
) -> None:
    async with world(tmp_path, count=3) as it:
        it.pop.has_uidl = uidls
        it.quarantine = Quarantine(tmp_path / "aside")
        it.imap.on_append = lambda content: b"NO [CANNOT] never" if b"<1@x>" in content else None
        report = await it.copy()
        (refused,) = box(report).refused
        assert refused.uid == ("uid1" if uidls else "number 2")
        (name,) = files(tmp_path / "aside")
        assert name.startswith("user@new/INBOX/~uid1.eml" if uidls else "user@new/INBOX/~~")
        kept = tmp_path / "aside" / name
        assert kept.read_bytes() == letter(1)
        assert f"never; wrapped as an attachment of a new message: APPEND: NO never; kept as {kept}" in refused.reason
        about = json.loads(kept.with_suffix(".json").read_text())
        assert about["reasons"][0] == "APPEND: NO never"
        assert about.get("uidl") == ("uid1" if uidls else None)
        assert about["date"] == " 2-Oct-2009 10:00:00 +0200"
        again = await it.copy(delete=True)
        assert (len(box(again).refused), files(tmp_path / "aside")) == (1, [name])
        it.imap.on_append = lambda _content: None
        assert (box(await it.copy()).copied, files(tmp_path / "aside")) == (1, [])


async def test_a_file_goes_also_when_the_run_that_brought_its_message_broke_off(tmp_path: Path) -> None:
    for crash_at in range(1, 40):
        async with world(tmp_path / str(crash_at), count=2) as it:
            aside = tmp_path / str(crash_at) / "aside"
            it.quarantine = Quarantine(aside)
            it.imap.on_append = lambda content: b"NO [CANNOT] never" if b"<1@x>" in content else None
            await it.copy()
            assert len(files(aside)) == 1
            it.imap.on_append = lambda _content: None
            it.crash_at = crash_at
            try:
                await it.copy()
            except Crash:
                await it.copy()
            else:
                return
            assert sorted(it.arrived) == [letter(0), letter(1)]
            assert files(aside) == []
    raise AssertionError("a copy has fewer steps")


async def test_what_an_smtp_target_refuses_is_kept_as_a_file_until_it_arrives(tmp_path: Path) -> None:
    async with world(tmp_path, count=3) as it, MemorySmtp(b"PIPELINING", b"CHUNKING") as server:
        it.quarantine = Quarantine(tmp_path / "aside")
        server.answer = lambda count: b"554 5.6.0 not this one" if count == 2 else b"250 ok"
        report = await submit(it, server, delete=True)
        (refused,) = box(report).refused
        assert files(tmp_path / "aside") == ["user@new/INBOX/~uid1.eml"]
        assert refused.reason.endswith(f"not this one; kept as {tmp_path}/aside/user@new/INBOX/~uid1.eml")
        assert (len(server.arrived), server.count) == (2, 3), "a clean message is not wrapped"
        assert [uidl for uidl, _ in it.pop.messages] == [b"uid1"]
        assert box(await submit(it, server)).copied == 1
        assert files(tmp_path / "aside") == []


@pytest.mark.parametrize("extensions", [(), (b"PIPELINING",), (b"PIPELINING", b"CHUNKING")])
async def test_an_odd_message_is_mended_for_an_smtp_target_that_refuses_it(
    tmp_path: Path, extensions: tuple[bytes, ...]
) -> None:
    async with world(tmp_path, count=12) as it, MemorySmtp(*extensions) as server:
        it.pop.messages[3] = (b"odd", ODD)
        server.answer = lambda _count: b"250 ok"
        server.judge = lambda content: b"554 5.6.0 NUL in the body" if b"\0" in content else None
        report = await submit(it, server)
        assert (box(report).copied, box(report).refused, report.unexplained) == (12, [], 0)
        assert sorted(server.arrived) == sorted([*(letter(n) for n in range(12) if n != 3), ODD.replace(b"\0", b" ")])
        (repaired,) = box(report).repaired
        assert (repaired.uid, repaired.form) == ("odd", "NUL bytes became spaces")
        assert "NUL in the body" in repaired.reason


@pytest.mark.parametrize("code", [b"552 5.3.4 too big", b"550 5.7.1 spam", b"552 5.2.2 full"])
async def test_nothing_is_wrapped_to_slip_through_a_policy(tmp_path: Path, code: bytes) -> None:
    async with world(tmp_path, count=1) as it, MemorySmtp(b"PIPELINING") as server:
        it.pop.messages = [(b"odd", ODD)]
        server.answer = lambda _count: code
        assert len(box(await submit(it, server)).refused) == 1
        assert server.count == 1


async def test_an_odd_message_broken_off_at_every_step_arrives(tmp_path: Path) -> None:
    for crash_at in range(1, 60):
        async with world(tmp_path / str(crash_at), count=2) as it, MemorySmtp(b"PIPELINING") as server:
            it.pop.messages[0] = (b"odd", ODD)
            server.judge = lambda content: b"554 5.6.0 NUL in the body" if b"\0" in content else None
            it.crash_at = crash_at
            try:
                await submit(it, server)
            except Crash:
                report = await submit(it, server)
                assert len(server.arrived) <= 2 + box(report).doubled
                assert set(server.arrived) == {ODD.replace(b"\0", b" "), letter(1)}
            else:
                return
    raise AssertionError("a copy has fewer steps")


def closing_soon(it: World, minutes: int = 5) -> Window:
    """A window that is open at the world's clock and closes some minutes later, for an hour."""
    now = local_time(it.clock)
    minute = now.hour * 60 + now.minute
    return Window((minute + minutes + 60) % 1440, (minute + minutes) % 1440)


def tick(it: World, after: int) -> Callable[[bytes], None]:
    """The clock goes on by ten minutes with the message of this number."""
    seen = [0]

    def on_message(_content: bytes) -> None:
        seen[0] += 1
        if seen[0] == after:
            it.clock += 600.0

    return on_message


@pytest.mark.parametrize("patient", [True, False])
async def test_outside_the_window_no_batch_begins(tmp_path: Path, patient: bool) -> None:
    async with world(tmp_path) as it:
        it.patient = patient
        window, ticking = closing_soon(it), tick(it, 4)
        it.imap.on_append = ticking
        if not patient:
            with pytest.raises(CopyInterrupted, match="outside the window") as closed:
                await it.copy(window=window)
            assert closed.value.pause > 2000
            assert (box(closed.value.report).copied, box(closed.value.report).left) == (4, 5)
            assert closed.value.report.unexplained == 0
            it.clock += closed.value.pause
            assert box(await it.copy(window=window)).copied == 5
        else:
            report = await it.copy(window=window)
            assert (box(report).copied, box(report).already, report.unexplained) == (9, 0, 0)
            assert window.is_open(it.clock)
        assert it.arrived == [letter(number) for number in range(9)]


@pytest.mark.parametrize("extensions", [(), (b"PIPELINING", b"CHUNKING")])
@pytest.mark.parametrize("patient", [True, False])
async def test_outside_the_window_no_message_is_submitted(
    tmp_path: Path, extensions: tuple[bytes, ...], patient: bool
) -> None:
    async with world(tmp_path, count=30) as it, MemorySmtp(*extensions) as server:
        it.patient = patient
        window, ticking = closing_soon(it), tick(it, 4)
        server.judge = ticking
        if not patient:
            with pytest.raises(CopyInterrupted, match="outside the window") as closed:
                await submit(it, server, window=window)
            report = closed.value.report
            assert 4 <= box(report).copied < 30
            assert (box(report).copied + box(report).left, report.unexplained) == (30, 0)
            it.clock += closed.value.pause
            await submit(it, server, window=window)
        else:
            report = await submit(it, server, window=window)
            assert (box(report).copied, report.unexplained) == (30, 0)
        assert sorted(server.arrived) == sorted(letter(number) for number in range(30))


async def test_a_copy_that_begins_outside_waits_without_a_connection(tmp_path: Path) -> None:
    async with world(tmp_path, count=1) as it:
        it.patient = True
        window = closing_soon(it)
        it.clock += 600
        report = await it.copy(window=window)
        assert (box(report).copied, len([line for line in it.pop.log if line.startswith(b"USER")])) == (1, 1)
