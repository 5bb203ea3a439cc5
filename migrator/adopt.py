"""Adoption: CommuniGate takes over a password that the old server has just accepted.

One UpdateAccountSettings sets the password, switches CommuniGate's own password on and external
authentication off; then it is read back. Before that the settings are read: only an account that is
still on external authentication is touched, so that a late repetition never overwrites a password
the user has changed since. An account with access rights is an administrator's and is never touched.

Never raises for what the CLI says or fails to say: the result is a value, and the caller repeats the
adoption after LATER. Every step may be repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from cli_client.commands import Cli, Settings, settable
from cli_client.errors import CliRefused, NoSuchAccount, UnknownCommand
from migrator.ledger.store import share_file
from migrator.settings import is_protected
from wire.outcome import Temporary, Trouble, clean_reason
from wire.secret import Secret

_UNDO: Final[Settings] = {"UseAppPassword": "NO", "UseExtPassword": "YES"}
_FIRST_PAUSE: Final = 0.005  # seconds between looks at a lock that another process holds: it holds it for milliseconds
_LONGEST_PAUSE: Final = 0.1


class AdoptionOutcome(Enum):
    """What became of an adoption."""

    ADOPTED = "adopted"  # set and read back
    ALREADY = "already"  # the account is not on external authentication (any more): nothing was changed
    REFUSED = "refused"  # the server will not have this password, or not for this account; external stays on
    PROTECTED = "protected"  # an administrator's account: nothing was changed
    CHANGED = "changed"  # in grace: the password was changed at CommuniGate, and that one alone counts
    LATER = "later"  # could not be found out or confirmed; repeat


@dataclass(frozen=True, slots=True)
class AdoptionResult:
    """An outcome with its reason: one clean line without secrets."""

    outcome: AdoptionOutcome
    reason: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", clean_reason(self.reason))

    @property
    def confirmed(self) -> bool:
        """Whether the account logs in at CommuniGate by itself now."""
        return self.outcome in (AdoptionOutcome.ADOPTED, AdoptionOutcome.ALREADY, AdoptionOutcome.CHANGED)


class AccountLocks:
    """One lock for each account, in this process and, given a `path`, over all processes of the machine.

    The file at `path` only carries locks (one byte range for each account); it stays empty, and the kernel
    frees the locks of a process that dies. Where it cannot be opened, this process still locks within itself:
    adoption is safe to repeat, the lock only keeps out a password change between two adoptions.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._file = -1
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @contextlib.asynccontextmanager
    async def hold(self, address: str) -> AsyncIterator[None]:
        """Hold the lock of `address`; bound the wait from outside."""
        lock, users = self._locks.get(address, (None, 0))
        lock = lock or asyncio.Lock()
        self._locks[address] = (lock, users + 1)
        try:
            async with lock:
                file = self._open()
                if file < 0:
                    yield
                    return
                at = int.from_bytes(hashlib.blake2b(address.encode("utf-8", "surrogateescape"), digest_size=7).digest())
                await _lock_range(file, at)
                try:
                    yield
                finally:
                    fcntl.lockf(file, fcntl.LOCK_UN, 1, at)
        finally:
            lock, users = self._locks[address]
            if users > 1:
                self._locks[address] = (lock, users - 1)
            else:
                del self._locks[address]

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self) -> int:
        if self._file < 0 and self._path is not None:
            with contextlib.suppress(OSError):
                # one descriptor for the life of the process: closing any descriptor of the file drops all its locks
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                share_file(self._path)
        return self._file


async def _lock_range(file: int, at: int) -> None:
    pause = _FIRST_PAUSE
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
        except (BlockingIOError, PermissionError):  # held by another process: EAGAIN or EACCES, says POSIX
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        else:
            return


_IN_PROCESS: Final = AccountLocks()


