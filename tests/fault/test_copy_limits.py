"""--max-size and --window: what is left out, and when a copy works."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from migrator.copy_job import outcome_of
from migrator.report import CopyInterrupted, LargeMessage, Progress
from migrator.window import Window, WindowClosed
from tests.servers.copy_pair import CopyPair, copy_pair, fill

_HOUR = 3600.0


async def test_larger_messages_are_left_out_and_listed(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 3)
        fill(it.old, 2, size=5000)
        fill(it.old, 1, b"Sent", size=5000)
        report = await it.copy("--max-size", "4KiB", "--delete")
        inbox, sent = report.mailboxes
        assert (inbox.copied, inbox.left_out, inbox.unexplained, inbox.deleted) == (3, 2, 0, 3)
        assert inbox.too_large == [LargeMessage("4", 5003), LargeMessage("5", 5003)]
        assert (sent.copied, sent.left_out, len(sent.too_large)) == (0, 1, 1)
        assert (report.problems, report.unexplained) == ([], 0)
        assert report.as_json()["mailboxes"][1]["too_large"] == [{"uid": "1", "size": 5003}]
        assert len(it.old.boxes[b"INBOX"].messages) == 2, "what was left out is not deleted"

        again = await it.copy()
        assert again.total("copied") == 3
        assert again.total("left_out") == 0


async def test_the_ledger_keeps_few_of_many_large_ones(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 150, size=2000)
        (kept,) = json.loads(outcome_of(await it.copy("--max-size", "1KiB")).report)["mailboxes"]
        assert (len(kept["too_large"]), kept["too_large_in_all"], kept["left_out"]) == (100, 150, 150)


class Clock:
    """A clock that goes on only where somebody sleeps; starts at noon, local time."""

    def __init__(self, it: CopyPair) -> None:
        self.time = datetime.now(UTC).astimezone().replace(hour=12, minute=0, second=0, microsecond=0).timestamp()
        self.said: list[str] = []
        it.around.now = lambda: self.time
        it.around.sleep = self.sleep
        it.around.say = self.said.append

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


async def test_a_program_waits_until_the_window_opens_and_says_so(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 3)
        clock = Clock(it)
        it.around.patient = True
        noon = clock.time
        asked: list[float] = []
        it.old.on_command = lambda _line: asked.append(clock.time)
        report = await it.copy("--window", "13:30-15:00")
        assert report.total("copied") == 3
        assert clock.time == noon + 1.5 * _HOUR
        assert min(asked) == clock.time, "nobody was bothered before"
        assert len(clock.said) == 1
        assert "waiting until" in clock.said[0]
        assert "13:30" in clock.said[0]


async def test_a_window_that_closes_stops_the_copy_between_mailboxes_and_batches(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 3)
        fill(it.old, 4, b"Sent")
        clock = Clock(it)
        it.around.patient = True
        noon = clock.time

        def close_after_inbox(progress: Progress) -> None:
            if progress.mailbox == "INBOX":
                clock.time = max(clock.time, noon + 3 * _HOUR)

        it.around.progress = close_after_inbox
        stored: list[float] = []
        it.new.on_append = lambda _content: stored.append(clock.time)
        report = await it.copy("--window", "11:00-13:00")
        assert [round((when - noon) / _HOUR) for when in stored] == [0, 0, 0, 23, 23, 23, 23]
        assert [(box.copied, box.already, box.left) for box in report.mailboxes] == [(3, 0, 0), (4, 0, 0)]
        assert [len(it.new.boxes[name].messages) for name in (b"INBOX", b"Sent")] == [3, 4]


async def test_a_worker_is_told_when_it_opens(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 3)
        fill(it.old, 4, b"Sent")
        clock = Clock(it)
        with pytest.raises(WindowClosed) as closed:
            await it.copy("--window", "14:00-15:00")
        assert closed.value.pause == 2 * _HOUR
        assert it.old.log == [], "no connection was made"

        def close(_progress: Progress) -> None:
            clock.time += 2 * _HOUR

        it.around.progress = close
        with pytest.raises(CopyInterrupted) as interrupted:
            await it.copy("--window", "11:30-13:00")
        assert interrupted.value.pause == pytest.approx(21.5 * _HOUR)
        assert [(box.copied, box.left) for box in interrupted.value.report.mailboxes] == [(3, 0), (0, 4)]


def test_a_window_is_a_temporary_reason_with_a_code() -> None:
    assert WindowClosed(Window.parse("1:00-2:00"), 5.0).code, "no message is suspected of having broken a connection"


async def test_a_window_that_closes_stops_the_copy_between_two_batches(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 900)
        clock = Clock(it)

        def take(_content: bytes) -> None:
            clock.time += 4 * _HOUR / 900

        it.new.on_append = take
        with pytest.raises(CopyInterrupted) as interrupted:
            await it.copy("--window", "11:00-13:00")
        (box,) = interrupted.value.report.mailboxes
        assert 400 <= box.copied < 900, "what had begun was finished, and no more was begun"
        assert (box.copied + box.left, box.unexplained) == (900, 0)
        assert len(it.new.boxes[b"INBOX"].messages) == box.copied
