"""Flags that changed at the source since the last pass, brought over to messages that are at the target already.

Three-way: what the source shows now is compared with what it showed then (FlagMemory), and only that difference is
carried over. So a flag that the user has set or removed at the new server stays as it is, unless the old server's
changed as well. Of a message whose flags were never remembered, flags that the target lacks are added and none is
removed: which of both sides is newer is not known, and read mail that is unread again does less harm than marks lost.

`\\Deleted` is never added: the next client to close the mailbox would remove the message for good.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from migrator.flag_memory import FlagMemory, plain
from migrator.flags import FlagRules
from migrator.marks import MailboxMarks
from migrator.plan import show
from migrator.report import MailboxReport
from migrator.second_pass import belongs_to
from migrator.session import Session
from wire.imap.client import ImapClient
from wire.imap.encoder import render_uid_sets
from wire.outcome import Permanent

_NEVER_ADDED: Final = frozenset({b"\\deleted"})


async def bring_flags(
    session: Session, marks: MailboxMarks, uids: Sequence[int], rules: FlagRules, report: MailboxReport
) -> FlagMemory:
    """Bring changed flags over; the flags at the source as they are now, to be remembered when the pass is over.

    Both mailboxes are open. May be repeated: a run that breaks off before its pass is remembered does it all again.
    """
    last = session.passes.get(marks.source)
    memory = last.flags if last is not None and last.flags is not None and belongs_to(last, marks) else None
    since = last.standing.modseq if memory is not None and last is not None and _has_modseq(session) else 0
    memory = memory if memory is not None else FlagMemory({})
    session.touch()
    now = await session.source.fetch_flags(changed_since=since)
    copied = [uid for uid in uids if marks.runs.target_of(uid)]
    unknown = [uid for uid in copied if memory.get(uid) is None]
    now.update(await _flags_of(session.source, [uid for uid in unknown if uid not in now]))
    added: dict[bytes, list[int]] = defaultdict(list)
    removed: dict[bytes, list[int]] = defaultdict(list)
    there = await _flags_of(session.target, [marks.runs.target_of(uid) or 0 for uid in unknown])
    changed = 0
    for uid in copied:
        if uid not in now:
            continue
        target = marks.runs.target_of(uid) or 0
        before = memory.get(uid)
        gone: frozenset[bytes] = frozenset()
        if before is None:
            if target not in there:
                continue  # removed or moved there
            before = plain(there[target])
        else:
            gone = before - plain(now[uid])
        new = [flag for flag in now[uid] if flag.lower() not in before | _NEVER_ADDED]
        keep, lost = rules.split(new)
        for flag in lost:
            report.note(f"the target cannot keep the flag {show(flag)}")
        for flag in keep:
            added[flag].append(target)
        for flag in rules.split(gone)[0]:
            removed[flag].append(target)
        changed += bool(keep or gone)
    await _store(session, b"+FLAGS.SILENT", added, report)
    await _store(session, b"-FLAGS.SILENT", removed, report)
    report.flagged = changed
    return memory.updated(now, keep=set(uids))


def _has_modseq(session: Session) -> bool:
    return "CONDSTORE" in session.source.capabilities


async def _flags_of(client: ImapClient, uids: Collection[int]) -> dict[int, frozenset[bytes]]:
    found: dict[int, frozenset[bytes]] = {}
    for piece in render_uid_sets(sorted(uids)):
        found.update(await client.fetch_flags(piece))
    asked = set(uids)
    return {uid: flags for uid, flags in found.items() if uid in asked}


async def _store(
    session: Session, change: bytes, uids_by_flag: Mapping[bytes, Sequence[int]], report: MailboxReport
) -> None:
    """One change for all messages that share it. A flag that the target refuses after all is told, and no more."""
    for flag, uids in sorted(uids_by_flag.items()):
        session.touch()
        session.around.checkpoint("target: before STORE")
        try:
            await session.target.store_flags(sorted(uids), change, [flag])
        except Permanent as refusal:
            report.note(f"the target does not change the flag {show(flag)}: {refusal.text}")
        session.around.checkpoint("target: after STORE")
