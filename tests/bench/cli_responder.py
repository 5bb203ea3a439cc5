"""A CLI (PWD) server that does as little as it can, so that a bench measures the helper and not its peer.

It logs everybody in, knows accounts by name, keeps their settings as text and checks nothing. Runs in
a process of its own: `python -m tests.bench.cli_responder [--accounts FILE]` prints its port and serves
until its stdin ends. A line on stdin forgets all accounts and presets those of FILE again.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import cast

import uvloop

_NAME = re.compile(rb'\s+(?:"((?:[^"\\]|\\.)*)"|(\S+))')
_SETTING = re.compile(rb'(\w+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*);')
_EXTERNAL = {b"UseAppPassword": b"NO", b"UseExtPassword": b"YES"}


class Accounts:
    """What the responder remembers: settings by account name."""

    def __init__(self, preset: Path | None) -> None:
        self._preset = preset
        self.settings: dict[bytes, dict[bytes, bytes]] = {}
        self.commands: dict[bytes, int] = {}
        self.forget()

    def forget(self) -> None:
        """Back to the preset accounts, all on external authentication."""
        names = self._preset.read_bytes().split() if self._preset is not None else []
        self.settings = {name: dict(_EXTERNAL) for name in names}

    def answer(self, line: bytes) -> bytes:
        """The reply to one command line."""
        keyword, _, rest = line.partition(b" ")
        keyword = keyword.upper()
        self.commands[keyword] = self.commands.get(keyword, 0) + 1
        match keyword:
            case b"USER":
                return b"300 more expected"
            case b"PASS" | b"APOP" | b"INLINE" | b"WRITELOG" | b"NOOP" | b"QUIT":
                return b"200 OK"
        found = _NAME.match(b" " + rest)
        if found is None:
            return b"500 unknown command"
        name = (found[1] or found[2] or b"").lower()
        return self._account_command(keyword, name, rest[found.end() - 1 :])

    def _account_command(self, keyword: bytes, name: bytes, rest: bytes) -> bytes:
        settings = self.settings.get(name)
        if keyword == b"CREATEACCOUNT":
            if settings is not None:
                return b"520 account with this name already exists"
            self.settings[name] = dict(_SETTING.findall(rest))
            return b"200 OK"
        if settings is None:
            return b"513 unknown user account"
        match keyword:
            case b"GETACCOUNTSETTINGS" | b"GETACCOUNTEFFECTIVESETTINGS":
                return b"201 {" + b"".join(b"%s=%s;" % item for item in settings.items()) + b"}"
            case b"GETACCOUNTRIGHTS" | b"GETACCOUNTALIASES":
                return b"201 ()"
            case b"UPDATEACCOUNTSETTINGS":
                settings.update(_SETTING.findall(rest))
                return b"200 OK"
            case b"VERIFYACCOUNTPASSWORD":
                given = rest.strip().partition(b" ")[2].strip()
                return b"200 OK" if settings.get(b"Password") == given else b"515 incorrect password"
        return b"500 unknown command"


class _Session(asyncio.Protocol):
    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of asyncio's
        self._transport.write(b"200 CommuniGate Pro PWD Server 5.2 ready <1.1@new.test>\r\n")

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        answers = [self._accounts.answer(line.strip()) for line in lines]
        if answers:
            self._transport.write(b"\r\n".join(answers) + b"\r\n")


async def _serve(accounts: Accounts) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Session(accounts), "127.0.0.1", 0)
    ended = loop.create_future()

    def control() -> None:
        if os.read(0, 4096):
            print(sum(accounts.commands.values()), len(accounts.settings), flush=True)
            accounts.commands.clear()
            accounts.forget()
        elif not ended.done():
            ended.set_result(None)

    loop.add_reader(0, control)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await ended


def main() -> None:
    """Print the port, serve until stdin ends."""
    preset = Path(sys.argv[2]) if "--accounts" in sys.argv else None
    uvloop.run(_serve(Accounts(preset)))


if __name__ == "__main__":
    main()
