"""Helper and worker under two users of the system: they share the ledger, and only one can open what is sealed."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from extauth.sandbox.communigate import LoginResult
from extauth.sandbox.helper_process import HelperProcess
from extauth.sandbox.old_server import OldUser
from extauth.sandbox.world import Sandbox
from tests.servers.migration import CLIENT
from tests.servers.programs import as_user

_HELPER, _WORKER, _GROUP = 64101, 64102, 64100  # of nobody on any system; they need no entry anywhere


def _as_user(uid: int, *arguments: str) -> list[str]:
    return as_user(uid, _GROUP, *arguments)


@pytest.fixture
async def world(tmp_short: Path) -> AsyncIterator[Sandbox]:
    """A sandbox whose directory is laid out as a site with two users would have it."""
    home = tmp_short / "site"
    home.mkdir(mode=0o750)
    settings = {"worker": {"embedded": "false"}}
    async with Sandbox(
        users=4, domains=["one.test"], inbox=10, big=10_000, directory=home, settings=settings
    ) as sandbox:
        os.chown(home, 0, _GROUP)
        for name in ("state", "log"):
            os.chown(home / name, 0, _GROUP)
            (home / name).chmod(0o2770)
        for name in ("extauth.toml", "cli.password", "seal.pub"):
            os.chown(home / name, 0, _GROUP)
            (home / name).chmod(0o640)
        os.chown(home / "seal.key", _WORKER, _WORKER)
        yield sandbox


async def _run(*command: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd="/"
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode("utf-8", "replace")


async def _start_helper(world: Sandbox) -> HelperProcess:
    command = _as_user(_HELPER, "-m", "extauth", "serve", "--config", str(world.config_path))
    return await world.start_helper(command)


async def _log_in(world: Sandbox, user: OldUser) -> None:
    assert world.helper is not None
    result = await world.communigate.login(user.address, user.password, "IMAP", CLIENT)
    assert result is LoginResult.OK, world.helper.log


async def _work(world: Sandbox) -> None:
    config = str(world.config_path)
    code, output = await _run(*_as_user(_WORKER, "-m", "migrator", "work", "--until-idle", "--config", config))
    assert code == 0, output


def _has_arrived(world: Sandbox, user: OldUser) -> bool:
    account = world.communigate.account(user.address)
    assert account is not None
    return len(account.store.inbox.messages) == len(user.store.inbox.messages) > 0


async def test_helper_and_worker_share_the_ledger_and_not_the_key(world: Sandbox) -> None:
    """Whoever comes first makes the files; the other, and root's tools in between, can go on with them."""
    first, second, third, fourth = world.users
    helper = await _start_helper(world)
    await _log_in(world, first)
    await _work(world)
    assert _has_arrived(world, first)
    await _log_in(world, second)
    assert await helper.stop() == 0

    code, output = await _run(sys.executable, "-m", "extauth", "status", "--config", str(world.config_path))
    assert code == 0, output  # as root, with nobody else there: it makes -wal and -shm

    await _work(world)
    assert _has_arrived(world, second)
    helper = await _start_helper(world)
    await _log_in(world, third)
    await _log_in(world, fourth)
    await _work(world)
    assert _has_arrived(world, third)
    assert _has_arrived(world, fourth)
    owners = {path.name: path.stat().st_uid for path in world.state_path.parent.iterdir()}
    assert _HELPER in owners.values(), owners


async def test_helper_user_cannot_open_what_it_sealed(world: Sandbox) -> None:
    """The helper's user reads the ledger, but not the key; nothing it can read opens a password."""
    helper = await _start_helper(world)
    user = world.users[0]
    await _log_in(world, user)
    await helper.stop()
    with closing(sqlite3.connect(world.state_path)) as database:
        (sealed,) = database.execute("SELECT sealed FROM logins").fetchone()
    program = (
        "import sys, pathlib; from migrator.seal import Opener\n"
        "blob = bytes.fromhex(sys.argv[2])\n"
        "sys.stdout.write(Opener(pathlib.Path(sys.argv[1])).open(blob, sys.argv[3]).reveal().hex())\n"
    )
    arguments = ("-c", program, str(world.directory / "seal.key"), bytes(sealed).hex(), user.address)
    code, output = await _run(*_as_user(_HELPER, *arguments))
    assert code != 0
    assert "seal.key" in output
    assert user.password.hex() not in output
    code, output = await _run(*_as_user(_WORKER, *arguments))
    assert (code, output) == (0, user.password.hex())
    assert user.password not in bytes(sealed)
    readable = [path for path in world.directory.rglob("*") if path.is_file() and path.stat().st_mode & 0o004]
    assert readable == []
