"""What --compress gains and costs: one account from Dovecot to Dovecot, the old one behind lines of several widths.

    python -m tests.bench.compress [CORPUS_DIRECTORY]

Prints the median of three rounds for each line, packed and not, and the CPU of both sides.
"""

from __future__ import annotations

import asyncio
import base64
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from migrator.access import Access
from migrator.ledger.marks import LedgerMarks
from migrator.ledger.store import Store
from migrator.mover import copy_account
from migrator.options import CopyOptions
from tests.servers.corpus import mixed
from tests.servers.dovecot import Dovecot
from tests.servers.raw_imap import RawImap
from wire.endpoint import Endpoint
from wire.rate import RateLimit
from wire.secret import Secret

ROUNDS = 3
LINES = (1_000_000, 10_000_000, 100_000_000, 0)  # bytes per second to us; 0 is loopback as it is
COMPRESSES = "protocol imap {\n  mail_plugins = $mail_plugins imap_zlib\n}\n"
BURST = 16_384  # bytes passed on at once: a packet or ten


@dataclass(frozen=True, slots=True)
class Run:
    """One copy."""

    seconds: float
    octets: int  # from the old server
    our_cpu: float
    old_cpu: float


def letters(directory: str | None) -> list[bytes]:
    """The corpus, or text and attachments in the measure of ordinary mail: most messages text, most bytes base64."""
    if directory is not None:
        return [path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for path in _files(directory)]
    draw = random.Random(7)
    text = [message.content for message in mixed(300, 7)]
    files = [
        b"Subject: file %d\r\nContent-Transfer-Encoding: base64\r\n\r\n" % number
        + base64.encodebytes(draw.randbytes(draw.randrange(20_000, 400_000))).replace(b"\n", b"\r\n")
        for number in range(30)
    ]
    return text + files


def _files(directory: str) -> list[Path]:
    return sorted(Path(directory).glob("*.eml"))


@asynccontextmanager
async def line(port: int, width: int) -> AsyncIterator[tuple[int, list[int]]]:
    """A proxy that lets so many bytes a second through towards us, and counts them."""
    counted = [0]
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]  # a handler runs in a task
        there, back = await asyncio.open_connection("127.0.0.1", port)
        limit = RateLimit(width, burst=BURST / width) if width else None

        async def pump(one: asyncio.StreamReader, other: asyncio.StreamWriter, narrow: RateLimit | None) -> None:
            while data := await one.read(BURST):
                counted[0] += len(data) if one is there else 0
                other.write(data)
                await other.drain()
                if narrow is not None and (pause := narrow.take(len(data))):
                    await asyncio.sleep(pause)
            other.close()

        await asyncio.gather(pump(reader, back, None), pump(there, writer, limit))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], counted
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def cpu_of(master: int) -> float:
    """Seconds of a server's processes, those that have ended included."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text("latin-1").rpartition(")")[2].split()
        except OSError:
            continue
        if master in (int(stat.parent.name), int(fields[1])):
            ticks += sum(map(int, fields[11:15] if int(stat.parent.name) == master else fields[11:13]))
    return ticks / 100


async def one(old: Dovecot, new: Dovecot, user: str, *, width: int, compress: bool) -> Run:
    """Copy the account, to a user who has nothing yet."""
    with tempfile.TemporaryDirectory() as directory:
        store = Store(Path(directory) / "marks.db")
        async with line(old.imap_port, width) as (port, counted):
            began, ours, theirs = time.perf_counter(), _own_cpu(), cpu_of(old.pid)
            report = await copy_account(
                Access(Endpoint("imap", "127.0.0.1", port), b"old", Secret(b"x")),
                Access(Endpoint("imap", new.host, new.imap_port), user.encode(), Secret(b"x")),
                CopyOptions(compress=compress),
                LedgerMarks(store, user),
            )
            seconds = time.perf_counter() - began
        await store.close()
    assert not report.problems, report.problems
    assert not report.postponed, report.postponed
    return Run(seconds, counted[0], _own_cpu() - ours, cpu_of(old.pid) - theirs)


def _own_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """The table."""
    messages = letters(sys.argv[1] if len(sys.argv) > 1 else None)
    users = {f"u{number}": b"x" for number in range(len(LINES) * ROUNDS * 2)}
    spare = iter(users)
    print(f"{len(messages)} messages, {sum(map(len, messages)) / 1e6:.1f} MB; medians of {ROUNDS} rounds")
    print("line MB/s   plain s  packed s   ratio    MB plain  packed   CPU ms plain: ours, old   packed: ours, old")
    with Dovecot({"old": b"x"}, extra=COMPRESSES) as old, Dovecot(users) as new:
        with RawImap(old.host, old.imap_port, "old", b"x") as raw:
            raw.append(b"INBOX", messages)
        for width in LINES:
            runs: dict[bool, list[Run]] = {False: [], True: []}
            for _ in range(ROUNDS):
                for compress, found in runs.items():
                    found.append(uvloop.run(one(old, new, next(spare), width=width, compress=compress)))
            print(row(width, runs[False], runs[True]))


def row(width: int, plain: list[Run], packed: list[Run]) -> str:
    """One line of the table."""

    def middle(runs: list[Run], name: str) -> float:
        return statistics.median([float(getattr(run, name)) for run in runs])

    seconds = middle(plain, "seconds"), middle(packed, "seconds")
    octets = middle(plain, "octets") / 1e6, middle(packed, "octets") / 1e6
    cpu = [1000 * middle(runs, name) for runs in (plain, packed) for name in ("our_cpu", "old_cpu")]
    shown = f"{width / 1e6:9.0f}" if width else " loopback"
    return (
        f"{shown} {seconds[0]:9.2f} {seconds[1]:9.2f} {seconds[1] / seconds[0]:7.2f}"
        f"   {octets[0]:9.1f} {octets[1]:7.1f}"
        f"   {cpu[0]:12.0f} {cpu[1]:10.0f} {cpu[2]:13.0f} {cpu[3]:4.0f}"
    )


if __name__ == "__main__":
    main()
