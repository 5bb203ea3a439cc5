"""Name servers that fail, hang or change: FAILURE for those whose server cannot be named, and for nobody else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from extauth.sandbox.communigate import CommuniGate
from tests.end_to_end.helper_child import (
    Child,
    add_account,
    beginning_with,
    communigate,
    helper,
    imap_server,
    smtp_server,
    write_config,
)
from tests.servers.script import serve

# The name servers of one process: what a file of the test says now, a list of addresses or what getaddrinfo raises.
_NAMES = """
import json, socket, threading
def _ask(host, port, *rest, _real=socket.getaddrinfo, **more):
    told = json.load(open(%r)).get(host)
    if told is None:
        return _real(host, port, *rest, **more)
    if told == "hang":
        threading.Event().wait()
    if isinstance(told, str):
        raise socket.gaierror(getattr(socket, told), told)
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0)) for address in told]
socket.getaddrinfo = _ask
"""
HERE = ["127.0.0.1"]


class Names:
    """What the name servers of the helper say."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "names"
        self.tell({})
        self.environ = beginning_with(_NAMES % str(self._file), directory)

    def tell(self, names: dict[str, str | list[str]]) -> None:
        """From now on."""
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(names))
        new.replace(self._file)


@asynccontextmanager
async def site(
    directory: Path, names: Names, deadline: str = "5s", cli: str = "127.0.0.1"
) -> AsyncIterator[tuple[Child, CommuniGate]]:
    """A helper with d.test, whose servers are addresses, and named.test, whose are old.named.test."""
    imap, smtp = imap_server({b"right": b"OK in"}), smtp_server({b"known": b"250 fine"})
    async with communigate() as server, serve(imap) as old, serve(smtp) as mail:
        server.add_domain("named.test")
        for number in range(4):
            add_account(server, f"u{number}@d.test")
            add_account(server, f"u{number}@named.test")
        config = write_config(
            directory, cli=server.cli.port, imap=old.port, smtp=mail.port, helper=f'deadline = "{deadline}"'
        )
        text = config.read_text().replace(f"127.0.0.1:{server.cli.port}", f"{cli}:{server.cli.port}")
        named = f'imap = "imap://old.named.test:{old.port}"\nsmtp = "old.named.test:{mail.port}"\n'
        config.write_text(f'{text}[domains."named.test"]\n{named}')
        async with helper(config, environ=names.environ) as child:
            yield child, server


@pytest.mark.parametrize("trouble", ["EAI_AGAIN", "EAI_NONAME", "EAI_FAIL", "EAI_SYSTEM", "EAI_MEMORY"])
async def test_a_server_without_a_name_refuses_nobody(tmp_path: Path, trouble: str) -> None:
    """A name that does not exist may exist again when the name server's file is mended: LATER, as for any trouble."""
    names = Names(tmp_path)
    names.tell({"old.named.test": trouble})
    async with site(tmp_path, names) as (child, _server):
        for number, line in enumerate((b"VRFY u0@named.test right", b"VRFY u1@named.test no", b"NEW known@named.test")):
            assert (await child.ask(b"%d %b" % (number, line))).startswith(b"FAILURE"), line
        assert await child.ask(b"10 VRFY u0@d.test right") == b"OK"
        names.tell({"old.named.test": HERE})
        assert await child.ask(b"11 VRFY u0@named.test right") == b"OK"
        assert (await child.ask(b"12 VRFY u1@named.test no")).startswith(b"ERROR")
        assert await child.ask(b"13 NEW known@named.test") == b"OK"
        assert (await child.ask(b"14 NEW gone@named.test")).startswith(b"ERROR")


async def test_a_lookup_that_hangs_delays_no_other_domain(tmp_path: Path) -> None:
    """Those who wait for it get FAILURE by their deadline, and the helper ends as it should."""
    names = Names(tmp_path)
    names.tell({"old.named.test": "hang"})
    async with site(tmp_path, names, deadline="2s") as (child, _server):
        await child.send(b"".join(b"%d VRFY u%d@named.test right\n" % (n, n) for n in range(300)))
        assert await child.ask(b"1000 VRFY u0@d.test right") == b"OK"
        assert await child.ask(b"1001 NEW known@d.test") == b"OK"
        assert not [number for number in child.replies if int(number) < 300]
        for number in range(300):
            assert (await child.reply(number)).startswith(b"FAILURE")
        assert await child.end() == 0


async def test_a_name_with_a_dead_address_before_the_one_that_answers(tmp_path: Path) -> None:
    names = Names(tmp_path)
    names.tell({"old.named.test": ["127.7.7.7", *HERE]})
    async with site(tmp_path, names) as (child, _server):
        assert await child.ask(b"1 VRFY u0@named.test right") == b"OK"
        names.tell({"old.named.test": "EAI_AGAIN"})  # what was found before still counts
        assert await child.ask(b"2 VRFY u1@named.test right") == b"OK"
        assert await child.ask(b"3 NEW known@named.test") == b"OK"


@pytest.mark.parametrize("trouble", ["EAI_AGAIN", "EAI_NONAME", "hang"])
async def test_communigate_without_a_name_costs_nobody_the_login(tmp_path: Path, trouble: str) -> None:
    """The password is taken over when it can be found again."""
    names = Names(tmp_path)
    names.tell({"cli.named.test": trouble})
    async with site(tmp_path, names, deadline="2s", cli="cli.named.test") as (child, server):
        assert await child.ask(b"1 VRFY u0@d.test right") == b"OK"
        assert (await child.ask(b"2 VRFY u1@d.test wrong")).startswith(b"ERROR")
        account = server.account("u0@d.test")
        assert account is not None
        assert not account.option("UseAppPassword")
        if trouble != "hang":  # that thread is lost until its name server answers
            names.tell({"cli.named.test": HERE})
            assert await child.ask(b"3 VRFY u0@d.test right") == b"OK"
            assert account.accepts(b"right")
