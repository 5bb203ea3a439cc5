"""What a later run does with what the last one remembered: passes over mailboxes in which nothing new has come.

The rules are in passes.py; here both servers are asked, all mailboxes at once, and the outcome is written down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from migrator.flag_memory import FlagMemory
from migrator.marks import MailboxMarks, left_to_copy
from migrator.options import CopyOptions
from migrator.passes import SOURCE_ITEMS, TARGET_ITEMS, Pass, Standing, may_pass_over
from migrator.plan import Pair, show
from migrator.report import MailboxReport
from migrator.session import Session
from migrator.side_by_side import side_by_side
from wire.imap.results import Selected


@dataclass(frozen=True, slots=True)
class Ended:
    """A mailbox that was looked at to its end."""

    marks: MailboxMarks
    opened: Selected  # the source, before its messages were listed
    uids: Sequence[int]  # its messages
    flags: FlagMemory | None  # as seen before anything was copied; None where they are not synchronised


async def look(session: Session, pairs: Sequence[Pair]) -> None:
    """Ask both servers how the mailboxes stand that an earlier run has passed over; the others are opened anyway."""
    session.passes = await session.marks.passes()
    condstore = session.options.sync_flags and "CONDSTORE" in session.source.capabilities
    # Dovecot counts changes of flags from the first time that somebody asks for HIGHESTMODSEQ; EXAMINE does not ask.
    asked = [pair.source for pair in pairs if condstore or pair.source in session.passes]
    if not asked or not may_pass_over(session.options):
        return
    complete = [pair.target for pair in pairs if (last := session.passes.get(pair.source)) and last.complete]
    session.touch()
    sources, targets = await side_by_side(
        session.source.status_many(asked, [*SOURCE_ITEMS, "HIGHESTMODSEQ"] if condstore else SOURCE_ITEMS),
        session.target.status_many(complete, TARGET_ITEMS),
    )
    session.standings = {name: Standing.of(status) for name, status in sources.items()}
    session.there = {name: status.get("UIDVALIDITY", 0) for name, status in targets.items()}
    session.around.checkpoint("both: asked how mailboxes stand")


def is_passed_over(session: Session, pair: Pair, box: MailboxReport) -> bool:
    """Whether there is nothing to do for a pair, by what `look` has found; its report then says so."""
    last, standing = session.passes.get(pair.source), session.standings.get(pair.source)
    if last is None or standing is None or not may_pass_over(session.options):
        return False
    if not last.still_holds(standing, session.there.get(pair.target, 0), session.options):
        return False
    box.messages = box.already = standing.messages
    return True


async def remember(session: Session, ended: Ended) -> None:
    """Write down how a mailbox stood at the source before it was looked at, now that all is done with it."""
    marks, opened, options = ended.marks, ended.opened, session.options
    if not opened.uid_sticky:
        return  # its uids are others tomorrow
    last = session.passes.get(marks.source)
    if last is not None and not belongs_to(last, marks):
        last = None
    standing = session.standings.get(marks.source)
    if standing is None or standing.uidvalidity != opened.uidvalidity:
        standing = Standing(opened.uidvalidity, opened.uidnext, opened.exists, opened.highestmodseq or 0)
    flags = ended.flags
    if flags is not None:
        flags = flags.updated({}, keep={uid for uid in ended.uids if uid in marks.runs})
    elif last is not None and last.flags is not None:  # what a run without --syncFlags has not looked at stays owed
        flags, standing = last.flags, replace(standing, modseq=last.standing.modseq)
    complete = not marks.intents and not left_to_copy(ended.uids, marks)
    now = Pass(standing, marks.target_uidvalidity, complete, options.acl, flags)
    if now == last:
        return
    session.around.checkpoint("journal: before a pass")
    await session.marks.passed(marks, now)
    session.around.checkpoint("journal: after a pass")


def belongs_to(last: Pass, marks: MailboxMarks) -> bool:
    """Whether a pass was over these two mailboxes: not where one of them was made anew since."""
    both = (last.standing.uidvalidity, last.target_uidvalidity)
    return both == (marks.source_uidvalidity, marks.target_uidvalidity)


def may_recopy(marks: MailboxMarks, pair: Pair, options: CopyOptions) -> bool:
    """Whether a person said that this mailbox may be copied again, now that its target was made anew."""
    return marks.recopy or bool({"*", show(pair.source)} & options.recopy)
