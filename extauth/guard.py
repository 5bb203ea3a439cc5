"""Loops: an old server that is CommuniGate itself, and requests that come back to us through the old server.

After the switch `imap.example.com` may lead to CommuniGate, and an old server may ask CommuniGate about the very
recipient that we are asking it about. Either way each side would wait for the other until its deadline; so both are
found out and answered at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from wire.endpoint import Endpoint
from wire.resolver import resolver

# where mail servers listen; CommuniGate listens on all of them at its address, unless it was moved elsewhere
_STANDARD: Final = frozenset({25, 465, 587, 110, 995, 143, 993})
_RESOLVED: Final = 60.0  # seconds that an address of CommuniGate's is remembered
_LOOKUP: Final = 2.0  # seconds to look its name up


class OwnServers:
    """CommuniGate's listeners by address, to compare connections with."""

    def __init__(self, *endpoints: Endpoint) -> None:
        self._endpoints = endpoints
        self._ports = {endpoint.port for endpoint in endpoints}
        self._on_standard_ports = any(endpoint.port in _STANDARD for endpoint in endpoints)
        self._addresses: frozenset[str] = frozenset()
        self._here = False
        self._until = 0.0

    async def owns(self, peer: tuple[str, int] | None) -> bool:
        """Whether the server connected to at `peer` is CommuniGate.

        It is at one of CommuniGate's addresses, and on a port that the configuration names as CommuniGate's, or on
        any standard mail port if CommuniGate itself is on standard ports. An old server that shares the machine is
        told apart by its port. Where CommuniGate is reached by a loopback address, every address of this machine is
        CommuniGate's.
        """
        if peer is None:
            return False
        host, port = _plain(peer[0]), peer[1]
        if port not in self._ports and not (port in _STANDARD and self._on_standard_ports):
            return False
        await self._refresh()
        return host in self._addresses or (self._here and _is_local(host))

    async def has_address(self, address: str) -> bool:
        """Whether `address` is one that CommuniGate's listeners are configured by."""
        await self._refresh()
        return _plain(address) in self._addresses

    async def _refresh(self) -> None:
        if time.monotonic() < self._until:
            return
        self._until = time.monotonic() + _RESOLVED
        found: set[str] = set()
        for host in {endpoint.host for endpoint in self._endpoints}:
            found |= await _resolve(host)
        self._addresses = frozenset(found)
        self._here = any(ipaddress.ip_address(address).is_loopback for address in found)


class UnderWay:
    """Which accounts we are asking old servers about, and at which addresses those servers are."""

    def __init__(self, own: OwnServers) -> None:
        self._own = own
        self._accounts: Counter[str] = Counter()
        self._peers: dict[str, str] = {}

    def note_peer(self, endpoint: Endpoint, peer: tuple[str, int] | None) -> None:
        """Remember at which address an old server was reached."""
        if peer is not None:
            self._peers[endpoint.host] = _plain(peer[0])

    def peer(self, endpoint: Endpoint) -> str | None:
        """The numeric address of an old server: where it was reached last, or what its endpoint says."""
        return self._peers.get(endpoint.host) or _numeric(endpoint.host)

    async def find_peer(self, endpoint: Endpoint) -> str | None:
        """`peer`, looked up where the server was not reached yet; None where its name leads nowhere."""
        if (known := self.peer(endpoint)) is not None:
            return known
        found = sorted(await _resolve(endpoint.host), key=lambda address: (":" in address, address))
        if not found:
            return None
        return self._peers.setdefault(endpoint.host, found[0])

    @contextlib.contextmanager
    def asking(self, account: str) -> Iterator[None]:
        """While an old server is being asked about `account`."""
        self._accounts[account] += 1
        try:
            yield
        finally:
            self._accounts[account] -= 1
            if not self._accounts[account]:
                del self._accounts[account]

    async def is_echo(self, account: str, client: str, endpoints: tuple[Endpoint | None, ...]) -> bool:
        """Whether a request for `account` by `client` is our own question coming back through the old server.

        An address that the old server shares with CommuniGate proves nothing and is never taken for an echo.
        """
        return account in self._accounts and await self.comes_from(client, endpoints)

    async def comes_from(self, client: str, endpoints: tuple[Endpoint | None, ...]) -> bool:
        """Whether `client` is the address of one of these old servers, and not CommuniGate's own too."""
        if not client:
            return False
        address = _plain(client)
        servers = {self.peer(endpoint) for endpoint in endpoints if endpoint is not None}
        return address in servers and not await self._own.has_address(address)


async def _resolve(host: str) -> set[str]:
    if numeric := _numeric(host):
        return {numeric}
    try:
        async with asyncio.timeout(_LOOKUP):
            found = await resolver().addresses(host)
    except (OSError, UnicodeError, TimeoutError):
        return set()
    return {_plain(address) for address in found}


def _numeric(host: str) -> str | None:
    try:
        return _plain(str(ipaddress.ip_address(host)))
    except ValueError:
        return None


@lru_cache(maxsize=1024)  # old servers and users have few addresses; parsing one costs as much as a dozen lines of ours
def _plain(address: str) -> str:
    """One spelling for each address: no zone, no IPv4 within IPv6."""
    text = address.partition("%")[0]
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return text
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def _is_local(address: str) -> bool:
    """Whether `address` is one of this machine: only then can a socket be bound to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
