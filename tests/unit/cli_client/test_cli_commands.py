"""Every typed command: the line that goes out, and the value that comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from cli_client.commands import Cli, DomainObjects, Encrypted, Made, settable
from cli_client.connection import CliConnection
from cli_client.errors import AlreadyExists, CliRefused, CliTemporary, NoSuchAccount, UnknownCommand
from cli_client.format import NULL
from cli_client.pool import CliPool
from tests.servers.script import Talk, serve, transcript
from wire.outcome import ProtocolTrouble, Temporary
from wire.secret import Secret

LOGIN = [b"200 ready\r\n", b"300 more\r\n", b"200 OK\r\n", b"200 OK\r\n"]
NAME = "user@example.com"


@asynccontextmanager
async def session(*replies: bytes) -> AsyncIterator[tuple[Cli, list[bytes]]]:
    """A session whose server gives `replies`, and the lines it is sent after the login."""
    async with serve(transcript([*LOGIN, *(reply + b"\r\n" for reply in replies)])) as server:
        deadline = asyncio.get_running_loop().time() + 5
        connection = await CliConnection.connect(server.endpoint("cli"), "x", Secret(b"y"), deadline=deadline)
        lines = server.talks[0]
        del lines[:]
        yield Cli(connection), lines
        connection.close()


DOES: list[tuple[Callable[[Cli], Awaitable[None]], bytes]] = [
    (lambda cli: cli.create_account(NAME), b'CreateAccount "user@example.com" {}'),
    (
        lambda cli: cli.create_account(
            NAME, {"UseAppPassword": "NO", "Real Name": "A"}, kind="MultiMailbox", external=True
        ),
        b'CreateAccount "user@example.com" MultiMailbox external {UseAppPassword=NO;"Real Name"=A;}',
    ),
    (
        lambda cli: cli.update_account_settings(
            NAME, {"Password": Secret(b'a";X=Y;"'), "UseAppPassword": "YES", "UseExtPassword": "NO"}
        ),
        rb'UpdateAccountSettings "user@example.com" {Password="a\";X=Y;\"";UseAppPassword=YES;UseExtPassword=NO;}',
    ),
    (
        lambda cli: cli.update_account_settings(NAME, {"A": NULL}),
        b'UpdateAccountSettings "user@example.com" {A=#NULL#;}',
    ),
    (
        lambda cli: cli.set_account_password(NAME, Secret(b"#1234\xe4")),
        rb'SetAccountPassword "user@example.com" PASSWORD "#1234\228"',
    ),
    (lambda cli: cli.set_account_aliases(NAME, ["a", "b.c"]), b'SetAccountAliases "user@example.com" (a,"b.c")'),
    (lambda cli: cli.post_account_alert(NAME, "See you"), b'PostAccountAlert "user@example.com" "See you"'),
    (lambda cli: cli.kill_account_sessions(NAME), b'KillAccountSessions "user@example.com"'),
    (lambda cli: cli.create_forwarder("f@b.c", "x@y.z"), b'CreateForwarder "f@b.c" TO "x@y.z"'),
    (lambda cli: cli.create_group("g@b.c", {"Members": ["a"]}), b'CreateGroup "g@b.c" {Members=(a);}'),
    (lambda cli: cli.update_domain_settings("b.c", {"X": "1"}), b'UpdateDomainSettings "b.c" {X="1";}'),
    (lambda cli: cli.update_domain_settings("", {"X": "Y"}), b"UpdateDomainSettings {X=Y;}"),
    (lambda cli: cli.update_account_template("b.c", {"X": "Y"}), b'UpdateAccountTemplate "b.c" {X=Y;}'),
    (
        lambda cli: cli.update_server_settings({"ExternalAUTH": {"Enabled": "YES", "Timeout": "30"}}),
        b'UpdateServerSettings {ExternalAUTH={Enabled=YES;Timeout="30";};}',
    ),
    (lambda cli: cli.write_log(3, "moved\r\n4 x"), rb'WriteLog 3 "moved\r\n4 x"'),
    (lambda cli: cli.create_mailbox(NAME, "Sent Items"), b'CreateMailbox "user@example.com" MAILBOX "Sent Items"'),
    (
        lambda cli: cli.set_mailbox_acl(NAME, "INBOX", {"anyone": "lr"}),
        b'SetMailboxACL "user@example.com" MAILBOX "INBOX" ACL {anyone=lr;}',
    ),
    (
        lambda cli: cli.set_mailbox_class(NAME, "Cal", "IPF.Appointment"),
        b'SetMailboxClass "user@example.com" MAILBOX "Cal" CLASS "IPF.Appointment"',
    ),
    (lambda cli: cli.set_account_subscription(NAME, ["a b"]), b'SetAccountSubscription "user@example.com" ("a b")'),
]


@pytest.mark.parametrize(("command", "line"), DOES)
async def test_commands_that_do(command: Callable[[Cli], Awaitable[None]], line: bytes) -> None:
    async with session(b"200 OK") as (cli, lines):
        await command(cli)
        assert lines == [line]


ASKS: list[tuple[Callable[[Cli], Awaitable[object]], bytes, bytes, object]] = [
    (lambda cli: cli.get_account_settings(NAME), b'GetAccountSettings "user@example.com"', b"{A=B;}", {"A": "B"}),
    (
        lambda cli: cli.get_account_effective_settings(NAME),
        b'GetAccountEffectiveSettings "user@example.com"',
        b"{A=(B);}",
        {"A": ["B"]},
    ),
    (lambda cli: cli.get_account_rights(NAME), b'GetAccountRights "user@example.com"', b"(Settings)", ["Settings"]),
    (lambda cli: cli.get_account_rights(NAME), b'GetAccountRights "user@example.com"', b"#NULL#", []),
    (lambda cli: cli.get_account_default_prefs("b.c"), b'GetAccountDefaultPrefs "b.c"', b"{}", {}),
    (lambda cli: cli.get_account_default_prefs(), b"GetAccountDefaultPrefs", b"#NULL#", {}),
    (lambda cli: cli.get_account_aliases(NAME), b'GetAccountAliases "user@example.com"', b"(a,b)", ["a", "b"]),
    (lambda cli: cli.find_forwarders("b.c", "x@y"), b'FindForwarders "b.c" TO "x@y"', b"()", []),
    (lambda cli: cli.list_domains(), b"ListDomains", b"(a.b,c.d)", ["a.b", "c.d"]),
    (lambda cli: cli.list_accounts("b.c"), b'ListAccounts "b.c"', b"{u=macnt;}", {"u": "macnt"}),
    (lambda cli: cli.list_accounts(), b"ListAccounts", b"{}", {}),
    (
        lambda cli: cli.list_domain_objects("b.c", 100),
        b'ListDomainObjects "b.c" 100 ACCOUNTS',
        b'(#2,{u=macnt;v=macnt;},{a=u;},"next")',
        DomainObjects(2, {"u": "macnt", "v": "macnt"}, {"a": "u"}, "next"),
    ),
    (
        lambda cli: cli.list_domain_objects("b.c", 5, filter_text="u", kinds=("ACCOUNTS", "GROUPS"), cookie="n"),
        b'ListDomainObjects "b.c" FILTER "u" 5 ACCOUNTS GROUPS COOKIE "n"',
        b"(0)",
        DomainObjects(0, {}, {}, ""),
    ),
    (lambda cli: cli.get_domain_settings("b.c"), b'GetDomainSettings "b.c"', b"{A=B;}", {"A": "B"}),
    (lambda cli: cli.get_domain_effective_settings(), b"GetDomainEffectiveSettings", b"{A=B;}", {"A": "B"}),
    (lambda cli: cli.get_account_template("b.c"), b'GetAccountTemplate "b.c"', b"{A=B;}", {"A": "B"}),
    (lambda cli: cli.get_server_settings(), b"GetServerSettings", b"{A=B;}", {"A": "B"}),
    (lambda cli: cli.route("x@y"), b'Route "x@y"', b'(LOCAL,"",x)', ["LOCAL", "", "x"]),
    (
        lambda cli: cli.list_mailboxes(NAME, filter_text="*"),
        b'ListMailboxes "user@example.com" FILTER "*"',
        b"{INBOX={Messages=#1;};}",
        {"INBOX": {"Messages": 1}},
    ),
    (lambda cli: cli.get_account_subscription(NAME), b'GetAccountSubscription "user@example.com"', b'("a b")', ["a b"]),
]


@pytest.mark.parametrize(("command", "line", "data", "value"), ASKS)
async def test_commands_that_ask(
    command: Callable[[Cli], Awaitable[object]], line: bytes, data: bytes, value: object
) -> None:
    async with session(b"201 " + data, b"200 data follow\r\n" + data.replace(b",", b",\r\n")) as (cli, lines):
        assert await command(cli) == value
        assert await command(cli) == value
        assert lines == [line, line]


@pytest.mark.parametrize(
    ("command", "data"),
    [
        (lambda cli: cli.get_account_settings(NAME), b"(a)"),
        (lambda cli: cli.list_domains(), b"{a=b;}"),
        (lambda cli: cli.list_domains(), b"(a,#1)"),
        (lambda cli: cli.list_domain_objects("b", 1), b"{}"),
        (lambda cli: cli.list_domain_objects("b", 1), b"()"),
        (lambda cli: cli.list_domain_objects("b", 1), b"(x)"),
        (lambda cli: cli.get_account_settings(NAME), b"{a="),
    ],
)
async def test_data_of_another_shape_is_trouble(command: Callable[[Cli], Awaitable[object]], data: bytes) -> None:
    async with session(b"201 " + data) as (cli, _):
        with pytest.raises(ProtocolTrouble):
            await command(cli)


async def test_a_password_is_verified() -> None:
    replies = (b"200 OK", b"515 incorrect password", b"514 no", b"513 unknown account", b"554 too many")
    async with session(*replies) as (cli, lines):
        assert await cli.verify_account_password(NAME, Secret(b"a b"))
        assert not await cli.verify_account_password(NAME, Secret(b"a b"))
        assert not await cli.verify_account_password(NAME, Secret(b"a b"))
        with pytest.raises(NoSuchAccount):
            await cli.verify_account_password(NAME, Secret(b"a b"))
        with pytest.raises(CliTemporary):
            await cli.verify_account_password(NAME, Secret(b"a b"))
        assert set(lines) == {b'VerifyAccountPassword "user@example.com" PASSWORD "a b"'}


@pytest.mark.parametrize("password", [b"", b"\x02AslUzT1JkPsocc", b"a\tb", b"a\r\nb", b"a\0", b"\x7f"])
async def test_a_password_with_a_control_character_is_never_set(password: bytes) -> None:
    """One that begins with byte 2 would be taken for an encrypted one: anybody could set a hash as a password."""
    secret = Secret(password)
    assert not settable(secret)
    async with session() as (cli, lines):
        with pytest.raises(ValueError, match="never set"):
            await cli.set_account_password(NAME, secret)
        with pytest.raises(ValueError, match="never set"):
            await cli.update_account_settings(NAME, {"Password": secret})
        with pytest.raises(ValueError, match="never set"):
            await cli.update_account_settings(NAME, {"Password": password.decode()})
        with pytest.raises(ValueError, match="never set"):
            await cli.create_account(NAME, {"Password": secret})
        assert lines == []


async def test_a_refusal_never_tells_the_password() -> None:
    replies = (b"501 password s3cret-word is too simple",) * 2
    async with session(*replies) as (cli, _):
        for value in (Secret(b"s3cret-word"), "s3cret-word"):
            with pytest.raises(CliRefused) as caught:
                await cli.update_account_settings(NAME, {"Password": value})
            assert "s3cret" not in str(caught.value)


async def test_an_unknown_command_is_told_apart() -> None:
    async with session(b"500 unknown command") as (cli, _):
        with pytest.raises(UnknownCommand):
            await cli.get_account_rights(NAME)


# -- ensure_account ----------------------------------------------------------------------------------------------------


async def test_a_hash_goes_out_behind_the_binary_002() -> None:
    """The migration guide's own example."""
    async with session(b"200 OK") as (cli, lines):
        await cli.create_account("test", {"Password": Encrypted(Secret(b"AslUzT1JkPsocc"))})
    assert lines == [b'CreateAccount "test" {Password="\\002AslUzT1JkPsocc";}']


