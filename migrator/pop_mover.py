"""A copy fetched by POP and appended over IMAP: dates kept, no rules fired, every message once.

The same technique as between two IMAP servers: intent with a floor, append, result; what a broken-off run
left open is looked for at the target. What has been copied is known by UIDL, and by content where UIDLs
are missing, shared, or new since the server was replaced.
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from migrator.access import Access, open_imap
from migrator.content import ContentDigest, message_id
from migrator.dates import header_date, render_internal_date
from migrator.intents import Description, match_messages
from migrator.mover import BeforeCopy
from migrator.options import CopyOptions
from migrator.pop_source import PopSource, Spooled, Withheld
from migrator.report import (
    CopyInterrupted,
    MailboxReport,
    Progress,
    RefusedMessage,
    Report,
    SameMailbox,
)
from migrator.resolution import locate_among, plausible_ones, uids_from, wait_for_late_server
from migrator.session import Surroundings
from migrator.uidl_marks import Listing, UidlChange, UidlMark, UidlState, UidlStore, set_back
from wire.imap.client import ImapClient
from wire.imap.results import Selected
from wire.outcome import MessageRefused, Temporary

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
    started = asyncio.get_running_loop().time()
    report = Report(source.label, target.label)
    pop = await PopSource.open(source, options.timeout, options.rate)
    try:
        around.checkpoint("source: logged in")
        report.inbox = pop.identity
        if before_copy is not None:
            await before_copy(report.inbox)
        imap = await open_imap(target, source=False, timeout=options.timeout)
        try:
            imap.progress_timeout = options.timeout
            box = MailboxReport("INBOX", "INBOX", messages=len(pop.listing), left=len(pop.listing))
            report.mailboxes.append(box)
            name = target.prefix + b"INBOX"
            await _PopCopy(pop, imap, name, options, marks, around, box).run()
            await imap.logout()
        finally:
            imap.close()
    except Temporary as trouble:
        if not report.mailboxes:
            raise
        raise CopyInterrupted(trouble, report) from trouble
    finally:
        pop.abort()
        report.seconds = asyncio.get_running_loop().time() - started
    return report


@dataclass(slots=True)
class _Batch:
    """Messages that are spooled and about to be appended, by their keys."""

    floor: int
    spooled: dict[bytes, Spooled] = field(default_factory=dict)
    settled: dict[bytes, UidlMark] = field(default_factory=dict)
    sending: bytes = b""
    never: list[bytes] = field(default_factory=list)  # not begun when the connection broke
    unknown: list[bytes] = field(default_factory=list)  # confirmed without a uid, in the order they were sent
    octets: int = 0

    def close(self) -> None:
        for message in self.spooled.values():
            message.close()
        self.spooled.clear()


@dataclass(slots=True)
class _PopCopy:
    """One maildrop into one INBOX, over connections that are open."""

    pop: PopSource
    imap: ImapClient
    name: bytes
    options: CopyOptions
    store: UidlStore
    around: Surroundings
    report: MailboxReport
    marks: dict[bytes, UidlMark] = field(default_factory=dict)
    keys: dict[int, bytes] = field(default_factory=dict)  # of messages that were recognised
    listing: Listing = field(default_factory=lambda: Listing([], {}))
    uidvalidity: int = 0
    floor: int = 0
    todo: int = 0

    async def run(self) -> None:
        self.marks = await self.store.load()
        self.listing = Listing(self.pop.listing, self.marks)
        selected = await self.imap.select(self.name)
        self.around.checkpoint("target: opened a mailbox")
        self.uidvalidity = selected.uidvalidity
        self.floor = selected.uidnext or max(await self.imap.uid_search(b"ALL"), default=0) + 1
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
        if self.options.delete:
            await self._delete()
        else:
            await self.pop.close()

    def _was_made_anew(self) -> bool:
        before = {mark.uidvalidity for mark in self.marks.values() if mark.uidvalidity}
        if before <= {self.uidvalidity}:
            return False
        self.report.held = (
            "the target's INBOX was made anew since it was copied to (its UIDVALIDITY has changed):"
            " nothing is copied, nothing is doubled"
        )
        return True

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
        floor = min(mark.uid for mark in intents.values())
        newest = max(mark.recorded_at for mark in intents.values())
        await wait_for_late_server(self.imap, self.around, floor, newest)
        doubtful = await self._find_again(intents)
        taken = {mark.uid for mark in self.marks.values() if mark.state is UidlState.COPIED}
        candidates = [uid for uid in await uids_from(self.imap, floor) if uid not in taken]
        sources = list(doubtful.values())
        found = match_messages(sources, await plausible_ones(self.imap, candidates, sources))
        settled = {
            key: self._copied(found[source.uid], intents[key].digest)
            for key, source in doubtful.items()
            if source.uid in found
        }
        dropped = [key for key in intents if key not in settled]
        await self._record(UidlChange(settled=settled, dropped=dropped))

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
                described[key] = self._describe(message)
            message.close()
        return described

    def _recognise(self, message: Spooled) -> bytes:
        key, _known = self.listing.recognise(message.number, message.digest)
        self.keys[message.number] = key
        return key

    def _describe(self, message: Spooled) -> Description:
        when = header_date(message.header, now=datetime.fromtimestamp(self.around.now(), UTC))
        seconds = int(when.timestamp()) if when else None
        return Description(message.number, seconds, message.size, message.digest, message_id(message.header))

    # Copying ----------------------------------------------------------------------------------------------------

    async def _copy_all(self) -> None:
        report = self.report
        states = {number: self._state(number) for number, _ in self.pop.listing}
        wanted = [number for number, state in states.items() if state is None]
        wanted += [number for number, state in states.items() if state is UidlState.REFUSED]  # perhaps not any more
        report.already = len(states) - len(wanted)
        report.left = self.todo = len(wanted)
        batch = _Batch(self.floor)
        try:
            async for message in self.pop.messages(wanted):
                if isinstance(message, Withheld):
                    self._refuse(message.number, message.reason)
                    continue
                key = self.keys.get(message.number) or self._recognise(message)
                if self._state(message.number) is UidlState.COPIED:
                    report.already += 1
                    report.left -= 1
                    message.close()
                    continue
                batch.spooled[key] = message
                batch.octets += message.size
                if len(batch.spooled) >= BATCH_MESSAGES or batch.octets >= BATCH_OCTETS:
                    full, batch = batch, _Batch(self.floor)
                    with closing(full):
                        await self._copy_batch(full)
            await self._copy_batch(batch)
        except Temporary:
            if self.pop.broke_at:
                await self._record(set_back(self.listing.by_uidl(self.pop.broke_at), self.marks, self.around.now()))
                await self._copy_batch(batch)  # what came before the source broke off
            raise
        finally:
            batch.close()

    def _state(self, number: int) -> UidlState | None:
        mark = self.marks.get(self.keys.get(number, b""))
        return mark.state if mark else None

    def _refuse(self, number: int, reason: str) -> None:
        uidl = dict(self.pop.listing)[number].decode("latin-1") or f"number {number}"
        self.report.refused.append(RefusedMessage(uidl, self.pop.sizes.get(number, 0), reason))
        self.report.left -= 1

    async def _copy_batch(self, batch: _Batch) -> None:
        if not batch.spooled:
            return
        batch.floor = self.floor
        now = self.around.now()
        intended = {
            key: UidlMark(UidlState.INTENT, self.uidvalidity, batch.floor, now, "", message.digest)
            for key, message in batch.spooled.items()
        }
        again = {key: mark for key, mark in intended.items() if key in self.marks}  # refused before
        fresh = {key: mark for key, mark in intended.items() if key not in again}
        await self._record(UidlChange(settled=again, intended=fresh))
        try:
            for key, message in batch.spooled.items():
                batch.sending = key
                await self._append(batch, key, message)
        except Temporary:  # only the message that was being sent stays in doubt
            batch.never = [key for key in intended if key not in batch.settled and key != batch.sending]
            await self._finish(batch)
            raise
        await self._find_uids(batch)
        await self._finish(batch)

    async def _append(self, batch: _Batch, key: bytes, message: Spooled) -> None:
        """Append one message, and once more if it is refused: the trouble may have been the moment's."""
        when = header_date(message.header, now=datetime.fromtimestamp(self.around.now(), UTC))
        date = render_internal_date(when) if when else None
        refusal = ""
        for _ in range(2):
            self.pop.touch()
            self.around.checkpoint("target: before APPEND")
            try:
                appended = await self.imap.append(self.name, (), date, message.size, message.chunks())
            except MessageRefused as trouble:
                refusal = trouble.text
                continue
            uid = appended.uid or 0
            if uid < batch.floor:
                batch.unknown.append(key)
                uid = 0
            else:
                self.floor = max(self.floor, uid + 1)
            batch.settled[key] = self._copied(uid, message.digest)
            self.around.checkpoint("target: a message was answered")
            return
        batch.settled[key] = UidlMark(
            UidlState.REFUSED, self.uidvalidity, 0, self.around.now(), refusal, message.digest
        )

    def _copied(self, uid: int, digest: bytes) -> UidlMark:
        return UidlMark(UidlState.COPIED, self.uidvalidity, uid, self.around.now(), "", digest)

    async def _find_uids(self, batch: _Batch) -> None:
        """Ask where the messages are that a server without UIDPLUS has confirmed."""
        if not batch.unknown:
            return
        taken = frozenset(mark.uid for mark in batch.settled.values() if mark.uid)
        sources = {key: self._describe(batch.spooled[key]) for key in batch.unknown}
        found, top = await locate_among(self.imap, list(sources.values()), batch.floor, taken)
        self.floor = max(self.floor, top + 1)
        for key, source in sources.items():
            if source.uid in found:
                batch.settled[key] = self._copied(found[source.uid], source.digest)

    async def _finish(self, batch: _Batch) -> None:
        """The results, in one commit, and into the report."""
        await self._record(UidlChange(settled=batch.settled, dropped=batch.never))
        report = self.report
        for key, mark in batch.settled.items():
            message = batch.spooled[key]
            if mark.state is UidlState.REFUSED:
                self._refuse(message.number, mark.reason)
            else:
                report.copied += 1
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

    async def _delete(self) -> None:
        """Delete at the source what the target has confirmed and still shows, and nothing else."""
        there = set(await uids_from(self.imap, 1))
        sure: list[int] = []
        kept = 0
        for number, _ in self.pop.listing:
            mark = self.marks.get(self.keys.get(number, b""))
            if mark is None or mark.state is not UidlState.COPIED:
                continue
            if mark.uid in there:
                sure.append(number)
            else:
                kept += 1
        if kept:
            self.report.note(f"{kept} copied messages stay at the source: the target does not show them any more")
        self.around.checkpoint("source: before deleting")
        self.report.deleted = await self.pop.delete(sure)
