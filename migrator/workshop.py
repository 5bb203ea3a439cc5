"""What a worker works with, built from the configuration, and built anew when the configuration changes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import structlog

from cli_client.commands import Cli
from cli_client.pool import CliPool
from cli_client.slots import Slot
from migrator import mover, pop_mover
from migrator.access import Access
from migrator.adopt import AccountLocks
from migrator.cli_pool import open_pool
from migrator.clock_watch import ClockWatch
from migrator.config import ConfigurationTrouble, load_settings
from migrator.copy_job import BeforeCopy, JobRunner
from migrator.digest_key import DigestKey
from migrator.file_stamp import Stamp, stamp_of
from migrator.grace import GraceAdopter
from migrator.ledger.graces import Graces
from migrator.ledger.logins import Logins
from migrator.ledger.marks import LedgerMarks, LedgerUidls
from migrator.ledger.store import Store
from migrator.options import CopyOptions
from migrator.quarantine import Quarantine
from migrator.report import ProgressListener, Report
from migrator.seal import Opener
from migrator.server_slots import ServerSlots, most_connections
from migrator.session import Surroundings
from migrator.settings import Settings
from wire.endpoint import Endpoint
from wire.outcome import SetupTrouble

ADOPTION_LOCK = "adoption.lock"  # in the state directory, shared with the helper
QUARANTINE = "quarantine"  # the same: messages that CommuniGate takes in no form


class MailCopy:
    """Copies with the ledger's marks. One account has one set of them, whatever its old server is called."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._quarantine = settings.state.directory / QUARANTINE

    async def __call__(
        self,
        account: str,
        source: Access,
        target: Access,
        options: CopyOptions,
        *,
        progress: ProgressListener,
        before_copy: BeforeCopy,
    ) -> Report:
        quarantine = Path(options.quarantine) if options.quarantine else self._quarantine
        around = Surroundings(progress=progress, quarantine=Quarantine(quarantine))
        slot = await self._take_slot(source.endpoint)
        try:
            if source.endpoint.protocol == "pop3":
                uidls = LedgerUidls(self._store, account)
                return await pop_mover.copy_account(source, target, options, uidls, around, before_copy=before_copy)
            marks = LedgerMarks(self._store, account)
            return await mover.copy_account(source, target, options, marks, around, before_copy=before_copy)
        finally:
            if slot is not None:
                slot.release()

    async def _take_slot(self, endpoint: Endpoint) -> Slot | None:
        """The right to a connection to the old server; None where those cannot be counted: no reason to hold a copy."""
        most = most_connections(self._settings.domains, endpoint)
        slots = ServerSlots(self._settings.state.directory, endpoint, most)
        try:
            return await slots.take_for_copy(str(endpoint))
        except SetupTrouble as trouble:
            structlog.get_logger().error("connections are not counted with the helper's", reason=str(trouble))
            return None


class Workshop:
    """The JobRunner of the configuration as it is now. Copies at work keep the one they began with."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._store = store
        self._locks = AccountLocks(settings.state.directory / ADOPTION_LOCK)
        self._pools: list[CliPool] = []
        self._watch = ClockWatch()
        self._log: Any = structlog.get_logger()
        self._files = _fingerprint(settings.files)
        self._runner = self._build(settings)

    def runner(self) -> JobRunner:
        """What to run the next job with; reads the configuration again when one of its files has changed."""
        files = self._runner.settings.files
        found = _fingerprint(files)
        if found != self._files:
            self._files = found
            self._reload()
        return self._runner

    async def close(self) -> None:
        """Close the CLI sessions."""
        await asyncio.gather(*(pool.close() for pool in self._pools))
        self._locks.close()

    def _reload(self) -> None:
        before = self._runner.settings
        try:
            settings = load_settings(before.path)
            if settings.state.path != before.state.path:
                self._log.error("the ledger's place has changed; restart the worker for that")
                return
            self._runner = self._build(settings)
        except ConfigurationTrouble as trouble:
            self._log.error("configuration unusable; going on with the one before", problems=trouble.lines())
        except SetupTrouble as trouble:
            self._log.error("configuration unusable; going on with the one before", problems=[str(trouble)])
        else:
            self._files = _fingerprint(settings.files)
            self._log.info("configuration read again")

    def _build(self, settings: Settings) -> JobRunner:
        communigate = settings.communigate
        opener = Opener(settings.state.key_file)
        if self._pools and self._runner.settings.communigate == communigate:
            pool = self._pools[-1]
        else:
            pool = open_pool(settings, 1)
            self._pools.append(pool)  # an earlier one stays for the copies that hold it; its sessions close when idle
        graces = Graces(self._store, watch=self._watch)
        adopter = GraceAdopter(
            Cli(pool),
            protected=communigate.protected,
            admin_login=communigate.login,
            main_domain=communigate.main_domain,
            locks=self._locks,
        ).keep_grace(graces, DigestKey(settings.state.digest_key_file), settings.grace_of)
        keep_done = settings.state.keeps_passwords
        logins = Logins(self._store, keep_done=keep_done)
        return JobRunner(settings, logins, opener, adopter, MailCopy(self._store, settings))


def _fingerprint(files: tuple[Path, ...]) -> tuple[Stamp | None, ...]:
    """What changes when one of the files does."""
    return tuple(stamp_of(path) for path in files)
