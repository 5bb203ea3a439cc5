"""Connections to one old server, counted over processes: logins before copies, and nothing lost with a process."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
import time
from pathlib import Path

import pytest

from extauth.bound import Bound
from extauth.connections import Connections
from migrator.access import Access
from migrator.config import load_settings
from migrator.ledger.store import Store
from migrator.options import parse_copy_options
from migrator.server_slots import DIRECTORY, ServerSlots, is_same, most_connections
from migrator.workshop import MailCopy
from tests.end_to_end.helper_child import write_config
from tests.servers.script import Talk, serve, until
from wire.endpoint import Endpoint, Security
from wire.outcome import SetupTrouble, Temporary, Trouble
from wire.secret import Secret

OLD = Endpoint("imap", "old.test", 143)

_HOLDER = """
import sys, time
from pathlib import Path
from migrator.server_slots import ServerSlots
from wire.endpoint import Endpoint
slots = ServerSlots(Path(sys.argv[1]), Endpoint("imap", "old.test", 143), int(sys.argv[2]))
take = slots.try_copy if sys.argv[3] == "copy" else slots.try_login
held = []
while (slot := take()) is not None:
    held.append(slot)
print(len(held), flush=True)
time.sleep(600)
"""


async def holder(state: Path, most: int, what: str) -> tuple[asyncio.subprocess.Process, int]:
    """Another process that takes every slot it can get, and how many those were."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _HOLDER, str(state), str(most), what, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    return process, int(await process.stdout.readline())


async def end(process: asyncio.subprocess.Process) -> None:
    """kill -9."""
    process.send_signal(signal.SIGKILL)
    await process.wait()
    process._transport.close()  # type: ignore[attr-defined]  # else -W error finds it open later


class Here:
    """The connections of this process."""

    def __init__(self, state: Path, most: int) -> None:
        self.troubles: list[Trouble] = []
        loop = asyncio.get_running_loop()
        self.slots = ServerSlots(state, OLD, most)
        self.connections = Connections(OLD, Bound(most), self.slots, self.troubles.append, loop.time)

    async def take(self, seconds: float = 20.0, *, first: bool = False) -> object:
        """A place, held until the connections are closed."""
        return await self.connections.take(asyncio.get_running_loop().time() + seconds, first=first)


@pytest.mark.parametrize(("most", "copies"), [(1, 1), (2, 1), (3, 1), (4, 2), (10, 5), (11, 5)])
async def test_copies_never_keep_a_login_from_a_place(tmp_path: Path, most: int, copies: int) -> None:
    """However many copies want one. With a single connection a copy has one besides."""
    process, held = await holder(tmp_path, most, "copy")
    here = Here(tmp_path, most)
    try:
        assert held == copies
        for _ in range(max(1, most - copies)):
            await here.take()
        if most > 1:
            with pytest.raises(Temporary, match="busy"):
                await here.take(0.01)
    finally:
        here.connections.close()
        await end(process)


