"""The worker that the helper starts: one, apart from the helper, replaced when it is of another version."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from migrator.worker_lock import Holder, program_version, read_holder
from tests.end_to_end.helper_child import helper, write_config
from tests.servers.script import until


def embedded(directory: Path) -> Path:
    """A configuration whose worker is the helper's."""
    config = write_config(directory)
    config.write_text(config.read_text().replace("embedded = false", "embedded = true"))
    return config


async def holder_of(directory: Path, *, other_than: int = 0) -> Holder:
    """The worker that holds the lock, once there is one."""
    async with asyncio.timeout(30):
        while True:
            holder = read_holder(directory / "state")
            if holder is not None and holder.pid not in (0, other_than):
                return holder
            await asyncio.sleep(0.05)


@asynccontextmanager
async def ending_the_worker(directory: Path) -> AsyncIterator[None]:
    """However the test goes, the worker of `directory` does not outlive it."""
    try:
        yield
    finally:
        async with asyncio.timeout(30):
            while (holder := read_holder(directory / "state")) is not None:
                if holder.pid:
                    os.kill(holder.pid, signal.SIGTERM)
                await asyncio.sleep(0.05)


def descriptors(pid: int) -> set[str]:
    """What the process has open, as the kernel names it."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.add(os.readlink(entry))
    return found


def children(pid: int) -> list[str]:
    """The processes that `pid` started and that still run."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


async def test_worker_is_started_apart_and_outlives_the_helper(tmp_path: Path) -> None:
    """Own session, none of the helper's pipes, one only; the next helper finds it and starts no other."""
    config = embedded(tmp_path)
    async with ending_the_worker(tmp_path):
        async with helper(config) as child:
            await child.ask(b"1 INTF 7")
            holder = await holder_of(tmp_path)
            pid = holder.pid
            assert holder.version == program_version()
            assert os.getsid(pid) == pid
            pipes = {name for name in descriptors(child.process.pid) if name.startswith("pipe:")}
            assert pipes
            assert not pipes & descriptors(pid)
            assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
            await child.kill()
        async with helper(config) as child:
            await child.ask(b"1 INTF 7")
            await child.ask(b"2 NEW u@d.test")  # by now the new helper has looked
            assert (await holder_of(tmp_path)).pid == pid
            assert await child.end() == 0
        assert (await holder_of(tmp_path)).pid == pid


async def test_worker_that_dies_is_started_again(tmp_path: Path) -> None:
    """And CommuniGate's log says so."""
    async with ending_the_worker(tmp_path), helper(embedded(tmp_path)) as child:
        first = await holder_of(tmp_path)
        os.kill(first.pid, signal.SIGKILL)
        await child.told(b"the worker ended with -9")
        second = await holder_of(tmp_path, other_than=first.pid)
        assert second.pid != first.pid


async def test_worker_that_cannot_be_started_now_is_started_later(tmp_path: Path) -> None:
    """Without descriptors there is none, and the helper answers all the same; then there is one again, by itself."""
    async with ending_the_worker(tmp_path), helper(embedded(tmp_path)) as child:
        first = await holder_of(tmp_path)
        before = resource.prlimit(child.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(child.process.pid, resource.RLIMIT_NOFILE, (4, before[1]))
        os.kill(first.pid, signal.SIGKILL)
        await until(lambda: b"the worker cannot be started" in (tmp_path / "helper.log").read_bytes(), seconds=30)
        assert await child.ask(b"1 INTF 7") == b"INTF 7"
        resource.prlimit(child.process.pid, resource.RLIMIT_NOFILE, before)
        assert await holder_of(tmp_path, other_than=first.pid)
        assert await child.end() == 0


_OTHER_VERSION = """
import fcntl, json, os, signal, sys, time
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(file, fcntl.LOCK_EX)
os.pwrite(file, json.dumps({"pid": os.getpid(), "version": "0.0.1"}).encode(), 0)
print("held", flush=True)
signal.pause()
"""


async def test_worker_of_another_version_is_replaced(tmp_path: Path) -> None:
    """It is asked to end, and ours takes its place."""
    config = embedded(tmp_path)
    lock = tmp_path / "state" / "worker.lock"
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _OTHER_VERSION, str(lock), stdout=asyncio.subprocess.PIPE
    )
    assert other.stdout is not None
    assert await other.stdout.readline() == b"held\n"
    async with ending_the_worker(tmp_path), helper(config) as child:
        await child.told(b"the worker of version 0.0.1 is replaced")
        async with asyncio.timeout(30):
            assert await other.wait() == -signal.SIGTERM
        assert (await holder_of(tmp_path, other_than=other.pid)).version == program_version()


async def test_no_worker_where_none_is_wanted(tmp_path: Path) -> None:
    """`embedded = false`: the site runs its own."""
    async with helper(write_config(tmp_path)) as child:
        await child.ask(b"1 NEW u@d.test")
        assert not children(child.process.pid)
        assert await child.end() == 0
    assert not (tmp_path / "state" / "worker.lock").exists()


async def test_worker_runs_where_its_log_cannot_be_opened(tmp_path: Path) -> None:
    """A missing log directory costs the log, not the users' mail; CommuniGate's log says so."""
    config = embedded(tmp_path)
    config.write_text(config.read_text().replace('log = "helper.log"', 'log = "nowhere/helper.log"'))
    async with ending_the_worker(tmp_path), helper(config) as child:
        assert (await holder_of(tmp_path)).pid
        await child.told(b"worker.log")
