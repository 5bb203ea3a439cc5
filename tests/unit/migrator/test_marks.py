"""Runs of uids, what is left to copy, batches; and the same through the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from migrator.ledger.marks import LedgerMarks, LedgerUidls
from migrator.ledger.store import Store
from migrator.marks import UNKNOWN, Change, Intent, MailboxMarks, Runs, group, left_to_copy
from migrator.uidl_marks import Listing, UidlChange, UidlMark, UidlState
from wire.outcome import Temporary


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "marks.db")
    yield store
    await store.close()


def runs_of(*pairs: tuple[int, int]) -> Runs:
    runs = Runs()
    runs.add_all(pairs)
    return runs


def test_a_mailbox_copied_in_order_is_one_run() -> None:
    runs = runs_of(*((uid, 1000 + uid) for uid in range(1, 501)))
    assert str(runs) == "1:500 1001:1500"
    assert (len(runs), runs.pieces) == (500, 1)
    assert (runs.target_of(1), runs.target_of(500), runs.target_of(501)) == (1001, 1500, None)


def test_gaps_on_either_side_part_runs_and_filling_them_joins_them() -> None:
    runs = runs_of((1, 11), (2, 12), (4, 14), (5, 20), (6, 21))
    assert str(runs) == "1:2 11:12,4 14,5:6 20:21"
    runs.add(3, 13)
    assert str(runs) == "1:4 11:14,5:6 20:21"


def test_messages_confirmed_without_a_place_are_copied_all_the_same() -> None:
    runs = runs_of((1, UNKNOWN), (2, UNKNOWN), (3, 7))
    assert str(runs) == "1:2 ?,3 7"
    assert runs.target_of(2) == UNKNOWN
    assert 2 in runs
    assert Runs.parse(str(runs)).target_of(3) == 7


def test_one_message_never_has_two_places() -> None:
    runs = runs_of((5, 9))
    runs.add(5, 9)
    with pytest.raises(ValueError, match="5"):
        runs.add(5, 10)


@pytest.mark.parametrize("text", ["x", "1:2", "1", "2:1 5:4", "3 1,2 2", "1 1,1 1", "1 1,", ",", "1  1", "-1 2"])
def test_only_runs_are_read(text: str) -> None:
    with pytest.raises(ValueError, match="run"):
        Runs.parse(text)


def test_what_is_left_stands_in_order_with_the_refused_at_the_end() -> None:
    marks = MailboxMarks(b"a", b"a", 1, 1, runs_of((2, 1), (3, 2)), {5: Intent(9, 0)}, {1: "too big", 6: "no"})
    assert left_to_copy([7, 1, 2, 3, 4, 5, 6], marks) == [4, 5, 7, 1, 6]


def test_batches_are_bounded_by_number_and_by_size() -> None:
    sizes = {1: 10, 2: 10, 3: 10, 4: 500, 5: 1}
    assert list(group([1, 2, 3, 4, 5], sizes, count=2, octets=100)) == [[1, 2], [3], [4], [5]]
    assert list(group([1, 2, 3], sizes, count=9, octets=100)) == [[1, 2, 3]]
    assert list(group([], {}, count=9, octets=100)) == []


async def test_marks_come_back_from_the_database_as_they_went(store: Store) -> None:
    kept = LedgerMarks(store, "user@example.com")
    assert await kept.load(b"INBOX") is None
    marks = MailboxMarks(b"INBOX", b"INBOX", 10, 20)
    await kept.open(marks)
    await kept.record(marks, Change(intended=[1, 2, 3, 4], floor=7, recorded_at=5.5))
    await kept.record(marks, Change(copied=[(1, 7), (2, 8)], refused={3: "bad header"}, confirmed=[4]))
    again = await kept.load(b"INBOX")
    assert again == MailboxMarks(
        b"INBOX", b"INBOX", 10, 20, again.runs if again else Runs(), {4: Intent(7, 5.5, confirmed=True)},
        {3: "bad header"}, generation=3,
    )  # fmt: skip
    assert again is not None
    assert str(again.runs) == str(marks.runs) == "1:2 7:8"
    await kept.record(again, Change(intended=[3], floor=9))
    assert (await kept.load(b"INBOX") or marks).refused == {}, "tried again: nobody knows yet"


async def test_marks_of_different_copies_and_mailboxes_do_not_meet(store: Store) -> None:
    one, other = LedgerMarks(store, "one"), LedgerMarks(store, "other")
    await one.open(MailboxMarks(b"A", b"A/x", 1, 1, runs_of((1, 1))))
    await one.open(MailboxMarks(b"B", b"B", 1, 1))
    assert await other.load(b"A") is None
    assert await other.targets() == {}
    assert await one.targets() == {b"A": b"A/x", b"B": b"B"}


async def test_beginning_anew_replaces_everything(store: Store) -> None:
    kept = LedgerMarks(store, "copy")
    old = MailboxMarks(b"A", b"A", 1, 1)
    await kept.open(old)
    await kept.record(old, Change(intended=[1, 2], floor=3))
    await kept.open(MailboxMarks(b"A", b"A", 2, 1, runs_of((8, 3)), refused={9: "no"}))
    found = await kept.load(b"A")
    assert found is not None
    assert (found.source_uidvalidity, str(found.runs), found.intents, found.refused) == (2, "8 3", {}, {9: "no"})


async def test_a_second_writer_is_noticed_before_it_can_append(store: Store) -> None:
    kept = LedgerMarks(store, "copy")
    await kept.open(MailboxMarks(b"A", b"A", 1, 1))
    first, second = await kept.load(b"A"), await kept.load(b"A")
    assert first is not None
    assert second is not None
    await kept.record(first, Change(intended=[1], floor=1))
    with pytest.raises(Temporary, match="another copy"):
        await kept.record(second, Change(intended=[1], floor=1))
    with pytest.raises(Temporary, match="another copy"):
        await kept.record(MailboxMarks(b"never opened", b"x", 1, 1), Change(intended=[1], floor=1))


async def test_uidl_marks_come_back_as_they_went(store: Store) -> None:
    kept = LedgerUidls(store, "copy")
    intent = UidlMark(UidlState.INTENT, 3, 9, 1.5, "", b"digest")
    await kept.record(UidlChange(intended={b"uA": intent, b"uB": intent, b"uC": intent}))
    copied = UidlMark(UidlState.COPIED, 3, 9, 2.5, "", b"digest")
    await kept.record(UidlChange(settled={b"uA": copied}, dropped=[b"uC"]))
    assert await kept.load() == {b"uA": copied, b"uB": intent}
    assert await LedgerUidls(store, "other").load() == {}


async def test_a_second_writer_of_uidls_is_noticed(store: Store) -> None:
    kept = LedgerUidls(store, "copy")
    intent = UidlMark(UidlState.INTENT)
    await kept.record(UidlChange(intended={b"uA": intent}))
    with pytest.raises(Temporary, match="another copy"):
        await kept.record(UidlChange(intended={b"uB": intent, b"uA": intent}))
    assert set(await kept.load()) == {b"uA"}, "nothing of a refused change is kept"
    with pytest.raises(Temporary, match="another copy"):
        await kept.record(UidlChange(settled={b"uZ": intent}))


COPIED = UidlMark(UidlState.COPIED, digest=b"content")


def test_a_uidl_that_is_known_is_believed() -> None:
    listing = Listing([(1, b"A"), (2, b"B")], {b"uA": COPIED})
    assert listing.known(1) == b"uA"
    assert listing.known(2) is None
    assert listing.recognise(2, b"other") == (b"uB", False)


def test_equal_bytes_under_a_new_uidl_are_a_new_message_while_the_old_one_is_listed() -> None:
    listing = Listing([(1, b"A"), (2, b"B")], {b"uA": COPIED})
    assert listing.recognise(2, b"content") == (b"uB", False)


def test_a_server_that_gives_new_uidls_doubles_nothing() -> None:
    marks = {b"uA": COPIED, b"uB": UidlMark(UidlState.COPIED, digest=b"second")}
    listing = Listing([(1, b"new1"), (2, b"new2"), (3, b"new3")], marks)
    assert listing.recognise(1, b"content") == (b"uA", True)
    assert listing.recognise(2, b"second") == (b"uB", True)
    assert listing.recognise(3, b"content") == (b"unew3", False), "each mark is claimed once"


def test_messages_that_share_a_uidl_are_told_apart_by_content() -> None:
    first = Listing([(1, b"A"), (2, b"A"), (3, b"A")], {})
    assert [first.known(number) for number in (1, 2, 3)] == [None] * 3
    keys = [first.recognise(1, b"x"), first.recognise(2, b"y"), first.recognise(3, b"x")]
    assert not any(known for _, known in keys)
    assert len({key for key, _ in keys}) == 3
    digests = (b"x", b"y", b"x")
    marks = {key: UidlMark(UidlState.COPIED, digest=digest) for (key, _), digest in zip(keys, digests, strict=True)}
    second = Listing([(1, b"A"), (2, b"A"), (3, b"A"), (4, b"A")], marks)
    assert [second.recognise(number, digest)[1] for number, digest in enumerate((b"y", b"x", b"x", b"x"), 1)] == [
        True, True, True, False,
    ]  # fmt: skip


def test_one_of_two_that_shared_a_uidl_is_not_new_when_the_other_is_gone() -> None:
    key, _ = Listing([(1, b"A"), (2, b"A")], {}).recognise(1, b"content")
    alone = Listing([(1, b"A")], {key: COPIED})
    assert alone.known(1) is None
    assert alone.recognise(1, b"content") == (key, True)


def test_a_server_without_uidl() -> None:
    listing = Listing([(1, b""), (2, b"")], {})
    first, second = listing.recognise(1, b"same"), listing.recognise(2, b"same")
    assert first[0] != second[0]
    marks = {first[0]: UidlMark(UidlState.COPIED, digest=b"same")}
    again = Listing([(1, b""), (2, b"")], marks)
    assert again.recognise(1, b"same") == (first[0], True)
    assert again.recognise(2, b"same") == (second[0], False)
