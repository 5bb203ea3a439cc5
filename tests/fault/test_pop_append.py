"""Copies by POP into IMAP, many messages in one command: refusals, repairs, archives, and a crash at every step."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from migrator import pop_mover
from migrator.report import CopyInterrupted
from tests.fault.test_mover_pop import Crash, World, box, letter, world

MULTI = b"IMAP4rev1 LITERAL+ UIDPLUS MULTIAPPEND"
MULTI_WITHOUT_UIDS = b"IMAP4rev1 LITERAL+ MULTIAPPEND"
MANNERS = [MULTI, MULTI_WITHOUT_UIDS, b"IMAP4rev1 LITERAL+ UIDPLUS", b"IMAP4rev1"]
DAY = 86400.0


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches from nine messages."""
    monkeypatch.setattr(pop_mover, "BATCH_MESSAGES", 4)


def seen(it: World, *numbers: int) -> None:
    """Let these messages carry the line that an mbox server puts into what was seen."""
    for number in numbers:
        uidl, content = it.pop.messages[number]
        it.pop.messages[number] = (uidl, b"Status: RO\r\n" + content)


async def test_clean_messages_go_in_few_commands(tmp_path: Path) -> None:
    async with world(tmp_path, capabilities=MULTI) as it:
        report = await it.copy()
        assert (box(report).copied, report.unexplained, report.problems) == (9, 0, [])
        assert it.arrived == [content for _, content in it.pop.messages]
        assert sum(line.startswith(b"APPEND") for line in it.imap.log) == 3


@pytest.mark.parametrize("capabilities", MANNERS)
async def test_one_refused_among_many_keeps_no_other(tmp_path: Path, capabilities: bytes) -> None:
    """It is repaired where a repair is taken, and reported with the form it got."""
    async with world(tmp_path, capabilities=capabilities) as it:
        it.pop.messages[2] = (b"nul", letter(2) + b"a\0b\r\n")
        it.pop.messages[6] = (b"never", letter(6) + b"poison\r\n")
        it.imap.on_append = lambda content: b"NO bad bytes" if b"\0" in content or b"poison" in content else None
        report = await it.copy()
        assert [(one.uid, "NUL" in one.form) for one in box(report).repaired] == [(b"nul".decode(), True)]
        assert [one.uid for one in box(report).refused] == ["never"]
        assert (box(report).copied, report.unexplained) == (8, 0)
        expected = [content for _, content in it.pop.messages if b"poison" not in content]
        assert Counter(it.arrived) == Counter(one.replace(b"\0", b" ") for one in expected)
        again = await it.copy()
        assert (box(again).copied, len(box(again).refused)) == (0, 1)


@pytest.mark.parametrize("capabilities", MANNERS)
@pytest.mark.parametrize("archive", ["", "Old Mail"])
async def test_a_crash_at_every_step(tmp_path: Path, capabilities: bytes, archive: str) -> None:
    """With a message to be repaired, one that is refused, and some for the archive."""

    def prepare(it: World) -> None:
        it.pop.messages[2] = (b"nul", letter(2) + b"a\0b\r\n")
        it.pop.messages[6] = (b"never", letter(6) + b"poison\r\n")
        it.imap.on_append = lambda content: b"NO bad bytes" if b"\0" in content or b"poison" in content else None
        seen(it, 1, 2, 4)

    def everything(it: World) -> dict[bytes, Counter[bytes]]:
        return {name: Counter(kept.contents) for name, kept in it.imap.boxes.items()}

    async with world(tmp_path / "whole", capabilities=capabilities) as it:
        prepare(it)
        await it.copy(archive=archive)
        expected, steps = everything(it), list(it.steps)
    assert sum(sum(one.values()) for one in expected.values()) == 8
    for crash_at in range(1, len(steps) + 1):
        where = f"crash at step {crash_at}: {steps[crash_at - 1]}"
        async with world(tmp_path / str(crash_at), capabilities=capabilities) as it:
            prepare(it)
            it.crash_at = crash_at
            with pytest.raises(Crash):
                await it.copy(archive=archive)
            report = await it.copy(archive=archive)
            assert everything(it) == expected, where
            assert (report.unexplained, box(report).left) == (0, 0), where
            assert box(await it.copy(archive=archive)).copied == 0, where
            assert everything(it) == expected, where


