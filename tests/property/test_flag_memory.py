"""Remembered flags come back as they were, whatever they are."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.flag_memory import FlagMemory, plain

WORDS = st.sampled_from([b"\\Seen", b"\\Flagged", b"\\Recent", b"$Label1", b"caf\xe9", b"NonJunk"])
FLAGS = st.dictionaries(st.integers(1, 2**32 - 1), st.sets(WORDS), max_size=60)


@given(FLAGS)
def test_round_trip(flags: dict[int, set[bytes]]) -> None:
    memory = FlagMemory.of(flags)
    again = FlagMemory.parse(bytes(memory))
    assert again == memory
    assert {uid: again.get(uid) for uid in again} == {uid: plain(words) for uid, words in flags.items()}


@given(FLAGS, FLAGS)
def test_what_is_newer_counts_and_what_is_gone_is_forgotten(
    old: dict[int, set[bytes]], new: dict[int, set[bytes]]
) -> None:
    keep = set(list(old)[::2]) | set(list(new)[::2])
    merged = FlagMemory.of(old).updated(new, keep)
    assert {uid: merged.get(uid) for uid in merged} == {
        uid: plain(words) for uid, words in {**old, **new}.items() if uid in keep
    }


def test_a_large_mailbox_takes_little_room() -> None:
    flags = {uid: {b"\\Seen"} if uid % 50 else {b"\\Seen", b"\\Answered"} for uid in range(1, 20_001)}
    assert len(bytes(FlagMemory.of(flags))) < 3000


@pytest.mark.parametrize("text", [b"", b"x", zlib.compress(b"a\tb"), zlib.compress(b"a")])
def test_damage_is_seen(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"flags|invalid literal|out of range"):
        FlagMemory.parse(text)
