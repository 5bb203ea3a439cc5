"""The POP3 login: the verdict table row by row, in bytes, and every byte after which a server may hang up."""

from __future__ import annotations

import asyncio
import base64
import ssl

import pytest

from tests.servers.certificates import Certificates
from tests.servers.script import ScriptServer, Talk, serve, transcript
from wire.endpoint import Endpoint, Security, TlsPolicy
from wire.outcome import Answer, Scope, SetupTrouble, Temporary, Verdict
from wire.pop3 import Pop3Client, classify_login
from wire.secret import Secret

YES, NO, LATER = Verdict.YES, Verdict.NO, Verdict.LATER
GREETING = b"+OK ready\r\n"
PASSWORD = Secret(b"s3cret word")


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def log_in(
    server: ScriptServer,
    login: bytes = b"user",
    password: Secret = PASSWORD,
    *,
    apop: bool = False,
    seconds: float = 5.0,
) -> Answer:
    client = await Pop3Client.connect(server.endpoint("pop3"), TlsPolicy(), deadline=soon(seconds))
    try:
        return await client.login(login, password, apop=apop)
    finally:
        client.close()


ROWS: list[tuple[bytes, Verdict, Scope]] = [
    (b"+OK", YES, Scope.USER),
    (b"+OK logged in", YES, Scope.USER),
    (b"+OK [AUTH] odd", YES, Scope.USER),
    (b"-ERR", NO, Scope.USER),  # without text: a refusal all the same
    (b"-ERR invalid login or password", NO, Scope.USER),
    (b"-ERR Unable to log on", NO, Scope.USER),
    (b"-ERR wrong password, please try again", NO, Scope.USER),
    (b"-ERR [AUTH] Authentication failed.", NO, Scope.USER),
    (b"-ERR [auth] Authentication failed.", NO, Scope.USER),
    (b"-ERR [AUTH]", NO, Scope.USER),
    (b"-ERR [AUTH] wrong password, please try again", NO, Scope.USER),
    (b"-ERR [AUTH] too many failures, try again later", LATER, Scope.USER),
    (b"-ERR [AUTH] authentication server unavailable", LATER, Scope.USER),
    (b"-ERR [IN-USE] maildrop locked", LATER, Scope.USER),
    (b"-ERR [LOGIN-DELAY] not yet", LATER, Scope.USER),
    (b"-ERR [SYS/TEMP] out of order", LATER, Scope.SERVER),
    (b"-ERR [SYS/PERM] out of order", LATER, Scope.SERVER),
    (b"-ERR [SYS/TEMP extra] out of order", LATER, Scope.SERVER),
    (b"-ERR [UNHEARD-OF] sorry", LATER, Scope.SERVER),
    (b"-ERR maildrop already locked", LATER, Scope.USER),
    (b"-ERR server busy", LATER, Scope.USER),
    (b"-ERR please try again later", LATER, Scope.USER),
    (b"-ERR mailbox in use", LATER, Scope.USER),
    (b"-ERR Temporary authentication failure", LATER, Scope.USER),
    (b"-ERR too many connections", LATER, Scope.USER),
    (b"-ERR account locked", LATER, Scope.USER),
    (b"-ERR [AUTH] Plaintext authentication disallowed on non-secure (SSL/TLS) connections.", LATER, Scope.SETUP),
    (b"-ERR must issue a STLS/TLS command first", LATER, Scope.SETUP),
    (b"", LATER, Scope.SERVER),
    (b"+", LATER, Scope.SERVER),
    (b"+O", LATER, Scope.SERVER),
    (b"+OKAY", LATER, Scope.SERVER),
    (b"+ok", LATER, Scope.SERVER),
    (b"-ER", LATER, Scope.SERVER),
    (b"-ERROR", LATER, Scope.SERVER),
    (b"ERR", LATER, Scope.SERVER),
    (b"* OK", LATER, Scope.SERVER),
    (b"+OK\0", LATER, Scope.SERVER),
    (b"+ ", LATER, Scope.SERVER),
]


