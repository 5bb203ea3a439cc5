"""One mailbox: from marks and two open mailboxes to every message stored once.

Each batch is written down before it is sent (intent, with the target's next UID as its floor) and after
(result). A run that is broken off anywhere leaves at most one batch in doubt, and the next run settles
that before it goes on. Messages are streamed: what stands in memory is one piece of one message.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from migrator.dates import header_date, parse_internal_date, render_internal_date
from migrator.fetch_item import PEEK, PLAIN, settle_fetch_item
from migrator.flags import FlagRules
from migrator.identity import refuse_same_mailbox
from migrator.marks import UNKNOWN, Change, MailboxMarks, group, left_to_copy
from migrator.options import DateFilter
from migrator.plan import Pair, ancestors, safer_name, show
from migrator.report import LargeMessage, MailboxReport, Progress, RefusedMessage
from migrator.resolution import count_late_arrivals, locate, rematch, resolve_intents, summaries_of
from migrator.rewrite import break_lines
from migrator.session import Session
from wire.imap.results import Appended, Selected, Summary
from wire.imap.transfer import Body
from wire.outcome import MailboxUnavailable, MessageRefused, Permanent, Temporary, Throttled

BATCH_MESSAGES: Final = 200  # one commit before, one after: the fsync is shared well enough
BATCH_OCTETS: Final = 2 << 20  # what a crash leaves in doubt, and has fetched again from both sides to settle it
_STRETCH: Final = 2000  # messages whose flags, dates and sizes are in memory at once
MOST_BREAKS: Final = 3  # connections lost within one message before this run goes on without it
_BROKE_OFF: Final = "the connection broke off within it"
_NAMED: Final = 20  # messages whose uids a note gives
_WINDOW: Final = 16  # FETCH commands under way: hides the source's round trip, a few hundred KB of reading ahead


class MailboxHeld(Permanent):
    """This mailbox waits for a person; nothing of it was copied in this run."""


@dataclass(slots=True)
class _Batch:
    """What became of the messages of one batch so far."""

    uids: list[int]
    floor: int
    appended: dict[int, int] = field(default_factory=dict)  # source uid -> target uid or UNKNOWN, as confirmed
    refused: dict[int, str] = field(default_factory=dict)
    vanished: list[int] = field(default_factory=list)
    sending: int = 0  # the source uid that the target is being sent
    broken: int = 0  # the source uid within which the source's connection broke: not stored, for certain
    cut: int = 0  # the source uid within which the source gave up, and the target's connection had to be cut


class MailboxCopy:
    """Copies one pair of mailboxes over an open Session. `run` may be called once."""

    def __init__(self, session: Session, pair: Pair, report: MailboxReport, others: frozenset[int]) -> None:
        self._session = session
        self._pair = pair
        self._report = report
        self._others = others  # target uids that came from other source mailboxes into this one
        self._target_name = pair.target
        self._floor = 0
        self._uidvalidity = 0
        self._rules = FlagRules(frozenset(), any_keyword=True)
        self._sizes: dict[int, Summary] = {}  # of this stretch
        self._dates: dict[int, bytes | None] = {}  # instead of impossible ones
        self._done = 0
        self._told = -1
        self._todo = 0
        self._rewritten: list[int] = []  # source uids of messages whose lines were broken (--fixLongLines)

    async def run(self) -> None:
        """Copy what is missing. Mailbox trouble is raised as MailboxUnavailable, MailboxHeld or Temporary."""
        session, report = self._session, self._report
        session.touch()
        opened = await (session.source.select if self._may_select() else session.source.examine)(self._pair.source)
        session.around.checkpoint("source: opened a mailbox")
        uids = await session.source.uid_search(b"ALL")
        await settle_fetch_item(session, uids)
        report.messages = report.left = len(uids)
        selected = await self._open_target()
        self._rules = FlagRules.of(selected.permanent_flags)
        marks = await self._find_marks(opened, selected, uids)
        report.already = sum(1 for uid in uids if uid in marks.runs)
        report.left = len(uids) - report.already
        resolved = await resolve_intents(session, marks, set(uids), self._others, report)
        if left_to_copy(uids, marks):
            await self._refuse_same(opened, selected, uids)
        try:
            await self._copy_all(marks, uids)
        finally:
            self._note_rewritten()
        if resolved is not None:
            report.doubled = await count_late_arrivals(session, marks, resolved, self._others)
        await self._verify(marks)
        if session.options.delete:
            await self._delete(marks, uids)

    def _may_select(self) -> bool:
        """Whether the source may be open for writing while messages are fetched: not where RFC822 may be the item."""
        return self._session.options.delete and self._session.options.fetch_item not in (PEEK, PLAIN)

    # Opening ---------------------------------------------------------------------------------------------------

    async def _open_target(self) -> Selected:
        target, name = self._session.target, self._pair.target
        try:
            selected = await target.select(name)
        except MailboxUnavailable:
            selected = await self._create_target()
        self._session.around.checkpoint("target: opened a mailbox")
        if selected.read_only:
            raise MailboxHeld(f"the target mailbox {show(self._target_name)!r} can only be read")
        self._uidvalidity = selected.uidvalidity
        self._floor = selected.uidnext or max(await target.uid_search(b"ALL"), default=0) + 1
        return selected

    async def _create_target(self) -> Selected:
        """Create the mailbox, its parents where they must come first, under a safer name where this one is refused."""
        session = self._session
        target, separator = session.target, session.target_naming.separator
        try:
            await self._create(self._pair.target)
        except MailboxUnavailable as refusal:
            safer = safer_name(self._pair.target, separator)
            if safer == self._pair.target or safer in session.names:
                raise
            await self._create(safer)
            session.names.add(safer)
            session.renamed[self._pair.target] = safer
            self._target_name = safer
            self._report.target = show(safer)
            self._report.note(f"the target refused its name ({refusal.text}), so it became {show(safer)!r}")
        return await target.select(self._target_name)

    async def _create(self, name: bytes) -> None:
        target = self._session.target
        self._session.around.checkpoint("target: before CREATE")
        try:
            await target.create(name)
        except MailboxUnavailable:
            above = ancestors(name, self._session.target_naming.separator)
            if not above:
                raise
            for parent in above:
                try:
                    await target.create(parent)
                except MailboxUnavailable:
                    continue  # it is there already, or the child's own refusal says why not
            await target.create(name)
        self._session.around.checkpoint("target: after CREATE")

    async def _find_marks(self, opened: Selected, selected: Selected, uids: list[int]) -> MailboxMarks:
        """The marks that hold for these two mailboxes as they are now."""
        session = self._session
        marks = await session.marks.load(self._pair.source)
        if marks is None or (marks.empty and marks.target_uidvalidity != selected.uidvalidity):
            await self._refuse_same(opened, selected, uids)
            name = self._target_name.removeprefix(session.target_access.prefix)
            marks = MailboxMarks(self._pair.source, name, opened.uidvalidity, selected.uidvalidity)
            await session.marks.open(marks)
            session.around.checkpoint("journal: opened marks")
            return marks
        if marks.target_uidvalidity != selected.uidvalidity:
            raise MailboxHeld(
                f"the target mailbox {show(self._target_name)!r} was made anew since it was copied: its UIDVALIDITY"
                f" was {marks.target_uidvalidity} and is {selected.uidvalidity}; nothing is copied, nothing is doubled"
            )
        if marks.source_uidvalidity != opened.uidvalidity or not opened.uid_sticky:
            await self._refuse_same(opened, selected, uids)
            marks = await rematch(session, marks, opened.uidvalidity, uids, self._others)
            self._report.note(
                f"the source gave new uids: {len(marks.runs)} of {len(uids)} messages were found again at the target"
            )
        return marks

    async def _refuse_same(self, opened: Selected, selected: Selected, uids: list[int]) -> None:
        session = self._session
        await refuse_same_mailbox(session.source, session.target, opened, selected, uids)

    # Copying ---------------------------------------------------------------------------------------------------

    async def _copy_all(self, marks: MailboxMarks, uids: Sequence[int]) -> None:
        session, report = self._session, self._report
        await self._set_back(marks, left_to_copy(uids, marks))
        left = left_to_copy(uids, marks)
        given_up = [uid for uid in left if session.breaks[self._pair.source, uid] >= MOST_BREAKS]
        todo = [uid for uid in left if (self._pair.source, uid) not in session.refused and uid not in given_up]
        report.already = len(uids) - len(left)
        report.refused = [
            RefusedMessage(str(uid), 0, marks.refused.get(uid, ""))
            for uid in left
            if (self._pair.source, uid) in session.refused
        ]
        self._todo = len(todo)
        report.left = len(todo) + len(given_up)
        if given_up:
            report.postponed = "; ".join(f"message {uid}: {marks.refused.get(uid, '')}" for uid in given_up[:_NAMED])
        for start in range(0, len(todo), _STRETCH):
            session.around.check_window(session.options.window)
            stretch = todo[start : start + _STRETCH]
            self._sizes = await summaries_of(session.source, stretch)
            wanted = self._wanted(stretch)
            await self._replace_dates(wanted)
            sizes = {uid: self._sizes[uid].size for uid in wanted}
            for uids_of_batch in group(wanted, sizes, count=BATCH_MESSAGES, octets=BATCH_OCTETS):
                await self._copy_batch(marks, uids_of_batch)
        if self._told != self._done:
            self._tell()

    async def _set_back(self, marks: MailboxMarks, left: Sequence[int]) -> None:
        """Messages within which a connection was lost stand last from now on: they keep no other from being copied."""
        breaks, source = self._session.breaks, self._pair.source
        for uid, reason in marks.refused.items():
            if reason == _BROKE_OFF and not breaks[source, uid]:
                breaks[source, uid] = MOST_BREAKS - 1  # an earlier run has tried it: once more is enough
        found = [uid for uid in left if breaks[source, uid] and uid not in marks.refused]
        await self._session.record(marks, Change(refused=dict.fromkeys(found, _BROKE_OFF)))

    def _wanted(self, stretch: Sequence[int]) -> list[int]:
        """Those of the stretch that are still there and that no option leaves out."""
        report, chosen = self._report, self._session.options.date_filter
        wanted = []
        for uid in stretch:
            if uid not in self._sizes:
                report.vanished += 1
                report.left -= 1
            elif chosen is not None and not passes(chosen, self._sizes[uid].internal_date):
                report.left_out += 1
                report.left -= 1
            elif 0 < self._session.options.max_size < self._sizes[uid].size:
                report.too_large.append(LargeMessage(str(uid), self._sizes[uid].size))
                report.left_out += 1
                report.left -= 1
            else:
                wanted.append(uid)
        return wanted

    async def _copy_batch(self, marks: MailboxMarks, uids: list[int]) -> None:
        session = self._session
        batch = _Batch(uids, self._floor)
        await session.record(marks, Change(intended=uids, floor=batch.floor, recorded_at=session.around.now()))
        try:
            await self._send(batch, uids)
            for uid in sorted(batch.refused):  # once more, alone: the trouble may have been with its neighbours
                session.touch()
                first = batch.refused.pop(uid)
                await self._send(batch, [uid])
                if uid in batch.refused and first != batch.refused[uid]:
                    batch.refused[uid] += f" (first: {first})"
        except (Temporary, MailboxUnavailable) as trouble:
            if isinstance(trouble, Temporary) and not trouble.code and not isinstance(trouble, Throttled):
                self._suspect(batch)
            await self._record_what_is_sure(marks, batch)
            raise
        await self._find_uids(batch)
        change = Change(copied=sorted(batch.appended.items()), refused=batch.refused, dropped=batch.vanished)
        await session.record(marks, change)
        self._count(batch)

    def _suspect(self, batch: _Batch) -> None:
        """Remember within which message the connection was lost: of a source that gave none, the one that was due."""
        dealt_with = {*batch.appended, *batch.refused, *batch.vanished}
        uid = batch.broken or batch.sending or next((uid for uid in batch.uids if uid not in dealt_with), 0)
        if uid and not batch.cut:
            self._session.breaks[self._pair.source, uid] += 1

    async def _send(self, batch: _Batch, uids: Sequence[int]) -> None:
        session = self._session
        window = 1 if session.options.one_by_one else _WINDOW
        async with aclosing(
            session.source.fetch_bodies(uids, item=session.options.fetch_item, window=window)
        ) as bodies:
            async for body in bodies:
                session.touch()
                await self._pass_on(batch, body)

    async def _pass_on(self, batch: _Batch, body: Body) -> None:
        """One message from the source to the target; what became of it is in `batch`."""
        session = self._session
        if body.size is None and body.trouble:
            batch.refused[body.uid] = f"the source does not give it: {body.trouble}"
        elif body.size is None:
            batch.vanished.append(body.uid)
        else:
            batch.sending = body.uid
            try:
                appended = await self._append(batch, body)
            except MessageRefused as refusal:
                batch.refused[body.uid] = refusal.text
                batch.cut, batch.sending = body.uid, 0
                await session.target.noop()  # Temporary if the source failed within the literal: the target was cut off
                batch.cut = 0
            else:
                batch.appended[body.uid] = self._confirmed(appended)
            batch.sending = 0
            session.around.checkpoint("target: a message was answered")

    async def _append(self, batch: _Batch, body: Body) -> Appended:
        """Stream one message; its length is that of the literal which the source announced (never RFC822.SIZE)."""
        assert body.size is not None
        summary = self._sizes[body.uid]
        flags, lost = self._rules.split(summary.flags)
        for flag in lost:
            self._report.note(f"the target cannot keep the flag {show(flag)}")
        date = self._dates.get(body.uid, summary.internal_date)
        session, name, chunks = self._session, self._target_name, _watched(batch, body)
        if not session.options.longest_line:
            session.around.checkpoint("target: before APPEND")
            return await session.target.append(name, flags, date, body.size, chunks)
        message = await break_lines(chunks, session.options.longest_line)
        try:
            session.touch()
            session.around.checkpoint("target: before APPEND")
            appended = await session.target.append(name, flags, date, message.size, message.chunks())
        finally:
            message.close()
        if message.broken:
            self._rewritten.append(body.uid)
        return appended

    def _note_rewritten(self) -> None:
        if not self._rewritten:
            return
        uids = ", ".join(str(uid) for uid in self._rewritten[:_NAMED])
        more = ", ..." if len(self._rewritten) > _NAMED else ""
        self._report.note(
            f"{len(self._rewritten)} messages had lines longer than {self._session.options.longest_line} bytes,"
            f" which were broken: {uids}{more}"
        )

    async def _replace_dates(self, uids: Sequence[int]) -> None:
        """Dates for messages whose own is none that a calendar has: from their headers, else the target's clock."""
        impossible = [uid for uid in uids if parse_internal_date(self._sizes[uid].internal_date) is None]
        if not impossible:
            return
        headers = await self._session.source.fetch_headers(impossible, ("Received", "Date"))
        for uid in impossible:
            when = header_date(headers.get(uid, b""), now=datetime.fromtimestamp(self._session.around.now(), UTC))
            self._dates[uid] = render_internal_date(when) if when else None
            raw = show(self._sizes[uid].internal_date or b"none")
            by = "the date in its header" if when else "the target's clock"
            self._report.note(f"message {uid} has an impossible date ({raw}): replaced by {by}")

    def _confirmed(self, appended: Appended) -> int:
        """The target uid, if the server gave one that can be true."""
        if appended.uid is None or appended.uid < self._floor or appended.uidvalidity != self._uidvalidity:
            return UNKNOWN
        self._floor = appended.uid + 1
        return appended.uid

    async def _find_uids(self, batch: _Batch) -> None:
        """Ask where the messages are that were confirmed without a uid."""
        unknown = [uid for uid, target in batch.appended.items() if target == UNKNOWN]  # in the order they were sent
        if not unknown:
            return
        taken = frozenset(target for target in batch.appended.values() if target) | self._others
        found, top = await locate(self._session, unknown, batch.floor, taken)
        batch.appended.update(found)
        self._floor = max(self._floor, top + 1)
        if len(found) < len(unknown):
            self._report.note("the target confirmed messages that cannot be told from others there")

    async def _record_what_is_sure(self, marks: MailboxMarks, batch: _Batch) -> None:
        """After a break: what was confirmed is copied, what was never begun not intended, the rest in doubt."""
        settled = {uid: target for uid, target in batch.appended.items() if target != UNKNOWN}
        confirmed = [uid for uid in batch.appended if uid not in settled]
        refused = {uid: why for uid, why in batch.refused.items() if uid == batch.cut}
        in_doubt = {*settled, *confirmed, *refused, batch.sending} - {batch.broken}
        never = [uid for uid in batch.uids if uid not in in_doubt]
        change = Change(copied=sorted(settled.items()), refused=refused, dropped=never, confirmed=confirmed)
        await self._session.record(marks, change)
        self._count(_Batch(batch.uids, batch.floor, batch.appended, refused))

    def _count(self, batch: _Batch) -> None:
        report = self._report
        report.copied += len(batch.appended)
        report.octets += sum(self._sizes[uid].size for uid in batch.appended)
        report.refused += [RefusedMessage(str(uid), self._sizes[uid].size, why) for uid, why in batch.refused.items()]
        report.vanished += len(batch.vanished)
        self._session.refused.update((self._pair.source, uid) for uid in batch.refused)
        dealt_with = len(batch.appended) + len(batch.refused) + len(batch.vanished)
        report.left -= dealt_with
        self._done += dealt_with
        self._tell()

    def _tell(self) -> None:
        self._told = self._done
        self._session.tell(Progress(self._report.source, self._done, self._todo, self._report.octets))

    # Afterwards ------------------------------------------------------------------------------------------------

    async def _verify(self, marks: MailboxMarks) -> None:
        """Count at the target what this run and earlier ones have put there."""
        if not self._report.copied:
            return  # nothing has changed since the run that counted
        await self._session.target.noop()
        there = set(await self._session.target.uid_search(b"ALL"))
        self._report.gone = sum(1 for _, target in marks.runs if target != UNKNOWN and target not in there)

    async def _delete(self, marks: MailboxMarks, uids: Sequence[int]) -> None:
        """Delete at the source what the target has confirmed and still shows, and nothing else."""
        session, report = self._session, self._report
        await session.target.noop()
        there = set(await session.target.uid_search(b"ALL"))
        sure = [uid for uid in uids if (marks.runs.target_of(uid) or UNKNOWN) in there]
        kept = sum(1 for uid in uids if uid in marks.runs) - len(sure)
        if kept:
            report.note(f"{kept} copied messages stay at the source: the target does not show them any more")
        if not sure:
            return
        if not self._may_select() and not await self._select_again(marks):
            return
        session.around.checkpoint("source: before deleting")
        others = set(await session.source.uid_search(b"DELETED")) - set(sure)
        await session.source.store_flags(sure, b"+FLAGS.SILENT", [b"\\Deleted"])
        if await session.source.expunge_uids(sure):
            pass
        elif others:
            report.note("the source cannot remove single messages and holds others marked as deleted: all stay, marked")
            return
        else:
            await session.source.command(b"EXPUNGE")
        report.deleted = len(sure)
        session.around.checkpoint("source: deleted")

    async def _select_again(self, marks: MailboxMarks) -> bool:
        """Open the source for writing, at last; False, with a note, where its messages may be others than before."""
        opened = await self._session.source.select(self._pair.source)
        same = opened.uidvalidity == marks.source_uidvalidity and opened.uid_sticky
        if not same:
            self._report.note("the source gave new uids when it was opened for deleting: all messages stay")
        return same


async def _watched(batch: _Batch, body: Body) -> AsyncGenerator[bytes, None]:
    """The content of a message; whether it was the source that failed within it is in `batch`."""
    try:
        async for chunk in body.chunks:
            yield chunk
    except Temporary:
        batch.broken = body.uid
        raise


def passes(chosen: DateFilter, internal_date: bytes | None) -> bool:
    """Whether a message's INTERNALDATE, as it stands, lies on the wanted side. A message without a date passes."""
    when = parse_internal_date(internal_date)
    if when is None:
        return True
    local = when.replace(tzinfo=UTC)  # the guide compares what stands there, and names no zone
    return local >= chosen.when if chosen.after else local < chosen.when
