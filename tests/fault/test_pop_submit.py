"""Messages submitted ahead of the replies: limits, refusals, hang-ups and crashes while others are under way."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from migrator import pop_smtp
from migrator.exit_codes import PROTOCOL, TRY_LATER, UNAVAILABLE
from migrator.ledger.marks import LedgerUidls
from migrator.move_program import exit_code
from migrator.options import CopyOptions
from migrator.pop_smtp import Submission
from migrator.pop_submit import WINDOW_MESSAGES, submit_account
from migrator.report import CopyInterrupted, MailboxReport, Report
from migrator.window import Window
from tests.fault.test_mover_pop import Crash, World, box, letter, world
from tests.servers.memory_smtp import MemorySmtp
from wire.endpoint import Endpoint, TlsPolicy
from wire.outcome import MailboxUnavailable, Temporary

COUNT = 12
EVERYTHING = [letter(number) for number in range(COUNT)]
KINDS = {"one by one": (), "pipelined": (b"PIPELINING",), "chunked": (b"PIPELINING", b"CHUNKING")}
AHEAD = ("pipelined", "chunked")


@asynccontextmanager
async def pair(path: Path, kind: str) -> AsyncIterator[tuple[World, MemorySmtp]]:
    async with world(path, count=COUNT) as it, MemorySmtp(*KINDS[kind]) as server:
        yield it, server


async def submit(
    it: World,
    server: MemorySmtp,
    *,
    delete: bool = False,
    max_size: int = 0,
    window: Window | None = None,
    copy: str = "smtp",
) -> Report:
    target = Submission(Endpoint("smtp", "127.0.0.1", server.port), "user@new", TlsPolicy())
    options = CopyOptions(timeout=10, delete=delete, max_size=max_size, window=window)
    return await submit_account(it.source(), target, options, LedgerUidls(it.store, copy), it.around())


def nothing_lost_and_doubles_owned_up_to(server: MemorySmtp, *boxes: MailboxReport) -> bool:
    """Everything arrived; twice only what a report says."""
    doubled = sum(one.doubled for one in boxes)
    return set(server.arrived) == set(EVERYTHING) and len(server.arrived) <= COUNT + doubled


@pytest.mark.parametrize("kind", KINDS)
async def test_everything_arrives_in_order_over_one_connection(tmp_path: Path, kind: str) -> None:
    async with pair(tmp_path, kind) as (it, server):
        report = await submit(it, server)
        assert (box(report).copied, report.unexplained, report.problems) == (COUNT, 0, [])
        assert server.arrived == EVERYTHING
        assert (server.connections, server.senders) == (1, {b"MAIL FROM:<>"})
        words = Counter(line.split()[0] for line in server.log)
        assert (words[b"BDAT"], words[b"DATA"]) == ((COUNT, 0) if kind == "chunked" else (0, COUNT))
        assert box(await submit(it, server)).copied == 0
        assert box(await submit(it, server, delete=True)).deleted == COUNT
        assert it.pop.messages == []


def nth(word: bytes, numbers: set[int], reply: bytes, seen: Iterator[int]) -> Callable[[bytes], bytes | None]:
    return lambda line: reply if line.startswith(word) and next(seen) in numbers else None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reply", [b"452 4.3.1 slower", b"421 4.3.2 not now"])
@pytest.mark.parametrize("word", [b"MAIL", b"RCPT", b"DATA", b"BDAT", b"the end"])
async def test_one_later_while_others_are_under_way(tmp_path: Path, kind: str, reply: bytes, word: bytes) -> None:
    """It is sent again after a rest; none is lost, doubled or refused, wherever the server says it."""
    for number in range(1, COUNT + 1, 3):
        async with pair(tmp_path / str(number), kind) as (it, server):
            if word == b"the end":

                def answer(count: int, number: int = number) -> bytes:
                    return reply if count == number else b"250 ok"

                server.answer = answer
            else:
                server.on_command = nth(word, {number}, reply, iter(range(1, 1000)))
            start = it.clock
            report = await submit(it, server)
            assert (box(report).copied, report.unexplained, report.problems) == (COUNT, 0, [])
            assert sorted(server.arrived) == sorted(EVERYTHING)
            said = word == b"the end" or any(line.startswith(word) for line in server.log)
            assert (it.clock > start) == said


@pytest.mark.parametrize("kind", KINDS)
async def test_a_target_that_takes_three_messages_at_a_time(tmp_path: Path, kind: str) -> None:
    """Flow control as CommuniGate has it: after some messages nothing is taken until time has passed."""
    async with pair(tmp_path, kind) as (it, server):
        taken = [it.clock, 0.0]

        def limit(_count: int) -> bytes:
            if it.clock - taken[0] >= 3:
                taken[:] = [it.clock, 0]
            taken[1] += 1
            return b"250 ok" if taken[1] <= 3 else b"451 4.7.1 too fast"

        server.answer = limit
        report = await submit(it, server)
        assert (box(report).copied, report.problems) == (COUNT, [])
        assert sorted(server.arrived) == sorted(EVERYTHING)
        assert "waited for" in " ".join(box(report).notes)


@pytest.mark.parametrize(
    ("banner", "code", "connections"),
    [
        (b"554 5.3.2 go away", UNAVAILABLE, 1),
        (b"421 4.3.2 not now", TRY_LATER, 1 + len(pop_smtp.RESTS)),
        (b"good day", PROTOCOL, 1),
    ],
)
async def test_a_target_that_does_not_let_us_begin(tmp_path: Path, banner: bytes, code: int, connections: int) -> None:
    """Only "later" is waited for. Nothing is fetched, and with nothing to send the target is not even asked."""
    async with pair(tmp_path, "pipelined") as (it, server):
        server.banner = banner
        with pytest.raises(Temporary) as caught:
            await submit(it, server)
        assert not isinstance(caught.value, CopyInterrupted)
        assert exit_code(caught.value) == code
        assert server.connections == connections
        assert not [line for line in it.pop.log if line.startswith(b"RETR")]
        it.pop.messages = []
        assert box(await submit(it, server)).messages == 0
        assert server.connections == connections


@pytest.mark.parametrize("kind", AHEAD)
async def test_a_message_that_is_always_wanted_later_keeps_no_other(tmp_path: Path, kind: str) -> None:
    async with pair(tmp_path, kind) as (it, server):
        sizes = {len(letter(number)) for number in range(COUNT)}
        it.pop.messages[4] = (b"uid4", letter(4) + b"more\r\n" * 7)
        own = b"SIZE=%d" % len(it.pop.messages[4][1])
        assert len(it.pop.messages[4][1]) not in sizes
        server.on_command = lambda line: b"451 4.3.0 cannot scan it" if own in line else None
        report = await submit(it, server)
        assert (box(report).copied, box(report).left, report.unexplained) == (COUNT - 1, 1, 0)
        assert "message 5 later: MAIL: 451" in box(report).postponed
        server.on_command = lambda _line: None
        again = await submit(it, server)
        assert (box(again).copied, box(again).doubled, len(server.arrived)) == (1, 0, COUNT)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_target_that_takes_nothing_any_more_ends_as_temporary(tmp_path: Path, kind: str) -> None:
    async with pair(tmp_path, kind) as (it, server):
        server.answer = lambda count: b"250 ok" if count <= 5 else b"452 4.3.1 full"
        with pytest.raises(CopyInterrupted, match="full") as stopped:
            await submit(it, server)
        assert (box(stopped.value.report).copied, stopped.value.report.unexplained) == (5, 0)
        server.answer = lambda _count: b"250 ok"
        report = await submit(it, server)
        assert (box(report).copied, box(report).doubled, len(server.arrived)) == (COUNT - 5, 0, COUNT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("word", [b"MAIL", b"DATA", b"BDAT", b"the end"])
async def test_one_refusal_while_others_are_under_way(tmp_path: Path, kind: str, word: bytes) -> None:
    async with pair(tmp_path, kind) as (it, server):
        if word == b"the end":
            server.answer = lambda count: b"554 5.6.0 not this one" if count == 6 else b"250 ok"
        else:
            server.on_command = nth(word, {6}, b"554 5.6.0 not this one", iter(range(1, 1000)))
        report = await submit(it, server, delete=True)
        refused = 1 if word == b"the end" or any(line.startswith(word) for line in server.log) else 0
        assert (box(report).copied, len(box(report).refused)) == (COUNT - refused, refused)
        assert server.arrived == [one for at, one in enumerate(EVERYTHING) if not (refused and at == 5)]
        assert [uidl for uidl, _ in it.pop.messages] == [b"uid5"] * refused


@pytest.mark.parametrize("kind", KINDS)
async def test_a_recipient_that_is_refused_ends_the_copy(tmp_path: Path, kind: str) -> None:
    async with pair(tmp_path, kind) as (it, server):
        server.on_command = nth(b"RCPT", {5}, b"550 5.1.1 gone", iter(range(1, 1000)))
        with pytest.raises(MailboxUnavailable):
            await submit(it, server)
        report = await submit(it, server)
        assert (box(report).doubled, sorted(server.arrived)) == (0, sorted(EVERYTHING))


@pytest.mark.parametrize("kind", AHEAD)
async def test_354_behind_a_refused_recipient(tmp_path: Path, kind: str) -> None:
    """Servers that take DATA without a recipient get an empty message (RFC 2920 3.1), never the next one's."""
    async with pair(tmp_path, kind) as (it, server):
        server.on_command = nth(b"RCPT", {4}, b"452 later", iter(range(1, 1000)))
        report = await submit(it, server)
        assert (box(report).copied, sorted(server.arrived)) == (COUNT, sorted(EVERYTHING))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", range(1, COUNT + 1, 2))
