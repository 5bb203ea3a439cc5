"""Copies under faults drawn at random: after enough runs, every message is at the target once, and the numbers add up.

What is drawn: how both servers behave, which messages they hold, when a connection breaks and on which side, what is
refused once or always, what is stored though its answer was never heard, what others deliver and the owner deletes.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from migrator import delivery, in_flight, mailbox_copy
from migrator.access import Access
from migrator.ledger.marks import LedgerMarks
from migrator.ledger.store import Store
from migrator.line_ends import LineEnds
from migrator.mover import copy_account
from migrator.options import CopyOptions
from migrator.report import Report
from migrator.session import Surroundings
from migrator.transformer import transform
from tests.servers.memory_imap import MemoryImap
from wire.endpoint import Endpoint
from wire.outcome import Trouble
from wire.secret import Secret

SOURCES = [b"IMAP4rev1", b"IMAP4rev1 LITERAL+ UIDPLUS NAMESPACE"]
TARGETS = [
    b"IMAP4rev1 LITERAL+ UIDPLUS NAMESPACE MULTIAPPEND",
    b"IMAP4rev1 LITERAL+ UIDPLUS NAMESPACE",
    b"IMAP4rev1 LITERAL+ MULTIAPPEND",
    b"IMAP4rev1 UIDPLUS",
    b"IMAP4rev1",
]
THEIRS = b"Message-ID: <theirs%d@x>\r\nSubject: not ours\r\n\r\nbody\r\n"
SEEDS = 40


class Crash(BaseException):
    """What kill -9 is to a process."""


@dataclass(slots=True)
class Weather:
    """The faults of one seed. They get rarer, and end with `calm`."""

    draw: random.Random
    old: MemoryImap
    new: MemoryImap
    strict: bool
    chance: float = 0.03
    delivered: list[bytes] = field(default_factory=list)
    refused: set[bytes] = field(default_factory=set)
    clock: float = 1000.0

    def begin(self) -> None:
        """Put the faults in place."""
        self.old.cut_within_fetch = lambda _uid: self.draw.randrange(30) if self._strikes(0.3) else None
        self.old.on_command = self._on_command
        self.new.on_command = self._on_command
        self.new.on_append = self._on_append
        self.new.store_late = lambda _number: self._strikes(0.5)

    def calm(self) -> None:
        """From now on everything goes well; but what is refused for ever stays refused."""
        self.chance = 0.0
        self.old.cut_within_fetch = lambda _uid: None

    def _strikes(self, weight: float = 1.0) -> bool:
        return self.draw.random() < self.chance * weight

    def _on_command(self, line: bytes) -> bytes | None:
        if self._strikes(0.3):
            raise ConnectionError("cut, as drawn")
        if self._strikes(0.2) and not line.startswith((b"LOGIN", b"CAPABILITY", b"NOOP", b"LOGOUT")):
            return self.draw.choice([b"NO [UNAVAILABLE] not now", b"NO [INUSE] busy"])
        return None

    def _on_append(self, content: bytes) -> bytes | None:
        if self._strikes(0.5):
            self.new.box(b"INBOX").store(THEIRS % len(self.delivered))
            self.delivered.append(THEIRS % len(self.delivered))
        if self._strikes():
            raise ConnectionError("cut, as drawn")
        if self._strikes():
            return self.draw.choice([b"NO [UNAVAILABLE] not now", b"NO [SERVERBUG] hm"])
        ours = any(content in box.contents for box in self.old.boxes.values())
        if self._strikes() and ours and content not in self.refused:  # a second time would be a reason to wrap it
            self.refused.add(content)
            return b"NO not this one"
        if self.strict and content.count(b"\n") != content.count(b"\r\n"):
            return b"NO Message contains bare newlines"
        return None

    def checkpoint(self, step: str) -> None:
        """Where a copy may be killed; and where a server finishes what a lost connection had sent."""
        if step == "connection lost":
            self.new.release()
        if self._strikes(0.1):
            raise Crash(step)

    async def sleep(self, seconds: float) -> None:
        self.clock += seconds
        self.new.release()
        await asyncio.sleep(0)


def fill(draw: random.Random, old: MemoryImap) -> None:
    """Messages as they come: twins, without a Message-ID, with bare line feeds, longer than a batch."""
    for name in (b"INBOX", b"Sent"):
        for number in range(draw.randrange(3, 16)):
            identity = b"Message-ID: <%b%d@x>\r\n" % (name, number) if draw.random() < 0.7 else b""
            subject = b"Subject: %d\r\n" % (number if draw.random() < 0.7 else 0)
            body = draw.choice([b"body\r\n", b"bare\nline feed\r\n", b"one\r\r\ntwo", b"x" * draw.randrange(1, 400)])
            date = b"%02d-Feb-2009 10:00:%02d +0100" % (draw.randrange(1, 29), draw.randrange(60))
            old.box(name).store(identity + subject + b"\r\n" + body, [b"\\Seen"] * draw.randrange(2), date)


def wanted(old: MemoryImap, name: bytes, *, strict: bool) -> Counter[bytes]:
    """What the target should hold of a mailbox."""
    contents = old.boxes[name].contents
    bare = [content for content in contents if content.count(b"\n") != content.count(b"\r\n")]
    if not strict:
        return Counter(contents)
    return Counter(contents) - Counter(bare) + Counter(transform(content, LineEnds()) for content in bare)


async def one_run(weather: Weather, path: Path) -> Report | None:
    """One process: its end may be anything."""
    store = Store(path / "marks.db")
    around = Surroundings(weather.checkpoint, sleep=weather.sleep, now=lambda: weather.clock)
    try:
        return await copy_account(
            Access(Endpoint("imap", "127.0.0.1", weather.old.port), b"user", Secret(b"old")),
            Access(Endpoint("imap", "127.0.0.1", weather.new.port), b"user@new", Secret(b"new")),
            CopyOptions(timeout=10),
            LedgerMarks(store, "copy"),
            around,
        )
    except (Trouble, Crash):
        return None
    finally:
        await store.close()
        weather.new.release()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches and stretches, and streaming, from a few messages."""
    monkeypatch.setattr(delivery, "BATCH_MESSAGES", 4)
    monkeypatch.setattr(delivery, "UNASKED_LIMIT", 300)
    monkeypatch.setattr(in_flight, "MOST_MESSAGES", 9)
    monkeypatch.setattr(mailbox_copy, "_STRETCH", 5)


