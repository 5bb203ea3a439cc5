"""NEW's story: does the old server know this address, and may it become an account here?

"No" is said only where the old server refused the address in so many words, or where the operator's own roster or
`refuse` says so; everything unclear is "later", because "no" bounces mail. An account that exists is always "yes". A
server that accepts every address proves nothing by it, and one that may do so for a while only is not believed.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from cli_client.commands import Cli
from cli_client.errors import NoSuchAccount, NoSuchDomain
from extauth.alias_arrival import AliasArrival
from extauth.brake import Asker
from extauth.creation import Creation
from extauth.guard import UnderWay
from extauth.inquiry import Inquiry
from extauth.notices import Notices
from extauth.protocol import Ok, Refuse, Reply, Retry, Routed
from migrator.adopt import AccountLocks
from migrator.settings import CommuniGateSettings, DomainSettings
from wire.outcome import Answer, Scope, Temporary, Trouble, Verdict

_LOOK: Final = 2.0  # seconds to see whether an account exists, where the answer hardly ever changes anything


class Arrival:
    """Decides about addresses that have no account."""

    def __init__(
        self,
        notices: Notices,
        *,
        communigate: CommuniGateSettings,
        cli: Cli,
        creation: Creation,
        inquiry: Inquiry,
        under_way: UnderWay,
        locks: AccountLocks,
    ) -> None:
        self._aliases = AliasArrival(notices, cli, communigate, locks)
        self._notices = notices
        self._log: Any = notices.log
        self._cli = cli
        self._creation = creation
        self._inquiry = inquiry
        self._under_way = under_way

    async def arrive(self, address: str, domain: DomainSettings, asker: Asker, deadline: float) -> Reply:
        """The whole of a NEW for a name that can be an account."""
        if domain.aliases is not None:
            reply = await self._as_alias(address, domain, asker, deadline)
            if reply is not None:
                return reply
        return await self._as_account(address, domain, asker, deadline)

    async def _as_alias(self, address: str, domain: DomainSettings, asker: Asker, deadline: float) -> Reply | None:
        """The reply for a name of the aliases file; None for any other. An unreadable file leaves all in doubt."""
        assert domain.aliases is not None  # the caller has looked
        names = await domain.aliases.look()
        if names.problem:
            self._notices.alarm(f"aliases {domain.name}", f"the aliases {domain.aliases.path}: {names.problem}")
        lead = names.lead(address)
        if lead is None:
            return Retry("the aliases of this domain cannot be read") if names.unread else None

        async def make_account(account: str) -> Reply:
            if await self.exists(account, deadline):
                return Ok()
            return await self._as_account(account, domain, asker, deadline)

        async def stay_there(name: str) -> Reply:
            return await self._stay_there(name, domain, asker, deadline)

        return await self._aliases.arrive(
            address, lead, make_account=make_account, stay_there=stay_there, deadline=deadline
        )

    async def _stay_there(self, address: str, domain: DomainSettings, asker: Asker, deadline: float) -> Reply:
        """An alias that only the old server can follow: its mail goes on there, as long as it takes it."""
        if domain.smtp is None:
            self._notices.alarm(
                f"alias {domain.name}",
                f"{address} stands in the aliases of {domain.name}, and nothing at CommuniGate can do what it does"
                " there; make it by hand",
            )
            return Retry("an alias that cannot be made here, and no old server is named")
        answer = (await self._inquiry.ask(address, domain, asker, deadline)).answer
        if answer.verdict is Verdict.NO:
            return await self._refuse_unless_here(address, answer.reason, deadline)
        if answer.verdict is not Verdict.YES:
            return self._later(domain, answer)
        return await self._route(address, domain, asker)

    async def _as_account(self, address: str, domain: DomainSettings, asker: Asker, deadline: float) -> Reply:
        if domain.new == "refuse":
            return await self._refuse_unless_here(address, "no accounts are made in this domain", deadline)
        if domain.new == "roster":
            return await self._by_roster(address, domain, deadline)
        word = await self._inquiry.ask(address, domain, asker, deadline)
        answer = word.answer
        if answer.verdict is Verdict.NO:
            return await self._refuse_unless_here(address, answer.reason, deadline)
        if answer.verdict is Verdict.YES and self._notices.troubled:
            self._notices.over(f"server {domain.smtp}", f"{domain.smtp} answers again")
        if answer.verdict is Verdict.YES and word.accepts_all is False:
            return await self._create(address, domain, deadline)
        # whatever is in the old server's way, or makes its yes worthless: whoever is listed is known
        listed = await self._listed(address, domain) if domain.roster is not None else False
        if listed is True:
            return await self._create(address, domain, deadline)
        if answer.verdict is not Verdict.YES:
            return self._later(domain, answer)
        if word.accepts_all is None:
            return Retry("could not find out whether the old server accepts every address")
        return await self._accepted_like_all(address, domain, asker, listed, deadline)

    async def ask_only(self, address: str, domain: DomainSettings, reason: str, asker: Asker, deadline: float) -> Reply:
        """An address that can never be an account: only the old server's own no is a no."""
        if domain.new != "probe":
            return Refuse(reason)
        answer = (await self._inquiry.ask(address, domain, asker, deadline)).answer
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

    async def _create(self, address: str, domain: DomainSettings, deadline: float) -> Reply:
        reply = await self._creation.make(address, domain, deadline)
        if isinstance(reply, Ok):
            self._inquiry.forget(address, domain)
        return reply

    async def _refuse_unless_here(self, address: str, reason: str, deadline: float) -> Reply:
        return Ok() if await self.exists(address, deadline) else Refuse(reason)

    async def _by_roster(self, address: str, domain: DomainSettings, deadline: float) -> Reply:
        listed = await self._listed(address, domain)
        if isinstance(listed, Retry):
            return Ok() if await self.exists(address, deadline) else listed
        if listed:
            return await self._create(address, domain, deadline)
        return await self._refuse_unless_here(address, "not in the roster", deadline)

    async def _listed(self, address: str, domain: DomainSettings) -> bool | Retry:
        """Whether the roster has `address`; Retry where it does not tell."""
        assert domain.roster is not None  # load_settings refuses to go by a roster that is not named
        try:
            return await domain.roster.holds(address)
        except Temporary as trouble:
            if trouble.scope is Scope.SETUP:
                self._notices.alarm(f"roster {domain.name}", f"{trouble}; who is not found in it gets FAILURE")
            return Retry(str(trouble))

    def _later(self, domain: DomainSettings, answer: Answer) -> Retry:
        if answer.scope is not Scope.USER:
            self._notices.alarm(f"server {domain.smtp}", f"cannot ask about addresses now: {answer.reason}")
        return Retry(answer.reason)

    # -- old servers that accept every address -------------------------------------------------------------------------

    async def _accepted_like_all(
        self, address: str, domain: DomainSettings, asker: Asker, listed: bool | Retry, deadline: float
    ) -> Reply:
        """The old server accepts `address`, which is not listed, as it accepts any: the configuration decides."""
        if await self.exists(address, deadline):
            return Ok()
        if isinstance(listed, Retry):
            return listed
        if domain.accept_all == "roster":
            return Refuse("not in the roster")
        if domain.accept_all == "create":
            reply = await self._creation.make_unproven(address, domain, deadline, login=asker.login)
            if isinstance(reply, Ok):
                self._inquiry.forget(address, domain)
            return reply
        if domain.accept_all == "route":
            return await self._route(address, domain, asker)
        return Refuse("the old server accepts every address, so none is made an account")

    async def _route(self, address: str, domain: DomainSettings, asker: Asker) -> Reply:
        """ROUTED to the old server itself: CommuniGate relays `name%domain@[ip]._via` there as name@domain.

        Never what the old server itself hands over: it would come back for ever.
        """
        endpoint = domain.smtp
        at = await self._under_way.find_peer(endpoint) if endpoint is not None else None
        if endpoint is None or at is None:
            return Retry("the old server's address is not known")
        if await self._under_way.comes_from(asker.client, (endpoint, domain.imap, domain.pop)):
            self._notices.alarm(
                f"loop {endpoint}",
                f"{endpoint} accepts {address} and hands its mail on to us: it is not routed back there. List such"
                f' addresses in the roster or the aliases of [domains."{domain.name}"]',
            )
            return Retry("the old server hands over an address that would be routed back to it")
        name, _, old_domain = domain.old_address(address).rpartition("@")
        host = f"[{at}]" if endpoint.port == 25 else f"[{at}].{endpoint.port}"
        return Routed(f"{name}%{old_domain}@{host}._via")
