"""One account between servers of every kind: what must hold of a copy, whoever the two are.

What a target makes of a message is no guess: the test appends the same bytes, flags and date there itself and reads
them back.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from migrator.ledger.marks import LedgerMarks
from migrator.ledger.store import Store
from migrator.mover import copy_account
from migrator.options import CopyOptions
from migrator.report import Report
from tests.servers.corpus import mixed, read_corpus, spread_date, unsendable
from tests.servers.place import SOURCES, TARGETS, Place, source_place, target_place
from tests.servers.raw_imap import RawImap, Stored, internal_date, quoted
from wire.imap.names import encode_mailbox

USER, FRIEND, SCRATCH = "mover", "friend", "scratch"
FLAGS = [{b"\\Seen"}, set(), {b"\\Answered", b"$Forwarded"}, {b"\\Flagged", b"Urlaub2009"}, {b"\\Draft", b"\\Deleted"}]
KEPT_NAMES: list[tuple[str, ...]] = [  # that every target can have as they are
    ("Sent",),
    ("日本語", "受信トレイ"),
    ("Entwürfe & R&D",),
    ("a", "b", "c", "d", "e", "f", "g", "h"),
    ("Sent", "2009"),
]
ODD_NAMES: list[tuple[str, ...]] = [
    ("Work",),
    ("work",),
    ("WORK",),
    ('with "quotes"',),
    ("back\\slash",),
    (" spaces ",),
    ("~tilde",),
    (".dot",),
    ("one.two",),
    ("one/two",),
    ("#news",),
    ("old.mbox",),
    ("per%cent",),
    ("x" * 180,),
]


@dataclass(slots=True)
class Source:
    """A filled account: per mailbox what it holds, as the server itself shows it."""

    place: Place
    mail: dict[bytes, list[Stored]] = field(default_factory=dict)
    subscribed: set[bytes] = field(default_factory=set)

    def fill(self) -> None:
        """The odd messages into INBOX, and two plain ones into each mailbox that this server can have."""
        with self.place.open(USER) as raw:
            odd = [message.content for message in [*read_corpus(), *unsendable()]]
            self._store(raw, b"INBOX", odd)
            plain = [message.content for message in mixed(2 * len(KEPT_NAMES + ODD_NAMES), 5)]
            for number, levels in enumerate(KEPT_NAMES + ODD_NAMES):
                name = self.place.name(levels)
                try:
                    raw.create(name)
                except AssertionError:
                    assert levels in ODD_NAMES, f"{self.place.kind} refuses {levels}"
                    continue
                if any(self.place.separator.decode() in level for level in levels):
                    continue  # it became levels
                self._store(raw, name, plain[2 * number : 2 * number + 2])
            for levels in (("Sent",), ("日本語", "受信トレイ")):
                raw.command(b"SUBSCRIBE " + quoted(self.place.name(levels)))
                self.subscribed.add(self.place.name(levels))
            if b"ACL" in raw.capabilities:
                raw.command(b"SETACL %b %b lrs" % (quoted(self.place.name(("Sent",))), FRIEND.encode()))

    def _store(self, raw: RawImap, name: bytes, contents: list[bytes]) -> None:
        for number, content in enumerate(contents):
            date = internal_date(spread_date(number))
            raw.try_append(name, Stored(0, frozenset(FLAGS[number % len(FLAGS)]), date, content))
        self.mail[name] = raw.messages(name)
        assert len(self.mail[name]) > len(contents) // 2, f"{self.place.kind} refused too much"


@pytest.fixture(scope="module")
def servers() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def sources(servers: ExitStack) -> dict[str, Source]:
    return {}


@pytest.fixture(scope="module")
def targets(servers: ExitStack) -> dict[str, Place]:
    return {}


@pytest.fixture
def source(servers: ExitStack, sources: dict[str, Source], request: pytest.FixtureRequest) -> Source:
    """The old server of a kind, filled once for all its targets."""
    kind = request.param
    if kind not in sources:
        filled = Source(servers.enter_context(source_place(kind, [USER, FRIEND])))
        filled.fill()
        sources[kind] = filled
    return sources[kind]


@pytest.fixture
def target(servers: ExitStack, targets: dict[str, Place], request: pytest.FixtureRequest) -> Place:
    """The new server of a kind, with an account for each source."""
    kind = request.param
    if kind not in targets:
        targets[kind] = servers.enter_context(target_place(kind, [*map(arriving, SOURCES), FRIEND, SCRATCH]))
    return targets[kind]


def arriving(kind: str) -> str:
    """The account at each target that mail from this kind of server goes to."""
    return f"from-{kind}"


async def copy(source: Source, target: Place, directory: Path) -> Report:
    store = Store(directory / "marks.db")
    login = arriving(source.place.kind)
    try:
        marks = LedgerMarks(store, login)
        return await copy_account(source.place.access(USER), target.access(login), CopyOptions(timeout=60), marks)
    finally:
        await store.close()


Seen = Counter[tuple[bytes, frozenset[bytes], datetime]]


def seen(stored: list[Stored]) -> Seen:
    """Content, flags and moment of each message."""
    return Counter((one.content, frozenset(flag.lower() for flag in one.flags), moment(one)) for one in stored)


def moment(stored: Stored) -> datetime:
    return datetime.strptime(stored.internal_date.decode().strip(), "%d-%b-%Y %H:%M:%S %z")


def by_hand(target: Place, messages: list[Stored], place: str) -> tuple[Seen, list[Stored]]:
    """What this server makes of the messages when the test itself appends them, and those that it refuses."""
    with target.open(SCRATCH) as raw:
        name = target.name((place,))
        raw.create(name)
        refused = [message for message in messages if raw.try_append(name, message) is not None]
        return seen(raw.messages(name)), refused


@pytest.mark.parametrize("target", TARGETS, indirect=True)
@pytest.mark.parametrize("source", SOURCES, indirect=True)
async def test_a_copy_between_any_two_servers(source: Source, target: Place, tmp_path: Path) -> None:
    report = await copy(source, target, tmp_path)
    assert (report.unexplained, report.postponed, [box.held for box in report.mailboxes if box.held]) == (0, [], [])
    assert report.total("messages") == sum(len(stored) for stored in source.mail.values())
    boxes = {encode_mailbox(box.source): box for box in report.mailboxes}
    assert len({box.target.lower() for box in report.mailboxes}) == len(boxes), "two mailboxes became one"
    for levels in KEPT_NAMES:
        assert encode_mailbox(boxes[source.place.name(levels)].target) == target.name(levels)
    after = {}
    with target.open(arriving(source.place.kind)) as raw:
        for number, (name, messages) in enumerate(source.mail.items()):
            box = boxes[name]
            wanted, refused = by_hand(target, messages, f"{source.place.kind} {number}")
            after[name] = seen(raw.messages(encode_mailbox(box.target)))
            assert wanted - after[name] == Counter(), f"missing in {name!r}"
            assert box.copied + len(box.refused) == len(messages)
            assert (after[name] - wanted).total() + len(box.refused) == len(refused)
            assert len(box.repaired) + len(box.refused) == len(refused), "what was refused is told, one by one"
        targets = {encode_mailbox(boxes[name].target) for name in source.subscribed}
        assert targets <= set(raw.mailboxes(subscribed=True))
        if b"ACL" in raw.capabilities and source.place.kind != "sandbox":
            (acl,) = raw.command(b"GETACL " + quoted(target.name(("Sent",))))
            assert re.search(rb'"?%b"? "?lrs"?' % FRIEND.encode(), acl), acl
            assert b"administrators" not in acl or target.kind == "courier"

    again = await copy(source, target, tmp_path)
    assert (again.total("copied"), again.unexplained) == (0, 0)
    with target.open(arriving(source.place.kind)) as raw:
        for name in source.mail:
            assert seen(raw.messages(encode_mailbox(boxes[name].target))) == after[name]
