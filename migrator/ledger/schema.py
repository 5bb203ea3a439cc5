"""The tables of the ledger, and the version they are at.

Times are seconds since the epoch (REAL), addresses are lower case, logins are the bytes they came
as. A password is only ever a sealed box (`sealed`), which nobody without the key file can open, and
which differs each time the same password is sealed: equal boxes tell nothing. The only digests are those of `grace`.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from wire.outcome import SetupTrouble

VERSION: Final = 5

_ACCOUNTS: Final = (
    # One row for every account that the helper has made or verified.
    """
    CREATE TABLE accounts (
        account     TEXT PRIMARY KEY,
        domain      TEXT NOT NULL,
        adoption    TEXT NOT NULL,              -- seen | adopting | adopted | refused
        reason      TEXT NOT NULL DEFAULT '',   -- why refused, or what went wrong last
        attempts    INTEGER NOT NULL DEFAULT 0, -- adoptions tried by a worker
        not_before  REAL NOT NULL DEFAULT 0,    -- when a worker tries again
        created_at  REAL,                       -- NEW made it
        verified_at REAL,                       -- last right password
        adopted_at  REAL
    ) WITHOUT ROWID
    """,
    "CREATE INDEX accounts_by_adoption ON accounts (adoption, not_before)",
    # The login that was right at one old server. The sealed password goes when nobody needs it any more.
    """
    CREATE TABLE logins (
        account     TEXT NOT NULL REFERENCES accounts (account) ON DELETE CASCADE,
        server      TEXT NOT NULL,              -- the old server's host: another port or TLS is no other server
        source      TEXT NOT NULL,              -- the endpoint
        login       BLOB NOT NULL,
        sealed      BLOB,
        verified_at REAL NOT NULL,
        wiped_at    REAL,
        exporting   INTEGER NOT NULL DEFAULT 0, -- 1: the row belongs to the export, until it is purged
        purged_at   REAL,
        PRIMARY KEY (account, server)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX logins_to_export ON logins (source, account) WHERE exporting",
    # Export runs and purges: who asked and how many rows, never a password.
    """
    CREATE TABLE audit (
        id     INTEGER PRIMARY KEY,
        at     REAL NOT NULL,
        actor  TEXT NOT NULL,
        action TEXT NOT NULL,
        detail TEXT NOT NULL
    )
    """,
)

_JOBS: Final = (
    # One copy for one account from one old server's host. A job that runs is PENDING with a lease.
    """
    CREATE TABLE jobs (
        id            INTEGER PRIMARY KEY,
        account       TEXT NOT NULL,
        domain        TEXT NOT NULL,
        source        TEXT NOT NULL,
        server        TEXT NOT NULL,               -- the old server's host: what the limit on copies counts
        phase         TEXT NOT NULL,               -- pending | waiting | held | done
        created_at    REAL NOT NULL,
        not_before    REAL NOT NULL DEFAULT 0,
        attempts      INTEGER NOT NULL DEFAULT 0,  -- claims that ended in trouble, since the last success or retry
        bugs          INTEGER NOT NULL DEFAULT 0,
        losses        INTEGER NOT NULL DEFAULT 0,  -- leases that ran out: the worker died with this job
        fence         INTEGER NOT NULL DEFAULT 0,  -- grows with each claim; an old holder's word no longer counts
        lease_until   REAL NOT NULL DEFAULT 0,     -- 0: nobody runs it
        leased_at     REAL NOT NULL DEFAULT 0,
        lease_worker  TEXT NOT NULL DEFAULT '',
        lease_host    TEXT NOT NULL DEFAULT '',
        lease_process TEXT NOT NULL DEFAULT '',    -- pid and start time: a dead process's lease is free at once
        started_at    REAL,                        -- the first claim
        finished_at   REAL,
        seconds       REAL NOT NULL DEFAULT 0,     -- spent running, all attempts together
        reason        TEXT NOT NULL DEFAULT '',
        copied        INTEGER NOT NULL DEFAULT 0,  -- messages, all attempts that ended
        bytes         INTEGER NOT NULL DEFAULT 0,
        live_copied   INTEGER NOT NULL DEFAULT 0,  -- messages, the attempt that runs
        live_bytes    INTEGER NOT NULL DEFAULT 0,
        already       INTEGER NOT NULL DEFAULT 0,  -- messages the last attempt found there
        refused       INTEGER NOT NULL DEFAULT 0,
        unexplained   INTEGER NOT NULL DEFAULT 0,
        report        TEXT NOT NULL DEFAULT '',    -- of the last attempt that ended, JSON
        identity      TEXT,                        -- of the source INBOX: two accounts must not copy one mailbox
        UNIQUE (account, server)
    )
    """,
    "CREATE INDEX jobs_due ON jobs (phase, server, not_before)",
    "CREATE INDEX jobs_running ON jobs (server, lease_until) WHERE lease_until > 0",
    "CREATE INDEX jobs_by_identity ON jobs (identity) WHERE identity IS NOT NULL",
)

