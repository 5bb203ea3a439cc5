"""Many commands over few sessions: limits, fairness, lost sessions, cancellation, slots shared by processes."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cli_client.errors import CliLoginRefused, NoSuchAccount, SessionsExhausted
from cli_client.pool import CliPool
from cli_client.protocol import Command
from cli_client.slots import SlotDirectory
from tests.servers.script import ScriptServer, Talk, serve, until
from wire.outcome import SetupTrouble, Temporary
from wire.secret import Secret

LOOK = Command(b"Look", repeatable=True)
CHANGE = Command(b"Change")


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def log_in(talk: Talk) -> None:
    await talk.send(b"200 ready\r\n")
    for reply in (b"300 more\r\n", b"200 OK\r\n", b"200 OK\r\n"):
        await talk.line()
        await talk.send(reply)


async def obey(talk: Talk) -> None:
    """Logs in and answers every command with its own text."""
    await log_in(talk)
    while True:
        line = await talk.line()
        await talk.send(b"513 no\r\n" if line == b"Missing" else b"200 " + line + b"\r\n")


def make_pool(server: ScriptServer, *, size: int = 2, idle_seconds: float = 60.0, slots: Path | None = None) -> CliPool:
    return CliPool(
        server.endpoint("cli"), "postmaster", Secret(b"pw"), size=size, idle_seconds=idle_seconds, slots=slots
    )


async def test_many_commands_share_few_sessions() -> None:
    """The published migration helper opens one for each request and runs into the listener's connection limit."""
    async with serve(obey) as server:
        pool = make_pool(server, size=3)
        replies = await asyncio.gather(*(pool.run(b"Number %d" % n, deadline=soon()) for n in range(100)))
        assert [reply.text for reply in replies] == [f"Number {n}" for n in range(100)]
        assert len(server.talks) == server.most == 3
        await pool.close()


async def test_nothing_is_opened_before_it_is_needed() -> None:
    async with serve(obey) as server:
        pool = make_pool(server)
        assert not server.talks
        await pool.close()
        with pytest.raises(Temporary):
            await pool.run(b"Late", deadline=soon())


async def test_an_error_reply_keeps_the_session() -> None:
    async with serve(obey) as server:
        pool = make_pool(server)
        for _ in range(3):
            with pytest.raises(NoSuchAccount):
                await pool.run(b"Missing", deadline=soon())
        assert len(server.talks) == 1
        await pool.close()


async def test_waiters_are_served_in_order() -> None:
    async with serve(obey) as server:
        pool = make_pool(server, size=1)
        order: list[int] = []

        async def one(number: int) -> None:
            await pool.run(b"X", deadline=soon())
            order.append(number)

        await asyncio.gather(*(one(number) for number in range(20)))
        assert order == list(range(20))
        await pool.close()


async def test_each_waiter_has_its_own_deadline() -> None:
    async def slow(talk: Talk) -> None:
        await log_in(talk)
        await talk.line()
        await talk.silence()

    async with serve(slow) as server:
        pool = make_pool(server, size=1)
        first = asyncio.create_task(pool.run(b"Slow", deadline=soon(0.4)))
        await until(lambda: len(server.lines) == 4)
        with pytest.raises(SessionsExhausted, match="stayed busy"):
            await pool.run(b"Second", deadline=soon(0.05))
        assert not first.done()
        with pytest.raises(Temporary):
            await first
        await pool.close()


async def test_waiters_give_up_in_the_order_of_their_deadlines() -> None:
    """Whatever order they came in; the place goes to the one whose time has not come."""
    gate = asyncio.Event()

    async def slow(talk: Talk) -> None:
        await log_in(talk)
        await talk.line()
        await gate.wait()
        await talk.send(b"200 fine\r\n")
        await talk.line()
        await talk.send(b"200 fine\r\n")
        await talk.silence()

    async with serve(slow) as server:
        pool = make_pool(server, size=1)
        first = asyncio.create_task(pool.run(b"Slow", deadline=soon()))
        await until(lambda: len(server.lines) == 4)
        ended: list[str] = []

        async def one(name: str, seconds: float) -> None:
            try:
                await pool.run(b"X", deadline=soon(seconds))
            except SessionsExhausted:
                ended.append(name)

        patient = asyncio.create_task(one("patient", 20))
        await asyncio.gather(one("third", 0.3), one("first", 0.05), one("second", 0.15))
        assert ended == ["first", "second", "third"]
        gate.set()
        await asyncio.gather(first, patient)
        assert ended == ["first", "second", "third"]
        assert pool.sessions == (0, 1)
        await pool.close()