@pytest.mark.parametrize("capabilities", MANNERS[:3])
async def test_a_command_that_is_stored_and_never_answered(tmp_path: Path, capabilities: bytes) -> None:
    async with world(tmp_path, capabilities=capabilities) as it:
        number = (
            8 if b"MULTIAPPEND" in capabilities else 2
        )  # the second command; or the second message of the first batch

        def store_and_cut(appends: int) -> bool:
            if appends == number:
                asyncio.get_running_loop().call_soon(it.imap.release)
            return appends == number

        it.imap.store_late = store_and_cut
        with pytest.raises(CopyInterrupted) as stopped:
            await it.copy()
        assert stopped.value.report.unexplained == 0
        it.imap.store_late = lambda _appends: False
        report = await it.copy()
        assert box(report).copied + box(report).already == 9
        assert Counter(it.arrived) == Counter(content for _, content in it.pop.messages)


async def test_seen_mail_goes_to_an_archive_and_stays_known(tmp_path: Path) -> None:
    async with world(tmp_path, capabilities=MULTI) as it:
        seen(it, 0, 3)
        uidl, content = it.pop.messages[5]
        it.pop.messages[5] = (uidl, b"Status: O\r\n" + content)  # old, not read
        it.pop.on_command = lambda line: b"+OK 2\r\n" if line == b"LAST" else None
        report = await it.copy(archive="Old Mail")
        contents = [content for _, content in it.pop.messages]
        archived = it.imap.boxes[b"Old Mail"]
        assert archived.contents == [contents[at] for at in (0, 1, 3)], "by LAST the first two, by its line the fourth"
        assert all(kept.flags == {b"\\Seen"} for kept in archived.messages)
        assert it.arrived == [one for at, one in enumerate(contents) if at not in (0, 1, 3)]
        assert all(not kept.flags for kept in it.imap.boxes[b"INBOX"].messages)
        assert (box(report).copied, report.unexplained) == (9, 0)
        assert any("3 messages that were seen went to Old Mail" in note for note in box(report).notes)
        assert any("show 6 messages of INBOX anew" in note for note in box(report).notes)
        seen(it, 7)
        again = await it.copy()
        assert (box(again).copied, box(again).already) == (0, 9), "where it went is remembered, asked for or not"
        assert box(await it.copy(delete=True)).deleted == 9


async def test_what_is_gone_from_the_archive_is_not_deleted(tmp_path: Path) -> None:
    """Uids of one mailbox say nothing of another."""
    async with world(tmp_path, capabilities=MULTI) as it:
        seen(it, 0, 1)
        await it.copy(archive="Old")
        it.imap.boxes[b"Old"].messages.pop(0)
        report = await it.copy(archive="Old", delete=True)
        assert (box(report).deleted, [uidl for uidl, _ in it.pop.messages]) == (8, [b"uid0"])


async def test_an_archive_that_was_made_anew_is_held(tmp_path: Path) -> None:
    async with world(tmp_path, capabilities=MULTI) as it:
        seen(it, 0)
        await it.copy(archive="Old")
        it.imap.boxes[b"Old"].uidvalidity += 7
        assert "Old was made anew" in box(await it.copy(archive="Old")).held
        del it.imap.boxes[b"Old"]
        assert "Old was made anew" in box(await it.copy()).held


async def test_old_mail_counts_as_seen_where_that_is_asked(tmp_path: Path) -> None:
    async with world(tmp_path, capabilities=MULTI, count=3) as it:
        it.clock = 1_255_000_000.0  # 8 October 2009; the letters are of the 1st, 2nd and 3rd
        it.pop.messages.append((b"undated", b"Subject: none\r\n\r\nbody\r\n"))
        await it.copy(archive="Old", older=5.9 * DAY)
        assert [len(kept.messages) for kept in it.imap.boxes.values()] == [2, 2]
        assert b"Subject: none\r\n\r\nbody\r\n" in it.arrived, "nothing is known of it"


async def test_without_an_archive_nobody_asks_for_last(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        seen(it, 0)
        report = await it.copy()
        assert b"LAST" not in it.pop.log
        assert any("show 9 messages of INBOX anew" in note for note in box(report).notes)
        assert set(it.imap.boxes) == {b"INBOX"}