@pytest.mark.parametrize("form", [b"", b"a b", b"\x02hash", b"hash\n", "hä".encode()])
async def test_what_is_no_hash_is_never_sent_as_one(form: bytes) -> None:
    async with session() as (cli, lines):
        with pytest.raises(ValueError, match="visible ASCII"):
            await cli.create_account(NAME, {"Password": Encrypted(Secret(form))})
    assert lines == []
    assert form == b"" or form.decode() not in repr(Encrypted(Secret(form)))


@pytest.mark.parametrize(
    "refusal",
    [
        b"520 exists",
        b"501 Account with this name already exists",
        b"521 alias",
        b"599 Konto gibt es schon",
        b"555 in use",
    ],
)
async def test_an_account_that_is_there_is_found_by_reading_it(refusal: bytes) -> None:
    async with session(refusal, b"201 {A=B;}") as (cli, lines):
        assert await cli.ensure_account(NAME, {"UseExtPassword": "YES"}) is Made.EXISTED
        assert lines[1] == b'GetAccountSettings "user@example.com"'


async def test_a_new_account_is_not_read_back() -> None:
    async with session(b"200 OK") as (cli, lines):
        assert await cli.ensure_account(NAME) is Made.CREATED
        assert len(lines) == 1


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (b"520 exists", AlreadyExists),
        (b"522 a list has this name", AlreadyExists),
        (b"501 not allowed", CliRefused),
        (b"559 flow control", CliTemporary),
    ],
)
async def test_a_code_alone_is_not_believed(refusal: bytes, kind: type[Exception]) -> None:
    async with session(refusal, b"513 unknown account") as (cli, _):
        with pytest.raises(kind):
            await cli.ensure_account(NAME)


