"""Did every message arrive once? Compares an old account with the new one, message by message, by digest. Pure.

Both sides are read from the servers' own stores, not over IMAP, so that no client's mistake can hide another's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from hashlib import sha256

from extauth.sandbox.mailstore import Mailbox, MailStore

Key = tuple[bytes, str]  # mailbox name at the target, digest


@dataclass(slots=True)
class Row:
    """One account, or the sum of many. Everything after `arrived` must be zero."""

    name: str
    mailboxes: int = 0
    messages: int = 0  # at the old server
    delivered: int = 0  # mail that came to the new server directly
    arrived: int = 0
    missing: int = 0
    doubled: int = 0
    changed: int = 0  # at the target, but neither sent there nor at the old server
    flags: int = 0  # messages whose flags differ
    dates: int = 0  # messages whose date differs
    lost_mailboxes: int = 0
    subscriptions: int = 0  # names subscribed on one side only

    @property
    def proven(self) -> bool:
        """Whether nothing is wrong."""
        wrong = (self.missing, self.doubled, self.changed, self.flags, self.dates, self.lost_mailboxes)
        return not any(wrong) and not self.subscriptions

    def __iadd__(self, other: Row) -> Row:
        for item in fields(self)[1:]:
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))
        return self


def compare(
    name: str,
    source: MailStore,
    target: MailStore | None,
    delivered: Iterable[bytes] = (),
    *,
    by_pop: bool = False,
) -> Row:
    """One account. `delivered` are the digested messages that came to the new INBOX directly.

    By POP only INBOX comes, without flags, dates and subscriptions.
    """
    row = Row(name)
    mailboxes = [source.inbox] if by_pop else [box for box in source if box.selectable]
    row.mailboxes, row.messages = len(mailboxes), sum(len(box.messages) for box in mailboxes)
    direct = Counter((b"INBOX", sha256(data).hexdigest()) for data in delivered)
    row.delivered = direct.total()
    if target is None:
        row.missing, row.lost_mailboxes = row.messages + row.delivered, row.mailboxes
        return row
    names = {box.name: target_name(box.name, source, target) for box in mailboxes}
    expected = Counter((names[box.name], m.digest) for box in mailboxes for m in box.messages) + direct
    found = Counter((box.name, m.digest) for box in target for m in box.messages)
    _count(row, expected, found)
    row.lost_mailboxes = sum(1 for n in names.values() if (box := target.find(n)) is None or not box.selectable)
    if not by_pop:
        _compare_details(row, mailboxes, names, target, direct)
        here = {target_name(n, source, target) for n in source.subscriptions}
        row.subscriptions = len(here ^ set(target.subscriptions))
    return row


def target_name(name: bytes, source: MailStore, target: MailStore) -> bytes:
    """Where a mailbox of the old server belongs: without its prefix, with the new separator."""
    inner = name.removeprefix(source.prefix)
    return target.separator.join(inner.split(source.separator)) if source.separator else inner


def _count(row: Row, expected: Counter[Key], found: Counter[Key]) -> None:
    row.missing = (expected - found).total()
    for key, surplus in (found - expected).items():
        if key in expected:
            row.doubled += surplus
        else:
            row.changed += surplus
    row.arrived = (expected & found).total()


def _compare_details(
    row: Row, mailboxes: Iterable[Mailbox], names: Mapping[bytes, bytes], target: MailStore, direct: Counter[Key]
) -> None:
    """Flags and dates of what is on both sides; equal messages are told apart as a multiset."""
    for box in mailboxes:
        there = target.find(names[box.name])
        if there is None:
            continue
        present = {m.digest for m in there.messages}
        copied = [m for m in there.messages if not direct[(there.name, m.digest)]]
        kept = [m for m in box.messages if m.digest in present]
        row.flags += _unequal(
            [(m.digest, _flags(m.flags)) for m in kept], [(m.digest, _flags(m.flags)) for m in copied]
        )
        row.dates += _unequal([(m.digest, _utc(m.date)) for m in kept], [(m.digest, _utc(m.date)) for m in copied])


def _unequal(here: Iterable[tuple[str, object]], there: Iterable[tuple[str, object]]) -> int:
    return (Counter(here) - Counter(there)).total()


def _flags(flags: Iterable[bytes]) -> frozenset[bytes]:
    return frozenset(flag.lower() for flag in flags)


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)
