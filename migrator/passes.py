"""What is remembered of a mailbox that was passed over to its end, and when that says that nothing new has come.

Pure. UIDNEXT that is the same says that nothing arrived (RFC 3501 2.3.1.1), MESSAGES that is the same as well that
nothing left, both only under one UIDVALIDITY, and only what a server really gives counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from migrator.flag_memory import FlagMemory
from migrator.options import CopyOptions

SOURCE_ITEMS: Final = ("MESSAGES", "UIDNEXT", "UIDVALIDITY")
TARGET_ITEMS: Final = ("UIDVALIDITY",)


@dataclass(frozen=True, slots=True)
class Standing:
    """A mailbox by its STATUS. A number that the server does not give is 0."""

    uidvalidity: int
    uidnext: int
    messages: int
    modseq: int = 0

    @classmethod
    def of(cls, status: Mapping[str, int]) -> Standing:
        """What STATUS said."""
        names = ("UIDVALIDITY", "UIDNEXT", "MESSAGES", "HIGHESTMODSEQ")
        return cls(*(status.get(name, 0) for name in names))

    def same_messages(self, other: Standing) -> bool:
        """Whether both are the same messages, for certain."""
        mine, others = (
            (self.uidvalidity, self.uidnext, self.messages),
            (other.uidvalidity, other.uidnext, other.messages),
        )
        return mine == others and self.uidvalidity > 0 and self.uidnext > 0


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass over a mailbox. Its standing is that of the source before anything was looked at."""

    standing: Standing
    target_uidvalidity: int
    complete: bool  # every message is at the target: none refused, left out or in doubt
    acl: bool = False  # with the access rights
    flags: FlagMemory | None = None  # of the copied messages at the source, if they are remembered

    def still_holds(self, source: Standing, target_uidvalidity: int, options: CopyOptions) -> bool:
        """Whether there is nothing to do in a mailbox pair that stands like this now."""
        if not (
            self.complete and source.same_messages(self.standing) and target_uidvalidity == self.target_uidvalidity
        ):
            return False
        if options.acl and not self.acl:
            return False
        return not options.sync_flags or (self.flags is not None and 0 < source.modseq == self.standing.modseq)


def may_pass_over(options: CopyOptions) -> bool:
    """Whether the numbers alone may decide: not where messages are to be deleted, or chosen one by one."""
    return not (options.delete or options.date_filter or options.max_size)
