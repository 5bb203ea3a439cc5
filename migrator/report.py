"""What a copy came to, mailbox by mailbox, in numbers that add up.

Every message that the source showed is counted once: copied, already there, refused, vanished,
left out by an option, or left for the next run. `unexplained` is what no counter accounts for; it
is always 0, and a test and the programs' exit code watch over it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from migrator.window import WindowClosed
from wire.outcome import Permanent, Refused, Temporary, Throttled


@dataclass(frozen=True, slots=True)
class RefusedMessage:
    """A message that the target would not take in any form; it stays at the source."""

    uid: str  # decimal at IMAP, the UIDL at POP
    size: int
    reason: str


@dataclass(frozen=True, slots=True)
class LargeMessage:
    """A message that --max-size left out; it stays at the source."""

    uid: str
    size: int  # as the source states it


@dataclass(frozen=True, slots=True)
class RepairedMessage:
    """A message that the target refused as it is, and took in another form."""

    uid: str
    size: int  # of the original
    form: str  # what was changed
    reason: str  # why: the target's words to the original


@dataclass(slots=True)
class MailboxReport:
    """One mailbox of the source. Names are in Unicode, as a person reads them."""

    source: str
    target: str
    messages: int = 0  # in the source when it was listed
    copied: int = 0  # in this run
    already: int = 0  # copied by an earlier run, or found at the target after a crash
    refused: list[RefusedMessage] = field(default_factory=list)
    repaired: list[RepairedMessage] = field(default_factory=list)  # of those copied: not as they are
    vanished: int = 0  # deleted at the source between listing and fetching
    left_out: int = 0  # by an option, such as --filter
    too_large: list[LargeMessage] = field(default_factory=list)  # of those left out
    left: int = 0  # not dealt with in this run: interrupted, postponed or held
    octets: int = 0  # of the messages copied
    deleted: int = 0  # at the source, by --delete
    flagged: int = 0  # copied before, and their flags brought over now (--syncFlags)
    expunged: int = 0  # copied before, and no longer at the source: they stay at the target
    doubled: int = 0  # perhaps there twice: a server finished an append long after its connection was lost
    gone: int = 0  # copied by an earlier run, but no longer in the target mailbox: moved or deleted there since
    missing: int = 0  # confirmed by the target in this run, and not there at its end
    held: str = ""  # why a person must look; empty if nobody must
    postponed: str = ""  # why it goes on another time; empty if it is finished
    notes: list[str] = field(default_factory=list)  # renamed, dates replaced, keywords left out, possibly doubled

    @property
    def unexplained(self) -> int:
        """Messages that no counter accounts for: 0."""
        counted = self.copied + self.already + len(self.refused) + self.vanished + self.left_out + self.left
        return self.messages - counted

    def note(self, text: str) -> None:
        """Say `text` once."""
        if text not in self.notes:
            self.notes.append(text)

    def as_json(self) -> dict[str, Any]:
        """Plain values for json.dumps."""
        return {**asdict(self), "unexplained": self.unexplained}


@dataclass(frozen=True, slots=True)
class InboxIdentity:
    """Which mailbox an INBOX is: its UIDVALIDITY and the oldest messages in it, whatever login opened it.

    Two logins that show the same identity are one mailbox (an alias). An empty INBOX has no identity,
    and mail that comes or goes at one end between two looks does not hide that they are the same.
    """

    uidvalidity: int
    oldest: tuple[str, ...] = ()  # uid, date, size and a digest of the lowest UIDs; at POP the first UIDLs

    def same_as(self, other: InboxIdentity) -> bool:
        """True if at least half of what the smaller of both knows is known to the other too."""
        if self.uidvalidity != other.uidvalidity or not self.oldest or not other.oldest:
            return False
        shared = len(set(self.oldest) & set(other.oldest))
        return 2 * shared >= min(len(self.oldest), len(other.oldest))

    def __str__(self) -> str:
        return "\t".join((str(self.uidvalidity), *self.oldest))

    @classmethod
    def parse(cls, text: str) -> InboxIdentity:
        """What str() wrote."""
        uidvalidity, *oldest = text.split("\t")
        return cls(int(uidvalidity), tuple(oldest))


@dataclass(slots=True)
class Report:
    """One account's copy."""

    source: str  # endpoint and login, never a password
    target: str
    mailboxes: list[MailboxReport] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)  # mailbox, why it was not copied
    notes: list[str] = field(default_factory=list)
    subscribed: int = 0
    seconds: float = 0.0

    def total(self, what: str) -> int:
        """The sum of a counter over all mailboxes; `refused` counts messages."""
        values = (getattr(mailbox, what) for mailbox in self.mailboxes)
        return sum(len(value) if isinstance(value, list) else value for value in values)

    @property
    def unexplained(self) -> int:
        """Messages that no counter accounts for: 0."""
        return self.total("unexplained")

    @property
    def problems(self) -> list[str]:
        """What a person must look at, one sentence each; empty if nothing."""
        found = [f"{box.source}: {box.held}" for box in self.mailboxes if box.held]
        found += [
            f"{box.source}: message {message.uid} ({message.size} bytes) refused: {message.reason}"
            for box in self.mailboxes
            for message in box.refused
        ]
        found += [f"{box.source}: {box.doubled} perhaps doubled" for box in self.mailboxes if box.doubled]
        found += [
            f"{box.source}: {box.missing} messages that the target confirmed in this run are not there at its end:"
            " moved or deleted there meanwhile, or lost"
            for box in self.mailboxes
            if box.missing
        ]
        found += [f"{box.source}: {box.unexplained} unexplained" for box in self.mailboxes if box.unexplained]
        return found

    @property
    def postponed(self) -> list[str]:
        """What another run must go on with, one sentence each; empty if nothing."""
        return [f"{box.source}: {box.postponed}" for box in self.mailboxes if box.postponed]

    def as_json(self) -> dict[str, Any]:
        """Plain values for json.dumps."""
        counters = ("messages", "copied", "already", "refused", "vanished", "left_out", "left", "octets", "deleted")
        return {
            "source": self.source,
            "target": self.target,
            "seconds": round(self.seconds, 3),
            "totals": {
                name: self.total(name) for name in (*counters, "flagged", "expunged", "gone", "missing", "doubled")
            }
            | {"unexplained": self.unexplained},
            "subscribed": self.subscribed,
            "mailboxes": [mailbox.as_json() for mailbox in self.mailboxes],
            "skipped": [{"mailbox": name, "reason": reason} for name, reason in self.skipped],
            "notes": list(self.notes),
            "problems": self.problems,
            "postponed": self.postponed,
        }


