"""`migrator accounts`: the options, and the exit codes. What is done with them stands in migrator.directory."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from migrator.command_line import PATH, fail, fail_at_cli, read_configuration
from migrator.config import DEFAULT_PATH
from migrator.exit_codes import BAD_DATA, CANNOT_WRITE, CONFIGURATION
from wire.outcome import Trouble

if TYPE_CHECKING:
    from cli_client.commands import Settings as AccountSettings
    from migrator.directory.account import NewAccount, Rules
    from migrator.directory.accounts_run import AccountsRun, Wanted
    from migrator.directory.creation import Result
    from migrator.directory.creation_journal import CreationJournal
    from migrator.directory.source import Source
    from migrator.directory.tables import Layout
    from migrator.settings import Settings

_KINDS: Final = (
    "passwd", "shadow", "master.passwd", "ldif", "exchange-ldif", "csv", "tab", "exchange-csv", "dovecot",
    "postfix-mailbox",
)  # fmt: skip
_TYPES: Final = ("MultiMailbox", "TextMailbox", "MailDirMailbox")
_PROTECTED: Final = frozenset({"postmaster", "pbx"})  # made by CommuniGate itself, where no configuration says more


@click.command("accounts")
@click.argument("file", type=PATH)
@click.option("--format", "kind", type=click.Choice(_KINDS), required=True, help="What wrote FILE.")
@click.option("--shadow", type=PATH, help="passwd: the shadow file with its passwords.")
@click.option("--virtual-aliases", type=PATH, help="A Postfix virtual_alias_maps file: aliases of the accounts.")
@click.option("--columns", default="", help="csv, tab: NAME=COLUMN,... such as Name=login,UnixPassword=hash.")
@click.option("--delimiter", default=",", show_default=True, help="csv: what stands between fields.")
@click.option("--no-header", is_flag=True, help="csv, tab: the first line is a row; --columns has numbers from 1.")
@click.option("--quota-unit", type=click.Choice(["B", "K", "M", "G"]), default="B", help="csv, tab: of bare numbers.")
@click.option("--min-uid", default=1000, show_default=True, help="passwd, master.passwd: the first user of a person.")
@click.option("--domain", default="", help="The domain of names without one; other domains are bad rows then.")
@click.option("--same-domain", multiple=True, help="Another name of --domain. May be repeated.")
@click.option("--names", type=click.Choice(["login", "address"]), help="What an account is called like.")
@click.option("--passwords", type=click.Choice(["taken", "first-login", "os", "none"]), default="taken",
              show_default=True, help="What accounts get whose password CommuniGate does not take.")  # fmt: skip
@click.option("--output", type=PATH, help="Write files for WebAdmin's Account Import: one, or a directory of them.")
@click.option("--new-name", is_flag=True, help="With --output: Name as at the old server, and NewName with the domain.")
@click.option("--ldap-output", type=PATH, help="Write an LDIF file for LDAP provisioning.")
@click.option("--ldap-base", default="cn={domain}", show_default=True, help="With --ldap-output: below which dn.")
@click.option("--hashes", type=PATH, help='Write the hashes of --passwords first-login, for verify = "hashes".')
@click.option("--forwards", type=PATH, help="Write addresses that lead elsewhere, for `migrator aliases --virtual`.")
@click.option("--bad", type=PATH, help="Write bad rows as they stand, to be mended and read again.")
@click.option("--report", type=PATH, help="Write what became of each row, tab-delimited.")
@click.option("--apply", is_flag=True, help="Make the accounts over the CLI.")
@click.option("--config", "config", type=PATH, help="The configuration: the CLI, and protected names.")
@click.option("--journal", type=PATH, help="With --apply: what is done already; FILE.journal if not given.")
@click.option("--resume", is_flag=True, help="With --apply: go on with the journal of an earlier run.")
@click.option("--jobs", type=click.IntRange(1, 100), help="With --apply: accounts at a time.")
@click.option("--type", "mailboxes", type=click.Choice(_TYPES), help="With --apply: CreateAccount's mailbox type.")
@click.option("--external-inbox", is_flag=True, help="External INBOX, for users of local mailers: made by --apply.")
@click.option("--set", "more", multiple=True, metavar="KEY=VALUE", help="With --apply: a setting of every account.")
@click.option("--dry-run", is_flag=True, help="Check, and say what would be done. With --apply CommuniGate is asked.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line for each row, and one in the end.")
def accounts(  # one parameter for each option
    *, file: Path, kind: str, shadow: Path | None, virtual_aliases: Path | None, columns: str, delimiter: str,
    no_header: bool, quota_unit: str, min_uid: int, domain: str, same_domain: tuple[str, ...], names: str | None,
    passwords: str, output: Path | None, new_name: bool, ldap_output: Path | None, ldap_base: str,
    hashes: Path | None, forwards: Path | None, bad: Path | None, report: Path | None, apply: bool,
    config: Path | None, journal: Path | None, resume: bool, jobs: int | None, mailboxes: str | None,
    external_inbox: bool, more: tuple[str, ...], dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Check the accounts in FILE, and write import files of them or make them.

    Without --output, --ldap-output and --apply FILE is only checked. What exists is never changed.
    """
    from migrator.directory.accounts_run import Wanted
    from migrator.directory.source import Source

    if apply and (output or ldap_output):
        raise click.UsageError("--apply makes the accounts: --output and --ldap-output are for another run")
    if not apply and (resume or more or mailboxes or journal):
        raise click.UsageError("--resume, --journal, --type and --set belong to --apply")
    if new_name and not output:
        raise click.UsageError("--new-name belongs to --output")
    if hashes and passwords != "first-login":
        raise click.UsageError("--hashes belongs to --passwords first-login")
    if shadow and kind != "passwd":
        raise click.UsageError("--shadow belongs to --format passwd")
    layout = _layout(kind, columns, delimiter, header=not no_header, quota_unit=quota_unit)
    source = Source(file, kind, shadow, virtual_aliases, layout, min_uid)
    wanted = Wanted(
        output, new_name, ldap_output, ldap_base, forwards, bad, report, hashes, external_inbox, dry_run=dry_run,
        as_json=as_json,
    )  # fmt: skip
    _refuse_own_files(wanted, source)
    settings = _configuration(config, asks_cli=apply) if apply or config is not None else None
    by_address = (names or ("address" if kind.startswith("exchange") else "login")) == "address"
    rules = _rules(settings, domain, same_domain, passwords, by_address=by_address)
    path = journal or file.with_name(f"{file.name}.journal")
    extra = _more(more)

    def run() -> int:
        job = _surveyed(source, rules, wanted)
        if not apply or settings is None:
            return job.write()
        if path.exists() and not resume and not dry_run:
            raise click.UsageError(f"{path} is there from an earlier run: say --resume, or --journal another")
        return asyncio.run(_make(job, settings, path, mailboxes, extra, external=external_inbox, jobs=jobs))

    sys.exit(_guarded(run))


