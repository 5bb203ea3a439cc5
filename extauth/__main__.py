"""`extauth` and `extauth-helper`: the helper itself, and what an administrator types.

The helper's path imports only what it needs, so that it starts in a fraction of a second; each command does the same.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from migrator.config import DEFAULT_PATH, ConfigurationTrouble, Settings, load_settings
from migrator.exit_codes import CANNOT_WRITE, CONFIGURATION, DONE, INTERRUPTED, OUR_FAULT, USAGE
from wire.descriptors import keep_standard_streams

if TYPE_CHECKING:
    import argparse

_UNWRITABLE: Final = frozenset((errno.EPIPE, errno.ENOSPC, errno.EIO))  # what a write to stdout comes to


def helper_main() -> int:
    """The External Authentication helper.

    CommuniGate gives no arguments; the configuration is $EXTAUTH_CONFIG or the default file.
    """
    if len(sys.argv) > 1:
        sys.stderr.write(f"usage: extauth-helper\nIts configuration is $EXTAUTH_CONFIG, else {DEFAULT_PATH}.\n")
        return DONE if sys.argv[1] in ("-h", "--help") else USAGE
    return _run_helper(Path(os.environ.get("EXTAUTH_CONFIG") or DEFAULT_PATH))


def main(arguments: Sequence[str] | None = None) -> int:
    """The `extauth` command; returns its exit code."""
    keep_standard_streams()
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = _run(words)
        sys.stdout.flush()
    except ConfigurationTrouble as trouble:
        _say(*trouble.lines(), to_stderr=True)
        return CONFIGURATION
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            return _confess()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still in the buffer
        if error.errno != errno.EPIPE:  # else whoever read our output has left, as `head` does
            _say(f"extauth: stdout cannot be written: {error.strerror}", to_stderr=True)
        return CANNOT_WRITE
    except Exception:  # noqa: BLE001 - the outermost scope: a bug must end with its own exit code
        return _confess()
    return code


def _confess() -> int:
    import traceback

    traceback.print_exc()
    return OUR_FAULT


def _run(words: Sequence[str]) -> int:
    if words[:1] == ["sandbox"] or words[:1] == ["demo"]:
        return _play(words[0], words[1:])  # they bring their own flags
    options = _make_parser().parse_args(words)
    command: Callable[[argparse.Namespace], int] = options.run
    return command(options)


def _make_parser() -> argparse.ArgumentParser:
    import argparse

    class Parser(argparse.ArgumentParser):
        def exit(self, status: int = 0, message: str | None = None) -> None:  # type: ignore[override]  # never returns
            super().exit(USAGE if status == 2 else status, message)

    parser = Parser(prog="extauth", description="Moves a mail system to CommuniGate Pro at each user's first login.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str, *, config: bool = True) -> Parser:
        command: Parser = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        if config:
            text = "the configuration; default: %(default)s"
            command.add_argument("--config", type=Path, default=DEFAULT_PATH, metavar="FILE", help=text)
        return command

    add("serve", lambda options: _run_helper(options.config), "speak the helper protocol on stdin and stdout")
    add("check-config", _check_config, "list every problem of the configuration by key and line")
    command = add("try", _try, "say what NEW and VRFY would do for an address, changing nothing")
    command.add_argument("address", metavar="ADDRESS")
    command = add("status", _status, "accounts by state, copies, who is left")
    command.add_argument("--json", action="store_true", help="for programs")
    command = add("export", _export, "write the saved name/password pairs as MoveAccounts files")
    command.add_argument("--output", type=Path, metavar="PATH", help="a file for one old server, else a directory")
    command.add_argument("--purge", action="store_true", help="forget the exported passwords afterwards")
    command = add("cutover", _cutover, "the change from the old server to CommuniGate, step by step")
    command.add_argument("step", nargs="?", default="", metavar="STEP", help="one step, with what is to be done")
    does = command.add_mutually_exclusive_group()
    does.add_argument("--apply", dest="action", action="store_const", const="apply", help="do the step, and note it")
    does.add_argument("--undo", dest="action", action="store_const", const="undo", help="take the step back")
    does.add_argument("--dry-run", dest="action", action="store_const", const="look", help="only look, as without it")
    command.set_defaults(action="look")
    command.add_argument("--host", default="", help="of CommuniGate's listeners; default: that of communigate.smtp")
    command.add_argument("--aside", default="26,111,144", metavar="SMTP,POP,IMAP", help="default: %(default)s")
    command.add_argument("--ports", default="25,110,143", metavar="SMTP,POP,IMAP", help="default: %(default)s")
    command.add_argument("--json", action="store_true", help="for programs")
    command = add("forget", _forget, "drop what is remembered of an address")
    command.add_argument("address", metavar="ADDRESS")
    add("sandbox", _unreachable, "a simulated CommuniGate and old server, until interrupted", config=False)
    add("demo", _unreachable, "a whole migration on the sandbox, with a live table", config=False)
    return parser


def _say(*lines: str, to_stderr: bool = False) -> None:
    stream = sys.stderr if to_stderr else sys.stdout
    for line in lines:
        stream.write(line.encode("utf-8", "backslashreplace").decode() + "\n")


def _run_helper(config: Path) -> int:
    from extauth.run import run_helper

    return run_helper(config)


def _settings(options: argparse.Namespace) -> Settings:
    return load_settings(options.config)


def _check_config(options: argparse.Namespace) -> int:
    settings = load_settings(options.config, check_places=True)
    _say(f"{settings.path}: no problem found, {len(settings.domains)} domain(s)")
    return DONE


def _try(options: argparse.Namespace) -> int:
    from extauth.try_address import read_password, try_address

    settings = _settings(options)
    return try_address(settings, options.address, read_password(), _say)


def _status(options: argparse.Namespace) -> int:
    from extauth.status_report import print_status

    return print_status(_settings(options), as_json=options.json)


def _export(options: argparse.Namespace) -> int:
    from extauth.export_command import export

    return export(_settings(options), options.output, purge=options.purge)


def _cutover(options: argparse.Namespace) -> int:
    from extauth.cutover import Ports
    from extauth.cutover_command import cutover, parse_ports

    settings = _settings(options)
    try:
        aside, standard = parse_ports(options.aside), parse_ports(options.ports)
    except ValueError as error:
        _say(f"extauth: --aside and --ports: {error}", to_stderr=True)
        return USAGE
    ports = Ports(options.host or settings.communigate.smtp.host, aside, standard)
    return cutover(settings, ports, options.step, action=options.action, for_program=options.json)


def _forget(options: argparse.Namespace) -> int:
    from extauth.forget_command import forget

    return forget(_settings(options), options.address, _say)


def _play(name: str, words: Sequence[str]) -> int:
    """`sandbox` and `demo`: imported here, so that the helper never loads them."""
    if name == "sandbox":
        from extauth.sandbox.serve import main as play
    else:
        from extauth.sandbox.demo import main as play
    try:
        return play(list(words))
    except SystemExit as stop:  # argparse's own word for wrong usage is 2
        return USAGE if stop.code == 2 else int(stop.code or 0)


def _unreachable(_options: argparse.Namespace) -> int:
    """`sandbox` and `demo` stand in the parser for its help only; `main` hands them on before it parses."""
    return USAGE


if __name__ == "__main__":
    sys.exit(main())
