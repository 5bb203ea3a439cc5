"""What of a mailbox has been copied: runs of source and target UIDs, and the few messages that stand out.

A mailbox copied in order is one run, written as COPYUID writes it (RFC 4315): `1:500 1001:1500`.
Only a message that an open batch is about to append (INTENT) and one that the target would not take
(REFUSED) have an entry of their own. Pure: the SQL is in ledger/marks.py.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from migrator.passes import Pass

UNKNOWN: Final = 0  # target uid of a message that the target confirmed without saying where (no UIDPLUS, found nowhere)

_PIECE: Final = re.compile(r"(\d+)(?::(\d+))? (?:(\d+)(?::\d+)?|\?)")


class Runs:
    """An injective map from source UIDs to target UIDs, kept as ascending runs."""

    __slots__ = ("_counts", "_firsts", "_targets")

    def __init__(self) -> None:
        self._firsts: list[int] = []  # first source uid of each run, ascending
        self._targets: list[int] = []  # its target uid, or UNKNOWN for the whole run
        self._counts: list[int] = []

    @classmethod
    def parse(cls, text: str) -> Runs:
        """What str() wrote. ValueError for anything else."""
        runs = cls()
        for piece in text.split(",") if text else ():
            found = _PIECE.fullmatch(piece)
            if found is None:
                raise ValueError(f"not a run of uids: {piece!r}")
            first, last = int(found[1]), int(found[2] or found[1])
            target = int(found[3]) if found[3] else UNKNOWN
            if last < first or (runs._firsts and first <= runs._last_source()):
                raise ValueError(f"runs of uids out of order at {piece!r}")
            runs._append(first, target, last - first + 1)
        return runs

    def __str__(self) -> str:
        pieces = []
        for first, target, count in zip(self._firsts, self._targets, self._counts, strict=True):
            source = f"{first}:{first + count - 1}" if count > 1 else f"{first}"
            if target == UNKNOWN:
                pieces.append(f"{source} ?")
            else:
                pieces.append(f"{source} {target}:{target + count - 1}" if count > 1 else f"{source} {target}")
        return ",".join(pieces)

    def __len__(self) -> int:
        """Messages, not runs."""
        return sum(self._counts)

    @property
    def pieces(self) -> int:
        """Runs: what it costs to keep."""
        return len(self._firsts)

    def __contains__(self, source: int) -> bool:
        return self.target_of(source) is not None

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Every (source uid, target uid), by source uid."""
        for first, target, count in zip(self._firsts, self._targets, self._counts, strict=True):
            for step in range(count):
                yield first + step, target + step if target else UNKNOWN

    def from_target(self, floor: int) -> Iterator[tuple[int, int]]:
        """Every (source uid, target uid) at or above a target uid, in any order."""
        for first, target, count in zip(self._firsts, self._targets, self._counts, strict=True):
            for step in range(max(floor - target, 0), count if target else 0):
                yield first + step, target + step

    def target_of(self, source: int) -> int | None:
        """The target uid, UNKNOWN if it was confirmed without one, None if `source` was never copied."""
        at = bisect_right(self._firsts, source) - 1
        if at < 0 or source >= self._firsts[at] + self._counts[at]:
            return None
        target = self._targets[at]
        return target + source - self._firsts[at] if target else UNKNOWN

    def add(self, source: int, target: int) -> None:
        """Remember one copy. ValueError when `source` is already mapped elsewhere: it would have been doubled."""
        known = self.target_of(source)
        if known is not None:
            if known != target:
                raise ValueError(f"source uid {source} is already at target uid {known}, not {target}")
            return
        if not self._firsts or source > self._last_source():
            self._append(source, target, 1)
            return
        at = bisect_left(self._firsts, source)
        self._firsts.insert(at, source)
        self._targets.insert(at, target)
        self._counts.insert(at, 1)
        self._merge(at)
        if at:
            self._merge(at - 1)

    def add_all(self, pairs: Iterable[tuple[int, int]]) -> None:
        """`add` for each pair."""
        for source, target in pairs:
            self.add(source, target)

    def _last_source(self) -> int:
        return self._firsts[-1] + self._counts[-1] - 1

    def _append(self, first: int, target: int, count: int) -> None:
        self._firsts.append(first)
        self._targets.append(target)
        self._counts.append(count)
        if len(self._firsts) > 1:
            self._merge(len(self._firsts) - 2)

    def _merge(self, at: int) -> None:
        """Join run `at` and the one behind it where they continue each other on both sides."""
        if at + 1 >= len(self._firsts):
            return
        count = self._counts[at]
        if self._firsts[at] + count != self._firsts[at + 1]:
            return
        here, behind = self._targets[at], self._targets[at + 1]
        if (here == UNKNOWN) != (behind == UNKNOWN) or (here != UNKNOWN and here + count != behind):
            return
        self._counts[at] += self._counts[at + 1]
        del self._firsts[at + 1], self._targets[at + 1], self._counts[at + 1]