async def test_what_a_killed_process_held_is_free(tmp_path: Path) -> None:
    process, held = await holder(tmp_path, 3, "login")
    here = Here(tmp_path, 3)
    assert held == 3
    waiting = asyncio.create_task(here.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    await end(process)
    await waiting
    await here.take()
    await here.take()
    here.connections.close()


async def test_a_process_without_any_gets_one_of_those_that_another_does_not_use(tmp_path: Path) -> None:
    """Two helpers, as while one takes over from the other."""
    one, other = Here(tmp_path, 4), Here(tmp_path, 4)
    for _ in range(4):
        await one.take()
    waiting = asyncio.create_task(other.take())
    await until(lambda: one.slots.wanted)
    one.connections.give_back()
    await waiting
    assert (one.connections.in_use, other.connections.in_use) == (3, 1)
    one.connections.close()
    other.connections.close()


async def test_together_they_never_have_more_than_all(tmp_path: Path) -> None:
    """Three of them, each with more to do than there are places."""
    sides = [Here(tmp_path, 5) for _ in range(3)]
    most = done = 0

    async def visit(side: Here) -> None:
        nonlocal most, done
        with await side.connections.take(asyncio.get_running_loop().time() + 30):
            most = max(most, sum(one.connections.in_use for one in sides))
            await asyncio.sleep(0)
            done += 1

    await asyncio.gather(*(visit(side) for side in sides for _ in range(30)))
    assert done == 90
    assert most <= 5
    for side in sides:
        side.connections.close()


async def test_a_state_directory_that_is_away_keeps_nobody_out(tmp_path: Path) -> None:
    here = Here(tmp_path / "missing", 2)
    await here.take()
    await here.take()
    assert len(here.troubles) == 1
    assert isinstance(here.troubles[0], SetupTrouble)
    with pytest.raises(Temporary, match="busy"):
        await here.take(0.01)
    here.connections.close()


async def test_who_gave_up_or_was_cancelled_keeps_no_place(tmp_path: Path) -> None:
    here = Here(tmp_path, 1)
    await here.take()
    waiting = [asyncio.create_task(here.take()) for _ in range(5)]
    await asyncio.sleep(0)
    first = asyncio.create_task(here.take(first=True))
    await asyncio.sleep(0)
    waiting[0].cancel()
    here.connections.give_back()
    await first
    assert not any(task.done() for task in waiting[1:])
    here.connections.give_back()
    waiting[1].cancel()  # in the moment in which its place came
    await asyncio.gather(*waiting[:2], return_exceptions=True)
    await waiting[2]
    assert here.connections.in_use == 1
    assert here.connections.turn_away(lambda: Temporary("no")) == 2
    for task in waiting[3:]:
        with pytest.raises(Temporary, match="no"):
            await task
    here.connections.close()


async def test_a_copy_waits_its_turn(tmp_path: Path) -> None:
    here = Here(tmp_path, 2)
    await here.take()
    await here.take()
    copy = asyncio.create_task(ServerSlots(tmp_path, OLD, 2).take_for_copy("a copy"))
    await asyncio.sleep(0)
    assert not copy.done()
    here.connections.close()
    (await copy).release()


@pytest.mark.parametrize(
    ("learnt", "age", "copies"),
    [("4", 0, 2), ("1", 0, 1), ("10", 0, 5), ("4", 61, 5), ("4", -3600, 5), ("0", 0, 1), ("", 0, 5), ("\0", 0, 5)],
)
async def test_copies_keep_to_the_limit_that_another_process_has_learnt(
    tmp_path: Path, learnt: str, age: float, copies: int
) -> None:
    """For a minute; a file that was damaged, or comes from the future, says nothing."""
    here = ServerSlots(tmp_path, OLD, 10)
    here.tell_limit(5)
    file = tmp_path / DIRECTORY / "imap-old.test-143" / "limit"
    assert file.read_text() == "5\n"
    file.write_text(learnt)
    os.utime(file, (time.time() - age,) * 2)
    process, held = await holder(tmp_path, 10, "copy")
    await end(process)
    assert held == copies
    here.tell_limit(10)
    assert not file.exists()


def test_a_limit_that_cannot_be_told_does_no_harm(tmp_path: Path) -> None:
    ServerSlots(tmp_path / "gone", OLD, 10).tell_limit(5)
    (tmp_path / DIRECTORY).write_text("in its place")
    ServerSlots(tmp_path, OLD, 10).tell_limit(5)


def test_files_are_shared_as_the_state_directory_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)
    slot = ServerSlots(tmp_path, Endpoint("imap", "2001:db8::1", 143), 2).try_login()
    assert slot is not None
    slot.release()
    (directory,) = (tmp_path / DIRECTORY).iterdir()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o770
    assert stat.S_IMODE((directory / "slot-0").stat().st_mode) == 0o660
    assert os.listdir(directory) == ["slot-0"]


def test_one_listener_is_one_server() -> None:
    assert is_same(OLD, Endpoint("imap", "OLD.test", 143, Security.STARTTLS))
    assert not is_same(OLD, Endpoint("imap", "old.test", 993, Security.TLS))
    assert not is_same(OLD, Endpoint("pop3", "old.test", 143))
    assert most_connections({}, OLD) == 1


async def test_a_workers_copy_holds_a_slot_as_long_as_it_runs(tmp_path: Path) -> None:
    async def greet_nobody(talk: Talk) -> None:
        await talk.silence()

    async def pass_by(_identity: object) -> None:
        return None

    async with serve(greet_nobody) as old:
        settings = load_settings(write_config(tmp_path, imap=old.port, domain="max_connections = 2"))
        store = Store(settings.state.path)
        source = Access(Endpoint("imap", "127.0.0.1", old.port), b"u", Secret(b"secret"))
        target = Access(source.endpoint, b"other", Secret(b"secret"))
        options = parse_copy_options((), pop=False)
        copying = asyncio.create_task(
            MailCopy(store, settings)(
                "u@d.test", source, target, options, progress=lambda _progress: None, before_copy=pass_by
            )
        )
        await until(lambda: old.open >= 1 or copying.done())
        assert not copying.done(), copying.exception()
        others = ServerSlots(settings.state.directory, source.endpoint, 2)
        assert others.try_copy() is None
        copying.cancel()
        await asyncio.gather(copying, return_exceptions=True)
        slot = others.try_copy()
        assert slot is not None
        slot.release()
        await store.close()
