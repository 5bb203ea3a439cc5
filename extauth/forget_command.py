"""`extauth forget ADDRESS`: drops what the ledger remembers of an address; a running helper asks afresh at once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from extauth.names import qualify
from migrator.ledger.probes import Probes
from migrator.ledger.store import Store
from migrator.settings import Settings
from wire.outcome import SetupTrouble, Trouble

_TRY_LATER = 75  # exit codes of sysexits(3)
_CONFIG = 78


def forget(settings: Settings, name: str, say: Callable[[str], None]) -> int:
    """Forget `name`; say what that was. The exit code."""
    address = qualify(name.lower(), settings.communigate.main_domain) or name.lower()
    try:
        answers = asyncio.run(_forget(settings, address))
    except Trouble as trouble:
        sys.stderr.write(f"extauth: {trouble}\n")
        return _CONFIG if isinstance(trouble, SetupTrouble) else _TRY_LATER
    say(f"{address}: {answers} answer{'s' * (answers != 1)} of old servers forgotten")
    return 0


async def _forget(settings: Settings, address: str) -> int:
    store = Store(settings.state.path)
    domain = settings.domain(address.rpartition("@")[2])
    names = {address} if domain is None else {address, domain.old_address(address)}
    try:
        probes = Probes(store, settings.helper.probe_answers)
        return sum([await probes.forget(each) for each in names])
    finally:
        await store.close()
