"""The flags of the Move programs, read in one way for the programs and for `copy_options` of a domain.

Flags stand before the other arguments, as the migration guide has them; everything from the first
argument that is not a flag on is taken as it is, so that a password may begin with a dash. A flag
that cannot be honoured is an error, never ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from migrator.long_lines import SHORTEST
from migrator.quantities import parse_duration, parse_rate, parse_size
from migrator.window import Window
from wire.endpoint import parse_endpoint

GUIDE_TIMEOUT: Final = 20.0  # seconds without an answer; the guide's own number
PATIENT_TIMEOUT: Final = 3600.0  # --notimeout, the guide's number too
AS_NEEDED: Final = 0  # connections: one, and more over a long way
MOST_CONNECTIONS: Final = 32  # of one account: each has its buffers, and few servers allow one user more
WORKER_TIMEOUT: Final = 300.0  # a worker has time: a cold mailbox of a million messages takes minutes to open


class OptionTrouble(ValueError):
    """A flag or its value cannot be used; the text is a sentence for a person."""


@dataclass(frozen=True, slots=True)
class DateFilter:
    """Only messages whose INTERNALDATE lies before, or not before, `when` as the date stands, without its zone."""

    after: bool
    when: datetime


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """What a copy is asked to do. The defaults copy everything and delete nothing."""

    verbose: bool = False
    json: bool = False
    list_pattern: str = "*"
    source_prefix: str = ""
    target_prefix: str = ""
    skip: frozenset[str] = frozenset()
    renames: Mapping[str, str] = field(default_factory=dict)
    timeout: float = WORKER_TIMEOUT
    delete: bool = False
    subscriptions: bool = True
    subscribed_only: bool = False
    fetch_item: bytes = b"BODY.PEEK[]"
    one_by_one: bool = False
    acl: bool = True
    mailbox_class: bool = False
    old_cli: str = ""  # where CommuniGate's CLI is asked for mailbox classes; "" is port 106 of the IMAP server's host
    new_cli: str = ""
    longest_line: int = 0  # --fixLongLines: longer ones are broken; 0 leaves every message as it is
    proxy_user: str = ""
    date_filter: DateFilter | None = None
    max_size: int = 0  # --max-size: larger messages, as the source states their size, are left out; 0 copies all
    rate: int = 0  # --limit-rate: bytes per second from the old server, over all copies; 0 is as fast as it goes
    compress: bool = False  # COMPRESS=DEFLATE with each server that offers it
    window: Window | None = None  # --window: no batch begins outside
    connections: int = 1  # sessions that share out the mailboxes of one account; AS_NEEDED
    source_user: str = ""  # the login given is an administrator's, the mailboxes are those of this user (SASL authzid)
    target_user: str = ""
    preauth: bool = False  # the old server may greet PREAUTH: whoever starts the copy vouches for whose mail it shows
    special_use: bool = False  # mailboxes for sent mail, drafts and so on go where the target keeps those
    sync_flags: bool = False  # flags that changed at the source since the last run are brought over
    recopy: frozenset[str] = frozenset()  # source mailboxes to copy again where the target was made anew; * for all
    dry_run: bool = False  # say what would be copied, and write nothing
    archive_seen: str = ""  # --archiveSeen: by POP, mail that was seen goes to this mailbox instead of INBOX
    seen_older: float = 0.0  # --seenOlder: mail of more seconds counts as seen; 0 leaves that to the server
    quarantine: str = ""  # a directory for messages that the target takes in no form
    old_password_file: str = ""
    new_password_file: str = ""
    ca_file: str = ""
    check_certificates: bool = True


Apply = Callable[[CopyOptions, Sequence[str]], CopyOptions]


def parse_options(
    arguments: Sequence[str], *, timeout: float = WORKER_TIMEOUT, connections: int = 1, pop: bool = False
) -> tuple[CopyOptions, list[str]]:
    """Flags into CopyOptions, and what follows them. `pop` allows MovePOPMail's flags only.

    OptionTrouble names the flag that is unknown, short of a value or given a wrong one.
    """
    options = CopyOptions(timeout=timeout, connections=connections)
    rest = list(arguments)
    known = _known(pop=pop)
    while rest and rest[0].startswith("--"):
        flag = rest.pop(0)
        if flag == "--":
            break
        if flag not in known:
            only = " (it is for IMAP copies)" if flag in _IMAP else " (it is for POP copies)" if flag in _POP else ""
            raise OptionTrouble(f"unknown option {flag}{only}")
        count, apply = known[flag]
        if len(rest) < count:
            raise OptionTrouble(f"{flag} needs {count} value{'s' if count > 1 else ''}")
        values, rest = rest[:count], rest[count:]
        try:
            options = apply(options, values)
        except OptionTrouble:
            raise
        except ValueError as error:  # of a reader of values
            raise OptionTrouble(f"{flag} {values[0]}: {error}") from None
    if options.seen_older and not options.archive_seen:
        raise OptionTrouble("--seenOlder says what --archiveSeen puts aside; that one is missing")
    return options, rest


def flags(*, pop: bool = False) -> list[str]:
    """Every flag that `parse_options` takes."""
    return sorted(_known(pop=pop))


def _known(*, pop: bool) -> Mapping[str, tuple[int, Apply]]:
    return {**_COMMON, **(_POP if pop else _IMAP)}


def parse_copy_options(arguments: Sequence[str], *, pop: bool = False) -> CopyOptions:
    """The `copy_options` of a domain: flags only. OptionTrouble for anything a worker cannot use."""
    options, rest = parse_options(arguments, pop=pop)
    if rest:
        raise OptionTrouble(f"{rest[0]!r} is not an option")
    if options.old_password_file or options.new_password_file:
        raise OptionTrouble("password files are for the Move programs; a worker has the passwords")
    for name, (flag, reason) in _NOT_FOR_A_WORKER.items():
        if getattr(options, name) != getattr(_DEFAULTS, name):
            raise OptionTrouble(f"{flag} is for the Move programs: {reason}")
    return options


def _set(**changes: Any) -> tuple[int, Apply]:
    return 0, lambda options, _values: replace(options, **changes)


def _text(name: str, *, empty: bool = True) -> tuple[int, Apply]:
    def apply(options: CopyOptions, values: Sequence[str]) -> CopyOptions:
        if not (values[0] or empty):
            raise OptionTrouble("--proxyAuth, --list and names of files are not empty")
        if any(c in values[0] for c in "\r\n\0"):
            raise OptionTrouble(f"{values[0]!r} holds a control character")
        changes: dict[str, Any] = {name: values[0]}
        return replace(options, **changes)

    return 1, apply


def _cli(name: str) -> tuple[int, Apply]:
    def apply(options: CopyOptions, values: Sequence[str]) -> CopyOptions:
        try:
            parse_endpoint(values[0], "cli")
        except ValueError as error:
            raise OptionTrouble(str(error)) from None
        changes: dict[str, Any] = {name: values[0]}
        return replace(options, **changes)

    return 1, apply


def _value(name: str, read: Callable[[str], Any]) -> tuple[int, Apply]:
    def apply(options: CopyOptions, values: Sequence[str]) -> CopyOptions:
        return replace(options, **{name: read(values[0])})

    return 1, apply


def _connections(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:4]) <= MOST_CONNECTIONS):
        raise ValueError(f"connections are a number from 1 to {MOST_CONNECTIONS}")
    return int(text)


def _archive(text: str) -> str:
    if not text or text.upper() == "INBOX" or not text.isprintable():
        raise ValueError("an archive is a mailbox other than INBOX")
    return text


def _directory(text: str) -> str:
    if not text:
        raise ValueError("a directory has a name")
    return text


def _fix_long_lines(options: CopyOptions, values: Sequence[str]) -> CopyOptions:
    text = values[0]
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= SHORTEST):
        raise OptionTrouble(f"--fixLongLines is followed by a number of bytes, not by {text!r}")
    return replace(options, longest_line=int(text))


def _skip(options: CopyOptions, values: Sequence[str]) -> CopyOptions:
    return replace(options, skip=options.skip | {values[0]})


def _recopy(options: CopyOptions, values: Sequence[str]) -> CopyOptions:
    return replace(options, recopy=options.recopy | {values[0]})


def _rename(options: CopyOptions, values: Sequence[str]) -> CopyOptions:
    return _add_renames(options, {values[0]: values[1]})


def _add_renames(options: CopyOptions, renames: Mapping[str, str]) -> CopyOptions:
    for old, new in renames.items():
        if not old or not new:
            raise OptionTrouble("a mailbox is renamed from a name to a name; one of them is empty")
        if options.renames.get(old, new) != new:
            raise OptionTrouble(f"{old!r} is renamed twice: to {options.renames[old]!r} and to {new!r}")
    return replace(options, renames={**options.renames, **renames})


def _rename_list(options: CopyOptions, values: Sequence[str]) -> CopyOptions:
    try:
        text = Path(values[0]).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionTrouble(f"--renameMailboxList {values[0]}: cannot read: {error}") from None
    renames: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        old, tab, new = line.partition("\t")
        if not tab or not old or not new or "\t" in new:
            raise OptionTrouble(f"--renameMailboxList {values[0]}, line {number}: needs old name, tab, new name")
        if renames.get(old, new) != new:
            raise OptionTrouble(f"--renameMailboxList {values[0]}, line {number}: {old!r} is renamed twice")
        renames[old] = new
    return _add_renames(options, renames)


_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DATE: Final = re.compile(r" ?(\d{1,2})-([A-Za-z]{3})-(\d{4})(?: (\d{1,2}):(\d\d):(\d\d))?")


def _filter(options: CopyOptions, values: Sequence[str]) -> CopyOptions:
    side, text = values
    found = _DATE.fullmatch(text)
    if side not in ("before", "after"):
        raise OptionTrouble(f"--filter is followed by before or after and a date, not by {side!r}")
    if options.date_filter is not None:
        raise OptionTrouble("--filter may be given once")
    try:
        if found is None or found[2].lower() not in _MONTHS:
            raise ValueError
        hour, minute, second = (int(part or 0) for part in found.groups()[3:])
        month = _MONTHS.index(found[2].lower()) + 1
        when = datetime(int(found[3]), month, int(found[1]), hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise OptionTrouble(f'--filter {side}: {text!r} is not a date; write "dd-mmm-yyyy hh:mm:ss"') from None
    return replace(options, date_filter=DateFilter(side == "after", when))


_DEFAULTS: Final = CopyOptions()
_NOT_FOR_A_WORKER: Final = {
    "dry_run": ("--dry-run", "a worker copies"),
    "connections": ("--connections", "max_connections bounds what a worker opens to the old server"),
    "proxy_user": ("--proxyAuth", "every account would get the mail of one"),
    "source_user": ("--sourceUser", "every account would get the mail of one; admin_login opens each one's own"),
    "target_user": ("--targetUser", "the mail of every account would go to one; copy_as says who appends"),
    "preauth": ("--preauth", "every account would get the mail of one"),
    "recopy": ("--recopy", "`migrator retry --recopy` says it for an account"),
}
_COMMON: Final[Mapping[str, tuple[int, Apply]]] = {
    "--verbose": _set(verbose=True),
    "--delete": _set(delete=True),
    "--notimeout": _set(timeout=PATIENT_TIMEOUT),
    "--json": _set(json=True),
    "--oldPasswordFile": _text("old_password_file", empty=False),
    "--newPasswordFile": _text("new_password_file", empty=False),
    "--caFile": _text("ca_file", empty=False),
    "--dry-run": _set(dry_run=True),
    "--limit-rate": _value("rate", parse_rate),
    "--max-size": _value("max_size", parse_size),
    "--window": _value("window", Window.parse),
    "--quarantine": _value("quarantine", _directory),
    "--noCertificateCheck": _set(check_certificates=False),
}
_POP: Final[Mapping[str, tuple[int, Apply]]] = {
    "--archiveSeen": _value("archive_seen", _archive),
    "--seenOlder": _value("seen_older", parse_duration),
}
_IMAP: Final[Mapping[str, tuple[int, Apply]]] = {
    "--list": _text("list_pattern", empty=False),
    "--source": _text("source_prefix"),
    "--target": _text("target_prefix"),
    "--skipMailbox": (1, _skip),
    "--nosubscription": _set(subscriptions=False),
    "--subscribed": _set(subscribed_only=True),
    "--fetchRFC822": _set(fetch_item=b"RFC822.PEEK"),
    "--byOne": _set(one_by_one=True),
    "--noACL": _set(acl=False),
    "--copyMailboxClass": _set(mailbox_class=True),
    "--oldCLI": _cli("old_cli"),
    "--newCLI": _cli("new_cli"),
    "--fixLongLines": (1, _fix_long_lines),
    "--proxyAuth": _text("proxy_user", empty=False),
    "--renameMailbox": (2, _rename),
    "--renameMailboxList": (1, _rename_list),
    "--filter": (2, _filter),
    "--compress": _set(compress=True),
    "--connections": _value("connections", _connections),
    "--sourceUser": _text("source_user", empty=False),
    "--targetUser": _text("target_user", empty=False),
    "--preauth": _set(preauth=True),
    "--special-use": _set(special_use=True),
    "--syncFlags": _set(sync_flags=True),
    "--recopy": (1, _recopy),
}
