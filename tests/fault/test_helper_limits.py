"""The whole helper when the machine lets it down and recovers: full disks, no descriptors, signals, a closed stdout.

The limits of a process (prlimit) stand in for a full disk and a full table of files: any user may set them, in any
container, and take them back.
"""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from extauth.sandbox.communigate import CommuniGate
from tests.end_to_end.helper_child import (
    Child,
    add_account,
    beginning_with,
    communigate,
    helper,
    imap_server,
    smtp_server,
    write_config,
)
from tests.servers.script import Talk, serve, until

_WRONG = b"ERROR NO [AUTHENTICATIONFAILED] wrong"
_YES = b"OK"


@asynccontextmanager
async def world(tmp_path: Path, users: int = 40) -> AsyncIterator[tuple[Child, CommuniGate]]:
    """A helper between a CommuniGate with accounts u0, u1... on external authentication and their old server."""
    answers = {b"right": b"OK in"}
    async with communigate() as server, serve(imap_server(answers)) as imap, serve(smtp_server({})) as smtp:
        for number in range(users):
            add_account(server, f"u{number}@d.test")
        config = write_config(tmp_path, cli=server.cli.port, imap=imap.port, smtp=smtp.port)
        async with helper(config) as child:
            assert await child.ask(b"1 INTF 7") == b"INTF 7"
            yield child, server


@contextmanager
def limited(child: Child, limit: int, most: int) -> Iterator[None]:
    """The helper may have no more than `most` of `limit`."""
    before = resource.prlimit(child.process.pid, limit)
    resource.prlimit(child.process.pid, limit, (most, before[1]))
    try:
        yield
    finally:
        resource.prlimit(child.process.pid, limit, before)


async def log_in(child: Child, number: int, user: int, password: bytes = b"right") -> bytes:
    """The reply to one VRFY."""
    return await child.ask(b"%d VRFY u%d@d.test %b" % (number, user, password))


async def test_a_full_disk_under_log_and_ledger_costs_nobody_the_login(tmp_path: Path) -> None:
    """One line for each, and both are used again by themselves."""
    async with world(tmp_path) as (child, server):
        assert await log_in(child, 2, 0) == _YES
        with limited(child, resource.RLIMIT_FSIZE, 100):
            for user in range(1, 12):
                assert await log_in(child, 10 + user, user) == _YES
                assert (await log_in(child, 30 + user, user, b"else")).startswith(b"ERROR ")
            account = server.account("u1@d.test")
            assert account is not None
            assert account.settings["UseExtPassword"] == "YES", "nothing is set before the ledger has it"
            await child.told(b"cannot write to the log")
        number = 100
        while not any(b"is written again" in line for line in child.information):
            number += 1
            assert await log_in(child, number, number % 12) == _YES
        assert await log_in(child, 99, 1) == _YES
        assert account.accepts(b"right")
        for text, count in ((b"cannot write to the log", 1), (b"could not be saved", 1), (b"takes logins again", 1)):
            assert sum(text in line for line in child.information) == count, child.information
        assert await child.end() == 0
    for line in (tmp_path / "helper.log").read_bytes().splitlines()[-3:]:
        assert json.loads(line)


async def test_no_descriptors_left_is_failure_and_nobodys_fault(tmp_path: Path) -> None:
    """Everybody is told to try again; the old server's breaker stays closed, and all goes on when there are some."""
    async with world(tmp_path) as (child, _server):
        assert await log_in(child, 2, 0) == _YES
        with limited(child, resource.RLIMIT_NOFILE, 8):
            lines = [b"%d VRFY u%d@d.test right\n%d NEW u%d@d.test\n" % (n, n, 50 + n, n) for n in range(10, 30)]
            await child.send(b"".join(lines))
            for number in range(10, 30):
                assert (await child.reply(number)).startswith(b"FAILURE ")
                assert (await child.reply(50 + number)).startswith((b"FAILURE ", b"OK"))
            assert await child.ask(b"3 INTF 7") == b"INTF 7"
        for number in range(10, 30):
            assert await log_in(child, 200 + number, number) == _YES
        assert not any(b"does not work" in line for line in child.information), child.information
        assert await child.end() == 0


