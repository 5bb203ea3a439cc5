"""Wrong passwords through the whole helper: the old server is spared, users are not refused, `forget` helps at once."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.end_to_end.helper_child import DOMAIN, add_account, communigate, helper, imap_server, write_config
from tests.servers.script import ScriptServer, serve

USER = f"u@{DOMAIN}"
YES, NO, LATER = b"OK", b"ERROR ", b"FAILURE "
OLD = imap_server(
    {b'LOGIN "u" "right"': b"OK in", b'LOGIN "v" "right"': b"OK in", b"unwell": b"NO [UNAVAILABLE] later"}
)


def config(directory: Path, cli: int, old: ScriptServer, limits: str) -> Path:
    """With a pause too short to be noticed."""
    return write_config(directory, cli=cli, imap=old.port, helper=f'[limits]\nslow_down = "1ms"\n{limits}')


def asked(old: ScriptServer) -> list[bytes]:
    """The passwords that the old server saw, but for those of nobody."""
    return [line.split()[-1].strip(b'"') for line in old.lines if b"LOGIN" in line and b"nobody" not in line]


def everything_below(directory: Path) -> list[bytes]:
    """The content of every file."""
    return [file.read_bytes() for file in directory.rglob("*") if file.is_file()]


async def forget(config: Path, name: str) -> bytes:
    """`extauth forget`, as an administrator runs it beside the helper."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "extauth", "forget", name, "--config", str(config), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output


async def test_a_client_with_an_old_password_reaches_the_old_server_once(tmp_path: Path) -> None:
    """ERROR each time; until an administrator says forget, in a helper that runs."""
    async with communigate() as server, serve(OLD) as old:
        add_account(server, USER)
        path = config(tmp_path, server.cli.port, old, "")
        async with helper(path) as child:
            for number in range(5):
                assert (await child.ask(b"%d VRFY (IMAP) u@d.test Falsch-8 [192.0.2.1]" % number)).startswith(NO)
            assert asked(old) == [b"Falsch-8"]
            assert (await child.ask(b"10 VRFY (IMAP) u@d.test Falsch-8 [192.0.2.2]")).startswith(NO)
            assert asked(old) == [b"Falsch-8"] * 2, "what another client sends is another matter"
            assert b"wrong passwords forgotten" in await forget(path, USER)
            assert (await child.ask(b"11 VRFY (IMAP) u@d.test Falsch-8 [192.0.2.1]")).startswith(NO)
            assert asked(old) == [b"Falsch-8"] * 3
            assert await child.ask(b"12 VRFY (IMAP) u@d.test right [192.0.2.1]") == YES
            assert await child.end() == 0
    assert not any(b"Falsch-8" in content for content in everything_below(tmp_path))


async def test_unclear_answers_are_never_held_against_anybody(tmp_path: Path) -> None:
    """A hundred of them, and the old server is asked each time."""
    async with communigate() as server, serve(OLD) as old:
        add_account(server, USER)
        async with helper(config(tmp_path, server.cli.port, old, 'wrong_per_account = "2/10m"')) as child:
            for number in range(10):
                assert (await child.ask(b"%d VRFY u@d.test unwell [192.0.2.1]" % number)).startswith(LATER)
            assert len(asked(old)) == 10
            assert await child.ask(b"99 VRFY u@d.test right [192.0.2.1]") == YES


async def test_an_attacker_gets_failure_and_the_user_gets_in(tmp_path: Path) -> None:
    """From elsewhere at once; from the attacker's own address after `extauth forget`; one line says it."""
    async with communigate() as server, serve(OLD) as old:
        add_account(server, USER)
        add_account(server, f"v@{DOMAIN}")
        path = config(tmp_path, server.cli.port, old, 'wrong_per_account = "3/1h"\nwrong_per_client = "5/1h"')
        async with helper(path) as child:
            replies = [await child.ask(b"%d VRFY u@d.test guess%d [192.0.2.66]" % (n, n)) for n in range(6)]
            assert [reply.split()[0] for reply in replies] == [b"ERROR"] * 3 + [b"FAILURE"] * 3
            assert len(asked(old)) == 3
            assert (await child.ask(b"10 VRFY u@d.test right [192.0.2.66]")).startswith(LATER), "it may be right"
            assert await child.ask(b"11 VRFY u@d.test right [192.0.2.1]") == YES
            for number in (12, 13):
                assert (await child.ask(b"%d VRFY v@d.test bad%d [192.0.2.66]" % (number, number))).startswith(NO)
            assert (await child.ask(b"14 VRFY v@d.test right [192.0.2.66]")).startswith(LATER)
            await forget(path, "192.0.2.66")
            assert await child.ask(b"15 VRFY v@d.test right [192.0.2.66]") == YES
            assert await child.end() == 0
        assert sum(b"too many wrong" in line for line in child.information) == 1
        assert not any(b"guess" in line for line in child.information)


async def test_a_webmail_host_is_never_refused(tmp_path: Path) -> None:
    """Nor is CommuniGate's own address, nor a client that is not told."""
    async with communigate() as server, serve(OLD) as old:
        add_account(server, USER)
        limits = 'wrong_per_account = "2/1h"\nwrong_per_client = "2/1h"\nshared = ["192.0.2.0/28"]'
        async with helper(config(tmp_path, server.cli.port, old, limits)) as child:
            number = 0
            for client in (b" [192.0.2.10]", b" [127.0.0.1]", b""):
                for _ in range(5):
                    number += 1
                    assert (await child.ask(b"%d VRFY u@d.test no%d%b" % (number, number, client))).startswith(NO)
            assert await child.ask(b"99 VRFY u@d.test right") == YES


async def test_guesses_at_once_are_counted_as_if_they_came_one_by_one(tmp_path: Path) -> None:
    """However fast they come, the old server sees no more than the limit."""
    async with communigate() as server, serve(OLD) as old:
        add_account(server, USER)
        async with helper(config(tmp_path, server.cli.port, old, 'wrong_per_account = "4/1h"')) as child:
            lines = b"".join(b"%d VRFY u@d.test guess%d [192.0.2.66]\n" % (number, number) for number in range(40))
            await child.send(lines)
            words = [(await child.reply(number)).split()[0] for number in range(40)]
            assert words.count(b"ERROR") == 5, "four, and one more as the client was not known as an attacker yet"
            assert words.count(b"FAILURE") == 35
            assert len(asked(old)) == 5
