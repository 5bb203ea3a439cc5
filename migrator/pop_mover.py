"""A copy fetched by POP and appended over IMAP: dates kept, no rules fired, every message once.

The same technique as between two IMAP servers: intent with a floor, append, result; what a broken-off run
left open is looked for at the target. What has been copied is known by UIDL, and by content where UIDLs
are missing, shared, or new since the server was replaced.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Final

from migrator.access import Access, open_imap
from migrator.arrivals import NEVER_STORED, Confirmed, look_for
from migrator.content import ContentDigest
from migrator.intents import Description, match_messages
from migrator.mover import BeforeCopy
from migrator.options import CopyOptions
from migrator.pop_ahead import ReadAhead
from migrator.pop_append import PopAppender, PopBatch, PopPlace, never_sent
from migrator.pop_aside import PopAside, leave_out_large
from migrator.pop_hours import within_window
from migrator.pop_seen import Seen, shown_anew
from migrator.pop_source import PopSource, Spooled, Withheld
from migrator.report import MailboxReport, Progress, RefusedMessage, Report, SameMailbox
from migrator.resolution import plausible_ones, uids_from, wait_for_late_server
from migrator.session import Surroundings
from migrator.uidl_marks import Listing, UidlChange, UidlMark, UidlState, UidlStore, set_back
from wire.imap.client import ImapClient
from wire.imap.names import decode_mailbox, encode_mailbox
from wire.imap.results import Selected
from wire.outcome import MailboxUnavailable, Temporary

BATCH_MESSAGES: Final = 50
BATCH_OCTETS: Final = 2 << 20  # spooled at once, and in doubt after a crash
_SAMPLE: Final = 3  # messages at each end, compared where both sides hold equally many


async def copy_account(
    source: Access,
    target: Access,
    options: CopyOptions,
    marks: UidlStore,
    around: Surroundings | None = None,
    *,
    before_copy: BeforeCopy | None = None,
) -> Report:
    """Copy the maildrop into the target's INBOX. Returns and raises what `mover.copy_account` does."""
    around = around or Surroundings()

    async def attempt(report: Report) -> None:
        pop = await PopSource.open(source, options.timeout, options.rate)
        try:
            around.checkpoint("source: logged in")
            if before_copy is not None:
                await before_copy(pop.identity)
            imap = await open_imap(target, source=False, timeout=options.timeout)
            try:
                imap.progress_timeout = options.timeout
                box = MailboxReport("INBOX", "INBOX", messages=len(pop.listing), left=len(pop.listing))
                report.mailboxes.append(box)
                await _PopCopy(pop, imap, target, options, marks, around, box).run()
                await imap.logout()
            finally:
                imap.close()
        finally:
            pop.abort()

    return await within_window(attempt, Report(source.label, target.label), options, around)


