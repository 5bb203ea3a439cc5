"""kill -9 of the helper at every step between a request and its answer; CommuniGate starts it again and asks again.

The steps are not listed here: the n-th command that the helper sends is made to hang, for n from 0 until a request
goes through without reaching it. Each command once before it takes effect and once after.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing

import pytest

from extauth.sandbox.communigate import CommuniGate, LoginResult
from extauth.sandbox.faults import ANY, Fault, Faults
from extauth.sandbox.helper_process import HelperProcess
from extauth.sandbox.old_server import OldUser
from extauth.sandbox.world import DomainPlan, Sandbox
from tests.servers.migration import CLIENT, until

_MOST_STEPS = 40  # a dialogue never has so many commands: the search ends


def _world(users: int, verify: str = "imap") -> Sandbox:
    return Sandbox(
        users=users,
        domains=[DomainPlan("one.test", verify=verify)],
        inbox=0,
        mailboxes=0,
        settings={"worker": {"embedded": "false"}},
    )


def _jobs(world: Sandbox) -> Counter[str]:
    if not world.state_path.exists():
        return Counter()
    with closing(sqlite3.connect(f"file:{world.state_path}?mode=ro", uri=True)) as database:
        return Counter(account for (account,) in database.execute("SELECT account FROM jobs"))


async def _kill_at_each_step(
    world: Sandbox, faults: Faults, executed: bool, ask: Callable[[OldUser], Awaitable[bool]], *, warm: bool = False
) -> int:
    """Kill at step 0, 1, 2 ... of a request; each must be answered rightly all the same. How many steps there were.

    The helper is a new one at every step, or (`warm`) has the connections that the last request left it.
    """
    helper = await world.start_helper(restart_pause=0.01)
    for step, user in zip(range(_MOST_STEPS), world.users, strict=False):
        if step and not warm:
            await _restart(helper)
        starts = helper.starts
        fault = faults.add(Fault(ANY, hang=True, executed=executed, skip=step))
        asked = asyncio.ensure_future(ask(user))
        await until(lambda: fault.hits > 0 or asked.done(), what=f"step {step}")  # noqa: B023 - used at once
        struck = fault.hits > 0
        if struck:
            helper.kill()
        assert await asked, (step, helper.log)
        faults.remove(fault)
        if struck:  # a parting command comes after the answer: then there is nothing to send again
            await until(lambda: helper.starts > starts, what="a new helper")  # noqa: B023 - used at once
        assert helper.starts == starts + struck
        assert helper.violations == []
        if not struck:
            return step
    pytest.fail(f"a request takes more than {_MOST_STEPS} commands")


async def _restart(helper: HelperProcess) -> None:
    starts = helper.starts
    helper.kill()
    await until(lambda: helper.starts > starts, what="a new helper")


def _is_adopted(communigate: CommuniGate, user: OldUser) -> bool:
    account = communigate.account(user.address)
    assert account is not None
    return account.accepts(user.password) and account.option("UseAppPassword") and not account.option("UseExtPassword")


@pytest.mark.parametrize("executed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("warm", [False, True], ids=["new", "warm"])
@pytest.mark.parametrize("server", ["cli", "imap", "pop"])
async def test_login_survives_kill_9_at_every_step(server: str, warm: bool, executed: bool) -> None:
    """VRFY: the user gets in, there is one job, and the account is taken over with the right password."""
    verify = "pop" if server == "pop" else "imap"
    async with _world(_MOST_STEPS, verify=verify) as world:
        for user in world.users:
            account = world.communigate.directory.create_account(user.address, {})
            assert account.option("UseExtPassword")
        faults = {"cli": world.communigate.faults, "imap": world.old.imap.faults, "pop": world.old.pop.faults}[server]

        async def log_in(user: OldUser) -> bool:
            return await world.communigate.login(user.address, user.password, "IMAP", CLIENT) is LoginResult.OK

        steps = await _kill_at_each_step(world, faults, executed, log_in, warm=warm)
        users = world.users[: steps + 1]
        assert steps >= {"cli": 4, "imap": 1, "pop": 2}[server]
        await until(lambda: all(_is_adopted(world.communigate, user) for user in users), what="accounts to take over")
        assert _jobs(world) == {user.address: 1 for user in users}


@pytest.mark.parametrize("executed", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("warm", [False, True], ids=["new", "warm"])
@pytest.mark.parametrize("server", ["cli", "smtp"])
async def test_new_survives_kill_9_at_every_step(server: str, warm: bool, executed: bool) -> None:
    """NEW: mail for a known user makes one account, on external authentication, and is delivered once."""
    async with _world(_MOST_STEPS) as world:
        faults = world.communigate.faults if server == "cli" else world.old.smtp.faults

        async def mail(user: OldUser) -> bool:
            arrived = await world.communigate.mail_arrives("", user.address, b"Subject: once\r\n\r\n", CLIENT)
            return arrived.code == 250

        steps = await _kill_at_each_step(world, faults, executed, mail, warm=warm)
        assert steps >= (1 if warm else 3)
        for user in world.users[: steps + 1]:
            account = world.communigate.account(user.address)
            assert account is not None
            assert not account.option("UseAppPassword")
            assert account.option("UseExtPassword")
            assert [message.data for message in account.store.inbox.messages] == [b"Subject: once\r\n\r\n"]


@pytest.mark.parametrize("executed", [False, True], ids=["before", "after"])
async def test_unknown_user_stays_unknown_after_kill_9(executed: bool) -> None:
    """NEW for a stranger: killed at any step, the answer is still no, and no account is made."""
    async with _world(_MOST_STEPS) as world:

        async def mail(user: OldUser) -> bool:
            name = f"nobody-{user.address}"
            arrived = await world.communigate.mail_arrives("", name, b"Subject: x\r\n\r\n", CLIENT)
            return arrived.code == 550 and world.communigate.account(name) is None

        assert await _kill_at_each_step(world, world.old.smtp.faults, executed, mail) >= 3


@pytest.mark.parametrize("executed", [False, True], ids=["before", "after"])
async def test_wrong_password_stays_wrong_after_kill_9(executed: bool) -> None:
    """VRFY with a wrong password: killed at any step, never a way in, no job, no password in the account."""
    async with _world(_MOST_STEPS) as world:
        for user in world.users:
            world.communigate.directory.create_account(user.address, {})

        async def log_in(user: OldUser) -> bool:
            result = await world.communigate.login(user.address, user.password + b"x", "IMAP", CLIENT)
            account = world.communigate.account(user.address)
            return result is LoginResult.WRONG and account is not None and "Password" not in account.settings

        await _kill_at_each_step(world, world.old.imap.faults, executed, log_in)
        assert _jobs(world) == {}