# What came later, by the version it leads to. A new file takes the same way as one of an older program.
_UPGRADES: Final = {
    2: (
        # Copies that ran to their end: a job that runs with one behind it is a second pass.
        "ALTER TABLE jobs ADD COLUMN passes INTEGER NOT NULL DEFAULT 0",
        "UPDATE jobs SET passes = 1 WHERE phase = 'done'",
        # 1: a person said that this mailbox may be copied again into a target that was made anew.
        "ALTER TABLE marked_mailboxes ADD COLUMN recopy INTEGER NOT NULL DEFAULT 0",
        # What the source of a marked mailbox looked like when it was last passed over to the end.
        """
        CREATE TABLE passes (
            mailbox    INTEGER PRIMARY KEY REFERENCES marked_mailboxes (id) ON DELETE CASCADE,
            generation INTEGER NOT NULL,            -- of the marks then: with others it tells nothing of arrivals
            uidnext    INTEGER NOT NULL,
            messages   INTEGER NOT NULL,
            modseq     INTEGER NOT NULL,            -- HIGHESTMODSEQ, 0 where the server has none
            complete   INTEGER NOT NULL,            -- 1: nothing was refused, left out or in doubt
            acl        INTEGER NOT NULL,            -- 1: with the access rights
            flags      BLOB                         -- as last seen at the source, compressed; NULL: not remembered
        )
        """,
    ),
    3: (
        # Where at the target a message fetched by POP is, in the form of the wire; empty: in INBOX.
        "ALTER TABLE marked_uidls ADD COLUMN mailbox BLOB NOT NULL DEFAULT x''",
    ),
    4: (
        # What old servers said of addresses, to be believed for a while (verify(8) of Postfix).
        """
        CREATE TABLE probes (
            address TEXT NOT NULL,                  -- as the old server knows it
            server  TEXT NOT NULL,                  -- the endpoint
            known   INTEGER NOT NULL,               -- 1: accepted, 0: refused in so many words
            reason  TEXT NOT NULL,
            at      REAL NOT NULL,
            PRIMARY KEY (address, server)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX probes_by_age ON probes (at)",
        # How old servers treat names that nobody has: recipients ('rcpt') and logins ('login').
        """
        CREATE TABLE habits (
            kind    TEXT NOT NULL,
            server  TEXT NOT NULL,                  -- the endpoint
            domain  TEXT NOT NULL,                  -- '' where the server is not told the domain
            accepts INTEGER NOT NULL,               -- 1: it accepts them
            since   REAL NOT NULL,                  -- when it was first seen to do what it does now
            at      REAL NOT NULL,                  -- when it was last seen to
            was     INTEGER,                        -- what it did before; NULL where it was never seen to do otherwise
            PRIMARY KEY (kind, server, domain)
        ) WITHOUT ROWID
        """,
        # 1: made on the word of an old server that accepts every address.
        "ALTER TABLE accounts ADD COLUMN unproven INTEGER NOT NULL DEFAULT 0",
    ),
    5: (
        # Accounts in grace. The digests are under a key that is not in this directory.
        """
        CREATE TABLE graces (
            account  TEXT PRIMARY KEY,
            migrated BLOB NOT NULL,                 -- of the password taken over last
            stored   BLOB,                          -- of what CommuniGate showed; NULL: unconfirmed, empty: changed
            until    REAL NOT NULL
        ) WITHOUT ROWID
        """,
        "CREATE INDEX graces_by_end ON graces (until)",
    ),
}


def version(connection: sqlite3.Connection) -> int:
    """The version of the tables in this file; 0 for an empty file."""
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return found


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables to VERSION, inside the caller's transaction. Another process may have been faster."""
    found = version(connection)
    if found > VERSION:
        raise SetupTrouble(f"the ledger has version {found}, of a newer program; this one knows up to {VERSION}")
    if found == 0:
        for statement in (*_ACCOUNTS, *_JOBS, *_marks()):
            connection.execute(statement)
    for upgrade in range(max(found, 1) + 1, VERSION + 1):
        for statement in _UPGRADES[upgrade]:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _marks() -> tuple[str, ...]:
    from migrator.ledger import marks  # noqa: PLC0415 - marks is written on the Store, which is built on this module

    return marks.SCHEMA
