"""Workers, writers and keys under violence: kill -9 at random moments, two users on one ledger."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from extauth.sandbox.world import Sandbox
from migrator.config import load_settings
from migrator.ledger.jobs import LedgerQueue
from migrator.ledger.logins import Logins
from migrator.ledger.store import Store
from migrator.model import Phase, VerifiedLogin
from migrator.seal import Opener, Sealer, generate_keys
from migrator.worker_lock import WorkerLock, program_version, read_holder
from tests.servers.programs import everybodys_programs
from wire.outcome import SetupTrouble
from wire.secret import Secret

MAIL_GROUP, MAIL_USER, NOBODY = 8, 8, 65534
SOURCE = "imap://old.example.com:143"

WRITER = """
import asyncio, sys
from pathlib import Path
from migrator.ledger.logins import Logins
from migrator.ledger.store import Store
from migrator.model import VerifiedLogin

async def main():
    logins = Logins(Store(Path(sys.argv[1])))
    async def submit(lane):
        for n in range(100000):
            account = f"{sys.argv[2]}-{lane}-{n}@example.com"
            await logins.submit(VerifiedLogin(account, "example.com", "imap://old:143", b"x", b"box", "copy+export"))
            sys.stdout.write(account + "\\n")
            sys.stdout.flush()
    await asyncio.gather(*(submit(lane) for lane in range(16)))

asyncio.run(main())
"""


async def acknowledged_until_killed(path: Path, run: int, lines: int) -> set[str]:
    """What a writer process acknowledged before it was killed in the middle of its work."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(path), str(run), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    told = [await asyncio.wait_for(process.stdout.readline(), 30) for _ in range(lines)]
    process.kill()
    told += (await process.stdout.read()).splitlines(keepends=True)
    assert await process.wait() == -signal.SIGKILL
    return {line.decode().strip() for line in told if line.endswith(b"\n")}


async def test_every_acknowledged_login_is_there_once_after_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    acknowledged: set[str] = set()
    chance = random.Random(7)
    for run in range(8):
        acknowledged |= await acknowledged_until_killed(path, run, chance.randrange(1, 200))
    store = Store(path)
    jobs = [job.account for job in await LedgerQueue(store).jobs()]
    accounts = await store.read(lambda c: [row[0] for row in c.execute("SELECT account FROM logins WHERE exporting")])
    check = await store.read(lambda c: c.execute("PRAGMA integrity_check").fetchone()[0])
    await store.close()
    assert check == "ok"
    assert acknowledged <= set(jobs)
    assert len(jobs) == len(set(jobs))
    assert sorted(jobs) == sorted(accounts)


LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from migrator.ledger.logins import Logins
from migrator.ledger.store import Store
from migrator.model import VerifiedLogin
from wire.outcome import Temporary

def login(n):
    return VerifiedLogin(f"u{n}@example.com", "example.com", "imap://old:143", b"x", b"box" * 100, "copy")

async def main():
    store = Store(Path(sys.argv[1]))
    logins = Logins(store)
    await store.open()
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    said = []
    for n in range(0, 10_000, 10):
        results = await asyncio.gather(*(logins.submit(login(n + i)) for i in range(10)), return_exceptions=True)
        said += [n + i for i, result in enumerate(results) if not isinstance(result, BaseException)]
        if any(isinstance(result, BaseException) for result in results):
            assert all(isinstance(result, Temporary) for result in results), results
            print(results[0], file=sys.stderr)
            break
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
    await logins.submit(login(99_999))
    print(*said, 99_999)
    await store.close()

