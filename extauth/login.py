"""VRFY's story: the old server says yes, the ledger has it on disk, CommuniGate takes the password, the user is in.

The order is the promise: nothing is set at CommuniGate before the ledger has the login, and whatever fails after the
old server's yes, the user still gets OK; the next login or the worker repeats what is missing.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from cli_client.commands import Cli
from extauth.flight import Flight
from extauth.guard import UnderWay
from extauth.notices import Notices
from extauth.protocol import Ok, Refuse, Reply, Retry
from extauth.trust import Trust
from extauth.verify import Verifier
from migrator.adopt import AccountLocks, AdoptionOutcome, AdoptionResult
from migrator.digest_key import DigestKey
from migrator.grace import GraceAdopter, Standing
from migrator.ledger.graces import Graces
from migrator.ledger.logins import Logins
from migrator.model import VerifiedLogin
from migrator.seal import Sealer
from migrator.settings import DomainSettings, Settings
from wire.outcome import Answer, Scope, SetupTrouble, Trouble, Verdict
from wire.secret import Secret

_ADOPTION: Final = 5.0  # seconds for six CLI commands; after that the user is let in and the worker goes on
_RIGHTS: Final = 3.0  # seconds for one
_GATHER: Final = 0.05  # seconds: the notes of so long share a commit, and nobody waits for them
_AT_LEAST: Final = 0.25  # seconds for one, however late it is


class Login:
    """Checks passwords and does what follows from a right one."""

    def __init__(
        self,
        settings: Settings,
        notices: Notices,
        *,
        cli: Cli,
        logins: Logins,
        graces: Graces,
        verifier: Verifier,
        trust: Trust,
        locks: AccountLocks,
        under_way: UnderWay,
    ) -> None:
        communigate = settings.communigate
        self._settings = settings
        self._notices = notices
        self._log: Any = notices.log
        self._logins = logins
        self._verifier = verifier
        self._trust = trust
        self._under_way = under_way
        self._adopter = GraceAdopter(
            cli,
            protected=communigate.protected,
            admin_login=communigate.login,
            main_domain=communigate.main_domain,
            locks=locks,
        ).keep_grace(graces, DigestKey(settings.state.digest_key_file), settings.grace_of)
        self._sealer: Sealer | None = None
        self._ending = False
        self._to_note: list[tuple[str, AdoptionResult]] = []
        self._notes: asyncio.Task[None] | None = None

    async def check(
        self,
        flight: Flight[Reply],
        address: str,
        domain: DomainSettings,
        password: Secret,
        client: str,
        *,
        turn_by: float,
        deadline: float,
    ) -> Reply:
        """The whole of a VRFY. Sets `flight.early` as soon as the answer cannot become another."""
        if off := self._trust.switched_off(domain, address):
            return Retry(off.reason)
        standing: Standing | None = Standing.NONE
        if self._adopter.may_be_in_grace(address):
            standing = await self._standing(address, password, turn_by)
        if standing is None:
            return Retry("CommuniGate could not be asked about the account's own password")
        if standing is Standing.RIGHT:
            return Ok()
        if standing is Standing.WRONG:
            return Refuse("CommuniGate has another password, which counts alone", wrong=True)
        with self._under_way.asking(address):
            answer = await self._verifier.check_password(
                domain, address, password, client=client, turn_by=turn_by, deadline=deadline
            )
        if answer.verdict is Verdict.NO:
            return Refuse(answer.reason, wrong=True)
        if answer.verdict is not Verdict.YES:
            return self._later(domain, answer)
        if doubt := await self._trust.doubt(domain, address, deadline):
            return Retry(doubt.reason)
        if self._notices.troubled:
            self._notices.over(f"server {domain.verify_source}", f"{domain.verify_source} answers again")
        rights = await self._rights_of(address, turn_by)
        if rights:
            self._notices.alarm(f"rights {address}", f"{address} has access rights and is never moved")
            return Refuse("an account with access rights is never checked at the old server")
        if standing is Standing.ASK:
            return await self._take_over(address, domain, password)
        flight.early = Ok()
        if await self._submit(address, domain, password):
            return await self._adopt(address, password, rights_asked=rights is not None)
        return Ok()

    async def finish(self, timeout: float) -> None:
        """Wait for the notes in the ledger that nobody waits for."""
        self._ending = True
        await self._trust.finish()
        if self._notes is not None:
            await asyncio.wait({self._notes}, timeout=timeout)

    def _later(self, domain: DomainSettings, answer: Answer) -> Retry:
        if answer.scope is not Scope.USER:
            self._notices.alarm(f"server {domain.verify_source}", f"cannot check passwords now: {answer.reason}")
        return Retry(answer.reason)

    async def _rights_of(self, address: str, by: float) -> list[str] | None:
        """An administrator's access rights here. None where they cannot be found out: adoption asks before it acts."""
        now = asyncio.get_running_loop().time()
        # in time for the waiters' deadline: a CLI that hangs must not turn a right password into a FAILURE
        deadline = min(now + _RIGHTS, max(now + _AT_LEAST, by - _AT_LEAST))
        try:
            return await self._adopter.rights_of(address, deadline=deadline)
        except Trouble as trouble:
            self._log.warning("access rights unknown", account=address, reason=str(trouble))
            return None

    async def _submit(self, address: str, domain: DomainSettings, password: Secret) -> bool:
        """Put the login on disk; False (and a loud line) where that failed, so that nothing more may be done."""
        endpoint = domain.copy_endpoint if domain.copies else domain.verify_source
        try:
            if self._sealer is None:
                later = asyncio.get_running_loop().call_later
                self._sealer = Sealer(self._settings.state.public_key_file, later=later)
            login = VerifiedLogin(
                account=address,
                domain=address.rpartition("@")[2],
                source=str(endpoint),
                login=domain.source_login(address),
                sealed=self._sealer.seal(password, address),
                after_login=domain.after_login,
            )
            await self._logins.submit(login)
        except Trouble as trouble:
            if isinstance(trouble, SetupTrouble) and self._sealer is None and domain.after_login == "nothing":
                return True  # no key was made because nothing is to be kept: adoption alone is all there is
            self._notices.alarm("ledger", f"a verified login could not be saved: {trouble}", account=address)
            return False
        self._notices.over("ledger", "the ledger takes logins again")
        return True

    async def _adopt(self, address: str, password: Secret, *, rights_asked: bool) -> Reply:
        deadline = asyncio.get_running_loop().time() + _ADOPTION
        result = await self._adopter.adopt(address, password, deadline=deadline, rights_asked=rights_asked)
        self._keep_note(address, result)
        if result.outcome is AdoptionOutcome.CHANGED:
            return Refuse(result.reason)
        if result.outcome is AdoptionOutcome.PROTECTED:
            return Refuse("an account with access rights is never checked at the old server")
        return Ok()

    async def _standing(self, address: str, password: Secret, by: float) -> Standing | None:
        """What is known of an account in grace; None where that cannot be found out."""
        deadline = min(asyncio.get_running_loop().time() + _ADOPTION, by)
        try:
            async with asyncio.timeout_at(deadline):
                return await self._adopter.standing(address, password, deadline=deadline)
        except (Trouble, TimeoutError) as trouble:
            reason = str(trouble) or "no answer in time"
            self._notices.alarm("grace", f"an account in grace cannot be judged now: {reason}", account=address)
            return None

    async def _take_over(self, address: str, domain: DomainSettings, password: Secret) -> Reply:
        """A newer password of the old server's, while CommuniGate's is the one taken over before."""
        if not await self._submit(address, domain, password):
            return Ok()
        deadline = asyncio.get_running_loop().time() + _ADOPTION
        result = await self._adopter.take_over(address, password, deadline=deadline)
        self._log.info("newer password", account=address, outcome=result.outcome.value, reason=result.reason)
        if result.outcome is AdoptionOutcome.CHANGED:
            return Refuse(result.reason)
        if result.outcome is AdoptionOutcome.PROTECTED:
            return Refuse("an account with access rights is never checked at the old server")
        if result.outcome is not AdoptionOutcome.LATER:  # the next login tries that again
            self._keep_note(address, result)
        return Ok()

    def _keep_note(self, address: str, result: AdoptionResult) -> None:
        self._to_note.append((address, result))
        if self._notes is None:
            self._notes = asyncio.get_running_loop().create_task(self._write_notes())

    async def _write_notes(self) -> None:
        """Write down what has gathered in a moment: one commit for many. If it is lost, the worker finds out again."""
        while self._to_note:
            await asyncio.sleep(0 if self._ending else _GATHER)
            notes, self._to_note = self._to_note, []
            confirmed = [address for address, result in notes if result.confirmed]
            others = [self._note(address, result) for address, result in notes if not result.confirmed]
            try:
                if confirmed:
                    await self._logins.adopted(*confirmed)
            except Trouble as trouble:
                self._log.warning("the ledger does not take a note", accounts=len(confirmed), reason=str(trouble))
            await asyncio.gather(*others)
        self._notes = None

    async def _note(self, address: str, result: AdoptionResult) -> None:
        """Write down how one adoption failed."""
        try:
            if result.outcome is AdoptionOutcome.LATER:
                self._notices.alarm("adoption", f"passwords are not taken over now: {result.reason}", account=address)
                await self._logins.adoption_failed(address, result.reason)
            else:
                self._log.warning("password not taken over", account=address, reason=result.reason)
                await self._logins.adoption_refused(address, result.reason)
        except Trouble as trouble:
            self._log.warning("the ledger does not take a note", account=address, reason=str(trouble))
