"""What the commands of `migrator` share: the option for the configuration, and how a command ends before its time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from migrator.config import DEFAULT_PATH, ConfigurationTrouble, load_settings
from migrator.exit_codes import CONFIGURATION, LOGIN_REFUSED, TRY_LATER, UNAVAILABLE
from migrator.settings import Settings
from wire.outcome import SetupTrouble, Temporary, Trouble, Unreachable

if TYPE_CHECKING:
    from migrator.execute import Programs

# whether it can be read is told by who reads it, with the code for bad data or a bad configuration
PATH = click.Path(path_type=Path, readable=False)

config_option = click.option(
    "--config",
    "path",
    type=PATH,
    default=DEFAULT_PATH,
    envvar="EXTAUTH_CONFIG",
    show_default=True,
    help="The configuration file.",
)


execute_option = click.option(
    "--execute", multiple=True, metavar="PROGRAM[=COMMAND]",
    help="A program that mail may be given to at CommuniGate too, as COMMAND and by CommuniGate's user. Repeatable.",
)  # fmt: skip


def read_programs(options: tuple[str, ...]) -> Programs:
    """The programs of `--execute`. UsageError for one that is no path."""
    from migrator.execute import Programs  # noqa: PLC0415 - of two commands only

    try:
        return Programs.read(options)
    except ValueError as error:
        raise click.UsageError(f"--execute {error}") from None


def read_configuration(path: Path, *, check_files: bool = True, check_keys: bool = True) -> Settings:
    """The settings; a file that cannot be used ends the program, with every problem in a line of its own."""
    try:
        return load_settings(path, check_files=check_files, check_keys=check_keys)
    except ConfigurationTrouble as trouble:
        for line in trouble.lines():
            click.echo(line, err=True)
        sys.exit(CONFIGURATION)


def fail(code: int, *lines: str) -> NoReturn:
    """End the program with these lines on stderr."""
    for line in lines:
        click.echo(f"migrator: {line}", err=True)
    sys.exit(code)


def fail_at_cli(trouble: Trouble, *, otherwise: int) -> NoReturn:
    """End the program because of what CommuniGate's CLI, or the way to it, came to; `otherwise` for a refusal."""
    from cli_client.errors import CliLoginRefused, SessionsExhausted  # noqa: PLC0415 - most commands never ask CommuniGate

    match trouble:
        case CliLoginRefused():
            fail(LOGIN_REFUSED, f"CommuniGate refuses the login of [communigate]: {trouble}")
        case SetupTrouble():
            fail(CONFIGURATION, str(trouble))
        case SessionsExhausted():
            fail(TRY_LATER, f"{trouble}; [communigate] connections is how many there may be, one for the helper")
        case Unreachable():
            fail(UNAVAILABLE, f"CommuniGate's CLI cannot be reached: {trouble}")
        case Temporary():
            fail(TRY_LATER, str(trouble))
        case _:
            fail(otherwise, str(trouble))