async def test_an_answer_that_never_came(tmp_path: Path, kind: str, number: int) -> None:
    async with pair(tmp_path, kind) as (it, server):
        server.answer = lambda count: None if count == number else b"250 ok"
        with pytest.raises(CopyInterrupted) as stopped:
            await submit(it, server)
        report = await submit(it, server)
        assert nothing_lost_and_doubles_owned_up_to(server, box(report)), kind
        assert 1 <= box(report).doubled <= WINDOW_MESSAGES
        assert stopped.value.report.unexplained == report.unexplained == 0
        assert any("doubled" in problem for problem in report.problems)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_target_cut_after_every_byte(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the server had said by then: the next run brings what is missing and owns up to what it may double."""
    monkeypatch.setattr(pop_smtp, "RESTS", ())
    async with pair(tmp_path / "whole", kind) as (it, server):
        it.pop.messages = it.pop.messages[:2]
        await submit(it, server)
        whole = server.said
    async with pair(tmp_path / "cut", kind) as (it, server):
        it.pop.messages = it.pop.messages[:2]
        for cut in range(whole):
            server.cut_after, server.said = cut, 0
            server.arrived.clear()
            first = MailboxReport("", "")  # of a target that is gone before anything is fetched
            try:
                first = box(await submit(it, server, copy=str(cut)))
            except CopyInterrupted as trouble:
                first = box(trouble.report)
            except Temporary:
                assert not server.arrived
            server.cut_after = None
            report = box(await submit(it, server, copy=str(cut)))
            assert set(server.arrived) == set(EVERYTHING[:2]), cut
            assert len(server.arrived) <= 2 + first.doubled + report.doubled, cut
            assert (report.unexplained, report.left, report.refused) == (0, 0, []), cut


@pytest.mark.parametrize("kind", KINDS)
async def test_broken_off_at_every_step(tmp_path: Path, kind: str) -> None:
    async with pair(tmp_path / "whole", kind) as (it, server):
        await submit(it, server)
        steps = list(it.steps)
    for crash_at in range(1, len(steps) + 1):
        async with pair(tmp_path / str(crash_at), kind) as (it, server):
            it.crash_at = crash_at
            with pytest.raises(Crash):
                await submit(it, server)
            report = await submit(it, server)
            assert nothing_lost_and_doubles_owned_up_to(server, box(report)), steps[crash_at - 1]
            assert box(report).doubled <= (1 if kind == "one by one" else WINDOW_MESSAGES)
            assert box(await submit(it, server)).copied == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_a_large_message_waits_until_its_recipient_was_accepted(tmp_path: Path, kind: str) -> None:
    async with pair(tmp_path, kind) as (it, server):
        server.extensions = (*KINDS[kind], b"SIZE 4000000")
        large = b"Subject: large\r\n\r\n" + b".x" * 700_000 + b"\r\n"
        it.pop.messages[5] = (b"large", large)
        server.on_command = lambda line: b"452 later" if b"SIZE=%d" % len(large) in line and it.clock == start else None
        start = it.clock
        report = await submit(it, server)
        assert box(report).copied == COUNT
        assert large in server.arrived
        assert sum(line.startswith(b"BDAT %d" % len(large)) for line in server.log) == (kind == "chunked")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_source_that_breaks_off_while_messages_are_under_way(tmp_path: Path, kind: str) -> None:
    async with pair(tmp_path, kind) as (it, server):
        it.pop.cut_within = lambda number: 20 if number == 7 else None
        with pytest.raises(CopyInterrupted):
            await submit(it, server)
        assert server.arrived == EVERYTHING[:6], "what came whole was sent, and nothing of a half message"
        it.pop.cut_within = lambda _number: None
        report = await submit(it, server)
        assert (box(report).copied, box(report).doubled) == (6, 0)
        assert sorted(server.arrived) == sorted(EVERYTHING)


@pytest.mark.parametrize("kind", AHEAD)
async def test_the_source_cut_after_every_byte(tmp_path: Path, kind: str) -> None:
    """Nothing of a half message is ever sent, what came whole is, and nothing is doubled: the target was heard."""
    async with pair(tmp_path / "whole", kind) as (it, server):
        it.pop.messages = it.pop.messages[:2]
        await submit(it, server, delete=True)
        whole = it.pop.said
    async with pair(tmp_path / "cut", kind) as (it, server):
        listed = it.pop.messages[:2]
        for cut in range(whole):
            it.pop.messages, it.pop.cut_after, it.pop.said = listed, cut, 0
            server.arrived.clear()
            with pytest.raises(Temporary):
                await submit(it, server, delete=True, copy=str(cut))
            it.pop.cut_after = None
            assert set(server.arrived) <= set(EVERYTHING[:2]), cut
            report = box(await submit(it, server, delete=True, copy=str(cut)))
            assert sorted(server.arrived) == sorted(EVERYTHING[:2]), cut
            assert (report.unexplained, report.left, report.doubled) == (0, 0, 0), cut
