"""How each mailbox was last passed over, as rows beside its marks. The rules are in migrator/passes.py."""

from __future__ import annotations

import sqlite3

from migrator.flag_memory import FlagMemory
from migrator.passes import Pass, Standing


def load_passes(connection: sqlite3.Connection, copy: str) -> dict[bytes, Pass]:
    """One statement for all mailboxes of a copy: an account may have ten thousand."""
    rows = connection.execute(
        "SELECT source, source_uidvalidity, target_uidvalidity, uidnext, messages, modseq, complete,"
        " passes.generation = marked_mailboxes.generation, acl, flags"
        " FROM marked_mailboxes JOIN passes ON passes.mailbox = marked_mailboxes.id WHERE copy = ?",
        (copy,),
    )
    return {
        bytes(source): Pass(
            Standing(uidvalidity, uidnext, messages, modseq),
            target,
            complete=bool(complete and untouched),
            acl=bool(acl),
            flags=None if flags is None else FlagMemory.parse(bytes(flags)),
        )
        for source, uidvalidity, target, uidnext, messages, modseq, complete, untouched, acl, flags in rows
    }


def save_pass(connection: sqlite3.Connection, mailbox: int, generation: int, last: Pass) -> None:
    """Inside the caller's transaction. A leave to copy again has been used by now."""
    standing = last.standing
    connection.execute(
        "INSERT OR REPLACE INTO passes (mailbox, generation, uidnext, messages, modseq, complete, acl, flags)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            mailbox,
            generation,
            standing.uidnext,
            standing.messages,
            standing.modseq,
            last.complete,
            last.acl,
            None if last.flags is None else bytes(last.flags),
        ),
    )
    connection.execute("UPDATE marked_mailboxes SET recopy = 0 WHERE id = ? AND recopy", (mailbox,))
