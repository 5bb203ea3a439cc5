"""The flags of many messages in one command, or only of those that changed since then (CONDSTORE, RFC 7162)."""

from __future__ import annotations

from wire.imap.classify import classify_failure
from wire.imap.dialogue import Dialogue
from wire.imap.encoder import Arg
from wire.imap.parser import Untagged
from wire.imap.results import read_fetch, read_number


async def fetch_flags(dialogue: Dialogue, uids: bytes = b"1:*", changed_since: int = 0) -> dict[int, frozenset[bytes]]:
    """Flags by uid, in the server's own spelling. `changed_since` is a HIGHESTMODSEQ seen earlier, 0 for all."""
    found: dict[int, frozenset[bytes]] = {}

    def take(response: Untagged) -> bool:
        if response.name != b"FETCH":
            return False
        items = read_fetch(response)
        flags = items.get("FLAGS")
        if "UID" in items and isinstance(flags, list):
            found[read_number(items["UID"])] = frozenset(flag for flag in flags if isinstance(flag, bytes))
        return True

    args: list[Arg] = [uids, b"(UID FLAGS)"]
    if changed_since:
        args.append(b"(CHANGEDSINCE %d)" % changed_since)
    reply = await dialogue.run(b"UID FETCH", args, take=take)
    if reply.status != b"OK":
        raise classify_failure(reply.status, reply.code, reply.text, what="UID FETCH FLAGS")
    return found
