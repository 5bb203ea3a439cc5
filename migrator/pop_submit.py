"""A copy fetched by POP and submitted by SMTP, as MovePOPMail of the migration guide does it.

SMTP cannot be made to deliver exactly once: when the connection is lost between the end of a message and
the server's answer, nobody knows. Such a message is sent again, because none may be lost, and the report
says that it may be there twice. The envelope sender is `<>`, so that nothing bounces to strangers.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Final

from migrator.access import Access
from migrator.options import CopyOptions
from migrator.pop_source import PopSource, Spooled, Withheld
from migrator.report import CopyInterrupted, MailboxReport, Progress, RefusedMessage, Report
from migrator.session import Surroundings
from migrator.uidl_marks import Listing, UidlChange, UidlMark, UidlState, UidlStore, set_back
from wire.endpoint import Endpoint, TlsPolicy
from wire.outcome import MessageRefused, Temporary, Trouble
from wire.smtp import DeliveryUnclear, SmtpClient

_RESTS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # seconds after each 4xx in a row: a limit on incoming mail slows us


@dataclass(frozen=True, slots=True)
class Submission:
    """Where the messages go."""

    endpoint: Endpoint
    recipient: str
    tls: TlsPolicy

    @property
    def label(self) -> str:
        """For reports and the key of marks."""
        return f"{self.endpoint} {self.recipient}"


async def submit_account(
    source: Access, target: Submission, options: CopyOptions, marks: UidlStore, around: Surroundings | None = None
) -> Report:
    """Send every message of the maildrop that no earlier run has sent.

    Returns a Report also when single messages were refused. Raises MailboxUnavailable when the recipient is refused,
    CopyInterrupted when either connection is lost or the server keeps saying "later", SourceRefused for the login.
    """
    around = around or Surroundings()
    started = asyncio.get_running_loop().time()
    report = Report(source.label, target.label)
    pop = await PopSource.open(source, options.timeout, options.rate)
    box = MailboxReport("INBOX", target.recipient, messages=len(pop.listing), left=len(pop.listing))
    report.mailboxes.append(box)
    run = _Submitting(pop, target, options, marks, around, box)
    try:
        await run.to_the_end()
    except Temporary as trouble:
        raise CopyInterrupted(trouble, report) from trouble
    finally:
        run.close()
        pop.abort()
        report.seconds = asyncio.get_running_loop().time() - started
    return report


@dataclass(slots=True)
class _Submitting:
    pop: PopSource
    target: Submission
    options: CopyOptions
    store: UidlStore
    around: Surroundings
    report: MailboxReport
    marks: dict[bytes, UidlMark] = field(default_factory=dict)
    smtp: SmtpClient | None = None
    results: dict[bytes, UidlMark] = field(default_factory=dict)  # not on disk yet: they go with the next intent

    async def to_the_end(self) -> None:
        """Submit what is left; then delete at the source, if that was asked for."""
        self.marks = await self.store.load()
        listing = Listing(self.pop.listing, self.marks)
        keys = {number: key for number, _ in self.pop.listing if (key := listing.known(number)) is not None}
        wanted = [number for number, _ in self.pop.listing if not self._is_sent(keys.get(number))]
        wanted.sort(key=lambda number: self._is_refused(keys.get(number)))
        self.report.already = len(self.pop.listing) - len(wanted)
        self.report.left = todo = len(wanted)
        try:
            async for message in self.pop.messages(wanted):
                if isinstance(message, Withheld):
                    self._refuse(message.number, message.reason)
                    continue
                try:
                    if message.number not in keys:
                        keys[message.number] = listing.recognise(message.number, message.digest)[0]
                    await self._submit(keys[message.number], message)
                finally:
                    message.close()
                done = todo - self.report.left
                self.around.progress(Progress("INBOX", done, todo, self.report.octets))
        except (Exception, asyncio.CancelledError):
            await self._record(UidlChange(settled=dict(self.results)))
            if self.pop.broke_at:
                await self._record(set_back(listing.by_uidl(self.pop.broke_at), self.marks, self.around.now()))
            raise
        await self._record(UidlChange(settled=dict(self.results)))
        if self.smtp is not None:
            await self.smtp.quit()
        sent = [number for number, _ in self.pop.listing if self._is_sent(keys.get(number))]
        if self.options.delete:
            self.around.checkpoint("source: before deleting")
            self.report.deleted = await self.pop.delete(sent)
        else:
            await self.pop.close()

    def close(self) -> None:
        """Drop the connection to the target."""
        if self.smtp is not None:
            self.smtp.close()

    def _is_sent(self, key: bytes | None) -> bool:
        mark = self.marks.get(key) if key is not None else None
        return mark is not None and mark.state is UidlState.COPIED

    def _is_refused(self, key: bytes | None) -> bool:
        mark = self.marks.get(key) if key is not None else None
        return mark is not None and mark.state is UidlState.REFUSED

    async def _submit(self, key: bytes, message: Spooled) -> None:
        """One message: intent (with the results before it, in one commit), DATA, result."""
        before = self.marks.get(key)
        if before is not None and before.state is UidlState.COPIED:
            self.report.already += 1
            self.report.left -= 1
            return
        intent = self._mark(UidlState.INTENT, message)
        if before is None:
            await self._record(UidlChange(settled=dict(self.results), intended={key: intent}))
        else:
            await self._record(UidlChange(settled={**self.results, key: intent}))
        if before is not None and before.state is UidlState.INTENT:
            self.report.doubled += 1
            self.report.note(f"message {message.number} may be there twice: an earlier run did not hear the answer")
        try:
            await self._send(message)
        except MessageRefused as refusal:
            self.results[key] = self._mark(UidlState.REFUSED, message, refusal.text)
            self._refuse(message.number, refusal.text)
            return
        except DeliveryUnclear:
            raise  # the intent stays: the next run sends it again and says so
        except Trouble:  # it was not accepted, for certain: what stood before the intent stands again
            if before is None:
                await self._record(UidlChange(settled=dict(self.results), dropped=[key]))
            else:
                await self._record(UidlChange(settled={**self.results, key: before}))
            raise
        self.results[key] = self._mark(UidlState.COPIED, message)
        self.report.copied += 1
        self.report.octets += message.size
        self.report.left -= 1
        self.around.checkpoint("target: a message was answered")

    def _mark(self, state: UidlState, message: Spooled, reason: str = "") -> UidlMark:
        return UidlMark(state, 0, 0, self.around.now(), reason, message.digest)

    def _refuse(self, number: int, reason: str) -> None:
        uidl = dict(self.pop.listing)[number].decode("latin-1") or f"number {number}"
        self.report.refused.append(RefusedMessage(uidl, self.pop.sizes.get(number, 0), reason))
        self.report.left -= 1

    async def _send(self, message: Spooled) -> None:
        """Submit one message; wait and try again while the server says 4xx, over a new connection where it hung up."""
        for rest in (*_RESTS, None):
            try:
                smtp = await self._connected()
                self.around.checkpoint("target: before DATA")
                await smtp.send(
                    "", [self.target.recipient], self._touching(smtp, message), size=message.size, eight_bit=True
                )
            except DeliveryUnclear:
                raise
            except Temporary as trouble:
                if rest is None or not trouble.code:
                    raise
                self.report.note("the target said that it takes no more mail for a while; it was waited for")
                await self.around.sleep(rest)
                self.pop.touch()
            else:
                return

    async def _connected(self) -> SmtpClient:
        deadline = asyncio.get_running_loop().time() + self.options.timeout
        if self.smtp is None or not self.smtp.usable:
            self.smtp = await SmtpClient.connect(
                self.target.endpoint, self.target.tls, helo=_own_name(), deadline=deadline
            )
        self.smtp.deadline = deadline
        return self.smtp

    async def _touching(self, smtp: SmtpClient, message: Spooled) -> AsyncGenerator[bytes, None]:
        async for chunk in message.chunks():
            smtp.deadline = asyncio.get_running_loop().time() + self.options.timeout
            self.pop.touch()
            yield chunk

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


def _own_name() -> str:
    name = socket.gethostname()
    return name if name and all(c.isascii() and (c.isalnum() or c in ".-") for c in name) else "localhost"