@pytest.mark.parametrize("stored", [True, False])
async def test_a_session_lost_after_the_command_is_settled_by_reading(stored: bool) -> None:
    exists = False

    async def play(talk: Talk) -> None:
        nonlocal exists
        await talk.send(LOGIN[0])
        for reply in LOGIN[1:]:
            await talk.line()
            await talk.send(reply)
        while True:
            if not (await talk.line()).startswith(b"CreateAccount"):
                await talk.send(b"201 {A=B;}\r\n" if exists else b"513 unknown account\r\n")
            elif len(server.talks) > 1:
                exists = True
                await talk.send(b"200 OK\r\n")
            else:
                exists = stored
                return

    async with serve(play) as server:
        pool = CliPool(server.endpoint("cli"), "x", Secret(b"y"), size=1)
        deadline = asyncio.get_running_loop().time() + 5
        made = await Cli(pool).ensure_account(NAME, deadline=deadline)
        assert made is (Made.EXISTED if stored else Made.CREATED)
        sent = sum(line.startswith(b"CreateAccount") for line in server.lines)
        assert sent == (1 if stored else 2)
        await pool.close()


async def test_a_server_that_stays_away_is_temporary() -> None:
    async def play(talk: Talk) -> None:
        await talk.send(LOGIN[0])
        await talk.line()

    async with serve(play) as server:
        pool = CliPool(server.endpoint("cli"), "x", Secret(b"y"), size=1)
        deadline = asyncio.get_running_loop().time() + 0.3
        with pytest.raises(Temporary):
            await Cli(pool).ensure_account(NAME, deadline=deadline)
        await pool.close()
