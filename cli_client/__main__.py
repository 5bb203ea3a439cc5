"""`cgcli`: one command to CommuniGate's CLI, or a prompt for many.

The command is passed through as typed; data comes back laid out. The password is asked for on the terminal, read from
the configuration or a file, or is the first line of standard input; it is never an argument.

Exit codes: 0 done, 1 an error reply, 64 usage, 69 server unavailable, 76 protocol error, 77 login refused,
78 configuration.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from cli_client.access import DEFAULT_CONFIG, Access, ask_password, first_line, read_access, read_password_file
from cli_client.connection import CliConnection
from cli_client.errors import CliLoginRefused, SessionsExhausted
from cli_client.format import render_pretty
from cli_client.protocol import checked_line
from wire.endpoint import TlsPolicy, parse_endpoint
from wire.outcome import ProtocolTrouble, SetupTrouble, Trouble, clean_reason
from wire.secret import Secret

DONE, ERROR_REPLY, USAGE, UNAVAILABLE, PROTOCOL, REFUSED, CONFIGURATION = 0, 1, 64, 69, 76, 77, 78
_TIMEOUT = 60.0  # seconds for a command of a person, who can also interrupt it

_C1 = re.compile("[\x80-\x9f]")  # terminals obey these


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="cgcli", description="One command to CommuniGate's CLI, or a prompt for many.")
    parser.add_argument("--config", type=Path, metavar="FILE", help="take server, login and password from FILE")
    parser.add_argument("--host", metavar="H", help="server: host, host:port or cli+tls://host:port")
    parser.add_argument("--port", type=int, metavar="P", help="port, where --host has none (106)")
    parser.add_argument("--login", metavar="L", help="login (postmaster)")
    parser.add_argument("--password-file", metavar="FILE", help="file whose first line is the password; - is stdin")
    parser.add_argument("--ca-file", default="", metavar="FILE", help="check the server's certificate with FILE")
    parser.add_argument("--no-verify", action="store_true", help="do not check the server's certificate")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="the command, as typed")
    return parser


def _access(options: argparse.Namespace, environ: Mapping[str, str]) -> Access:
    """Where to log in. ValueError for a configuration that cannot be used."""
    password: Secret | None = None
    if options.password_file == "-":  # noqa: S105  # a dash stands for standard input
        password = first_line(sys.stdin.buffer, "standard input")
    elif options.password_file:
        password = read_password_file(Path(options.password_file))
    if options.host is None:
        access = read_access(options.config or Path(environ.get("EXTAUTH_CONFIG") or DEFAULT_CONFIG), environ)
        return Access(access.endpoint, options.login or access.login, password or access.password, access.tls)
    text = options.host if options.port is None else f"{options.host}:{options.port}"
    tls = TlsPolicy(verify=not options.no_verify, ca_file=options.ca_file)
    return Access(parse_endpoint(text, "cli"), options.login or "postmaster", password, tls)


class _Session:
    """One connection for one command after the other; opened again when the server has closed it."""

    def __init__(self, access: Access, password: Secret) -> None:
        self._access = access
        self._password = password
        self._connection: CliConnection | None = None

    async def run(self, line: bytes) -> str:
        """The reply's data laid out, or its text."""
        deadline = asyncio.get_running_loop().time() + _TIMEOUT
        await asyncio.sleep(0.001)  # lets a close by the server come in while nobody typed
        if self._connection is None or not self._connection.usable:
            access = self._access
            self._connection = await CliConnection.connect(
                access.endpoint, access.login, self._password, tls=access.tls, deadline=deadline
            )
        reply = await self._connection.run(line, deadline=deadline)
        if reply.data is None:
            return clean_reason(reply.text) or "OK"
        return _C1.sub(
            lambda found: "".join(f"\\{byte:03d}" for byte in found.group().encode()), render_pretty(reply.value())
        )

    async def close(self) -> None:
        """Say goodbye."""
        if self._connection is not None:
            await self._connection.quit(deadline=asyncio.get_running_loop().time() + 2.0)


def _exit_code(trouble: Trouble) -> int:
    if isinstance(trouble, CliLoginRefused):
        return REFUSED
    if isinstance(trouble, ProtocolTrouble):
        return PROTOCOL
    if isinstance(trouble, SetupTrouble):
        return CONFIGURATION
    return ERROR_REPLY if trouble.code and not isinstance(trouble, SessionsExhausted) else UNAVAILABLE


def _say(text: str) -> None:
    sys.stdout.buffer.write(text.encode("utf-8") + b"\n")
    sys.stdout.buffer.flush()


def _complain(text: str) -> None:
    sys.stderr.write(f"cgcli: {text}\n")


def _typed_lines() -> Iterator[bytes]:
    """Lines from the terminal with a prompt, or from stdin without one."""
    if not sys.stdin.isatty():
        for line in sys.stdin.buffer:
            yield line.rstrip(b"\r\n")
        return
    with contextlib.suppress(ImportError):  # a Python built without it still has a plain prompt
        import readline  # noqa: F401, PLC0415  # editing and history of input(), wanted at a terminal only
    while True:
        try:
            yield os.fsencode(input("cgcli> "))
        except EOFError:
            _say("")
            return


def _converse(runner: asyncio.Runner, session: _Session) -> int:
    """Run typed lines until QUIT or the end; the last code that was not 0, else 0."""
    code = DONE
    for line in _typed_lines():
        if not line.strip():
            continue
        if line.strip().upper() in (b"QUIT", b"EXIT"):
            break
        result = _run_one(runner, session, line)
        code = result or code
        if result in (REFUSED, CONFIGURATION):
            break
    return code


def _run_one(runner: asyncio.Runner, session: _Session, line: bytes) -> int:
    try:
        _say(runner.run(session.run(checked_line(line))))
    except Trouble as trouble:
        text = f"{trouble.code} {trouble.text}" if trouble.code else trouble.text
        _complain(text)
        return _exit_code(trouble)
    except ValueError as error:
        _complain(str(error))
        return USAGE
    return DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `cgcli`; the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.config is not None and options.host is not None:
        parser.error("--config and --host exclude each other")
    if options.host is None and options.port is not None:
        parser.error("--port needs --host")
    try:
        access = _access(options, os.environ)
        password = access.password or ask_password(access.login)
    except ValueError as error:
        _complain(str(error))
        return USAGE if options.host is not None else CONFIGURATION
    session = _Session(access, password)
    try:
        with asyncio.Runner() as runner:
            try:
                if options.command:
                    return _run_one(runner, session, b" ".join(os.fsencode(word) for word in options.command))
                return _converse(runner, session)
            finally:
                runner.run(session.close())
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader of our output has left: nothing more to say
        return DONE
    except KeyboardInterrupt:
        return 130  # as shells count an interrupt


if __name__ == "__main__":
    sys.exit(main())
