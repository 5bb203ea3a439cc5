"""Rosters: what is no clear list never says that somebody does not exist."""

from __future__ import annotations

import os
import string
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.roster import Listed, Roster, parse_roster
from wire.outcome import Scope, Temporary

DOMAIN = "d.test"
ANN = f"ann@{DOMAIN}"


class Clock:
    """A time to be moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Kept:
    """A roster in a file, rewritten with each change as an editor does it."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self.path = directory / "roster"
        self.roster = Roster(self.path, DOMAIN, self.clock)

    def write(self, content: bytes) -> None:
        new = self.path.with_suffix(".new")
        new.write_bytes(content)
        os.replace(new, self.path)
        self.clock.now += 2


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


async def trouble(kept: Kept, address: str) -> Temporary:
    """What stands in the way of an answer."""
    with pytest.raises(Temporary) as caught:
        await kept.roster.holds(address)
    return caught.value


async def test_names_with_and_without_domain(kept: Kept) -> None:
    kept.write(b"\xef\xbb\xbfAnn\r\n# a comment\n\n  bob@D.test  # the boss\neve@other.test")
    assert [await kept.roster.holds(f"{n}@{DOMAIN}") for n in ("ann", "bob", "eve", "a comment")] == [
        True,
        True,
        False,
        False,
    ]
    assert await kept.roster.holds("eve@other.test")


async def test_missing_empty_or_broken_files_refuse_nobody(kept: Kept) -> None:
    """Those that can be read count; whoever is not found is put off."""
    assert "cannot be read" in str(await trouble(kept, ANN))
    kept.write(b"")
    assert "no address" in str(await trouble(kept, ANN))
    kept.write(b"# nobody yet\n")
    assert "no address" in str(await trouble(kept, ANN))
    for line in (b"two words", b"a;b", b"<ann@d.test>", b"a@b@c", b"\xff\xfe", b"a, b", b"\0@"):
        kept.write(b"bob\n" + line + b"\neve\n")
        assert await kept.roster.holds(f"eve@{DOMAIN}")
        found = await trouble(kept, ANN)
        assert found.scope is Scope.SETUP
        assert "line 2" in str(found), line
    kept.write(b"bob\nann\n")
    assert await kept.roster.holds(ANN)


async def test_a_change_counts_and_what_went_is_put_off_for_a_minute(kept: Kept) -> None:
    """A file that is being written looks like one that lost names."""
    kept.write(b"ann\nbob\n")
    assert await kept.roster.holds(ANN)
    kept.write(b"bob\n")
    assert "just gone" in str(await trouble(kept, ANN))
    assert not await kept.roster.holds(f"never@{DOMAIN}")
    kept.write(b"bob\neve\n")
    assert "just gone" in str(await trouble(kept, ANN)), "still in doubt while the file goes on changing"
    kept.clock.now += 61
    assert not await kept.roster.holds(ANN)
    kept.write(b"ann\n")
    assert await kept.roster.holds(ANN)


async def test_a_file_that_goes_away_refuses_nobody(kept: Kept) -> None:
    kept.write(b"ann\nbob\n")
    assert await kept.roster.holds(ANN)
    kept.path.unlink()
    kept.clock.now += 100
    for _ in range(3):
        await trouble(kept, f"other@{DOMAIN}")
        kept.clock.now += 100


async def test_the_file_is_read_once_for_many_questions(kept: Kept) -> None:
    """And looked at once a second."""
    kept.write(b"".join(b"user%d\n" % number for number in range(60_000)))
    kept.roster._file._now = lambda: time.time_ns() + 1_000_000_000  # one written just now is read once more
    assert await kept.roster.holds(f"user0@{DOMAIN}")
    first = kept.roster._file.value
    for number in range(0, 60_000, 100):
        assert await kept.roster.holds(f"user{number}@{DOMAIN}")
        kept.clock.now += 0.3
    assert kept.roster._file.value is first


def test_a_roster_for_all_domains_needs_full_addresses() -> None:
    assert parse_roster(b"ann@d.test\nbob\n", "default") == Listed(
        frozenset({ANN}), "line 2 has no domain, which the roster of domains.default needs"
    )


@given(
    st.lists(st.text(string.ascii_lowercase + string.digits + ".-_", min_size=1, max_size=8), min_size=1, max_size=8)
)
def test_what_is_written_is_what_is_listed(names: list[str]) -> None:
    content = "".join(f"{name.upper()}\r\n" for name in names).encode()
    assert parse_roster(content, DOMAIN) == Listed(frozenset(f"{name}@{DOMAIN}" for name in names))


@given(st.binary(max_size=200))
def test_no_bytes_raise(content: bytes) -> None:
    listed = parse_roster(content, DOMAIN)
    assert listed.names or listed.problem
