"""`migrator keygen --rotate`: another key pair in force, every saved password in a box of it, and the old key gone.

It may be cut off anywhere and is run again until it says that it is done. The helper takes the new public key within a
second or two; what it sealed to the old one meanwhile is found by the next run, which then removes the old key.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from migrator.ledger.reseal import Resealed, reseal_all
from migrator.ledger.store import Store
from migrator.seal import Opener, Sealer, forget_old_key, old_key_file, rotate_keys
from migrator.settings import StateSettings
from wire.outcome import SetupTrouble

_SETTLED: Final = 600.0  # seconds after which no process seals to the old key any more


@dataclass(frozen=True, slots=True)
class Rotated:
    """What one run has done. `finished`: nothing is sealed to the old key, which is removed."""

    begun: bool
    resealed: int
    unreadable: int
    finished: bool

    def lines(self, state: StateSettings) -> list[str]:
        """For a person."""
        told = [f"{state.public_key_file} and {state.key_file} are a new pair"] if self.begun else []
        told.append(f"{self.resealed} saved passwords were sealed anew")
        old = old_key_file(state.key_file)
        if self.unreadable:
            told.append(f"{self.unreadable} open with neither key; {old} stays until their users have logged in again")
        elif self.finished:
            told.append(f"nothing is sealed to the key from before: {old} was overwritten and removed")
        else:
            told.append(f"{old} still opens what is sealed at this moment: run this again in ten minutes")
        return told


async def rotate(state: StateSettings, store: Store, *, now: Callable[[], float] = time.time) -> Rotated:
    """One run. SetupTrouble for the key files, Temporary for the ledger; then it may be run again."""
    begun = rotate_keys(state.public_key_file, state.key_file)
    opener, sealer = Opener(state.key_file), Sealer(state.public_key_file)

    def reseal(account: str, sealed: bytes) -> bytes | None:
        if opener.is_new(sealed):
            return b""
        try:
            return sealer.seal(opener.open(sealed, account), account)
        except SetupTrouble:
            return None

    done: Resealed = await reseal_all(store, reseal)
    settled = now() - state.key_file.stat().st_mtime > _SETTLED
    finished = settled and not done.changed and not done.unreadable
    if finished:
        forget_old_key(state.key_file)
    return Rotated(begun, done.changed, done.unreadable, finished)