def _layout(kind: str, columns: str, delimiter: str, *, header: bool, quota_unit: str) -> Layout:
    from migrator.directory.tables import Layout, parse_columns

    if len(delimiter) != 1:
        raise click.UsageError("--delimiter is one character")
    try:
        chosen = parse_columns(columns) if columns else None
    except ValueError as error:
        raise click.UsageError(f"--columns: {error}") from None
    if not header and chosen is None:
        raise click.UsageError("--no-header needs --columns with numbers: Name=1,...")
    tab = kind == "tab"
    return Layout("\t" if tab else delimiter, not tab, header, chosen, "" if quota_unit == "B" else quota_unit)


def _rules(settings: Settings | None, domain: str, same: tuple[str, ...], passwords: str, *, by_address: bool) -> Rules:
    from migrator.account_name import is_domain
    from migrator.directory.account import Passwords, Rules

    for name in (domain, *same):
        if name and not is_domain(name.lower()):
            raise click.UsageError(f"{name!r} is no domain name")
    if same and not domain:
        raise click.UsageError("--same-domain belongs to --domain")

    def protected(address: str) -> bool:
        if settings is not None:
            return settings.communigate.is_protected(address)
        return address.partition("@")[0] in _PROTECTED

    return Rules(domain.lower(), frozenset(name.lower() for name in same), by_address, Passwords(passwords), protected)


