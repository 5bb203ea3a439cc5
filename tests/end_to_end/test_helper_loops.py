"""Servers that accept every address, rosters, and questions that come back to us, through the whole helper."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from extauth.__main__ import main
from migrator.ledger.probes import Probes
from migrator.ledger.store import Store
from migrator.status import read_status
from tests.end_to_end.helper_child import (
    DOMAIN,
    NOWHERE,
    add_account,
    communigate,
    helper,
    smtp_server,
    write_config,
)
from tests.servers.relay import relay_to
from tests.servers.script import Play, Talk, serve

USER = f"u@{DOMAIN}"
YES, NO, LATER = b"OK", b"ERROR ", b"FAILURE "
HERE = {b"<postmaster@": b"250 here", b"<u@": b"250 here"}


async def test_new_by_roster_and_refuse(tmp_path: Path) -> None:
    """Without asking any old server."""
    (tmp_path / "roster").write_text("u\n# a comment\nme@d.test\n")
    async with communigate() as server:
        config = write_config(tmp_path, cli=server.cli.port, domain='new = "roster"\nroster = "roster"')
        async with helper(config) as child:
            assert await child.ask(b"1 NEW U@d.test") == YES
            assert await child.ask(b"2 NEW me@d.test") == YES
            assert (await child.ask(b"3 NEW other@d.test")).startswith(NO)
        config = write_config(tmp_path, cli=server.cli.port, domain='new = "refuse"')
        async with helper(config) as child:
            assert await child.ask(b"1 NEW u@d.test") == YES  # it exists by now
            assert (await child.ask(b"2 NEW other@d.test")).startswith(NO)


async def test_a_roster_that_does_not_tell_refuses_nobody(tmp_path: Path) -> None:
    """Missing or broken: FAILURE with a loud line, for its own domain alone; a change counts at once."""
    roster = tmp_path / "roster"
    async with communigate() as server, serve(smtp_server(HERE)) as old:
        config = write_config(tmp_path, cli=server.cli.port, domain='new = "roster"\nroster = "roster"')
        with config.open("a") as file:
            file.write(f'[domains."e.test"]\nsmtp = "127.0.0.1:{old.port}"\nimap = "127.0.0.1:{NOWHERE}"\n')
        server.add_domain("e.test")
        async with helper(config) as child:
            assert (await child.ask(b"1 NEW u@d.test")).startswith(LATER)
            await child.told(b"cannot be read")
            assert await child.ask(b"2 NEW u@e.test") == YES
            roster.write_text("v\ntwo words\n")
            number = 100
            while (await child.ask(b"%d NEW v@d.test" % number)) != YES:
                number += 1
            assert (await child.ask(b"3 NEW u@d.test")).startswith(LATER)
        assert main(["check-config", "--config", str(config)]) == 78


async def test_a_listed_user_is_known_whatever_the_old_server_says_of_strangers(tmp_path: Path) -> None:
    """Unclear or down: whoever is in the roster is made; the others wait."""
    (tmp_path / "roster").write_text("u\n")
    async with communigate() as server:
        domain = 'accept_all = "roster"\nroster = "roster"'
        config = write_config(tmp_path, cli=server.cli.port, domain=domain)
        async with helper(config) as child:
            assert await child.ask(b"1 NEW u@d.test") == YES
            assert (await child.ask(b"2 NEW v@d.test")).startswith(LATER)


EVERYTHING: Play = smtp_server({b"@": b"250 yes"})


async def test_accept_all_create(tmp_path: Path) -> None:
    """As the guide does, and the operator is told."""
    async with (
        communigate() as server,
        serve(EVERYTHING, refuses_strangers=False) as old,
        helper(write_config(tmp_path, cli=server.cli.port, smtp=old.port)) as child,
    ):
        assert await child.ask(b"1 NEW u@d.test") == YES
        await child.told(b"accepts every address")


@pytest.mark.parametrize("listed", [True, False])
async def test_accept_all_roster(tmp_path: Path, listed: bool) -> None:
    """The roster decides where the old server proves nothing."""
    (tmp_path / "roster").write_text("u@d.test\n" if listed else "other@d.test\n")
    async with communigate() as server, serve(EVERYTHING, refuses_strangers=False) as old:
        domain = 'accept_all = "roster"\nroster = "roster"'
        config = write_config(tmp_path, cli=server.cli.port, smtp=old.port, domain=domain)
        async with helper(config) as child:
            answer = await child.ask(b"1 NEW u@d.test")
        assert answer == YES if listed else answer.startswith(NO)


async def test_accept_all_route_and_refuse(tmp_path: Path) -> None:
    """Mail goes on to the old server, by its address; or nothing is accepted. Existing accounts stay OK."""
    async with communigate() as server, serve(EVERYTHING, refuses_strangers=False) as old:
        add_account(server, f"here@{DOMAIN}")
        config = write_config(tmp_path, cli=server.cli.port, smtp=old.port, domain='accept_all = "route"')
        async with helper(config) as child:
            assert await child.ask(b"1 NEW u@d.test") == b"ROUTED u%%d.test@[127.0.0.1].%d._via" % old.port
            assert await child.ask(b"2 NEW here@d.test") == YES
        config = write_config(tmp_path, cli=server.cli.port, smtp=old.port, domain='accept_all = "refuse"')
        async with helper(config) as child:
            assert (await child.ask(b"1 NEW u@d.test")).startswith(NO)
            assert await child.ask(b"2 NEW here@d.test") == YES
        assert sorted(server.directory.domain(DOMAIN).accounts) == ["here"]


async def test_accept_all_create_is_limited(tmp_path: Path) -> None:
    """So many accounts on the word of such a server; mail for the others waits, logins have a share of their own."""
    async with communigate() as server, serve(EVERYTHING, refuses_strangers=False) as old:
        config = write_config(tmp_path, cli=server.cli.port, smtp=old.port, domain='create_limit = "3/1h"')
        async with helper(config) as child:
            for number in range(3):
                assert await child.ask(b"%d NEW u%d@d.test (SMTP) [192.0.2.1]" % (number, number)) == YES
            assert (await child.ask(b"10 NEW u10@d.test (SMTP) [192.0.2.1]")).startswith(LATER)
            assert (await child.ask(b"11 NEW u11@d.test")).startswith(LATER)
            assert await child.ask(b"12 NEW u0@d.test") == YES, "it exists"
            assert await child.ask(b"13 NEW u13@d.test (IMAP) [192.0.2.1]") == YES
            await child.told(b"3 accounts of d.test were made in 60 minutes")
            assert await child.end() == 0
        async with helper(config) as child:
            assert (await child.ask(b"20 NEW u20@d.test (SMTP)")).startswith(LATER), "a restart forgets nothing"
        assert sorted(server.directory.domain(DOMAIN).accounts) == ["u0", "u1", "u13", "u2"]
    store = Store(tmp_path / "state" / "state.db")
    status = await read_status(store)
    await store.close()
    assert status.unproven == 4


async def test_accept_all_route_sends_nothing_back_to_where_it_came_from(tmp_path: Path) -> None:
    """Mail that the old server hands over would come back for ever."""
    async with communigate() as server, serve(EVERYTHING, refuses_strangers=False) as old:
        relay = await asyncio.start_server(relay_to(old.port), "127.0.0.2", 0)
        port = relay.sockets[0].getsockname()[1]
        config = write_config(tmp_path, cli=server.cli.port, smtp=port, domain='accept_all = "route"')
        config.write_text(config.read_text().replace(f'smtp = "127.0.0.1:{port}"', f'smtp = "127.0.0.2:{port}"'))
        async with helper(config) as child:
            routed = b"ROUTED u%%d.test@[127.0.0.2].%d._via" % port
            assert await child.ask(b"1 NEW u@d.test (SMTP) [192.0.2.1]") == routed
            assert (await child.ask(b"2 NEW u@d.test (SMTP) [127.0.0.2]")).startswith(LATER)
            await child.told(b"not routed back")
        relay.close()


async def test_forget_makes_a_running_helper_ask_again(tmp_path: Path) -> None:
    """What it knew is in the ledger alone."""
    async with communigate() as server, serve(smtp_server({})) as old:
        config = write_config(tmp_path, cli=server.cli.port, smtp=old.port)
        async with helper(config) as child:
            assert (await child.ask(b"1 NEW u@d.test")).startswith(NO)
            assert (await child.ask(b"2 NEW u@d.test")).startswith(NO)
            assert sum(b"<u@" in line for line in old.lines) == 1
            store = Store(tmp_path / "state" / "state.db")
            async with asyncio.timeout(20):
                while await Probes(store, 1000).load(USER, f"smtp://127.0.0.1:{old.port}") is None:
                    pass  # it is written down a moment after the answer
            await store.close()
            assert await asyncio.to_thread(main, ["forget", "U@d.test", "--config", str(config)]) == 0
            assert (await child.ask(b"3 NEW u@d.test")).startswith(NO)
            assert sum(b"<u@" in line for line in old.lines) == 2


async def test_random_recipient_is_asked_about_once(tmp_path: Path) -> None:
    """For one domain, not for one request; a server that refuses it is believed."""
    async with communigate() as server, serve(smtp_server({b"<u": b"250 yes"}), refuses_strangers=False) as old:
        config = write_config(tmp_path, cli=server.cli.port, smtp=old.port, domain='accept_all = "refuse"')
        async with helper(config) as child:
            await child.send(b"".join(b"%d NEW u%d@d.test\n" % (n, n) for n in range(20)))
            for number in range(20):
                assert await child.reply(number) == YES
        asked = [line for line in old.lines if line.startswith(b"RCPT") and not line.startswith(b"RCPT TO:<u")]
        assert len(asked) == 2, "two names of different shapes"
        assert all(line.startswith(b"RCPT TO:<nobody") for line in asked)


async def test_unclear_random_recipient_is_failure(tmp_path: Path) -> None:
    """Where the answer decides, it is waited for."""
    async with communigate() as server, serve(smtp_server(HERE, default=b"450 later"), refuses_strangers=False) as old:
        config = write_config(tmp_path, cli=server.cli.port, smtp=old.port, domain='accept_all = "route"')
        async with helper(config) as child:
            assert (await child.ask(b"1 NEW u@d.test")).startswith(LATER)
        assert server.account(USER) is None


async def test_our_own_question_that_comes_back_is_answered_at_once(tmp_path: Path) -> None:
    """The old server asks CommuniGate about the recipient that we ask it about."""
    go, asked = asyncio.Event(), asyncio.Event()

    async def play(talk: Talk) -> None:
        await talk.send(b"220 old\r\n")
        while not (await talk.line()).startswith(b"RCPT TO:<u@"):
            await talk.send(b"250 fine\r\n")
        asked.set()
        await go.wait()
        while True:
            await talk.send(b"250 fine\r\n")
            await talk.line()

    async with communigate() as server, serve(play) as old:
        relay = await asyncio.start_server(relay_to(old.port), "127.0.0.2", 0)
        port = relay.sockets[0].getsockname()[1]
        config = write_config(tmp_path, cli=server.cli.port, smtp=port)
        config.write_text(config.read_text().replace(f'smtp = "127.0.0.1:{port}"', f'smtp = "127.0.0.2:{port}"'))
        async with helper(config) as child:
            await child.send(b"1 NEW u@d.test (SMTP) [192.0.2.1]\n")
            await asked.wait()
            assert (await child.ask(b"2 NEW u@d.test (SMTP) [127.0.0.2]")).startswith(LATER)
            await child.told(b"127.0.0.2 asks us")
            await child.send(b"3 NEW u@d.test (SMTP) [192.0.2.2]\n")
            go.set()
            assert await child.reply(1) == YES
            assert await child.reply(3) == YES
            assert await child.ask(b"4 NEW u@d.test (SMTP) [127.0.0.2]") == YES  # nothing is under way any more
        relay.close()


async def test_old_server_that_is_communigate_itself(tmp_path: Path) -> None:
    """Host and port are those of CommuniGate's own SMTP listener."""
    async with communigate() as server, serve(EVERYTHING, refuses_strangers=False) as old:
        config = write_config(tmp_path, cli=server.cli.port, smtp=old.port)
        text = config.read_text().replace(f'smtp = "127.0.0.1:{NOWHERE}"', f'smtp = "127.0.0.1:{old.port}"')
        config.write_text(text)
        async with helper(config) as child:
            assert (await child.ask(b"1 NEW u@d.test")).startswith(LATER)
            await child.told(b"CommuniGate itself")
        assert server.account(USER) is None