@pytest.mark.parametrize(("line", "verdict", "scope"), ROWS)
async def test_the_reply_to_pass_is_classified(line: bytes, verdict: Verdict, scope: Scope) -> None:
    answer = classify_login(line)
    assert (answer.verdict, answer.scope) == (verdict, scope)
    async with serve(transcript([GREETING, b"+OK\r\n", line + b"\r\n"])) as server:
        answer = await log_in(server)
    assert (answer.verdict, answer.scope) == (verdict, scope)
    assert server.lines == [b"USER user", b"PASS s3cret word"]


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        (b"-ERR no such user", NO),
        (b"-ERR [AUTH] no such user", NO),
        (b"-ERR", NO),
        (b"-ERR [SYS/TEMP] no", LATER),
        (b"-ERR [IN-USE] no", LATER),
        (b"-ERR busy", LATER),
        (b"what", LATER),
    ],
)
async def test_a_refused_user_is_classified_without_sending_the_password(line: bytes, verdict: Verdict) -> None:
    """The published migration helper answers `ERROR <the password>` here."""
    async with serve(transcript([GREETING, line + b"\r\n"])) as server:
        answer = await log_in(server)
    assert answer.verdict is verdict
    assert server.lines == [b"USER user"]
    assert "s3cret" not in answer.reason


@pytest.mark.parametrize(
    "secret",
    [
        b"s3cret",
        b"a b  c",
        b'"quoted"',
        b"back\\slash",
        b"#1234",
        b" ends with blanks ",
        b"0",
        b"\xe4\xf6",
        "ä日".encode(),
    ],
)
async def test_the_password_goes_out_byte_for_byte(secret: bytes) -> None:
    async with serve(transcript([GREETING, b"+OK\r\n", b"+OK\r\n"])) as server:
        assert (await log_in(server, b"us er", Secret(secret))).verdict is YES
    assert server.lines == [b"USER us er", b"PASS " + secret]


@pytest.mark.parametrize("bad", [b"a\rb", b"a\nb", b"a\r\nDELE 1", b"a\0b"])
async def test_what_pop_cannot_carry_is_never_sent(bad: bytes) -> None:
    async with serve(transcript([GREETING, b"+OK\r\n", b"+OK\r\n"])) as server:
        assert (await log_in(server, b"user", Secret(bad))).verdict is NO
        assert (await log_in(server, bad)).verdict is NO
        assert (await log_in(server, b"user", Secret(bad), apop=True)).verdict is NO
    assert server.lines == []


async def test_an_empty_password_is_never_tried() -> None:
    async with serve(transcript([GREETING, b"+OK\r\n", b"+OK\r\n"])) as server:
        assert (await log_in(server, b"user", Secret(b""))).verdict is LATER
    assert server.lines == []


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"-ERR wrong password s3cret word", "-ERR wrong password ***"),
        (b'-ERR "s3cret  word" is wrong', '-ERR "***" is wrong'),
        (b"+OK s3cret word is right", "+OK *** is right"),
    ],
)
async def test_a_password_that_the_server_repeats_stays_out_of_the_reason(line: bytes, shown: str) -> None:
    async with serve(transcript([GREETING, b"+OK\r\n", line + b"\r\n"])) as server:
        assert (await log_in(server)).reason == shown


def test_a_short_password_does_not_tear_up_the_reason() -> None:
    assert classify_login(b"-ERR bad e login", hide=[b"e"]).reason == "-ERR bad *** login"


# -- other ways in -----------------------------------------------------------------------------------------------------


async def test_auth_plain_where_user_is_not_offered() -> None:
    says = [
        GREETING,
        b"-ERR unknown command\r\n",
        b"+OK capabilities\r\nSASL PLAIN LOGIN\r\nUIDL\r\n.\r\n",
        b"+ \r\n",
        b"+OK\r\n",
    ]
    async with serve(transcript(says)) as server:
        assert (await log_in(server)).verdict is YES
    proof = base64.b64encode(b"\0user\0s3cret word")
    assert server.lines == [b"USER user", b"CAPA", b"AUTH PLAIN", proof]


@pytest.mark.parametrize("capabilities", [b"+OK\r\nSASL LOGIN\r\n.\r\n", b"+OK\r\n.\r\n", b"-ERR unknown command\r\n"])
async def test_no_way_to_log_in_is_a_matter_of_set_up(capabilities: bytes) -> None:
    async with serve(transcript([GREETING, b"-ERR USER is not supported\r\n", capabilities])) as server:
        answer = await log_in(server)
    assert (answer.verdict, answer.scope) == (LATER, Scope.SETUP)
    assert not any(b"s3cret" in line for line in server.lines)


