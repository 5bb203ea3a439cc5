"""Which messages of a maildrop their user has seen, as far as POP tells.

POP has no flags. Servers that keep mail in mbox files show a `Status:` line with an R; a few still answer LAST
(RFC 1460, gone since RFC 1725); of all others only the age of a message says something, and only where that is asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from migrator.dates import header_date
from migrator.options import CopyOptions
from migrator.pop_source import PopSource, Spooled
from migrator.session import Surroundings

_STATUS: Final = re.compile(rb"^status[ \t]*:[ \t]*([a-z]*)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Seen:
    """The rule for one maildrop."""

    wanted: bool = False
    last: int = 0  # the highest message number that was ever fetched
    older_than: float = 0.0  # seconds since the epoch; 0: age says nothing
    now: float = 0.0

    @classmethod
    async def of(cls, pop: PopSource, options: CopyOptions, around: Surroundings) -> Seen:
        """LAST is asked for only where there is an archive."""
        if not options.archive_seen:
            return cls()
        now = around.now()
        return cls(True, await pop.last(), now - options.seen_older if options.seen_older else 0.0, now)

    def is_seen(self, message: Spooled) -> bool:
        """Whether the message goes to the archive."""
        if not self.wanted:
            return False
        if message.number <= self.last:
            return True
        status = _STATUS.search(message.mailbox_lines)
        if status and b"R" in status[1].upper():
            return True
        if not self.older_than:
            return False
        when = header_date(message.header, now=datetime.fromtimestamp(self.now, UTC))
        return when is not None and when.timestamp() < self.older_than


def shown_anew(count: int, *, archive: bool) -> str:
    """What users of POP meet: their programs know messages by UIDL, and another server gives others (RFC 1939 7)."""
    advice = "let them collect their mail from the old server first"
    if not archive:
        advice += ", or copy to an imap:// target with --archiveSeen, which keeps seen mail out of INBOX"
    return (
        f"POP programs that leave mail on the server will show {count} messages of INBOX anew, because the new server"
        f" gives them other UIDLs: {advice}"
    )
