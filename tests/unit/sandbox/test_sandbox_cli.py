"""The simulated CLI, spoken to in bytes and with our own client."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest

from extauth.sandbox.accounts import Account, Directory
from extauth.sandbox.cli_commands import Commands
from extauth.sandbox.cli_server import CliServer


class Dialogue:
    """Lines to and from one session."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, server: CliServer) -> Dialogue:
        return cls(*await asyncio.open_connection("127.0.0.1", server.port))

    async def line(self) -> bytes:
        return (await self.reader.readline()).removesuffix(b"\r\n")

    async def say(self, command: bytes) -> bytes:
        self.writer.write(command + b"\r\n")
        return await self.line()

    async def log_in(self) -> None:
        await self.line()
        assert await self.say(b"USER postmaster") == b"300 please send the PASS"
        assert await self.say(b"PASS adm in") == b"200 login OK"
        assert await self.say(b"INLINE") == b"200 OK"

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


@pytest.fixture
async def server() -> AsyncIterator[CliServer]:
    directory = Directory("main.test")
    directory.create_account("postmaster", {"Password": "adm in"}).rights = ["Master"]
    directory.create_account("plain", {"Password": "secret"})
    cli = CliServer(Commands(directory))
    await cli.start()
    yield cli
    await cli.close()


@pytest.fixture
async def cli(server: CliServer) -> AsyncIterator[Dialogue]:
    dialogue = await Dialogue.open(server)
    await dialogue.log_in()
    yield dialogue
    await dialogue.close()


def account(server: CliServer, name: str) -> Account:
    return server.commands.directory.account(name)


async def test_greets_with_a_stamp_that_apop_signs(server: CliServer) -> None:
    dialogue = await Dialogue.open(server)
    greeting = await dialogue.line()
    assert greeting.startswith(b"200 ")
    stamp = greeting[greeting.index(b"<") :]
    digest = hashlib.md5(stamp + b"adm in").hexdigest().encode()
    assert await dialogue.say(b"apop postmaster " + digest) == b"200 login OK"
    assert await dialogue.say(b"quit") == b"200 CommuniGate Pro PWD connection closed"
    assert await dialogue.line() == b""
    await dialogue.close()


async def test_without_a_stamp_apop_is_an_unknown_command(server: CliServer) -> None:
    server.apop = False
    dialogue = await Dialogue.open(server)
    assert b"<" not in await dialogue.line()
    assert (await dialogue.say(b"APOP postmaster 0123")).startswith(b"500 ")
    await dialogue.close()


async def test_takes_auth_plain(server: CliServer) -> None:
    dialogue = await Dialogue.open(server)
    await dialogue.line()
    assert await dialogue.say(b"AUTH PLAIN AHBvc3RtYXN0ZXIAYWRtIGlu") == b"200 login OK"
    await dialogue.close()


async def test_user_and_pass_are_read_as_they_stand(server: CliServer) -> None:
    dialogue = await Dialogue.open(server)
    await dialogue.line()
    await dialogue.say(b"USER postmaster")
    assert (await dialogue.say(b'PASS "adm in"')).startswith(b"515 ")
    await dialogue.close()


async def test_refuses_wrong_passwords_and_hangs_up_after_five(server: CliServer) -> None:
    dialogue = await Dialogue.open(server)
    await dialogue.line()
    replies = []
    for _ in range(5):
        await dialogue.say(b"USER postmaster")
        replies.append((await dialogue.say(b"PASS wrong"))[:4])
    assert replies == [b"515 "] * 4 + [b"554 "]
    assert await dialogue.line() == b""
    await dialogue.close()


async def test_commands_need_a_login_with_access_rights(server: CliServer) -> None:
    dialogue = await Dialogue.open(server)
    await dialogue.line()
    assert (await dialogue.say(b"ListDomains")).startswith(b"500 ")
    await dialogue.say(b"USER plain")
    assert await dialogue.say(b"PASS secret") == b"200 login OK"
    assert (await dialogue.say(b"ListDomains")).startswith(b"500 ")
    await dialogue.close()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"NoSuchCommand x", 500),
        (b"CreateAccount plain", 520),
        (b"CREATEACCOUNT Plain {}", 520),
        (b"createaccount new@other.test", 512),
        (b"CreateAccount .new", 525),
        (b'CreateAccount "a b"', 525),
        (b"CreateAccount n {Password=#12;}", 501),
        (b"CreateAccount", 501),
        (b"CreateAccount n {", 501),
        (b"GetAccountSettings nobody", 513),
        (b"VerifyAccountPassword plain PASSWORD wrong", 515),
        (b"VerifyAccountPassword plain PASSWORD secret", 200),
        (b"CreateMailbox plain MAILBOX .hidden", 539),
        (b"CreateMailbox plain MAILBOX INBOX", 501),
        (b"SetAccountAliases postmaster (plain)", 520),
        (b"CreateForwarder plain TO a@b.test", 520),
        (b"Route nobody", 513),
    ],
)
async def test_reply_codes(cli: Dialogue, line: bytes, code: int) -> None:
    assert (await cli.say(line)).startswith(b"%d " % code)