async def test_a_refused_auth_plain_is_a_refusal() -> None:
    says = [GREETING, b"-ERR unknown command\r\n", b"+OK\r\nSASL PLAIN\r\n.\r\n", b"+\r\n", b"-ERR [AUTH] no\r\n"]
    async with serve(transcript(says)) as server:
        assert (await log_in(server)).verdict is NO


async def test_apop_only_where_it_is_asked_for() -> None:
    """The example of RFC 1939, section 7."""
    greeting = b"+OK POP3 server ready <1896.697170952@dbc.mtview.ca.us>\r\n"
    async with serve(transcript([greeting, b"+OK\r\n", b"+OK\r\n"])) as server:
        assert (await log_in(server, b"mrose", Secret(b"tanstaaf"))).verdict is YES
        assert (await log_in(server, b"mrose", Secret(b"tanstaaf"), apop=True)).verdict is YES
    assert server.talks[0][0] == b"USER mrose"
    assert server.talks[1] == [b"APOP mrose c4c9334bac560ecc979e58001b3e22fb"]


@pytest.mark.parametrize(
    ("greeting", "reply", "verdict"),
    [
        (b"+OK no stamp\r\n", b"", LATER),
        (b"+OK <1@x>\r\n", b"-ERR unknown command\r\n", LATER),
        (b"+OK <1@x>\r\n", b"-ERR permission denied\r\n", NO),
    ],
)
async def test_apop_never_falls_back_to_the_bare_password(greeting: bytes, reply: bytes, verdict: Verdict) -> None:
    async with serve(transcript([greeting, reply])) as server:
        assert (await log_in(server, apop=True)).verdict is verdict
    assert not any(line.startswith((b"USER", b"PASS")) for line in server.lines)


@pytest.mark.parametrize(
    ("greeting", "reply", "told"),
    [
        (b"+OK [XCLIENT] ready\r\n", b"+OK Updated\r\n", True),
        (b"+OK [XCLIENT] ready\r\n", b"-ERR not trusted\r\n", False),
        (GREETING, b"", False),
    ],
)
async def test_the_users_address_is_told_to_a_server_that_asks(greeting: bytes, reply: bytes, told: bool) -> None:
    says = [greeting, *([reply] if reply else []), b"+OK\r\n", b"+OK\r\n"]
    async with serve(transcript(says)) as server:
        client = await Pop3Client.connect(server.endpoint("pop3"), TlsPolicy(), deadline=soon())
        assert await client.forward_address("2001:DB8::1%eth0\r\nUSER x") is told
        with pytest.raises(ValueError, match="address"):
            await client.forward_address("192.0.2.1\r\nUSER x")
        assert (await client.login(b"user", PASSWORD)).verdict is YES
        client.close()
    assert (b"XCLIENT ADDR=2001:db8::1" in server.lines) is bool(reply)


# -- the connection ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "greeting", [b"-ERR [SYS/TEMP] down\r\n", b"-ERR no\r\n", b"* OK IMAP\r\n", b"220 SMTP\r\n", b"\r\n"]
)
async def test_a_greeting_that_is_no_welcome_is_temporary(greeting: bytes) -> None:
    async with serve(transcript([greeting])) as server:
        with pytest.raises(Temporary):
            await log_in(server)
    assert server.lines == []


@pytest.mark.parametrize(
    "says",
    [
        [GREETING + b"+OK\r\n"],
        [GREETING + b"+OK\r\n+OK\r\n"],
        [GREETING, b"+OK\r\n+OK you are in\r\n"],
        [GREETING, b"+OK\r\n-ERR no\r\n"],
    ],
)
async def test_a_reply_before_its_command_proves_nothing(says: list[bytes]) -> None:
    async with serve(transcript(says)) as server:
        with pytest.raises(Temporary, match="before the command"):
            await log_in(server)
    assert not any(line.startswith(b"PASS") for line in server.lines)


async def test_two_replies_to_one_password_prove_nothing() -> None:
    async with serve(transcript([GREETING, b"+OK\r\n", b"+OK in\r\n-ERR not in\r\n"])) as server:
        assert (await log_in(server)).verdict is LATER


