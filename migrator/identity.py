"""Whether two mailboxes are one: an alias of another account, or source and target after the switch.

Where the old server's name leads to the new server already, a copy would append a mailbox to itself.
"""

from __future__ import annotations

import hashlib
from typing import Final

from migrator.access import Access
from migrator.dates import moment
from migrator.report import InboxIdentity, SameMailbox
from wire.imap.client import ImapClient
from wire.imap.results import Selected

_OLDEST: Final = 16  # messages that make an identity: enough that two mailboxes never share them by chance
_SAMPLE: Final = 8  # at each end of a mailbox, compared where UIDVALIDITY and all UIDs are equal
_FIELDS: Final = ("Message-ID", "Date", "From", "Subject")
# Accounts that were made in one second hold a welcome of one size and date: what differs is whom it was brought to.
_TRACES: Final = ("Message-ID", "To", "Delivered-To", "X-Original-To", "Received")


def refuse_same_login(source: Access, target: Access) -> None:
    """SameMailbox when both are one login at one address, into the same place."""
    one = (source.endpoint.host.lower(), source.endpoint.port, source.proxy or source.authzid or source.login)
    other = (target.endpoint.host.lower(), target.endpoint.port, target.proxy or target.authzid or target.login)
    if one == other and source.prefix == target.prefix:
        raise SameMailbox(f"source and target are both {source.label}: nothing is copied")


async def identify(client: ImapClient, selected: Selected, uids: list[int]) -> InboxIdentity:
    """The identity of the mailbox that is open."""
    oldest = uids[:_OLDEST]
    described = []
    for uid, when, size, header in await _look_at(client, oldest, _TRACES):
        trace = hashlib.sha256(header).hexdigest()[:12]
        described.append(f"{uid} {when} {size} {trace}")
    return InboxIdentity(selected.uidvalidity, tuple(described))


async def refuse_same_mailbox(
    source: ImapClient, target: ImapClient, opened: Selected, other: Selected, uids: list[int]
) -> None:
    """SameMailbox when the mailboxes open on both sides are one. Costs nothing where their numbers differ.

    Equal UIDVALIDITY and UIDs are not enough: small servers give every mailbox UIDVALIDITY 1. So the
    messages at both ends are compared as well.
    """
    if not uids or not other.exists or opened.uidvalidity != other.uidvalidity:
        return
    if await target.uid_search(b"ALL") != uids:
        return
    sample = sorted({*uids[:_SAMPLE], *uids[-_SAMPLE:]})
    if await _look_at(source, sample, _FIELDS) == await _look_at(target, sample, _FIELDS):
        raise SameMailbox(
            "source and target are the same mailbox: UIDVALIDITY, UIDs and messages are equal; nothing is copied"
        )


async def refuse_arrived(source: ImapClient, target: ImapClient, uids: list[int]) -> None:
    """SameMailbox when messages of the source, a sample of all, are at the target already, before any was copied.

    For a source whose numbers are our own: nothing but its content tells that it is what the target serves.
    """
    step = max(1, len(uids) // (2 * _SAMPLE))
    sample = [text for *_, text in await _look_at(source, uids[::step][: 2 * _SAMPLE], _FIELDS) if text]
    there = await target.uid_search(b"ALL")
    if not sample or len(there) < len(sample):
        return
    known = {b" ".join(header.split()) for header in (await target.fetch_headers(there, _FIELDS)).values()}
    if known.issuperset(sample):
        raise SameMailbox(
            "the target holds these messages already, and no record says that they were copied: it may be these files"
            " that it serves, or the record of an earlier copy was lost; nothing is copied"
        )


async def _look_at(
    client: ImapClient, uids: list[int], fields: tuple[str, ...]
) -> list[tuple[int, int | None, int, bytes]]:
    """uid, moment, size and some header fields of each message; the fields without what servers change in them."""
    headers, summaries = await client.fetch_outlines(uids, fields)
    return sorted(
        (found.uid, moment(found.internal_date), found.size, b" ".join(headers.get(found.uid, b"").split()))
        for found in summaries
        if found.uid in uids
    )
