"""Messages on their way from an open source mailbox into the open target mailbox, many at a time.

A batch is written down (intent, with the target's next UID as its floor) before its first byte is sent, and its results
with the next batch's intent. Small messages go in pipelined commands, several in one where the server has MULTIAPPEND;
large ones, and those whose arguments a server may dispute, go alone. What the target refuses is narrowed down to single
messages and handed to the ladder.

A run that is broken off anywhere leaves in doubt what was under way and nothing else; the next run settles that before
it sends anything. No message is ever sent a second time before it is known what became of the first.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from migrator.dates import moment
from migrator.in_flight import Command, InFlight
from migrator.intents import Description
from migrator.ladder import Refused, climb
from migrator.long_lines import LineBreaker
from migrator.marks import UNKNOWN
from migrator.outgoing import Outgoing, Place
from migrator.plan import show
from migrator.repair import oddities
from migrator.report import MailboxReport
from migrator.resolution import locate
from migrator.rewrite import rewrite
from migrator.session import Session
from migrator.tally import Tally
from migrator.transformer import transform
from wire.imap.append import UNASKED_LIMIT, Letter, OutOfStep, Pipeline
from wire.imap.results import Appended, Summary
from wire.imap.transfer import Body, Fetcher
from wire.outcome import MessageRefused, Temporary, Throttled, Trouble

BATCH_MESSAGES: Final = 200  # one commit for each: the fsync is shared well enough
BATCH_OCTETS: Final = 2 << 20  # a MULTIAPPEND of more is no faster, and all of it is sent again if one is refused
_FETCH_GROUP: Final = 100  # messages in one FETCH command
_FETCH_WINDOW: Final = 12  # FETCH commands under way: half of them hide a round trip of 20 ms
_FULL: Final = "OVERQUOTA"
_LIMIT: Final = "LIMIT"
_SLOWEST: Final = 32 << 10  # bytes a second that a target is given time for before it counts as silent


class Delivery:
    """Delivers into one target mailbox: `deliver` again and again, then `finish`; or `give_up` after any Trouble."""

    def __init__(self, session: Session, place: Place, floor: int, tally: Tally, report: MailboxReport) -> None:
        self.session = session
        self.source = tally.source
        self.place = place
        self.floor = floor  # no message that is sent from now on gets a lower uid
        self.tally = tally
        self.report = report
        self.nowhere: list[int] = []  # source uids of messages that were confirmed and are not to be found
        self.told = False  # the target has said of a message where it is
        self.rewritten: list[int] = []  # source uids of messages whose lines were broken (--fixLongLines)
        self._pipeline: Pipeline | None = None
        self._summaries: dict[int, Summary] = {}  # of messages that are not settled yet
        self._dates: dict[int, bytes | None] = {}  # instead of impossible ones
        self._flags: dict[tuple[bytes, ...], tuple[bytes, ...]] = {}
        self._without_keywords: set[int] = set()
        self._batch: list[Outgoing] = []
        self._batch_octets = 0
        self._flight = InFlight()
        self._refused: list[tuple[Command, Trouble]] = []
        self._on_trial: frozenset[str] = frozenset()  # oddities of messages that went alone and are not answered yet
        self._unlocated: dict[int, Outgoing | Description] = {}  # confirmed without a uid, in the order they were sent
        self._large_refused: list[tuple[int, MessageRefused]] = []
        self._alone = 0  # the uid of a message that is on its way by itself
        self._broke_at = 0  # the uid within which, or before which, the source broke off

    async def deliver(
        self, uids: Sequence[int], summaries: Mapping[int, Summary], dates: Mapping[int, bytes | None]
    ) -> None:
        """Fetch these and send them on; some may still be under way at the end.

        Raises Temporary or MailboxUnavailable when this mailbox, or everything, must wait.
        """
        for uid in self.tally.take_settled():
            self._summaries.pop(uid, None)
            self._dates.pop(uid, None)
        self._summaries.update(summaries)
        self._dates.update(dates)
        self.tally.sizes.update((uid, summary.size) for uid, summary in summaries.items())
        if self._pipeline is None and not self.session.lessons.cautious:
            self._pipeline = self.session.target.pipeline(self.place.name)
        fetcher = self._fetcher(uids)
        async with aclosing(self._watched(fetcher)) as bodies:
            async for body in bodies:
                self.session.touch()
                await self._take(body)
        while self._large_refused:
            uid, refusal = self._large_refused.pop()
            await self._flush()
            await self.drain()
            await climb(self, Refused(uid, [refusal]))

    @property
    def source_broke(self) -> bool:
        """Whether it was the source's connection that was lost."""
        return self._broke_at != 0

    async def finish(self) -> None:
        """Send the rest. Each message is stored, refused or gone then, and that is in the journal."""
        await self._flush()
        await self.drain()
        await self.tally.record()

    # From the source --------------------------------------------------------------------------------------------

    def _fetcher(self, uids: Sequence[int]) -> Fetcher:
        options = self.session.options
        one = options.one_by_one
        return self.session.source.fetcher(
            uids,
            item=options.fetch_item,
            window=1 if one else _FETCH_WINDOW,
            group=1 if one else _FETCH_GROUP,
            whole=UNASKED_LIMIT,
            lenient=True,
        )

    async def _watched(self, fetcher: Fetcher) -> AsyncGenerator[Body, None]:
        """The messages; whether it was the source that failed, and at which one, is kept."""
        try:
            async with aclosing(fetcher.bodies()) as bodies:
                async for body in bodies:
                    yield body
        except Temporary:
            self._broke_at = self._broke_at or fetcher.next_due
            raise

    async def _chunks_of(self, body: Body) -> AsyncGenerator[bytes, None]:
        """The content of a message; whether it was the source that failed within it is kept."""
        try:
            async for chunk in body.chunks:
                yield chunk
        except Temporary:
            self._broke_at = body.uid
            raise

    async def fetch_again(self, uid: int) -> AsyncGenerator[bytes, None]:
        """A large message once more, with its lines broken where that was asked for. Nothing else is being fetched."""
        async with aclosing(self._watched(self._fetcher([uid]))) as bodies:
            async for body in bodies:
                if body.size is None:
                    raise Temporary(f"the source does not give message {uid} a second time: {body.trouble or 'gone'}")
                async for chunk in self._chunks_of(body):
                    yield chunk

    async def _take(self, body: Body) -> None:
        if body.nil and self._summaries[body.uid].size == 0:
            body = replace(body, size=0, trouble="", content=b"")
        if body.size is None:
            if body.later:
                self.tally.postponed(body.uid, f"the source does not give it now: {body.trouble}")
            elif body.trouble:
                self.tally.refused(body.uid, f"the source does not give it: {body.trouble}")
            else:
                self.tally.vanished(body.uid)
        elif body.content is None:
            await self._flush()
            await self.drain()
            await self.tally.intend([body.uid], self.floor)
            await self._stream(body)
        else:
            content = self._with_short_lines(body.uid, body.content)
            letter = Letter(content, self.flags_of(body.uid), self.date_of(body.uid))
            self._batch.append(Outgoing(body.uid, letter, oddities(content)))
            self._batch_octets += len(content)
            if len(self._batch) >= BATCH_MESSAGES or self._batch_octets >= BATCH_OCTETS:
                await self._flush()

    def _with_short_lines(self, uid: int, content: bytes) -> bytes:
        longest = self.session.options.longest_line
        if not longest:
            return content
        breaker = LineBreaker(longest)
        content = transform(content, breaker)
        if breaker.broken:
            self.rewritten.append(uid)
        return content

    def flags_of(self, uid: int) -> tuple[bytes, ...]:
        """Its flags, as far as the target can keep them."""
        flags = self._summaries[uid].flags
        if flags not in self._flags:
            keep, lost = self.place.rules.split(flags)
            for flag in lost:
                self.report.note(f"the target cannot keep the flag {show(flag)}")
            self._flags[flags] = tuple(keep)
        kept = self._flags[flags]
        return tuple(filter(_is_system, kept)) if uid in self._without_keywords else kept

    def leave_keywords(self, uid: int) -> bool:
        """Store a message without its keywords from now on. False where it has none."""
        if all(map(_is_system, self.flags_of(uid))):
            return False
        self._without_keywords.add(uid)
        return True

    def keep_keywords(self, uid: int) -> None:
        """It was not for them that the message was refused."""
        self._without_keywords.discard(uid)

    def date_of(self, uid: int) -> bytes | None:
        """Its INTERNALDATE, or what takes the place of an impossible one."""
        return self._dates[uid] if uid in self._dates else self._summaries[uid].internal_date

    # To the target ----------------------------------------------------------------------------------------------

    async def _flush(self) -> None:
        """Send what is gathered."""
        batch, self._batch, self._batch_octets = self._batch, [], 0
        if not batch:
            return
        self.session.around.check_window(self.session.options.window)
        await self.tally.intend([message.uid for message in batch], self.floor)
        together: list[Outgoing] = []
        for message in batch:
            if await self._goes_with_others(message):
                together.append(message)
                continue
            await self._send_unasked(together)
            together = []
            if self._goes_unasked(message):
                self._on_trial |= message.odd
                await self._send_unasked([message])
            else:
                await self.drain()
                await self._ask(message)
        await self._send_unasked(together)
        if "UIDPLUS" not in self.session.target.capabilities:
            await self.drain()  # one batch at a time can be told apart by its order

    def _goes_unasked(self, message: Outgoing) -> bool:
        """Whether it may be sent without waiting for anything."""
        doubtful = (self.source, message.uid) in self.session.lessons.doubtful
        return self._pipeline is not None and not doubtful and self._pipeline.takes(message.letter)

    async def _goes_with_others(self, message: Outgoing) -> bool:
        """Whether it may go in one command with others: a MULTIAPPEND with what the target has taken before.

        A server that refuses one message in the middle must not be given the chance to take the next for commands. The
        first of a kind goes alone; when the second comes, its answer is waited for.
        """
        lessons = self.session.lessons
        if self._pipeline is None or not self._pipeline.many or not self._goes_unasked(message):
            return False
        if not message.odd <= lessons.tolerated and message.odd & self._on_trial:
            while self._flight:
                await self._settle()
            self._on_trial = frozenset()
        return message.odd <= lessons.tolerated

    async def _send_unasked(self, messages: Sequence[Outgoing]) -> None:
        if messages:
            await self._make_room(messages)
            await self._send(messages)

    async def _make_room(self, messages: Sequence[Outgoing]) -> None:
        """Hear answers until these may go, too."""
        while not self._flight.has_room(messages):
            await self._settle()
        if self._refused:
            await self.drain()

    async def _send(self, messages: Sequence[Outgoing]) -> None:
        """One command, without waiting for its answer."""
        assert self._pipeline is not None
        self.session.touch()
        await self._pipeline.settle()
        self.session.around.checkpoint("target: before APPEND")
        self._flight.add(messages)
        await self._pipeline.send([message.letter for message in messages])

    async def drain(self) -> None:
        """Hear every answer that is due, and settle what came of it."""
        while self._flight:
            await self._settle()
        while self._refused:
            await self._sort_out(*self._refused.pop(0))
        await self._locate()

    async def _settle(self) -> None:
        """Hear the answer to the oldest command."""
        assert self._pipeline is not None
        session = self.session
        session.touch(more=self._flight.octets / _SLOWEST)
        answer = await self._pipeline.answer()
        session.touch()
        command = self._flight.take()
        session.around.checkpoint("target: a message was answered")
        if isinstance(answer, MessageRefused) or (isinstance(answer, Trouble) and _is_of_few(answer, command)):
            self._refused.append((command, answer))
        elif isinstance(answer, Trouble):
            self.tally.drop(message.uid for message in command.messages)
            raise answer
        else:
            for message, appended in zip(command.messages, answer, strict=True):
                self._confirm(message, appended, len(message.letter.content))
                session.lessons.tolerated |= message.odd

    def _confirm(self, message: Outgoing | Description, appended: Appended, octets: int) -> None:
        """The target said OK: where it says the message is, if that can be true."""
        self.tally.confirmed(message.uid, octets)
        target = appended.uid
        if target is None or target < self.floor or appended.uidvalidity != self.place.uidvalidity:
            self._unlocated[message.uid] = message
            return
        self.told = True
        self.floor = target + 1
        self.tally.copied(message.uid, target)

    async def _sort_out(self, command: Command, trouble: Trouble) -> None:
        """Find out which messages of a refused command are to blame; nothing of it was stored, nothing is under way.

        In their order: of a quota that is nearly full, the first messages get the rest.
        """
        messages = command.messages
        if len(messages) == 1:
            if not isinstance(trouble, MessageRefused):
                raise trouble
            await self._ask(messages[0], before=trouble.text)
            return
        middle = len(messages) // 2
        for half in (messages[:middle], messages[middle:]):
            await self._send(half)
            await self._settle()
            if self._refused:
                await self._sort_out(*self._refused.pop())

    async def _ask(self, message: Outgoing, *, before: str = "") -> None:
        """One message alone, announced where the server wants that; up the ladder where it is refused twice."""
        content = message.letter.content
        refusals = []
        for _ in range(1 if before else 2):  # once more: the trouble may have been the moment's
            refusal = await self.append(message, len(content), _one(content))
            if refusal is None:
                self.session.lessons.tolerated |= message.odd
                return
            refusals.append(refusal)
        await climb(self, Refused(message.uid, refusals, content, before))

    async def _stream(self, body: Body) -> None:
        """One large message, piece by piece. Where it is refused it is fetched again, later."""
        assert body.size is not None
        longest = self.session.options.longest_line
        outline = self.outline(body.uid, body.size)
        if not longest:
            refusal = await self.append(outline, body.size, self._chunks_of(body))
        else:
            breaker = LineBreaker(longest)
            message = await rewrite(self._chunks_of(body), breaker)
            try:
                refusal = await self.append(outline, message.size, message.chunks())
            finally:
                message.close()
            if breaker.broken:
                self.rewritten.append(body.uid)
        if refusal is not None:
            self.tally.drop([body.uid])
            self._large_refused.append((body.uid, refusal))

    def outline(self, uid: int, size: int) -> Description:
        """What is known of a message without its content."""
        return Description(uid, moment(self.date_of(uid)), size)

    async def append(
        self, message: Outgoing | Description, size: int, chunks: AsyncIterator[bytes]
    ) -> MessageRefused | None:
        """Store one message whose intent is written down. None when it is there; a refusal is a value."""
        session = self.session
        uid = message.uid
        session.touch()
        session.around.checkpoint("target: before APPEND")
        self._alone = uid
        try:
            appended = await session.target.append(self.place.name, self.flags_of(uid), self.date_of(uid), size, chunks)
        except MessageRefused as refusal:
            if self._broke_at != uid:
                self._alone = 0
            await session.target.noop()  # Temporary if the source failed within the literal: the target was cut off
            return refusal
        except Trouble:
            if session.target.stream.usable:  # an answer, and a complete one: it is certainly not there
                self._alone = 0
            raise
        self._alone = 0
        self._confirm(message, appended, size)
        session.lessons.doubtful.discard((self.source, uid))
        session.around.checkpoint("target: a message was answered")
        return None

    async def _locate(self) -> None:
        """Ask where the messages are that were confirmed without a uid; nothing is under way."""
        if not self._unlocated:
            return
        sent = self._unlocated

        def describe() -> list[Description]:
            return [message.describe() if isinstance(message, Outgoing) else message for message in sent.values()]

        floor = min(self.tally.marks.intents[uid].floor for uid in sent)
        taken = frozenset(self.tally.taken_from(floor)) | self.place.others
        found, top = await locate(self.session.target, list(sent), floor, taken, describe)
        self.floor = max(self.floor, top + 1)
        self._unlocated = {}
        for uid in sent:
            self.tally.copied(uid, found.get(uid, UNKNOWN))
        self.nowhere += [uid for uid in sent if uid not in found]
        if len(found) < len(sent):
            self.report.note("the target confirmed messages that cannot be told from others there")

    # When it breaks off -----------------------------------------------------------------------------------------

    async def give_up(self, trouble: Trouble) -> None:
        """Write down what is sure: what was confirmed is copied, what was never sent is not intended any more."""
        if isinstance(trouble, OutOfStep):
            self.session.lessons.cautious = True
        await self._hear_what_is_due(and_send=self._broke_at != 0)
        if isinstance(trouble, Temporary) and not trouble.code and not isinstance(trouble, Throttled):
            self._suspect()
        in_doubt = {*self._flight.uids, self._alone}
        in_doubt -= {self._broke_at}  # the source failed within it: it was not stored, for certain
        await self.tally.break_off(in_doubt, self._unlocated)

    async def _hear_what_is_due(self, *, and_send: bool) -> None:
        """The target may still answer for what it was sent: each answer leaves less in doubt.

        Where it was the source that broke off, what it gave before goes on its way, too.
        """
        if and_send and not self._alone:
            try:
                await self._flush()
                await self.drain()
            except Trouble:
                pass  # both sides in trouble: the first one is what is told
        while self._flight and not self._alone:
            due = len(self._flight)
            try:
                await self._settle()
            except Trouble:
                if len(self._flight) == due:
                    return  # no answer: the connection is gone

    def _suspect(self) -> None:
        """Remember what may have broken the connection.

        A message alone, or that which the source was due to give, is counted. Of many under way each is doubtful, and
        goes alone the next time.
        """
        lessons = self.session.lessons
        under_way = self._flight.uids
        culprit = self._broke_at or self._alone or (under_way[0] if len(under_way) == 1 else 0)
        if culprit:
            lessons.breaks[self.source, culprit] += 1
        else:
            lessons.doubtful.update((self.source, uid) for uid in under_way)


def _is_of_few(trouble: Trouble, command: Command) -> bool:
    """Whether a part of the command may fare better: less fits into a quota, and a limit may be that of one command."""
    return trouble.code == _FULL or (trouble.code == _LIMIT and len(command.messages) > 1)


async def _one(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _is_system(flag: bytes) -> bool:
    return flag.startswith(b"\\")
