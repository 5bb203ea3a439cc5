"""NEW's story: does the old server know this address, and may it become an account here?

"No" is said only where the old server refused the address in so many words, or where the operator's own roster or
`refuse` says so; everything unclear is "later", because "no" bounces mail. An account that exists is always "yes".
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass
from typing import Any, Final

from cli_client.commands import Cli, Made
from cli_client.errors import AlreadyExists, CliRefused, NoSuchAccount, NoSuchDomain
from cli_client.format import Value
from extauth.guard import UnderWay
from extauth.notices import Notices
from extauth.probe import Prober
from extauth.protocol import Ok, Refuse, Reply, Retry, Routed
from migrator.ledger.logins import Logins
from migrator.settings import DomainSettings, Settings
from wire.outcome import Answer, Scope, Trouble, Verdict
from wire.secret import Secret

_LOOK: Final = 2.0  # seconds to see whether an account exists, where the answer hardly ever changes anything
_REMEMBERED: Final = 3600.0  # seconds that an old server's way with unknown addresses is remembered
_HABITS: Final = 10_000  # domains and servers remembered
_UNCLEAR: Final = 60.0  # seconds until it is asked again when it could not be found out


@dataclass(frozen=True, slots=True)
class _Habit:
    """Whether an old server accepts any address (None: could not be found out), and until when that is believed."""

    accepts_all: bool | None
    until: float


class Arrival:
    """Decides about addresses that have no account, and makes the accounts."""

    def __init__(
        self,
        settings: Settings,
        notices: Notices,
        *,
        cli: Cli,
        logins: Logins,
        prober: Prober,
        under_way: UnderWay,
    ) -> None:
        self._settings = settings
        self._notices = notices
        self._log: Any = notices.log
        self._cli = cli
        self._logins = logins
        self._prober = prober
        self._under_way = under_way
        self._habits: dict[tuple[str, str], _Habit] = {}
        self._asking: dict[tuple[str, str], asyncio.Lock] = {}
        self._aside: set[asyncio.Task[None]] = set()

    async def arrive(self, address: str, domain: DomainSettings, deadline: float) -> Reply:
        """The whole of a NEW for a name that can be an account."""
        if domain.new == "refuse":
            return await self._refuse_unless_here(address, "no accounts are made in this domain", deadline)
        if domain.new == "roster":
            return await self._by_roster(address, domain, deadline)
        answer = await self._ask(address, domain, deadline)
        if answer.verdict is Verdict.NO:
            return await self._refuse_unless_here(address, answer.reason, deadline)
        if answer.verdict is not Verdict.YES:
            return self._later(domain, answer)
        if self._notices.troubled:
            self._notices.over(f"server {domain.smtp}", f"{domain.smtp} answers again")
        return await self._accepted(address, domain, deadline)

    async def ask_only(self, address: str, domain: DomainSettings, reason: str, deadline: float) -> Reply:
        """An address that can never be an account: only the old server's own no is a no."""
        if domain.new != "probe":
            return Refuse(reason)
        answer = await self._ask(address, domain, deadline)
        if answer.verdict is Verdict.NO:
            return Refuse(answer.reason)
        if answer.verdict is not Verdict.YES:
            return self._later(domain, answer)
        # one key for all of them: the names are anybody's, and CommuniGate's log must not fill with them
        self._notices.alarm("name", f"the old server takes mail for {address}, but it cannot be an account: {reason}")
        return Retry(reason)

    async def exists(self, address: str, deadline: float) -> bool:
        """Whether CommuniGate has `address` already; False where that cannot be found out."""
        soon = min(deadline, asyncio.get_running_loop().time() + _LOOK)
        try:
            await self._cli.get_account_settings(address, deadline=soon)
        except (NoSuchAccount, NoSuchDomain):
            return False
        except Trouble as trouble:
            self._log.info("existence unknown", account=address, reason=str(trouble))
            return False
        return True

    async def _refuse_unless_here(self, address: str, reason: str, deadline: float) -> Reply:
        return Ok() if await self.exists(address, deadline) else Refuse(reason)

    async def _by_roster(self, address: str, domain: DomainSettings, deadline: float) -> Reply:
        if domain.roster is not None and address in domain.roster:
            return await self._create(address, domain, deadline)
        return await self._refuse_unless_here(address, "not in the roster", deadline)

    async def _ask(self, address: str, domain: DomainSettings, deadline: float) -> Answer:
        with self._under_way.asking(address):
            return await self._prober.check_recipient(domain, domain.old_address(address), deadline=deadline)

    def _later(self, domain: DomainSettings, answer: Answer) -> Retry:
        if answer.scope is not Scope.USER:
            self._notices.alarm(f"server {domain.smtp}", f"cannot ask about addresses now: {answer.reason}")
        return Retry(answer.reason)

    # -- old servers that accept every address -------------------------------------------------------------------------

    async def _accepted(self, address: str, domain: DomainSettings, deadline: float) -> Reply:
        """The old server accepts `address`; that proves something only if it refuses others."""
        if domain.accept_all == "create":
            self._look_aside(address, domain, deadline)
            return await self._create(address, domain, deadline)
        accepts_all = await self._accepts_all(address, domain, deadline)
        if accepts_all is None:
            return Retry("could not find out whether the old server accepts every address")
        if not accepts_all:
            return await self._create(address, domain, deadline)
        if await self.exists(address, deadline):
            return Ok()
        if domain.accept_all == "roster":
            return await self._by_roster(address, domain, deadline)
        if domain.accept_all == "route":
            return self._route(address, domain)
        return Refuse("the old server accepts every address, so none is made an account")

    def _look_aside(self, address: str, domain: DomainSettings, deadline: float) -> None:
        """Find out beside the request: with "create" the answer changes a line in the log and nothing else."""
        key = _habit_key(address, domain)
        if key in self._asking or self._known(key) is not None:
            return

        async def look() -> None:
            await self._accepts_all(address, domain, deadline)

        task = asyncio.get_running_loop().create_task(look())
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    async def _accepts_all(self, address: str, domain: DomainSettings, deadline: float) -> bool | None:
        key = _habit_key(address, domain)
        async with self._asking.setdefault(key, asyncio.Lock()):
            try:
                if (habit := self._known(key)) is not None:
                    return habit.accepts_all
                nobody = f"{secrets.token_hex(12)}@{domain.old_address(address).rpartition('@')[2]}"
                answer = await self._prober.check_recipient(domain, nobody, deadline=deadline)
            finally:
                self._asking.pop(key, None)
            accepts_all = None if answer.verdict is Verdict.LATER else answer.verdict is Verdict.YES
            seconds = _UNCLEAR if accepts_all is None else _REMEMBERED
            if len(self._habits) >= _HABITS:
                self._habits.clear()  # more domains than any server hosts; they are found out again
            self._habits[key] = _Habit(accepts_all, time.monotonic() + seconds)
            if accepts_all:
                text = f'{key[1]} accepts every address of {key[0]}; accept_all = "{domain.accept_all}" decides'
                self._notices.alarm(f"accepts all {key}", text)
            return accepts_all

    def _known(self, key: tuple[str, str]) -> _Habit | None:
        habit = self._habits.get(key)
        return habit if habit is not None and time.monotonic() < habit.until else None

    def _route(self, address: str, domain: DomainSettings) -> Reply:
        """ROUTED to the old server itself: CommuniGate relays `name%domain@[ip]._via` there as name@domain."""
        endpoint = domain.smtp
        at = self._under_way.peer(endpoint) if endpoint is not None else None
        if endpoint is None or at is None:
            return Retry("the old server's address is not known")
        name, _, old_domain = domain.old_address(address).rpartition("@")
        host = f"[{at}]" if endpoint.port == 25 else f"[{at}].{endpoint.port}"
        return Routed(f"{name}%{old_domain}@{host}._via")

    # -- making the account --------------------------------------------------------------------------------------------

    async def _create(self, address: str, domain: DomainSettings, deadline: float) -> Reply:
        settings: dict[str, Value | Secret] = {}
        settings.update(domain.create)  # type: ignore[arg-type]  # strings, lists and tables of them: all are Values
        settings |= {"UseAppPassword": "NO", "UseExtPassword": "YES"}
        try:
            made = await self._cli.ensure_account(address, settings, deadline=deadline)
        except AlreadyExists as taken:
            if taken.kind == "account":  # but it cannot be read: a yes would bounce what the server does not find
                return Retry(f"CommuniGate says that the account exists, and does not show it: {taken}")
            return Ok()  # an alias, a list, a forwarder: the server looks once more and finds it
        except CliRefused as refusal:
            self._notices.alarm(f"create {refusal.code}", f"CommuniGate refuses to make {address}: {refusal}")
            return Retry(f"CommuniGate refuses to make the account: {refusal}")
        except Trouble as trouble:
            self._notices.alarm("cli", f"CommuniGate's CLI: {trouble}")
            return Retry(f"CommuniGate's CLI: {trouble}")
        self._notices.over("cli", "CommuniGate's CLI answers again")
        if made is Made.CREATED:
            self._log.info("account made", account=address)
            await self._remember(address)
        return Ok()

    async def _remember(self, address: str) -> None:
        """Count the account among those whose user has not come yet; the account exists whether this works or not."""
        try:
            await self._logins.seen(address, address.rpartition("@")[2])
        except Trouble as trouble:
            self._notices.alarm("ledger", f"the ledger does not take notes: {trouble}", account=address)


def _habit_key(address: str, domain: DomainSettings) -> tuple[str, str]:
    return domain.old_address(address).rpartition("@")[2], str(domain.smtp)
