"""One CLI session against a server whose every byte is scripted."""

from __future__ import annotations

import asyncio
import hashlib
import ssl

import pytest

from cli_client.connection import CliConnection
from cli_client.errors import CliLoginRefused, CliTemporary, NoSuchAccount, SessionsExhausted
from cli_client.format import Value
from cli_client.protocol import render_command
from tests.servers.certificates import Certificates
from tests.servers.script import Play, ScriptServer, Talk, serve, transcript, until
from wire.endpoint import Endpoint, Security, TlsPolicy, parse_endpoint
from wire.outcome import Permanent, ProtocolTrouble, SetupTrouble, Temporary
from wire.secret import Secret

PASSWORD = Secret(b"s3cret")
PLAIN = [b"200 PWD Server ready\r\n", b"300 more\r\n", b"200 login OK\r\n", b"200 OK\r\n"]
STAMPED = [b"200 PWD Server ready <1.2@new.test>\r\n", b"200 login OK\r\n", b"200 OK\r\n"]
OLD = [*PLAIN[:3], b"500 unknown command\r\n"]  # a server without INLINE


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def connect(server: ScriptServer, *, seconds: float = 5.0) -> CliConnection:
    return await CliConnection.connect(server.endpoint("cli"), "postmaster", PASSWORD, deadline=soon(seconds))


async def test_user_and_pass_where_no_stamp_is_offered() -> None:
    async with serve(transcript(PLAIN)) as server:
        connection = await connect(server)
        assert connection.inline
        connection.close()
    assert server.lines == [b"USER postmaster", b"PASS s3cret", b"INLINE"]


async def test_apop_where_a_stamp_is_offered() -> None:
    async with serve(transcript(STAMPED)) as server:
        connection = await connect(server)
        connection.close()
    proof = hashlib.md5(b"<1.2@new.test>s3cret").hexdigest().encode()
    assert server.lines == [b"APOP postmaster " + proof, b"INLINE"]


@pytest.mark.parametrize(
    "reply", [b"514 incorrect password", b"515 password not set", b"501 account disabled", b"554 x"]
)
async def test_a_refused_apop_is_not_tried_again_with_the_password(reply: bytes) -> None:
    """A second failed login in a row locks accounts out."""
    async with serve(transcript([STAMPED[0], reply + b"\r\n", b"300 x\r\n", b"200 OK\r\n"])) as server:
        with pytest.raises(CliTemporary if reply == b"554 x" else CliLoginRefused):
            await connect(server)
    assert [line.split()[0] for line in server.lines] == [b"APOP"]


@pytest.mark.parametrize("reply", [b"500 unknown command", b"501 APOP is not supported", b"515 method not available"])
async def test_a_server_without_apop_gets_user_and_pass(reply: bytes) -> None:
    async with serve(transcript([STAMPED[0], reply + b"\r\n", *PLAIN[1:]])) as server:
        connection = await connect(server)
        connection.close()
    assert [line.split()[0] for line in server.lines] == [b"APOP", b"USER", b"PASS", b"INLINE"]


async def test_a_refused_login_says_so_without_the_password() -> None:
    async with serve(transcript([*PLAIN[:2], b"514 wrong password s3cret\r\n"])) as server:
        with pytest.raises(CliLoginRefused) as caught:
            await connect(server)
    assert caught.value.code == "514"
    assert "s3cret" not in str(caught.value)


async def test_a_password_that_is_two_lines_is_never_sent() -> None:
    async with serve(transcript(PLAIN)) as server:
        with pytest.raises(SetupTrouble):
            await CliConnection.connect(server.endpoint("cli"), "a", Secret(b"x\r\nQUIT"), deadline=soon())
    assert server.lines == []


async def test_a_greeting_that_refuses_is_a_full_server() -> None:
    async with serve(transcript([b"550 too many connections\r\n"])) as server:
        with pytest.raises(SessionsExhausted):
            await connect(server)


async def test_a_close_before_the_greeting_is_a_full_server() -> None:
    async with serve(transcript([b""], cut=0)) as server:
        with pytest.raises(SessionsExhausted):
            await connect(server)


async def test_starttls_is_not_a_thing_of_the_cli() -> None:
    with pytest.raises(SetupTrouble, match="STARTTLS"):
        await CliConnection.connect(Endpoint("cli", "127.0.0.1", 1, Security.STARTTLS), "a", PASSWORD, deadline=soon())


async def test_data_on_the_line_and_on_many_lines() -> None:
    many = b'200 data follow\r\n{ A = (\r\n  b\r\n  );\r\n C = ")\r\n}";\r\n}\r\n'
    async with serve(transcript([*PLAIN, b"201 {a=b;}\r\n", many, b"200 OK\r\n"])) as server:
        connection = await connect(server)
        assert (await connection.run(b"GetServerSettings", deadline=soon())).value() == {"a": "b"}
        assert (await connection.run(b"GetServerSettings", deadline=soon())).value() == {"A": ["b"], "C": ")\n}"}
        assert (await connection.run(b"NOOP", deadline=soon())).text == "OK"
        assert connection.usable
        connection.close()


async def test_without_inline_replies_span_lines() -> None:
    async with serve(transcript([*OLD, b"200 data follow\r\n(a,\r\nb)\r\n", b"200 data follow\r\natom\r\n"])) as server:
        connection = await connect(server)
        assert not connection.inline
        assert (await connection.run(b"ListDomains", deadline=soon())).value() == ["a", "b"]
        assert (await connection.run(b"X", deadline=soon())).value() == "atom"
        connection.close()


