"""Helper and worker under two users of the system: they share the ledger, and only one can open what is sealed."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import re
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from extauth.sandbox.communigate import LoginResult
from extauth.sandbox.helper_process import HelperProcess
from extauth.sandbox.old_server import OldUser
from extauth.sandbox.world import Sandbox
from tests.servers.migration import CLIENT
from tests.servers.process import require

_ROOT = Path(__file__).resolve().parents[2]
_HELPER, _WORKER, _GROUP = 64101, 64102, 64100  # of nobody on any system; they need no entry anywhere
_PACKAGES = ("extauth", "migrator", "cli_client", "wire")


def _requirements() -> set[str]:
    """Every distribution that the programs need to run."""
    found: set[str] = set()
    waiting = ["extauth"]
    while waiting:
        for requirement in importlib.metadata.requires(waiting.pop()) or []:
            word = re.match(r"[A-Za-z0-9._-]+", requirement)
            if word is None or "extra ==" in requirement or word[0] in found:
                continue
            with suppress(importlib.metadata.PackageNotFoundError):  # its marker is of another system
                importlib.metadata.distribution(word[0])
                found.add(word[0])
                waiting.append(word[0])
    return found


def _install(directory: Path) -> None:
    """Put the programs where other users can read them; the checkout may lie in somebody's home."""
    for package in _PACKAGES:
        shutil.copytree(_ROOT / package, directory / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in _requirements():
        for file in importlib.metadata.files(name) or []:
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = directory / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.locate(), target)


def _as_user(uid: int, directory: Path, *arguments: str) -> list[str]:
    """A command line that runs our Python as `uid`, in the common group, with no rights left over."""
    setpriv = require("setpriv", "util-linux")
    rights = [f"--reuid={uid}", f"--regid={uid}", f"--groups={_GROUP}", "--bounding-set=-all", "--no-new-privs"]
    environment = [
        "/usr/bin/env",
        "--chdir=/",
        "-i",
        f"PYTHONPATH={directory / 'programs'}",
        "HOME=/nonexistent",
        "LANG=C.UTF-8",
    ]
    return [setpriv, *rights, *environment, os.path.realpath(sys.executable), *arguments]


@pytest.fixture
async def world(tmp_short: Path) -> AsyncIterator[Sandbox]:
    """A sandbox whose directory is laid out as a site with two users would have it."""
    home = tmp_short / "site"
    home.mkdir(mode=0o750)
    programs = home / "programs"
    programs.mkdir()
    _install(programs)
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
    command = _as_user(_HELPER, world.directory, "-m", "extauth", "serve", "--config", str(world.config_path))
    return await world.start_helper(command)


async def _log_in(world: Sandbox, user: OldUser) -> None:
    assert world.helper is not None
    result = await world.communigate.login(user.address, user.password, "IMAP", CLIENT)
    assert result is LoginResult.OK, world.helper.log


async def _work(world: Sandbox) -> None:
    config = str(world.config_path)
    code, output = await _run(
        *_as_user(_WORKER, world.directory, "-m", "migrator", "work", "--until-idle", "--config", config)
    )
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
    code, output = await _run(*_as_user(_HELPER, world.directory, *arguments))
    assert code != 0
    assert "seal.key" in output
    assert user.password.hex() not in output
    code, output = await _run(*_as_user(_WORKER, world.directory, *arguments))
    assert (code, output) == (0, user.password.hex())
    assert user.password not in bytes(sealed)
    readable = [path for path in world.directory.rglob("*") if path.is_file() and path.stat().st_mode & 0o004]
    assert all("programs" in path.parts for path in readable), readable
