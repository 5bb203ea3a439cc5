"""Fifty users with odd passwords move at once, between real servers, by the real programs."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from extauth.sandbox.communigate import LoginResult
from tests.servers.migration import CLIENT, Migration, Mover, make_movers, traces, until

_USERS = 50


@contextmanager
def _watched_processes() -> Iterator[set[bytes]]:
    """Argument lists and environments of every process that is there while the block runs."""
    seen: set[bytes] = set()
    looks: Counter[str] = Counter()
    end = threading.Event()

    def look() -> None:
        while not end.wait(0.02):
            for pid in filter(str.isdigit, os.listdir("/proc")):
                looks[pid] += 1
                if looks[pid] > 3:  # before and after its exec, and once more
                    continue
                for name in ("cmdline", "environ"):
                    with suppress(OSError):
                        seen.add(Path(f"/proc/{pid}/{name}").read_bytes())

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        end.set()
        watcher.join()


@pytest.fixture
async def world() -> AsyncIterator[Migration]:
    """The servers, filled; the helper, started."""
    async with Migration(make_movers(_USERS)) as migration:
        yield migration


@pytest.mark.timeout(300)
async def test_fifty_users_move_at_once(world: Migration) -> None:
    """Everybody's mail, then everybody's login; nothing is lost, doubled, taken for right or leaked."""
    with _watched_processes() as processes:
        await _mail_makes_accounts(world)
        await _wrong_passwords_are_refused(world)
        await _everybody_logs_in(world)
        await _mail_has_arrived(world)
        await _a_second_login_adds_nothing(world)
    await world.helper.stop()
    await world.stop_worker()
    _no_password_anywhere(world, processes)
    assert world.helper.violations == []
    assert bytes(world.helper.stderr) == b""
    assert world.helper.starts == 1


async def _mail_makes_accounts(world: Migration) -> None:
    """NEW for half of the users and for strangers, all at once: known ones become accounts, strangers bounce."""
    known = [mover.address for mover in world.movers[::2]]
    strangers = [f"nobody{number}@imap.test" for number in range(10)]
    replies = await asyncio.gather(
        *(world.communigate.mail_arrives("", address, b"Subject: x\r\n\r\n", CLIENT) for address in known + strangers)
    )
    assert Counter(reply.code for reply in replies[: len(known)]) == {250: len(known)}
    assert Counter(reply.code for reply in replies[len(known) :]) == {550: len(strangers)}


async def _wrong_passwords_are_refused(world: Migration) -> None:
    """A right password with one byte more, and an empty one."""
    results = await asyncio.gather(
        *(world.communigate.login(mover.address, mover.wrong, "IMAP", CLIENT) for mover in world.movers[::5]),
        *(world.communigate.login(mover.address, b"", "IMAP", CLIENT) for mover in world.movers[1::5]),
    )
    assert Counter(results) == {LoginResult.WRONG: len(results)}
    for mover in world.movers:
        account = world.communigate.account(mover.address)
        assert account is None or account.settings.get("Password") is None


async def _everybody_logs_in(world: Migration) -> None:
    """All at once, the unheard-of half included; afterwards CommuniGate knows everybody's password."""

    async def log_in(mover: Mover) -> LoginResult:
        return await world.communigate.login(mover.address, mover.password, "POP" if mover.by_pop else "IMAP", CLIENT)

    results = await asyncio.gather(*(log_in(mover) for mover in world.movers))
    assert Counter(results) == {LoginResult.OK: _USERS}, world.helper.log
    await until(lambda: all(_adopted(world, mover) for mover in world.movers), 60, "accounts not taken over")


def _adopted(world: Migration, mover: Mover) -> bool:
    account = world.communigate.account(mover.address)
    return (
        account is not None
        and account.accepts(mover.password)
        and account.option("UseAppPassword")
        and not account.option("UseExtPassword")
    )


async def _mail_has_arrived(world: Migration) -> None:
    """Every mailbox, message, flag and date, each once; nothing else."""
    await until(lambda: world.jobs() == {"done": _USERS}, 120, "copies not done")
    for mover in world.movers:
        source, target = await asyncio.to_thread(_both_sides, world, mover)
        assert source == target, mover.address


def _both_sides(world: Migration, mover: Mover) -> tuple[object, object]:
    return world.mail(world.old, mover), world.mail(world.target, mover)


async def _a_second_login_adds_nothing(world: Migration) -> None:
    """A repeated request and a login that CommuniGate answers itself change neither jobs nor mail."""
    asked = world.helper.answered
    results = await asyncio.gather(
        *(world.communigate.login(mover.address, mover.password, "IMAP", CLIENT) for mover in world.movers)
    )
    assert Counter(results) == {LoginResult.OK: _USERS}
    assert world.helper.answered == asked
    replies = await asyncio.gather(
        *(world.helper.verify(mover.address, mover.password, "IMAP", CLIENT) for mover in world.movers)
    )
    assert Counter(reply.word for reply in replies) == {"OK": _USERS}
    assert world.jobs() == {"done": _USERS}
    for mover in world.movers[::7]:
        source, target = await asyncio.to_thread(_both_sides, world, mover)
        assert source == target, mover.address


def _no_password_anywhere(world: Migration, processes: set[bytes]) -> None:
    """No log, no byte of the ledger, no argument list and no environment holds a password in any usual writing."""
    files = {path: path.read_bytes() for path in world.directory.rglob("*") if path.is_file()}
    assert world.ledger in files
    assert any(path.suffix == ".log" for path in files)
    assert processes
    said = "\n".join([*world.helper.log, *(f"{level} {line}" for level, line in world.communigate.log)]).encode()
    places = {"CommuniGate's log": said, "a process": b"\n".join(processes), **{str(p): d for p, d in files.items()}}
    for mover in world.movers:
        for trace in traces(mover.token):
            leaks = [place for place, content in places.items() if trace in content]
            assert leaks == [], f"the password of {mover.address}"