async def test_the_guides_code_for_taken_names(cli: Dialogue, server: CliServer) -> None:
    server.commands.directory.exists_code = 501
    assert await cli.say(b"CreateAccount plain") == b"501 Account with this name already exists"


async def test_account_settings_are_template_then_given_then_updated(cli: Dialogue, server: CliServer) -> None:
    await cli.say(b"UpdateAccountTemplate main.test {UseAppPassword=NO; UseExtPassword=YES;}")
    assert await cli.say(b'CreateAccount New MultiMailbox EXTERNAL {RealName="N N";}') == b"200 OK"
    assert account(server, "new").external
    said = await cli.say(b"GetAccountSettings new@main.test")
    assert said == b'201 {UseAppPassword=NO;UseExtPassword=YES;RealName="N N";}'
    await cli.say(b'UpdateAccountSettings new {Password="a\\"b\\228";UseAppPassword=YES;RealName=default;}')
    assert await cli.say(b"GetAccountSettings new") == (
        b'201 {UseAppPassword=YES;UseExtPassword=YES;Password="a\\"b\\228";}'
    )
    assert account(server, "new").accepts(b'a"b\xe4')
    assert b"UseSysPassword=NO" in await cli.say(b"GetAccountEffectiveSettings new")


async def test_a_refused_update_changes_nothing(cli: Dialogue, server: CliServer) -> None:
    server.commands.directory.password_policy = lambda password: "password is too short" if len(password) < 8 else None
    said = await cli.say(b"UpdateAccountSettings plain {UseExtPassword=YES;Password=short;}")
    assert said == b"501 password is too short"
    assert await cli.say(b"GetAccountSettings plain") == b"201 {Password=secret;}"


async def test_encrypted_passwords_begin_with_002(cli: Dialogue, server: CliServer) -> None:
    stored = b"{NS-MTA-MD5}18c04d74cf2d34f9887c6832582546b88fd9d0a03491ce8f99cfbc9ab39f0dd5"
    assert await cli.say(b'UpdateAccountSettings plain {Password="\\002' + stored + b'";}') == b"200 OK"
    assert await cli.say(b"VerifyAccountPassword plain PASSWORD password") == b"200 OK"
    assert (await cli.say(b"VerifyAccountPassword plain PASSWORD other")).startswith(b"515 ")
    await cli.say(b'SetAccountPassword plain PASSWORD "\\002$1$VlPrB$vNjOAytB3W.j0bkkbaN2Z."')
    assert (await cli.say(b"VerifyAccountPassword plain PASSWORD wrong")).startswith(b"515 ")
    await cli.say(b'SetAccountPassword plain PASSWORD "\\002{SSHA}RZc4rQ7yTB3KVbGQqPE2H5Jm/XBhYmNkZWZnaA=="')
    assert (await cli.say(b"VerifyAccountPassword plain PASSWORD wrong")).startswith(b"515 ")


async def test_data_without_inline_spans_lines(server: CliServer) -> None:
    dialogue = await Dialogue.open(server)
    await dialogue.line()
    await dialogue.say(b"USER postmaster")
    await dialogue.say(b"PASS adm in")
    assert await dialogue.say(b"GetAccountSettings plain") == b"200 data follow"
    assert [await dialogue.line() for _ in range(3)] == [b"{", b"  Password = secret;", b"}"]
    assert await dialogue.say(b"ListMailboxes plain") == b"200 data follow"
    await dialogue.close()


async def test_objects_of_a_domain_come_in_pages(cli: Dialogue) -> None:
    await cli.say(b"CreateForwarder fwd TO a@b.test")
    await cli.say(b"SetAccountAliases plain (simple)")
    assert await cli.say(b"ListDomainObjects main.test 2") == b"201 (#4,{fwd=forwarder;plain=macnt;},plain)"
    assert await cli.say(b"ListDomainObjects main.test 2 COOKIE plain") == (
        b"201 (#4,{postmaster=macnt;simple=alias;})"
    )
    assert await cli.say(b"ListDomainObjects main.test FILTER post 9 ACCOUNTS") == b"201 (#1,{postmaster=macnt;})"
    assert await cli.say(b"FindForwarders main.test TO A@B.test") == b"201 (fwd)"


