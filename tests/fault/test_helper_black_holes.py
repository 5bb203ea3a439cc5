"""Old servers that swallow what comes, a thousand requests each, beside one that works: its users notice nothing."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.helper_child import (
    DOMAIN,
    NOWHERE,
    Child,
    add_account,
    beginning_with,
    communigate,
    helper,
    imap_server,
    smtp_server,
    write_config,
)
from tests.servers.script import serve

MANY = 1000
GROWTH = 64 << 20  # bytes: a kilobyte for the line, some for the task, the timer and the place in line of each request

# Name servers that never answer for names below hang.test, in the child and nowhere else.
_HANGING = """
import socket, threading
_ask = socket.getaddrinfo
def _hang(host, *rest, **more):
    if str(host).endswith("hang.test"):
        threading.Event().wait()
    return _ask(host, *rest, **more)
socket.getaddrinfo = _hang
"""


@contextmanager
def silent() -> Iterator[str]:
    """The kernel takes connections for it, and nobody ever greets."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def dropping() -> Iterator[str]:
    """Its queue is full, so that the kernel drops every SYN."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # one or two get in
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def unnamed() -> Iterator[str]:
    """Nobody tells its address."""
    yield "old.hang.test"


HOLES = {"silent": silent, "dropping": dropping, "unnamed": unnamed}


@asynccontextmanager
async def beside(tmp_path: Path, holes: tuple[str, ...], deadline: str) -> AsyncIterator[tuple[Child, int]]:
    """The helper with a healthy domain and a dead one for each hole; and its process."""
    environ = beginning_with(_HANGING, tmp_path)
    right = imap_server({b"right": b"OK in"})
    async with communigate() as server, serve(right) as imap, serve(smtp_server({b"<new@": b"250 yes"})) as smtp:
        add_account(server, f"u@{DOMAIN}")
        config = write_config(
            tmp_path, cli=server.cli.port, imap=imap.port, smtp=smtp.port, helper=f'deadline = "{deadline}"'
        )
        with ExitStack() as stack:
            places = enumerate(stack.enter_context(HOLES[hole]()) for hole in holes)
            dead = "".join(
                f'[domains."dead{number}.test"]\nimap = "imap://{at}"\nsmtp = "{at}"\nmax_connections = 100\n'
                for number, at in places
            )
            config.write_text(config.read_text() + dead)
            async with helper(config, environ=environ) as child:
                yield child, child.process.pid


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    "holes", [("silent",), ("dropping",), ("unnamed",), ("silent", "dropping"), ("silent", "unnamed", "dropping")]
)
async def test_users_of_a_healthy_server_are_answered_at_once(tmp_path: Path, holes: tuple[str, ...]) -> None:
    """Before a single one of the thousands that wait, whose deadlines are far."""
    async with beside(tmp_path, holes, "60s") as (child, pid):
        assert await child.ask(b"1 VRFY u@d.test right") == b"OK"
        before = resident(pid)
        lost = range(100, 100 + MANY * len(holes))
        words = [(n, b"VRFY" if n % 2 else b"NEW", n, n // 2 % len(holes)) for n in lost]
        await child.send(b"".join(b"%d %s u%d@dead%d.test secret\n" % word for word in words))
        assert await child.ask(b"2 VRFY u@d.test right") == b"OK"
        assert (await child.ask(b"3 VRFY u@d.test wrong")).startswith(b"ERROR")
        assert await child.ask(b"4 NEW new@d.test") == b"OK"
        assert (await child.ask(b"5 NEW gone@d.test")).startswith(b"ERROR")
        early = {int(number): reply for number, reply in child.replies.items() if int(number) >= 100}
        assert all(number % 2 == 0 for number in early)  # only unknown addresses, which the brake puts off at once
        assert all(reply.startswith(b"FAILURE") for reply in early.values())
        assert resident(pid) - before < GROWTH * len(holes)


async def test_each_of_a_thousand_is_answered_by_its_deadline(tmp_path: Path) -> None:
    """FAILURE, once; and the helper is as small as before and ends as it should."""
    async with beside(tmp_path, ("silent", "unnamed"), "2s") as (child, pid):
        before = resident(pid)
        for _ in range(2):
            await child.send(b"".join(b"%d VRFY u%d@dead%d.test secret\n" % (n, n, n % 2) for n in range(MANY)))
            for number in range(MANY):
                assert (await child.reply(number)).startswith(b"FAILURE")
            child.replies.clear()
        assert resident(pid) - before < GROWTH
        assert len(child.information) < 10
        assert await child.ask(b"1 VRFY u@d.test right") == b"OK"


async def status(config: Path, *more: str) -> bytes:
    """What `extauth status` prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "extauth", "status", "--config", str(config), *more, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    process._transport.close()  # type: ignore[attr-defined]  # else -W error finds it open later
    return said


@pytest.mark.parametrize("verify", ["imap", "pop"])
async def test_a_dead_server_is_told_of_once_and_asked_no_more(tmp_path: Path, verify: str) -> None:
    """Nothing listens: from the sixth account on the answer comes without asking, until it works again."""
    config = write_config(tmp_path, imap=NOWHERE, pop=NOWHERE, verify=verify)
    async with helper(config) as child:
        for number in range(60):
            assert (await child.ask(b"%d VRFY u%d@d.test secret" % (number, number))).startswith(b"FAILURE")
        await child.told(b"does not work")
        assert b"not asked for now" in child.replies[b"59"]
        assert sum(b"does not work" in line for line in child.information) == 1
        assert sum(b"cannot check passwords" in line for line in child.information) == 1
        (server,) = json.loads(await status(config, "--json"))["old_servers"]
        assert server["closed_to_us"]
        assert "cannot connect" in server["reason"]
        assert b"is not asked" in await status(config)
        await child.kill()
        assert json.loads(await status(config, "--json"))["old_servers"] == []  # what a dead helper left behind
