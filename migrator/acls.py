"""Access control lists of copied mailboxes (RFC 4314), where both servers have them.

The owner keeps what the target gives an owner; entries for others are set as they stand. A name that the target does
not know is reported and changes nothing else.
"""

from __future__ import annotations

import re
from typing import Final

from migrator.access import Access
from migrator.plan import show
from wire.imap.client import ImapClient
from wire.imap.encoder import Text
from wire.outcome import Permanent

_RIGHTS: Final = re.compile(rb"[a-z0-9]+")  # RFC 4314 3
_MEANS_OWNER: Final = frozenset({b"owner", b"$owner", b"administrators"})  # the last stands on every Courier mailbox


def owners_of(access: Access) -> frozenset[bytes]:
    """Whose mailbox it is, by every name that it was opened with: entries for these are never set at the target."""
    names = [access.login, access.authzid, access.proxy]
    if access.prefix.startswith(b"~"):  # an administrator at CommuniGate names the account in the prefix
        names.append(access.prefix[1:].partition(b"/")[0])
    return frozenset(name.lower() for name in names if name)


def is_owner(identifier: bytes, owners: frozenset[bytes]) -> bool:
    """Whether it names an owner; a name with a domain and one without are the same where the first parts are."""
    who = identifier.lower()
    if who in owners | _MEANS_OWNER:
        return True
    name, at, _ = who.partition(b"@")
    short = {owner.partition(b"@")[0] for owner in owners if (b"@" in owner) != bool(at)}
    return name in short


async def copy_acl(
    source: ImapClient, target: ImapClient, names: tuple[bytes, bytes], owners: frozenset[bytes]
) -> list[str]:
    """Set the entries of the source mailbox at the target's; what could not be set, a sentence each.

    `names` are the mailbox at the source and at the target, `owners` what `owners_of` the source gives.
    """
    if "ACL" not in source.capabilities or "ACL" not in target.capabilities:
        return []
    try:
        reply = await source.command(b"GETACL", Text(names[0]))
    except Permanent:
        return []  # the right to see the list is not given with the mailbox
    problems = []
    for response in reply.untagged:
        if response.name != b"ACL":
            continue
        words = [word for word in response.data[1:] if isinstance(word, bytes)]
        for identifier, rights in zip(words[::2], words[1::2], strict=False):
            if is_owner(identifier, owners) or not _RIGHTS.fullmatch(rights):
                continue
            try:
                await target.command(b"SETACL", Text(names[1]), Text(identifier), Text(rights))
            except Permanent as refusal:
                problems.append(f"access of {show(identifier)} was not copied: {refusal.text}")
    return problems