async def test_mailboxes_subscriptions_and_access_lists(cli: Dialogue, server: CliServer) -> None:
    assert await cli.say('CreateMailbox plain MAILBOX "Entwürfe/a b"'.encode()) == b"200 OK"
    assert b"Entw&APw-rfe/a b" in account(server, "plain").store.mailboxes
    assert 'Entwürfe/a b"={Messages=#0;'.encode() in await cli.say(b"ListMailboxes plain")
    await cli.say('SetMailboxACL plain MAILBOX "Entwürfe" {bob=lrs;}'.encode())
    await cli.say('SetMailboxClass plain MAILBOX "Entwürfe" CLASS calendar'.encode())
    box = account(server, "plain").store.get(b"Entw&APw-rfe")
    assert (box.acl, box.kind) == ({"bob": "lrs"}, "calendar")
    await cli.say('SetAccountSubscription plain (INBOX, "Entwürfe")'.encode())
    assert await cli.say(b"GetAccountSubscription plain") == '201 (INBOX,"Entwürfe")'.encode()


async def test_rights_may_be_unknown(cli: Dialogue, server: CliServer) -> None:
    assert await cli.say(b"GetAccountRights postmaster") == b"201 (Master)"
    assert await cli.say(b"SetAccountRights plain (Domain, CanAccessWebs)") == b"200 OK"
    assert await cli.say(b"GetAccountRights plain") == b"201 (Domain,CanAccessWebs)"
    server.rights = False
    assert await cli.say(b"GetAccountRights plain") == b"500 unknown command"


async def test_route_follows_forwarders(cli: Dialogue) -> None:
    await cli.say(b"CreateForwarder fwd TO Plain@main.test")
    assert await cli.say(b"Route fwd") == b'201 (LOCAL,"plain@main.test","")'
    assert await cli.say(b"Route x@elsewhere.test mail") == b'201 (SMTP,"elsewhere.test","x@elsewhere.test")'


async def test_write_log_and_hooks(cli: Dialogue, server: CliServer) -> None:
    assert await cli.say(b'WriteLog 3 "a line"') == b"200 OK"
    assert server.commands.log == [("3", "a line")]
    assert server.executed[-1].verb == "writelog"
    assert server.executed[-1].code == 200


async def test_limits_sessions_of_one_address(server: CliServer) -> None:
    server.max_per_address = 2
    first, second = await Dialogue.open(server), await Dialogue.open(server)
    assert (await first.line()).startswith(b"200 ")
    assert (await second.line()).startswith(b"200 ")
    third = await Dialogue.open(server)
    assert (await third.line()).startswith(b"559 ")
    assert await third.line() == b""
    assert (server.turned_away, server.most_sessions) == (1, 2)
    for dialogue in (first, second, third):
        await dialogue.close()


async def test_closes_an_idle_session(server: CliServer) -> None:
    server.idle_seconds = 0.01
    dialogue = await Dialogue.open(server)
    await dialogue.line()
    assert await dialogue.line() == b""
    await dialogue.close()


async def test_faults(cli: Dialogue, server: CliServer) -> None:
    server.faults.reply("CreateAccount", b"501 not today")
    assert await cli.say(b"CreateAccount a1") == b"501 not today"
    server.faults.reply("CreateAccount", b"551 in transition", executed=True)
    assert await cli.say(b"CreateAccount a1") == b"551 in transition"
    assert account(server, "a1").name == "a1"
    server.faults.garbage("NOOP", b"what?\r\n")
    assert await cli.say(b"NOOP") == b"what?"
    slow = server.faults.slow("NOOP", 0.01, times=1)
    assert await cli.say(b"NOOP") == b"200 OK"
    assert slow.hits == 1
    server.faults.cut("CreateAccount", executed=True, keep=5, having=b"a2")
    assert await cli.say(b"CreateAccount a3") == b"200 OK"
    assert await cli.say(b"CreateAccount a2") == b"200 O"
    assert account(server, "a2").name == "a2"


async def test_a_hang_ends_when_the_client_gives_up(server: CliServer) -> None:
    server.faults.hang("CONNECT")
    dialogue = await Dialogue.open(server)
    await asyncio.sleep(0)
    await dialogue.close()
    following = await Dialogue.open(server)
    assert (await following.line()).startswith(b"200 ")
    await following.close()


async def test_rename_and_delete_take_the_aliases_along(cli: Dialogue, server: CliServer) -> None:
    await cli.say(b"SetAccountAliases plain (one, two)")
    assert await cli.say(b"GetAccountAliases two") == b"201 (one,two)"
    assert await cli.say(b"RenameAccount plain INTO other") == b"200 OK"
    assert (await cli.say(b"GetAccountSettings one")).startswith(b"513 ")
    assert await cli.say(b"DeleteAccount other") == b"200 OK"
    assert server.commands.directory.find("other") is None