async def test_an_error_reply_leaves_the_session_usable() -> None:
    async with serve(transcript([*PLAIN, b"513 unknown user account\r\n", b"200 OK\r\n"])) as server:
        connection = await connect(server)
        with pytest.raises(NoSuchAccount):
            await connection.run(b"GetAccountSettings x", deadline=soon())
        await connection.run(b"NOOP", deadline=soon())
        connection.close()


async def test_after_a_time_out_the_session_is_never_used_again() -> None:
    async with serve(transcript([*PLAIN, b"", b"200 OK\r\n"])) as server:
        connection = await connect(server)
        with pytest.raises(Temporary):
            await connection.run(b"First", deadline=soon(0.05))
        assert not connection.usable
        with pytest.raises(Temporary):
            await connection.run(b"Second", deadline=soon())
    assert server.lines[3:] == [b"First"]


async def test_a_cancelled_command_closes_its_session() -> None:
    async with serve(transcript([*PLAIN, b""])) as server:
        connection = await connect(server)
        task = asyncio.create_task(connection.run(b"Slow", deadline=soon()))
        await until(lambda: len(server.lines) == 4)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not connection.usable


async def test_an_unsolicited_line_is_seen_before_the_next_command() -> None:
    async with serve(transcript([*PLAIN, b"200 OK\r\n200 a line too many\r\n"])) as server:
        connection = await connect(server)
        await connection.run(b"NOOP", deadline=soon())
        await until(lambda: not connection.usable)
        with pytest.raises(Temporary):
            await connection.run(b"CreateAccount x", deadline=soon())
    assert server.lines[3:] == [b"NOOP"]


@pytest.mark.parametrize("reply", [b"gibberish\r\n", b"300 more?\r\n", b"100 x\r\n", b"x" * 17_000_000 + b"\r\n"])
async def test_what_is_no_reply_ends_the_session(reply: bytes) -> None:
    async with serve(transcript([*PLAIN, reply])) as server:
        connection = await connect(server)
        with pytest.raises(ProtocolTrouble):
            await connection.run(b"NOOP", deadline=soon())
        assert not connection.usable


async def test_a_line_that_is_two_commands_is_never_sent() -> None:
    async with serve(transcript(PLAIN)) as server:
        connection = await connect(server)
        with pytest.raises(ValueError, match="CR, LF"):
            await connection.run(b"NOOP\r\nDeleteAccount x", deadline=soon())
        assert connection.usable
        connection.close()
    assert len(server.lines) == 3


async def test_quit_says_goodbye() -> None:
    async with serve(transcript([*PLAIN, b"200 closed\r\n"])) as server:
        connection = await connect(server)
        await connection.quit(deadline=soon())
        assert not connection.usable
    assert server.lines[-1] == b"QUIT"


DIALOGUES = {
    "plain": [*PLAIN, b"201 {UseExtPassword=YES;}\r\n"],
    "stamped": [*STAMPED, b"201 {UseExtPassword=YES;}\r\n"],
    "lines": [*OLD, b"200 data follow\r\n{\r\nUseExtPassword=YES;\r\n}\r\n"],
    "refused": [*PLAIN, b"513 unknown user account\r\n"],
    "login refused": [*PLAIN[:2], b"514 incorrect password\r\n"],
}


async def ask(server: ScriptServer) -> Value:
    connection = await connect(server)
    return (await connection.run(render_command("GetAccountSettings", "x"), deadline=soon())).value()


@pytest.mark.parametrize("name", DIALOGUES)
async def test_cut_after_every_byte(name: str) -> None:
    """Whatever is missing, the end is Temporary and soon; nothing is concluded from a part of a reply."""
    says = DIALOGUES[name]
    total = sum(map(len, says))

    async def once(cut: int) -> None:
        play: Play = transcript(says, cut=cut)
        async with serve(play) as server:
            with pytest.raises(Temporary):
                await ask(server)

    for start in range(0, total, 32):
        await asyncio.gather(*(once(cut) for cut in range(start, min(start + 32, total))))

    async with serve(transcript(says, cut=total)) as server:
        if "refused" in name:
            with pytest.raises(Permanent):
                await ask(server)
        else:
            assert await ask(server) == {"UseExtPassword": "YES"}


async def test_a_server_that_says_nothing_does_not_hang_us() -> None:
    async def mute(talk: Talk) -> None:
        await talk.silence()

    async with serve(mute) as server:
        started = asyncio.get_running_loop().time()
        with pytest.raises(Temporary) as caught:
            await connect(server, seconds=0.05)
        assert not isinstance(caught.value, SessionsExhausted)
        assert asyncio.get_running_loop().time() - started < 2


async def test_a_session_over_tls(certificates: Certificates) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.good.chain, certificates.good.key)
    async with serve(transcript([*STAMPED, b"200 fine\r\n"]), context=context) as server:
        endpoint = parse_endpoint(f"cli+tls://127.0.0.1:{server.port}", "cli")
        tls = TlsPolicy(ca_file=str(certificates.ca_file))
        connection = await CliConnection.connect(endpoint, "postmaster", PASSWORD, tls=tls, deadline=soon())
        assert (await connection.run(b"NOOP", deadline=soon())).text == "fine"
        connection.close()
        with pytest.raises(SetupTrouble):
            await CliConnection.connect(endpoint, "postmaster", PASSWORD, deadline=soon())
