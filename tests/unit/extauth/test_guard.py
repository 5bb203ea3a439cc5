"""Which servers are CommuniGate itself, and which requests are our own questions coming back."""

from __future__ import annotations

import pytest

from extauth.guard import OwnServers, UnderWay
from wire.endpoint import parse_endpoint


def own(cli: str, imap: str, smtp: str) -> OwnServers:
    """CommuniGate as the configuration names it."""
    return OwnServers(parse_endpoint(cli, "cli"), parse_endpoint(imap, "imap"), parse_endpoint(smtp, "smtp"))


@pytest.mark.parametrize(
    ("communigate", "peer", "loop"),
    [
        # CommuniGate elsewhere, on standard ports: everything standard at its address is its own
        (("192.0.2.1:106", "192.0.2.1:143", "192.0.2.1:25"), ("192.0.2.1", 143), True),
        (("192.0.2.1:106", "192.0.2.1:143", "192.0.2.1:25"), ("192.0.2.1", 993), True),
        (("192.0.2.1:106", "192.0.2.1:143", "192.0.2.1:25"), ("192.0.2.1", 110), True),
        (("192.0.2.1:106", "192.0.2.1:143", "192.0.2.1:25"), ("::ffff:192.0.2.1", 143), True),
        (("192.0.2.1:106", "192.0.2.1:143", "192.0.2.1:25"), ("192.0.2.2", 143), False),
        (("192.0.2.1:106", "192.0.2.1:143", "192.0.2.1:25"), ("192.0.2.1", 10143), False),
        # CommuniGate moved to other ports: the standard ones of that machine may be the old server's
        (("192.0.2.1:8106", "192.0.2.1:8143", "192.0.2.1:8025"), ("192.0.2.1", 143), False),
        (("192.0.2.1:8106", "192.0.2.1:8143", "192.0.2.1:8025"), ("192.0.2.1", 8143), True),
        # reached by loopback: every address of this machine is CommuniGate's
        (("127.0.0.1:106", "127.0.0.1:143", "127.0.0.1:25"), ("127.0.0.2", 143), True),
        (("127.0.0.1:106", "127.0.0.1:143", "127.0.0.1:25"), ("192.0.2.1", 143), False),
        # both on one loopback, ports apart
        (("127.0.0.1:40001", "127.0.0.1:40002", "127.0.0.1:40003"), ("127.0.0.1", 40004), False),
        (("127.0.0.1:40001", "127.0.0.1:40002", "127.0.0.1:40003"), ("127.0.0.1", 40002), True),
        (("[::1]:106", "[::1]:143", "[::1]:25"), ("::1", 143), True),
        (("127.0.0.1:106", "127.0.0.1:143", "127.0.0.1:25"), None, False),
    ],
)
async def test_own_servers(communigate: tuple[str, str, str], peer: tuple[str, int] | None, loop: bool) -> None:
    """By address and port."""
    assert await own(*communigate).owns(peer) is loop


async def test_echoes() -> None:
    """Only while we ask, only from the old server, and never from an address it shares with CommuniGate."""
    under_way = UnderWay(own("127.0.0.1:106", "127.0.0.1:143", "127.0.0.1:25"))
    old = parse_endpoint("old.example.test", "smtp")
    shared = parse_endpoint("127.0.0.1:2525", "smtp")
    numeric = parse_endpoint("192.0.2.9", "imap")
    under_way.note_peer(old, ("192.0.2.7", 25))
    assert not await under_way.is_echo("u@d.test", "192.0.2.7", (old,))
    with under_way.asking("u@d.test"), under_way.asking("u@d.test"):
        assert await under_way.is_echo("u@d.test", "192.0.2.7", (old,))
        assert await under_way.is_echo("u@d.test", "::ffff:192.0.2.7", (None, old))
        assert await under_way.is_echo("u@d.test", "192.0.2.9", (old, numeric))
        assert not await under_way.is_echo("v@d.test", "192.0.2.7", (old,))
        assert not await under_way.is_echo("u@d.test", "192.0.2.8", (old,))
        assert not await under_way.is_echo("u@d.test", "", (old,))
        assert not await under_way.is_echo("u@d.test", "127.0.0.1", (shared,))
    assert not await under_way.is_echo("u@d.test", "192.0.2.7", (old,))


async def test_a_name_that_does_not_resolve_owns_nothing() -> None:
    """And stops nothing."""
    assert not await own("nowhere.invalid:106", "nowhere.invalid:143", "nowhere.invalid:25").owns(("192.0.2.1", 143))
