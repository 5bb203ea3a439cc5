"""The last look at a target mailbox: whether what the target confirmed is there.

A server that says OK and stores nothing gives out no uid for it, or names one at or above its own next uid. What it
certainly never stored is not copied, and is tried again by the next run; what was given a uid and is gone may have been
moved or deleted by the user meanwhile, and is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from migrator.marks import UNKNOWN, MailboxMarks, Runs
from migrator.report import MailboxReport, RefusedMessage
from migrator.session import Session
from wire.imap.client import ImapClient

NEVER_STORED: Final = "the target said OK to it and has not stored it"


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What this run has been told OK for."""

    floor: int  # the target's next uid when the mailbox was opened
    nowhere: Sequence[int]  # source uids of those that could not be found at the target afterwards
    told: bool  # the target has said of at least one where it is


@dataclass(frozen=True, slots=True)
class Arrived:
    """How many earlier ones are gone and how many of this run are not there; which ones were never stored."""

    gone: int
    missing: int
    never: tuple[int, ...]  # source uids


def judge(runs: Sequence[tuple[int, int]], there: set[int], uidnext: int, confirmed: Confirmed) -> Arrived:
    """Pure. `uidnext` is the target's now, 0 where it does not say.

    Every message that is stored takes one uid. Where all uids given out since `floor` belong to messages of known
    place, those of unknown place took none. A target that has named some places may have named wrong ones where others
    are nowhere to be found: then nothing is certain but the number, unless no uid was given out at all.
    """
    gone = [(uid, place) for uid, place in runs if place != UNKNOWN and place not in there]
    late = [(uid, place) for uid, place in gone if place >= confirmed.floor]
    earlier = len(gone) - len(late)
    misplaced = [uid for uid, place in late if uidnext and place >= uidnext]
    doubtful = [*confirmed.nowhere, *misplaced]
    lost = len(late) - len(misplaced)  # they had a uid
    if not uidnext:
        unclaimed = {uid for uid in there if uid >= confirmed.floor}.difference(place for _, place in runs)
        return Arrived(earlier, lost + max(0, len(doubtful) - len(unclaimed)), ())
    known = sum(1 for _, place in runs if confirmed.floor <= place < uidnext)
    free = max(0, uidnext - confirmed.floor - known)  # uids of other mail, or of messages of unknown place
    if not free and (uidnext == confirmed.floor or not (confirmed.told and confirmed.nowhere)):
        return Arrived(earlier, lost, tuple(doubtful))
    return Arrived(earlier, lost + max(0, len(doubtful) - free), ())


async def look_for(
    target: ImapClient, mailbox: bytes, runs: Sequence[tuple[int, int]], confirmed: Confirmed
) -> Arrived:
    """The same of a mailbox that is open at the target."""
    there = set(await target.fresh_uid_search())
    uidnext = 0
    if confirmed.nowhere or any(place >= confirmed.floor and place not in there for _, place in runs):
        uidnext = (await target.select(mailbox)).uidnext
    return judge(runs, there, uidnext, confirmed)


async def count_arrived(
    session: Session, marks: MailboxMarks, report: MailboxReport, confirmed: Confirmed
) -> MailboxMarks:
    """Count at the target what this run and earlier ones have put there; the marks as they hold from now on."""
    runs = list(marks.runs)
    arrived = await look_for(session.target, session.target_access.prefix + marks.target, runs, confirmed)
    report.gone, report.missing = arrived.gone, arrived.missing
    if not arrived.never:
        return marks
    never = frozenset(arrived.never)
    left = Runs()
    left.add_all((uid, place) for uid, place in runs if uid not in never)
    kept = replace(marks, runs=left, refused={**marks.refused, **dict.fromkeys(never, NEVER_STORED)})
    session.around.checkpoint("journal: before new marks")
    await session.marks.open(kept)
    session.around.checkpoint("journal: after new marks")
    session.lessons.refused.update((marks.source, uid) for uid in never)
    report.copied -= len(never)
    report.refused += [RefusedMessage(str(uid), 0, NEVER_STORED) for uid in sorted(never)]
    return kept
