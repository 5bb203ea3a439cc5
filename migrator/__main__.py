"""`migrator`: the worker, and what a person does with its queue."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from migrator.account_name import qualify
from migrator.command_line import PATH, config_option, fail, read_configuration
from migrator.exit_codes import CANNOT_WRITE, CONFIGURATION, DONE, NEEDS_A_PERSON, OUR_FAULT, TRY_LATER, USAGE
from migrator.model import Job, Outlook, Phase
from wire.outcome import SetupTrouble, Temporary, Trouble

if TYPE_CHECKING:
    from migrator.ledger.jobs import LedgerQueue
    from migrator.ledger.store import Store
    from migrator.settings import Settings

T = TypeVar("T")


class _Commands(click.Group):
    """The commands below, and those of modules that are imported when their command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_ELSEWHERE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        module, name = _ELSEWHERE[cmd_name]
        command: click.Command = getattr(import_module(f"migrator.{module}"), name)
        return command


_ELSEWHERE: Final = {
    "accounts": ("accounts_command", "accounts"),
    "aliases": ("alias_command", "aliases"),
    "hashes": ("hashes_command", "hashes"),
    "left": ("left_command", "left"),
    "rules": ("rule_command", "rules"),
    "shadow-switch": ("shadow_command", "shadow_switch"),
}


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Copies the mail of users who have logged in, and keeps their passwords sealed until then."""


@cli.command()
@config_option
@click.option(
    "--force", is_flag=True, help="Make another pair; the old key stays beside it and still opens. See --rotate."
)
@click.option("--rotate", is_flag=True, help="Put a new pair in force, and seal what is saved anew. Nothing is lost.")
def keygen(path: Path, force: bool, rotate: bool) -> None:
    """Make the key pair that seals passwords, and the key that `grace` needs."""
    from migrator.digest_key import make_digest_key
    from migrator.seal import generate_keys

    if force and rotate:
        fail(USAGE, "--force and --rotate are two ways")
    if rotate:
        _rotate(path)
        return
    settings = read_configuration(path, check_files=False)
    state = settings.state
    try:
        if any(domain.grace for domain in settings.domains.values()) and make_digest_key(
            state.digest_key_file, state.directory
        ):
            click.echo(
                f"{state.digest_key_file} is for `grace`: helper and worker must be able to read it, nobody else."
            )
            if state.key_file.exists() and not force:
                return
        generate_keys(state.public_key_file, state.key_file, force=force)
    except SetupTrouble as trouble:
        fail(CANNOT_WRITE, trouble.text)
    click.echo(f"{state.public_key_file} seals passwords: the helper must be able to read it.")
    click.echo(f"{state.key_file} opens them: only the worker's user may read it. Keep a copy in a safe place.")


def _rotate(path: Path) -> None:
    from migrator.key_rotation import rotate

    settings = read_configuration(path)
    try:
        done = _with_store(settings, lambda store: rotate(settings.state, store))
    except SetupTrouble as trouble:
        fail(CANNOT_WRITE, trouble.text)
    for line in done.lines(settings.state):
        click.echo(line)
    sys.exit(NEEDS_A_PERSON if done.unreadable else DONE)


@cli.command()
@config_option
@click.option("--until-idle", is_flag=True, help="End when nothing is left that can run now.")
@click.option("--name", default="", help="What the jobs list calls this worker; the machine's name otherwise.")
@click.option("--log", type=PATH, help="Log to this file, not to stderr.")
@click.option("--embedded", is_flag=True, help="End at once when another embedded worker runs for this ledger.")
def work(path: Path, until_idle: bool, name: str, log: Path | None, embedded: bool) -> None:
    """Run queued copies."""
    from migrator.worker_lock import WorkerLock
    from migrator.worker_log import configure_log

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(DONE))  # until the worker's own handlers are in place
    settings = read_configuration(path)
    lock = None
    try:
        configure_log(log)
        if embedded and (lock := WorkerLock.take(settings.state.directory)) is None:
            return
        outlook = _run(_work(settings, name, until_idle))
    except SetupTrouble as trouble:
        fail(CONFIGURATION, trouble.text)
    except Temporary as trouble:
        fail(TRY_LATER, str(trouble))
    finally:
        if lock is not None:
            lock.release()
    sys.exit(exit_code(outlook) if until_idle else DONE)


async def _work(settings: Settings, name: str, until_idle: bool) -> Outlook:
    from migrator.clock_watch import ClockWatch
    from migrator.ledger.jobs import LedgerQueue
    from migrator.ledger.store import Store
    from migrator.processes import this_worker
    from migrator.worker import CopyWorker
    from migrator.workshop import Workshop

    store = Store(settings.state.path)
    workshop = Workshop(settings, store)
    queue = LedgerQueue(store, keep_done=keeps_done(settings), watch=ClockWatch())
    worker = CopyWorker(this_worker(name), queue, workshop.runner)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    try:
        return await worker.work(until_idle=until_idle)
    finally:
        await workshop.close()
        await store.close()


def exit_code(outlook: Outlook) -> int:
    """How a worker that found nothing more to do ends."""
    if outlook.postponed or outlook.fresh:
        return TRY_LATER
    return NEEDS_A_PERSON if outlook.held or outlook.waiting or outlook.flawed else DONE


@cli.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.option("--phase", type=click.Choice([phase.value for phase in Phase]), help="Only these.")
def jobs(path: Path, as_json: bool, phase: str | None) -> None:
    """List the copies."""
    found = _with_queue(read_configuration(path), lambda queue: queue.jobs(Phase(phase) if phase else None))
    if as_json:
        click.echo(json.dumps([_listed(job) for job in found]))
        return
    for job in found:
        state = "running" if job.running else job.phase.value
        counts = f"{job.counts.copied} copied, {job.counts.refused} refused"
        words = [job.account, state, counts, job.source, *_last_pass(job), *filter(None, [job.reason])]
        click.echo("  ".join(words))


def _last_pass(job: Job) -> list[str]:
    """What a second pass was about, or what it has brought."""
    if job.phase is not Phase.DONE:
        return ["final pass"] if job.passes else []
    if job.passes < 2 or not job.report:
        return []
    totals = json.loads(job.report).get("totals", {})
    return [f"last pass: {totals.get('copied', 0)} new, {totals.get('flagged', 0)} with other flags"]


def _listed(job: Job) -> dict[str, Any]:
    """A job with its report as JSON within JSON."""
    return {**job.as_json(), "report": json.loads(job.report) if job.report else None}


@cli.command()
@config_option
@click.argument("accounts", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that are held, waiting or postponed.")
@click.option("--moved", is_flag=True, help="Copy from the old server that the configuration names now.")
@click.option(
    "--recopy", is_flag=True, help="Copy mailboxes again that were removed or made anew at CommuniGate. Name accounts."
)
def retry(path: Path, accounts: tuple[str, ...], everything: bool, moved: bool, recopy: bool) -> None:
    """Run held, waiting or postponed copies again now."""
    if everything == bool(accounts):
        fail(USAGE, "name accounts, or say --all")
    if recopy and everything:
        fail(USAGE, "--recopy is said of accounts by name")
    settings = read_configuration(path)
    accounts = _addresses(settings, accounts)
    if recopy:
        _with_store(settings, lambda store: _allow_recopy(store, accounts))
    if moved:
        named = None if everything else accounts
        count = _with_queue(settings, lambda queue: queue.move(named, lambda name: _source_of(settings, name)))
        _say_count(count, "moved to the old server that is configured now", ())
    count = _with_queue(settings, lambda queue: queue.retry(None if everything else accounts))
    _say_count(count, "run again now", accounts)


async def _allow_recopy(store: Store, accounts: Sequence[str]) -> None:
    from migrator.ledger.marks import LedgerMarks

    for account in accounts:
        await LedgerMarks(store, account.lower()).allow_recopy()


def _source_of(settings: Settings, domain_name: str) -> str | None:
    domain = settings.domain(domain_name)
    return str(domain.copy_endpoint) if domain is not None and domain.copies else None


@cli.command()
@config_option
@click.argument("accounts", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All whose copy is done, as without names.")
@click.option("--domain", default="", help="Only accounts of this domain.")
def delta(path: Path, accounts: tuple[str, ...], everything: bool, domain: str) -> None:
    """Queue a final pass for copies that are done: what came at the old server since, and flags that changed."""
    from migrator.delta_command import lines_of, opens_mailboxes
    from migrator.ledger.deltas import queue_deltas

    if accounts and (everything or domain):
        fail(USAGE, "name accounts, or say --all or --domain, not both")
    settings = read_configuration(path)
    accounts, opens = _addresses(settings, accounts), opens_mailboxes(settings)
    found = _with_store(settings, lambda store: queue_deltas(store, accounts or None, domain=domain, opens=opens))
    click.echo(f"{len(found.queued)} final passes queued, {len(found.under_way)} under way already")
    for line in lines_of(found):
        click.echo(line, err=True)
    if lines_of(found):
        sys.exit(NEEDS_A_PERSON)


@cli.command()
@config_option
@click.argument("accounts", nargs=-1, required=True)
@click.option("--reason", default="held by the operator", show_default=True)
def hold(path: Path, accounts: tuple[str, ...], reason: str) -> None:
    """Hold copies until `retry`; one that runs is stopped."""
    settings = read_configuration(path)
    accounts = _addresses(settings, accounts)
    count = _with_queue(settings, lambda queue: queue.hold_accounts(accounts, reason))
    _say_count(count, "held", accounts)


def _addresses(settings: Settings, accounts: Sequence[str]) -> tuple[str, ...]:
    """The accounts with their domains: a bare name is of the main domain, as everywhere."""
    main_domain = settings.communigate.main_domain
    return tuple(qualify(account, main_domain) or account for account in accounts)


def _say_count(count: int, what: str, accounts: Sequence[str]) -> None:
    click.echo(f"{count} {'copy' if count == 1 else 'copies'} {what}")
    if accounts and not count:
        sys.exit(NEEDS_A_PERSON)


def keeps_done(settings: Settings) -> bool:
    """Whether the sealed passwords of finished copies stay, for the final delta."""
    return settings.state.keeps_passwords


def _with_queue(settings: Settings, act: Callable[[LedgerQueue], Coroutine[Any, Any, T]]) -> T:
    from migrator.ledger.jobs import LedgerQueue

    return _with_store(settings, lambda store: act(LedgerQueue(store, keep_done=keeps_done(settings))))


def _with_store(settings: Settings, act: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
    from migrator.ledger.store import Store

    async def run() -> T:
        store = Store(settings.state.path)
        try:
            return await act(store)
        finally:
            await store.close()

    try:
        return asyncio.run(run())
    except SetupTrouble as trouble:
        fail(CONFIGURATION, trouble.text)
    except Trouble as trouble:
        fail(TRY_LATER, str(trouble))


def _run(work: Coroutine[Any, Any, T]) -> T:
    """asyncio.run, on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The console script. Usage errors end with 64, like the other programs of this package."""
    try:
        cli.main(args=arguments, prog_name="migrator", standalone_mode=False)
    except click.exceptions.Exit as leaving:
        sys.exit(leaving.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(USAGE)
    except (click.Abort, EOFError):  # Ctrl-C or Ctrl-D at a question
        sys.exit(NEEDS_A_PERSON)
    except Exception as error:  # noqa: BLE001 - the outermost scope: a bug must end with its own exit code
        traceback.print_exception(error)
        sys.exit(OUR_FAULT)
    sys.exit(DONE)


if __name__ == "__main__":
    main()