class CopyInterrupted(Temporary):
    """The copy stopped midway and goes on where it was when it is run again. `report` says how far it came."""

    def __init__(self, cause: Temporary, report: Report) -> None:
        super().__init__(cause.text, code=cause.code, scope=cause.scope)
        self.report = report
        self.pause = cause.pause if isinstance(cause, (WindowClosed, Throttled)) else 0.0  # before it is worth a try


class SourceRefused(Refused):
    """The source refused the login in so many words: the job waits for the user's next login."""


class TargetRefused(Refused):
    """The target refused the login in so many words: another identity may append instead, or a person must look."""


class SameMailbox(Permanent):
    """Source and target are one mailbox: nothing was copied."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one mailbox is."""

    mailbox: str
    done: int  # messages dealt with, of those to copy in this run
    total: int
    octets: int


class ProgressListener(Protocol):
    """Called after each batch and at the end of each mailbox; must return quickly."""

    def __call__(self, progress: Progress, /) -> None: ...


Checkpoint = Callable[[str], None]
"""Called with a step's name after each journal write and around each command: tests stop a copy there."""


def pass_by(_step: str, /) -> None:
    """The Checkpoint of a real run."""


def print_nothing(_text: str, /) -> None:
    """Where nobody reads along."""


def keep_quiet(_progress: Progress, /) -> None:
    """The ProgressListener of nobody."""