@dataclass(frozen=True, slots=True)
class Intent:
    """A message that may have been stored at or above `floor` when a run was cut off at `recorded_at` or later."""

    floor: int
    recorded_at: float  # seconds since the epoch
    confirmed: bool = False  # the target said OK, but the run broke off before it could be found there
    form: str = ""  # the step of the repair ladder that it was sent in; "" as it is


@dataclass(slots=True)
class MailboxMarks:
    """Everything remembered of one mailbox. The numbers hold for this pair of uidvalidities only."""

    source: bytes
    target: bytes
    source_uidvalidity: int
    target_uidvalidity: int
    runs: Runs = field(default_factory=Runs)
    intents: dict[int, Intent] = field(default_factory=dict)  # by source uid
    refused: dict[int, str] = field(default_factory=dict)  # source uid, reason
    generation: int = 0  # grows with each commit: another writer is noticed
    recopy: bool = False  # a person said that it may be copied again into a target that was made anew

    @property
    def empty(self) -> bool:
        """Nothing was ever copied, or tried, under these marks."""
        return not (len(self.runs) or self.intents or self.refused)

    def apply(self, change: Change) -> None:
        """What a commit of `change` does to the rows, done here."""
        for uid, target in change.copied:
            self.runs.add(uid, target)
            self.intents.pop(uid, None)
            self.refused.pop(uid, None)
        for uid, reason in change.refused.items():
            self.refused[uid] = reason
            self.intents.pop(uid, None)
        for uid in change.dropped:
            self.intents.pop(uid, None)
        for uid in change.confirmed:
            self.intents[uid] = replace(self.intents[uid], confirmed=True)
        intent = Intent(change.floor, change.recorded_at, form=change.form)
        for uid in change.intended:
            self.intents[uid] = intent
            self.refused.pop(uid, None)


@dataclass(frozen=True, slots=True)
class Change:
    """One durable step: results of the batch behind, intent of the batch ahead."""

    copied: Sequence[tuple[int, int]] = ()
    refused: Mapping[int, str] = field(default_factory=dict)
    dropped: Sequence[int] = ()  # intents that came to nothing: vanished, or to be tried again
    confirmed: Sequence[int] = ()  # intents that are known to have been stored, but not where
    intended: Sequence[int] = ()
    floor: int = 0
    recorded_at: float = 0.0
    form: str = ""  # of what is intended

    @property
    def empty(self) -> bool:
        """Nothing to write."""
        return not (self.copied or self.refused or self.dropped or self.confirmed or self.intended)


class MarkStore(Protocol):
    """Where marks are kept, for one copy (one source account into one target account)."""

    async def targets(self) -> dict[bytes, bytes]:
        """The target name chosen for each source mailbox in earlier runs."""
        ...

    async def load(self, source: bytes) -> MailboxMarks | None:
        """The marks of a source mailbox, None if it was never opened."""
        ...

    async def open(self, marks: MailboxMarks) -> None:
        """Begin, or begin anew, with these marks: whatever stood there is replaced, in one commit."""
        ...

    async def record(self, marks: MailboxMarks, change: Change) -> None:
        """Apply `change` to `marks` and make it durable, in one commit. Temporary when another writer was there."""
        ...

    async def passes(self) -> dict[bytes, Pass]:
        """The last pass over each source mailbox that was passed over to its end, as far as its marks still stand."""
        ...

    async def passed(self, marks: MailboxMarks, last: Pass) -> None:
        """Remember how a mailbox was passed over, in one commit. Temporary when another writer was there."""
        ...


def left_to_copy(uids: Sequence[int], marks: MailboxMarks) -> list[int]:
    """The uids of the source that are not copied, ascending; those refused before stand at the end.

    A refusal may have been for a reason that is gone, such as a size limit; and a message that breaks a
    connection each time must not keep the others from being copied.
    """
    left = [uid for uid in sorted(uids) if uid not in marks.runs]
    return sorted(left, key=lambda uid: uid in marks.refused)


def group(uids: Sequence[int], sizes: Mapping[int, int], *, count: int, octets: int) -> Iterator[list[int]]:
    """Batches of at most `count` messages and about `octets` bytes; a longer message is a batch of its own."""
    batch: list[int] = []
    weight = 0
    for uid in uids:
        size = sizes.get(uid, 0)
        if batch and (len(batch) >= count or weight + size > octets):
            yield batch
            batch, weight = [], 0
        batch.append(uid)
        weight += size
    if batch:
        yield batch