async def test_a_first_request_without_descriptors_is_answered(tmp_path: Path) -> None:
    """What serves it cannot even be loaded: FAILURE; and as soon as it can, the old server is asked."""
    async with serve(imap_server({})) as imap, helper(write_config(tmp_path, imap=imap.port)) as child:
        assert await child.ask(b"1 INTF 7") == b"INTF 7"
        with limited(child, resource.RLIMIT_NOFILE, 4):
            await child.send(b"2 VRFY u@d.test x\n3 NEW u@d.test\n4 VRFY u@d.test x\n5 INTF 7\n")
            for number in (2, 3, 4):
                assert (await child.reply(number)).startswith(b"FAILURE ")
            assert await child.reply(5) == b"INTF 7"
        assert await child.ask(b"6 VRFY u@d.test x") == _WRONG
        assert await child.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_in_the_middle_answers_what_is_in_hand(tmp_path: Path, number: signal.Signals) -> None:
    """A login that waits for the old server is answered, and the helper then ends with 0."""
    asked, go = asyncio.Event(), asyncio.Event()

    async def play(talk: Talk) -> None:
        await talk.send(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
        line = await talk.line()
        asked.set()
        await go.wait()
        await talk.send(line.split(b" ")[0] + b" NO [AUTHENTICATIONFAILED] wrong\r\n")

    async with serve(play) as old, helper(write_config(tmp_path, imap=old.port)) as child:
        await child.send(b"1 VRFY u@d.test else\n")
        await asked.wait()
        child.process.send_signal(number)
        go.set()
        assert await child.reply(1) == _WRONG
        assert await child.wait() == 0


async def test_a_closed_stdout_ends_the_helper(tmp_path: Path) -> None:
    """Nobody can be answered any more: it ends with 0 and without a traceback, so that a new one may be started."""
    async with world(tmp_path) as (child, _server):
        transport = child.process._transport.get_pipe_transport(1)  # type: ignore[attr-defined]  # asyncio has no other way
        transport.close()
        number = 10
        while child.process.returncode is None:
            number += 1
            try:
                await child.send(b"%d INTF 7\n" % number)
            except (BrokenPipeError, ConnectionResetError):
                break
            await asyncio.sleep(0)
        assert await child.process.wait() == 0
        assert child.process.stdin is not None
        with suppress(BrokenPipeError, ConnectionResetError):
            await child.process.stdin.wait_closed()
    assert b"Traceback" not in (tmp_path / "helper.log").read_bytes()


_FEW_FILES = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (%d, %d))"


async def test_at_its_limit_of_files_it_goes_on_answering(tmp_path: Path) -> None:
    """A black hole takes all that connections may have: others still log in, and log and ledger are opened anew."""
    answers = {b"right": b"OK in"}
    right, known = imap_server(answers), smtp_server({b"known": b"250 fine"})
    async with communigate() as server, serve(right) as imap, serve(known) as smtp:
        for number in range(4):
            add_account(server, f"u{number}@d.test")
        config = write_config(tmp_path, cli=server.cli.port, imap=imap.port, smtp=smtp.port, helper='deadline = "60s"')
        with socket.create_server(("127.0.0.1", 0), backlog=1000) as hole:
            at = f"127.0.0.1:{hole.getsockname()[1]}"
            dead = f'[domains."dead.test"]\nimap = "imap://{at}"\nsmtp = "{at}"\nmax_connections = 1000\n'
            config.write_text(config.read_text() + dead)
            async with helper(config, environ=beginning_with(_FEW_FILES % (110, 110), tmp_path)) as child:
                await child.told(b"requests at once instead of 200")
                assert await log_in(child, 1, 0) == _YES
                await child.send(b"".join(b"%d VRFY u%d@dead.test x\n" % (n, n) for n in range(1000, 1500)))
                assert await log_in(child, 2, 1) == _YES
                (tmp_path / "helper.log").rename(tmp_path / "helper.log.1")
                child.process.send_signal(signal.SIGHUP)
                (tmp_path / "state" / "state.db").rename(tmp_path / "lost.db")
                assert await log_in(child, 3, 2) == _YES
                assert await child.ask(b"4 NEW known@d.test") == b"OK"
                assert await child.ask(b"5 INTF 7") == b"INTF 7"
                await until((tmp_path / "helper.log").exists)
                assert (tmp_path / "state" / "state.db").exists()
                assert not any(int(number) >= 1000 for number in child.replies), "who waits for the hole waits on"
                told = [line for line in child.information if b"serves" not in line and b"instead of 200" not in line]
                assert told == []
