"""What a target refuses is narrowed down, repaired, wrapped or put aside; each step is reported, nobody else waits."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from migrator import delivery, mailbox_copy
from migrator.quarantine import Quarantine
from migrator.report import CopyInterrupted, Report
from tests.fault.test_mover_manners import fill, only
from tests.servers.copy_pair import CopyPair, copy_pair

MANNERS = {
    "one by one": b"IMAP4rev1 UIDPLUS",
    "pipelined": b"IMAP4rev1 LITERAL+ UIDPLUS NAMESPACE",
    "many at once": b"IMAP4rev1 LITERAL+ UIDPLUS NAMESPACE MULTIAPPEND",
    "many at once, without uids": b"IMAP4rev1 LITERAL+ MULTIAPPEND",
}
HEAD = b"Message-ID: <odd@x>\r\nSubject: odd\r\n\r\n"


def with_quarantine(it: CopyPair, path: Path) -> Path:
    """Let what nobody takes be kept as files; where."""
    it.around = replace(it.around, quarantine=Quarantine(path / "quarantine"))
    return path / "quarantine"


def strict(content: bytes) -> bytes | None:
    """As Cyrus: no NUL, no bare line feed, and it does not say which of many it was."""
    if b"\0" in content:
        return b"NO Message contains NUL characters"
    if content.count(b"\n") != content.count(b"\r\n"):
        return b"NO Message contains bare newlines"
    return None


def repairs(report: Report) -> list[tuple[str, str]]:
    return [(message.uid, message.form) for message in only(report).repaired]


async def test_nil_is_an_empty_message_where_its_size_says_so(tmp_path: Path) -> None:
    """RFC 3501: NIL may be sent for an empty string. For any other message it is content that the source keeps back."""
    async with copy_pair(tmp_path, target=MANNERS["many at once"]) as it:
        inbox = it.old.box(b"INBOX")
        for content in (b"", HEAD + b"lost\r\n", HEAD + b"there\r\n"):
            inbox.store(content)
        it.old.gives_nil = lambda content: b"there" not in content
        box = only(await it.copy())
        assert (box.copied, [message.uid for message in box.refused]) == (2, ["2"])
        assert Counter(kept.content for kept in it.new.boxes[b"INBOX"].messages) == Counter([b"", HEAD + b"there\r\n"])


@pytest.mark.parametrize("octets", [10, 300_000])
@pytest.mark.parametrize("manner", MANNERS)
async def test_a_message_refused_for_its_keywords_arrives_without_them(
    tmp_path: Path, manner: str, octets: int
) -> None:
    """PERMANENTFLAGS promised more than the server takes. The message is not changed for that, and no other's flags."""
    async with copy_pair(tmp_path, target=MANNERS[manner]) as it:
        inbox = it.old.box(b"INBOX")
        for number, flags in enumerate(([b"\\Seen", b"$bad"], [b"$good"], [b"$bad"], [b"\\Flagged"])):
            inbox.store(HEAD + b"%d " % number + b"x" * octets + b"\r\n", flags)
        it.new.refuses_flag = lambda flag: flag == b"$bad"
        report = await it.copy()
        box = only(report)
        assert (box.copied, box.refused, box.repaired, report.problems, report.unexplained) == (4, [], [], [], 0)
        assert [note for note in box.notes if "without its keywords" in note and "no such flag" in note] == box.notes
        assert len(box.notes) == 2
        arrived = it.new.boxes[b"INBOX"].messages
        assert Counter(kept.content for kept in arrived) == Counter(inbox.contents)
        found = {kept.content.split(b"\r\n\r\n")[1][:1]: kept.flags for kept in arrived}
        assert found == {b"0": {b"\\Seen"}, b"1": {b"$good"}, b"2": set(), b"3": {b"\\Flagged"}}
        assert (only(await it.copy()).copied, len(it.new.boxes[b"INBOX"].messages)) == (0, 4)


@pytest.mark.parametrize("manner", MANNERS)
async def test_only_what_is_refused_is_repaired(tmp_path: Path, manner: str) -> None:
    async with copy_pair(tmp_path, target=MANNERS[manner]) as it:
        fill(it.old, 3)
        inbox = it.old.box(b"INBOX")
        inbox.store(HEAD + b"bare\nline feed\r\n", [b"\\Seen", b"kw"], b" 1-Jan-1999 23:59:59 -1130")
        fill(it.old, 3)
        inbox.store(HEAD + b"a long line " + b"x" * 2000 + b"\r\n")
        it.new.on_append = strict
        report = await it.copy()
        box = only(report)
        assert (box.copied, box.refused, report.problems, report.unexplained) == (8, [], [], 0)
        ((uid, form),) = repairs(report)
        assert uid == "4"
        assert "line feed" in form
        assert "bare newlines" in box.repaired[0].reason
        arrived = it.new.boxes[b"INBOX"].messages
        mended = next(kept for kept in arrived if b"bare" in kept.content)
        assert mended.content == HEAD + b"bare\r\nline feed\r\n"
        assert (mended.flags, mended.date) == ({b"\\Seen", b"kw"}, b" 1-Jan-1999 23:59:59 -1130")
        expected = Counter(inbox.contents) - Counter([inbox.contents[3]])
        assert Counter(kept.content for kept in arrived) - Counter([mended.content]) == expected
        again = await it.copy()
        assert (only(again).copied, only(again).already, again.problems) == (0, 8, [])
        assert len(it.new.boxes[b"INBOX"].messages) == 8


