"""A batch of spooled messages into one mailbox of the target: many in one command where the server allows it.

What is clean, or of a kind that the target has taken before, goes together (MULTIAPPEND, or APPENDs without waiting);
everything else goes alone. A message that is refused climbs the ladder of repairs, each tried only after a refusal.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from migrator.content import ContentDigest, message_id
from migrator.dates import header_date, render_internal_date
from migrator.intents import Description
from migrator.pop_aside import PopAside
from migrator.pop_source import PopSource, Spooled
from migrator.repair import Rung, Scanner, ladder, rung
from migrator.report import MailboxReport, RepairedMessage
from migrator.resolution import locate_among
from migrator.rewrite import Rewritten, rewrite
from migrator.session import Surroundings
from migrator.uidl_marks import UidlChange, UidlMark, UidlState
from wire.imap.append import UNASKED_LIMIT, Letter, Pipeline
from wire.imap.client import ImapClient
from wire.imap.results import Appended
from wire.outcome import MessageRefused, Trouble

_TOO_BIG: Final = frozenset({"TOOBIG", "LIMIT"})  # RFC 7889, RFC 9051: no other form is smaller
_FULL: Final = "OVERQUOTA"

Record = Callable[[UidlChange], Awaitable[None]]


@dataclass(slots=True)
class PopPlace:
    """A mailbox of the target."""

    mailbox: bytes  # as marks have it: b"" for INBOX, else the name as on the wire, without an administrator's prefix
    name: bytes  # as on the wire
    uidvalidity: int
    floor: int  # no message that is sent from now on gets a lower uid
    flags: tuple[bytes, ...] = ()  # of every message that goes there


@dataclass(slots=True)
class PopBatch:
    """Messages that are spooled and about to be appended, by their keys."""

    place: PopPlace
    floor: int = 0
    spooled: dict[bytes, Spooled] = field(default_factory=dict)
    settled: dict[bytes, UidlMark] = field(default_factory=dict)
    sending: set[bytes] = field(default_factory=set)  # under way: after a broken connection nobody knows
    forms: dict[bytes, str] = field(default_factory=dict)  # codes of repairs
    unknown: list[bytes] = field(default_factory=list)  # confirmed without a uid, in the order they were sent
    octets: int = 0

    def close(self) -> None:
        """Give the room back."""
        for message in self.spooled.values():
            message.close()
        self.spooled.clear()


@dataclass(slots=True)
class PopAppender:
    """Appends batches whose intents are written down."""

    imap: ImapClient
    pop: PopSource
    around: Surroundings
    report: MailboxReport
    record: Record
    aside: PopAside
    tolerated: frozenset[str] = frozenset()  # oddities of messages that this target has taken

    async def send(self, batch: PopBatch) -> None:
        """Every message of the batch is settled then. Raises what the connection raises; `sending` is in doubt."""
        pipeline = self.imap.pipeline(batch.place.name)
        together: dict[bytes, Letter] = {}
        for key, message in batch.spooled.items():
            if pipeline is not None and message.size <= UNASKED_LIMIT:
                letter, odd = await self._letter(batch.place, message)
                if odd <= self.tolerated and pipeline.takes(letter):
                    together[key] = letter
                    continue
            await self._send_together(batch, pipeline, together)
            together = {}
            await self._send_alone(batch, key)
        await self._send_together(batch, pipeline, together)
        await self._find_uids(batch)

    async def _letter(self, place: PopPlace, message: Spooled) -> tuple[Letter, frozenset[str]]:
        content = b"".join([chunk async for chunk in message.chunks()])
        scanner = Scanner()
        scanner.feed(content)
        return Letter(content, place.flags, self._date(message)), scanner.finish()

    def _date(self, message: Spooled) -> bytes | None:
        when = header_date(message.header, now=datetime.fromtimestamp(self.around.now(), UTC))
        return render_internal_date(when) if when else None

    async def _send_together(self, batch: PopBatch, pipeline: Pipeline | None, letters: dict[bytes, Letter]) -> None:
        """In one command or one after the other without waiting. What is refused goes once more, alone."""
        if not letters or pipeline is None:
            return
        self.pop.touch()
        await pipeline.settle()
        self.around.checkpoint("target: before APPEND")
        keys = list(letters)
        commands = [keys] if pipeline.many else [[key] for key in keys]
        batch.sending.update(keys)
        for command in commands:
            await pipeline.send([letters[key] for key in command])
        refused: list[bytes] = []
        trouble: Trouble | None = None
        for command in commands:
            answer = await pipeline.answer()
            batch.sending.difference_update(command)
            if not isinstance(answer, Trouble):
                for key, appended in zip(command, answer, strict=True):
                    self._confirm(batch, key, appended)
            elif isinstance(answer, MessageRefused) or answer.code == _FULL:
                refused += command
            else:
                trouble = trouble or answer
        self.around.checkpoint("target: a message was answered")
        if trouble is not None:
            raise trouble
        for key in refused:
            await self._send_alone(batch, key)

    async def _send_alone(self, batch: PopBatch, key: bytes) -> None:
        """Once more if it is refused: the trouble may have been the moment's. Then up the ladder."""
        message = batch.spooled[key]
        reasons: list[str] = []
        code = ""
        for _ in range(2):
            refusal = await self._append(batch, key, message)
            if refusal is None:
                self.tolerated |= await _oddities(message)
                return
            reasons.append(refusal.text)
            code = refusal.code
        if code not in _TOO_BIG:
            for step in ladder(await _oddities(message)):
                refusal = await self._repaired(batch, key, step)
                if refusal is None:
                    text = "; ".join(dict.fromkeys(reasons))
                    name = self.pop.name_of(message.number)
                    self.report.repaired.append(RepairedMessage(name, message.size, step.sentence, text))
                    return
                reasons.append(f"{step.sentence}: {refusal.text}")
        flags = [flag.decode("ascii") for flag in batch.place.flags]
        reason = await self.aside.keep(key, message, reasons, date=self._date(message), flags=flags)
        batch.settled[key] = self._mark(batch, UidlState.REFUSED, message, reason=reason)

    async def _repaired(self, batch: PopBatch, key: bytes, step: Rung) -> MessageRefused | None:
        message = batch.spooled[key]
        batch.forms[key] = step.code
        intent = self._mark(batch, UidlState.INTENT, message, uid=batch.floor, reason=step.code)
        await self.record(UidlChange(settled={key: intent}))
        self.pop.touch()
        changed = await rewrite(message.chunks(), step.transformer())
        try:
            refusal = await self._append(batch, key, changed)
        finally:
            changed.close()
        if refusal is not None:
            del batch.forms[key]
        return refusal

    async def _append(self, batch: PopBatch, key: bytes, content: Spooled | Rewritten) -> MessageRefused | None:
        place, message = batch.place, batch.spooled[key]
        self.pop.touch()
        self.around.checkpoint("target: before APPEND")
        batch.sending.add(key)
        try:
            appended = await self.imap.append(
                place.name, place.flags, self._date(message), content.size, content.chunks()
            )
        except MessageRefused as refusal:
            batch.sending.discard(key)
            return refusal
        batch.sending.discard(key)
        self._confirm(batch, key, appended)
        self.around.checkpoint("target: a message was answered")
        return None

    def _confirm(self, batch: PopBatch, key: bytes, appended: Appended) -> None:
        uid = appended.uid or 0
        if uid < batch.floor:
            batch.unknown.append(key)
            uid = 0
        else:
            batch.place.floor = max(batch.place.floor, uid + 1)
        batch.settled[key] = self._mark(batch, UidlState.COPIED, batch.spooled[key], uid=uid)

    def _mark(self, batch: PopBatch, state: UidlState, message: Spooled, *, uid: int = 0, reason: str = "") -> UidlMark:
        place, now = batch.place, self.around.now()
        return UidlMark(state, place.uidvalidity, uid, now, reason, message.digest, place.mailbox)

    async def _find_uids(self, batch: PopBatch) -> None:
        """Ask where the messages are that a server without UIDPLUS has confirmed. The mailbox is open."""
        if not batch.unknown:
            return
        taken = frozenset(mark.uid for mark in batch.settled.values() if mark.uid)
        sources = {key: await self.describe(batch.spooled[key], batch.forms.get(key, "")) for key in batch.unknown}
        found, top = await locate_among(self.imap, list(sources.values()), batch.floor, taken)
        batch.place.floor = max(batch.place.floor, top + 1)
        for key, source in sources.items():
            if source.uid in found:
                message = batch.spooled[key]
                batch.settled[key] = self._mark(batch, UidlState.COPIED, message, uid=found[source.uid])

    async def describe(self, message: Spooled, form: str = "") -> Description:
        """As it was sent, in this form; `uid` is the message number."""
        when = header_date(message.header, now=datetime.fromtimestamp(self.around.now(), UTC))
        seconds = int(when.timestamp()) if when else None
        if not form:
            return Description(message.number, seconds, message.size, message.digest, message_id(message.header))
        changed, digest = await rewrite(message.chunks(), rung(form).transformer()), ContentDigest()
        try:
            async for chunk in changed.chunks():
                digest.feed(chunk)
        finally:
            changed.close()
        return Description(message.number, seconds, changed.size, digest.digest(), message_id(digest.header))


async def _oddities(message: Spooled) -> frozenset[str]:
    scanner = Scanner()
    async for chunk in message.chunks():
        scanner.feed(chunk)
    return scanner.finish()


def never_sent(batch: PopBatch, keys: Sequence[bytes]) -> list[bytes]:
    """Those of which nothing can have arrived."""
    return [key for key in keys if key not in batch.settled and key not in batch.sending]
