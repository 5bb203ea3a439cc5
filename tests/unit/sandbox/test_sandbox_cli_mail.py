"""Our CLI client and the simulated CLI agree on the commands about where mail goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cli_client.connection import CliConnection
from cli_client.errors import AlreadyExists, CliRefused, NoSuchAccount
from cli_client.format import Value
from cli_client.mail_commands import MailCli
from cli_client.pool import CliPool
from extauth.sandbox.communigate import CommuniGate
from tests.servers.script import serve, transcript
from wire.endpoint import Endpoint
from wire.outcome import ProtocolTrouble
from wire.secret import Secret


@pytest.fixture
async def cli() -> AsyncIterator[MailCli]:
    server = CommuniGate("main.test")
    server.directory.create_account("ann@main.test")
    await server.cli.start()
    pool = CliPool(Endpoint("cli", "127.0.0.1", server.cli.port), "postmaster", Secret(b"sandbox admin"), size=2)
    yield MailCli(pool)
    await pool.close()
    await server.cli.close()


async def test_forwarders_and_groups(cli: MailCli) -> None:
    """Made, read, replaced; a name has one owner."""
    await cli.create_forwarder("sales@main.test", "shop@other.test")
    assert await cli.get_forwarder("sales@main.test") == "shop@other.test"
    with pytest.raises(CliRefused):
        await cli.get_forwarder("nobody@main.test")
    await cli.create_group("all@main.test", {"Members": ["ann", "x@y.test"]})
    assert (await cli.get_group("all@main.test"))["Members"] == ["ann", "x@y.test"]
    await cli.set_group("all@main.test", {"Members": ["ann"]})
    assert (await cli.get_group("all@main.test"))["Members"] == ["ann"]
    with pytest.raises(AlreadyExists) as taken:
        await cli.create_group("sales@main.test")
    assert taken.value.kind == "forwarder"
    with pytest.raises(CliRefused):
        await cli.get_group("sales@main.test")


async def test_lists(cli: MailCli) -> None:
    """A list has an owner that exists, and its subscribers are read back."""
    with pytest.raises(NoSuchAccount):
        await cli.create_list("news@main.test", "nobody")
    await cli.create_list("news@main.test", "ann")
    assert (await cli.get_list("news@main.test"))["Owner"] == "ann"
    await cli.subscribe("news@main.test", "x@y.test")
    await cli.subscribe("news@main.test", "ann@main.test")
    assert await cli.list_subscribers("news@main.test") == ["x@y.test", "ann@main.test"]
    with pytest.raises(CliRefused):
        await cli.get_list("olds@main.test")


async def test_rules(cli: MailCli) -> None:
    """A rule is added beside those that are there."""
    first: list[Value] = [5, "Mine", [["Subject", "is", "*x*"]], [["Store in", "X"], ["Discard", "---"]]]
    second: list[Value] = [1, "#Redirect", [], [["Mirror to", "x@y.test"]]]
    await cli.set_account_mail_rules("ann", [first])
    await cli.add_account_mail_rule("ann", second)
    assert await cli.get_account_mail_rules("ann") == [first, second]
    with pytest.raises(CliRefused):
        await cli.add_account_mail_rule("ann", [1, "bad", [], [[3]]])


async def test_router(cli: MailCli) -> None:
    """The table is lines."""
    assert await cli.get_router_table() == []
    lines = ["; mine \u2028 still mine", "", "<x@main.test> = NULL\r"]
    await cli.set_router_table(lines)
    assert await cli.get_router_table() == lines  # what others wrote stays to the letter
    with pytest.raises(ValueError, match="one line"):
        await cli.set_router_table(["a\nb"])


async def test_servers_without_a_command_for_one_rule_get_all_of_them() -> None:
    """GetAccountMailRules, then SetAccountMailRules."""
    login = [b"200 ready\r\n", b"300 more\r\n", b"200 OK\r\n", b"200 OK\r\n"]
    replies = [b"500 unknown command\r\n", b'201 ((1,"old",(),()))\r\n', b"200 OK\r\n", b'201 "none"\r\n']
    async with serve(transcript([*login, *replies])) as server:
        deadline = asyncio.get_running_loop().time() + 5
        connection = await CliConnection.connect(server.endpoint("cli"), "x", Secret(b"y"), deadline=deadline)
        try:
            await MailCli(connection).add_account_mail_rule("ann", [2, "new", [], []])
            assert server.talks[0][-1] == b'SetAccountMailRules "ann" (("1",old,(),()),(#2,new,(),()))'
            with pytest.raises(ProtocolTrouble):
                await MailCli(connection).get_account_mail_rules("ann")
        finally:
            connection.close()
