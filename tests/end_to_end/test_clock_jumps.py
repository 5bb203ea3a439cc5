"""The wall clock of helper and worker is set by a day or by ten years, there and back: nobody is refused for it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from extauth.sandbox.communigate import CommuniGate, LoginResult
from extauth.sandbox.faults import Fault
from extauth.sandbox.world import Sandbox
from tests.end_to_end.helper_child import (
    Child,
    WallClock,
    add_account,
    communigate,
    helper,
    imap_server,
    smtp_server,
    write_config,
)
from tests.servers.migration import CLIENT, until
from tests.servers.script import serve

DAY, YEAR = 86_400, 365 * 86_400
JUMPS = [DAY, -DAY, 10 * YEAR, -10 * YEAR]


@asynccontextmanager
async def site(directory: Path, clock: WallClock) -> AsyncIterator[tuple[Child, CommuniGate]]:
    """A helper by `clock`; the old server knows addresses with `known`, and everybody's password is `right`."""
    smtp = smtp_server({b"known": b"250 fine"})
    async with communigate() as server, serve(imap_server({b"right": b"OK in"})) as old, serve(smtp) as mail:
        config = write_config(directory, cli=server.cli.port, imap=old.port, smtp=mail.port)
        async with helper(config, environ=clock.environ) as child:
            yield child, server


async def ask_all(child: Child, server: CommuniGate, part: int) -> None:
    """Everything that a helper is asked, about names that it has heard of and about new ones."""
    add_account(server, f"u{part}@d.test")
    lines = {
        b"VRFY u%d@d.test right" % part: b"OK",
        b"VRFY wrong@d.test [192.0.2.1] nope": b"ERROR",
        b"VRFY wrong%d@d.test nope" % part: b"ERROR",
        b"NEW known@d.test": b"OK",
        b"NEW known%d@d.test" % part: b"OK",
        b"NEW nobody@d.test": b"ERROR",
        b"NEW nobody%d@d.test" % part: b"ERROR",
    }
    for number, (line, expected) in enumerate(lines.items(), 100 * part):
        assert (await child.ask(b"%d %b" % (number, line))).startswith(expected), (part, line)


@pytest.mark.parametrize("jump", JUMPS)
async def test_everybody_is_answered_as_before(tmp_path: Path, jump: int) -> None:
    """What is remembered, counted and put off in the helper goes on; and no line says that anything is wrong."""
    clock = WallClock(tmp_path)
    async with site(tmp_path, clock) as (child, server):
        for part, seconds in enumerate((0, jump, jump, 0), 1):
            clock.set(seconds)
            await ask_all(child, server, part)
        for part in range(1, 5):
            account = server.account(f"u{part}@d.test")
            assert account is not None
            assert account.accepts(b"right")
        assert [line for line in child.information if b"serves 1 domain" not in line] == []
        assert await child.end() == 0


def put_off(ledger: Path) -> int:
    """How many accounts wait for a worker to repeat their adoption."""
    with closing(sqlite3.connect(ledger)) as database:
        count: int = database.execute("SELECT count(*) FROM accounts WHERE attempts > 0").fetchone()[0]
        return count


@pytest.mark.parametrize("jump", [DAY, 10 * YEAR])
async def test_a_worker_does_what_was_put_off_by_a_wrong_clock(tmp_path: Path, jump: int) -> None:
    """The helper's clock is wrong, CommuniGate takes no password over; then both are right, and the mail moves."""
    clock = WallClock(tmp_path)
    clock.set(jump)
    settings = {"worker": {"embedded": "false"}}
    async with Sandbox(users=2, domains=["one.test"], inbox=3, mailboxes=1, big=1000, settings=settings) as world:
        for user in world.users:
            world.communigate.directory.create_account(user.address, {"UseAppPassword": "NO", "UseExtPassword": "YES"})
        await world.start_helper(env=clock.environ)
        fault = world.communigate.faults.add(Fault("UPDATEACCOUNTSETTINGS", cut=True, times=None))
        for user in world.users:
            assert await world.communigate.login(user.address, user.password, "IMAP", CLIENT) is LoginResult.OK
        await until(lambda: put_off(world.state_path) == 2, what="the helper's note")
        world.communigate.faults.remove(fault)
        worker = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "migrator",
            "work",
            "--config",
            str(world.config_path),
            env={**os.environ, **clock.environ},
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            clock.set(0)
            for user in world.users:
                account = world.communigate.account(user.address)
                assert account is not None
                messages = len(user.store.inbox.messages)
                await until(lambda: len(account.store.inbox.messages) == messages, what=user.address)  # noqa: B023 - used at once
                assert account.accepts(user.password)
        finally:
            worker.terminate()
            await worker.wait()
