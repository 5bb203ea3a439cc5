"""What a copy would do, mailbox by mailbox (--dry-run). Writes nothing: not at the source, the target or in the marks.

The source's mailboxes are opened by EXAMINE, the target's too, and only where they exist. What can only be known by
copying is said in notes: messages that are found again by their content count as to be copied here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from migrator.access import Access
from migrator.account_plan import ends_of, plan_account
from migrator.mailbox_copy import passes
from migrator.marks import Change, MailboxMarks, MarkStore
from migrator.options import CopyOptions
from migrator.passes import Pass
from migrator.plan import Pair
from migrator.report import LargeMessage
from migrator.resolution import summaries_of
from migrator.session import Session, Surroundings
from migrator.uidl_marks import Listing, UidlState, UidlStore
from wire.imap.results import Summary
from wire.outcome import Permanent

_STRETCH: Final = 2000  # messages whose sizes are in memory at once


@dataclass(slots=True)
class MailboxPreview:
    """One mailbox of the source, and what would become of its messages."""

    source: str
    target: str
    exists: bool = True  # at the target; otherwise it would be created
    messages: int = 0
    to_copy: int = 0
    octets: int = 0  # of those to copy, as the source states their sizes
    already: int = 0
    left_out: int = 0
    too_large: list[LargeMessage] = field(default_factory=list)
    held: str = ""  # why nothing of it would be copied
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Preview:
    """One account's copy, before it is made."""

    source: str
    target: str
    mailboxes: list[MailboxPreview] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)  # mailbox, why it would not be copied

    @property
    def problems(self) -> list[str]:
        """What a person must look at before the copy."""
        return [f"{box.source}: {box.held}" for box in self.mailboxes if box.held]

    @property
    def postponed(self) -> list[str]:
        """What another run must go on with: nothing, for nothing was begun."""
        return []

    def total(self, what: str) -> int:
        """The sum of a number over all mailboxes."""
        return sum(getattr(box, what) for box in self.mailboxes)

    def as_json(self) -> dict[str, Any]:
        """Plain values for json.dumps."""
        numbers = ("messages", "to_copy", "octets", "already", "left_out")
        return {
            "dry_run": True,
            "source": self.source,
            "target": self.target,
            "totals": {name: self.total(name) for name in numbers},
            "mailboxes": [asdict(box) for box in self.mailboxes],
            "skipped": [{"mailbox": name, "reason": reason} for name, reason in self.skipped],
            "problems": self.problems,
        }


class ReadOnlyMarks:
    """The marks of earlier runs, if there are any, for looking at."""

    def __init__(self, marks: MarkStore | None) -> None:
        self._marks = marks

    async def targets(self) -> dict[bytes, bytes]:
        """The target names chosen in earlier runs."""
        return await self._marks.targets() if self._marks else {}

    async def load(self, source: bytes) -> MailboxMarks | None:
        """The marks of a source mailbox."""
        return await self._marks.load(source) if self._marks else None

    async def open(self, marks: MailboxMarks) -> None:
        """Never: a dry run writes nothing."""
        raise AssertionError(f"a dry run would write marks of {marks.source!r}")

    async def record(self, marks: MailboxMarks, change: Change) -> None:
        """Never: a dry run writes nothing."""
        raise AssertionError(f"a dry run would write {change} of {marks.source!r}")

    async def passes(self) -> dict[bytes, Pass]:
        """None: a dry run counts."""
        return {}

    async def passed(self, marks: MailboxMarks, last: Pass) -> None:
        """Never: a dry run writes nothing."""
        raise AssertionError(f"a dry run would write {last} of {marks.source!r}")


async def preview_account(
    source: Access, target: Access, options: CopyOptions, marks: MarkStore | None, around: Surroundings | None = None
) -> Preview:
    """Between two IMAP servers. Raises what `mover.copy_account` raises before it begins."""
    source, target = ends_of(source, target, options)
    preview = Preview(source.label, target.label)
    session = await Session.open(source, target, options, ReadOnlyMarks(marks), around or Surroundings())
    try:
        plan = await plan_account(session)
        preview.skipped = list(plan.skipped)
        for pair in plan.pairs:
            box = MailboxPreview(pair.source_name, pair.target_name, notes=list(pair.notes))
            preview.mailboxes.append(box)
            try:
                await _preview_mailbox(session, pair, box)
            except Permanent as trouble:
                box.held = str(trouble)
        await session.close()
    finally:
        session.abort()
    return preview


async def _preview_mailbox(session: Session, pair: Pair, box: MailboxPreview) -> None:
    session.touch()
    opened = await session.source.examine(pair.source)
    uids = await session.source.uid_search(b"ALL")
    box.messages = len(uids)
    box.exists = pair.target in session.existing
    marks = await session.marks.load(pair.source)
    if marks is not None and not marks.empty:
        there = await session.target.examine(pair.target) if box.exists else None
        if there is None or there.uidvalidity != marks.target_uidvalidity:
            box.held = "the target mailbox was removed or made anew since it was copied"
            return
        if marks.source_uidvalidity != opened.uidvalidity or not opened.uid_sticky:
            box.notes.append("the source gave new uids: what is at the target already is found again when it is copied")
            marks = None
        elif marks.intents:
            box.notes.append(f"a run broke off within {len(marks.intents)} messages: some may be there already")
    left = [uid for uid in uids if marks is None or uid not in marks.runs]
    box.already = len(uids) - len(left)
    for start in range(0, len(left), _STRETCH):
        session.touch()
        found = await summaries_of(session.source, left[start : start + _STRETCH])
        for uid, summary in found.items():
            _count(box, uid, summary, session.options)


def _count(box: MailboxPreview, uid: int, summary: Summary, options: CopyOptions) -> None:
    if options.date_filter is not None and not passes(options.date_filter, summary.internal_date):
        box.left_out += 1
    elif 0 < options.max_size < summary.size:
        box.left_out += 1
        box.too_large.append(LargeMessage(str(uid), summary.size))
    else:
        box.to_copy += 1
        box.octets += summary.size


async def preview_maildrop(source: Access, target: str, options: CopyOptions, marks: UidlStore | None) -> Preview:
    """Of a POP source, to the target named; only what UIDLs tell is known before the messages are fetched."""
    from migrator.pop_source import PopSource  # noqa: PLC0415 - only a look at a maildrop needs POP

    pop = await PopSource.open(source, options.timeout)
    try:
        known = await marks.load() if marks else {}
        listing = Listing(pop.listing, known)
        box = MailboxPreview("INBOX", "INBOX", messages=len(pop.listing))
        for number, _ in pop.listing:
            key = listing.known(number)
            if key is not None and known[key].state is UidlState.COPIED:
                box.already += 1
            elif 0 < options.max_size < (size := pop.sizes.get(number, 0)):
                box.left_out += 1
                box.too_large.append(LargeMessage(pop.name_of(number), size))
            else:
                box.to_copy += 1
                box.octets += pop.sizes.get(number, 0)
        if not pop.has_uidls and known:
            box.notes.append("the server knows no UIDLs: what was copied already is found again when it is copied")
        await pop.close()
    finally:
        pop.abort()
    return Preview(source.label, target, [box])
