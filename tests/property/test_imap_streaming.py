"""Messages streamed out of IMAP replies that arrive in any pieces: the same bytes, and the same verdicts."""

from __future__ import annotations

import asyncio
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from wire.endpoint import Endpoint
from wire.imap.client import ImapClient
from wire.outcome import Temporary, Verdict
from wire.secret import Secret
from wire.stream import Stream, _Protocol


class Wire(asyncio.Transport):
    """A transport that goes nowhere: what is written is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """`data` cut at the given places."""
    marks = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(marks)]


async def feed(protocol: _Protocol, pieces: list[bytes]) -> None:
    """Deliver the pieces one by one, then the end."""
    for piece in pieces:
        await asyncio.sleep(0)
        protocol.data_received(piece)
    await asyncio.sleep(0)
    protocol.eof_received()


def client_over(protocol: _Protocol) -> ImapClient:
    """A client whose tags are a1, a2, ..."""
    transport = Wire()
    protocol.connection_made(transport)
    return ImapClient(Stream(Endpoint("imap", "test", 143), protocol, transport), tag_prefix=b"a")


async def fetched(pieces: list[bytes], uids: list[int], window: int) -> list[tuple[int, int | None, bytes]]:
    """(uid, size, content) of each body."""
    protocol = _Protocol()
    client = client_over(protocol)
    feeding = asyncio.ensure_future(_after_start(protocol, pieces))
    found = [
        (body.uid, body.size, b"".join([piece async for piece in body.chunks]))
        async for body in client.fetch_bodies(uids, window=window)
    ]
    await feeding
    return found


async def _after_start(protocol: _Protocol, pieces: list[bytes]) -> None:
    await asyncio.sleep(0)  # nothing may be there before the commands are
    await feed(protocol, pieces)


contents = st.lists(
    st.one_of(
        st.none(), st.binary(max_size=40), st.sampled_from([b"\r\n", b")\r\na1 OK\r\n", b"{3}\r\n", b"* BYE\r\n"])
    ),
    min_size=1,
    max_size=6,
)


@settings(deadline=None)
@given(contents, st.lists(st.integers(0, 1 << 16), max_size=12), st.integers(0, 2), st.booleans())
def test_any_cut_gives_the_same_messages(messages: list[bytes | None], places: list[int], form: int, lag: bool) -> None:
    """Literals, quoted strings, gone messages, tagged replies at once or all at the end."""
    said, tagged = b"", b""
    expected = []
    for index, content in enumerate(messages, 1):
        if content is not None:
            if form == 1 and not set(content) & set(b"\r\n\0"):
                text = b'"' + content.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
            else:
                text = b"{%d}\r\n%b" % (len(content), content)
            said += b"* %d FETCH (%b)\r\n" % (
                index,
                b"BODY[] %b UID %d" % (text, index) if form == 2 else b"UID %d BODY[] %b" % (index, text),
            )
        said += b"* %d EXISTS\r\n" % index
        reply = b"a%d OK done\r\n" % index
        if lag and None not in messages:
            tagged += reply
        else:
            said += reply
        expected.append((index, None if content is None else len(content), content or b""))
    whole = said + tagged
    uids = list(range(1, len(messages) + 1))
    assert asyncio.run(fetched(cut(whole, places), uids, len(uids) * 2)) == expected


async def verdict_on(pieces: list[bytes]) -> Verdict:
    """The verdict on a login whose reply comes in pieces."""
    protocol = _Protocol()
    client = client_over(protocol)
    protocol.data_received(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
    await client._read_greeting()
    feeding = asyncio.ensure_future(_after_start(protocol, pieces))
    try:
        verdict = (await client.login(b"u", Secret(b"p"), refresh_capabilities=False)).verdict
    except Temporary:
        verdict = Verdict.LATER
    await feeding
    return verdict


replies = st.lists(
    st.sampled_from(
        [b"a1 ", b"a2 ", b"* ", b"OK", b"NO", b"BAD", b" ", b"[AUTHENTICATIONFAILED] ", b"text", b"\r\n", b"+ "]
    )
    | st.binary(max_size=3),
    max_size=10,
).map(b"".join)


@settings(deadline=None)
@given(replies, st.lists(st.integers(0, 1 << 16), max_size=8))
def test_a_login_is_judged_by_whole_lines_only(reply: bytes, places: list[int]) -> None:
    """Whatever comes, however cut: YES and NO only when a whole line with our tag says so."""
    whole = asyncio.run(verdict_on([reply] if reply else []))
    assert asyncio.run(verdict_on(cut(reply, places))) is whole
    lines = [line.removesuffix(b"\r").upper() for line in reply.split(b"\n")[:-1]]
    if whole is Verdict.YES:
        assert any(line == b"A1 OK" or line.startswith(b"A1 OK ") for line in lines)
    if whole is Verdict.NO:
        assert any(line == b"A1 NO" or line.startswith(b"A1 NO ") for line in lines)
