"""What a copy asks both servers: little, and nothing twice, for over a long line each question is most of the time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers.copy_pair import copy_pair, fill


def words(log: list[bytes]) -> list[bytes]:
    """The commands, without arguments."""
    return [b" ".join(line.split(b" ")[: 2 if line.startswith(b"UID ") else 1]) for line in log]


async def test_a_fresh_mailbox_is_opened_listed_and_seen_at_once(tmp_path: Path) -> None:
    """No command for the summaries alone, and subscriptions are asked for with the list."""
    async with copy_pair(tmp_path) as it:
        fill(it.old, 3, b"Work")
        it.old.subscribed |= {b"Work"}
        report = await it.copy()
        assert (report.total("copied"), report.subscribed) == (3, 1)
        asked = words(it.old.log)
        assert asked[:5] == [b"LOGIN", b"CAPABILITY", b"LIST", b"LSUB", b"NAMESPACE"]
        last = len(asked) - asked[::-1].index(b"EXAMINE")
        assert asked[last : last + 2] == [b"UID SEARCH", b"UID FETCH"]
        assert all(b"BODY.PEEK[]" in line for line in it.old.log[last + 2 : -1])
        again = len(it.old.log)
        report = await it.copy()
        assert (report.total("copied"), report.total("already"), report.subscribed) == (0, 3, 0)
        assert b"UID FETCH" not in words(it.old.log[again:])


@pytest.mark.parametrize("next_uid", [9_999, 20_000])
async def test_uids_beyond_what_was_seen_when_it_was_opened(tmp_path: Path, next_uid: int) -> None:
    """They are asked for as before, whether or not others were seen."""
    async with copy_pair(tmp_path) as it:
        fill(it.old, 2, b"Work")
        it.old.box(b"Work").uidnext = next_uid
        fill(it.old, 4, b"Work")
        it.old.box(b"Work").messages[0].flags.add(b"\\Flagged")
        report = await it.copy()
        assert (report.total("copied"), report.total("unexplained")) == (6, 0)
        assert sorted(it.new.box(b"Work").contents) == sorted(it.old.box(b"Work").contents)
        assert [b"\\Flagged" in flags for flags in it.new.box(b"Work").flags()] == [True] + [False] * 5


async def test_a_message_that_goes_as_the_mailbox_is_opened(tmp_path: Path) -> None:
    """Listed, and not seen: it has vanished, and is neither asked for again nor missed."""
    async with copy_pair(tmp_path) as it:
        fill(it.old, 3, b"Work")
        box = it.old.box(b"Work")
        gone = box.messages[1]

        def expunge(line: bytes) -> None:
            if line.startswith(b"UID FETCH 1:10000") and b'EXAMINE "Work"' in it.old.log and gone in box.messages:
                box.messages.remove(gone)

        it.old.on_command = expunge
        report = await it.copy()
        work = next(one for one in report.mailboxes if one.source == "Work")
        assert (work.copied, work.vanished, work.unexplained) == (2, 1, 0)
