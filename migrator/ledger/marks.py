"""The marks of copies, as rows of the ledger. The rules are in migrator/marks.py; here is only their SQL.

A mailbox copied in order is one short row, whatever its size: a million accounts fit in one database.
Messages fetched by POP have a row each, because UIDLs have no order that could be written shorter.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Final

from migrator.ledger.passes import load_passes, save_pass
from migrator.ledger.store import Store
from migrator.marks import Change, Intent, MailboxMarks, Runs
from migrator.passes import Pass
from migrator.uidl_marks import UidlChange, UidlMark, UidlState
from wire.outcome import Temporary

SCHEMA: Final = (
    # One row for every source mailbox that a copy has opened.
    """
    CREATE TABLE marked_mailboxes (
        id                 INTEGER PRIMARY KEY,
        copy               TEXT NOT NULL,               -- which copy: source account and target account
        source             BLOB NOT NULL,               -- names as on the wire
        target             BLOB NOT NULL,
        source_uidvalidity INTEGER NOT NULL,
        target_uidvalidity INTEGER NOT NULL,
        runs               TEXT NOT NULL DEFAULT '',    -- 1:500 1001:1500,...
        generation         INTEGER NOT NULL DEFAULT 0,  -- grows with each commit
        UNIQUE (copy, source)
    )
    """,
    # Only what is about to be appended, and what was refused.
    """
    CREATE TABLE marked_messages (
        mailbox     INTEGER NOT NULL REFERENCES marked_mailboxes (id) ON DELETE CASCADE,
        uid         INTEGER NOT NULL,                   -- at the source
        state       TEXT NOT NULL,                      -- intent | confirmed (stored, but not known where) | refused
        floor       INTEGER NOT NULL DEFAULT 0,         -- the target's next uid before an intent
        recorded_at REAL NOT NULL DEFAULT 0,
        reason      TEXT NOT NULL DEFAULT '',           -- of a refusal; of an intent, the form it is sent in
        PRIMARY KEY (mailbox, uid)
    ) WITHOUT ROWID
    """,
    # Messages fetched by POP.
    """
    CREATE TABLE marked_uidls (
        copy        TEXT NOT NULL,
        uidl        BLOB NOT NULL,                      -- or what stands for one, where the server knows none
        state       TEXT NOT NULL,                      -- intent | copied | refused
        uidvalidity INTEGER NOT NULL DEFAULT 0,         -- of the target's INBOX
        uid         INTEGER NOT NULL DEFAULT 0,         -- at the target, or the floor of an intent
        recorded_at REAL NOT NULL DEFAULT 0,
        reason      TEXT NOT NULL DEFAULT '',
        digest      BLOB NOT NULL DEFAULT x'',          -- of the content
        PRIMARY KEY (copy, uidl)
    ) WITHOUT ROWID
    """,
)


class LedgerMarks:
    """The MarkStore of one copy; `copy` names source and target account."""

    def __init__(self, store: Store, copy: str) -> None:
        self._store = store
        self._copy = copy

    async def targets(self) -> dict[bytes, bytes]:
        """The target name chosen for each source mailbox in earlier runs."""

        def work(connection: sqlite3.Connection) -> dict[bytes, bytes]:
            rows = connection.execute("SELECT source, target FROM marked_mailboxes WHERE copy = ?", (self._copy,))
            return {bytes(source): bytes(target) for source, target in rows}

        return await self._store.read(work)

    async def load(self, source: bytes) -> MailboxMarks | None:
        """The marks of a source mailbox, None if it was never opened."""
        return await self._store.read(lambda connection: _load(connection, self._copy, source))

    async def open(self, marks: MailboxMarks) -> None:
        """Begin, or begin anew, with these marks, in one commit."""

        def work(connection: sqlite3.Connection) -> int:
            row = connection.execute(
                "SELECT id, generation FROM marked_mailboxes WHERE copy = ? AND source = ?", (self._copy, marks.source)
            ).fetchone()
            generation = (row[1] if row else 0) + 1
            if row:
                connection.execute("DELETE FROM marked_messages WHERE mailbox = ?", (row[0],))
                connection.execute("DELETE FROM marked_mailboxes WHERE id = ?", (row[0],))
            values = (
                self._copy,
                marks.source,
                marks.target,
                marks.source_uidvalidity,
                marks.target_uidvalidity,
                str(marks.runs),
                generation,
            )
            mailbox = connection.execute(
                "INSERT INTO marked_mailboxes"
                " (copy, source, target, source_uidvalidity, target_uidvalidity, runs, generation)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                values,
            ).lastrowid
            assert mailbox is not None
            _insert_refused(connection, mailbox, marks.refused)
            for uid, intent in marks.intents.items():
                _insert_intents(connection, mailbox, [uid], intent)
            _confirm(connection, mailbox, [uid for uid, intent in marks.intents.items() if intent.confirmed])
            return generation

        marks.generation = await self._store.write(work)

    async def record(self, marks: MailboxMarks, change: Change) -> None:
        """Apply `change` and make it durable, in one commit.

        Temporary when another process has written these marks since they were loaded: two copies of one
        account at once would double messages, so the one that notices stops before it appends.
        """
        known = marks.generation
        marks.apply(change)
        runs = str(marks.runs) if change.copied else None
        intent = Intent(change.floor, change.recorded_at, form=change.form)

        def work(connection: sqlite3.Connection) -> None:
            row = connection.execute(
                "SELECT id, generation FROM marked_mailboxes WHERE copy = ? AND source = ?", (self._copy, marks.source)
            ).fetchone()
            if row is None or row[1] != known:
                raise _overtaken()
            mailbox = row[0]
            connection.execute(
                "UPDATE marked_mailboxes SET generation = generation + 1, runs = coalesce(?, runs) WHERE id = ?",
                (runs, mailbox),
            )
            done = [uid for uid, _ in change.copied] + list(change.dropped)
            connection.executemany(
                "DELETE FROM marked_messages WHERE mailbox = ? AND uid = ?", [(mailbox, uid) for uid in done]
            )
            _insert_refused(connection, mailbox, change.refused)
            _confirm(connection, mailbox, change.confirmed)
            _insert_intents(connection, mailbox, change.intended, intent)

        await self._store.write(work)
        marks.generation = known + 1

    async def passes(self) -> dict[bytes, Pass]:
        """The last pass over each source mailbox that was passed over to its end."""
        return await self._store.read(lambda connection: load_passes(connection, self._copy))

    async def passed(self, marks: MailboxMarks, last: Pass) -> None:
        """Remember how a mailbox was passed over, in one commit. Temporary when another writer was there."""

        def work(connection: sqlite3.Connection) -> None:
            row = connection.execute(
                "SELECT id, generation FROM marked_mailboxes WHERE copy = ? AND source = ?", (self._copy, marks.source)
            ).fetchone()
            if row is None or row[1] != marks.generation:
                raise _overtaken()
            save_pass(connection, row[0], row[1], last)

        await self._store.write(work)

    async def allow_recopy(self) -> int:
        """Let the next run copy again what stands in a target mailbox that was made anew. How many mailboxes ask."""
        statement = "UPDATE marked_mailboxes SET recopy = 1 WHERE copy = ?"
        return await self._store.write(lambda connection: connection.execute(statement, (self._copy,)).rowcount)


def _load(connection: sqlite3.Connection, copy: str, source: bytes) -> MailboxMarks | None:
    row = connection.execute(
        "SELECT id, target, source_uidvalidity, target_uidvalidity, runs, generation, recopy"
        " FROM marked_mailboxes WHERE copy = ? AND source = ?",
        (copy, source),
    ).fetchone()
    if row is None:
        return None
    marks = MailboxMarks(
        source, bytes(row[1]), row[2], row[3], Runs.parse(row[4]), generation=row[5], recopy=bool(row[6])
    )
    for uid, state, floor, recorded_at, reason in connection.execute(
        "SELECT uid, state, floor, recorded_at, reason FROM marked_messages WHERE mailbox = ?", (row[0],)
    ):
        if state == "refused":
            marks.refused[uid] = reason
        else:
            marks.intents[uid] = Intent(floor, recorded_at, confirmed=state == "confirmed", form=reason)
    return marks


def _insert_refused(connection: sqlite3.Connection, mailbox: int, refused: Mapping[int, str]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO marked_messages (mailbox, uid, state, reason) VALUES (?, ?, 'refused', ?)",
        [(mailbox, uid, reason) for uid, reason in refused.items()],
    )


def _insert_intents(connection: sqlite3.Connection, mailbox: int, uids: Sequence[int], intent: Intent) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO marked_messages (mailbox, uid, state, floor, recorded_at, reason)"
        " VALUES (?, ?, 'intent', ?, ?, ?)",
        [(mailbox, uid, intent.floor, intent.recorded_at, intent.form) for uid in uids],
    )


def _confirm(connection: sqlite3.Connection, mailbox: int, uids: Sequence[int]) -> None:
    connection.executemany(
        "UPDATE marked_messages SET state = 'confirmed' WHERE mailbox = ? AND uid = ? AND state = 'intent'",
        [(mailbox, uid) for uid in uids],
    )


class LedgerUidls:
    """The UidlStore of one copy by POP."""

    def __init__(self, store: Store, copy: str) -> None:
        self._store = store
        self._copy = copy

    async def load(self) -> dict[bytes, UidlMark]:
        """Every message known, by its key."""

        def work(connection: sqlite3.Connection) -> dict[bytes, UidlMark]:
            rows = connection.execute(
                "SELECT uidl, state, uidvalidity, uid, recorded_at, reason, digest, mailbox FROM marked_uidls"
                " WHERE copy = ?",
                (self._copy,),
            )
            return {bytes(row[0]): _mark(row) for row in rows}

        return await self._store.read(work)

    async def record(self, change: UidlChange) -> None:
        """Make `change` durable, in one commit.

        Temporary when an intent stands there already, or is gone, that this run did not write or remove:
        another copy of the account is running.
        """

        def work(connection: sqlite3.Connection) -> None:
            for key, mark in change.settled.items():
                found = connection.execute(
                    "UPDATE marked_uidls SET state = ?, uidvalidity = ?, uid = ?, recorded_at = ?, reason = ?,"
                    " digest = ?, mailbox = ? WHERE copy = ? AND uidl = ?",
                    (*_columns(mark), self._copy, key),
                ).rowcount
                if not found:
                    raise _overtaken()
            connection.executemany(
                "DELETE FROM marked_uidls WHERE copy = ? AND uidl = ?", [(self._copy, key) for key in change.dropped]
            )
            try:
                connection.executemany(
                    "INSERT INTO marked_uidls"
                    " (state, uidvalidity, uid, recorded_at, reason, digest, mailbox, copy, uidl)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [(*_columns(mark), self._copy, key) for key, mark in change.intended.items()],
                )
            except sqlite3.IntegrityError:
                raise _overtaken() from None

        await self._store.write(work)


def _mark(row: tuple[bytes, str, int, int, float, str, bytes, bytes]) -> UidlMark:
    _, state, uidvalidity, uid, recorded_at, reason, digest, mailbox = row
    return UidlMark(UidlState(state), uidvalidity, uid, recorded_at, reason, bytes(digest), bytes(mailbox))


def _columns(mark: UidlMark) -> tuple[str, int, int, float, str, bytes, bytes]:
    return mark.state.value, mark.uidvalidity, mark.uid, mark.recorded_at, mark.reason, mark.digest, mark.mailbox


def _overtaken() -> Temporary:
    return Temporary("another copy of this account is running: its marks have changed")