def _refuse_own_files(wanted: Wanted, source: Source) -> None:
    """UsageError for an output that is one of the files read, or two that are the same."""
    read = [path for path in (source.path, source.shadow, source.virtual_aliases) if path is not None]
    written = [path for path in wanted.paths if path is not None]
    for number, path in enumerate(written):
        if any(_same(path, other) for other in (*read, *written[:number])):
            raise click.UsageError(f"{path} is named twice: it would be written over")


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return one.absolute() == other.absolute()


def _more(pairs: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isalnum() or key == "Password":
            raise click.UsageError(f"--set {pair!r}: say KEY=VALUE; passwords come from the file")
        found[key] = value
    return found


def _configuration(path: Path | None, *, asks_cli: bool) -> Settings:
    """Without the keys, which an import does not need; the CLI's password only where it is needed."""
    path = path or Path(os.environ.get("EXTAUTH_CONFIG") or DEFAULT_PATH)
    return read_configuration(path, check_files=asks_cli, check_keys=False)


def _surveyed(source: Source, rules: Rules, wanted: Wanted) -> AccountsRun:
    from migrator.directory.accounts_run import AccountsRun
    from migrator.directory.sifting import Sifting

    sifting = Sifting(source, rules)
    sifting.survey()
    return AccountsRun(sifting, wanted)


async def _make(
    job: AccountsRun, settings: Settings, path: Path, mailboxes: str | None, more: dict[str, str], *,
    external: bool, jobs: int | None,
) -> int:  # fmt: skip
    from cli_client.commands import Cli
    from migrator.cli_pool import open_pool_beside
    from migrator.directory.account import settings_of
    from migrator.directory.creation import Creation, Making
    from migrator.directory.creation_journal import CreationJournal

    communigate = settings.communigate
    plan = job.sifting.rules.passwords
    own = {name: table.create for name, table in settings.domains.items()}

    def settings_for(account: NewAccount) -> AccountSettings:
        create = own.get(account.domain, own.get("default", {}))
        return settings_of(account, plan, {**create, **more})  # type: ignore[dict-item]  # the values of a TOML table

    def open_journal() -> CreationJournal:
        return CreationJournal(path, str(communigate.cli), writes=not job.wanted.dry_run)

    pool = open_pool_beside(settings, jobs or communigate.connections)
    try:
        await pool.reach()
        with open_journal() as journal:
            making = Making(settings_for, mailboxes, external, jobs or communigate.connections)
            creation = Creation(Cli(pool), journal, making)

            def make(good: Iterator[NewAccount]) -> AsyncIterator[Result]:
                return creation.preview(good) if job.wanted.dry_run else creation.create(good)

            return await job.create(make)
    finally:
        await pool.close()


def _guarded(run: Callable[[], int]) -> int:
    """The run's exit code, or that of what ended it."""
    from migrator.directory.creation_journal import WrongJournal
    from migrator.directory.text_lines import BadFile

    try:
        return run()
    except (BadFile, WrongJournal) as trouble:
        fail(BAD_DATA, str(trouble))
    except Trouble as trouble:
        fail_at_cli(trouble, otherwise=CONFIGURATION)
    except OSError as error:
        fail(CANNOT_WRITE, f"{error.filename or 'a file'}: {error.strerror or error}")
