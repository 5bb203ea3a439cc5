"""What of a maildrop is not copied and where it stays: too large for --max-size, or refused in every form and kept.

A file goes when its message has arrived after all, in this run or whichever brought it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from migrator.options import CopyOptions
from migrator.pop_source import PopSource, Spooled
from migrator.quarantine import PopOrigin, Quarantine
from migrator.report import LargeMessage, MailboxReport
from migrator.uidl_marks import UidlMark, UidlState
from wire.outcome import Trouble


@dataclass(slots=True)
class PopAside:
    """The files of one account. Without a quarantine nothing is kept: the source still has it."""

    quarantine: Quarantine | None
    account: str
    _kept: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.quarantine is not None:
            self._kept = self.quarantine.kept(self.account, PopOrigin(self.account, b"").mailbox)

    async def keep(
        self,
        key: bytes,
        message: Spooled,
        reasons: Sequence[str],
        *,
        date: bytes | None = None,
        flags: Sequence[str] = (),
    ) -> str:
        """Why the message is refused, in one line, with where it is kept."""
        told = list(dict.fromkeys(reasons))
        if self.quarantine is not None:
            origin = PopOrigin(self.account, key)
            details = {"flags": list(flags), "date": (date or b"").decode("ascii", "backslashreplace")}
            try:
                path = await self.quarantine.store(origin, message.chunks(), reasons=told, details=details)
            except Trouble as trouble:
                told.append(f"it could not be put aside either: {trouble.text}")
            else:
                self._kept.add(origin.parts[-1])
                told.append(f"kept as {path}")
        return "; ".join(told)

    def forget_arrived(self, marks: Mapping[bytes, UidlMark]) -> None:
        """What arrived in a run that was cut off before it could remove the file."""
        if self._kept:
            for key, mark in marks.items():
                if mark.state is UidlState.COPIED:
                    self.forget(key)

    def forget(self, key: bytes) -> None:
        """The message has arrived."""
        if self.quarantine is None or not self._kept:
            return
        origin = PopOrigin(self.account, key)
        if origin.parts[-1] in self._kept:
            self.quarantine.forget(origin)
            self._kept.discard(origin.parts[-1])


def leave_out_large(pop: PopSource, numbers: Sequence[int], options: CopyOptions, report: MailboxReport) -> list[int]:
    """The messages without those of more than --max-size, as the source states sizes; these stand in the report."""
    wanted = []
    for number in numbers:
        size = pop.sizes.get(number, 0)
        if 0 < options.max_size < size:
            report.too_large.append(LargeMessage(pop.name_of(number), size))
            report.left_out += 1
        else:
            wanted.append(number)
    return wanted