@dataclass(slots=True)
class _PopCopy:
    """One maildrop into one INBOX, over connections that are open."""

    pop: PopSource
    imap: ImapClient
    target: Access
    options: CopyOptions
    store: UidlStore
    around: Surroundings
    report: MailboxReport
    marks: dict[bytes, UidlMark] = field(default_factory=dict)
    keys: dict[int, bytes] = field(default_factory=dict)  # of messages that were recognised
    listing: Listing = field(default_factory=lambda: Listing([], {}))
    aside: PopAside = field(default_factory=lambda: PopAside(None, ""))
    places: dict[bytes, PopPlace] = field(default_factory=dict)
    opened: bytes = b""  # the mailbox that is open at the target
    archived: int = 0
    first: dict[bytes, int] = field(default_factory=dict)  # by mailbox: its next uid when this run opened it
    fresh: set[bytes] = field(default_factory=set)  # keys of what the target has confirmed in this run
    _appender: PopAppender | None = None
    todo: int = 0

    async def run(self) -> None:
        self.marks = await self.store.load()
        self.listing = Listing(self.pop.listing, self.marks)
        self.aside = PopAside(self.around.quarantine, self.target.account)
        self.aside.forget_arrived(self.marks)
        selected = await self._open_places()
        if not self.marks:
            await self._refuse_same(selected)
        if self._was_made_anew():
            return
        for number, _ in self.pop.listing:
            key = self.listing.known(number)
            if key is not None:
                self.keys[number] = key
        await self._resolve()
        await self._copy_all()
        await self._count_arrived()
        self._note_what_comes_anew()
        if self.options.delete:
            await self._delete()
        else:
            await self.pop.close()

    # Places -----------------------------------------------------------------------------------------------------

    async def _open_places(self) -> Selected:
        """INBOX, the archive where one is asked for, and every mailbox that an earlier run has copied into."""
        archive = self.options.archive_seen
        wanted = {mark.mailbox for mark in self.marks.values() if mark.mailbox}
        if archive:
            wanted.add(encode_mailbox(archive))
        for mailbox in sorted(wanted):
            name = self.target.prefix + mailbox
            try:
                selected = await self.imap.select(name)
            except MailboxUnavailable:
                if mailbox != encode_mailbox(archive):
                    continue  # gone; its marks say so
                self.around.checkpoint("target: before CREATE")
                await self.imap.create(name)
                selected = await self.imap.select(name)
            await self._add_place(mailbox, name, selected)
        name = self.target.prefix + b"INBOX"
        selected = await self.imap.select(name)
        await self._add_place(b"", name, selected)
        self.around.checkpoint("target: opened a mailbox")
        return selected

    async def _add_place(self, mailbox: bytes, name: bytes, selected: Selected) -> None:
        floor = selected.uidnext or max(await self.imap.uid_search(b"ALL"), default=0) + 1
        flags = (b"\\Seen",) if mailbox else ()
        self.first[mailbox] = floor
        self.places[mailbox] = PopPlace(mailbox, name, selected.uidvalidity, floor, flags)
        self.opened = name

    async def _open(self, place: PopPlace) -> None:
        if self.opened != place.name:
            await self.imap.select(place.name)
            self.opened = place.name

    def _was_made_anew(self) -> bool:
        for mark in self.marks.values():
            place = self.places.get(mark.mailbox)
            if mark.uidvalidity and (place is None or place.uidvalidity != mark.uidvalidity):
                which = "INBOX" if not mark.mailbox else decode_mailbox(mark.mailbox)
                self.report.held = (
                    f"the target's {which} was made anew since it was copied to (its UIDVALIDITY has changed):"
                    " nothing is copied, nothing is doubled"
                )
                return True
        return False

    async def _refuse_same(self, selected: Selected) -> None:
        """SameMailbox when the maildrop is the target's INBOX: as many messages, and the same ones at both ends."""
        numbers = [number for number, _ in self.pop.listing]
        if not numbers or selected.exists != len(numbers):
            return
        uids = await self.imap.uid_search(b"ALL")
        if len(uids) != len(numbers):
            return
        ends = sorted({*range(len(numbers))[:_SAMPLE], *range(len(numbers))[-_SAMPLE:]})
        here = []
        async for message in self.pop.messages([numbers[at] for at in ends]):
            if isinstance(message, Spooled):
                here.append(message.digest)
                message.close()
        there = []
        async for body in self.imap.fetch_bodies([uids[at] for at in ends]):
            digest = ContentDigest()
            async for chunk in body.chunks:
                digest.feed(chunk)
            there.append(digest.digest())
        if here == there:
            raise SameMailbox("the source's maildrop is the target's INBOX: the same messages; nothing is copied")

    # After a broken-off run -------------------------------------------------------------------------------------

    async def _resolve(self) -> None:
        """Settle every intent: copied if the message is at the target, else to be copied now. One commit."""
        intents = {key: mark for key, mark in self.marks.items() if mark.state is UidlState.INTENT}
        if not intents:
            return
        newest = max(mark.recorded_at for mark in intents.values())
        doubtful = await self._find_again(intents)
        settled: dict[bytes, UidlMark] = {}
        for mailbox in {mark.mailbox for mark in intents.values()}:
            place = self.places[mailbox]
            mine = {key: mark for key, mark in intents.items() if mark.mailbox == mailbox}
            floor = min(mark.uid for mark in mine.values())
            await self._open(place)
            await wait_for_late_server(self.imap, self.around, floor, newest)
            copied = [mark for mark in self.marks.values() if mark.state is UidlState.COPIED]
            taken = {mark.uid for mark in copied if mark.mailbox == mailbox}
            candidates = [uid for uid in await uids_from(self.imap, floor) if uid not in taken]
            sources = [doubtful[key] for key in mine if key in doubtful]
            found = match_messages(sources, await plausible_ones(self.imap, candidates, sources))
            for key, mark in mine.items():
                if key in doubtful and (uid := found.get(doubtful[key].uid)) is not None:
                    settled[key] = replace(mark, state=UidlState.COPIED, uid=uid, reason="")
        dropped = [key for key in intents if key not in settled]
        await self._record(UidlChange(settled=settled, dropped=dropped))
        for key in settled:
            self.aside.forget(key)

    async def _find_again(self, intents: dict[bytes, UidlMark]) -> dict[bytes, Description]:
        """The intended messages that are still at the source, described; `uid` is the message number."""
        by_key = {key: number for number, key in self.keys.items() if key in intents}
        unrecognised = [number for number, _ in self.pop.listing if number not in self.keys]
        wanted = sorted(by_key.values())
        if len(by_key) < len(intents):
            wanted = sorted({*wanted, *unrecognised})  # intents of messages whose content must tell
        described = {}
        async for message in self.pop.messages(wanted):
            if isinstance(message, Withheld):
                continue
            key = self.keys.get(message.number) or self._recognise(message)
            if key in intents:
                described[key] = await self.appender.describe(message, intents[key].reason)
            message.close()
        return described

    @property
    def appender(self) -> PopAppender:
        if self._appender is None:
            self._appender = PopAppender(self.imap, self.pop, self.around, self.report, self._record, self.aside)
        return self._appender

    def _recognise(self, message: Spooled) -> bytes:
        key, _known = self.listing.recognise(message.number, message.digest)
        self.keys[message.number] = key
        return key

    # Copying ----------------------------------------------------------------------------------------------------

    async def _copy_all(self) -> None:
        report = self.report
        states = {number: self._state(number) for number, _ in self.pop.listing}
        wanted = [number for number, state in states.items() if state is None]
        wanted += [number for number, state in states.items() if state is UidlState.REFUSED]  # perhaps not any more
        report.already = len(states) - len(wanted)
        wanted = leave_out_large(self.pop, wanted, self.options, report)
        report.left = self.todo = len(wanted)
        seen = await Seen.of(self.pop, self.options, self.around)
        batches = {place.mailbox: PopBatch(place) for place in self.places.values()}
        try:
            async with ReadAhead(self.pop.messages(wanted)) as ahead:
                while (message := await ahead.next()) is not None:
                    mailbox = await self._take(message, seen, batches)
                    if mailbox is not None:
                        await self._flush(batches, mailbox)
            for mailbox in batches:
                await self._flush(batches, mailbox)
        except Temporary:
            if self.pop.broke_at:
                await self._record(set_back(self.listing.by_uidl(self.pop.broke_at), self.marks, self.around.now()))
                for mailbox in batches:
                    await self._flush(batches, mailbox)  # what came before the source broke off
            raise
        finally:
            for batch in batches.values():
                batch.close()

    async def _take(self, message: Spooled | Withheld, seen: Seen, batches: dict[bytes, PopBatch]) -> bytes | None:
        """Put a message into the batch of its mailbox; that mailbox, when the batch is full."""
        if isinstance(message, Withheld):
            self._refuse(message.number, message.reason)
            return None
        key = self.keys.get(message.number) or self._recognise(message)
        if self._state(message.number) is UidlState.COPIED:
            self.report.already += 1
            self.report.left -= 1
            message.close()
            return None
        mailbox = encode_mailbox(self.options.archive_seen) if seen.is_seen(message) else b""
        batch = batches[mailbox]
        batch.spooled[key] = message
        batch.octets += message.size
        full = len(batch.spooled) >= BATCH_MESSAGES or batch.octets >= BATCH_OCTETS
        return mailbox if full else None

    async def _flush(self, batches: dict[bytes, PopBatch], mailbox: bytes) -> None:
        if batches[mailbox].spooled:
            self.around.check_window(self.options.window)
        full, batches[mailbox] = batches[mailbox], PopBatch(self.places[mailbox])
        with closing(full):
            await self._copy_batch(full)

    def _state(self, number: int) -> UidlState | None:
        mark = self.marks.get(self.keys.get(number, b""))
        return mark.state if mark else None

    def _refuse(self, number: int, reason: str) -> None:
        self.report.refused.append(RefusedMessage(self.pop.name_of(number), self.pop.sizes.get(number, 0), reason))
        self.report.left -= 1

    async def _copy_batch(self, batch: PopBatch) -> None:
        if not batch.spooled:
            return
        place = batch.place
        if "UIDPLUS" not in self.imap.capabilities:
            await self._open(place)  # it must be open when the uids are asked for
        batch.floor = place.floor
        now = self.around.now()
        intended = {
            key: UidlMark(UidlState.INTENT, place.uidvalidity, batch.floor, now, "", message.digest, place.mailbox)
            for key, message in batch.spooled.items()
        }
        again = {key: mark for key, mark in intended.items() if key in self.marks}  # refused before
        fresh = {key: mark for key, mark in intended.items() if key not in again}
        await self._record(UidlChange(settled=again, intended=fresh))
        try:
            await self.appender.send(batch)
        except (Temporary, MailboxUnavailable):  # only what was being sent stays in doubt
            await self._finish(batch, never_sent(batch, list(intended)))
            raise
        await self._finish(batch, [])

    async def _finish(self, batch: PopBatch, never: list[bytes]) -> None:
        """The results, in one commit, and into the report."""
        await self._record(UidlChange(settled=batch.settled, dropped=never))
        report = self.report
        for key, mark in batch.settled.items():
            message = batch.spooled[key]
            if mark.state is UidlState.REFUSED:
                self._refuse(message.number, mark.reason)
            else:
                self.aside.forget(key)
                self.fresh.add(key)
                report.copied += 1
                self.archived += bool(mark.mailbox)
                report.octets += message.size
                report.left -= 1
        batch.close()
        self.around.progress(Progress("INBOX", self.todo - report.left, self.todo, report.octets))

    async def _record(self, change: UidlChange) -> None:
        self.around.checkpoint("journal: before a commit")
        await self.store.record(change)
        self.marks.update(change.settled)
        self.marks.update(change.intended)
        for key in change.dropped:
            self.marks.pop(key, None)
        self.around.checkpoint("journal: after a commit")

    async def _count_arrived(self) -> None:
        """Look for what the target has confirmed in this run; what it never stored is refused, for the next run."""
        numbers = {key: number for number, key in self.keys.items() if key in self.fresh}
        for mailbox, place in self.places.items():
            marks = [(number, self.marks[key]) for key, number in numbers.items()]
            runs = [(number, mark.uid) for number, mark in marks if mark.mailbox == mailbox]
            if not runs:
                continue
            await self._open(place)
            told = "UIDPLUS" in self.imap.capabilities and any(uid for _, uid in runs)
            confirmed = Confirmed(self.first[mailbox], [number for number, uid in runs if not uid], told=told)
            arrived = await look_for(self.imap, place.name, runs, confirmed)
            self.report.missing += arrived.missing
            never = {self.keys[number]: number for number in arrived.never}
            lost = {key: replace(self.marks[key], state=UidlState.REFUSED, uid=0, reason=NEVER_STORED) for key in never}
            await self._record(UidlChange(settled=lost))
            for number in arrived.never:
                self.report.copied -= 1
                self.report.left += 1
                self._refuse(number, NEVER_STORED)

    async def _delete(self) -> None:
        """Delete at the source what the target has confirmed and still shows, and nothing else."""
        there: dict[bytes, set[int]] = {}
        for mailbox, place in self.places.items():
            await self._open(place)
            there[mailbox] = set(await uids_from(self.imap, 1))
        sure: list[int] = []
        kept = 0
        for number, _ in self.pop.listing:
            mark = self.marks.get(self.keys.get(number, b""))
            if mark is None or mark.state is not UidlState.COPIED:
                continue
            if mark.uid in there[mark.mailbox]:
                sure.append(number)
            else:
                kept += 1
        if kept:
            self.report.note(f"{kept} copied messages stay at the source: the target does not show them any more")
        self.around.checkpoint("source: before deleting")
        self.report.deleted = await self.pop.delete(sure)

    def _note_what_comes_anew(self) -> None:
        there = sum(
            1
            for key in self.keys.values()
            if (mark := self.marks.get(key)) and mark.state is UidlState.COPIED and not mark.mailbox
        )
        if self.archived:
            self.report.note(f"{self.archived} messages that were seen went to {self.options.archive_seen}")
        if there:
            self.report.note(shown_anew(there, archive=bool(self.options.archive_seen)))
