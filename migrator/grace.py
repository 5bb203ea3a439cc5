"""Grace: for some days after adoption a password that was changed at the old server is still taken over.

External authentication stays on beside CommuniGate's own password, so that CommuniGate asks about every password that
is not its own. Then CommuniGate's counts, except in one case: the old server accepts a password that is not the one
taken over, and CommuniGate's own has not been changed since. Whether it was is told by the stored form that
GetAccountSettings shows, whatever its encryption: it is another string after any change. A CommuniGate that does not
show it gets no grace.

Never lets the password in that was taken over once CommuniGate's is another one: a user who changed it there did so
for a reason. Never overwrites a password changed at CommuniGate, but for the milliseconds between looking and setting,
which the CLI cannot join.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from enum import Enum

from cli_client.commands import Settings
from cli_client.errors import CliRefused, NoSuchAccount, UnknownCommand
from migrator.adopt import Adopter, AdoptionOutcome, AdoptionResult, says
from migrator.digest_key import DigestKey
from migrator.ledger.graces import CLOSED, Grace, Graces
from wire.outcome import Permanent, ProtocolTrouble, Temporary, Trouble
from wire.secret import Secret


class Standing(Enum):
    """What CommuniGate and the ledger know about a password that CommuniGate asks about."""

    NONE = "none"  # the account is not in grace: only the old server knows
    RIGHT = "right"  # CommuniGate's own, by now
    WRONG = "wrong"  # CommuniGate's own is another, and that alone counts
    ASK = "ask"  # the old server may know a newer one


class GraceAdopter(Adopter):
    """An Adopter that keeps to `grace_of` an address, in seconds; 0: it is adopted for good at once."""

    graces: Graces
    key: DigestKey
    grace_of: Callable[[str], float]
    _anybody: bool | None = None

    def keep_grace(self, graces: Graces, key: DigestKey, grace_of: Callable[[str], float]) -> GraceAdopter:
        """Where it is noted, under which key, and for how long; to be called before anything else."""
        self.graces, self.key, self.grace_of = graces, key, grace_of
        return self

    def may_be_in_grace(self, address: str) -> bool:
        """Whether `standing` need be asked. Asks nobody: accounts that an earlier configuration left in grace are known
        from the first adoption on, which itself never touches one."""
        return self._anybody is True or self.grace_of(address) > 0

    async def standing(self, address: str, password: Secret, *, deadline: float) -> Standing:
        """Before the old server is asked. Raises Trouble where it cannot be found out."""
        address = address.lower()
        try:
            grace = await self.graces.load(address)
        except Trouble:
            # a new account is let in whatever the ledger does; one with a password of its own cannot be judged
            if says(await self._effective(address, deadline), "UseAppPassword", "NO"):
                return Standing.NONE
            raise
        if grace is None:
            return Standing.NONE
        settings = await self._effective(address, deadline)
        if not says(settings, "UseAppPassword", "YES"):
            return Standing.NONE  # not adopted yet, or put back by a person
        return await self._judge(address, password, grace, deadline)

    async def take_over(self, address: str, password: Secret, *, deadline: float) -> AdoptionResult:
        """Let CommuniGate take over a newer password that the old server has just accepted, where it still may."""
        return await self._under_lock(
            address, password, deadline, lambda account: self._take_over(account, password, deadline)
        )

    async def end_due(self, *, timeout: float) -> int:
        """Switch external authentication off where the grace is over; for how many. `timeout` is for each, in seconds.

        Raises Temporary where CommuniGate or the ledger is away; an account that it refuses to change stays noted.
        """
        ended = 0
        for account in await self.graces.over():
            deadline = asyncio.get_running_loop().time() + timeout
            try:
                async with asyncio.timeout_at(deadline), self._locks.hold(account):
                    await self._end(account, deadline)
            except TimeoutError:
                raise Temporary("CommuniGate's CLI did not answer in time") from None
            except (Permanent, ProtocolTrouble):
                continue
            ended += 1
        return ended

    async def _end(self, account: str, deadline: float) -> None:
        with contextlib.suppress(NoSuchAccount):
            settings = await self._effective(account, deadline)
            if says(settings, "UseAppPassword", "YES") and says(settings, "UseExtPassword", "YES"):
                await self._cli.update_account_settings(account, {"UseExtPassword": "NO"}, deadline=deadline)
        await self.graces.drop(account)

    async def _concerns(self, address: str) -> bool:
        """Whether `address` may be in grace: now, or since a configuration that is no longer in force."""
        if self.grace_of(address) > 0:
            return True
        if self._anybody is None:
            self._anybody = await self.graces.any()
        return self._anybody

    async def _judge(self, address: str, password: Secret, grace: Grace, deadline: float) -> Standing:
        if await self._cli.verify_account_password(address, password, deadline=deadline):
            return Standing.RIGHT
        if grace.stored == CLOSED or self.graces.is_over(grace):
            return Standing.WRONG
        if self.key.digest(address, "password", password) == grace.migrated:
            return Standing.WRONG
        if grace.stored is None:
            raise Temporary("the account is being taken over")
        if await self._stored(address, deadline) != grace.stored:
            await self.graces.save(address, Grace(grace.migrated, CLOSED, grace.until))
            return Standing.WRONG
        return Standing.ASK

    # -- adoption, under the account's lock ----------------------------------------------------------------------------

    async def _adopt(self, address: str, password: Secret, deadline: float, rights_asked: bool) -> AdoptionResult:
        if not await self._concerns(address):
            return await super()._adopt(address, password, deadline, rights_asked)
        grace = await self.graces.load(address)
        settings = await self._effective(address, deadline)
        if grace is not None and says(settings, "UseAppPassword", "YES"):
            return await self._again(address, password, grace, settings, deadline)
        seconds = self.grace_of(address)
        # where both passwords were on from the start, nobody could tell later whose CommuniGate's is
        if seconds <= 0 or not says(settings, "UseExtPassword", "YES") or says(settings, "UseAppPassword", "YES"):
            return await super()._adopt(address, password, deadline, rights_asked)
        rights = [] if rights_asked else await self._rights(address, deadline)
        if rights:
            return AdoptionResult(AdoptionOutcome.PROTECTED, f"{address} has access rights: {', '.join(rights)}")
        migrated = self.key.digest(address, "password", password)
        until = self.graces.clock() + seconds
        await self.graces.save(address, Grace(migrated, None, until))
        wanted: Settings = {"Password": password, "UseAppPassword": "YES", "UseExtPassword": "YES"}
        try:
            await self._cli.update_account_settings(address, wanted, deadline=deadline)
        except NoSuchAccount:
            raise
        except CliRefused as refusal:
            await self.graces.drop(address)
            return AdoptionResult(AdoptionOutcome.REFUSED, f"CommuniGate refused the password: {refusal}")
        return await self._confirm(address, password, Grace(migrated, None, until), deadline)

    async def _confirm(self, address: str, password: Secret, grace: Grace, deadline: float) -> AdoptionResult:
        """Read back, and note what CommuniGate shows as stored; without that, or the question, there is no grace."""
        settings = await self._cli.get_account_settings(address, deadline=deadline)
        if not says(settings, "UseAppPassword", "YES") or not says(settings, "UseExtPassword", "YES"):
            return AdoptionResult(AdoptionOutcome.LATER, "CommuniGate accepted the settings but shows others")
        try:
            right = await self._cli.verify_account_password(address, password, deadline=deadline)
        except UnknownCommand:
            return await self._adopt_for_good(address, deadline)
        if not right:
            await self._undo(address, deadline)
            await self.graces.drop(address)
            return AdoptionResult(AdoptionOutcome.REFUSED, "CommuniGate stored another password than was sent")
        stored = await self._stored(address, deadline)
        if stored is None:
            return await self._adopt_for_good(address, deadline)
        await self.graces.save(address, Grace(grace.migrated, stored, grace.until))
        return AdoptionResult(AdoptionOutcome.ADOPTED)

    async def _adopt_for_good(self, address: str, deadline: float) -> AdoptionResult:
        """No grace on this server, which could not tell whether the password was changed."""
        await self._cli.update_account_settings(address, {"UseExtPassword": "NO"}, deadline=deadline)
        await self.graces.drop(address)
        return AdoptionResult(AdoptionOutcome.ADOPTED)

    async def _again(
        self, address: str, password: Secret, grace: Grace, settings: Settings, deadline: float
    ) -> AdoptionResult:
        """The account has a password of its own already: the repetition finishes what was begun, or does nothing."""
        if not says(settings, "UseExtPassword", "YES"):
            return AdoptionResult(AdoptionOutcome.ALREADY, "external authentication is off for this account")
        if grace.stored is None and self.key.digest(address, "password", password) == grace.migrated:
            try:
                right = await self._cli.verify_account_password(address, password, deadline=deadline)
            except UnknownCommand:
                return await self._adopt_for_good(address, deadline)
            if right:
                return await self._confirm(address, password, grace, deadline)
            await self.graces.save(address, Grace(grace.migrated, CLOSED, grace.until))
            return _changed()
        if await self._judge(address, password, grace, deadline) is Standing.WRONG:
            return _changed()
        # a repetition may come late and hold an older password: only `take_over` sets a newer one
        return AdoptionResult(AdoptionOutcome.ALREADY, "CommuniGate has taken a password over already")

    async def _take_over(self, address: str, password: Secret, deadline: float) -> AdoptionResult:
        grace = await self.graces.load(address)
        standing = Standing.WRONG if grace is None else await self._judge(address, password, grace, deadline)
        if standing is Standing.RIGHT:
            return AdoptionResult(AdoptionOutcome.ALREADY, "it is CommuniGate's password already")
        if grace is None or standing is not Standing.ASK:
            return _changed()
        rights = await self._rights(address, deadline)
        if rights:
            return AdoptionResult(AdoptionOutcome.PROTECTED, f"{address} has access rights: {', '.join(rights)}")
        try:
            await self._cli.update_account_settings(address, {"Password": password}, deadline=deadline)
        except NoSuchAccount:
            raise
        except CliRefused as refusal:
            return AdoptionResult(AdoptionOutcome.REFUSED, f"CommuniGate refused the password: {refusal}")
        right = await self._cli.verify_account_password(address, password, deadline=deadline)
        stored = await self._stored(address, deadline)
        migrated = self.key.digest(address, "password", password) if right else grace.migrated
        await self.graces.save(address, Grace(migrated, CLOSED if stored is None else stored, grace.until))
        if not right:
            return AdoptionResult(AdoptionOutcome.REFUSED, "CommuniGate stored another password than was sent")
        return AdoptionResult(AdoptionOutcome.ADOPTED)

    async def _stored(self, address: str, deadline: float) -> bytes | None:
        """The digest of what CommuniGate shows as the stored password; None where it shows nothing."""
        value = (await self._cli.get_account_settings(address, deadline=deadline)).get("Password")
        if not isinstance(value, str) or not value:
            return None
        return self.key.digest(address, "stored", Secret(value.encode("utf-8", "surrogateescape")))


def _changed() -> AdoptionResult:
    return AdoptionResult(AdoptionOutcome.CHANGED, "the password was changed at CommuniGate, which counts alone")
