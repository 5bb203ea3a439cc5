"""--dry-run says what a copy would do and writes nothing; the copy then does what was said."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.ledger.marks import LedgerMarks
from migrator.marks import MarkStore
from migrator.options import parse_options
from migrator.preview import Preview, ReadOnlyMarks, preview_account
from migrator.report import LargeMessage, SameMailbox
from tests.servers.copy_pair import CopyPair, copy_pair, fill

_READS = {b"CAPABILITY", b"LOGIN", b"NAMESPACE", b"LIST", b"LSUB", b"EXAMINE", b"UID SEARCH", b"UID FETCH", b"LOGOUT"}


async def preview(it: CopyPair, *flags: str, marks: MarkStore | None = None) -> Preview:
    options, _ = parse_options(flags)
    return await preview_account(it.source(), it.target(), options, marks, it.around)


def commands(log: list[bytes]) -> set[bytes]:
    return {b" ".join(line.split()[: 2 if line.startswith(b"UID") else 1]) for line in log}


async def test_it_says_what_the_copy_then_does_and_writes_nothing(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 3)
        fill(it.old, 4, b"Old.mbox")
        fill(it.old, 1, b"Old.mbox", size=9000)
        fill(it.old, 2, b"Trash")
        it.old.subscribed.add(b"Old.mbox")
        flags = ("--skipMailbox", "Trash", "--max-size", "8KiB")
        before = await preview(it, *flags)
        assert [(box.source, box.target, box.exists) for box in before.mailboxes] == [
            ("INBOX", "INBOX", True),
            ("Old.mbox", "Old-mbox", False),
        ]
        assert [(box.messages, box.to_copy, box.already, box.left_out) for box in before.mailboxes] == [
            (3, 3, 0, 0),
            (5, 4, 0, 1),
        ]
        assert before.mailboxes[1].too_large == [LargeMessage("5", 9003)]
        assert before.skipped == [("Trash", "left out as asked (--skipMailbox)")]
        assert commands(it.old.log) | commands(it.new.log) <= _READS
        assert set(it.new.boxes) == {b"INBOX"}
        assert not it.new.subscribed

        report = await it.copy(*flags)
        assert [(box.source, box.target, box.copied, box.left_out) for box in report.mailboxes] == [
            (box.source, box.target, box.to_copy, box.left_out) for box in before.mailboxes
        ]
        fill(it.old, 1)
        after = await preview(it, *flags, marks=it.marks)
        assert [(box.to_copy, box.already, box.left_out) for box in after.mailboxes] == [(1, 3, 0), (0, 4, 1)]
        assert after.total("octets") == sum(box.octets for box in after.mailboxes)
        assert after.problems == []


async def test_it_says_what_would_be_held_and_what_only_the_copy_will_know(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        for name in (b"INBOX", b"made anew", b"renumbered", b"removed"):
            fill(it.old, 2, name)
        await it.copy()
        it.new.box(b"made anew").uidvalidity += 1000
        it.old.box(b"renumbered").uidvalidity += 1000
        del it.new.boxes[b"removed"]
        found = {box.source: box for box in (await preview(it, marks=it.marks)).mailboxes}
        assert "made anew since" in found["made anew"].held
        assert "removed or made anew" in found["removed"].held
        assert (found["renumbered"].to_copy, found["renumbered"].held) == (2, "")
        assert "new uids" in found["renumbered"].notes[0]
        assert (found["INBOX"].already, found["INBOX"].to_copy) == (2, 0)


async def test_a_mailbox_that_cannot_be_opened_is_said_and_keeps_nobody_else(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 2)
        fill(it.old, 2, b"Locked")
        it.old.on_command = lambda line: (
            b"NO [NOPERM] not yours" if line.startswith(b"EXAMINE") and b"Locked" in line else None
        )
        found = await preview(it)
        assert [(box.to_copy, bool(box.held)) for box in found.mailboxes] == [(2, False), (0, True)]
        assert found.problems


async def test_source_and_target_must_be_two(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        options, _ = parse_options([])
        with pytest.raises(SameMailbox):
            await preview_account(it.source(), it.source(), options, None)


async def test_its_marks_cannot_be_written_to(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 1)
        await it.copy()
        marks = await it.marks.load(b"INBOX")
        assert marks is not None
        for write in (ReadOnlyMarks(LedgerMarks(it.store, "copy")), ReadOnlyMarks(None)):
            with pytest.raises(AssertionError):
                await write.open(marks)
