"""The gates of one configuration, and what others may know of them: a small file, written when something changes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from cli_client.slots import make_shared_directory
from extauth.gate import Gate
from extauth.notices import Notices
from migrator.ledger.store import share_file
from migrator.processes import is_alive, process_token
from migrator.server_slots import DIRECTORY, ServerSlots, is_same, most_connections
from migrator.settings import DomainSettings
from wire.endpoint import Endpoint
from wire.outcome import Trouble

_FILE: Final = "troubles.json"
_LIMIT: Final = 1 << 20  # bytes of it that are read: thousands of servers


@dataclass(frozen=True, slots=True)
class GateState:
    """An old server that is not asked, or gets fewer connections than configured. Times are of the wall clock."""

    server: str
    closed_to_us: bool  # the breaker is open
    since: float
    reason: str
    turned_away: int
    connections: int
    most: int


class Gates:
    """One gate for each listener, shared by all domains that use it.

    `state` is the state directory: without it, connections are counted in this process alone and nothing is written.
    """

    def __init__(
        self,
        domains: Mapping[str, DomainSettings],
        *,
        state: Path | None = None,
        notices: Notices | None = None,
        patience: float = 5.0,
        guarded: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._domains = domains
        self._state = state
        self._notices = notices
        self._patience = patience
        self._guarded = guarded
        self._clock = clock
        self._gates: dict[Endpoint, Gate] = {}

    def of(self, endpoint: Endpoint) -> Gate:
        """The gate to `endpoint`."""
        gate = self._gates.get(endpoint)
        if gate is None:
            gate = next((one for other, one in self._gates.items() if is_same(other, endpoint)), None)
            gate = self._gates[endpoint] = gate or self._make(endpoint)
        return gate

    async def close(self) -> None:
        """Give up trials and slots, and what others read."""
        for gate in set(self._gates.values()):
            await gate.close()
        if self._troubled():
            self._write([])

    def _make(self, endpoint: Endpoint) -> Gate:
        most = most_connections(self._domains, endpoint)
        return Gate(
            endpoint,
            most,
            slots=ServerSlots(self._state, endpoint, most) if self._state is not None and self._guarded else None,
            notices=self._notices,
            changed=self._changed,
            patience=self._patience,
            guarded=self._guarded,
            clock=self._clock,
        )

    def _troubled(self) -> list[GateState]:
        at = time.time() - self._clock()
        return [
            GateState(
                server=str(gate.endpoint),
                closed_to_us=gate.is_open,
                since=round(at + gate.breaker.opened_at, 1) if gate.is_open else 0.0,
                reason=gate.breaker.reason if gate.is_open else "",
                turned_away=gate.breaker.turned_away if gate.is_open else 0,
                connections=gate.bound.limit,
                most=gate.bound.most,
            )
            for gate in dict.fromkeys(self._gates.values())
            if gate.is_open or gate.bound.lowered
        ]

    def _changed(self) -> None:
        self._write(self._troubled())

    def _write(self, troubled: list[GateState]) -> None:
        """Tell `extauth status`. A file that cannot be written is of no importance to a login."""
        if self._state is None:
            return
        text = json.dumps({"process": process_token(os.getpid()), "servers": [asdict(one) for one in troubled]})
        path = self._state / DIRECTORY / _FILE
        new = path.with_name(f".{_FILE}.{os.getpid()}")
        try:
            make_shared_directory(path.parent)
            new.write_text(text)  # not synced: after a crash of the machine there is no helper that it could speak of
            share_file(new)
            new.replace(path)
        except (OSError, Trouble) as trouble:
            if self._notices is not None:
                self._notices.log.warning("what `extauth status` shows of old servers is not written", why=str(trouble))


def read_gates(state: Path) -> list[GateState]:
    """The old servers in trouble as the helper that runs sees them; none if no helper runs."""
    try:
        with open(state / DIRECTORY / _FILE, "rb") as file:
            value = json.loads(file.read(_LIMIT))
        return [GateState(**one) for one in value["servers"]] if is_alive(value["process"]) else []
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return []
