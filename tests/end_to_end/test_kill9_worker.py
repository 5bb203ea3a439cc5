"""kill -9 of the worker in the middle of copies: the next worker goes on, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter

import pytest

from extauth.sandbox.communigate import LoginResult
from extauth.sandbox.faults import Fault, Faults
from extauth.sandbox.mailstore import MailStore
from extauth.sandbox.old_server import OldUser
from extauth.sandbox.world import DomainPlan, Sandbox
from migrator.worker_lock import read_holder
from tests.servers.migration import CLIENT, until

_SKIPS = (0, 1, 7, 20)  # how many commands of a kind go well before the one that hangs


async def _worker(world: Sandbox) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "migrator", "work", "--until-idle", "--config", str(world.config_path)]
    return await asyncio.create_subprocess_exec(*command)


def _mail(store: MailStore, by_pop: bool) -> dict[bytes, Counter[tuple[object, ...]]]:
    """For each mailbox, with `/` between levels, how often each message is in it."""
    found: dict[bytes, Counter[tuple[object, ...]]] = {}
    for box in store:
        messages: Counter[tuple[object, ...]] = Counter()
        for message in box.messages:
            more = () if by_pop else (frozenset(message.flags), message.date.timestamp())
            messages[(message.data, *more)] += 1
        found[box.name.replace(store.separator, b"/")] = messages
    return {name: messages for name, messages in found.items() if messages}


def _both_sides(world: Sandbox, user: OldUser, by_pop: bool) -> tuple[object, object]:
    account = world.communigate.account(user.address)
    assert account is not None
    source = _mail(user.store, by_pop)
    if by_pop:
        source = {name: messages for name, messages in source.items() if name == b"INBOX"}
    return source, _mail(account.store, by_pop)


def _faults(world: Sandbox, side: str, by_pop: bool) -> Faults:
    if side == "target":
        return world.communigate.imap.faults
    return world.old.pop.faults if by_pop else world.old.imap.faults


@pytest.mark.parametrize("executed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("copy", "side", "verb"),
    [
        ("imap", "target", "APPEND"),
        ("imap", "target", "CREATE"),
        ("imap", "source", "UID"),
        ("pop", "target", "APPEND"),
        ("pop", "source", "RETR"),
    ],
)
async def test_killed_worker_is_followed_by_one_that_goes_on(copy: str, side: str, verb: str, executed: bool) -> None:
    """The command that hangs has taken effect or not; either way each message is there once in the end."""
    by_pop = copy == "pop"
    async with Sandbox(
        users=len(_SKIPS),
        domains=[DomainPlan("one.test", copy=copy, verify=copy)],
        inbox=40,
        mailboxes=3,
        each=10,
        big=20_000,
        settings={"worker": {"embedded": "false", "copies": "1"}},
    ) as world:
        await world.start_helper()
        faults = _faults(world, side, by_pop)
        for skip, user in zip(_SKIPS, world.users, strict=True):
            assert await world.communigate.login(user.address, user.password, "IMAP", CLIENT) is LoginResult.OK
            fault = faults.add(Fault(verb, hang=True, executed=executed, skip=skip))
            killed = await _worker(world)
            await until(lambda: fault.hits > 0 or killed.returncode is not None, what=verb)  # noqa: B023 - used at once
            if fault.hits:
                killed.kill()
            await killed.wait()
            faults.remove(fault)
            following = await _worker(world)
            assert await following.wait() == 0
            source, target = _both_sides(world, user, by_pop)
            assert source == target, (user.address, skip)


async def test_embedded_worker_is_started_again() -> None:
    """The helper finds its worker dead, starts another, and the copy is finished; the helper itself lives on."""
    async with Sandbox(users=1, domains=["one.test"], inbox=30, big=20_000) as world:
        helper = await world.start_helper()
        (user,) = world.users
        fault = world.communigate.imap.faults.add(Fault("APPEND", hang=True, executed=True, skip=2))
        assert await world.communigate.login(user.address, user.password, "IMAP", CLIENT) is LoginResult.OK
        await until(lambda: fault.hits > 0, what="an APPEND")
        _kill_worker(world)
        await until(lambda: _equal(world, user), 60, "the copy of the next worker")
        assert helper.starts == 1


def _kill_worker(world: Sandbox) -> None:
    holder = read_holder(world.state_path.parent)
    assert holder is not None
    os.kill(holder.pid, signal.SIGKILL)


def _equal(world: Sandbox, user: OldUser) -> bool:
    source, target = _both_sides(world, user, False)
    return source == target
