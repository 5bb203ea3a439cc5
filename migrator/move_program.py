"""What the three Move programs share: arguments, passwords, marks on disk, exit codes, what they print.

Passwords come as arguments, as the migration guide has it, or from files; they are passed to no other
process, because the programs do their work themselves.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from migrator.exit_codes import (
    BAD_DATA,
    CANNOT_WRITE,
    CONFIGURATION,
    DONE,
    INTERRUPTED,
    LOGIN_REFUSED,
    NEEDS_A_PERSON,
    OUR_FAULT,
    PROTOCOL,
    TRY_LATER,
    UNAVAILABLE,
    USAGE,
)
from migrator.ledger.store import Store
from migrator.options import GUIDE_TIMEOUT, CopyOptions, OptionTrouble, parse_options
from migrator.preview import Preview
from migrator.proof import render_preview, render_report
from migrator.quarantine import Quarantine
from migrator.report import CopyInterrupted, Report, SameMailbox, SourceRefused, TargetRefused
from migrator.screen import Screen, complain, print_line
from wire.descriptors import keep_standard_streams
from wire.endpoint import Endpoint, Security, TlsPolicy, parse_endpoint
from wire.outcome import ProtocolTrouble, Scope, SetupTrouble, Temporary, Trouble
from wire.secret import Secret


class UsageTrouble(Exception):
    """The arguments cannot be used; the text is a sentence for a person."""


def run_program(name: str, usage: str, arguments: Sequence[str], work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run a program to its exit code. Every end is one line on stderr, but for a bug, which brings its traceback."""
    keep_standard_streams()
    if list(arguments) == ["--help"]:
        print_line(usage)
        return DONE
    try:
        return _run(work())
    except (UsageTrouble, OptionTrouble) as trouble:
        complain(f"{name}: {trouble}\n{usage}")
        return USAGE
    except Trouble as trouble:
        complain(f"{name}: {trouble}")
        return exit_code(trouble)
    except KeyboardInterrupt:
        complain(f"{name}: interrupted; run it again to go on")
        return INTERRUPTED
    except Exception:  # noqa: BLE001 - the outermost scope: a bug has its own exit code, and its traceback
        traceback.print_exc()
        return OUR_FAULT


def _run(work: Coroutine[Any, Any, int]) -> int:
    """On uvloop where it is installed: half the CPU for each message."""
    try:
        import uvloop  # noqa: PLC0415 - it is not there on every system
    except ImportError:
        return asyncio.run(work)
    code: int = uvloop.run(work)
    return code


def exit_code(end: Report | Preview | Trouble) -> int:
    """The exit code for a report or for the trouble that ended a copy."""
    if isinstance(end, Report | Preview):
        return NEEDS_A_PERSON if end.problems else TRY_LATER if end.postponed else DONE
    if isinstance(end, CopyInterrupted):
        return TRY_LATER
    if isinstance(end, SourceRefused | TargetRefused):
        return LOGIN_REFUSED
    if isinstance(end, SetupTrouble):
        return CONFIGURATION
    if isinstance(end, SameMailbox):
        return BAD_DATA
    if isinstance(end, ProtocolTrouble):
        return PROTOCOL
    if isinstance(end, Temporary):
        later = end.code and not end.code.startswith("5")  # 5xx to a connection is no promise of another time
        return TRY_LATER if later or end.scope is Scope.USER else UNAVAILABLE
    return NEEDS_A_PERSON


def read_flags(arguments: Sequence[str], *, pop: bool, connections: int = 1) -> tuple[CopyOptions, list[str]]:
    """The flags of a program, with the guide's time-out, and the arguments behind them."""
    return parse_options(arguments, timeout=GUIDE_TIMEOUT, connections=connections, pop=pop)


def read_server(text: str, protocol: str) -> Endpoint:
    """A server argument. UsageTrouble for one that cannot be read."""
    try:
        return parse_endpoint(text, protocol)
    except ValueError as error:
        raise UsageTrouble(str(error)) from None


def tls_of(options: CopyOptions) -> TlsPolicy:
    """How the flags want certificates to be checked."""
    return TlsPolicy(verify=options.check_certificates, ca_file=options.ca_file)


