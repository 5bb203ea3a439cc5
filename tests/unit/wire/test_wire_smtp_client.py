"""The SMTP dialogue against a server whose every byte is scripted."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence

import pytest

from tests.servers.certificates import Certificates
from tests.servers.script import Play, ScriptServer, Talk, serve, transcript, until
from wire.endpoint import Endpoint, Security, TlsPolicy
from wire.outcome import MailboxUnavailable, MessageRefused, Permanent, SetupTrouble, Temporary, Verdict
from wire.smtp import DeliveryUnclear, SmtpClient, SmtpReply, check_address, classify_rcpt

BANNER = b"220 old.test ESMTP\r\n"
EHLO = b"250-old.test\r\n250-SIZE 1000000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 PIPELINING\r\n"
READY = [BANNER, EHLO]


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def connect(server: ScriptServer, *, seconds: float = 5.0) -> SmtpClient:
    return await SmtpClient.connect(server.endpoint("smtp"), TlsPolicy(), helo="new.test", deadline=soon(seconds))


async def probe(server: ScriptServer, *, seconds: float = 5.0) -> SmtpReply:
    client = await connect(server, seconds=seconds)
    try:
        await client.mail("")
        return await client.rcpt("a@b")
    finally:
        client.close()


async def chunks(parts: Sequence[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_extensions_are_read_from_ehlo() -> None:
    async with serve(transcript(READY)) as server:
        client = await connect(server)
        assert client.extensions == {"SIZE": "1000000", "8BITMIME": "", "SMTPUTF8": "", "PIPELINING": ""}
        assert client.size_limit == 1_000_000
        assert client.usable
        client.close()
        assert not client.usable
    assert server.lines == [b"EHLO new.test"]


@pytest.mark.parametrize("reply", [b"500 what\r\n", b"502 no\r\n", b"550-no\r\n550 no\r\n"])
async def test_helo_where_ehlo_is_not_known(reply: bytes) -> None:
    async with serve(transcript([BANNER, reply, b"250 old.test\r\n"])) as server:
        client = await connect(server)
        assert client.extensions == {}
        assert client.size_limit is None
        client.close()
    assert server.lines == [b"EHLO new.test", b"HELO new.test"]


@pytest.mark.parametrize(
    "says",
    [
        [b"554 no service\r\n"],
        [b"421 busy\r\n"],
        [b"250 not a banner\r\n"],
        [b"+OK POP3\r\n"],
        [b"\r\n"],
        [BANNER, b"421 busy\r\n"],
        [BANNER, b"450 later\r\n"],
        [BANNER, b"500 what\r\n", b"550 no\r\n"],
        [BANNER, b"250-a\r\n550 b\r\n"],
        [BANNER + b"250 early\r\n"],
    ],
)
async def test_a_refusal_before_mail_is_about_the_server(says: list[bytes]) -> None:
    async with serve(transcript(says)) as server:
        with pytest.raises(Temporary):
            await connect(server)


async def test_recipients_are_asked_and_replies_are_values() -> None:
    says = [
        *READY,
        b"250 ok\r\n",
        b"250 2.1.5 ok\r\n",
        b"550-5.1.1 no\r\n550 5.1.1 such user\r\n",
        b"250 ok\r\n",
        b"221 bye\r\n",
    ]
    async with serve(transcript(says)) as server:
        client = await connect(server)
        assert (await client.mail("")).code == 250
        assert (await client.rcpt("known@old.test")).enhanced == "2.1.5"
        refused = await client.rcpt("unknown@old.test")
        assert (refused.code, refused.enhanced, refused.text) == (550, "5.1.1", "5.1.1 no 5.1.1 such user")
        assert (await client.rset()).code == 250
        assert client.usable
        await client.quit()
        assert not client.usable
    assert server.lines[1:] == [
        b"MAIL FROM:<>",
        b"RCPT TO:<known@old.test>",
        b"RCPT TO:<unknown@old.test>",
        b"RSET",
        b"QUIT",
    ]


async def test_parameters_only_where_the_server_knows_them() -> None:
    async with serve(transcript([*READY, b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n"])) as server:
        client = await connect(server)
        await client.mail("a@b", size=17, eight_bit=True)
        await client.mail("ä@b", size=17)
        await client.rcpt("日本@例え.test")
        client.close()
    assert server.lines[1:] == [
        b"MAIL FROM:<a@b> SIZE=17 BODY=8BITMIME",
        "MAIL FROM:<ä@b> SIZE=17 BODY=8BITMIME SMTPUTF8".encode(),
        "RCPT TO:<日本@例え.test>".encode(),
    ]
    async with serve(transcript([BANNER, b"250 old.test\r\n", b"250 ok\r\n"])) as server:
        client = await connect(server)
        await client.mail("a@b", size=17, eight_bit=True)
        with pytest.raises(Permanent):
            await client.mail("ä@b")
        with pytest.raises(Permanent):
            await client.rcpt("ä@b")
        client.close()
    assert server.lines[1:] == [b"MAIL FROM:<a@b>"]


@pytest.mark.parametrize(
    "address",
    [
        "a@b\r\nQUIT",
        "a@b\n",
        "a@b\r",
        "a@b\0",
        "a@b>",
        "<a@b>",
        "a@b> SIZE=1",
        "a b@c",
        "a@b c",
        "@b",
        "a@",
        "a@b@c",
        'a"b@c',
        '"a@c',
        '"a>b"@c',
        "a@[1.2.3.4",
        "a@-b",
        "a,b@c",
        "a\x1b@c",
        "a\x85@c\x7f",
        "",
        "x" * 400 + "@c",
        "\udce4@c",
    ],
)
async def test_an_address_is_never_a_command(address: str) -> None:
    with pytest.raises(Permanent):
        check_address(address)
    async with serve(transcript(READY)) as server:
        client = await connect(server)
        if address:
            with pytest.raises(Permanent):
                await client.mail(address)
        with pytest.raises(Permanent):
            await client.rcpt(address)
        assert client.usable
        client.close()
    assert len(server.lines) == 1


@pytest.mark.parametrize(
    "address",
    [
        "a@b",
        "a.b+c=d@x-y.test",
        "postmaster",
        '"a b"@c',
        r'"a\"b"@c',
        "a@[192.0.2.1]",
        "a@[IPv6:2001:db8::1]",
        "o'x#!@y.z",
    ],
)
def test_addresses_of_every_kind_pass(address: str) -> None:
    assert check_address(address) == address


async def test_a_name_for_ehlo_is_never_a_command() -> None:
    with pytest.raises(SetupTrouble):
        await SmtpClient.connect(Endpoint("smtp", "127.0.0.1", 1), TlsPolicy(), helo="a\r\nQUIT", deadline=soon())


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        ([b"Subject: a\r\n\r\nbody\r\n"], [b"Subject: a", b"", b"body", b"."]),
        ([b"no line end"], [b"no line end", b"."]),
        ([], [b"."]),
        ([b".", b"\r", b"\n", b".", b".x\r\n"], [b"..", b"...x", b"."]),
        ([b"a\r\n", b"", b".\r\nQUIT\r\n"], [b"a", b"..", b"QUIT", b"."]),
    ],
)
async def test_a_message_goes_out_with_its_dots_doubled(message: list[bytes], sent: list[bytes]) -> None:
    async def play(talk: Talk) -> None:
        for part in [*READY, b"354 go\r\n"]:
            await talk.send(part)
            await talk.line()
        while server.lines[-1] != b".":
            await talk.line()
        await talk.send(b"250 2.0.0 queued\r\n")
        await talk.silence()

    async with serve(play) as server:
        client = await connect(server)
        assert (await client.data(chunks(message))).code == 250
        assert client.usable
        client.close()
    assert server.lines[2:] == sent


def accepts(*replies: bytes) -> Play:
    """Greets, then answers the commands in turn; DATA's last reply comes after the final dot."""

    async def play(talk: Talk) -> None:
        await talk.send(BANNER)
        await talk.line()
        await talk.send(EHLO)
        for reply in replies:
            line = await talk.line()
            if reply.startswith(b"after"):
                while line != b".":
                    line = await talk.line()
                reply = reply[6:]  # noqa: PLW2901  # the mark is not part of the reply
            await talk.send(reply + b"\r\n" if reply else b"")
        await talk.silence()

    return play


