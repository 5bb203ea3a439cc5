"""Every saved password into a box of another key. The ledger sees boxes only; what opens and seals is given to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from migrator.ledger.store import Store

_STRETCH: Final = 500  # rows in one commit: logins that come meanwhile wait for no more than that

# The new box of (account, its box now); b"" where it need not change, None where it cannot be opened.
Reseal = Callable[[str, bytes], bytes | None]


@dataclass(slots=True)
class Resealed:
    """What became of the rows."""

    changed: int = 0
    left: int = 0  # in a box of the new key already
    unreadable: int = 0


async def reseal_all(store: Store, reseal: Reseal) -> Resealed:
    """Each row once, in their order. A box that another process replaces meanwhile stays as that made it."""
    total = Resealed()
    after = ("", "")
    while rows := await store.read(partial(_rows, after=after)):
        changes = []
        for account, server, sealed in rows:
            box = reseal(account, sealed)
            if box is None:
                total.unreadable += 1
            elif not box:
                total.left += 1
            else:
                changes.append((box, account, server, sealed))
        total.changed += await store.write(partial(_change, changes=changes))
        after = rows[-1][:2]
    return total


def _rows(connection: sqlite3.Connection, after: tuple[str, str]) -> list[tuple[str, str, bytes]]:
    return connection.execute(
        "SELECT account, server, sealed FROM logins WHERE sealed IS NOT NULL AND (account, server) > (?, ?)"
        " ORDER BY account, server LIMIT ?",
        (*after, _STRETCH),
    ).fetchall()


def _change(connection: sqlite3.Connection, changes: list[tuple[bytes, str, str, bytes]]) -> int:
    done = 0
    for change in changes:
        done += connection.execute(
            "UPDATE logins SET sealed = ? WHERE account = ? AND server = ? AND sealed = ?", change
        ).rowcount
    return done
