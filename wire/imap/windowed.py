"""One command for each of many mailboxes without waiting for each (RFC 3501 5.5): a bounded number is under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from wire.imap.dialogue import Completed, Dialogue
from wire.imap.encoder import Arg, Text, Unsendable

WINDOW: Final = 256  # commands under way: about 20 KB of them and of replies, which both fit into socket buffers


async def run_windowed(
    dialogue: Dialogue,
    name: bytes,
    mailboxes: Iterable[bytes],
    *args: Arg,
    take: Callable[[bytes, Completed], None],
) -> None:
    """`take` gets each mailbox and its reply, in order; what it raises ends it. Names that cannot be sent are left out.

    Replies come in the order of the commands, so that what comes without a tag belongs to the tag behind it.
    """
    dialogue.renew()
    if dialogue.stream.buffered:
        await dialogue.settle()
    under_way: deque[tuple[bytes, bytes]] = deque()  # tag, mailbox
    waiting: list[bytes] = []  # encoded, not yet written

    async def settle_down(most: int) -> None:
        if waiting:
            await dialogue.stream.write(b"".join(waiting))
            waiting.clear()
        while len(under_way) > most:
            tag, mailbox = under_way.popleft()
            take(mailbox, await dialogue.read_reply(tag))
            dialogue.renew()

    for mailbox in mailboxes:
        tag = dialogue.next_tag()
        try:
            chunks = dialogue.encode(tag, name, (Text(mailbox), *args))
        except Unsendable:
            continue
        if len(chunks) > 1:  # a name that the server must be asked about before it is sent: alone
            await settle_down(0)
            reply = await dialogue.send(chunks, tag)
            take(mailbox, reply or await dialogue.read_reply(tag))
            continue
        waiting += chunks
        under_way.append((tag, mailbox))
        if len(under_way) >= WINDOW:
            await settle_down(WINDOW // 2)
    await settle_down(0)
