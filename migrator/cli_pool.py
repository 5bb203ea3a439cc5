"""Sessions with CommuniGate's CLI, as the configuration has them."""

from __future__ import annotations

from typing import Final

from cli_client.errors import SessionsExhausted
from cli_client.pool import CliPool
from migrator.exit_codes import CONFIGURATION, TRY_LATER, UNAVAILABLE
from migrator.settings import Settings
from wire.outcome import Scope, Trouble

_SESSIONS: Final = "cli-sessions"  # in the state directory: the sessions of all processes together


def open_pool(settings: Settings, size: int) -> CliPool:
    """A pool of at most `size` sessions for helper or worker; none is opened yet.

    They count with those of all other processes, which together keep to `communigate.connections`.
    """
    return _open(settings, size, range(settings.communigate.connections))


def open_pool_beside(settings: Settings, size: int = 1) -> CliPool:
    """The same for a person's command: it leaves one session, where there are several, to the helper's logins.

    Before there is a state directory there is no helper either, and nothing to count with.
    """
    most = settings.communigate.connections
    numbers = range(min(1, most - 1), most)
    return _open(settings, min(size, len(numbers)), numbers, counted=settings.state.directory.is_dir())


def code_of(trouble: Trouble) -> int:
    """The exit code of a command that cannot do without CommuniGate's CLI."""
    if isinstance(trouble, SessionsExhausted):
        return TRY_LATER
    return CONFIGURATION if trouble.scope is Scope.SETUP else UNAVAILABLE


def _open(settings: Settings, size: int, numbers: range, *, counted: bool = True) -> CliPool:
    communigate = settings.communigate
    return CliPool(
        communigate.cli,
        communigate.login,
        communigate.password,
        tls=communigate.tls,
        size=size,
        slots=settings.state.directory / _SESSIONS if counted else None,
        slot_numbers=numbers,
    )