async def test_bad_ones_among_many_cost_none_of_the_others_anything(tmp_path: Path) -> None:
    """Nothing of a refused MULTIAPPEND is stored: 200 messages for one. It is narrowed down by halves."""
    async with copy_pair(tmp_path, target=MANNERS["many at once"]) as it:
        fill(it.old, 200)
        bad = {17, 18, 150}
        it.new.on_append = lambda content: (
            b"NO no" if any(b"Subject: %d\r" % number in content for number in bad) else None
        )
        report = await it.copy()
        box = only(report)
        assert (box.copied, report.unexplained) == (197, 0)
        assert [message.uid for message in box.refused] == ["18", "19", "151"]
        assert len(it.new.boxes[b"INBOX"].messages) == 197
        assert it.new.appends < 200 + 3 * 400, "halves, not one by one"


async def test_odd_messages_go_alone_until_one_of_their_kind_was_taken(tmp_path: Path) -> None:
    """A server that loses its place in a refused MULTIAPPEND is given no reason to refuse one."""
    async with copy_pair(tmp_path, target=MANNERS["many at once"]) as it:
        fill(it.old, 2)
        for number in range(30):
            it.old.box(b"INBOX").store(HEAD + b"bare\rreturn %d\r\n" % number)
            fill(it.old, 1)
        it.new.on_append = strict
        await it.copy()
        commands = [line for line in it.new.log if line.startswith(b"APPEND")]
        alone = [line for line in commands if line.count(b"{}") == 1]
        assert len(it.new.boxes[b"INBOX"].messages) == 62
        assert len(alone) == 1, "once it was taken, the others go together"


@pytest.mark.parametrize("manner", MANNERS)
async def test_what_nobody_takes_is_wrapped(tmp_path: Path, manner: str) -> None:
    async with copy_pair(tmp_path, target=MANNERS[manner]) as it:
        fill(it.old, 2)
        it.old.box(b"INBOX").store(HEAD + b"something this server will not have\r\n")
        it.new.on_append = lambda content: b"NO not this" if content.startswith(HEAD) else None
        report = await it.copy()
        assert (only(report).copied, report.problems) == (3, [])
        ((uid, form),) = repairs(report)
        assert (uid, "wrapped" in form) == ("3", True)
        wrapped = it.new.boxes[b"INBOX"].contents[-1]
        assert b"Content-Type: message/rfc822" in wrapped
        assert wrapped.endswith(HEAD + b"something this server will not have\r\n")


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_the_last_rung_is_a_file(tmp_path: Path, manner: str, size: int) -> None:
    """A small message is at hand, a large one is fetched again; the file is the original, and goes when it arrives."""
    async with copy_pair(tmp_path, target=MANNERS[manner]) as it:
        place = with_quarantine(it, tmp_path)
        content = HEAD + b"never\n" + b"x" * size
        it.old.box(b"INBOX").store(content, [b"\\Flagged"], b" 1-Jan-1999 23:59:59 -1130")
        fill(it.old, 2)
        it.new.on_append = lambda found: b"NO [CANNOT] not here" if b"odd" in found or b"b2Rk" in found else None
        report = await it.copy()
        box = only(report)
        assert (box.copied, len(box.refused), report.unexplained) == (2, 1, 0)
        (kept,) = place.rglob("*.eml")
        assert str(kept) in box.refused[0].reason
        assert kept.read_bytes() == content
        assert kept.stat().st_mode & 0o077 == 0
        about = json.loads(kept.with_suffix(".json").read_text())
        assert (about["uid"], about["mailbox"], about["flags"]) == (1, "INBOX", ["\\Flagged"])
        assert about["date"] == " 1-Jan-1999 23:59:59 -1130"
        assert "not here" in about["reasons"][0]

        it.new.on_append = lambda _content: None
        mended = await it.copy()
        assert (only(mended).copied, mended.problems) == (1, [])
        assert list(place.rglob("*.eml")) == []
        assert Counter(it.new.boxes[b"INBOX"].contents) == Counter(it.old.boxes[b"INBOX"].contents)