def read_passwords(old: str, new: str | None, options: CopyOptions, stdin: IO[bytes] | None = None) -> list[Secret]:
    """The passwords: the arguments byte for byte, or the first line of the files that take their place.

    `-` is stdin, one line for each, the old password first.
    """
    stdin = stdin or sys.stdin.buffer
    given = [(old, options.old_password_file, "--oldPasswordFile")]
    if new is not None:
        given.append((new, options.new_password_file, "--newPasswordFile"))
    return [_password(argument, file, flag, stdin) for argument, file, flag in given]


def _password(argument: str, file: str, flag: str, stdin: IO[bytes]) -> Secret:
    if not file:
        password = os.fsencode(argument)
    elif file == "-":
        password = _first_line(stdin.readline())
    else:
        try:
            with Path(file).open("rb") as opened:
                password = _first_line(opened.readline())
        except OSError as error:
            raise UsageTrouble(f"{flag} {file}: {error.strerror}") from None
    if not password:
        raise UsageTrouble(f"{flag}: the password is empty" if file else "an empty password is never tried")
    return Secret(password)


def _first_line(line: bytes) -> bytes:
    return line.removesuffix(b"\n").removesuffix(b"\r")


def moves_path() -> Path:
    """Where the programs keep their marks: $EXTAUTH_MOVES, else moves.db in the user's state directory."""
    if named := os.environ.get("EXTAUTH_MOVES"):
        return Path(named)
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "extauth" / "moves.db"


async def with_marks(options: CopyOptions, work: Callable[[Store | None], Awaitable[int]]) -> int:
    """Run `work` with the database of marks; CANNOT_WRITE if it cannot be opened for writing.

    A dry run makes none: it is given None where there is none yet.
    """
    try:
        path = moves_path()
    except RuntimeError:  # a user id without an entry and without $HOME, as containers give them
        complain("there is no home directory: name a file for what is copied in $EXTAUTH_MOVES")
        return CANNOT_WRITE
    if options.dry_run and not path.exists():
        return await work(None)
    store = Store(path, create_directory=True)
    try:
        try:
            await store.open()
        except Trouble as trouble:
            complain(f"{trouble}; $EXTAUTH_MOVES names the file where what is copied is noted")
            return CANNOT_WRITE
        return await work(store)
    finally:
        await store.close()


@contextmanager
def only_once(copy: str) -> Iterator[None]:
    """Hold this copy for ourselves as long as we run, whatever happens to us. Temporary if another process has it."""
    name = hashlib.sha256(copy.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    path = moves_path()
    locks = path.with_name(path.name + ".locks")
    locks.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(locks / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Temporary("another process is copying this account", code="in use") from None
        yield
    finally:
        os.close(descriptor)


def plain_form(endpoint: Endpoint) -> Endpoint:
    """The server in the key of a copy: the same however its name is spelled and its connection is protected."""
    return replace(endpoint, host=endpoint.host.lower(), security=Security.PLAIN)


def quarantine_of(options: CopyOptions) -> Quarantine:
    """Where messages go that the target takes in no form: beside the marks, unless --quarantine names a directory."""
    return Quarantine(Path(options.quarantine) if options.quarantine else moves_path().with_name("quarantine"))


async def conclude(screen: Screen, copying: Awaitable[Report | Preview], options: CopyOptions) -> int:
    """Wait for a copy, and print what it came to; its exit code. Trouble is raised again, after the JSON of it."""
    try:
        with screen:
            end = await copying
    except CopyInterrupted as trouble:
        print_end(trouble.report, options, exit_code(trouble), str(trouble))
        raise
    except Trouble as trouble:
        if options.json:
            print_json({"exit_code": exit_code(trouble), "error": str(trouble)})
        raise
    print_end(end, options, exit_code(end))
    return exit_code(end)


def print_end(end: Report | Preview, options: CopyOptions, code: int, error: str = "") -> None:
    """The report on stdout: one JSON value with --json, else the proof. What a person must look at goes to stderr."""
    if options.json:
        print_json({**end.as_json(), "exit_code": code} | ({"error": error} if error else {}))
        return
    if isinstance(end, Preview):
        lines = render_preview(end, everything=options.verbose)
    else:
        lines = render_report(end, everything=options.verbose)
    for text in lines:
        print_line(text)
    for text in (*end.problems, *end.postponed):
        complain(text)


def print_json(value: object) -> None:
    """The one value of --json."""
    print_line(json.dumps(value, ensure_ascii=True))
