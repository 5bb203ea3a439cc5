"""What `make soak` does with 100,000 messages and 200 MB, with fewer and less."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bench import soak
from tests.bench.child import KILLED
from tests.servers.dovecot import Dovecot

_USERS = dict.fromkeys(("many", "boxes", "huge", "empty"), b"secret")


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Dovecot, Dovecot]]:
    with pytest.MonkeyPatch.context() as patch:
        if Path("/dev/shm").is_dir():  # thousands of small files: a disk that others use takes a minute for them
            patch.setenv("EXTAUTH_TEST_DIR", "/dev/shm")
        with Dovecot(_USERS, tuned=True) as old, Dovecot(_USERS, tuned=True) as new:
            yield old, new


def _arrived(new: Dovecot, count: int) -> Callable[[float], bool]:
    """Whether so many messages lie in the new mailbox, finished or not."""
    home = new.home("many") / "Maildir"

    def seen(_seconds: float) -> bool:
        parts = [home / part for part in ("cur", "new", "tmp")]
        return sum(len(os.listdir(part)) for part in parts if part.is_dir()) >= count

    return seen


def test_every_message_arrives_once_though_the_program_is_killed(servers: tuple[Dovecot, Dovecot]) -> None:
    """One kill: the next run waits some seconds for what the server may still be storing."""
    old, new = servers
    runs = soak.many(old, new, 2000, [_arrived(new, 500)])
    assert [run.code for run in runs] == [KILLED, 0, 0]


def test_each_of_many_mailboxes_is_copied(servers: tuple[Dovecot, Dovecot]) -> None:
    soak.boxes(*servers, 60)


def test_a_large_message_passes_through_without_being_held_in_memory(servers: tuple[Dovecot, Dovecot]) -> None:
    assert soak.huge(*servers, 48) < 16
