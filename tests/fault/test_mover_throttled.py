"""Servers that are asked too much: a copy leaves them alone as long as they want, and refuses no message for it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from migrator.report import CopyInterrupted
from tests.fault.test_mover_manners import fill
from tests.servers.copy_pair import CopyPair, copy_pair
from tests.servers.memory_imap import MemoryImap

SHORT = 10.0  # seconds that a copy waits for other reasons, such as a broken connection
THROTTLED = b"NO Request is throttled. Suggested Backoff Time: 299609 milliseconds"


class Waits:
    """What was waited for and said, instead of waiting and saying."""

    def __init__(self, it: CopyPair, *, patient: bool) -> None:
        self.seconds: list[float] = []
        self.said: list[str] = []
        it.around = replace(it.around, sleep=self._sleep, say=self.said.append, patient=patient)

    async def _sleep(self, seconds: float) -> None:
        if seconds > SHORT:
            self.seconds.append(seconds)
        await asyncio.sleep(0)


def throttle(server: MemoryImap, command: bytes, replies: Iterator[bytes | None], asked: list[bytes]) -> None:
    """Answer commands that begin with `command` by `replies`, None being the real one."""

    def answer(line: bytes) -> bytes | None:
        asked.append(line)
        return next(replies, None) if line.startswith(command) else None

    server.on_command = answer


def everything_arrived(it: CopyPair) -> bool:
    return all(sorted(it.new.boxes[name].contents) == sorted(box.contents) for name, box in it.old.boxes.items())


@pytest.mark.parametrize("refusal", [THROTTLED, b"BAD" + THROTTLED[2:], b"NO [THROTTLED] slow down"])
async def test_a_patient_copy_waits_as_long_as_the_source_wants(tmp_path: Path, refusal: bytes) -> None:
    """Then it goes on, on a new connection, and nothing else is asked on the old one."""
    async with copy_pair(tmp_path) as it:
        fill(it.old, 3)
        fill(it.old, 3, b"Other")
        waits, asked = Waits(it, patient=True), list[bytes]()
        throttle(it.old, b"UID FETCH 1:3 (UID BODY.PEEK[])", iter([refusal]), asked)
        report = await it.copy()
        assert everything_arrived(it)
        assert (report.problems, report.total("refused")) == ([], 0)
        assert waits.seconds == [299.609 if b"Suggested" in refusal else 30.0]
        assert "waiting" in waits.said[0]
        first = next(at for at, line in enumerate(asked) if line.startswith(b"UID FETCH 1:3 (UID BODY.PEEK[])"))
        after = [line for line in asked[first + 1 :] if not line.startswith(b"UID FETCH")]  # those were under way
        assert after[0].startswith(b"LOGIN")


async def test_a_worker_is_told_how_long_to_wait(tmp_path: Path) -> None:
    """It has other copies to run meanwhile."""
    async with copy_pair(tmp_path) as it:
        fill(it.old, 3)
        waits = Waits(it, patient=False)
        throttle(it.old, b"UID FETCH 1:3 (UID BODY.PEEK[])", iter([THROTTLED]), [])
        with pytest.raises(CopyInterrupted, match="throttled") as caught:
            await it.copy()
        assert caught.value.pause == pytest.approx(299.609)
        assert caught.value.report.total("refused") == 0
        assert waits.seconds == []
        report = await it.copy()
        assert everything_arrived(it)
        assert report.problems == []


async def test_the_target_throttles_too(tmp_path: Path) -> None:
    """Without a code, in the middle of a batch: no message is refused, stored twice or left out."""
    async with copy_pair(tmp_path) as it:
        fill(it.old, 5)
        waits = Waits(it, patient=True)
        answers = iter([None, None, THROTTLED])
        it.new.on_append = lambda _content: next(answers, None)
        report = await it.copy()
        assert everything_arrived(it)
        assert (report.problems, report.total("refused")) == ([], 0)
        assert waits.seconds == [299.609]


async def test_patience_ends(tmp_path: Path) -> None:
    """A server that says nothing else is left to another run; each pause is twice the one before."""
    async with copy_pair(tmp_path) as it:
        fill(it.old, 2)
        waits = Waits(it, patient=True)
        it.new.on_append = lambda _content: b"NO [LIMIT] too many requests"
        with pytest.raises(CopyInterrupted, match="too many requests"):
            await it.copy()
        assert waits.seconds == [30.0, 60.0, 120.0]
        it.new.on_append = lambda _content: None
        await it.copy()
        assert everything_arrived(it)


async def test_bye_with_a_wish(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 3)
        waits = Waits(it, patient=True)
        byes = iter([b"* BYE Too many connections, retry after 45 seconds\r\n"])
        it.old.before_reply = lambda line: (
            next(byes, b"") if line.startswith(b"UID FETCH 1:3 (UID BODY.PEEK[])") else b""
        )
        report = await it.copy()
        assert everything_arrived(it)
        assert report.problems == []
        assert waits.seconds == [45.0]


async def test_a_message_that_is_too_big_keeps_no_other(tmp_path: Path) -> None:
    """[LIMIT] about one message, as Dovecot says it, is that message's refusal."""
    async with copy_pair(tmp_path) as it:
        fill(it.old, 3)
        size = b"NO [LIMIT] Mail size is larger than the maximum size allowed by server configuration"
        it.new.on_append = lambda content: size if b"Subject: 1" in content else None
        report = await it.copy()
        assert (report.total("copied"), len(report.mailboxes[0].refused)) == (2, 1)
        assert "Mail size is larger" in report.mailboxes[0].refused[0].reason


YAHOO = b"NO [UNAVAILABLE] UID FETCH Server error while fetching messages"


def fetches(line: bytes, uid: int) -> bool:
    """Whether a command asks for the content of this message, alone or among others."""
    found = re.match(rb"UID FETCH ([\d:,]+) \(UID BODY\.PEEK\[\]\)", line)
    spans = [tuple(map(int, span.split(b":"))) for span in found[1].split(b",")] if found else []
    return any(span[0] <= uid <= span[-1] for span in spans)


async def test_a_message_that_the_source_cannot_give_now_keeps_no_other(tmp_path: Path) -> None:
    """Yahoo says so of one message for days. It is left for another run, which copies it and nothing twice."""
    async with copy_pair(tmp_path) as it:
        fill(it.old, 5)
        it.old.on_command = lambda line: YAHOO if fetches(line, 2) else None
        for copied in (4, 0):
            report = await it.copy()
            (box,) = report.mailboxes
            assert (box.copied, box.left, box.unexplained, box.refused) == (copied, 1, 0, [])
            assert len(report.postponed) == 1
            assert "message 2: the source does not give it now" in report.postponed[0]
        it.old.on_command = lambda _line: None
        report = await it.copy()
        assert (report.total("copied"), report.postponed) == (1, [])
        assert sorted(it.new.boxes[b"INBOX"].contents) == sorted(it.old.boxes[b"INBOX"].contents)


async def test_a_source_that_gives_nothing_is_left_alone(tmp_path: Path) -> None:
    """After a few messages it is the server that is in trouble, and another run's turn."""
    async with copy_pair(tmp_path) as it:
        fill(it.old, 50)
        it.old.on_command = lambda line: YAHOO if any(fetches(line, uid) for uid in range(51)) else None
        with pytest.raises(CopyInterrupted, match="Server error") as caught:
            await it.copy()
        assert (caught.value.report.total("copied"), caught.value.report.total("refused")) == (0, 0)
        it.old.on_command = lambda _line: None
        await it.copy()
        assert everything_arrived(it)