asyncio.run(main())
"""


async def test_a_disk_that_takes_no_more_costs_nothing_acknowledged_and_passes(tmp_path: Path) -> None:
    """The limit on file sizes stands for a full disk: the kernel refuses the write in the middle of a commit."""
    path = tmp_path / "state.db"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LIMITED, str(path), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert f"the ledger {path}: the disk" in err.decode()
    said = {f"u{n}@example.com" for n in out.decode().split()}
    assert len(said) > 10
    store = Store(path)
    jobs = [job.account for job in await LedgerQueue(store).jobs()]
    await store.close()
    assert said <= set(jobs)
    assert len(jobs) == len(set(jobs))


# -- the worker process ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def world(sandbox: Sandbox) -> AsyncIterator[tuple[Sandbox, Store, LedgerQueue]]:
    async with sandbox:
        store = Store(load_settings(sandbox.write_config(), {}).state.path)
        try:
            yield sandbox, store, LedgerQueue(store)
        finally:
            await store.close()


async def log_everybody_in(sandbox: Sandbox, store: Store) -> None:
    settings = load_settings(sandbox.config_path, {})
    sealer, logins = Sealer(settings.state.public_key_file), Logins(store)
    for user in sandbox.users:
        domain_name = user.address.partition("@")[2]
        domain = settings.domain(domain_name)
        assert domain is not None
        sandbox.communigate.directory.create_account(user.address)
        sealed = sealer.seal(Secret(user.password), user.address)
        source = str(domain.copy_endpoint)
        await logins.submit(VerifiedLogin(user.address, domain_name, source, user.login, sealed, "copy"))
    await store.write(lambda c: c.execute("UPDATE jobs SET not_before = 0") and None)
    await store.write(lambda c: c.execute("UPDATE accounts SET not_before = 0") and None)


async def start_worker(sandbox: Sandbox, *more: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "migrator", "work", "--config", str(sandbox.config_path), *more,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


def arrived(sandbox: Sandbox) -> dict[str, bool]:
    found = {}
    for user in sandbox.users:
        account = sandbox.communigate.account(user.address)
        assert account is not None
        old = sorted(message.data for mailbox in user.store for message in mailbox.messages)
        new = sorted(message.data for mailbox in account.store for message in mailbox.messages)
        found[user.address] = old == new
    return found


def _commits(connection: sqlite3.Connection) -> float:
    """How often a copy has written down how far it is."""
    found: float = connection.execute("SELECT total(generation) FROM marked_mailboxes").fetchone()[0]
    return found


async def test_a_worker_killed_again_and_again_brings_every_message_over_once() -> None:
    async with world(Sandbox(users=4, inbox=60, mailboxes=4, each=15, big=20_000)) as (sandbox, store, queue):
        await log_everybody_in(sandbox, store)
        sandbox.old.imap.listener.conditions.latency = 0.003  # there is time to be killed in, however fast a copy is
        chance = random.Random(11)
        kills = 0
        while (await queue.outlook()).done < 4 and kills < 12:
            process = await start_worker(sandbox, "--until-idle")
            before = await store.read(_commits)
            while process.returncode is None:
                if await store.read(_commits) > before and chance.random() < 0.2:
                    process.kill()
                    kills += 1
                    break
                await asyncio.wait([asyncio.create_task(process.wait())], timeout=0.005)
            await process.communicate()
            await store.write(lambda c: c.execute("UPDATE jobs SET not_before = 0 WHERE phase = 'pending'") and None)
        process = await start_worker(sandbox, "--until-idle")
        _, log = await process.communicate()
        assert process.returncode == 0, log[-2000:]
        assert kills > 0
        assert arrived(sandbox) == dict.fromkeys(arrived(sandbox), True)
        assert [job.phase for job in await queue.jobs()] == [Phase.DONE] * 4
        for user in sandbox.users:
            if len(user.password) > 5:
                assert user.password not in log


async def test_sigterm_ends_a_worker_with_zero_and_its_copies_are_free_at_once() -> None:
    async with world(Sandbox(users=2, inbox=400, mailboxes=0)) as (sandbox, store, queue):
        await log_everybody_in(sandbox, store)
        sandbox.old.imap.listener.conditions.latency = 0.05
        process = await start_worker(sandbox)
        while not (await queue.outlook()).running:
            await asyncio.wait([asyncio.create_task(process.wait())], timeout=0.01)
        process.terminate()
        _, log = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 0, log[-2000:]
        outlook = await queue.outlook()
        assert (outlook.running, outlook.fresh + outlook.done) == (0, 2)


async def test_only_one_embedded_worker_runs_and_says_who_it_is() -> None:
    async with world(Sandbox(users=0)) as (sandbox, _store, _queue):
        directory = sandbox.state_path.parent
        first = await start_worker(sandbox, "--embedded")
        try:
            while read_holder(directory) is None:
                assert first.returncode is None
                await asyncio.wait([asyncio.create_task(first.wait())], timeout=0.01)
            second = await start_worker(sandbox, "--embedded")
            await asyncio.wait_for(second.communicate(), 20)
            assert second.returncode == 0
            holder = read_holder(directory)
            assert holder is not None
            assert (holder.pid, holder.version) == (first.pid, program_version())
        finally:
            first.terminate()
            await first.communicate()
        assert first.returncode == 0
        assert read_holder(directory) is None


def test_the_lock_is_free_once_its_holder_is_dead(tmp_path: Path) -> None:
    lock = WorkerLock.take(tmp_path)
    assert lock is not None
    assert WorkerLock.take(tmp_path) is None
    lock.release()
    again = WorkerLock.take(tmp_path)
    assert again is not None
    again.release()


# -- two users -----------------------------------------------------------------------------------------------------

AS_ANOTHER_USER = """
import os, sys
os.setgroups([{group}])
os.setgid({gid})
os.setuid({uid})
os.umask(0o077)
"""


def run_as(uid: int, gid: int, code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of another user, who is a member of the group mail."""
    setup = AS_ANOTHER_USER.format(group=MAIL_GROUP, gid=gid, uid=uid)
    root = everybodys_programs()
    return subprocess.run(
        [sys.executable, "-c", setup + code, *map(str, arguments)],
        capture_output=True, text=True, timeout=60, check=False, cwd="/", env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip


@pytest.fixture
def shared(tmp_short: Path) -> Path:
    """A state directory as an installation makes it: of the worker's user, its group may write."""
    directory = tmp_short / "state"
    directory.mkdir()
    os.chown(directory, MAIL_USER, MAIL_GROUP)
    directory.chmod(0o2770)
    generate_keys(tmp_short / "seal.pub", tmp_short / "seal.key")
    os.chown(tmp_short / "seal.key", MAIL_USER, MAIL_GROUP)
    return tmp_short


SUBMIT = """
import asyncio
from pathlib import Path
from migrator.ledger.logins import Logins
from migrator.ledger.store import Store
from migrator.model import VerifiedLogin
from migrator.seal import Sealer
from wire.secret import Secret

async def main():
    base = Path(sys.argv[1])
    store = Store(base / "state" / "state.db")
    sealed = Sealer(base / "seal.pub").seal(Secret(b"Zk7 sealed word"), sys.argv[2])
    await Logins(store).submit(VerifiedLogin(sys.argv[2], "example.com", "imap://old:143", b"ann", sealed, "copy"))
    await Logins(store).adopted(sys.argv[2])
    if len(sys.argv) > 3:
        os.kill(os.getpid(), 9)
    await store.close()

asyncio.run(main())
"""
WORK = """
import asyncio
from pathlib import Path
from migrator.ledger.jobs import LedgerQueue
from migrator.ledger.logins import Logins
from migrator.ledger.store import Store
from migrator.model import Counts
from migrator.processes import this_worker
from migrator.seal import Opener

async def main():
    base = Path(sys.argv[1])
    store = Store(base / "state" / "state.db")
    queue = LedgerQueue(store)
    opener = Opener(base / "seal.key")
    while claim := await queue.claim(this_worker("w"), lease=60, limits=lambda server: 9):
        login = await Logins(store).login_of(claim.job.account, claim.job.source)
        print(claim.job.account, opener.open(login.sealed, claim.job.account).reveal().decode())
        assert await queue.finish(claim, Counts())
    await store.close()

asyncio.run(main())
"""
OPEN_KEY = """
from pathlib import Path
from migrator.seal import Opener
Opener(Path(sys.argv[1]) / "seal.key")
"""


@pytest.mark.parametrize("killed", [False, True])
def test_helper_and_worker_of_two_users_share_the_ledger(shared: Path, killed: bool) -> None:
    """Whoever comes first makes the files; the other can use them, also when the first died and left its WAL."""
    crash = ["killed"] * killed
    for n, (uid, gid) in enumerate([(NOBODY, NOBODY), (NOBODY, NOBODY)]):
        submitted = run_as(uid, gid, SUBMIT, shared, f"u{n}@example.com", *crash)
        assert submitted.returncode == (-signal.SIGKILL if killed else 0), submitted.stderr
        worked = run_as(MAIL_USER, MAIL_GROUP, WORK, shared)
        assert (worked.returncode, worked.stdout) == (0, f"u{n}@example.com Zk7 sealed word\n"), worked.stderr


def test_the_worker_may_come_first(shared: Path) -> None:
    assert run_as(MAIL_USER, MAIL_GROUP, WORK, shared).returncode == 0
    submitted = run_as(NOBODY, NOBODY, SUBMIT, shared, "ann@example.com")
    assert submitted.returncode == 0, submitted.stderr


def test_roots_tools_leave_nothing_behind_that_the_others_cannot_use(shared: Path) -> None:
    async def look() -> None:
        store = Store(shared / "state" / "state.db")
        assert await LedgerQueue(store).jobs() == []

    before = os.umask(0o077)
    try:
        asyncio.run(look())  # not closed: WAL and shared memory stay
    finally:
        os.umask(before)
    assert run_as(NOBODY, NOBODY, SUBMIT, shared, "ann@example.com").returncode == 0
    assert run_as(MAIL_USER, MAIL_GROUP, WORK, shared).stdout == "ann@example.com Zk7 sealed word\n"


def test_the_helpers_user_can_neither_read_the_key_nor_open_a_box(shared: Path) -> None:
    refused = run_as(NOBODY, NOBODY, OPEN_KEY, shared)
    assert refused.returncode == 1
    assert "cannot read the key file" in refused.stderr
    sealer = Sealer(shared / "seal.pub")
    with pytest.raises(SetupTrouble):
        Opener(shared / "seal.pub")
    assert not hasattr(sealer, "open")
    assert b"Zk7 sealed word" not in sealer.seal(Secret(b"Zk7 sealed word"), "a@b.c")


def test_no_file_of_the_state_holds_a_password(shared: Path) -> None:
    run_as(NOBODY, NOBODY, SUBMIT, shared, "ann@example.com", "killed")
    found = {path.name: path.read_bytes() for path in (shared / "state").iterdir()}
    assert b"ann@example.com" in b"".join(found.values())
    assert not [name for name, content in found.items() if b"Zk7 sealed word" in content]


def test_a_stranger_cannot_use_the_ledger_at_all(shared: Path) -> None:
    code = SUBMIT.replace("os.setgroups([8])", "os.setgroups([])")
    setup_without_group = f"import os, sys\nos.setgroups([])\nos.setgid({NOBODY})\nos.setuid({NOBODY})\n"
    root = everybodys_programs()
    refused = subprocess.run(
        [sys.executable, "-c", setup_without_group + code, str(shared), "ann@example.com"],
        capture_output=True, text=True, timeout=60, check=False, cwd="/", env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert refused.returncode == 1
    assert "wire.outcome.Temporary" in refused.stderr
