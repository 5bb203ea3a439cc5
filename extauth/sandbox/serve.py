"""`extauth sandbox`: both servers in the foreground. One JSON line says where they are; SIGINT or SIGTERM ends it."""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from extauth.sandbox.world import Sandbox

_ADMIN = (b"siteadmin", b"site admin")  # of an old server with PROXYAUTH


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `extauth sandbox`."""
    parser.add_argument(
        "--users", type=int, default=6, metavar="N", help="users of the old server; default: %(default)s"
    )
    parser.add_argument(
        "--messages", type=int, default=20, metavar="N", help="messages in each INBOX; default: %(default)s"
    )
    parser.add_argument(
        "--first-port",
        type=int,
        default=0,
        metavar="N",
        help="six ports from N on, so that a configuration can name them",
    )
    parser.add_argument(
        "--old-manner",
        choices=("ancient", "ancient-peek", "netscape"),
        help="what the old IMAP server is: without BODY.PEEK[] and extensions (RFC822.PEEK only with ancient-peek),"
        " or one with an administrator who may use PROXYAUTH",
    )
    parser.add_argument(
        "--no-multiappend", action="store_true", help="the simulated CommuniGate takes one message with each APPEND"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--helper", metavar="COMMAND", help="run this External Authentication program")
    which.add_argument(
        "--config", type=Path, metavar="FILE", help="run `extauth serve` with this configuration as that program"
    )
    which.add_argument(
        "--own-helper", action="store_true", help="run `extauth serve` with the sandbox's own configuration"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted; 0. `arguments` are those behind `extauth sandbox`."""
    parser = argparse.ArgumentParser(prog="extauth sandbox", description="A simulated CommuniGate and an old server.")
    add_arguments(parser)
    return run(parser.parse_args([] if arguments is None else list(arguments)))


def run(options: argparse.Namespace) -> int:
    """The same with parsed flags."""
    command: list[str] | None = None
    if options.helper:
        command = shlex.split(options.helper)
    elif options.config:
        command = [sys.executable, "-m", "extauth", "serve", "--config", str(options.config)]
    elif options.own_helper:
        command = []
    return asyncio.run(_serve(options, command))


async def _serve(options: argparse.Namespace, command: list[str] | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    sandbox = Sandbox(users=options.users, inbox=options.messages)
    if options.first_port:
        sandbox.fix_ports(options.first_port)
    _set_manners(sandbox, options)
    async with sandbox:
        if command is not None:
            await sandbox.start_helper(command)
        sys.stdout.write(json.dumps(describe(sandbox)) + "\n")
        sys.stdout.flush()
        await stop.wait()
    return 0


def _set_manners(sandbox: Sandbox, options: argparse.Namespace) -> None:
    if options.old_manner == "netscape":
        sandbox.old.admin = _ADMIN
    elif options.old_manner:
        sandbox.old.imap.offer.be_ancient(peeks=options.old_manner == "ancient-peek")
    if options.no_multiappend:
        sandbox.communigate.imap.offer.extensions.discard("MULTIAPPEND")


def describe(sandbox: Sandbox) -> dict[str, object]:
    """Where everything is, for the JSON line. Passwords of a simulation are no secrets.

    `password` has bytes that are not UTF-8 as lone surrogates; `password_base64` has them as they are.
    """
    communigate, old = sandbox.communigate, sandbox.old
    password = str(communigate.admin.settings["Password"])
    return {
        "cli": {
            "host": "127.0.0.1",
            "port": communigate.cli.port,
            "login": communigate.admin.address,
            "password": password,
        },
        "imap": {"host": "127.0.0.1", "port": communigate.imap.port},
        "smtp": {"host": "127.0.0.1", "port": communigate.smtp.port},
        "old": {
            "smtp": {"host": "127.0.0.1", "port": old.smtp.port},
            "imap": {"host": "127.0.0.1", "port": old.imap.port},
            "pop": {"host": "127.0.0.1", "port": old.pop.port},
            "admin": {"login": old.admin[0].decode(), "password": old.admin[1].decode()} if old.admin[0] else None,
            "users": [
                {
                    "address": user.address,
                    "login": user.login.decode("utf-8", "surrogateescape"),
                    "password": user.password.decode("utf-8", "surrogateescape"),
                    "password_base64": base64.b64encode(user.password).decode(),
                    "messages": sum(len(box.messages) for box in user.store),
                }
                for user in sandbox.users
            ],
        },
        "config": str(sandbox.config_path),
        "domains": [domain.name for domain in sandbox.domains],
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
