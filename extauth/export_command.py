"""`extauth export`: the saved name/password pairs as MoveAccounts files. Shows paths and counts, never a password."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final

from migrator.exit_codes import CANNOT_WRITE, CONFIGURATION, NEEDS_A_PERSON, TRY_LATER
from migrator.export import CannotWrite, Exported, export_passwords
from migrator.ledger.exports import Exports
from migrator.ledger.store import Store
from migrator.seal import Opener
from migrator.settings import Settings
from wire.outcome import SetupTrouble, Trouble

_DEFAULT: Final = Path("extauth-export")


def export(settings: Settings, output: Path | None, *, purge: bool) -> int:
    """Write the files; with `purge`, forget what was written. The exit code."""
    try:
        done = asyncio.run(_export(settings, output or _DEFAULT, purge=purge))
    except Trouble as trouble:
        sys.stderr.write(f"extauth: {trouble}\n")
        if isinstance(trouble, CannotWrite):
            return CANNOT_WRITE
        return CONFIGURATION if isinstance(trouble, SetupTrouble) else TRY_LATER
    for file in done.files:
        sys.stdout.write(f"{file.path}: {file.rows} of {file.source}\n")
    if done.files:
        sys.stderr.write(
            "extauth: warning: these files hold passwords in clear text; remove them when MoveAccounts is done."
            " That they were written is noted in the ledger\n"
        )
    for row in done.unfit:
        sys.stdout.write(f"not exported: {row.account} of {row.source}: {row.reason}\n")
    if not done.files and not done.unfit:
        sys.stdout.write("nothing is saved for an export\n")
    if purge:
        sys.stdout.write(f"{done.purged} forgotten\n")
    return NEEDS_A_PERSON if done.unfit else 0


async def _export(settings: Settings, output: Path, *, purge: bool) -> Exported:
    store = Store(settings.state.path)
    try:
        return await export_passwords(
            Exports(store, keep_done=settings.state.keeps_passwords),
            Opener(settings.state.key_file),
            output,
            purge=purge,
        )
    finally:
        await store.close()
