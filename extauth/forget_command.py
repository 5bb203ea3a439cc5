"""`extauth forget ADDRESS`: drops what is remembered of an address, also by a helper that runs; it asks afresh at once.

ADDRESS may also be a client's numeric address that too many wrong passwords came from.
"""

from __future__ import annotations

import asyncio
import ipaddress
import sys
from collections.abc import Callable

from extauth.forgotten import Forgotten
from migrator.account_name import qualify
from migrator.exit_codes import CONFIGURATION, TRY_LATER
from migrator.ledger.probes import Probes
from migrator.ledger.store import Store
from migrator.settings import Settings
from wire.outcome import SetupTrouble, Trouble


def forget(settings: Settings, name: str, say: Callable[[str], None]) -> int:
    """Forget `name`; say what that was. The exit code."""
    client = _is_client(name)
    address = name if client else qualify(name.lower(), settings.communigate.main_domain) or name.lower()
    try:
        Forgotten(settings.state.directory).add(address)
        answers = 0 if client else asyncio.run(_forget(settings, address))
    except Trouble as trouble:
        sys.stderr.write(f"extauth: {trouble}\n")
        return CONFIGURATION if isinstance(trouble, SetupTrouble) else TRY_LATER
    known = "" if client else f"{answers} answer{'s' * (answers != 1)} of old servers and "
    say(f"{address}: {known}all wrong passwords forgotten")
    return 0


def _is_client(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _forget(settings: Settings, address: str) -> int:
    store = Store(settings.state.path)
    domain = settings.domain(address.rpartition("@")[2])
    names = {address} if domain is None else {address, domain.old_address(address)}
    try:
        probes = Probes(store, settings.helper.probe_answers)
        return sum([await probes.forget(each) for each in names])
    finally:
        await store.close()
