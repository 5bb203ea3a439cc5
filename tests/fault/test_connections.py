"""--connections: several sessions share out the mailboxes, and nothing is lost or doubled by it."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from migrator.options import AS_NEEDED
from migrator.report import CopyInterrupted
from tests.servers.copy_pair import CopyPair, copy_pair, fill
from tests.servers.delay import delayed
from tests.servers.memory_imap import MemoryImap
from tests.servers.relay import relay_to

NAMES = (b"INBOX", b"Archive", b"Drafts", b"Lists/a", b"Lists/b", b"Sent", b"Trash", b"Work")


def fill_all(it: CopyPair, count: int = 6) -> None:
    for name in NAMES:
        fill(it.old, count, name)


def logins(server: MemoryImap) -> int:
    return sum(line.startswith(b"LOGIN") for line in server.log)


def arrived(it: CopyPair) -> bool:
    """Every message once, and in its mailbox."""
    return {name: Counter(it.new.box(name).contents) for name in NAMES} == {
        name: Counter(it.old.box(name).contents) for name in NAMES
    }


async def test_several_sessions_copy_every_mailbox_once_inbox_first(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill_all(it)
        it.old.subscribed |= {b"Sent", b"Work"}
        report = await it.copy("--connections", "4")
        assert arrived(it)
        assert (logins(it.old), logins(it.new)) == (4, 4)
        assert [box.source for box in report.mailboxes] == [name.decode() for name in NAMES]
        assert [(box.copied, box.unexplained) for box in report.mailboxes] == [(6, 0)] * len(NAMES)
        opened = [line for line in it.new.log if line.startswith(b"SELECT")]
        assert b"INBOX" in opened[0]
        assert len([line for line in it.new.log if line.startswith(b"SUBSCRIBE")]) == 2
        assert (report.notes, report.problems, report.postponed) == ([], [], [])

        again = await it.copy("--connections", "3")
        assert (again.total("copied"), again.total("already")) == (0, 6 * len(NAMES))


async def test_over_a_long_way_there_are_three_without_being_asked_for(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill_all(it)
        with delayed(it.old.port, 40) as far:
            it.source_port = far
            report = await it.copy(connections=AS_NEEDED)
            assert arrived(it)
            assert (logins(it.old), logins(it.new), report.notes) == (3, 3, [])
            await it.copy("--connections", "1", connections=AS_NEEDED)
            assert logins(it.old) == 4
            it.old.accepts_login = lambda: b"NO [LIMIT] too many" if logins(it.old) > 5 else b"OK in"
            fill_all(it, 1)
            report = await it.copy(connections=AS_NEEDED)
            assert (report.total("copied"), report.notes) == (len(NAMES), []), "nobody asked for more: no word of it"


async def test_a_further_connection_that_nobody_answers_holds_up_nobody(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill_all(it)
        one = relay_to(it.old.port)
        silent = asyncio.Event()
        taken: list[asyncio.StreamWriter] = []

        async def first_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            taken.append(writer)
            await (one(reader, writer) if len(taken) == 1 else silent.wait())
            writer.close()

        async with await asyncio.start_server(first_only, "127.0.0.1", 0) as door:
            it.source_port = door.sockets[0].getsockname()[1]
            it.timeout = 600
            async with asyncio.timeout(60):
                await it.copy("--connections", "3")
            assert arrived(it)
            silent.set()


async def test_no_more_sessions_than_there_are_mailboxes(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 3)
        await it.copy("--connections", "8")
        assert logins(it.old) == 1


async def test_what_goes_into_one_mailbox_stays_in_one_session(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        for name in (b"a", b"b", b"c", b"d"):
            fill(it.old, 300, name)
        together = [flag for name in "abc" for flag in ("--renameMailbox", name, "All")]
        at_work: set[str] = set()

        def watch(progress: object) -> None:
            at_work.add(getattr(progress, "mailbox", ""))

        it.around.progress = watch
        report = await it.copy("--connections", "4", *together)
        assert Counter(it.new.boxes[b"All"].contents) == sum(
            (Counter(it.old.boxes[name].contents) for name in (b"a", b"b", b"c")), Counter()
        )
        selected = [line for line in it.new.log if line.startswith(b"SELECT") and b"All" in line]
        assert len(selected) <= 4, "one session: once before CREATE, once for each source mailbox"
        assert report.problems == []
        assert at_work >= {"a", "b", "c", "d"}


@pytest.mark.parametrize("side", ["old", "new"])
@pytest.mark.parametrize(
    "answer",
    [b"NO [LIMIT] too many connections", b"NO [AUTHENTICATIONFAILED] maximum reached", b"NO [UNAVAILABLE] too many"],
)
async def test_a_server_that_allows_fewer_gets_fewer(tmp_path: Path, side: str, answer: bytes) -> None:
    async with copy_pair(tmp_path) as it:
        fill_all(it)
        server = it.old if side == "old" else it.new
        server.accepts_login = lambda: b"OK in" if logins(server) <= 2 else answer
        said: list[str] = []
        it.around.say = said.append
        report = await it.copy("--connections", "5")
        assert arrived(it)
        assert report.total("copied") == 6 * len(NAMES)
        assert len(report.notes) == 1
        assert report.notes[0].startswith("2 of 5 connections were to be had: ")
        assert said == report.notes
        assert (logins(server), report.problems, report.postponed) == (3, [], [])


async def test_one_connection_that_breaks_costs_nobody_else(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill_all(it, 40)
        fill(it.old, 60, b"Lists/a")  # the only one with uids above 40
        cuts = iter([100])
        it.old.cut_within_fetch = lambda uid: next(cuts, None) if uid == 70 else None
        report = await it.copy("--connections", "4")
        assert arrived(it)
        assert (report.total("copied"), report.unexplained, report.problems) == (40 * len(NAMES) + 60, 0, [])
        assert logins(it.old) in {5, 6, 7, 8}, "four, and as many as it took for the rest"
        copied_again = Counter(line.split(b" ")[1] for line in it.new.log if line.startswith(b"CREATE"))
        assert set(copied_again.values()) == {1}


@pytest.mark.parametrize("side", ["old", "new"])
async def test_a_server_that_ends_the_older_session(tmp_path: Path, side: str) -> None:
    """Where one connection drives out the other, the copy goes on with fewer."""
    async with copy_pair(tmp_path) as it:
        fill_all(it, 20)
        getattr(it, side).one_session = True
        report = await it.copy("--connections", "3")
        assert (report.total("copied"), report.problems, report.postponed) == (20 * len(NAMES), [], [])
        assert arrived(it)


async def test_a_full_quota_lets_no_further_mailbox_begin(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill_all(it)
        it.new.on_append = lambda content: b"NO [OVERQUOTA] full" if b"@INBOX" not in content else None
        with pytest.raises(CopyInterrupted) as end:
            await it.copy("--connections", "2")
        assert end.value.code == "OVERQUOTA"
        created = [line for line in it.new.log if line.startswith(b"CREATE")]
        assert len(created) <= 2, "one for each session"
        assert end.value.report.unexplained == 0

        it.new.on_append = lambda _content: None
        await it.copy("--connections", "2")
        assert arrived(it)


class Crash(Exception):
    """The program's end, in the middle of everything."""


@pytest.mark.parametrize("first", range(7))
async def test_a_crash_at_any_step_is_made_up_for(tmp_path: Path, first: int) -> None:
    async with copy_pair(tmp_path) as it:
        fill_all(it, 3)
        step = first
        while True:
            steps = 0

            def count(_step: str, limit: int = step) -> None:
                nonlocal steps
                steps += 1
                if steps > limit:
                    raise Crash

            it.around.checkpoint = count
            try:
                await it.copy("--connections", "3")
                break
            except Crash:
                it.old.cut()
                it.new.cut()
            step += 11
        assert arrived(it), "whatever was under way in each of the sessions"
        it.around.checkpoint = lambda _step: None
        assert (await it.copy()).total("copied") == 0
