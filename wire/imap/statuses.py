"""STATUS of many mailboxes (RFC 3501 6.3.10)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wire.imap.classify import classify_failure
from wire.imap.dialogue import Completed, Dialogue
from wire.imap.results import read_status
from wire.imap.windowed import run_windowed
from wire.outcome import Temporary


async def ask_statuses(
    dialogue: Dialogue, mailboxes: Iterable[bytes], items: Sequence[str]
) -> dict[bytes, dict[str, int]]:
    """What the server says of each mailbox; one of which it says nothing, or that it refuses, is missing.

    Temporary where the server's refusal is about itself.
    """
    found: dict[bytes, dict[str, int]] = {}

    def take(mailbox: bytes, reply: Completed) -> None:
        if reply.status != b"OK":
            trouble = classify_failure(reply.status, reply.code, reply.text, what="STATUS")
            if isinstance(trouble, Temporary):
                raise trouble
            return
        said = [response for response in reply.untagged if response.name == b"STATUS"]
        if said:
            with dialogue.closing():
                found[mailbox] = read_status(said[-1])

    words = b"(" + " ".join(items).encode("ascii") + b")"
    await run_windowed(dialogue, b"STATUS", mailboxes, words, take=take)
    return found
