"""Our own CLI client and the simulated CLI agree on every typed command, in INLINE sessions and over the pool."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from cli_client.commands import Cli
from cli_client.errors import AlreadyExists, CliRefused, CliTemporary, NoSuchAccount, NoSuchDomain, UnknownCommand
from cli_client.format import Value
from cli_client.pool import CliPool
from extauth.sandbox.communigate import CommuniGate
from wire.endpoint import Endpoint
from wire.secret import Secret

ODD = 'x";UseExtPassword=YES;Z="\\ #1234 ü'


@pytest.fixture
async def communigate() -> AsyncIterator[CommuniGate]:
    server = CommuniGate("main.test")
    server.add_domain("other.test")
    await server.cli.start()
    yield server
    await server.cli.close()


@pytest.fixture
async def cli(communigate: CommuniGate) -> AsyncIterator[Cli]:
    endpoint = Endpoint("cli", "127.0.0.1", communigate.cli.port)
    pool = CliPool(endpoint, "postmaster", Secret(b"sandbox admin"), size=2)
    yield Cli(pool)
    await pool.close()


async def test_accounts(communigate: CommuniGate, cli: Cli) -> None:
    await cli.create_account("ann@other.test", {"RealName": "Ann"}, kind="MultiMailbox", external=True)
    with pytest.raises(AlreadyExists):
        await cli.create_account("ann@other.test")
    with pytest.raises(NoSuchDomain):
        await cli.create_account("ann@unknown.test")
    await cli.update_account_settings("ann@other.test", {"Password": Secret(ODD.encode()), "UseAppPassword": "YES"})
    settings = await cli.get_account_settings("ann@other.test")
    assert settings == {"UseAppPassword": "YES", "UseExtPassword": "YES", "RealName": "Ann", "Password": ODD}
    assert await cli.verify_account_password("ann@other.test", Secret(ODD.encode())) is True
    assert await cli.verify_account_password("ann@other.test", Secret(b"wrong")) is False
    await cli.set_account_password("ann@other.test", Secret(b"plain"))
    assert (await cli.get_account_effective_settings("ann@other.test"))["AccessModes"] == "All"
    assert await cli.get_account_rights("postmaster") == ["Master"]
    communigate.cli.rights = False
    with pytest.raises(UnknownCommand):
        await cli.get_account_rights("postmaster")
    await cli.set_account_aliases("ann@other.test", ["anna", "annie"])
    assert await cli.get_account_aliases("annie@other.test") == ["anna", "annie"]
    await cli.post_account_alert("ann@other.test", "ALERT")
    await cli.kill_account_sessions("ann@other.test")
    with pytest.raises(NoSuchAccount):
        await cli.get_account_settings("nobody@other.test")
    account = communigate.account("ann@other.test")
    assert account is not None
    assert (account.alerts, account.external) == (["ALERT"], True)


async def test_other_objects_and_domains(communigate: CommuniGate, cli: Cli) -> None:
    await cli.create_forwarder("fwd@other.test", "a@elsewhere.test")
    assert await cli.find_forwarders("other.test", "a@elsewhere.test") == ["fwd"]
    await cli.create_group("team@other.test", {"RealName": "Team"})
    assert await cli.list_domains() == ["main.test", "other.test"]
    assert list(await cli.list_accounts("main.test")) == ["postmaster"]
    await cli.create_account("to@other.test")
    page = await cli.list_domain_objects("other.test", 10, kinds=("ACCOUNTS", "FORWARDERS", "GROUPS"))
    assert set(page.objects) == {"fwd", "team", "to"}
    assert await cli.route("to@other.test") == ["LOCAL", "to@other.test", ""]
    assert (await cli.get_domain_effective_settings("other.test"))["ExternalOnUnknown"] == "YES"
    await cli.update_domain_settings("main.test", {"ExternalOnUnknown": "YES"})
    assert await cli.get_domain_settings("main.test") == {"ExternalOnUnknown": "YES"}
    await cli.update_account_template("main.test", {"UseExtPassword": "YES"})
    assert await cli.get_account_template("main.test") == {"UseExtPassword": "YES"}
    assert await cli.get_account_default_prefs("main.test") == {}
    program: dict[str, Value] = {"Enabled": "YES", "ProgramName": "/usr/bin/extauth-helper", "Timeout": 20}
    await cli.update_server_settings({"ExternalAUTH": program})
    assert (await cli.get_server_settings())["ExternalAUTH"] == program
    await cli.write_log(2, 'a "line"')
    assert communigate.log == [("2", 'a "line"')]


async def test_mailboxes(communigate: CommuniGate, cli: Cli) -> None:
    await cli.create_account("ann")
    await cli.create_mailbox("ann", "CLASS")
    await cli.create_mailbox("ann", "Entwürfe/x y")
    assert set(await cli.list_mailboxes("ann")) == {"INBOX", "CLASS", "Entwürfe", "Entwürfe/x y"}
    await cli.set_mailbox_acl("ann", "Entwürfe", {"bob": "lrs", "anyone": "l"})
    await cli.set_mailbox_class("ann", "CLASS", "calendar")
    await cli.set_account_subscription("ann", ["INBOX", "Entwürfe"])
    assert await cli.get_account_subscription("ann") == ["INBOX", "Entwürfe"]
    account = communigate.account("ann")
    assert account is not None
    assert account.store.get(b"Entw&APw-rfe").acl == {"bob": "lrs", "anyone": "l"}
    assert account.store.get(b"CLASS").kind == "calendar"
    with pytest.raises(CliRefused):
        await cli.create_mailbox("ann", ".hidden")


@pytest.mark.parametrize("reply", [b"551 in transition", b"555 account in use", b"558 flow control"])
async def test_faults_reach_the_client_as_what_they_mean(communigate: CommuniGate, cli: Cli, reply: bytes) -> None:
    communigate.faults.reply("UpdateAccountSettings", reply)
    with pytest.raises(CliTemporary):
        await cli.update_account_settings("postmaster", {"RealName": "x"})
    await cli.update_account_settings("postmaster", {"RealName": "x"})
    assert communigate.cli.verbs() == ["updateaccountsettings"]


async def test_the_client_survives_idle_closed_sessions(communigate: CommuniGate, cli: Cli) -> None:
    await cli.list_domains()
    communigate.cli.listener.drop_all()
    assert await cli.list_domains() == ["main.test", "other.test"]
    assert communigate.cli.logins == 2
