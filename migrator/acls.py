"""Access control lists of copied mailboxes (RFC 4314), where both servers have them.

The owner keeps what the target gives an owner; entries for others are set as they stand. A name that the target does
not know is reported and changes nothing else.
"""

from __future__ import annotations

import re
from typing import Final

from migrator.plan import show
from wire.imap.client import ImapClient
from wire.imap.encoder import Text
from wire.outcome import Permanent

_RIGHTS: Final = re.compile(rb"[a-z0-9]+")  # RFC 4314 3
_MEANS_OWNER: Final = frozenset({b"owner", b"$owner"})


async def copy_acl(
    source: ImapClient, target: ImapClient, names: tuple[bytes, bytes], owners: frozenset[bytes]
) -> list[str]:
    """Set the entries of the source mailbox at the target's; what could not be set, a sentence each.

    `names` are the mailbox at the source and at the target, `owners` the logins that copy.
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
            if identifier.lower() in owners | _MEANS_OWNER or not _RIGHTS.fullmatch(rights):
                continue
            try:
                await target.command(b"SETACL", Text(names[1]), Text(identifier), Text(rights))
            except Permanent as refusal:
                problems.append(f"access of {show(identifier)} was not copied: {refusal.text}")
    return problems
