"""What became of the messages of one mailbox: into the journal first, then into the report.

Results are gathered and written with the next intent, so that a batch costs one commit. A message counts in the report
when the journal has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from migrator.marks import Change, MailboxMarks
from migrator.report import MailboxReport, Progress, RefusedMessage
from migrator.session import Session


@dataclass(slots=True)
class _Results:
    """What is not in the journal yet."""

    copied: dict[int, int] = field(default_factory=dict)  # source uid -> target uid or UNKNOWN
    refused: dict[int, str] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)  # certainly not stored: gone, or left for another time
    vanished: int = 0  # of those dropped: not given by the source


class Tally:
    """The results of one mailbox. `sizes` are of messages that are on their way, as the source counts them."""

    def __init__(self, session: Session, source: bytes, marks: MailboxMarks, report: MailboxReport) -> None:
        self.marks = marks
        self.sizes: dict[int, int] = {}
        self.not_given: list[int] = []  # uids that the source listed and then gave no word of: vanished, as it seems
        self.todo = 0  # messages in all, for the progress
        self._session = session
        self.source = source
        self._report = report
        self._results = _Results()
        self._open: set[int] = set()  # uids with an intent of this run
        self._octets: dict[int, int] = {}  # of messages that the target has confirmed
        self._settled: list[int] = []
        self._done = 0
        self._told = -1

    def copied(self, uid: int, target: int) -> None:
        """It is at the target, under this uid (or UNKNOWN)."""
        self._results.copied[uid] = target

    def confirmed(self, uid: int, octets: int) -> None:
        """The target said OK to so many bytes."""
        self._octets[uid] = octets

    def refused(self, uid: int, reason: str) -> None:
        """It is not at the target, and will not be in this run."""
        self._results.refused[uid] = reason

    def postponed(self, uid: int, reason: str) -> None:
        """It is not at the target, and another run is to try again."""
        self._results.dropped.add(uid)
        before = f"{self._report.postponed}; " if self._report.postponed else ""
        self._report.postponed = f"{before}message {uid}: {reason}"

    def vanished(self, uid: int) -> None:
        """It is not at the source any more."""
        self.not_given.append(uid)
        self._results.vanished += 1
        self._results.dropped.add(uid)

    def drop(self, uids: Iterable[int]) -> None:
        """They are certainly not at the target, and stay for another time."""
        self._results.dropped.update(uids)

    def take_settled(self) -> list[int]:
        """The messages that are copied or refused, and in the journal as such, since this was asked last."""
        settled, self._settled = self._settled, []
        return settled

    def taken_from(self, floor: int) -> set[int]:
        """The target uids at or above `floor` that are known to be ours."""
        known = {target for _, target in self.marks.runs.from_target(floor)}
        return known | set(self._results.copied.values())

    async def intend(self, uids: Sequence[int], floor: int, form: str = "") -> None:
        """Write down that these are about to be sent, and the results so far, in one commit."""
        self._open.update(uids)
        await self._record(Change(intended=uids, floor=floor, recorded_at=self._session.around.now(), form=form))

    async def record(self) -> None:
        """Write the results down."""
        await self._record(Change())
        if self._told != self._done:
            self._tell()

    async def break_off(self, in_doubt: set[int], confirmed: Mapping[int, object]) -> None:
        """The last commit of a run that breaks off: what was not sent is not intended any more.

        `confirmed` are stored, though nobody knows where yet: the next run finds out.
        """
        self._results.dropped |= self._open - in_doubt - confirmed.keys()
        await self._record(Change(confirmed=list(confirmed)))
        self._report.copied += len(confirmed)
        self._report.octets += sum(self._octets.pop(uid, 0) for uid in confirmed)
        self._report.left -= len(confirmed)

    async def _record(self, ahead: Change) -> None:
        results, self._results = self._results, _Results()
        settled = {*results.copied, *results.refused}
        change = Change(
            copied=sorted(results.copied.items()),
            refused=results.refused,
            dropped=sorted(results.dropped - settled - {*ahead.intended}),
            confirmed=ahead.confirmed,
            intended=ahead.intended,
            floor=ahead.floor,
            recorded_at=ahead.recorded_at,
            form=ahead.form,
        )
        await self._session.record(self.marks, change)
        self._open -= settled.union(change.dropped)
        self._count(results)

    def _count(self, results: _Results) -> None:
        report = self._report
        report.copied += len(results.copied)
        report.octets += sum(self._octets.pop(uid, 0) for uid in results.copied)
        sizes = self.sizes
        report.refused += [RefusedMessage(str(uid), sizes.get(uid, 0), why) for uid, why in results.refused.items()]
        report.vanished += results.vanished
        settled = [*results.copied, *results.refused]
        self._settled += settled
        for uid in settled:
            sizes.pop(uid, None)
        self._session.lessons.refused.update((self.source, uid) for uid in results.refused)
        dealt_with = len(results.copied) + len(results.refused) + results.vanished
        report.left -= dealt_with
        self._done += dealt_with
        if dealt_with:
            self._tell()

    def _tell(self) -> None:
        self._told = self._done
        self._session.tell(Progress(self._report.source, self._done, self.todo, self._report.octets))
