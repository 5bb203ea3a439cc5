"""STATUS of many mailboxes without waiting for each (RFC 3501 6.3.10, 5.5): a bounded number is under way at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from wire.imap.classify import classify_failure
from wire.imap.dialogue import Completed, Dialogue
from wire.imap.encoder import Text, Unsendable
from wire.imap.results import read_status
from wire.outcome import Temporary

WINDOW: Final = 256  # commands under way: about 20 KB of them and of replies, which both fit into socket buffers


async def ask_statuses(
    dialogue: Dialogue, mailboxes: Iterable[bytes], items: Sequence[str]
) -> dict[bytes, dict[str, int]]:
    """What the server says of each mailbox; one of which it says nothing, or that it refuses, is missing.

    Temporary where the server's refusal is about itself.
    """
    dialogue.renew()
    if dialogue.stream.buffered:
        await dialogue.settle()
    words = b"(" + " ".join(items).encode("ascii") + b")"
    found: dict[bytes, dict[str, int]] = {}
    under_way: deque[tuple[bytes, bytes]] = deque()  # tag, mailbox
    waiting: list[bytes] = []  # encoded, not yet written

    async def settle_down(most: int) -> None:
        if waiting:
            await dialogue.stream.write(b"".join(waiting))
            waiting.clear()
        while len(under_way) > most:
            tag, mailbox = under_way.popleft()
            _take(dialogue, await dialogue.read_reply(tag), mailbox, found)
            dialogue.renew()

    for mailbox in mailboxes:
        tag = dialogue.next_tag()
        try:
            chunks = dialogue.encode(tag, b"STATUS", (Text(mailbox), words))
        except Unsendable:
            continue
        if len(chunks) > 1:  # a name that the server must be asked about before it is sent: alone
            await settle_down(0)
            reply = await dialogue.send(chunks, tag)
            _take(dialogue, reply or await dialogue.read_reply(tag), mailbox, found)
            continue
        waiting += chunks
        under_way.append((tag, mailbox))
        if len(under_way) >= WINDOW:
            await settle_down(WINDOW // 2)
    await settle_down(0)
    return found


def _take(dialogue: Dialogue, reply: Completed, mailbox: bytes, found: dict[bytes, dict[str, int]]) -> None:
    """Replies come in the order of the commands, so that a STATUS without a tag belongs to the tag behind it."""
    if reply.status != b"OK":
        trouble = classify_failure(reply.status, reply.code, reply.text, what="STATUS")
        if isinstance(trouble, Temporary):
            raise trouble
        return
    said = [response for response in reply.untagged if response.name == b"STATUS"]
    if said:
        with dialogue.closing():
            found[mailbox] = read_status(said[-1])