async def send(server: ScriptServer, *, size: int | None = None, seconds: float = 5.0) -> int:
    client = await connect(server, seconds=seconds)
    try:
        return (await client.send("", ["a@b", "c@d"], chunks([b"x\r\n"]), size=size)).code
    finally:
        client.close()


async def test_a_whole_message_is_handed_over() -> None:
    async with serve(accepts(b"250 ok", b"250 ok", b"250 ok", b"354 go", b"after 250 queued")) as server:
        assert await send(server, size=3) == 250
    assert server.lines[1:] == [b"MAIL FROM:<> SIZE=3", b"RCPT TO:<a@b>", b"RCPT TO:<c@d>", b"DATA", b"x", b"."]


@pytest.mark.parametrize(
    ("replies", "kind", "code"),
    [
        ([b"550 5.7.1 no"], MessageRefused, "5.7.1"),
        ([b"451 later"], Temporary, "451"),
        ([b"250 ok", b"550 5.1.1 no"], MailboxUnavailable, "5.1.1"),
        ([b"250 ok", b"450 later"], Temporary, "450"),
        ([b"250 ok", b"250 ok", b"250 ok", b"554 no"], MessageRefused, "554"),
        ([b"250 ok", b"250 ok", b"250 ok", b"354 go", b"after 554 5.6.0 bad"], MessageRefused, "5.6.0"),
        ([b"250 ok", b"250 ok", b"250 ok", b"354 go", b"after 452 4.3.1 full"], Temporary, "4.3.1"),
        ([b"421 closing"], Temporary, "421"),
    ],
)
async def test_refusals_say_whom_they_are_about(replies: list[bytes], kind: type[Exception], code: str) -> None:
    async with serve(accepts(*replies, b"250 reset")) as server:
        with pytest.raises(kind) as caught:
            await send(server)
    assert not isinstance(caught.value, DeliveryUnclear)
    assert getattr(caught.value, "code", "") == code
    assert (b"RSET" in server.lines) is (code != "421")


