"""A copy fetched by POP and submitted by SMTP, as MovePOPMail of the migration guide does it.

SMTP cannot be made to deliver exactly once: when the connection is lost between the end of a message and
the server's answer, nobody knows. Such a message is sent again, because none may be lost, and the report
says that it may be there twice. The envelope sender is `<>`, so that nothing bounces to strangers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from migrator import pop_smtp
from migrator.access import Access
from migrator.options import CopyOptions
from migrator.pop_ahead import ReadAhead
from migrator.pop_aside import PopAside, leave_out_large
from migrator.pop_hours import within_window
from migrator.pop_seen import shown_anew
from migrator.pop_smtp import Sending, Submission, close_all, connect
from migrator.pop_source import PopSource, Spooled, Withheld
from migrator.report import MailboxReport, Progress, RefusedMessage, RepairedMessage, Report
from migrator.session import Surroundings
from migrator.uidl_marks import Listing, UidlChange, UidlMark, UidlState, UidlStore, set_back
from migrator.window import WindowClosed
from wire.outcome import MailboxUnavailable, MessageRefused, ProtocolTrouble, Temporary
from wire.smtp import SmtpReply
from wire.smtp_convoy import Convoy

WINDOW_MESSAGES: Final = 8  # written down and not answered: what a crash can double, and enough to hide 20 ms
WINDOW_OCTETS: Final = 1 << 20  # of them; one message more may be under way


async def submit_account(
    source: Access, target: Submission, options: CopyOptions, marks: UidlStore, around: Surroundings | None = None
) -> Report:
    """Send every message of the maildrop that no earlier run has sent.

    Returns a Report also when single messages were refused. Raises MailboxUnavailable when the recipient is refused,
    CopyInterrupted when either connection is lost or the server keeps saying "later", another Temporary when the target
    is not there from the start, SourceRefused for the login.
    """
    around = around or Surroundings()

    async def attempt(report: Report) -> None:
        pop = await PopSource.open(source, options.timeout, options.rate)
        box = MailboxReport("INBOX", target.recipient, messages=len(pop.listing), left=len(pop.listing))
        run = _Submitting(pop, target, options, marks, around, box)
        try:
            await run.begin()
            report.mailboxes.append(box)
            await run.to_the_end()
        finally:
            run.close()
            pop.abort()

    return await within_window(attempt, Report(source.label, target.label), options, around)


@dataclass(slots=True)
class _Submitting:
    """One maildrop to one recipient."""

    pop: PopSource
    target: Submission
    options: CopyOptions
    store: UidlStore
    around: Surroundings
    report: MailboxReport
    marks: dict[bytes, UidlMark] = field(default_factory=dict)
    keys: dict[int, bytes] = field(default_factory=dict)
    listing: Listing = field(default_factory=lambda: Listing([], {}))
    aside: PopAside = field(default_factory=lambda: PopAside(None, ""))
    convoy: Convoy | None = None
    results: dict[bytes, UidlMark] = field(default_factory=dict)  # not on disk yet: they go with the next intents
    flight: deque[Sending] = field(default_factory=deque)  # handed over, in order, and not answered
    again: deque[Sending] = field(default_factory=deque)  # the server said "later", or closed before them
    late: list[Sending] = field(default_factory=list)  # still "later" when the others were taken: tried once more
    later: Temporary | None = None  # what the server said last, if nothing was accepted since
    heard: Temporary | None = None  # the last of them
    refusal: MailboxUnavailable | None = None  # of the recipient
    gathered: list[Sending] = field(default_factory=list)  # not written down yet
    spent: bool = False  # patience with a message has ended, and nothing was accepted all the while
    counter: int = 0
    wanted: list[int] = field(default_factory=list)

    async def begin(self) -> None:
        """Find out what is left, and connect to the target if that is anything, before anything is fetched."""
        self.marks = await self.store.load()
        self.listing = Listing(self.pop.listing, self.marks)
        self.aside = PopAside(self.around.quarantine, self.target.recipient)
        self.aside.forget_arrived(self.marks)
        for number, _ in self.pop.listing:
            if (key := self.listing.known(number)) is not None:
                self.keys[number] = key
        wanted = [number for number, _ in self.pop.listing if self._state(number) is not UidlState.COPIED]
        wanted.sort(key=lambda number: self._state(number) is UidlState.REFUSED)
        self.report.already = len(self.pop.listing) - len(wanted)
        self.wanted = leave_out_large(self.pop, wanted, self.options, self.report)
        self.report.left = len(self.wanted)
        if self.wanted:
            await self._connected()

    async def to_the_end(self) -> None:
        """Submit what is left; then delete at the source, if that was asked for."""
        try:
            if self.wanted:
                async with ReadAhead(self.pop.messages(self.wanted)) as ahead:
                    await self._send_all(ahead)
        except (Exception, asyncio.CancelledError):
            await self._record(self._undone())
            if self.pop.broke_at:
                await self._record(set_back(self.listing.by_uidl(self.pop.broke_at), self.marks, self.around.now()))
            raise
        await self._record(self._undone())
        there = sum(self._state(number) is UidlState.COPIED for number, _ in self.pop.listing)
        if there:
            self.report.note(shown_anew(there, archive=False))
        if self.convoy is not None:
            await self.convoy.client.quit()
        if self.options.delete:
            sent = [number for number, _ in self.pop.listing if self._state(number) is UidlState.COPIED]
            self.around.checkpoint("source: before deleting")
            self.report.deleted = await self.pop.delete(sent)
        else:
            await self.pop.close()

    def close(self) -> None:
        """Drop the connection to the target, and what was spooled."""
        if self.convoy is not None:
            self.convoy.client.close()
        close_all((*self.gathered, *self.flight, *self.again, *self.late))

    def _state(self, number: int) -> UidlState | None:
        mark = self.marks.get(self.keys.get(number, b""))
        return mark.state if mark else None

    # In groups --------------------------------------------------------------------------------------------------------

    async def _send_all(self, ahead: ReadAhead) -> None:
        """Gather, hand over, hear; while half a window is under way, the next half is gathered and written down."""
        broken: Temporary | None = None  # of the source: what came before it is sent first
        while True:
            await self._keep_to_window()
            if broken is None:
                try:
                    await self._gather(ahead)
                except Temporary as trouble:
                    broken = trouble
            if not (self.gathered or self.flight):
                break
            low = WINDOW_MESSAGES // 2 if self.gathered else len(self.flight) - 1
            await self._hand_over()
            await self._hear(low)
        await self._try_late()
        if broken is not None:
            raise broken

    async def _keep_to_window(self) -> None:
        """Outside the window hear what is under way, and raise WindowClosed."""
        try:
            self.around.check_window(self.options.window)
        except WindowClosed:
            await self._hear(0)
            raise

    async def _gather(self, ahead: ReadAhead) -> None:
        """What is fetched already, as far as it may be under way; waits only where nothing is."""
        connection = await self._connected()
        most = WINDOW_MESSAGES if connection.pipelined else 1
        octets = sum(sending.message.size for sending in self.flight)
        while len(self.flight) + len(self.gathered) < most and octets < WINDOW_OCTETS:
            if (self.flight or self.gathered) and not ahead.ready:
                return
            message = await ahead.next()
            if message is None:
                return
            if isinstance(message, Withheld):
                self._refuse(message.number, message.reason)
                continue
            key = self.keys.get(message.number) or self._recognise(message)
            before = self.marks.get(key)
            if before is not None and before.state is UidlState.COPIED:
                self.report.already += 1
                self.report.left -= 1
                message.close()
                continue
            self.counter += 1
            self.gathered.append(Sending(self.counter, key, message, before))
            octets += message.size

    def _recognise(self, message: Spooled) -> bytes:
        key, _known = self.listing.recognise(message.number, message.digest)
        self.keys[message.number] = key
        return key

    async def _hand_over(self) -> None:
        """Intents (with the results before them, in one commit), then the messages."""
        if not self.gathered:
            return
        convoy = await self._connected()
        now, group = self.around.now(), self.gathered
        marks = {one.key: UidlMark(UidlState.INTENT, 0, 0, now, "", one.message.digest) for one in group}
        fresh = {one.key: marks[one.key] for one in group if one.before is None}
        known = {one.key: marks[one.key] for one in group if one.before is not None}
        await self._record(UidlChange(settled={**self.results, **known}, intended=fresh))
        self.gathered = []
        await self._send(convoy, group)

    async def _send(self, convoy: Convoy, group: Sequence[Sending]) -> None:
        self.flight.extend(group)
        try:
            for sending in group:
                self.around.checkpoint("target: before DATA")
                await convoy.add(sending.parcel)
        except Temporary as trouble:
            self._lost(convoy, trouble)

    # What the server says ---------------------------------------------------------------------------------------------

    async def _hear(self, low: int) -> None:
        """Hear answers until `low` messages are under way. What the server wants later is sent again after a rest."""
        while len(self.flight) > low or self.again:
            if self.flight:
                await self._hear_one()
            elif self.refusal is not None:
                raise self.refusal
            else:
                await self._send_again()
        todo = len(self.wanted)
        self.around.progress(Progress("INBOX", todo - self.report.left, todo, self.report.octets))

    async def _hear_one(self) -> None:
        convoy = self.convoy
        assert convoy is not None
        try:
            said = await convoy.answer()
        except Temporary as trouble:
            self._lost(convoy, trouble)
            return
        sending = self.flight.popleft()
        if isinstance(said, SmtpReply):
            self._accepted(sending)
        elif isinstance(said, MessageRefused):
            await self._refused(sending, said)
        else:
            sending.copied = sending.copied if sending.tries else self.report.copied
            sending.tries += 1
            self.again.append(sending)
            if isinstance(said, MailboxUnavailable):
                self.refusal = said
            elif isinstance(said, Temporary):
                self.later = self.heard = said
            for _ in range(convoy.withdraw()):
                self.again.append(self.flight.pop())
        if convoy.closed:  # nothing behind its last word was taken
            self.again.extend(self.flight)
            self.flight.clear()

    def _lost(self, convoy: Convoy, trouble: Temporary) -> None:
        """The connection is gone. Raise where a message may have been accepted: the next run says so of it."""
        if convoy.unclear or isinstance(trouble, ProtocolTrouble):
            raise trouble
        self.flight[0].tries += 1
        self.later = self.heard = trouble
        self.again.extend(self.flight)
        self.flight.clear()

    async def _refused(self, sending: Sending, refusal: MessageRefused) -> None:
        """Once more in another form if there is one; else it is kept as a file."""
        if await sending.change(refusal):
            self.again.append(sending)
            return
        reason = await self.aside.keep(sending.key, sending.message, sending.reasons)
        self._settle(sending, UidlState.REFUSED, reason)
        self._refuse(sending.message.number, reason)

    def _accepted(self, sending: Sending) -> None:
        self._settle(sending, UidlState.COPIED)
        self._note_doubt(sending)
        self.aside.forget(sending.key)
        if sending.form is not None:
            name, reasons = self.pop.name_of(sending.message.number), "; ".join(dict.fromkeys(sending.reasons))
            self.report.repaired.append(RepairedMessage(name, sending.message.size, sending.form.sentence, reasons))
        self.spent = False
        if not self.again:
            self.later = None
        self.report.copied += 1
        self.report.octets += sending.message.size
        self.report.left -= 1
        self.around.checkpoint("target: a message was answered")

    def _settle(self, sending: Sending, state: UidlState, reason: str = "") -> None:
        digest = sending.message.digest
        self.results[sending.key] = UidlMark(state, 0, 0, self.around.now(), reason, digest)
        sending.close()

    def _note_doubt(self, sending: Sending) -> None:
        if sending.before is not None and sending.before.state is UidlState.INTENT:
            number = sending.message.number
            self.report.doubled += 1
            self.report.note(f"message {number} may be there twice: an earlier run did not hear the answer")

    def _refuse(self, number: int, reason: str) -> None:
        self.report.refused.append(RefusedMessage(self.pop.name_of(number), self.pop.sizes.get(number, 0), reason))
        self.report.left -= 1

    # Later ------------------------------------------------------------------------------------------------------------

    async def _send_again(self) -> None:
        """After a rest the first one alone; when that is accepted, the others."""
        if self.later is not None and self.spent:  # another one is not taken either: it is not the message
            raise self.later
        first, *others = sorted(self.again, key=lambda sending: sending.order)
        if first.tries > len(pop_smtp.RESTS):
            self.late.append(first)
            self.again = deque(others)
            self.later, self.spent = None, first.copied == self.report.copied
            return
        if self.later is not None:
            self.report.note("the target said that it takes no more mail for a while; it was waited for")
            await self.around.sleep(pop_smtp.RESTS[max(first.tries, 1) - 1])
        convoy = await self._connected()
        self.again = deque(others)
        await self._send(convoy, [first])
        while self.flight:
            await self._hear_one()
        if first not in self.again and self.refusal is None and self.again:
            convoy = await self._connected()
            others, self.later = list(self.again), None
            self.again.clear()
            await self._send(convoy, others)

    async def _try_late(self) -> None:
        """What the server wanted later while it took others: once more, and else it is left for another run."""
        if self.late and self.spent and self.heard is not None:
            raise self.heard
        for sending in list(self.late):
            convoy = await self._connected()
            self.late.remove(sending)
            await self._send(convoy, [sending])
            while self.flight:
                await self._hear_one()
            self.late.extend(self.again)
            self.again.clear()
        if self.late:
            numbers = ", ".join(str(sending.message.number) for sending in self.late)
            self.report.postponed = f"the target wants message {numbers} later: {self.heard}"

    async def _connected(self) -> Convoy:
        """The connection, opened anew where the server has closed it."""
        if self.convoy is None or not (self.flight or self.convoy.usable):
            self.convoy = await connect(self.target, self.options, self.around)
        return self.convoy

    # The journal ------------------------------------------------------------------------------------------------------

    def _undone(self) -> UidlChange:
        """The results, and what stood before the intents of messages that were not accepted, for certain."""
        settled, dropped = dict(self.results), []
        unclear = self.convoy.unclear if self.convoy is not None else 0
        for at, sending in enumerate((*self.flight, *self.again, *self.late)):
            if at < unclear:
                self._note_doubt(sending)  # the next run sends it again and says so
            elif sending.before is None:
                dropped.append(sending.key)
            else:
                settled[sending.key] = sending.before
        return UidlChange(settled=settled, dropped=dropped)

    async def _record(self, change: UidlChange) -> None:
        if not (change.settled or change.dropped or change.intended):
            return
        self.around.checkpoint("journal: before a commit")
        await self.store.record(change)
        self.marks.update(change.settled)
        self.marks.update(change.intended)
        for key in change.dropped:
            self.marks.pop(key, None)
        self.results.clear()
        self.around.checkpoint("journal: after a commit")
