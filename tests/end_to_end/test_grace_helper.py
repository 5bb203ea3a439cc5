"""Grace between the simulated servers, with the real helper: what users see at their logins, and `migrator keygen`."""

from __future__ import annotations

import asyncio
import sys

from extauth.sandbox.communigate import LoginResult
from extauth.sandbox.world import DomainPlan, Sandbox

OK, WRONG = LoginResult.OK, LoginResult.WRONG


async def keygen(world: Sandbox) -> int | None:
    """As an administrator who has just set `grace`; the sealing keys are there already."""
    command = [sys.executable, "-m", "migrator", "keygen", "--config", str(world.config_path)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    return await process.wait()


async def test_users_who_change_their_password_at_either_server() -> None:
    """One at the old server: the newer one counts. One at CommuniGate: nothing of the old server's does."""
    plan = DomainPlan("one.test", after_login="nothing", settings={"grace": '"14d"'})
    places = {"state": {"digest_key_file": '"digest.key"'}, "worker": {"embedded": "false"}}
    async with Sandbox(users=2, domains=[plan], inbox=0, mailboxes=0, each=0, settings=places) as world:
        assert await keygen(world) == 0
        await world.start_helper()
        server, (ann, bob) = world.communigate, world.users
        for user in (ann, bob):
            assert await server.login(user.address, user.password) is OK
        first = ann.password
        ann.password = b"newer at the old server"
        assert await server.login(ann.address, ann.password) is OK
        assert server.logins[-1].asked == "OK"
        assert await server.login(ann.address, ann.password) is OK
        assert server.logins[-1].asked == "", "CommuniGate knows it by itself"
        assert await server.login(ann.address, first) is WRONG
        account = server.account(bob.address)
        assert account is not None
        server.directory.update_account(account, {"Password": "newer at CommuniGate"})
        assert await server.login(bob.address, bob.password) is WRONG
        bob.password = b"and another"
        assert await server.login(bob.address, bob.password) is WRONG
        assert await server.login(bob.address, b"newer at CommuniGate") is OK
