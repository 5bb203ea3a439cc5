"""Times of the ledger that a wrong clock has put out of reach: brought back to where they can have been meant."""

from __future__ import annotations

import sqlite3
from typing import Final

_LEASE: Final = 60.0  # seconds for whoever holds a lease to renew it
_WAIT: Final = 2 * 86_400.0  # seconds: no copy waits longer than for tomorrow's hour of copying,
_ADOPTION: Final = 3600.0  # and no adoption longer than an hour
_GRACE: Final = 731 * 86_400.0  # seconds: no grace is longer than two years,
_AFTER: Final = 30 * 86_400.0  # and one that seems to be gets so many from now


def mend_times(connection: sqlite3.Connection, now: float) -> None:
    """After the clock was set: every lease holds for a while, so that no copy that runs is begun a second time; nothing
    waits for years. Leases of the dead are taken back as always. Inside the caller's transaction."""
    connection.execute("UPDATE jobs SET lease_until = ?1 WHERE lease_until > 0", (now + _LEASE,))
    connection.execute(
        "UPDATE jobs SET not_before = ?1 WHERE phase = 'pending' AND not_before > ?2", (now, now + _WAIT)
    )
    connection.execute(
        "UPDATE accounts SET not_before = ?1 WHERE adoption = 'adopting' AND not_before > ?2",
        (now, now + _ADOPTION),
    )
    connection.execute("UPDATE graces SET until = ?1 WHERE until > ?2", (now + _AFTER, now + _GRACE))
