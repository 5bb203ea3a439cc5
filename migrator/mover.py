"""One account's mail, from one IMAP server to another: every mailbox, every message once.

`copy_account` is what a worker, MoveIMAPMail and MoveAccounts call. It keeps what it knows in a MarkStore,
so that it can be broken off anywhere and run again; a run with nothing new adds nothing.

It never changes the source (but for --delete), never changes a message, and never appends to a mailbox that it cannot
tell from the source.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Final

from migrator.access import Access
from migrator.account_plan import ends_of, plan_account, subscriptions_of
from migrator.acls import copy_acl, owners_of
from migrator.carry_over import carry_over
from migrator.crew import Crew
from migrator.identity import identify
from migrator.mailbox_copy import MOST_BREAKS, MailboxCopy
from migrator.marks import UNKNOWN, MarkStore
from migrator.options import AS_NEEDED, CopyOptions
from migrator.plan import Pair, Plan, counterpart, is_inbox, show
from migrator.report import CopyInterrupted, InboxIdentity, MailboxReport, Report, SameMailbox
from migrator.second_pass import is_passed_over, look, remember
from migrator.session import Lessons, Session, Surroundings
from migrator.side_by_side import side_by_side
from migrator.window import WindowClosed
from wire.outcome import MailboxUnavailable, Permanent, Scope, SetupTrouble, Temporary, Throttled

_TRIES: Final = 4  # connections made one after the other without a message copied, once the copying has begun
_MOST_TRIES: Final = 20  # and in one run: then it is the caller's turn to wait
_STOPS: Final = frozenset({"OVERQUOTA", "LIMIT", "THROTTLED"})  # said of one mailbox, true of all
_REST: Final = 1.0  # seconds before that: a server that has just hung up wants to be left alone
_LONG_REST, _LONGEST_REST = 30.0, 300.0  # after it said that it is asked too much; Microsoft 365 asks for five minutes

_FAR: Final = 0.008  # seconds of a round trip: a server in the same place answers in one or two milliseconds
_FAR_SESSIONS: Final = 3  # then; servers allow ten for a user and more (Dovecot 10, Gmail 15; Courier 4 for an address)

BeforeCopy = Callable[[InboxIdentity], Awaitable[None]]


async def copy_account(
    source: Access,
    target: Access,
    options: CopyOptions,
    marks: MarkStore,
    around: Surroundings | None = None,
    *,
    before_copy: BeforeCopy | None = None,
) -> Report:
    """Copy what the target does not have yet, and say what became of every message.

    `before_copy` is given the identity of the source's INBOX when nothing has been written yet; what it raises ends the
    copy (a second account with the same mailbox is held that way).

    Returns a Report also when single messages were refused or single mailboxes cannot be copied: see
    `Report.problems` and `Report.postponed`. Raises CopyInterrupted (Temporary, with the report so far) when a
    connection is lost and cannot be had again at once, or a quota is full; Temporary when it could not begin;
    SourceRefused or TargetRefused for a login; SameMailbox when there is nothing to copy between; SetupTrouble for TLS.
    """
    around = around or Surroundings()
    source, target = ends_of(source, target, options)
    started = asyncio.get_running_loop().time()
    run = _Run(source, target, options, marks, around, before_copy=before_copy)
    try:
        return await run.to_the_end()
    finally:
        run.report.seconds = asyncio.get_running_loop().time() - started


class _Run:
    """One call of copy_account, over as many connections as it takes."""

    def __init__(
        self,
        source: Access,
        target: Access,
        options: CopyOptions,
        marks: MarkStore,
        around: Surroundings,
        *,
        before_copy: BeforeCopy | None,
    ) -> None:
        self._source = source
        self._target = target
        self._options = options
        self._marks = marks
        self._around = around
        self._before_copy = before_copy
        self._lessons = Lessons()
        self.report = Report(source.label, target.label)

    async def to_the_end(self) -> Report:
        """The copy, gone on with a few times where a connection breaks after it has begun."""
        attempt = number = done = 0  # in a row without progress; in all; messages dealt with so far
        while True:
            await self._around.wait_for_window(self._options.window)
            attempt, number = attempt + 1, number + 1
            earlier, self.report = self.report, Report(self._source.label, self._target.label)
            try:
                await self._attempt()
            except WindowClosed as closed:
                carry_over(earlier, self.report)
                if not self._around.patient:
                    raise CopyInterrupted(closed, self.report) from closed
                attempt = number = 0
                continue
            except Temporary as trouble:
                carry_over(earlier, self.report)
                if not self.report.mailboxes:
                    raise
                before, done = done, max(done, self._dealt_with())
                if done > before:
                    attempt = 1
                rest = self._rest_after(trouble, attempt)
                if rest is None or attempt == _TRIES or number == _MOST_TRIES:
                    raise CopyInterrupted(trouble, self.report) from trouble
                self._around.checkpoint("connection lost")
                await self._around.sleep(rest)
                continue
            carry_over(earlier, self.report)
            return self.report

    def _rest_after(self, trouble: Temporary, attempt: int) -> float | None:
        """Seconds to leave the servers alone before going on; None to let the caller decide when."""
        if isinstance(trouble, Throttled) and self._around.patient:
            rest = max(trouble.pause, min(_LONG_REST * 2.0 ** (attempt - 1), _LONGEST_REST))
            self._around.say(f"{trouble.text}: waiting {rest:.0f} seconds")
            return rest
        return None if trouble.code or isinstance(trouble, Throttled) else _REST * attempt

    def _dealt_with(self) -> int:
        """Messages that are copied, and those that this run goes on without."""
        given_up = sum(1 for breaks in self._lessons.breaks.values() if breaks >= MOST_BREAKS)
        return self.report.total("copied") + self.report.total("already") + given_up

    async def _attempt(self) -> None:
        session = await Session.open(self._source, self._target, self._options, self._marks, self._around)
        session.lessons = self._lessons
        try:
            pairs = await self._begin(session)
            await self._copy_pairs(session, pairs)
            if self._options.subscriptions:
                await self._subscribe(session, pairs)
            if self._options.mailbox_class:
                from migrator.classes import copy_classes  # noqa: PLC0415 - it brings the CLI, which few copies need

                self.report.notes += await copy_classes(session, self._copied(session, pairs))
            await session.close()
        finally:
            session.abort()

    async def _begin(self, session: Session) -> list[Pair]:
        """What is to be copied, and that it is safe to. Nothing is written here."""
        plan = await plan_account(session)
        self.report.skipped = list(plan.skipped)
        if session.source.preauth:
            self.report.notes.append("the source greeted PREAUTH: whose mail it showed, it did not say")
        await look(session, plan.pairs)
        if self._before_copy is not None:
            inbox = await self._identify_inbox(session, plan)
            if inbox is not None:
                await self._before_copy(inbox)
        for pair in plan.pairs:
            box = MailboxReport(pair.source_name, pair.target_name)
            for text in pair.notes:
                box.note(text)
            self.report.mailboxes.append(box)
        return list(plan.pairs)

    async def _identify_inbox(self, session: Session, plan: Plan) -> InboxIdentity | None:
        """Of the source's INBOX, whether or not it is copied; None if there is none."""
        prefix = session.source_access.prefix
        names = (pair.source for pair in plan.pairs if is_inbox(pair.source.removeprefix(prefix)))
        try:
            opened, uids = await session.source.open_with_uids(next(names, prefix + b"INBOX"))
        except MailboxUnavailable:
            return None
        return await identify(session.source, opened, uids)

    async def _copy_pairs(self, session: Session, pairs: list[Pair]) -> None:
        """All mailboxes; those that go into one of the target's are kept together, in one session."""
        session.names = {pair.target for pair in pairs}
        groups: dict[bytes, list[tuple[Pair, MailboxReport]]] = defaultdict(list)
        passed: set[bytes] = set()
        for pair, box in zip(pairs, self.report.mailboxes, strict=True):
            groups[pair.target].append((pair, box))
            if is_passed_over(session, pair, box):
                passed.add(pair.source)
        todo = [group for group in groups.values() if not passed.issuperset(pair.source for pair, _ in group)]
        session.passed = frozenset(passed)
        try:
            await Crew(session, todo, self._copy_group, most=_sessions(session)).run()
        finally:
            self.report.notes += self._lessons.notes
        session.touch()

    async def _copy_group(self, session: Session, group: list[tuple[Pair, MailboxReport]]) -> None:
        """Each mailbox in turn; one that cannot be copied does not keep the others from it."""
        for pair, box in group:
            if pair.source in session.passed:
                continue
            others = await _uids_of(session, [one.source for one, _ in group if one.source != pair.source])
            try:
                ended = await MailboxCopy(session, pair, box, others).run()
                if self._options.acl:
                    await self._copy_acl(session, pair, box)
                await remember(session, ended)
            except (SetupTrouble, SameMailbox, WindowClosed):
                raise  # true of the whole account
            except Permanent as trouble:
                box.held = str(trouble)
            except Temporary as trouble:
                box.postponed = str(trouble)
                if _is_about_all(trouble) or not await _both_alive(session):
                    raise

    async def _copy_acl(self, session: Session, pair: Pair, box: MailboxReport) -> None:
        owners = owners_of(session.source_access)
        there = session.renamed.get(pair.target, pair.target)
        for text in await copy_acl(session.source, session.target, (pair.source, there), owners):
            box.note(text)

    def _copied(self, session: Session, pairs: list[Pair]) -> list[tuple[bytes, bytes]]:
        """The mailboxes that are at the target now, by both names."""
        boxes = zip(pairs, self.report.mailboxes, strict=True)
        return [(pair.source, session.renamed.get(pair.target, pair.target)) for pair, box in boxes if not box.held]

    async def _subscribe(self, session: Session, pairs: list[Pair]) -> None:
        """Subscribe at the target to what was subscribed at the source, of the mailboxes that are copied."""
        copied = {
            pair.source: pair.target for pair, box in zip(pairs, self.report.mailboxes, strict=True) if not box.held
        }
        session.touch()
        at_source, at_target = await side_by_side(
            subscriptions_of(session.source, session.source_access.prefix, session.source_subscribed),
            subscriptions_of(session.target, session.target_access.prefix, session.target_subscribed),
        )
        names = [name for old in at_source if (name := counterpart(old, copied)) is not None]
        wanted = {session.renamed.get(name, name) for name in names} - set(at_target)
        refused = await session.target.subscribe(sorted(wanted))
        self.report.subscribed += len(wanted) - len(refused)
        self.report.notes += [f"{show(name)} could not be subscribed: {why.text}" for name, why in refused.items()]
        self._around.checkpoint("target: subscribed")


async def _uids_of(session: Session, sources: list[bytes]) -> frozenset[int]:
    """Target uids that other source mailboxes have brought into the same target mailbox (--renameMailbox)."""
    found: set[int] = set()
    for source in sources:
        marks = await session.marks.load(source)
        if marks is not None:
            found.update(uid for _, uid in marks.runs if uid != UNKNOWN)
    return frozenset(found)


def _sessions(session: Session) -> int:
    """How many share out the mailboxes: over a long way there is more than one to wait at the same time."""
    options = session.options
    if options.connections != AS_NEEDED:
        return options.connections
    return _FAR_SESSIONS if session.round_trip >= _FAR and not options.one_by_one else 1


def _is_about_all(trouble: Temporary) -> bool:
    """Whether it would be the same with every other mailbox: a quota, a server asked too much, our own disk is full."""
    return isinstance(trouble, Throttled) or trouble.code in _STOPS or trouble.scope is Scope.SETUP


async def _both_alive(session: Session) -> bool:
    try:
        await session.keep()
    except Temporary:
        return False
    return True