async def test_a_message_that_is_too_big_is_not_tried_in_forms_that_are_no_smaller(tmp_path: Path) -> None:
    async with copy_pair(tmp_path, target=MANNERS["many at once"]) as it:
        place = with_quarantine(it, tmp_path)
        it.old.box(b"INBOX").store(HEAD + b"x" * 200_000)
        it.new.on_append = lambda _content: b"NO [TOOBIG] too big"
        report = await it.copy()
        assert (only(report).copied, len(only(report).refused)) == (0, 1)
        assert it.new.appends == 2
        assert len(list(place.rglob("*.eml"))) == 1


async def test_an_empty_message_never_ends_the_others_command(tmp_path: Path) -> None:
    """RFC 3502: an empty literal means that a MULTIAPPEND is called off."""
    async with copy_pair(tmp_path, target=MANNERS["many at once"]) as it:
        fill(it.old, 2)
        it.old.box(b"INBOX").store(b"")
        fill(it.old, 2)
        it.new.on_append = lambda content: None if content else b"NO Zero-length message literal"
        report = await it.copy()
        assert (only(report).copied, report.problems, len(repairs(report))) == (5, [], 1)


async def test_bad_to_a_pipelined_message_ends_the_pipelining(tmp_path: Path) -> None:
    """A server that took mail for commands is left at once; the new connection waits for each answer."""
    async with copy_pair(tmp_path, target=MANNERS["pipelined"]) as it:
        fill(it.old, 30)
        answers = iter([None] * 5 + [b"BAD what was that"])
        it.new.on_append = lambda _content: next(answers, None)
        report = await it.copy()
        assert (only(report).copied + only(report).already, report.problems, report.postponed) == (30, [], [])
        assert Counter(it.new.boxes[b"INBOX"].contents) == Counter(it.old.boxes[b"INBOX"].contents)


@pytest.mark.parametrize("manner", MANNERS)
async def test_a_quota_that_is_nearly_full_takes_what_fits(tmp_path: Path, manner: str) -> None:
    async with copy_pair(tmp_path, target=MANNERS[manner]) as it:
        fill(it.old, 20)
        box = it.new.box(b"INBOX")

        def full(content: bytes) -> bytes | None:
            number = int(content.partition(b"Subject: ")[2].partition(b"\r")[0])
            return b"NO [OVERQUOTA] full" if number >= 5 else None

        it.new.on_append = full
        with pytest.raises(CopyInterrupted) as stopped:
            await it.copy()
        assert (stopped.value.code, len(box.messages)) == ("OVERQUOTA", 5)
        assert (stopped.value.report.total("copied"), stopped.value.report.unexplained) == (5, 0)
        it.new.on_append = lambda _content: None
        assert (await it.copy()).total("copied") == 15
        assert Counter(box.contents) == Counter(it.old.boxes[b"INBOX"].contents)


async def test_messages_under_way_when_the_target_broke_go_alone_afterwards(tmp_path: Path) -> None:
    """So that the one which breaks it is found, and keeps no other."""
    async with copy_pair(tmp_path, target=MANNERS["many at once"]) as it:
        fill(it.old, 40)

        def crash(content: bytes) -> bytes | None:
            if b"Subject: 7\r" in content:
                raise ConnectionError("no answer, as asked")
            return None

        it.new.on_append = crash
        report = await it.copy()
        assert (only(report).left, report.unexplained, len(report.postponed)) == (1, 0, 1)
        assert "message 8" in report.postponed[0]
        missing = Counter(it.old.boxes[b"INBOX"].contents) - Counter(it.new.boxes[b"INBOX"].contents)
        assert list(missing.elements()) == [it.old.boxes[b"INBOX"].contents[7]]
        assert len(it.new.boxes[b"INBOX"].messages) == 39


async def test_several_batches_are_under_way_and_answers_stay_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "BATCH_MESSAGES", 10)
    async with copy_pair(tmp_path, target=MANNERS["many at once"]) as it:
        fill(it.old, 95)
        report = await it.copy()
        assert (only(report).copied, report.problems) == (95, [])
        assert it.new.boxes[b"INBOX"].contents == it.old.boxes[b"INBOX"].contents, "in the source's order"
        await asyncio.sleep(0)
        assert (await it.copy()).total("already") == 95


async def test_a_message_refused_late_keeps_the_date_that_took_the_place_of_an_impossible_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer may come when the next stretch of messages is under way."""
    monkeypatch.setattr(mailbox_copy, "_STRETCH", 2)
    async with copy_pair(tmp_path, target=MANNERS["pipelined"]) as it:
        content = b"Date: Mon, 1 Jan 2001 12:00:00 +0100\r\nSubject: a\r\n\r\nbare\nline feed\r\n"
        it.old.box(b"INBOX").store(content, date=b"99-Foo-0000 10:00:00 +0000")
        fill(it.old, 7)
        it.new.on_append = strict
        report = await it.copy()
        assert (only(report).copied, len(repairs(report))) == (8, 1)
        mended = next(kept for kept in it.new.boxes[b"INBOX"].messages if b"bare" in kept.content)
        assert mended.date == b" 1-Jan-2001 12:00:00 +0100"
