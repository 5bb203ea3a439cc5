"""MoveIMAPMail: all mailboxes of one account, from one IMAP server to another, as the migration guide has it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from migrator.access import Access
from migrator.file_source import MailFiles
from migrator.ledger.marks import LedgerMarks
from migrator.ledger.store import Store
from migrator.mail_files import parse_place
from migrator.move_program import (
    UsageTrouble,
    conclude,
    moves_path,
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
from migrator.mover import copy_account
from migrator.options import AS_NEEDED, CopyOptions
from migrator.preview import Preview, preview_account
from migrator.report import Report
from migrator.screen import Screen
from migrator.session import Surroundings
from wire.endpoint import Endpoint
from wire.secret import Secret

USAGE_TEXT: Final = (
    "usage: MoveIMAPMail [flags] oldServer oldName oldPassword newServer newName newPassword\n"
    "flags: --verbose --json --list search --source prefix --target prefix --skipMailbox name --notimeout --delete\n"
    "  --nosubscription --subscribed --fetchRFC822 --byOne --noACL --fixLongLines number --proxyAuth user\n"
    "  --copyMailboxClass --oldCLI server --newCLI server\n"
    '  --renameMailbox old new --renameMailboxList file --filter before|after "dd-mmm-yyyy hh:mm:ss"\n'
    "  --dry-run --max-size 8MiB --limit-rate 2MiB/s --window 22:00-06:00 --special-use --compress --connections N\n"
    "  --syncFlags --recopy mailbox --preauth\n"
    "  --quarantine directory --sourceUser user --targetUser user (then the name given is an administrator's)\n"
    "  --oldPasswordFile file --newPasswordFile file (then * stands for the password) --caFile file"
    " --noCertificateCheck\n"
    "servers: host, host:port, imap://host, imaps://host, imap+starttls://host\n"
    "  as oldServer also files: mbox:file, mbox:directory, maildir:directory; with :INBOX=file behind it if need be"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return run_program("MoveIMAPMail", USAGE_TEXT, given, lambda: _move(given))


async def _move(arguments: Sequence[str]) -> int:
    options, rest = read_flags(arguments, pop=False, connections=AS_NEEDED)
    if options.source_user and options.proxy_user:
        raise UsageTrouble("--sourceUser and --proxyAuth both say whose mailboxes are read: give one")
    if options.preauth and (options.source_user or options.proxy_user):
        raise UsageTrouble("--preauth leaves it to the server whose mailboxes are read: no other flag can say it")
    if len(rest) != 6:
        raise UsageTrouble(f"six arguments are needed behind the flags, {len(rest)} are there")
    old_server, old_name, old_password, new_server, new_name, new_password = rest
    if any(c in old_name + new_name for c in "\r\n"):
        raise UsageTrouble("a login name is one line")
    old, new = read_passwords(old_password, new_password, options)
    source = _source(old_server, os.fsencode(old_name), old, options)
    target = Access(read_server(new_server, "imap"), os.fsencode(new_name), new, tls_of(options))

    async def work(store: Store | None) -> int:
        screen = Screen.of(options)
        copying = move_imap(source, target, options, store, screen=screen)
        return await conclude(screen, copying, options)

    return await with_marks(options, work)


def _source(server: str, login: bytes, password: Secret, options: CopyOptions) -> Access:
    """The old server, or mailbox files in its place."""
    try:
        place = parse_place(server)
    except ValueError as error:
        raise UsageTrouble(str(error)) from None
    if place is None:
        return Access(read_server(server, "imap"), login, password, tls_of(options), preauth=options.preauth)
    for given, flag in (
        (options.delete, "--delete"),
        (bool(options.proxy_user), "--proxyAuth"),
        (bool(options.source_user), "--sourceUser"),
        (options.preauth, "--preauth"),
        (options.mailbox_class, "--copyMailboxClass"),
        (options.rate > 0, "--limit-rate"),
    ):
        if given:
            raise UsageTrouble(f"{flag} is said of a server, and {place} is none")
    moves = moves_path()
    files = MailFiles(place, moves.with_name(moves.name + ".files"), writing=not options.dry_run)
    return Access(Endpoint("imap", "localhost", 0), b"", password, files=files)


async def move_imap(
    source: Access, target: Access, options: CopyOptions, store: Store | None, *, screen: Screen, label: str = ""
) -> Report | Preview:
    """Copy one account with the marks of the Move programs, or say what would be copied.

    Raises what `mover.copy_account` does. `store` may be missing for a dry run only.
    """
    if options.source_user:
        source = replace(source, authzid=os.fsencode(options.source_user))
    if options.target_user:
        target = replace(target, authzid=os.fsencode(options.target_user))
    copy = copy_key(source, target, options)
    marks = LedgerMarks(store, copy) if store else None
    around = Surroundings(
        progress=screen.listener(label),
        patient=True,
        say=lambda text: screen.say(label + text),
        quarantine=quarantine_of(options),
    )
    if options.dry_run:
        return await preview_account(source, target, options, marks, around)
    assert marks is not None
    with only_once(copy):
        return await copy_account(source, target, options, marks, around)


def copy_key(source: Access, target: Access, options: CopyOptions) -> str:
    """Names the copy in the database: the same two accounts and prefixes are the same copy."""
    old, new = (replace(access, endpoint=plain_form(access.endpoint)).label for access in (source, target))
    one = f"{old} {options.proxy_user} {options.source_prefix}".rstrip()
    key = f"{one} -> {new} {options.target_prefix}".rstrip()
    return key.encode("utf-8", "backslashreplace").decode()  # flags may hold bytes that are no UTF-8


if __name__ == "__main__":
    sys.exit(main())
