"""The connections to one old server that all processes of this machine have together: slots that are locked files.

Logins go before copies: a copy takes one of the upper half of the slots, and only one that is free; the lower half is
the logins' alone. A login takes any. So copies, however long they run, never keep a login from a place, and the kernel
gives back the slots of a process that dies.

What a process has learnt of the server's own limit, where that is lower, is a number in a file beside them. For a
minute after it was written no more copies begin than half of that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cli_client.slots import Slot, SlotDirectory, make_shared_directory
from migrator.ledger.store import share_file
from migrator.settings import DomainSettings
from wire.endpoint import Endpoint
from wire.outcome import SetupTrouble, Temporary

DIRECTORY: Final = "old-servers"  # in the state directory
_LOOK: Final = 0.25  # seconds between looks of a copy for a free slot: nobody waits for a copy
_LEARNT: Final = 60.0  # seconds that a learnt limit counts: whoever learnt it may be gone
_LIMIT: Final = "limit"
_PATIENCE: Final = 60.0  # seconds of them; then another copy may have the worker


def most_connections(domains: Mapping[str, DomainSettings], endpoint: Endpoint) -> int:
    """`max_connections` to `endpoint`: the smallest number of the domains that are there."""
    here = [
        domain.max_connections
        for domain in domains.values()
        if any(is_same(endpoint, other) for other in (domain.smtp, domain.imap, domain.pop) if other is not None)
    ]
    return min(here, default=1)


def is_same(one: Endpoint, other: Endpoint) -> bool:
    """Whether both are one listener, whatever TLS is spoken to it."""
    return (one.protocol, one.host.lower(), one.port) == (other.protocol, other.host.lower(), other.port)


class ServerSlots:
    """The slots of one old server's listener. SetupTrouble from any method when the directory cannot be used."""

    def __init__(self, state: Path, endpoint: Endpoint, most: int) -> None:
        name = re.sub(r"[^\w.:-]", "_", f"{endpoint.protocol}-{endpoint.host.lower()}-{endpoint.port}")
        self._parent = state / DIRECTORY
        self._most = most
        kept = max(1, most - most // 2)  # for logins alone; with one connection in all, a copy has another
        self._for_copies = range(kept, max(most, kept + 1))
        self._directory = self._parent / name[:200]
        self._slots = SlotDirectory(self._directory, most)

    def try_login(self) -> Slot | None:
        """A slot for logins; None where all are taken. Never waits."""
        make_shared_directory(self._parent)
        return self._slots.try_take()

    def try_copy(self) -> Slot | None:
        """A slot for a copy, which holds it to its end; None where all of those are taken. Never waits."""
        make_shared_directory(self._parent)
        allowed = max(1, self._learnt() // 2)
        return self._slots.try_take(list(reversed(self._for_copies))[:allowed])

    async def take_for_copy(self, what: str) -> Slot:
        """A slot for a copy, waited for a while; Temporary where logins and other copies leave none."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _PATIENCE
        while (slot := self.try_copy()) is None:
            if loop.time() >= end:
                raise Temporary(f"{what}: all connections to it are in use; logins go before copies")
            await asyncio.sleep(_LOOK)
        return slot

    def tell_limit(self, limit: int) -> None:
        """What this process has learnt: so many connections at once. A file that cannot be written changes little."""
        with contextlib.suppress(OSError, SetupTrouble):
            make_shared_directory(self._parent)
            make_shared_directory(self._directory)
            path = self._directory / _LIMIT
            if limit >= self._most:
                path.unlink(missing_ok=True)
            else:
                new = path.with_name(f".{_LIMIT}.{os.getpid()}")
                new.write_text(f"{limit}\n")
                share_file(new)
                new.replace(path)

    def _learnt(self) -> int:
        """The server's limit as any process has learnt it lately, else ours."""
        try:
            with open(self._directory / _LIMIT, "rb") as file:
                limit, age = int(file.read(20)), time.time() - os.fstat(file.fileno()).st_mtime
        except (OSError, ValueError):
            return self._most
        return min(self._most, max(1, limit)) if 0 <= age < _LEARNT else self._most

    def raise_hand(self) -> None:
        """Tell the other processes that this one has no slot and needs one for a login."""
        self._slots.raise_hand()

    def lower_hand(self) -> None:
        """Undo `raise_hand`."""
        self._slots.lower_hand()

    @property
    def wanted(self) -> bool:
        """Whether another process has its hand up."""
        return self._slots.wanted

    def close(self) -> None:
        """Release what listens and signals; taken slots stay taken."""
        self._slots.close()
