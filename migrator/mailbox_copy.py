"""One mailbox: from marks and two open mailboxes to every message stored once.

Both sides are opened, what an earlier run has left in doubt is settled, and what is left to copy goes through a
Delivery; in the end it is counted at the target. Nothing is copied into a mailbox that may be the source itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from migrator.arrivals import Confirmed, count_arrived
from migrator.dates import header_date, parse_internal_date, render_internal_date
from migrator.delivery import Delivery
from migrator.fetch_item import PEEK, PLAIN, settle_fetch_item
from migrator.flag_sync import bring_flags
from migrator.flags import FlagRules
from migrator.identity import refuse_arrived, refuse_same_mailbox
from migrator.ladder import origin_of
from migrator.marks import UNKNOWN, Change, MailboxMarks, left_to_copy
from migrator.options import DateFilter
from migrator.outgoing import Place
from migrator.plan import Pair, ancestors, is_inbox, safer_name, show
from migrator.report import LargeMessage, MailboxReport, RefusedMessage
from migrator.resolution import count_late_arrivals, rematch, resolve_intents, summaries_given
from migrator.second_pass import Ended, may_recopy
from migrator.session import Session
from migrator.side_by_side import both_to_the_end
from migrator.tally import Tally
from wire.imap.results import Selected, Summary
from wire.outcome import MailboxUnavailable, Permanent, Temporary, Trouble

_STRETCH: Final = 10_000  # messages whose flags, dates and sizes are asked for at once
MOST_BREAKS: Final = 3  # connections lost within one message before this run goes on without it
_BROKE_OFF: Final = "the connection broke off within it"
_NAMED: Final = 20  # messages whose uids a note gives


class MailboxHeld(Permanent):
    """This mailbox waits for a person; nothing of it was copied in this run."""


class MailboxCopy:
    """Copies one pair of mailboxes over an open Session. `run` may be called once."""

    def __init__(self, session: Session, pair: Pair, report: MailboxReport, others: frozenset[int]) -> None:
        self._session = session
        self._pair = pair
        self._report = report
        self._others = others  # target uids that came from other source mailboxes into this one
        self._target_name = pair.target
        self._unlisted = 0  # messages that the source counts and does not list
        self._seen: dict[int, Summary] | None = None  # messages with uids up to _STRETCH, from when it was opened

    async def run(self) -> Ended:
        """Copy what is missing. Mailbox trouble is raised as MailboxUnavailable, MailboxHeld or Temporary."""
        session, report = self._session, self._report
        session.touch()
        known = await session.marks.load(self._pair.source)
        (opened, uids), selected = await both_to_the_end(self._open_source(look=known is None), self._open_target())
        floor = selected.uidnext or max(await session.target.uid_search(b"ALL"), default=0) + 1
        marks = await self._find_marks(known, opened, selected, uids)
        report.already = sum(1 for uid in uids if uid in marks.runs)
        report.left = len(uids) - report.already
        present = set(uids)
        resolved = await resolve_intents(session, marks, present, self._others, report)
        rules = FlagRules.of(selected.permanent_flags)
        flags = None
        if session.options.sync_flags:
            report.expunged = sum(1 for uid, _ in marks.runs if uid not in present)
            flags = await bring_flags(session, marks, uids, rules, report)
        if left_to_copy(uids, marks):
            await self._refuse_same(opened, selected, uids)
        before = set(marks.refused)
        place = Place(self._target_name, selected.uidvalidity, rules, self._others)
        confirmed = await self._copy_all(marks, uids, place, floor)
        self._forget_arrived(marks, before)
        if resolved is not None:
            report.doubled = await count_late_arrivals(session, marks, resolved, self._others)
        if report.copied:
            marks = await count_arrived(session, marks, report, confirmed)
        if session.options.delete:
            await self._delete(marks, uids)
        if self._unlisted:
            raise Temporary(f"the source counts {opened.exists} messages and lists {len(uids)}")
        return Ended(marks, opened, uids, flags)

    def _may_select(self) -> bool:
        """Whether the source may be open for writing while messages are fetched: not where RFC822 may be the item."""
        return self._session.options.delete and self._session.options.fetch_item not in (PEEK, PLAIN)

    # Opening ---------------------------------------------------------------------------------------------------

    async def _open_source(self, *, look: bool) -> tuple[Selected, list[int]]:
        """Open it and list its messages; with `look`, for who will want most of them, see the first ones as well."""
        session = self._session
        opened, uids, self._seen = await session.source.open_with_summaries(
            self._pair.source, _STRETCH if look else 0, writing=self._may_select()
        )
        session.touch()  # a large mbox takes its time, and the target is not to blame
        session.around.checkpoint("source: opened a mailbox")
        if len(uids) < opened.exists:  # expunged meanwhile, or SEARCH has a limit of its own
            uids = sorted({*uids, *await session.source.fetch_flags()})
            self._unlisted = max(0, opened.exists - len(uids))
        await settle_fetch_item(session, uids)
        self._report.messages = self._report.left = len(uids)
        return opened, uids

    async def _open_target(self) -> Selected:
        target, name = self._session.target, self._pair.target
        selected = None
        if name not in self._session.existing and not is_inbox(name):
            self._session.around.checkpoint("target: before CREATE")
            selected = await target.create_and_select(name)
            self._session.around.checkpoint("target: after CREATE")
        try:
            selected = selected or await target.select(name)
        except MailboxUnavailable:
            selected = await self._create_target()
        self._session.around.checkpoint("target: opened a mailbox")
        if selected.read_only:
            raise MailboxHeld(f"the target mailbox {show(self._target_name)!r} can only be read")
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
            session.names.add(safer)  # at once: another session may be about to choose the same
            await self._create(safer)
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

    async def _find_marks(
        self, marks: MailboxMarks | None, opened: Selected, selected: Selected, uids: list[int]
    ) -> MailboxMarks:
        """The marks that hold for these two mailboxes as they are now."""
        session = self._session
        if marks is None or (marks.empty and marks.target_uidvalidity != selected.uidvalidity):
            await self._refuse_same(opened, selected, uids)
            if session.source_access.files is not None:
                await refuse_arrived(session.source, session.target, uids)
            return await self._begin_marks(opened, selected)
        if marks.target_uidvalidity != selected.uidvalidity and may_recopy(marks, self._pair, session.options):
            await self._refuse_same(opened, selected, uids)
            self._report.note("the target mailbox was made anew, and is copied again as you asked")
            return await self._begin_marks(opened, selected)
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

    async def _begin_marks(self, opened: Selected, selected: Selected) -> MailboxMarks:
        session = self._session
        name = self._target_name.removeprefix(session.target_access.prefix)
        marks = MailboxMarks(self._pair.source, name, opened.uidvalidity, selected.uidvalidity)
        await session.marks.open(marks)
        session.around.checkpoint("journal: opened marks")
        return marks

    async def _refuse_same(self, opened: Selected, selected: Selected, uids: list[int]) -> None:
        session = self._session
        await refuse_same_mailbox(session.source, session.target, opened, selected, uids)

    # Copying ---------------------------------------------------------------------------------------------------

    async def _copy_all(self, marks: MailboxMarks, uids: Sequence[int], place: Place, floor: int) -> Confirmed:
        """Every message that is left."""
        session, report, source = self._session, self._report, self._pair.source
        await self._set_back(marks, left_to_copy(uids, marks))
        left = left_to_copy(uids, marks)
        given_up = [uid for uid in left if session.lessons.breaks[source, uid] >= MOST_BREAKS]
        todo = [uid for uid in left if (source, uid) not in session.lessons.refused and uid not in given_up]
        report.already = len(uids) - len(left)
        report.refused = [
            RefusedMessage(str(uid), 0, marks.refused.get(uid, ""))
            for uid in left
            if (source, uid) in session.lessons.refused
        ]
        report.left = len(todo) + len(given_up)
        if given_up:
            report.postponed = "; ".join(f"message {uid}: {marks.refused.get(uid, '')}" for uid in given_up[:_NAMED])
        tally = Tally(session, source, marks, report)
        tally.todo = len(todo)
        delivery = Delivery(session, place, floor, tally, report)
        try:
            for start in range(0, len(todo), _STRETCH):
                session.around.check_window(session.options.window)
                summaries = await self._look_at(todo[start : start + _STRETCH])
                wanted = self._wanted(todo[start : start + _STRETCH], summaries)
                tally.not_given += [uid for uid in todo[start : start + _STRETCH] if uid not in summaries]
                await delivery.deliver(wanted, summaries, await self._replaced_dates(wanted, summaries))
            await delivery.finish()
            await self._look_for_vanished(marks, tally.not_given)
        except Trouble as trouble:
            await delivery.give_up(trouble)
            raise
        finally:
            self._note_rewritten(delivery)
        return Confirmed(floor, delivery.nowhere, told=delivery.told)

    async def _look_at(self, stretch: Sequence[int]) -> dict[int, Summary]:
        """Flags, date and size by uid, as far as possible from when the mailbox was opened."""
        seen, self._seen = self._seen, None
        if not seen:
            return await summaries_given(self._session.source, stretch)
        beyond = [uid for uid in stretch if uid > _STRETCH]
        return seen | (await summaries_given(self._session.source, beyond) if beyond else {})

    def _forget_arrived(self, marks: MailboxMarks, before: set[int]) -> None:
        """What an earlier run has kept as a file needs none any more, if it has arrived now."""
        quarantine = self._session.around.quarantine
        if quarantine is not None:
            for uid in sorted(before - marks.refused.keys()):
                quarantine.forget(origin_of(self._session, marks, uid))

    async def _set_back(self, marks: MailboxMarks, left: Sequence[int]) -> None:
        """Messages within which a connection was lost stand last from now on: they keep no other from being copied."""
        breaks, source = self._session.lessons.breaks, self._pair.source
        for uid, reason in marks.refused.items():
            if reason == _BROKE_OFF and not breaks[source, uid]:
                breaks[source, uid] = MOST_BREAKS - 1  # an earlier run has tried it: once more is enough
        found = [uid for uid in left if breaks[source, uid] and uid not in marks.refused]
        await self._session.record(marks, Change(refused=dict.fromkeys(found, _BROKE_OFF)))

    def _wanted(self, stretch: Sequence[int], summaries: Mapping[int, Summary]) -> list[int]:
        """Those of the stretch that are still there and that no option leaves out."""
        report, chosen = self._report, self._session.options.date_filter
        wanted = []
        for uid in stretch:
            if uid not in summaries:
                report.vanished += 1
                report.left -= 1
            elif chosen is not None and not passes(chosen, summaries[uid].internal_date):
                report.left_out += 1
                report.left -= 1
            elif 0 < self._session.options.max_size < summaries[uid].size:
                report.too_large.append(LargeMessage(str(uid), summaries[uid].size))
                report.left_out += 1
                report.left -= 1
            else:
                wanted.append(uid)
        return wanted

    async def _look_for_vanished(self, marks: MailboxMarks, uids: Sequence[int]) -> None:
        """What the source gives no word of and still lists is not gone: it cannot give it, and a person must look."""
        session, report = self._session, self._report
        if not uids or session.source_access.files is not None:  # a file that is gone stays in the list as it was read
            return
        session.touch()
        listed = set(await session.source.fresh_uid_search())
        refused = {uid: "the source lists it and does not give it" for uid in uids if uid in listed}
        await session.record(marks, Change(refused=refused))
        session.lessons.refused.update((marks.source, uid) for uid in refused)
        report.refused += [RefusedMessage(str(uid), 0, reason) for uid, reason in refused.items()]
        report.vanished -= len(refused)

    def _note_rewritten(self, delivery: Delivery) -> None:
        if not delivery.rewritten:
            return
        uids = ", ".join(str(uid) for uid in delivery.rewritten[:_NAMED])
        more = ", ..." if len(delivery.rewritten) > _NAMED else ""
        self._report.note(
            f"{len(delivery.rewritten)} messages had lines longer than {self._session.options.longest_line} bytes,"
            f" which were broken: {uids}{more}"
        )

    async def _replaced_dates(self, uids: Sequence[int], summaries: Mapping[int, Summary]) -> dict[int, bytes | None]:
        """Dates for messages whose own is none that a calendar has: from their headers, else the target's clock."""
        impossible = [uid for uid in uids if parse_internal_date(summaries[uid].internal_date) is None]
        if not impossible:
            return {}
        dates: dict[int, bytes | None] = {}
        headers = await self._session.source.fetch_headers(impossible, ("Received", "Date"))
        for uid in impossible:
            when = header_date(headers.get(uid, b""), now=datetime.fromtimestamp(self._session.around.now(), UTC))
            dates[uid] = render_internal_date(when) if when else None
            if len(dates) > _NAMED:
                continue
            raw = show(summaries[uid].internal_date or b"none")
            by = "the date in its header" if when else "the target's clock"
            self._report.note(f"message {uid} has an impossible date ({raw}): replaced by {by}")
        if (more := len(impossible) - _NAMED) > 0:
            self._report.note(f"{more} more, from {impossible[_NAMED]} on, have impossible dates: replaced likewise")
        return dates

    # Afterwards ------------------------------------------------------------------------------------------------

    async def _delete(self, marks: MailboxMarks, uids: Sequence[int]) -> None:
        """Delete at the source what the target has confirmed and still shows, and nothing else."""
        session, report = self._session, self._report
        there = set(await session.target.fresh_uid_search())
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
        session.around.checkpoint("source: deleted")
        kept = len(set(sure).intersection(await session.source.fresh_uid_search()))
        report.deleted = len(sure) - kept
        if kept:
            report.note(f"{kept} messages are at the source still, though it said OK to deleting them")

    async def _select_again(self, marks: MailboxMarks) -> bool:
        """Open the source for writing, at last; False, with a note, where its messages may be others than before."""
        opened = await self._session.source.select(self._pair.source)
        same = opened.uidvalidity == marks.source_uidvalidity and opened.uid_sticky
        if not same:
            self._report.note("the source gave new uids when it was opened for deleting: all messages stay")
        return same


def passes(chosen: DateFilter, internal_date: bytes | None) -> bool:
    """Whether a message's INTERNALDATE, as it stands, lies on the wanted side. A message without a date passes."""
    when = parse_internal_date(internal_date)
    if when is None:
        return True
    local = when.replace(tzinfo=UTC)  # the guide compares what stands there, and names no zone
    return local >= chosen.when if chosen.after else local < chosen.when
