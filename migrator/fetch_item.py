"""Which FETCH item an old source understands: `RFC822.PEEK`, else `RFC822` (migration guide, --fetchRFC822).

Asked once for each connection, with a message that is there: a server may know an item only when it comes to use it.
`RFC822` marks a message as read, so with this flag the source is opened by EXAMINE, where no flag changes (RFC 3501
6.3.2), and by SELECT only to delete.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from migrator.resolution import summaries_of
from migrator.session import Session
from wire.imap.client import ImapClient

PEEK: Final = b"RFC822.PEEK"  # of servers before IMAP4rev1
PLAIN: Final = b"RFC822"
_LOOKED_AT: Final = 100  # messages among which the smallest is the one to ask with


async def settle_fetch_item(session: Session, uids: Sequence[int]) -> None:
    """Find out, with the smallest of the first messages, what `session.options.fetch_item` is to be from now on.

    Nothing is asked without --fetchRFC822, in an empty mailbox, or once it is known. Temporary for a lost connection.
    """
    if session.options.fetch_item != PEEK or session.fetch_item_known:
        return
    sizes = {uid: summary.size for uid, summary in (await summaries_of(session.source, uids[:_LOOKED_AT])).items()}
    if not sizes:
        return
    if not await _gives(session.source, min(sizes, key=lambda uid: (sizes[uid], uid)), PEEK):
        session.options = replace(session.options, fetch_item=PLAIN)
    session.fetch_item_known = True


async def _gives(source: ImapClient, uid: int, item: bytes) -> bool:
    """Whether the server gives message `uid` when it is asked for it by this item."""
    given = False
    async with aclosing(source.fetch_bodies([uid], item=item, window=1)) as bodies:
        async for body in bodies:
            given = body.size is not None
            async for _ in body.chunks:
                pass
    return given
