"""Servers that say one thing and do another: OK and nothing is stored, listed and not given."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from migrator.arrivals import Arrived, Confirmed, judge
from migrator.marks import UNKNOWN
from tests.fault.test_mover_manners import fill, only
from tests.servers.copy_pair import CopyPair, copy_pair

WITH_UIDS = b"IMAP4rev1 LITERAL+ UIDPLUS MULTIAPPEND"
WITHOUT = b"IMAP4rev1 LITERAL+"


def arrived_once(it: CopyPair) -> bool:
    return all(Counter(it.new.boxes[name].contents) == Counter(box.contents) for name, box in it.old.boxes.items())


@pytest.mark.parametrize("words", ["OK stored", "OK [APPENDUID 1000 {}] stored"])
@pytest.mark.parametrize("target", [WITH_UIDS, WITHOUT])
async def test_ok_to_what_is_never_stored(tmp_path: Path, target: bytes, words: str) -> None:
    """The last count finds it, it is not taken for copied, and the next run tries again."""
    async with copy_pair(tmp_path, target=target) as it:
        fill(it.old, 5)
        said = 0

        def swallow(_content: bytes) -> bytes:
            nonlocal said
            said += 1
            return words.format(said).encode()

        it.new.on_append = swallow
        report = await it.copy()
        box = only(report)
        assert (box.copied, len(box.refused), report.unexplained) == (0, 5, 0)
        assert len(report.problems) == 5
        it.new.on_append = lambda _content: None
        again = await it.copy("--delete")
        assert (only(again).copied, only(again).deleted, again.problems) == (5, 5, [])
        assert len(it.new.boxes[b"INBOX"].messages) == 5


async def test_some_that_are_never_stored(tmp_path: Path) -> None:
    """Each seventh is lost with an OK, and the next one gets the uid that was named for it."""
    async with copy_pair(tmp_path, target=WITH_UIDS) as it:
        fill(it.old, 20)
        inbox = it.new.boxes[b"INBOX"]
        it.new.capabilities = WITH_UIDS.replace(b" MULTIAPPEND", b"")
        it.new.on_append = lambda _content: (
            b"OK [APPENDUID 1000 %d] stored" % inbox.uidnext if it.new.appends % 7 == 0 else None
        )
        report = await it.copy()
        assert only(report).missing == 2
        assert "not there at its end" in report.problems[0]
        it.new.on_append = lambda _content: None
        await it.copy()
        assert len(inbox.messages) == 18, "which two they are is not certain: nothing may be doubled"


async def test_wrong_uids_lose_and_double_nothing(tmp_path: Path) -> None:
    async with copy_pair(tmp_path, target=WITH_UIDS.replace(b" MULTIAPPEND", b"")) as it:
        fill(it.old, 10)
        inbox = it.new.boxes[b"INBOX"]

        def store(content: bytes) -> bytes:
            return b"OK [APPENDUID 1000 %d] stored" % (inbox.store(content).uid + 1000)

        it.new.on_append = store
        report = await it.copy()
        assert (only(report).copied, only(report).missing, report.problems) == (10, 0, [])
        assert only(await it.copy()).already == 10
        assert len(inbox.messages) == 10


async def test_what_is_moved_away_while_it_is_copied_is_said(tmp_path: Path) -> None:
    async with copy_pair(tmp_path, target=WITH_UIDS.replace(b" MULTIAPPEND", b"")) as it:
        fill(it.old, 10)
        inbox = it.new.boxes[b"INBOX"]

        def tidy(content: bytes) -> None:
            if b"<9@x>" in content:
                del inbox.messages[:2]

        it.new.on_append = tidy
        report = await it.copy()
        assert (only(report).copied, only(report).missing, only(report).refused) == (10, 2, [])
        assert only(await it.copy()).copied == 0


@pytest.mark.parametrize(
    ("runs", "there", "uidnext", "confirmed", "expected"),
    [
        ([(1, 10), (2, 11)], {10, 11}, 12, Confirmed(10, [], told=True), Arrived(0, 0, ())),
        ([(1, 3), (2, 10)], {10}, 11, Confirmed(10, [], told=True), Arrived(1, 0, ())),  # an earlier run's, gone since
        ([(1, 10), (2, 11)], {10}, 12, Confirmed(10, [], told=True), Arrived(0, 1, ())),  # stored, gone since
        ([(1, 10), (2, 11)], {10}, 11, Confirmed(10, [], told=True), Arrived(0, 0, (2,))),
        ([(1, 10), (2, 1011)], {10, 11}, 12, Confirmed(10, [], told=True), Arrived(0, 0, ())),  # somewhere
        ([(1, 10), (2, UNKNOWN)], {10}, 11, Confirmed(10, [2], told=False), Arrived(0, 0, (2,))),
        ([(1, 10), (2, UNKNOWN)], {10}, 11, Confirmed(10, [2], told=True), Arrived(0, 1, ())),
        ([(1, 10), (2, UNKNOWN)], set(), 10, Confirmed(10, [2], told=True), Arrived(0, 0, (2, 1))),
        ([(1, 10), (2, UNKNOWN)], {10, 11}, 12, Confirmed(10, [2], told=False), Arrived(0, 0, ())),
        ([(1, 10), (2, UNKNOWN)], {10}, 0, Confirmed(10, [2], told=False), Arrived(0, 1, ())),  # no UIDNEXT: a number
    ],
)
def test_judging(
    runs: list[tuple[int, int]], there: set[int], uidnext: int, confirmed: Confirmed, expected: Arrived
) -> None:
    assert judge(runs, there, uidnext, confirmed) == expected


async def test_listed_and_not_given_is_not_vanished(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 6)
        it.old.hides = {2, 5}
        report = await it.copy()
        box = only(report)
        assert (box.copied, box.vanished, report.unexplained) == (4, 0, 0)
        assert [message.uid for message in box.refused] == ["2", "5"]
        it.old.hides = set()
        assert only(await it.copy()).copied == 2
        assert arrived_once(it)


async def test_a_search_that_ends_early_hides_nothing(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 10)
        search = b"UID SEARCH ALL"
        it.old.on_command = lambda line: b"OK done" if line == search else None
        it.old.before_reply = lambda line: b"* SEARCH 1 2 3 4\r\n" if line == search else b""
        assert only(await it.copy()).copied == 10
        assert arrived_once(it)


async def test_what_is_counted_and_never_listed_is_not_done(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 10)
        search = b"UID SEARCH ALL"
        it.old.hides = {9, 10}
        it.old.on_command = lambda line: b"OK done" if line == search else None
        it.old.before_reply = lambda line: b"* SEARCH 1 2 3 4 5 6 7 8\r\n" if line == search else b""
        for copied in (8, 0):
            report = await it.copy()
            assert only(report).copied == copied
            assert "counts 10 messages and lists 8" in report.postponed[0]
        it.old.hides = set()
        assert only(await it.copy()).copied == 2
        assert arrived_once(it)


async def test_a_message_that_cannot_even_be_listed_keeps_no_other(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 100)
        it.old.broken = {7, 70}
        report = await it.copy()
        assert (only(report).copied, report.unexplained) == (98, 0)
        assert [message.uid for message in only(report).refused] == ["7", "70"]
        it.old.broken = set(range(1, 101))
        again = await it.copy()
        assert only(again).postponed, "a server that gives nothing is in trouble itself"


async def test_a_limit_of_one_command_is_not_one_of_the_mailbox(tmp_path: Path) -> None:
    async with copy_pair(tmp_path, target=WITH_UIDS) as it:
        fill(it.old, 50)
        it.new.most_letters = 3
        report = await it.copy()
        assert (only(report).copied, report.problems, report.postponed) == (50, [], [])
        assert arrived_once(it)


async def test_bye_before_the_first_message(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 3)

        def bye(line: bytes) -> None:
            if line == b"UID FETCH 1:3 (UID BODY.PEEK[])" and not it.new.appends:
                it.old.on_command = lambda _line: None
                it.new.dismiss()

        it.old.on_command = bye
        assert only(await it.copy()).copied == 3
        assert arrived_once(it)


@pytest.mark.parametrize("source", [b"IMAP4rev1 UIDPLUS", b"IMAP4rev1"])
async def test_deleting_that_does_nothing_is_not_counted(tmp_path: Path, source: bytes) -> None:
    async with copy_pair(tmp_path, source=source) as it:
        fill(it.old, 3)
        it.old.on_command = lambda line: b"OK done" if line.startswith(b"UID STORE") else None
        report = await it.copy("--delete")
        assert only(report).deleted == 0
        assert any("at the source still" in note for note in only(report).notes)
