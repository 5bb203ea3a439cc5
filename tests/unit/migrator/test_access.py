"""Opening a session: the door is tried a few times, a login once."""

from __future__ import annotations

import asyncio
import socket

import pytest

from migrator.access import Access, open_both, open_imap, open_pop
from migrator.report import SourceRefused, TargetRefused
from tests.servers.memory_imap import MemoryImap
from tests.servers.script import Talk, serve
from wire.endpoint import parse_endpoint
from wire.outcome import Temporary, Unreachable
from wire.secret import Secret


def _access(protocol: str, port: int) -> Access:
    return Access(parse_endpoint(f"127.0.0.1:{port}", protocol), b"joe", Secret(b"secret"))


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


async def test_a_server_that_is_just_starting_is_waited_for() -> None:
    port = _closed_port()
    opening = asyncio.create_task(open_imap(_access("imap", port), source=True, timeout=20))
    await asyncio.sleep(0.01)  # the first attempt has been refused by now; if it has not, it just succeeds

    async def play(talk: Talk) -> None:
        await talk.send(b"* OK [CAPABILITY IMAP4rev1] up again\r\n")
        line = await talk.line()
        await talk.send(line.split(b" ")[0] + b" OK [CAPABILITY IMAP4rev1] in\r\n")
        await talk.silence()

    async with serve(play, port=port):
        client = await opening
        client.close()


async def test_a_server_that_stays_away_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="cannot connect"):
        await open_imap(_access("imap", _closed_port()), source=True, timeout=20)
    with pytest.raises(Unreachable, match="cannot connect"):
        await open_pop(_access("pop3", _closed_port()), timeout=20)


@pytest.mark.parametrize(
    ("greeting", "reply", "kind"),
    [
        (b"* BYE too many connections\r\n", b"", Temporary),
        (b"* OK [CAPABILITY IMAP4rev1] ready\r\n", b" NO [AUTHENTICATIONFAILED] no\r\n", SourceRefused),
        (b"* OK [CAPABILITY IMAP4rev1] ready\r\n", b" NO [UNAVAILABLE] later\r\n", Temporary),
    ],
)
async def test_what_a_server_has_said_is_never_asked_again(
    greeting: bytes, reply: bytes, kind: type[Exception]
) -> None:
    dialogues = 0

    async def play(talk: Talk) -> None:
        nonlocal dialogues
        dialogues += 1
        await talk.send(greeting)
        if reply:
            line = await talk.line()
            await talk.send(line.split(b" ")[0] + reply)

    async with serve(play) as server:
        with pytest.raises(kind) as caught:
            await open_imap(_access("imap", server.port), source=True, timeout=20)
    assert not isinstance(caught.value, Unreachable)
    assert dialogues == 1


async def test_both_ends_are_reached_at_once_and_the_sources_trouble_is_told_first() -> None:
    """A target that cannot be reached is told only after the source said what it thinks of the login."""
    heard: list[str] = []
    async with MemoryImap() as old, MemoryImap() as new:
        source, target = _access("imap", old.port), _access("imap", new.port)
        ends = await open_both(source, target, timeout=20, rate=0, compress=False, logged_in=heard.append)
        assert heard == ["source: logged in", "target: logged in"]
        for client in ends:
            client.close()
        old.accepts_login = lambda: b"NO [AUTHENTICATIONFAILED] no"
        gone = _access("imap", _closed_port())
        with pytest.raises(SourceRefused):
            await open_both(source, gone, timeout=20, rate=0, compress=False, logged_in=heard.append)
        new.accepts_login = lambda: b"NO [AUTHENTICATIONFAILED] no"
        with pytest.raises(SourceRefused):
            await open_both(source, target, timeout=20, rate=0, compress=False, logged_in=heard.append)
        old.accepts_login = lambda: b"OK in"
        with pytest.raises(Unreachable):
            await open_both(source, gone, timeout=20, rate=0, compress=False, logged_in=heard.append)
        with pytest.raises(TargetRefused):
            await open_both(source, target, timeout=20, rate=0, compress=False, logged_in=heard.append)