@pytest.mark.parametrize("target", TARGETS, ids=["many", "pipelined", "many, no uids", "asked", "poor"])
async def test_whatever_happens_each_message_arrives_once(tmp_path: Path, target: bytes) -> None:
    for seed in range(SEEDS):
        draw = random.Random(f"{target!r} {seed}")
        path = tmp_path / str(seed)
        path.mkdir()
        async with MemoryImap(capabilities=draw.choice(SOURCES)) as old, MemoryImap(capabilities=target) as new:
            weather = Weather(draw, old, new, strict=draw.random() < 0.5)
            fill(draw, old)
            weather.begin()
            for _ in range(6):
                await one_run(weather, path)
                weather.chance *= 0.7
            weather.calm()
            where = f"seed {seed}"
            report = await one_run(weather, path)
            if report is None or report.postponed:  # a message was under suspicion: it had to stand last once more
                report = await one_run(weather, path)
            assert report is not None, where
            assert (report.unexplained, report.problems, report.postponed) == (0, [], []), where
            theirs = Counter(weather.delivered)
            for name in old.boxes:
                found = Counter(new.boxes[name].contents) - (theirs if name == b"INBOX" else Counter())
                assert found == wanted(old, name, strict=weather.strict), f"{where}: {name!r}"
            again = await one_run(weather, path)
            assert again is not None, where
            assert (again.total("copied"), again.total("left"), again.problems) == (0, 0, []), where
