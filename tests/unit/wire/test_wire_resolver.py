"""Names are looked up apart from each other: one that hangs holds up nobody else, however many ask for it."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from tests.servers.script import until
from wire.resolver import Resolver, is_address


class Names:
    """Name servers of the test: `known` are answered, all others hang until `answer` is set."""

    def __init__(self, **known: str) -> None:
        self.known = known
        self.asked: list[str] = []
        self.answer = threading.Event()

    def __call__(self, host: str, _port: None, **_kind: Any) -> list[Any]:
        self.asked.append(host)
        if host not in self.known:
            self.answer.wait()
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, 0)) for text in self.known[host].split()]


async def test_names_that_hang_hold_up_no_other() -> None:
    """A thousand who ask for three such names take three threads."""
    names = Names(healthy="192.0.2.1 192.0.2.2")
    resolver = Resolver(names)
    waiting = [asyncio.create_task(resolver.addresses(f"hangs{n % 3}")) for n in range(1000)]
    try:
        await until(lambda: len(names.asked) == 3)
        assert await resolver.addresses("healthy") == ("192.0.2.1", "192.0.2.2")
        assert not any(task.done() for task in waiting)
        waiting[0].cancel()  # who gives up takes nobody with him
    finally:
        names.answer.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(isinstance(result, socket.gaierror) for result in results[1:])
    assert sorted(names.asked) == ["hangs0", "hangs1", "hangs2", "healthy"]


async def test_what_was_found_counts_while_it_cannot_be_found_anew() -> None:
    now = 1000.0
    names = Names(old="192.0.2.1")
    resolver = Resolver(names, clock=lambda: now)
    assert await resolver.addresses("old") == ("192.0.2.1",)
    now += 59
    assert await resolver.addresses("old") == ("192.0.2.1",)
    assert names.asked == ["old"]
    del names.known["old"]
    now += 3600
    assert await resolver.addresses("old") == ("192.0.2.1",)
    await until(lambda: names.asked == ["old", "old"])
    names.answer.set()
    now += 86_400
    with pytest.raises(socket.gaierror):
        await resolver.addresses("old")


async def test_lookups_are_bounded() -> None:
    """Where too many hang, names that were found before still count, however old."""
    now = 1000.0
    names = Names(old="192.0.2.1")
    resolver = Resolver(names, lookups=2, clock=lambda: now)
    await resolver.addresses("old")
    now += 3600
    waiting = [asyncio.create_task(resolver.addresses(f"hangs{n}")) for n in range(2)]
    try:
        await until(lambda: len(names.asked) == 3)
        assert await resolver.addresses("old") == ("192.0.2.1",)
        with pytest.raises(OSError, match="too many lookups"):
            await resolver.addresses("one more")
        assert await resolver.addresses("192.0.2.9") == ("192.0.2.9",)
    finally:
        names.answer.set()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_system_without_threads_is_no_name_and_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    resolver = Resolver(Names(old="192.0.2.1"), lookups=1)
    with monkeypatch.context() as system:
        system.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="new thread"):
            await resolver.addresses("old")
    assert await resolver.addresses("old") == ("192.0.2.1",)


async def test_the_address_that_answered_comes_first() -> None:
    resolver = Resolver(Names(old="2001:db8::1 192.0.2.1"))
    await resolver.addresses("old")
    resolver.prefer("old", "192.0.2.1")
    assert await resolver.addresses("old") == ("192.0.2.1", "2001:db8::1")


@pytest.mark.parametrize(
    ("host", "address"),
    [("192.0.2.1", True), ("2001:db8::1", True), ("fe80::1%eth0", True), ("old.example.test", False), ("", False)],
)
def test_addresses_are_not_looked_up(host: str, address: bool) -> None:
    assert is_address(host) is address
