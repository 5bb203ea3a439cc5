"""MoveIMAPMail killed in the middle, again and again, into every kind of target: each message is there once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.corpus import generated, mixed, spread_date
from tests.servers.moves import move
from tests.servers.place import PASSWORD, TARGETS, Place, source_place, target_place
from tests.servers.raw_imap import RawImap, Stored

FIRST, MORE, KILLS = 250, 50, 3  # messages at first, and more after each kill
RATE = "1MiB/s"  # slow enough that there is something left to copy at each kill
WHOLE = "undisturbed"
_ROOT = Path(__file__).resolve().parents[2]


def mover(kind: str) -> str:
    """The account that moves to this kind of target; a Cyrus has a user `cyrus` already."""
    return f"to-{kind}"


@pytest.fixture(scope="module")
def source() -> Iterator[Place]:
    with source_place("dovecot", [mover(kind) for kind in TARGETS]) as place:
        yield place


@pytest.mark.parametrize("kind", TARGETS)
async def test_killed_at_random_and_run_again(source: Place, kind: str, tmp_path: Path) -> None:
    draw, user = random.Random(kind), mover(kind)
    (tmp_path / "password").write_bytes(PASSWORD + b"\n")
    (tmp_path / "other").mkdir()
    with target_place(kind, [user, WHOLE]) as target:
        with source.open(user) as raw:
            fill(raw, range(FIRST))
            raw.append(b"INBOX", [message.content for message in mixed(20, 9)])  # equal ones are distinct all the same
            raw.create(b"Archive.2009")
            odd = [message.content for message in generated()]
            raw.append(b"Archive.2009", odd, [b"\\Flagged", b"$Forwarded"])
        to_target = arguments(source, target, user, user, tmp_path)
        to_whole = arguments(source, target, user, WHOLE, tmp_path)
        for number in range(KILLS):
            assert await kill_after(draw.uniform(0.5, 1.5), ["--limit-rate", RATE, *to_target], tmp_path)
            with source.open(user) as raw:
                fill(raw, range(FIRST + number * MORE, FIRST + (number + 1) * MORE))
        whole = await move("move_imap", tmp_path / "other", *to_whole)
        for _ in range(2):  # the second finds nothing to do
            resumed = await move("move_imap", tmp_path, *to_target)
            assert (resumed.code, whole.code) == (0, 0), resumed.output + resumed.errors + whole.output
            assert "perhaps doubled" not in resumed.output
            wanted = mail(target, WHOLE)
            assert wanted[b"INBOX"].total() == FIRST + KILLS * MORE + 20
            assert mail(target, user) == wanted
        assert " 0 copied" in resumed.output


def fill(raw: RawImap, numbers: range) -> None:
    messages = mixed(numbers.stop, 9)[numbers.start :]
    raw.append(b"INBOX", [one.content for one in messages], [b"\\Seen"], [spread_date(number) for number in numbers])


def arguments(source: Place, target: Place, user: str, new_user: str, directory: Path) -> list[str]:
    passwords = ["--oldPasswordFile", str(directory / "password"), "--newPasswordFile", str(directory / "password")]
    old, new = (f"127.0.0.1:{place.port}" for place in (source, target))
    return [*passwords, "--quarantine", str(directory / "aside"), old, user, "*", new, new_user, "*"]


def mail(target: Place, login: str) -> dict[bytes, Counter[tuple[bytes, frozenset[bytes], bytes]]]:
    """All that an account holds, each message with how often it is there."""
    with target.open(login) as raw:
        names = (b"INBOX", target.name(("Archive", "2009")))
        return {name: Counter(_key(message) for message in raw.messages(name)) for name in names}


def _key(message: Stored) -> tuple[bytes, frozenset[bytes], bytes]:
    return message.content, message.flags, message.internal_date


async def kill_after(seconds: float, command: list[str], directory: Path) -> bool:
    """Start the program and kill it; whether it was still running."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "migrator.move_imap", *command,
        env={**os.environ, "EXTAUTH_MOVES": str(directory / "moves.db"), "PYTHONPATH": str(_ROOT)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    await asyncio.wait([asyncio.ensure_future(process.wait())], timeout=seconds)
    if process.returncode is None:
        process.send_signal(signal.SIGKILL)
    return await process.wait() == -signal.SIGKILL