LOGINS = {
    "accepted": [GREETING, b"+OK\r\n", b"+OK logged in\r\n"],
    "refused": [GREETING, b"+OK\r\n", b"-ERR [AUTH] wrong\r\n"],
    "user refused": [GREETING, b"-ERR no such user\r\n"],
    "plain": [GREETING, b"-ERR unknown command\r\n", b"+OK\r\nSASL PLAIN\r\n.\r\n", b"+ \r\n", b"+OK\r\n"],
}


@pytest.mark.parametrize("name", LOGINS)
async def test_cut_after_every_byte(name: str) -> None:
    """Never YES, and NO only when the whole line came: a server that hangs up after PASS let strangers in elsewhere."""
    says = LOGINS[name]
    total = sum(map(len, says))

    async def once(cut: int) -> Verdict:
        async with serve(transcript(says, cut=cut)) as server:
            try:
                return (await log_in(server)).verdict
            except Temporary:
                return LATER

    verdicts = await asyncio.gather(*(once(cut) for cut in range(total)))
    assert set(verdicts) == {LATER}
    assert await once(total) is (NO if "refused" in name else YES)


async def test_a_reset_is_temporary() -> None:
    async def reset(talk: Talk) -> None:
        await talk.send(GREETING)
        await talk.line()
        await talk.send(b"+OK\r\n")
        await talk.line()
        talk.cut()

    async with serve(reset) as server:
        with pytest.raises(Temporary):
            await log_in(server)


@pytest.mark.parametrize("says", [[b""], [GREETING, b""], [GREETING, b"+OK\r\n", b""], [GREETING, b"+OK\r\n", b"+OK"]])
async def test_silence_ends_with_the_deadline(says: list[bytes]) -> None:
    async with serve(transcript(says)) as server:
        started = asyncio.get_running_loop().time()
        with pytest.raises(Temporary):
            await log_in(server, seconds=0.05)
        assert asyncio.get_running_loop().time() - started < 2


@pytest.mark.parametrize("position", [0, 1, 2])
async def test_an_endless_line_is_temporary(position: int) -> None:
    says = [*[GREETING, b"+OK\r\n", b"+OK\r\n"][:position], b"+OK" + b"x" * 100_000]
    async with serve(transcript(says)) as server:
        with pytest.raises(Temporary):
            await log_in(server)


# -- TLS ---------------------------------------------------------------------------------------------------------------


async def test_stls_that_is_refused_ends_before_the_password() -> None:
    async with serve(transcript([GREETING, b"-ERR unknown command\r\n", b"+OK\r\n"])) as server:
        endpoint = Endpoint("pop3", "127.0.0.1", server.port, Security.STARTTLS)
        with pytest.raises(SetupTrouble):
            await Pop3Client.connect(endpoint, TlsPolicy(), deadline=soon())
    assert server.lines == [b"STLS"]


async def test_bytes_in_the_clear_behind_stls_end_the_dialogue() -> None:
    async with serve(transcript([GREETING, b"+OK go\r\n+OK injected\r\n"])) as server:
        endpoint = Endpoint("pop3", "127.0.0.1", server.port, Security.STARTTLS)
        with pytest.raises((SetupTrouble, Temporary)):
            await Pop3Client.connect(endpoint, TlsPolicy(), deadline=soon())


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.TLS])
async def test_login_over_tls(security: Security, certificates: Certificates) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.good.chain, certificates.good.key)

    async def play(talk: Talk) -> None:
        await talk.send(GREETING)
        if security is Security.STARTTLS:
            assert await talk.line() == b"STLS"
            await talk.send(b"+OK\r\n")
            await talk.writer.start_tls(context)
        for _ in range(2):
            await talk.line()
            await talk.send(b"+OK\r\n")
        await talk.silence()

    async with serve(play, context=context if security is Security.TLS else None) as server:
        endpoint = Endpoint("pop3", "127.0.0.1", server.port, security)
        policy = TlsPolicy(ca_file=str(certificates.ca_file))
        client = await Pop3Client.connect(endpoint, policy, deadline=soon())
        assert client.stream.secure
        assert (await client.login(b"user", PASSWORD)).verdict is YES
        client.close()
        with pytest.raises(SetupTrouble):
            await Pop3Client.connect(endpoint, TlsPolicy(), deadline=soon())