async def test_a_cancelled_command_gives_its_place_to_the_next() -> None:
    async def slow_once(talk: Talk) -> None:
        await log_in(talk)
        line = await talk.line()
        if line == b"Slow":
            await talk.silence()
        await talk.send(b"200 fine\r\n")
        await talk.silence()

    async with serve(slow_once) as server:
        pool = make_pool(server, size=1)
        slow = asyncio.create_task(pool.run(b"Slow", deadline=soon()))
        await until(lambda: b"Slow" in server.lines)
        waiting = [asyncio.create_task(pool.run(b"Next", deadline=soon())) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        slow.cancel()
        assert (await waiting[1]).text == "fine"
        await asyncio.gather(slow, *waiting, return_exceptions=True)
        assert pool.sessions == (0, 1)
        assert server.lines.count(b"Next") == 1
        await pool.close()


async def test_cancelled_at_every_step_no_place_is_lost() -> None:
    async with serve(obey) as server:
        pool = make_pool(server, size=1)
        for steps in range(40):
            task = asyncio.create_task(pool.run(LOOK, deadline=soon()))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert (await pool.run(LOOK, deadline=soon())).text == "Look"
        assert pool.sessions == (0, 1)
        await pool.close()


async def test_a_session_closed_while_idle_is_replaced() -> None:
    """CGP::CLI notices a dropped connection only at the next read, when the command is lost."""

    async def short(talk: Talk) -> None:
        await log_in(talk)
        await talk.send(b"200 " + await talk.line() + b"\r\n")

    async with serve(short) as server:
        pool = make_pool(server, size=1, idle_seconds=0.4)  # it looks at idle sessions each quarter of this
        for _ in range(5):
            assert (await pool.run(CHANGE, deadline=soon())).text == "Change"
            await until(lambda: pool.sessions == (0, 0))
        assert len(server.talks) == 5
        await pool.close()


async def drops_the_second(talk: Talk) -> None:
    """Hangs up on the second command of each connection instead of answering it."""
    await log_in(talk)
    await talk.send(b"200 " + await talk.line() + b"\r\n")
    await talk.line()


async def test_a_kept_session_dropped_in_silence_is_replaced_once_for_a_repeatable_command() -> None:
    async with serve(drops_the_second) as server:
        pool = make_pool(server, size=1)
        await pool.run(LOOK, deadline=soon())
        assert (await pool.run(LOOK, deadline=soon())).text == "Look"
        assert len(server.talks) == 2
        await pool.close()


async def test_a_command_that_may_have_been_done_is_not_sent_twice() -> None:
    async with serve(drops_the_second) as server:
        pool = make_pool(server, size=1)
        await pool.run(LOOK, deadline=soon())
        with pytest.raises(Temporary):
            await pool.run(CHANGE, deadline=soon())
        assert server.lines.count(b"Change") == 1
        await pool.close()


@pytest.mark.parametrize("part", [b"20", b"200 data follow\r\n", b"200 data follow\r\n{a=b;"])
async def test_a_half_reply_is_not_repeated(part: bytes) -> None:
    async def half(talk: Talk) -> None:
        await log_in(talk)
        await talk.send(b"200 " + await talk.line() + b"\r\n")
        await talk.line()
        await talk.send(part)

    async with serve(half) as server:
        pool = make_pool(server, size=1)
        await pool.run(LOOK, deadline=soon())
        with pytest.raises(Temporary):
            await pool.run(LOOK, deadline=soon())
        assert len(server.talks) == 1
        await pool.close()


async def test_a_fresh_session_is_not_tried_again() -> None:
    async def hang_up(talk: Talk) -> None:
        await log_in(talk)
        await talk.line()

    async with serve(hang_up) as server:
        pool = make_pool(server, size=1)
        with pytest.raises(Temporary):
            await pool.run(LOOK, deadline=soon())
        assert len(server.talks) == 1
        await pool.close()


async def test_old_idle_sessions_are_closed() -> None:
    async with serve(obey) as server:
        pool = make_pool(server, idle_seconds=0.05)
        await pool.run(LOOK, deadline=soon())
        await until(lambda: pool.sessions == (0, 0))
        await until(lambda: server.open == 0)
        await pool.close()


def limited(limit: int, farewell: bytes) -> Callable[[Talk], Awaitable[None]]:
    """Obeys on at most `limit` connections at once, and greets others with `farewell`."""
    busy = 0

    async def play(talk: Talk) -> None:
        nonlocal busy
        if busy >= limit:
            await talk.send(farewell)
            return
        busy += 1
        try:
            await obey(talk)
        finally:
            busy -= 1

    return play


@pytest.mark.parametrize("farewell", [b"", b"550 too many connections from your address\r\n"])
async def test_a_smaller_limit_of_the_server_means_fewer_places(farewell: bytes) -> None:
    async with serve(limited(2, farewell)) as server:
        pool = make_pool(server, size=5)
        replies = await asyncio.gather(*(pool.run(b"N %d" % n, deadline=soon()) for n in range(60)))
        assert [reply.text for reply in replies] == [f"N {n}" for n in range(60)]
        assert len(server.talks) <= 12  # and not one try for each command
        await pool.close()


async def test_a_server_that_takes_nobody_is_temporary_in_the_end() -> None:
    async with serve(limited(0, b"")) as server:
        pool = make_pool(server, size=2)
        results = await asyncio.gather(*(pool.run(LOOK, deadline=soon(0.2)) for _ in range(4)), return_exceptions=True)
        assert all(isinstance(result, Temporary) for result in results)
        assert pool.sessions == (0, 0)
        await pool.close()


async def test_a_place_comes_free_when_the_server_recovers() -> None:
    refuse = True

    async def play(talk: Talk) -> None:
        if refuse:
            return
        await obey(talk)

    async with serve(play) as server:
        pool = make_pool(server, size=1)
        task = asyncio.create_task(pool.run(LOOK, deadline=soon()))
        await until(lambda: len(server.talks) > 1)
        refuse = False
        assert (await task).text == "Look"
        await pool.close()


async def test_a_refused_login_is_told_at_once_and_not_repeated() -> None:
    async def refuse(talk: Talk) -> None:
        await talk.send(b"200 ready\r\n")
        await talk.line()
        await talk.send(b"300 more\r\n")
        await talk.line()
        await talk.send(b"514 incorrect password\r\n")
        await talk.silence()

    async with serve(refuse) as server:
        pool = make_pool(server)
        with pytest.raises(CliLoginRefused):
            await pool.run(LOOK, deadline=soon())
        assert len(server.talks) == 1
        await pool.close()


async def test_closing_wakes_those_who_wait() -> None:
    async def slow(talk: Talk) -> None:
        await log_in(talk)
        await talk.line()
        await talk.silence()

    async with serve(slow) as server:
        pool = make_pool(server, size=1)
        running = asyncio.create_task(pool.run(LOOK, deadline=soon(0.3)))
        await until(lambda: b"Look" in server.lines)
        waiting = asyncio.create_task(pool.run(LOOK, deadline=soon()))
        await asyncio.sleep(0)
        await pool.close()
        with pytest.raises(Temporary, match="closed"):
            await waiting
        with pytest.raises(Temporary):
            await running


# -- slots -------------------------------------------------------------------------------------------------------------


async def test_two_pools_keep_one_limit(tmp_path: Path) -> None:
    """Two pools with a directory in common are as two processes: flock tells their descriptors apart."""
    async with serve(obey) as server:
        pools = [make_pool(server, size=3, slots=tmp_path / "slots") for _ in range(2)]
        await asyncio.gather(*(pools[n % 2].run(b"N %d" % n, deadline=soon(20)) for n in range(200)))
        assert server.most == 3
        for pool in pools:
            await pool.close()


async def test_a_process_without_a_session_gets_one_from_an_idle_one(tmp_path: Path) -> None:
    async with serve(obey) as server:
        first, second = (make_pool(server, size=2, slots=tmp_path / "slots") for _ in range(2))
        await asyncio.gather(*(first.run(LOOK, deadline=soon()) for _ in range(4)))
        assert first.sessions == (0, 2)
        assert (await second.run(LOOK, deadline=soon())).text == "Look"
        assert server.most == 2
        await first.close()
        await second.close()


async def test_all_slots_taken_is_temporary_in_the_end(tmp_path: Path) -> None:
    slots = SlotDirectory(tmp_path, 1)
    taken = slots.try_take()
    assert taken is not None
    async with serve(obey) as server:
        pool = make_pool(server, size=1, slots=tmp_path)
        with pytest.raises(SessionsExhausted, match="other processes"):
            await pool.run(LOOK, deadline=soon(0.1))
        assert not slots.wanted
        taken.release()
        assert (await pool.run(LOOK, deadline=soon())).text == "Look"
        assert slots.try_take() is None
        await pool.close()
    again = slots.try_take()
    assert again is not None
    again.release()
    again.release()
    slots.close()


HOLDER = """
import sys, pathlib
from cli_client.slots import SlotDirectory
slot = SlotDirectory(pathlib.Path(sys.argv[1]), 1).try_take()
print(slot is not None, flush=True)
sys.stdin.read()
"""


def test_a_slot_of_a_process_that_died_is_free(tmp_path: Path) -> None:
    slots = SlotDirectory(tmp_path, 1)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        assert slots.try_take() is None
        holder.kill()
    slot = slots.try_take()
    assert slot is not None
    slot.release()


def test_slot_files_can_be_shared_where_the_directory_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o2770)
    slot = SlotDirectory(tmp_path / "slots", 1).try_take()
    assert slot is not None
    assert stat.S_IMODE((tmp_path / "slots" / "slot-0").stat().st_mode) == 0o660
    assert stat.S_IMODE((tmp_path / "slots").stat().st_mode) == 0o2770
    slot.release()
    tmp_path.chmod(0o700)
    slot = SlotDirectory(tmp_path / "own", 1).try_take()
    assert slot is not None
    assert stat.S_IMODE((tmp_path / "own" / "slot-0").stat().st_mode) == 0o600
    slot.release()


def test_a_directory_that_cannot_be_used_is_a_matter_of_set_up(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupTrouble, match="slot-0"):
        SlotDirectory(tmp_path / "file", 1).try_take()
