"""What the README tells a stranger to type works: its commands exist, its links lead somewhere, its lines move joe."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from extauth.sandbox.communigate import LoginResult
from extauth.sandbox.world import DomainPlan, Sandbox
from migrator.worker_lock import read_holder
from tests.servers.migration import CLIENT, until

_ROOT = Path(__file__).resolve().parents[2]
_README = (_ROOT / "README.md").read_text("utf-8")
_PAGES = sorted([*_ROOT.glob("*.md"), *_ROOT.glob("deploy/*.md")])
_BIN = Path(sys.executable).parent


async def _run(*command: str, cwd: Path = _ROOT, stdin: bytes = b"") -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, output.decode("utf-8", "replace")


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of the documents names a file that is there."""
    targets = re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []


def _commands() -> list[tuple[str, ...]]:
    """Every command of the README's table, as argument lists: `extauth serve`, `check-config` are two of `extauth`."""
    found: list[tuple[str, ...]] = []
    for cell in re.findall(r"^\| (`[^|]+) \|", _README, re.MULTILINE):
        program = ""
        for words in (name.split() for name in re.findall(r"`([^`]+)`", cell)):
            if len(words) == 1 and program and words[0].islower() and "-helper" not in words[0]:
                words = [program, *words]  # noqa: PLW2901 - the table leaves the program out
            program = words[0]
            found.append(tuple(words))
    return [words for words in found if words != ("extauth-helper",)]  # that one takes no arguments


@pytest.mark.parametrize("words", _commands(), ids=" ".join)
async def test_command_of_the_table_exists(words: tuple[str, ...]) -> None:
    """Each command explains itself; the guide's three have no flag for it and do so when they are called wrongly."""
    code, output = await _run(str(_BIN / words[0]), *words[1:], "--help")
    assert code in ((0, 64) if words[0].startswith("Move") else (0,)), output
    assert "usage" in output.lower()


@pytest.fixture
async def world() -> AsyncIterator[Sandbox]:
    """A CommuniGate with example.com, not set up for external authentication yet, and an old server with joe."""
    async with Sandbox(users=0, domains=[DomainPlan("example.com")]) as sandbox:
        domain = sandbox.communigate.directory.domains["example.com"]
        domain.settings.pop("ExternalOnUnknown")
        for key in ("UseAppPassword", "UseExtPassword"):
            domain.account_template.pop(key)
        user = sandbox.old.add_user("joe@example.com", b"joe's secret")
        user.store.inbox.add(b"Subject: moved\r\n\r\nbody\r\n")
        yield sandbox


def _ten_lines() -> list[str]:
    block = re.search(r"```sh\n(python3 -m venv.*?)```", _README, re.DOTALL)
    assert block is not None
    return block[1].splitlines()


async def test_ten_lines_lead_to_the_first_migrated_user(world: Sandbox, tmp_short: Path) -> None:
    """Each line as it stands, with the paths moved under a directory of ours and the editor replaced by its result."""
    etc, state, log = (tmp_short / name / "extauth" for name in ("etc", "var/lib", "var/log"))
    for directory in (etc, state, log):
        directory.parent.mkdir(parents=True)
    settings = world.config_text().replace('"seal.', f'"{etc}/seal.').replace('"log/', f'"{log}/')
    settings = settings.replace(str(world.state_path.parent), str(state))
    written = {"extauth.toml": settings.encode(), "cli.password": (world.directory / "cli.password").read_bytes()}
    said = []
    for line in _ten_lines()[1:]:  # the first builds the environment that this test runs in
        command = re.sub(r"(?<![\w/])(?=/(?:etc|var)/)", str(tmp_short), line.partition("  #")[0])
        command = command.replace("/opt/extauth/bin", str(_BIN))
        edited = re.search(r"\$EDITOR \S*/([a-z.]+)", command)
        if edited:
            path = etc / edited[1]
            path.touch(mode=0o600)
            path.write_bytes(written[edited[1]])
            continue
        code, output = await _run("/bin/sh", "-c", command, stdin=b"joe's secret\n")
        assert code == 0, (command, output)
        said.append(output)
    assert "joe@example.com" in said[-2]

    helper = [str(_BIN / "extauth"), "serve", "--config", str(etc / "extauth.toml")]
    await world.start_helper(helper)
    try:
        result = await world.communigate.login("joe@example.com", b"joe's secret", "IMAP", CLIENT)
        assert result is LoginResult.OK
        account = world.communigate.account("joe@example.com")
        assert account is not None
        await until(lambda: len(account.store.inbox.messages) == 1, what="joe's mail")
        code, output = await _run(str(_BIN / "extauth"), "status", "--config", str(etc / "extauth.toml"))
        assert code == 0, output
    finally:
        holder = read_holder(state)
        if holder is not None and holder.pid:  # the worker outlives the helper that started it
            os.kill(holder.pid, signal.SIGTERM)
            await until(lambda: read_holder(state) is None, what="the worker's end")
