"""`migrator left`: who has not moved yet, and what to do about each of them."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import click

from migrator.command_line import PATH, config_option, fail, fail_at_cli, read_configuration
from migrator.exit_codes import CANNOT_WRITE, CONFIGURATION, DONE, NEEDS_A_PERSON
from migrator.left import WHAT, Left, Tool
from migrator.settings import Settings
from wire.outcome import Trouble

_SHOWN: Final = 20  # names below each tool; --json, --csv and --list have all
_COLUMNS: Final = ("Name", "Standing", "Hash", "Tool", "Mail", "Reason")


@click.command("left")
@config_option
@click.option("--domain", default="", help="Only this domain.")
@click.option("--tool", type=click.Choice([tool.value for tool in Tool]), help="Only those whom this tool fits.")
@click.option("--no-cli", is_flag=True, help="Do not ask CommuniGate: only the ledger, rosters and files of hashes.")
@click.option("--csv", "csv_path", type=PATH, help="Write a row for each to this file (0600).")
@click.option("--list", "listing", is_flag=True, help="Print the addresses alone, one a line: a roster or pilot file.")
@click.option("--dry-run", is_flag=True, help="Write no file: --csv is left out.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def left(  # noqa: PLR0917 - click hands them over by name
    path: Path, domain: str, tool: str | None, no_cli: bool, csv_path: Path | None, listing: bool, dry_run: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """List who has not moved yet, with the tool that fits each.

    The exit code is 0 when nobody is left, else 1.
    """
    settings = read_configuration(path)
    try:
        found = asyncio.run(_survey(settings, domain, ask_communigate=not no_cli))
    except Trouble as trouble:
        fail_at_cli(trouble, otherwise=CONFIGURATION)
    chosen = [one for one in found if tool in (None, one.tool.value)]
    if csv_path is not None and not dry_run:
        _write(csv_path, chosen)
    if listing:
        for one in chosen:
            click.echo(one.account)
    elif as_json:
        counts = Counter(one.tool.value for one in chosen)
        click.echo(json.dumps({"left": len(chosen), "tools": counts, "accounts": [one.as_json() for one in chosen]}))
    else:
        _tell(chosen)
    sys.exit(NEEDS_A_PERSON if chosen else DONE)


async def _survey(settings: Settings, domain: str, *, ask_communigate: bool) -> list[Left]:
    from cli_client.commands import Cli
    from migrator.cli_pool import open_pool_beside
    from migrator.ledger.store import Store
    from migrator.left_survey import LeftSurvey

    store = Store(settings.state.path)
    pool = open_pool_beside(settings, settings.communigate.connections)
    try:
        if ask_communigate:
            await pool.reach()
        return await LeftSurvey(settings, store, Cli(pool) if ask_communigate else None, only=domain).run(_progress)
    finally:
        await pool.close()
        await store.close()


def _progress(done: int, of: int) -> None:
    """A line that grows, on a terminal only."""
    if sys.stderr.isatty() and (done % 100 == 0 or done == of):
        click.echo(f"\r{done} of {of} accounts asked about", err=True, nl=done == of)


def _tell(found: list[Left]) -> None:
    if not found:
        click.echo("nobody is left")
        return
    for tool in Tool:
        those = [one for one in found if one.tool is tool]
        if not those:
            continue
        click.echo(f"{tool.value}: {len(those)}. {WHAT[tool]}")
        for one in those[:_SHOWN]:
            about = [one.standing, *([one.hash] if one.hash else []), *([one.reason] if one.reason else [])]
            mail = f"; mail: {one.mail.value}" if one.mail.value else ""
            click.echo(f"  {one.account}: {', '.join(about)}{mail}")
        if len(those) > _SHOWN:
            click.echo(f"  and {len(those) - _SHOWN} more (--list, --csv and --json have all)")


def _write(path: Path, found: list[Left]) -> None:
    from migrator.whole_file import write_whole

    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(_COLUMNS)
    for one in found:
        rows.writerow((one.account, one.standing, one.hash, one.tool.value, one.mail.value, one.reason))
    try:
        write_whole(path, text.getvalue().encode("utf-8", "backslashreplace"))
    except OSError as error:
        fail(CANNOT_WRITE, f"cannot write {path}: {error.strerror}")
