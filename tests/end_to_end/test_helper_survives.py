"""What happens to the machine around the helper: it stays up, users get in, one line says what is wrong."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from extauth.sandbox.communigate import CommuniGate
from tests.end_to_end.helper_child import (
    DOMAIN,
    Child,
    add_account,
    beginning_with,
    communigate,
    helper,
    imap_server,
    smtp_server,
    write_config,
)
from tests.servers.programs import as_user
from tests.servers.script import serve

OK = b"OK"
_USER = 64103  # of nobody on any system; it needs no entry anywhere


@dataclass
class Site:
    """The helper between a CommuniGate and an old server on which everybody's password is `right`."""

    child: Child
    server: CommuniGate
    config: Path
    made: int = 0

    async def log_in(self, timeout: float = 30.0) -> bytes:
        """A user who has never come before, with the right password: the reply."""
        self.made += 1
        name = f"u{self.made}@{DOMAIN}"
        add_account(self.server, name)
        return await self.child.ask(b"%d VRFY %b (IMAP) right" % (1000 + self.made, name.encode()), timeout)

    def told(self, text: bytes) -> int:
        return sum(text in line for line in self.child.information)

    def memory(self) -> int:
        """KiB of the helper at most, so far."""
        status = Path(f"/proc/{self.child.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def give_to(user: int, directory: Path) -> None:
    for path in (directory, *directory.rglob("*")):
        os.chown(path, user, user)


@asynccontextmanager
async def site(
    directory: Path,
    *,
    log: str = "helper.log",
    user: int = 0,
    embedded: bool = False,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Site]:
    """`user` runs the helper, and owns its files; `embedded`: with its worker."""
    imap = imap_server({b"right": b"OK in"})
    async with communigate() as server, serve(imap) as old, serve(smtp_server({b"u": b"250 fine"})) as smtp:
        config = write_config(directory, cli=server.cli.port, imap=old.port, smtp=smtp.port)
        text = config.read_text().replace('log = "helper.log"', f'log = "{log}"')
        config.write_text(text.replace("embedded = false", f"embedded = {str(embedded).lower()}"))
        python = [sys.executable]
        if user:
            python = as_user(user, user)
            give_to(user, directory)
        async with helper(config, environ=environ, python=python) as child:
            yield Site(child, server, config)


async def test_requests_of_any_bytes(tmp_path: Path) -> None:
    """Each gets an answer if it has a number; the next good one is answered."""
    async with site(tmp_path) as it:
        for number, rest in enumerate(
            (
                b"",
                b"VRFY",
                b"VRFY \xff\x00 x",
                b"NEW",
                b"\x80\x81",
                b"NEW " + b"x" * 100_000,
                b"VRFY a@b " + b"(" * 5000,
            ),
            1,
        ):
            reply = await it.child.ask(b"%d %b" % (number, rest) if rest else b"%d" % number)
            assert not reply.startswith(OK), (rest[:20], reply)
        await it.child.send(b"\x00\xff garbage without a number\n\n\n   \n" + b"y" * 3_000_000 + b"\n")
        assert await it.log_in() == OK
        assert it.memory() < 100 << 10


async def test_a_flood_that_nobody_reads_the_answers_of(tmp_path: Path) -> None:
    """Stdout is full and stays so: reading goes on or waits, memory is bounded, and each is answered in the end."""
    async with site(tmp_path) as it:
        assert await it.log_in() == OK
        before = it.memory()
        it.child._reading.cancel()
        transport = it.child.process._transport.get_pipe_transport(1)  # type: ignore[attr-defined]  # asyncio has no public way
        transport.pause_reading()
        count = 30_000
        flood = asyncio.ensure_future(
            it.child.send(b"".join(b"%d VRFY nobody%d@elsewhere.test x\n" % (n, n) for n in range(5000, 5000 + count)))
        )
        await asyncio.wait([flood], timeout=3)
        assert it.memory() - before < 60 << 10
        transport.resume_reading()
        it.child._reading = asyncio.ensure_future(it.child._read())
        await flood
        for number in (5000, 5000 + count // 2, 5000 + count - 1):
            assert not (await it.child.reply(number)).startswith(OK)
        await it.child.reply(5000 + count - 1)
        assert await it.log_in() == OK


async def test_a_full_disk_under_the_log(tmp_path: Path) -> None:
    """Users get in, and one line says it."""
    async with site(tmp_path, log="/dev/full") as it:
        for _ in range(5):
            assert await it.log_in() == OK
        await it.child.told(b"log")
        assert it.told(b"No space left") == 1


async def test_a_ledger_that_another_process_has_locked(tmp_path: Path) -> None:
    """Users get in within the deadline, one line says it, and afterwards everything is as it should be."""
    async with site(tmp_path) as it:
        assert await it.log_in() == OK
        ledger = tmp_path / "state" / "state.db"
        with closing(sqlite3.connect(ledger, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            replies = await asyncio.gather(it.log_in(), it.log_in(), it.log_in())
            assert list(replies) == [OK] * 3
            assert it.told(b"could not be saved") <= 1
        assert await it.log_in() == OK
        account = it.server.account(f"u{it.made}@{DOMAIN}")
        assert account is not None
        assert account.option("UseAppPassword")


async def test_the_state_directory_is_gone(tmp_path: Path) -> None:
    """Users get in; where it is again, so are their logins."""
    async with site(tmp_path) as it:
        assert await it.log_in() == OK
        shutil.rmtree(tmp_path / "state")
        assert await it.log_in() == OK
        (tmp_path / "state").mkdir(mode=0o700)
        await asyncio.sleep(0)
        assert await it.log_in() == OK
        with closing(sqlite3.connect(tmp_path / "state" / "state.db")) as ledger:
            assert ledger.execute("SELECT count(*) FROM logins").fetchone()[0] >= 1


@pytest.mark.parametrize("rotated", ["renamed", "truncated"])
async def test_a_rotated_log(tmp_path: Path, rotated: str) -> None:
    """Renamed and told so by SIGHUP, or copied and truncated: what comes then is in the file of that name."""
    async with site(tmp_path) as it:
        assert await it.log_in() == OK
        log = tmp_path / "helper.log"
        assert log.stat().st_size
        if rotated == "renamed":
            log.rename(tmp_path / "helper.log.1")
            it.child.process.send_signal(signal.SIGHUP)
        else:
            log.write_bytes(b"")
        assert await it.log_in() == OK
        async with asyncio.timeout(20):
            while not (log.exists() and b"u2@" in log.read_bytes()):
                assert await it.log_in() == OK
                await asyncio.sleep(0.1)
        assert b"\0" not in log.read_bytes()


@pytest.mark.parametrize("what", ["read-only", "somebody else's", "of somebody else's ledger"])
async def test_a_state_directory_that_is_not_ours_to_write(tmp_short: Path, what: str) -> None:
    """Users get in and one line says it; nothing is set at CommuniGate before the ledger can be written again."""
    state = tmp_short / "state"
    async with site(tmp_short, user=_USER) as it:
        assert await it.log_in() == OK
        for file in state.glob("state.db*"):
            file.unlink()
        if what == "read-only":
            state.chmod(0o500)
        elif what == "somebody else's":
            os.chown(state, 0, 0)
        else:
            (state / "state.db").touch(mode=0o600)
        for _ in range(3):
            assert await it.log_in() == OK
        account = it.server.account(f"u{it.made}@{DOMAIN}")
        assert account is not None
        assert not account.option("UseAppPassword")
        assert it.told(b"could not be saved") == 1
        assert it.told(b"slots") <= 1
        assert len(it.child.information) <= 4, it.child.information
        state.chmod(0o700)
        give_to(_USER, state)
        assert await it.log_in() == OK
        assert await it.child.ask(b"9999 VRFY u%d@d.test right" % (it.made - 1)) == OK
        assert account.option("UseAppPassword")
        assert it.told(b"takes logins again") == 1


async def test_sigterm_in_the_middle_of_many(tmp_path: Path) -> None:
    """What was taken is answered, once; what comes later is for the next helper; the process ends with 0."""
    async with site(tmp_path) as it:
        assert await it.log_in() == OK
        for number in range(50):
            add_account(it.server, f"many{number}@{DOMAIN}")
        words = b"".join(b"%d VRFY many%d@d.test right\n" % (n, n) for n in range(50))
        await it.child.send(words)
        await it.child.reply(0)
        it.child.process.send_signal(signal.SIGTERM)
        assert await it.child.wait() == 0
        answered = {int(number) for number in it.child.replies if int(number) < 50}
        assert answered == set(range(50))
        assert all(it.child.replies[b"%d" % number] == OK for number in answered)


async def test_a_worker_that_dies_again_and_again(tmp_path: Path) -> None:
    """Logins go on; it is started again with growing pauses; one line says it, and the log has each time."""
    environ = beginning_with("import os, sys\nif 'work' in sys.orig_argv: os._exit(9)\n", tmp_path)
    async with site(tmp_path, environ=environ, embedded=True) as it:
        log = tmp_path / "helper.log"
        await it.child.told(b"the worker ended with 9 and is started again")
        while log.read_bytes().count(b"worker started") < 3:
            assert await it.log_in() == OK
            await asyncio.sleep(0.05)
        assert it.told(b"the worker ended") == 1
        assert log.read_bytes().count(b"the worker ended") >= 2
        assert await it.child.end() == 0
