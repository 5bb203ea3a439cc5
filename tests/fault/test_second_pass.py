"""A run after a complete one: it passes over what has not changed, and notices everything that has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers.copy_pair import CopyPair, copy_pair, fill
from tests.servers.memory_imap import MemoryImap

OPENS = (b"SELECT", b"EXAMINE", b"UID SEARCH", b"UID FETCH", b"APPEND", b"GETACL", b"MYRIGHTS")
CONDSTORE = b"IMAP4rev1 LITERAL+ UIDPLUS NAMESPACE CONDSTORE"


def opened(server: MemoryImap) -> set[bytes]:
    """The mailboxes that were opened since the log was cleared."""
    return {line.split(None, 1)[1].strip(b'"') for line in server.log if line.startswith((b"SELECT", b"EXAMINE"))}


async def copied(it: CopyPair) -> None:
    """Three mailboxes, all copied, logs cleared."""
    fill(it.old, 3)
    fill(it.old, 2, b"Sent")
    fill(it.old, 4, b"a/b")
    assert (await it.copy()).total("copied") == 9
    it.old.log.clear()
    it.new.log.clear()


async def test_with_nothing_new_no_mailbox_is_opened(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        await copied(it)
        report = await it.copy()
        assert [(box.messages, box.already, box.unexplained) for box in report.mailboxes] == [
            (3, 3, 0), (2, 2, 0), (4, 4, 0),
        ]  # fmt: skip
        assert opened(it.new) == set()
        assert opened(it.old) == set()
        assert not [line for line in it.new.log if line.startswith(OPENS)]


async def test_ten_thousand_mailboxes_are_passed_over(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        for number in range(10_000):
            it.old.box(b"folder %d" % number)
        fill(it.old, 1, b"folder 77")
        it.around.checkpoint = lambda _step: None
        first = await it.copy("--noACL")
        assert (len(first.mailboxes), first.total("copied")) == (10_001, 1)
        it.new.log.clear()
        fill(it.old, 1, b"folder 9")
        again = await it.copy("--noACL")
        assert (again.total("copied"), again.total("already"), again.unexplained) == (1, 1, 0)
        assert opened(it.new) == {b"folder 9"}


def arrive(it: CopyPair) -> None:
    it.old.box(b"Sent").store(b"Subject: new\r\n\r\n")


def leave(it: CopyPair) -> None:
    del it.old.box(b"Sent").messages[0]


def arrive_and_leave(it: CopyPair) -> None:
    arrive(it)
    leave(it)


def rebuild_source(it: CopyPair) -> None:
    it.old.box(b"Sent").uidvalidity += 50


@pytest.mark.parametrize("change", [arrive, leave, arrive_and_leave, rebuild_source])
async def test_only_what_changed_is_opened(tmp_path: Path, change: Callable[[CopyPair], None]) -> None:
    async with copy_pair(tmp_path) as it:
        await copied(it)
        change(it)
        report = await it.copy()
        assert opened(it.new) == {b"Sent"}
        assert report.unexplained == 0
        wanted = {*it.old.box(b"Sent").contents}
        assert wanted <= {*it.new.box(b"Sent").contents}
        assert len(it.new.box(b"Sent").contents) == len({*it.new.box(b"Sent").contents}), "nothing is doubled"
        it.new.log.clear()
        assert (await it.copy()).total("copied") == 0
        assert opened(it.new) == set()


async def test_a_target_made_anew_is_noticed_where_nothing_is_new(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        await copied(it)
        del it.new.boxes[b"Sent"]
        report = await it.copy()
        assert [bool(box.held) for box in report.mailboxes] == [False, True, False]
        assert it.new.box(b"Sent").messages == []
        assert [bool(box.held) for box in (await it.copy()).mailboxes] == [False, True, False], "and again"


async def test_recopy_releases_the_mailbox_that_is_named_and_no_other(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        await copied(it)
        del it.new.boxes[b"Sent"], it.new.boxes[b"a/b"]
        report = await it.copy("--recopy", "Sent")
        assert [(bool(box.held), box.copied) for box in report.mailboxes] == [(False, 0), (False, 2), (True, 0)]
        assert it.new.box(b"Sent").contents == it.old.box(b"Sent").contents
        report = await it.copy("--recopy", "*")
        assert [(bool(box.held), box.copied) for box in report.mailboxes] == [(False, 0), (False, 0), (False, 4)]


async def test_leave_to_copy_again_is_used_once(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        await copied(it)
        del it.new.boxes[b"Sent"]
        assert await it.marks.allow_recopy() == 3
        assert (await it.copy()).total("copied") == 2
        fill(it.old, 1, b"Sent")
        await it.copy()
        del it.new.boxes[b"Sent"]
        assert [box.source for box in (await it.copy()).mailboxes if box.held] == ["Sent"]


async def test_what_was_refused_or_left_out_is_tried_again(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 3)
        fill(it.old, 1, b"Sent", size=5000)
        it.new.on_append = lambda content: b"NO not today" if b"<1@INBOX>" in content else None
        report = await it.copy("--max-size", "4KiB")
        assert (report.total("copied"), report.total("refused"), report.total("left_out")) == (2, 1, 1)
        it.new.on_append = lambda _content: None
        assert (await it.copy()).total("copied") == 2


async def test_a_server_without_uidnext_goes_the_long_way(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        await copied(it)
        it.old.untold = {b"UIDNEXT"}
        report = await it.copy()
        assert (report.total("already"), report.total("copied")) == (9, 0)
        assert opened(it.new) == {b"INBOX", b"Sent", b"a/b"}


async def test_a_server_that_knows_no_status_goes_the_long_way(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        await copied(it)
        it.old.on_command = lambda line: b"BAD what" if line.startswith(b"STATUS") else None
        assert (await it.copy()).total("already") == 9
        assert opened(it.new) == {b"INBOX", b"Sent", b"a/b"}


async def test_rights_that_were_not_copied_are_looked_at(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 1)
        await it.copy("--noACL")
        it.new.log.clear()
        await it.copy()
        assert opened(it.new) == {b"INBOX"}
        it.new.log.clear()
        await it.copy()
        assert opened(it.new) == set()


async def test_delete_looks_at_every_message(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        await copied(it)
        assert (await it.copy("--delete")).total("deleted") == 9


@pytest.mark.parametrize("condstore", [True, False])
async def test_only_what_changed_at_the_source_is_brought_over(tmp_path: Path, condstore: bool) -> None:
    async with copy_pair(tmp_path, source=CONDSTORE if condstore else None) as it:
        fill(it.old, 6)
        old, new = it.old.box(b"INBOX"), it.new.box(b"INBOX")
        for uid in (1, 2, 3, 4):
            old.flag(uid, b"+FLAGS", [b"\\Flagged"])
        assert (await it.copy("--syncFlags")).total("flagged") == 0
        new.flag(1, b"+FLAGS", [b"\\Seen"])  # read at the new server
        new.flag(2, b"-FLAGS", [b"\\Flagged"])  # and done with there
        old.flag(1, b"+FLAGS", [b"\\Answered"])
        old.flag(2, b"+FLAGS", [b"$Forwarded"])
        old.flag(3, b"-FLAGS", [b"\\Flagged"])
        old.flag(5, b"+FLAGS", [b"\\Deleted", b"\\Seen"])
        report = await it.copy("--syncFlags")
        assert report.total("flagged") == 4
        assert new.flags() == [
            {b"\\Seen", b"\\Answered", b"\\Flagged"}, {b"$Forwarded"}, set(), {b"\\Flagged"}, {b"\\Seen"}, set(),
        ]  # fmt: skip
        it.new.log.clear()
        assert (await it.copy("--syncFlags")).total("flagged") == 0
        assert not [line for line in it.new.log if line.startswith(b"UID STORE")]
        assert opened(it.new) == (set() if condstore else {b"INBOX"})


async def test_without_a_memory_flags_are_added_and_none_is_removed(tmp_path: Path) -> None:
    async with copy_pair(tmp_path, source=CONDSTORE) as it:
        fill(it.old, 3)
        old, new = it.old.box(b"INBOX"), it.new.box(b"INBOX")
        old.flag(1, b"+FLAGS", [b"\\Flagged"])
        await it.copy()
        old.flag(1, b"-FLAGS", [b"\\Flagged"])
        old.flag(2, b"+FLAGS", [b"\\Seen"])
        new.flag(3, b"+FLAGS", [b"\\Seen"])
        assert (await it.copy("--syncFlags")).total("flagged") == 1
        assert new.flags() == [{b"\\Flagged"}, {b"\\Seen"}, {b"\\Seen"}]
        old.flag(2, b"-FLAGS", [b"\\Seen"])
        await it.copy()
        assert new.flags()[1] == {b"\\Seen"}, "not without --syncFlags"
        fill(it.old, 1)
        await it.copy()
        assert (await it.copy("--syncFlags")).total("flagged") == 1, "it stayed owed"
        assert new.flags()[1] == set()


async def test_a_run_broken_off_at_any_step_brings_the_flags_over_in_the_next(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    step = 0
    while True:
        directory = tmp_path / str(step)
        directory.mkdir()
        async with copy_pair(directory, source=CONDSTORE) as it:
            fill(it.old, 3)
            await it.copy("--syncFlags")
            old, new = it.old.box(b"INBOX"), it.new.box(b"INBOX")
            old.flag(1, b"+FLAGS", [b"\\Seen"])
            old.flag(2, b"+FLAGS", [b"\\Flagged"])
            fill(it.old, 1)
            left = [step]

            def stop(_step: str, left: list[int] = left) -> None:
                if left[0] == 0:
                    raise Stopped
                left[0] -= 1

            it.around.checkpoint = stop
            try:
                await it.copy("--syncFlags")
            except Stopped:
                pass
            else:
                break
            it.around.checkpoint = lambda _step: None
            await it.copy("--syncFlags")
            assert new.flags() == [{b"\\Seen"}, {b"\\Flagged"}, set(), set()]
        step += 1
    assert step > 10


async def test_what_is_gone_at_the_source_stays_at_the_target_and_is_counted(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        await copied(it)
        del it.old.box(b"a/b").messages[1:3]
        report = await it.copy("--syncFlags")
        assert (report.total("expunged"), len(it.new.box(b"a/b").messages)) == (2, 4)


async def test_what_another_mailbox_brought_is_known_though_it_was_passed_over(tmp_path: Path) -> None:
    """Two mailboxes become one, and the target has to be searched for what it was sent: no UIDPLUS."""
    flags = ("--renameMailbox", "Sent", "Post", "--renameMailbox", "Old", "Post")
    async with copy_pair(tmp_path, target=b"IMAP4rev1 LITERAL+ NAMESPACE") as it:
        twins = [b"Subject: twin\r\n\r\nbody\r\n"] * 3
        for content in twins:
            it.old.box(b"Sent").store(content)
        it.old.box(b"Old").store(twins[0])
        assert (await it.copy(*flags)).total("copied") == 4
        it.new.log.clear()
        it.old.box(b"Old").store(twins[0])
        report = await it.copy(*flags)
        assert (report.total("copied"), report.total("already"), report.unexplained) == (1, 4, 0)
        assert len(it.new.box(b"Post").messages) == 5
        old, sent = [await it.marks.load(name) for name in (b"Old", b"Sent")]
        assert old is not None
        assert sent is not None
        targets = [target for marks in (old, sent) for _, target in marks.runs]
        assert sorted(targets) == [1, 2, 3, 4, 5], "each of them belongs to one"
        it.old.box(b"Old").uidvalidity += 1
        assert (await it.copy(*flags)).total("copied") == 0
