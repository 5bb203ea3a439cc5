"""Host names to addresses, so that a name whose lookup hangs holds up nobody who asks for another.

The loop's own lookups share a handful of threads: a few names whose name servers do not answer take them all, and every
other connection waits behind them. Here each name has one lookup at a time in a thread of its own, which all who ask
for that name share; what was found counts for a minute, and goes on counting while the name cannot be looked up.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final

_FRESH: Final = 60.0  # seconds: a server that was moved is found within a minute
_STALE: Final = 86_400.0  # seconds that an address is used while its name cannot be looked up
_NAMES: Final = 1000  # remembered; more are forgotten, oldest first
_LOOKUPS: Final = 64  # threads at most: more servers than any site's that lose their name servers at once

Lookup = Callable[..., list[Any]]


class _Name:
    """What is known of one name, and the lookup under way."""

    __slots__ = ("addresses", "found_at", "lookup")

    def __init__(self) -> None:
        self.addresses: tuple[str, ...] = ()
        self.found_at = 0.0
        self.lookup: asyncio.Future[tuple[str, ...]] | None = None


class Resolver:
    """Looks names up for one event loop."""

    def __init__(
        self, lookup: Lookup | None = None, *, clock: Callable[[], float] = time.monotonic, lookups: int = _LOOKUPS
    ) -> None:
        self._lookup = lookup
        self._clock = clock
        self._names: dict[str, _Name] = {}
        self._free = lookups

    async def addresses(self, host: str) -> tuple[str, ...]:
        """The numeric addresses of `host`, the preferred first. OSError where there are none or nobody tells.

        Waits as long as the name servers let it wait: the caller has the deadline. UnicodeError for what is no name.
        """
        if is_address(host):
            return (host,)
        name = self._names.get(host)
        if name is None:
            name = self._remember(host)
        age = self._clock() - name.found_at
        if name.addresses and age < _FRESH:
            return name.addresses
        known = bool(name.addresses) and age < _STALE
        lookup = name.lookup
        if lookup is None and (self._free or not known):
            lookup = self._start(host, name)
        if known or lookup is None:
            return name.addresses  # who asks later gets what is found now
        return await asyncio.shield(lookup)

    def prefer(self, host: str, address: str) -> None:
        """`address` could be connected to when those before it could not: it comes first from now on."""
        name = self._names.get(host)
        if name is not None and address in name.addresses:
            name.addresses = (address, *(other for other in name.addresses if other != address))

    def _remember(self, host: str) -> _Name:
        if len(self._names) >= _NAMES:
            idle = next((key for key, name in self._names.items() if name.lookup is None), None)
            if idle is None:
                raise OSError("too many names are being looked up")
            del self._names[idle]
        name = self._names[host] = _Name()
        return name

    def _start(self, host: str, name: _Name) -> asyncio.Future[tuple[str, ...]]:
        if not self._free:
            raise OSError("too many lookups are under way")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[tuple[str, ...]] = loop.create_future()
        future.add_done_callback(_heard)
        name.lookup = future
        self._free -= 1
        lookup = self._lookup or socket.getaddrinfo

        def ended(found: tuple[str, ...], trouble: Exception | None) -> None:
            name.lookup = None
            self._free += 1
            if found:
                name.addresses, name.found_at = found, self._clock()
            if future.done():
                return
            if trouble is not None:
                future.set_exception(trouble)
            else:
                future.set_result(found)

        def look() -> None:
            found: tuple[str, ...] = ()
            trouble: Exception | None = None
            try:
                entries = lookup(host, None, type=socket.SOCK_STREAM)
                found = tuple(dict.fromkeys(str(entry[4][0]) for entry in entries))
            except Exception as error:  # noqa: BLE001 - whoever waits owns the scope; it is raised there
                trouble = error
            if not found and trouble is None:
                trouble = OSError("the name has no address")
            try:
                loop.call_soon_threadsafe(ended, found, trouble)
            except RuntimeError:
                return  # the loop has ended: nobody waits any more

        try:
            # a daemon thread: a lookup that hangs must not keep the process from ending
            threading.Thread(target=look, name=f"lookup {host}", daemon=True).start()
        except RuntimeError as error:  # the system gives no more threads now
            ended((), OSError(errno.EAGAIN, str(error)))
        return future


def is_address(host: str) -> bool:
    """Whether `host` is an address already."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return True
    return "%" in host and is_address(host.partition("%")[0])  # with a zone


def _heard(future: asyncio.Future[tuple[str, ...]]) -> None:
    """Nobody may be left to hear that a lookup failed."""
    if not future.cancelled():
        future.exception()


_resolvers: dict[asyncio.AbstractEventLoop, Resolver] = {}


def resolver() -> Resolver:
    """The resolver of the running loop."""
    loop = asyncio.get_running_loop()
    found = _resolvers.get(loop)
    if found is None:
        for ended in [one for one in _resolvers if one.is_closed()]:
            del _resolvers[ended]
        found = _resolvers[loop] = Resolver()
    return found
