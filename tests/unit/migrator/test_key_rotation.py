"""Another key pair in force, with nothing lost on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from migrator.key_rotation import rotate
from migrator.ledger.logins import Logins
from migrator.ledger.store import Store
from migrator.model import VerifiedLogin
from migrator.seal import Opener, Sealer, generate_keys, old_key_file, rotate_keys
from migrator.settings import StateSettings
from wire.outcome import SetupTrouble
from wire.secret import Secret

COUNT = 1203  # more than two stretches


@pytest.fixture
def state(tmp_path: Path) -> StateSettings:
    public, private = tmp_path / "seal.pub", tmp_path / "seal.key"
    generate_keys(public, private)
    return StateSettings("sqlite:///x", tmp_path / "state.db", public, private, "done")


async def save(store: Store, sealer: Sealer, *numbers: int) -> None:
    logins = Logins(store)
    for number in numbers:
        account = f"u{number}@old.test"
        await logins.submit(
            VerifiedLogin(
                account=account,
                domain="old.test",
                source="imap://old.test:143",
                login=account.encode(),
                sealed=sealer.seal(Secret(b"secret %d" % number), account),
                after_login="copy",
            )
        )


async def opened(store: Store, opener: Opener) -> dict[str, bytes]:
    rows = await store.read(lambda connection: connection.execute("SELECT account, sealed FROM logins").fetchall())
    return {account: opener.open(sealed, account).reveal() for account, sealed in rows}


async def test_every_password_into_a_box_of_the_new_key(state: StateSettings) -> None:
    """One that the helper seals to the old key at the last moment is found by the next run; then the old key goes."""
    store = Store(state.path)
    try:
        before = Sealer(state.public_key_file)
        await save(store, before, *range(COUNT))
        done = await rotate(state, store)
        assert (done.begun, done.resealed, done.unreadable, done.finished) == (True, COUNT, 0, False)
        assert state.key_file.stat().st_mode & 0o777 == old_key_file(state.key_file).stat().st_mode & 0o777 == 0o600
        await save(store, before, COUNT)
        later = state.key_file.stat().st_mtime + 700
        done = await rotate(state, store, now=lambda: later)
        assert (done.begun, done.resealed, done.finished) == (False, 1, False)
        done = await rotate(state, store, now=lambda: later)
        assert (done.resealed, done.finished) == (0, True)
        assert not old_key_file(state.key_file).exists()
        found = await opened(store, Opener(state.key_file))
        assert found == {f"u{number}@old.test": b"secret %d" % number for number in range(COUNT + 1)}
    finally:
        await store.close()


async def test_a_box_that_neither_key_opens(state: StateSettings, tmp_path: Path) -> None:
    """It stays, and so does the old key."""
    generate_keys(tmp_path / "other.pub", tmp_path / "other.key")
    store = Store(state.path)
    try:
        await save(store, Sealer(tmp_path / "other.pub"), 1)
        later = state.key_file.stat().st_mtime + 700
        for _ in range(2):
            done = await rotate(state, store, now=lambda: later)
            assert (done.resealed, done.unreadable, done.finished) == (0, 1, False)
        assert old_key_file(state.key_file).exists()
    finally:
        await store.close()


def test_a_worker_that_runs_takes_the_new_key(state: StateSettings) -> None:
    """It has read the keys long before; what is sealed to either opens."""
    opener, before = Opener(state.key_file), Sealer(state.public_key_file)
    old_box = before.seal(Secret(b"old"), "a@old.test")
    rotate_keys(state.public_key_file, state.key_file)
    new_box = Sealer(state.public_key_file).seal(Secret(b"new"), "a@old.test")
    assert opener.open(new_box, "a@old.test") == Secret(b"new")
    assert opener.open(old_box, "a@old.test") == Secret(b"old")
    assert (opener.is_new(new_box), opener.is_new(old_box)) == (True, False)
    with pytest.raises(SetupTrouble):
        opener.open(old_box[:-1], "a@old.test")


_KILLED = """
import os, signal, sys
from pathlib import Path
import migrator.seal as seal
count = int(sys.argv[3])
def counted(name, real):
    def call(*arguments, **options):
        global count
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    return call
os.link = counted("link", os.link)
Path.replace = counted("replace", Path.replace)
seal.rotate_keys(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_killed_on_the_way(state: StateSettings, step: int) -> None:
    """At every moment each box opens, and the next run goes on."""
    box = Sealer(state.public_key_file).seal(Secret(b"old"), "a@old.test")
    arguments = [sys.executable, "-c", _KILLED, str(state.public_key_file), str(state.key_file), str(step)]
    ended = subprocess.run(arguments, check=False).returncode
    assert ended == (-signal.SIGKILL if step < 4 else 0)
    between = Sealer(state.public_key_file).seal(Secret(b"between"), "a@old.test")
    opener = Opener(state.key_file)
    assert opener.open(box, "a@old.test") == Secret(b"old")
    assert opener.open(between, "a@old.test") == Secret(b"between")
    rotate_keys(state.public_key_file, state.key_file)
    opener = Opener(state.key_file)
    new = Sealer(state.public_key_file).seal(Secret(b"new"), "a@old.test")
    assert opener.is_new(new)
    assert not opener.is_new(box)
    assert [opener.open(one, "a@old.test").reveal() for one in (box, between, new)] == [b"old", b"between", b"new"]
    assert {path.name for path in state.key_file.parent.iterdir() if not path.name.startswith(".")} == {
        "seal.key",
        "seal.key.old",
        "seal.pub",
    }


def test_the_old_key_is_overwritten(state: StateSettings) -> None:
    from migrator.seal import forget_old_key

    rotate_keys(state.public_key_file, state.key_file)
    with old_key_file(state.key_file).open("rb") as held:
        assert held.read().startswith(b"extauth-seal-private")
        forget_old_key(state.key_file)
        held.seek(0)
        assert set(held.read()) == {0}
        assert os.fstat(held.fileno()).st_nlink == 0