class Adopter:
    """Adopts over one CLI; remembers which of its commands the server does not know."""

    def __init__(
        self,
        cli: Cli,
        *,
        protected: frozenset[str],
        admin_login: str,
        main_domain: str = "",
        locks: AccountLocks = _IN_PROCESS,
    ) -> None:
        self._cli = cli
        self._protected = protected
        self._admin_login = admin_login
        self._main_domain = main_domain
        self._locks = locks
        self._knows_effective = True
        self._knows_rights = True
        self._knows_verify = True

    async def adopt(
        self, address: str, password: Secret, *, deadline: float, rights_asked: bool = False
    ) -> AdoptionResult:
        """Let CommuniGate take over `password` for `address`. `deadline` is absolute (loop.time()).

        `rights_asked` says that the caller has just heard from the server that the account has no access rights.
        """
        return await self._under_lock(
            address,
            password,
            deadline,
            lambda account: self._adopt(account, password, deadline, rights_asked),
        )

    async def _under_lock(
        self, address: str, password: Secret, deadline: float, work: Callable[[str], Awaitable[AdoptionResult]]
    ) -> AdoptionResult:
        """What `work` comes to under the account's lock, unless `address` or `password` can never be adopted."""
        address = address.lower()
        if is_protected(
            address, protected=self._protected, admin_login=self._admin_login, main_domain=self._main_domain
        ):
            return AdoptionResult(AdoptionOutcome.PROTECTED, f"{address} is a protected name")
        if not settable(password):
            reason = "the password is empty or holds a control character; CommuniGate cannot take it"
            return AdoptionResult(AdoptionOutcome.REFUSED, reason)
        try:
            async with asyncio.timeout_at(deadline), self._locks.hold(address):
                return await work(address)
        except TimeoutError:
            return AdoptionResult(AdoptionOutcome.LATER, "CommuniGate's CLI did not answer in time")
        except NoSuchAccount as trouble:
            return AdoptionResult(AdoptionOutcome.REFUSED, f"CommuniGate has no such account: {trouble}")
        except Trouble as trouble:
            return AdoptionResult(AdoptionOutcome.LATER, f"CommuniGate's CLI: {trouble}")

    async def rights_of(self, address: str, *, deadline: float) -> list[str]:
        """The access rights of an administrator's account; empty for a user. Raises Trouble.

        Empty too on a server that does not know the question: access rights come with versions that do.
        """
        try:
            return await self._rights(address, deadline)
        except NoSuchAccount:
            return []

    async def _adopt(self, address: str, password: Secret, deadline: float, rights_asked: bool) -> AdoptionResult:
        settings = await self._effective(address, deadline)
        if says(settings, "UseExtPassword", "NO"):
            return AdoptionResult(AdoptionOutcome.ALREADY, "external authentication is off for this account")
        if not says(settings, "UseExtPassword", "YES"):  # never taken for "off": the password would be forgotten
            return AdoptionResult(
                AdoptionOutcome.LATER, "CommuniGate does not say whether external authentication is on"
            )
        rights = [] if rights_asked else await self._rights(address, deadline)
        if rights:
            return AdoptionResult(AdoptionOutcome.PROTECTED, f"{address} has access rights: {', '.join(rights)}")
        wanted: Settings = {"Password": password, "UseAppPassword": "YES", "UseExtPassword": "NO"}
        try:
            await self._cli.update_account_settings(address, wanted, deadline=deadline)
        except NoSuchAccount:
            raise
        except CliRefused as refusal:
            return AdoptionResult(AdoptionOutcome.REFUSED, f"CommuniGate refused the password: {refusal}")
        return await self._read_back(address, password, deadline)

    async def _effective(self, address: str, deadline: float) -> Settings:
        """The account's settings with what it inherits; on an older server put together from account and template."""
        if self._knows_effective:
            try:
                settings = await self._cli.get_account_effective_settings(address, deadline=deadline)
            except UnknownCommand:
                self._knows_effective = False
            else:
                if "UseExtPassword" in settings:
                    return settings
        settings = await self._cli.get_account_settings(address, deadline=deadline)
        if "UseExtPassword" in settings:
            return settings
        template = await self._cli.get_account_template(address.rpartition("@")[2], deadline=deadline)
        return {"UseExtPassword": "NO", **template, **settings}  # what no level sets is off

    async def _rights(self, address: str, deadline: float) -> list[str]:
        if not self._knows_rights:
            return []
        try:
            return await self._cli.get_account_rights(address, deadline=deadline)
        except UnknownCommand:
            self._knows_rights = False  # an older server; it is not asked again over this pool
            return []

    async def _read_back(self, address: str, password: Secret, deadline: float) -> AdoptionResult:
        settings = await self._cli.get_account_settings(address, deadline=deadline)
        if not says(settings, "UseAppPassword", "YES") or not says(settings, "UseExtPassword", "NO"):
            return AdoptionResult(AdoptionOutcome.LATER, "CommuniGate accepted the settings but shows others")
        if self._knows_verify:
            try:
                right = await self._cli.verify_account_password(address, password, deadline=deadline)
            except UnknownCommand:
                self._knows_verify = False
            else:
                if not right:
                    # the user must not be locked out by a password that the server changed on its way in
                    await self._undo(address, deadline)
                    return AdoptionResult(AdoptionOutcome.REFUSED, "CommuniGate stored another password than was sent")
        return AdoptionResult(AdoptionOutcome.ADOPTED)

    async def _undo(self, address: str, deadline: float) -> None:
        """Back to external authentication; tried twice, for this is the one step that nobody could repeat later."""
        try:
            await self._cli.update_account_settings(address, _UNDO, deadline=deadline)
        except Temporary:
            await self._cli.update_account_settings(address, _UNDO, deadline=deadline)


def says(settings: Settings, key: str, word: str) -> bool:
    """Whether `key` is explicitly set to `word` (upper case)."""
    value = settings.get(key)
    return isinstance(value, str) and value.upper() == word


async def adopt(
    cli: Cli,
    address: str,
    password: Secret,
    *,
    protected: frozenset[str],
    admin_login: str,
    deadline: float,
    main_domain: str = "",
    locks: AccountLocks = _IN_PROCESS,
) -> AdoptionResult:
    """One adoption, for callers that keep no Adopter (which asks an older server fewer questions)."""
    adopter = Adopter(cli, protected=protected, admin_login=admin_login, main_domain=main_domain, locks=locks)
    return await adopter.adopt(address, password, deadline=deadline)
