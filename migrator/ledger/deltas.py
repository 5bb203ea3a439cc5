"""Queues a final pass for copies that are done: what came at the old server since, and flags that changed there.

It is the same job once more, with the same marks, so that nothing is copied twice. It needs a login at the old server:
the password that `keep_password = "retired"` has kept sealed, or an administrator's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from migrator.ledger.store import Store
from migrator.model import Phase

_ROWS: Final = (
    "SELECT id, account, domain, phase, sealed IS NOT NULL FROM jobs LEFT JOIN logins USING (account, server)"
)
_AGAIN: Final = (
    "UPDATE jobs SET phase = 'pending', not_before = 0, attempts = 0, bugs = 0, losses = 0, reason = '' WHERE id = ?"
)


@dataclass(slots=True)
class Deltas:
    """What became of a wish for final passes, by account."""

    queued: list[str] = field(default_factory=list)
    under_way: list[str] = field(default_factory=list)  # pending or running: not queued twice
    stuck: list[tuple[str, Phase]] = field(default_factory=list)  # held or waiting, in this pass or the first
    locked_out: list[tuple[str, str]] = field(default_factory=list)  # account and domain: no login is kept
    unknown: list[str] = field(default_factory=list)  # no copy was ever queued


async def queue_deltas(
    store: Store,
    accounts: Sequence[str] | None,
    *,
    domain: str = "",
    opens: Callable[[str], bool] = lambda _domain: False,
) -> Deltas:
    """A final pass for `accounts`, or for all; of `domain` only, where one is named. In one commit, and repeatable.

    `opens(domain)` says whether an administrator may open any mailbox of a domain at its old server.
    """
    wanted = None if accounts is None else {account.lower() for account in accounts}

    def work(connection: sqlite3.Connection) -> Deltas:
        found = Deltas()
        missing = set(wanted or ())
        for number, account, of_domain, phase, sealed in _rows(connection, wanted):
            missing.discard(account)
            if domain and of_domain != domain.lower():
                continue
            if phase == Phase.PENDING.value:
                found.under_way.append(account)
            elif phase != Phase.DONE.value:
                found.stuck.append((account, Phase(phase)))
            elif not (sealed or opens(of_domain)):
                found.locked_out.append((account, of_domain))
            else:
                connection.execute(_AGAIN, (number,))
                found.queued.append(account)
        found.unknown = sorted(missing)
        return found

    return await store.write(work)


def _rows(connection: sqlite3.Connection, wanted: set[str] | None) -> list[tuple[int, str, str, str, int]]:
    if wanted is None:
        return connection.execute(f"{_ROWS} ORDER BY id").fetchall()
    return [row for account in sorted(wanted) for row in connection.execute(f"{_ROWS} WHERE account = ?", (account,))]
