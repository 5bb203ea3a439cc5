"""Sessions with CommuniGate's CLI, as the configuration has them."""

from __future__ import annotations

from typing import Final

from cli_client.pool import CliPool
from migrator.settings import Settings

_SESSIONS: Final = "cli-sessions"  # in the state directory: the sessions of all processes together


def open_pool(settings: Settings, size: int, *, counted: bool = True) -> CliPool:
    """A pool of at most `size` sessions; none is opened yet.

    `counted` with those of all other processes, which together keep to `communigate.connections`: that needs the state
    directory.
    """
    communigate = settings.communigate
    return CliPool(
        communigate.cli,
        communigate.login,
        communigate.password,
        tls=communigate.tls,
        size=size,
        slots=settings.state.directory / _SESSIONS if counted else None,
        slot_count=communigate.connections,
    )