async def test_a_message_above_the_limit_is_not_sent() -> None:
    async with serve(transcript(READY)) as server:
        with pytest.raises(MessageRefused):
            await send(server, size=1_000_001)
    assert len(server.lines) == 1


async def test_a_lost_reply_to_the_final_dot_is_unclear() -> None:
    async def play(talk: Talk) -> None:
        for part in [*READY, b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"]:
            await talk.send(part)
            await talk.line()
        while server.lines[-1] != b".":
            await talk.line()
        await talk.send(b"250 2.0.0 que")

    async with serve(play) as server:
        with pytest.raises(DeliveryUnclear):
            await send(server)


async def test_silence_after_the_final_dot_is_unclear() -> None:
    async with serve(accepts(b"250 ok", b"250 ok", b"250 ok", b"354 go", b"after ")) as server:
        with pytest.raises(DeliveryUnclear):
            await send(server, seconds=0.2)


async def test_a_connection_lost_in_the_message_is_clear() -> None:
    async def play(talk: Talk) -> None:
        for part in [*READY, b"354 go\r\n"]:
            await talk.send(part)
            await talk.line()
        talk.cut()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 998 + b"\r\n"
            await asyncio.sleep(0)

    async with serve(play) as server:
        client = await connect(server)
        with pytest.raises(Temporary) as caught:
            await client.data(endless())
        assert not isinstance(caught.value, DeliveryUnclear)


async def test_a_source_that_fails_in_the_middle_leaves_nothing_accepted() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half a mess"
        raise Temporary("source gone")

    async with serve(accepts(b"354 go", b"", b"")) as server:
        client = await connect(server)
        with pytest.raises(Temporary, match="source gone") as caught:
            await client.data(broken())
        assert not isinstance(caught.value, DeliveryUnclear)
        assert not client.usable
        with pytest.raises(Temporary):
            await client.rset()
    assert b"." not in server.lines


@pytest.mark.parametrize("says", [[*READY, b"250 ok\r\n250 too much\r\n"], [BANNER, EHLO + b"421 closing\r\n"]])
async def test_unsolicited_lines_are_seen_before_the_next_command(says: list[bytes]) -> None:
    async with serve(transcript(says)) as server:
        with pytest.raises(Temporary, match="before the command"):
            await probe(server)
    assert b"RCPT TO:<a@b>" not in server.lines


async def test_a_cancelled_command_costs_the_connection() -> None:
    async with serve(transcript([*READY, b""])) as server:
        client = await connect(server)
        task = asyncio.create_task(client.mail(""))
        await until(lambda: len(server.lines) == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not client.usable


PROBES = {
    "known": [*READY, b"250 ok\r\n", b"250 2.1.5 ok\r\n"],
    "unknown": [*READY, b"250 ok\r\n", b"550-5.1.1 no such\r\n550 5.1.1 user\r\n"],
    "helo": [BANNER, b"500 what\r\n", b"250 old.test\r\n", b"250 ok\r\n", b"550 5.1.1 no\r\n"],
}


@pytest.mark.parametrize("name", PROBES)
async def test_cut_after_every_byte(name: str) -> None:
    """Never YES, and NO only when the whole reply came."""
    says = PROBES[name]
    total = sum(map(len, says))

    async def once(cut: int) -> Verdict:
        async with serve(transcript(says, cut=cut)) as server:
            try:
                return classify_rcpt(await probe(server), known_accepted=True).verdict
            except Temporary:
                return Verdict.LATER

    verdicts = await asyncio.gather(*(once(cut) for cut in range(total)))
    assert set(verdicts) == {Verdict.LATER}
    assert await once(total) is (Verdict.YES if name == "known" else Verdict.NO)


@pytest.mark.parametrize("says", [[b""], [BANNER, b""], [*READY, b""], [*READY, b"250-half"]])
async def test_silence_ends_with_the_deadline(says: list[bytes]) -> None:
    async with serve(transcript(says)) as server:
        started = asyncio.get_running_loop().time()
        with pytest.raises(Temporary):
            await probe(server, seconds=0.05)
        assert asyncio.get_running_loop().time() - started < 2


@pytest.mark.parametrize("reply", [b"250-" + b"x" * 100_000, b"250-x\r\n" * 1000, b"2" * 100_000])
async def test_endless_replies_are_trouble(reply: bytes) -> None:
    async with serve(transcript([*READY, reply])) as server:
        client = await connect(server)
        with pytest.raises(Temporary):
            await client.mail("")
        assert not client.usable


# -- TLS ---------------------------------------------------------------------------------------------------------------

OFFER = b"250-old.test\r\n250 STARTTLS\r\n"


def tls_server(context: ssl.SSLContext) -> Play:
    async def play(talk: Talk) -> None:
        await talk.send(BANNER)
        await talk.line()
        await talk.send(OFFER)
        if await talk.line() == b"STARTTLS":
            await talk.send(b"220 go\r\n")
            await talk.writer.start_tls(context)
            await talk.line()
            await talk.send(b"250-old.test\r\n250 SIZE 5\r\n")
            await talk.line()
        await talk.send(b"250 ok\r\n")
        await talk.silence()

    return play


@pytest.mark.parametrize("required", [True, False])
async def test_tls_is_started_and_ehlo_said_again(required: bool, certificates: Certificates) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.good.chain, certificates.good.key)
    async with serve(tls_server(context)) as server:
        security = Security.STARTTLS if required else Security.PLAIN
        endpoint = Endpoint("smtp", "127.0.0.1", server.port, security)
        policy = TlsPolicy(ca_file=str(certificates.ca_file))
        client = await SmtpClient.connect(
            endpoint, policy, helo="new.test", deadline=soon(), opportunistic=not required
        )
        assert client.stream.secure
        assert client.extensions == {"SIZE": "5"}
        assert (await client.mail("")).code == 250
        client.close()
        with pytest.raises(SetupTrouble):
            await SmtpClient.connect(endpoint, TlsPolicy(), helo="new.test", deadline=soon(), opportunistic=True)
        client = await SmtpClient.connect(server.endpoint("smtp"), policy, helo="new.test", deadline=soon())
        assert not client.stream.secure
        client.close()


@pytest.mark.parametrize(
    ("says", "kind"),
    [
        (READY, SetupTrouble),
        ([BANNER, OFFER, b"454 not now\r\n"], Temporary),
        ([BANNER, OFFER, b"554 never\r\n"], SetupTrouble),
        ([BANNER, OFFER, b"220 go\r\n250 injected\r\n"], SetupTrouble),
    ],
)
async def test_no_tls_where_it_is_required(says: list[bytes], kind: type[Exception]) -> None:
    async with serve(transcript(says)) as server:
        endpoint = Endpoint("smtp", "127.0.0.1", server.port, Security.STARTTLS)
        with pytest.raises(kind):
            await SmtpClient.connect(endpoint, TlsPolicy(), helo="new.test", deadline=soon())
    assert not any(line.startswith(b"MAIL") for line in server.lines)
