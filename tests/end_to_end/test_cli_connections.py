"""`connections` of [communigate] holds for helper, worker and a person's commands together, as processes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from cli_client.slots import SlotDirectory
from tests.end_to_end.helper_child import (
    DOMAIN,
    add_account,
    communigate,
    helper,
    imap_server,
    smtp_server,
    write_config,
)
from tests.servers.script import serve, until

TRY_LATER = 75


async def run(*words: object) -> tuple[int, str]:
    """The exit code of one of our programs, and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *map(str, words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await process.communicate()
    finally:  # also where the test has failed meanwhile
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]  # else -W error finds it open later
    assert process.returncode is not None
    return process.returncode, said.decode()


@asynccontextmanager
async def ended(task: asyncio.Task[tuple[int, str]]) -> AsyncIterator[None]:
    """However the test goes, what `task` runs does not outlive it."""
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def rows(directory: Path, count: int) -> Path:
    path = directory / "rows"
    names = "".join(f"made{n}\t{{SHA}}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n" for n in range(count))
    path.write_text(f"Name\tUnixPassword\n{names}")
    return path


@pytest.mark.parametrize("connections", [2, 3])
async def test_an_import_beside_the_helper_leaves_it_its_session(tmp_path: Path, connections: int) -> None:
    """While hundreds of accounts are made, users log in and move; CommuniGate never sees a session more."""
    smtp = smtp_server({b"u": b"250 fine"})
    async with communigate() as server, serve(imap_server({b"right": b"OK in"})) as old, serve(smtp) as mail:
        for number in range(20):
            add_account(server, f"u{number}@{DOMAIN}")
        config = write_config(
            tmp_path,
            cli=server.cli.port,
            imap=old.port,
            smtp=mail.port,
            communigate=f"connections = {connections}",
        )
        arguments = ("--format", "tab", "--domain", DOMAIN, "--apply", "--jobs", 20, "--config", config)
        importing = asyncio.create_task(run("migrator", "accounts", rows(tmp_path, 300), *arguments))
        async with ended(importing), helper(config) as child:
            await until(lambda: server.account(f"made9@{DOMAIN}") is not None, seconds=30)
            for number in range(20):
                assert await child.ask(b"%d VRFY u%d@d.test right" % (number, number)) == b"OK"
                account = server.account(f"u{number}@{DOMAIN}")
                assert account is not None
                assert account.accepts(b"right"), "it is taken over at once"
            code, said = await importing
            assert code == 0, said
            assert not [line for line in child.information if b"serves" not in line]
        assert server.account(f"made299@{DOMAIN}") is not None
        assert server.cli.most_sessions <= connections


async def test_where_all_are_taken_a_command_says_so_and_ends(tmp_path: Path) -> None:
    """With 75, after some seconds; `left` as well. What it did not begin is as it was."""
    async with communigate() as server:
        config = write_config(tmp_path, cli=server.cli.port, communigate="connections = 3")
        held = [SlotDirectory(tmp_path / "state" / "cli-sessions", 3).try_take() for _ in range(3)]
        (tmp_path / "aliases").write_text("a: b\n")
        more = ("--config", config)
        commands = (
            ("migrator", "accounts", rows(tmp_path, 3), "--format", "tab", "--domain", DOMAIN, "--apply", *more),
            ("migrator", "aliases", "--aliases", tmp_path / "aliases", "--domain", DOMAIN, *more),
            ("migrator", "left", *more),
            ("extauth", "try", f"u@{DOMAIN}", *more),
        )
        for words, (code, said) in zip(commands, await asyncio.gather(*[run(*c) for c in commands]), strict=True):
            assert "all sessions that we may have are in use by other processes" in said, (words, said)
            assert code == TRY_LATER, (words, said)
        held[1].release()  # type: ignore[union-attr]  # it was free
        assert (await run("migrator", "left", *more))[0] in (0, 1)
        assert server.cli.most_sessions == 1
        assert server.account(f"made1@{DOMAIN}") is None


async def test_one_connection_is_shared_in_turn(tmp_path: Path) -> None:
    """Where there is one in all, nobody can be left another: the helper gives it up while it is idle."""
    async with communigate() as server, serve(imap_server({b"right": b"OK in"})) as old:
        add_account(server, f"u@{DOMAIN}")
        config = write_config(tmp_path, cli=server.cli.port, imap=old.port, communigate="connections = 1")
        async with helper(config) as child:
            assert await child.ask(b"1 VRFY u@d.test right") == b"OK"
            code, said = await run("migrator", "left", "--config", config)
            assert code in (0, 1), said
            assert server.cli.most_sessions == 1


async def test_before_there_is_a_state_directory_an_import_counts_with_nobody(tmp_path: Path) -> None:
    """Accounts may be made before anything else of ours is set up."""
    async with communigate() as server:
        config = write_config(tmp_path, cli=server.cli.port)
        (tmp_path / "state").rmdir()
        arguments = ("--format", "tab", "--domain", DOMAIN, "--apply", "--config", config)
        code, said = await run("migrator", "accounts", rows(tmp_path, 3), *arguments)
        assert code == 0, said
        assert server.account(f"made2@{DOMAIN}") is not None
