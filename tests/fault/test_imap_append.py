"""Messages streamed into an IMAP server: whole or not at all, and the refusal's scope."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from tests.fault.imap_script import Step, logged_in, serving
from wire.endpoint import TlsPolicy, parse_endpoint
from wire.imap.client import ImapClient
from wire.imap.results import Appended
from wire.outcome import MailboxUnavailable, MessageRefused, ProtocolTrouble, Temporary
from wire.secret import Secret

PLUS = b"IMAP4rev1 LITERAL+ UIDPLUS"
MINUS = b"IMAP4rev1 LITERAL-"
NEITHER = b"IMAP4rev1"
MESSAGE = b"Subject: hi\r\n\r\nHello\r\n"


async def pieces(*blocks: bytes | Exception) -> AsyncIterator[bytes]:
    """Chunks, and perhaps a fault among them."""
    for block in blocks:
        if isinstance(block, Exception):
            raise block
        yield block


async def append(
    client: ImapClient, *blocks: bytes | Exception, size: int | None = None, mailbox: bytes = b"INBOX"
) -> Appended:
    """Store the blocks as one message."""
    length = sum(len(block) for block in blocks if isinstance(block, bytes)) if size is None else size
    return await client.append(mailbox, (b"\\Seen", b"$a"), b"17-Jul-1996 02:44:25 -0700", length, pieces(*blocks))


HEAD = b'APPEND "INBOX" (\\Seen $a) "17-Jul-1996 02:44:25 -0700" '


async def test_with_literal_plus() -> None:
    """One round trip, and APPENDUID read."""
    stored = Step(HEAD + b"{22+}\r\n", b"* 5 EXISTS\r\nTAG OK [APPENDUID 17 42] done\r\n", read=24)
    async with logged_in(PLUS, stored) as (client, script):
        assert await append(client, MESSAGE[:7], MESSAGE[7:]) == Appended(17, 42)
        assert client.stream.usable
    assert script.literals == [MESSAGE + b"\r\n"]


async def test_without_literal_plus() -> None:
    """The message waits for `+`, whatever else the server says first."""
    steps = [
        Step(HEAD + b"{22}\r\n", b"* 5 EXISTS\r\n* OK wait\r\n+ go on\r\n"),
        Step(b"Subject: hi\r\n", b"TAG OK done\r\n", read=11),
    ]
    async with logged_in(NEITHER, *steps) as (client, script):
        assert await append(client, MESSAGE) == Appended(None, None)
    assert script.lines[-1] + script.literals[0] == MESSAGE + b"\r\n"


async def test_literal_minus_holds_up_to_its_limit() -> None:
    """RFC 7888: 4096 bytes unasked, 4097 not."""
    steps = [
        Step(b"{4096+}\r\n", b"TAG OK done\r\n", read=4098),
        Step(b"{4097}\r\n", b"+ go on\r\n"),
        Step(None, b"", read=4099),
        Step(None, b"TAG OK done\r\n"),
    ]
    async with logged_in(MINUS, *steps) as (client, _):
        await append(client, b"x" * 4096)
        await append(client, b"x" * 4097)


async def test_a_large_message_asks_first() -> None:
    """A refusal must not cost an upload; and nothing of the message is sent after one."""
    async with logged_in(
        PLUS, Step(b"{2000000}\r\n", b"TAG NO [TOOBIG] too big\r\n"), Step(b"NOOP", b"TAG OK\r\n")
    ) as (
        client,
        _,
    ):
        with pytest.raises(MessageRefused) as caught:
            await append(client, b"x" * 2_000_000)
        assert caught.value.code == "TOOBIG"
        await client.noop()


async def test_an_empty_message_and_no_flags_or_date() -> None:
    """The optional arguments are left out."""
    async with logged_in(PLUS, Step(b'APPEND "INBOX" {0+}\r\n', b"TAG OK\r\n", read=2)) as (client, script):
        await client.append(b"INBOX", (), None, 0, pieces())
    assert script.literals == [b"\r\n"]


async def test_a_mailbox_name_that_needs_a_literal() -> None:
    """Two literals in one command, each waited for."""
    steps = [
        Step(b"APPEND {3}\r\n", b"+ \r\n"),
        Step(b"a\xfcb (\\Seen $a)", b"+ \r\n"),
        Step(b"", b"TAG OK\r\n"),
    ]
    async with logged_in(NEITHER, *steps) as (client, _):
        await append(client, b"x", mailbox=b"a\xfcb")


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"TAG NO Message contains invalid header\r\n", MessageRefused),
        (b"TAG NO [TOOBIG] no\r\n", MessageRefused),
        (b"TAG BAD NUL in message\r\n", MessageRefused),
        (b"TAG NO [TRYCREATE] no such mailbox\r\n", MailboxUnavailable),
        (b"TAG NO [OVERQUOTA] full\r\n", Temporary),
        (b"TAG NO [UNAVAILABLE] later\r\n", Temporary),
        (b"* BYE shutting down\r\n", Temporary),
        (b"zzz OK done\r\n", ProtocolTrouble),
        (b"TAG MAYBE\r\n", ProtocolTrouble),
    ],
)
@pytest.mark.parametrize("capabilities", [PLUS, NEITHER])
async def test_refusals(capabilities: bytes, reply: bytes, kind: type[Exception]) -> None:
    """Before the message or after it, the same meaning."""
    read = len(MESSAGE) + 2 if capabilities is PLUS else 0
    async with logged_in(capabilities, Step(b"APPEND", reply, read=read), Step(b"NOOP", b"TAG OK\r\n")) as (client, _):
        with pytest.raises(kind) as caught:
            await append(client, MESSAGE)
        assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("blocks", "size"),
    [
        ((b"Subject: hi\r\n",), 22),
        ((b"Subject: hi\r\n", Temporary("the source died")), 22),
        ((MESSAGE, Temporary("the source died at the very end")), 22),
        ((MESSAGE, ValueError("a bug")), 22),
        ((MESSAGE + b"more",), 22),
        ((), 22),
    ],
    ids=["short", "dies", "dies at the end", "bug", "long", "nothing"],
)
async def test_a_source_that_fails_stores_nothing(blocks: Sequence[bytes | Exception], size: int) -> None:
    """The connection ends within the literal: no padding, no CRLF, no message."""
    got = b""
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        writer.write(b"* OK [CAPABILITY IMAP4rev1 LITERAL+] ready\r\n")
        login = await reader.readline()
        writer.write(login.split()[0] + b" OK [CAPABILITY IMAP4rev1 LITERAL+] done\r\n")
        try:
            got = await reader.read()
        except ConnectionError:
            got = b""
        gone.set()

    async with serving(serve) as port:
        deadline = asyncio.get_running_loop().time() + 20
        client = await ImapClient.connect(parse_endpoint(f"127.0.0.1:{port}", "imap"), TlsPolicy(), deadline=deadline)
        await client.login(b"u1", Secret(b"x"))
        with pytest.raises((Temporary, ValueError)):
            await append(client, *blocks, size=size)
        assert not client.stream.usable
        await gone.wait()
    _, _, literal = got.partition(b"{22+}\r\n")
    assert len(literal) < size + 2


async def test_cancelled_in_the_literal() -> None:
    """A copy that is stopped leaves no half message behind and no connection to go on with."""

    async def never() -> AsyncIterator[bytes]:
        yield b"Subject"
        await asyncio.Event().wait()

    async with logged_in(NEITHER, Step(b"APPEND", b"+ go on\r\n")) as (client, _):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.append(b"INBOX", (), None, 22, never())
        assert not client.stream.usable


@pytest.mark.parametrize("flag", [b"a b", b"\\Recent", b"x)", b"a\r\nb"])
async def test_flags_that_break_out_are_refused_before_anything_is_sent(flag: bytes) -> None:
    """The connection stays usable."""
    async with logged_in(PLUS, Step(b"NOOP", b"TAG OK\r\n")) as (client, script):
        with pytest.raises(MessageRefused):
            await client.append(b"INBOX", (flag,), None, 1, pieces(b"x"))
        with pytest.raises(MessageRefused):
            await client.append(b"INBOX", (), b'1-Jan-2000" {1}\r\n', 1, pieces(b"x"))
        with pytest.raises(MailboxUnavailable):
            await client.append(b"IN\0BOX", (), None, 1, pieces(b"x"))
        await client.noop()
    assert len(script.lines) == 2


@pytest.mark.parametrize(
    ("mailbox", "flags", "date"),
    [
        (b"INBOX", (), b"31-Feb-2020 00:00:00 +0000"),
        (b"INBOX", (), b"01-Foo-2020 00:00:00 +0000"),
        (b"INBOX", (), b"01-Jan-1900 00:00:00 +0000"),
        (b"INBOX", (), b"01-Jan-2020 24:00:00 +0000"),
        (b"INBOX", (), b"01-Jan-2020 00:00:00 GMT"),
        (b"INBOX", (), b"1-Jan-2020 00:00:00 +0000"),
        (b"INBOX", (b"\\XOdd",), None),
        (b"INBOX", (b"a+b",), None),
        (b"INBOX", (b"k" * 65,), None),
        (b"IN\xfc", (), None),
    ],
)
async def test_mail_is_never_taken_for_commands(mailbox: bytes, flags: Sequence[bytes], date: bytes | None) -> None:
    """Dovecot answers BAD to arguments it dislikes and runs an unasked literal as commands: such a one asks first."""
    head = [Step(b"{3+}\r\n"), Step(b"IN\xfc {18}", b"TAG BAD no\r\n")] if b"\xfc" in mailbox else []
    steps = [*(head or [Step(b"{18}\r\n", b"TAG BAD no\r\n")]), Step(b"NOOP", b"TAG OK\r\n")]
    async with logged_in(PLUS, *steps) as (client, script):
        with pytest.raises(MessageRefused):
            await client.append(mailbox, flags, date, 18, pieces(b"x DELETE INBOX\r\n\r\n"))
        await client.noop()
    assert not any(b"DELETE" in line for line in script.lines)


async def test_after_a_bad_the_place_is_found_again() -> None:
    """What the server says to a literal that it took for commands is passed over, and every later one asks first."""
    stray = b"TAG BAD no\r\nx OK Create completed\r\n* LIST () NIL x\r\ny NO no\r\n* BAD Invalid tag\r\n+ what\r\n"
    steps = [
        Step(b"{22+}\r\n", stray, read=24),
        Step(b"NOOP", b"TAG OK\r\n"),
        Step(b"{22}\r\n", b"+ go on\r\n", read=0),
        Step(b"Subject: hi", b"TAG OK\r\n", read=11),
    ]
    async with logged_in(PLUS, *steps) as (client, _):
        with pytest.raises(MessageRefused):
            await append(client, MESSAGE)
        await append(client, MESSAGE)
        assert client.stream.usable


async def test_a_place_that_is_lost_for_good() -> None:
    """A reply to our NOOP never comes: the connection ends."""
    stray = b"TAG BAD no\r\n" + b"x BAD no\r\n" * 20_000
    async with logged_in(PLUS, Step(b"{22+}\r\n", stray, read=24), Step(b"NOOP", b"")) as (client, _):
        with pytest.raises(ProtocolTrouble):
            await append(client, MESSAGE)
        assert not client.stream.usable


async def test_ok_before_the_message() -> None:
    """It confirms nothing: the message was not sent."""
    async with logged_in(NEITHER, Step(b"APPEND", b"TAG OK [APPENDUID 1 2] done\r\n")) as (client, _):
        with pytest.raises(ProtocolTrouble):
            await append(client, MESSAGE)


async def test_a_huge_message_streams() -> None:
    """50 MB in pieces: each written as it comes, none held."""
    count, block = 800, b"0123456789abcdef" * 4096
    total = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal total
        writer.write(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
        login = await reader.readline()
        writer.write(login.split()[0] + b" OK [CAPABILITY IMAP4rev1] done\r\n")
        command = await reader.readline()
        writer.write(b"+ go on\r\n")
        while total < count * len(block) + 2:
            total += len(await reader.read(1 << 20))
        writer.write(command.split()[0] + b" OK done\r\n")
        await reader.read()

    async with serving(serve) as port:
        deadline = asyncio.get_running_loop().time() + 60
        client = await ImapClient.connect(parse_endpoint(f"127.0.0.1:{port}", "imap"), TlsPolicy(), deadline=deadline)
        await client.login(b"u1", Secret(b"x"))
        await append(client, *[block] * count)
        client.close()
    assert total == count * len(block) + 2
