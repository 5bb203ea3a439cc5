"""MovePOPMail: one maildrop, from a POP server to an SMTP server, as the migration guide has it.

Given an `imap://` target (and --newPasswordFile) it appends over IMAP instead: dates are kept, no rules and
vacation replies are fired, and nothing is ever doubled.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from migrator import pop_mover
from migrator.access import Access
from migrator.ledger.marks import LedgerUidls
from migrator.ledger.store import Store
from migrator.move_program import (
    UsageTrouble,
    conclude,
    only_once,
    plain_form,
    quarantine_of,
    read_flags,
    read_passwords,
    read_server,
    run_program,
    tls_of,
    with_marks,
)
from migrator.options import CopyOptions
from migrator.pop_smtp import Submission
from migrator.pop_submit import submit_account
from migrator.preview import Preview, preview_maildrop
from migrator.report import Report
from migrator.screen import Screen
from migrator.session import Surroundings

USAGE_TEXT: Final = (
    "usage: MovePOPMail [flags] POPserver POPname POPpassword SMTPserver SMTPrecipient\n"
    "flags: --verbose --json --dry-run --delete --notimeout --oldPasswordFile file (then * stands for the password)\n"
    "  --max-size 8MiB --limit-rate 2MiB/s --window 22:00-06:00 --quarantine directory\n"
    "  --caFile file --noCertificateCheck --newPasswordFile file (with an imap:// target)\n"
    "  with an imap:// target: --archiveSeen mailbox (mail that was seen goes there instead of INBOX: by the server's\n"
    "  Status lines or LAST) --seenOlder 30d (older mail counts as seen: few servers tell what was)\n"
    "servers: host, host:port, pop3://host, pop3s://host, smtp+starttls://host, imap://host and the like"
)

Target = Access | Submission


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return run_program("MovePOPMail", USAGE_TEXT, given, lambda: _move(given))


async def _move(arguments: Sequence[str]) -> int:
    options, rest = read_flags(arguments, pop=True)
    if len(rest) != 5:
        raise UsageTrouble(f"five arguments are needed behind the flags, {len(rest)} are there")
    pop_server, pop_name, pop_password, server, recipient = rest
    appends = is_imap(server)
    if appends and not options.new_password_file:
        raise UsageTrouble("an imap:// target needs --newPasswordFile")
    old, *new = read_passwords(pop_password, "*" if appends else None, options)
    source = Access(read_server(pop_server, "pop3"), os.fsencode(pop_name), old, tls_of(options))
    target: Target
    if appends:
        target = Access(read_server(server, "imap"), os.fsencode(recipient), new[0], tls_of(options))
    else:
        target = Submission(read_server(server, "smtp"), recipient, tls_of(options))

    async def work(store: Store | None) -> int:
        screen = Screen.of(options)
        copying = move_pop(source, target, options, store, screen=screen)
        return await conclude(screen, copying, options)

    return await with_marks(options, work)


def is_imap(server: str) -> bool:
    """Whether a server argument names an IMAP server."""
    return server.lower().startswith(("imap://", "imaps://", "imap+"))


async def move_pop(
    source: Access, target: Target, options: CopyOptions, store: Store | None, *, screen: Screen, label: str = ""
) -> Report | Preview:
    """Copy one maildrop with the marks of the Move programs, or say what would be copied.

    Raises what `pop_submit` and `pop_mover` do. `store` may be missing for a dry run only.
    """
    old, new = (replace(end, endpoint=plain_form(end.endpoint)).label for end in (source, target))
    copy = f"{old} -> {new}"
    marks = LedgerUidls(store, copy) if store else None
    if options.archive_seen and isinstance(target, Submission):
        raise UsageTrouble("--archiveSeen needs an imap:// target: SMTP delivers into INBOX only")
    if options.dry_run:
        return await preview_maildrop(source, target.label, options, marks)
    assert marks is not None
    around = Surroundings(
        progress=screen.listener(label),
        patient=True,
        say=lambda text: screen.say(label + text),
        quarantine=quarantine_of(options),
    )
    with only_once(copy):
        if isinstance(target, Submission):
            return await submit_account(source, target, options, marks, around)
        return await pop_mover.copy_account(source, target, options, marks, around)


if __name__ == "__main__":
    sys.exit(main())
