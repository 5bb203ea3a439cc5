"""What becomes of a message that the target refuses: without its keywords, repaired, wrapped, or put aside as a file.

Each step is tried only after the target refused the one before, and each is in the report with the target's words. The
journal knows in which form a message was sent, so that a broken-off run finds it again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from migrator.content import ContentDigest, message_id
from migrator.intents import Description
from migrator.long_lines import LineBreaker
from migrator.marks import MailboxMarks
from migrator.plan import show
from migrator.quarantine import Origin
from migrator.repair import Rung, Scanner, ladder, oddities, rung
from migrator.report import RepairedMessage
from migrator.rewrite import Rewritten, rewrite
from migrator.transformer import Chain, Transformer
from wire.outcome import MessageRefused, Trouble

if TYPE_CHECKING:
    from migrator.delivery import Delivery
    from migrator.session import Session

_TOO_BIG: Final = frozenset({"TOOBIG", "LIMIT"})  # RFC 7889, RFC 9051: no other form is smaller


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that is not at the target. `content` is at hand for a small one, as it was sent."""

    uid: int
    refusals: Sequence[MessageRefused]
    content: bytes | None = None
    before: str = ""  # what was said when it was sent with others

    @property
    def reasons(self) -> list[str]:
        """The target's words, each once."""
        return list(dict.fromkeys([*([self.before] if self.before else []), *(one.text for one in self.refusals)]))


async def climb(delivery: Delivery, message: Refused) -> None:
    """Try one form after the other; in the end the message is stored, or kept as a file, and reported in any case.

    Nothing else is under way on the target's connection; for a large message nothing on the source's either.
    """
    reasons = message.reasons
    if not any(refusal.code in _TOO_BIG for refusal in message.refusals):
        if message.content is None:  # a small message was tried twice before it came here
            again = await _try_as_it_is(delivery, message)
            if again is None:
                return  # the trouble was the moment's
            reasons = list(dict.fromkeys([*reasons, again.text]))
        if delivery.leave_keywords(message.uid):
            refusal = await _try_as_it_is(delivery, message)
            if refusal is None:
                delivery.report.note(
                    f"message {message.uid} is stored without its keywords (refused: {'; '.join(reasons)})"
                )
                return
            delivery.keep_keywords(message.uid)
        for step in ladder(await _oddities_of(delivery, message)):
            await delivery.tally.intend([message.uid], delivery.floor, form=step.code)
            refusal = await _try(delivery, message, step)
            if refusal is None:
                size = delivery.tally.sizes.get(message.uid, 0)
                text = "; ".join(reasons)
                delivery.report.repaired.append(RepairedMessage(str(message.uid), size, step.sentence, text))
                return
            reasons.append(f"{step.sentence}: {refusal.text}")
    reasons.append(await _put_aside(delivery, message, reasons))
    delivery.tally.refused(message.uid, "; ".join(reason for reason in reasons if reason))


async def _try_as_it_is(delivery: Delivery, message: Refused) -> MessageRefused | None:
    """Once more, unchanged but for what an option asks for."""
    await delivery.tally.intend([message.uid], delivery.floor)
    return await _append(delivery, message.uid, await _rewritten(delivery, message, None))


async def _oddities_of(delivery: Delivery, message: Refused) -> frozenset[str]:
    if message.content is not None:
        return oddities(message.content)
    scanner = Scanner()
    async with aclosing(delivery.fetch_again(message.uid)) as chunks:
        async for chunk in chunks:
            scanner.feed(chunk)
    return scanner.finish()


async def _try(delivery: Delivery, message: Refused, step: Rung) -> MessageRefused | None:
    return await _append(delivery, message.uid, await _rewritten(delivery, message, step))


async def _append(delivery: Delivery, uid: int, spooled: Rewritten) -> MessageRefused | None:
    try:
        return await delivery.append(await _describe(delivery, uid, spooled), spooled.size, spooled.chunks())
    finally:
        spooled.close()


async def _rewritten(delivery: Delivery, message: Refused, step: Rung | None) -> Rewritten:
    if message.content is not None:  # its lines were broken before, where that was asked for
        return await rewrite(_one(message.content), step.transformer() if step else Chain([]))
    transformer = transformer_of(delivery.session.options.longest_line, step.code if step else "") or Chain([])
    async with aclosing(delivery.fetch_again(message.uid)) as chunks:
        return await rewrite(chunks, transformer)


async def _describe(delivery: Delivery, uid: int, repaired: Rewritten) -> Description:
    """What is sent, as it will be looked for where the target does not say where it put it."""
    digest = ContentDigest()
    async for chunk in repaired.chunks():
        digest.feed(chunk)
    when = delivery.outline(uid, 0).moment
    return Description(uid, when, repaired.size, digest.digest(), message_id(digest.header))


async def _put_aside(delivery: Delivery, message: Refused, reasons: Sequence[str]) -> str:
    """Where the message is kept as a file; "" where nothing keeps it, and the source still has it."""
    quarantine = delivery.session.around.quarantine
    if quarantine is None:
        return ""
    origin = origin_of(delivery.session, delivery.tally.marks, message.uid)
    details = {
        "flags": [show(flag) for flag in delivery.flags_of(message.uid)],
        "date": show(delivery.date_of(message.uid) or b""),
    }
    chunks = delivery.fetch_again(message.uid) if message.content is None else _one(message.content)
    try:
        async with aclosing(chunks):
            path = await quarantine.store(origin, chunks, reasons=reasons, details=details)
    except Trouble as trouble:
        if delivery.source_broke:
            raise
        return f"it could not be put aside either: {trouble.text}"
    return f"kept as {path}"


def origin_of(session: Session, marks: MailboxMarks, uid: int) -> Origin:
    """The message as the quarantine knows it: by the target account, whoever logs in there for it."""
    return Origin(session.target_access.account, marks.source, marks.source_uidvalidity, uid)


def transformer_of(longest_line: int, form: str) -> Transformer | None:
    """What a message went through before it was sent: broken lines, then the step of the ladder. None if nothing."""
    steps: list[Transformer] = [LineBreaker(longest_line)] if longest_line else []
    if form:
        steps.append(rung(form).transformer())
    return Chain(steps) if steps else None


async def _one(content: bytes) -> AsyncGenerator[bytes, None]:
    yield content
