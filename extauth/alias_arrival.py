"""NEW for a name that the domain's `aliases` file lists: no account of its own, but what the name is at the old server.

Another name of an account becomes that account's alias in CommuniGate (read, written whole, read back, under the
account's lock: no alias is ever lost); the account is made first where the old server knows it. One address elsewhere
becomes a forwarder, several a group. What only the old server can do stays there: mail goes on to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from cli_client.commands import Cli
from cli_client.errors import AlreadyExists, CliRefused
from extauth.notices import Notices
from extauth.protocol import Ok, Refuse, Reply, Retry, Routed
from migrator.adopt import AccountLocks
from migrator.alias_names import Lead, Leads
from migrator.settings import CommuniGateSettings
from wire.outcome import Temporary, Trouble

Ask = Callable[[str], Awaitable[Reply]]

_LOOK: Final = 2.0  # seconds for a look at CommuniGate


class AliasArrival:
    """Makes aliases, forwarders and groups."""

    def __init__(self, notices: Notices, cli: Cli, communigate: CommuniGateSettings, locks: AccountLocks) -> None:
        self._notices = notices
        self._cli = cli
        self._communigate = communigate
        self._locks = locks

    async def arrive(self, address: str, lead: Lead, *, make_account: Ask, stay_there: Ask, deadline: float) -> Reply:
        """The reply to a NEW for `address`, which is what `lead` says.

        `make_account` answers a NEW for an account; `stay_there` one for an address whose mail the old server keeps.
        """
        if lead.kind is Leads.ELSEWHERE:
            return await stay_there(address)
        if lead.kind is Leads.ACCOUNT:
            return await self._alias(address, lead.targets[0], make_account, stay_there, deadline)
        try:
            if lead.kind is Leads.AWAY:
                await self._cli.create_forwarder(address, lead.targets[0], deadline=deadline)
            else:
                await self._cli.create_group(address, {"Members": list(lead.targets)}, deadline=deadline)
        except AlreadyExists:
            return Ok()  # made by the request before, or by a person: the server looks once more and finds it
        except CliRefused as refusal:
            self._say_refused(address, refusal)
            return Routed(lead.targets[0]) if lead.kind is Leads.AWAY else await stay_there(address)
        except Trouble as trouble:
            return self._later(trouble)
        self._notices.log.info("made for an alias", address=address, kind=lead.kind.value, targets=len(lead.targets))
        return Ok()

    async def _alias(self, address: str, account: str, make_account: Ask, stay_there: Ask, deadline: float) -> Reply:
        if self._communigate.is_protected(account):
            return await self._to_protected(address, account, deadline)
        reply = await make_account(account)
        if isinstance(reply, Refuse):
            # a line of the file that is older than the account's end: the old server has the last word on the alias
            return await stay_there(address)
        if not isinstance(reply, Ok):
            return reply
        try:
            async with asyncio.timeout_at(deadline), self._locks.hold(account):
                return await self._set(address, account, deadline)
        except TimeoutError:
            return self._later(Temporary("CommuniGate's CLI did not answer in time"))
        except CliRefused as refusal:
            self._say_refused(address, refusal)
            return Routed(account)  # mail comes there all the same
        except Trouble as trouble:
            return self._later(trouble)

    async def _set(self, address: str, account: str, deadline: float) -> Reply:
        """One more name for `account`. SetAccountAliases replaces all of them, so the others are written again."""
        name = address.rpartition("@")[0]
        before = await self._cli.get_account_aliases(account, deadline=deadline)
        if name in _names(before):
            return Ok()
        await self._cli.set_account_aliases(account, [*before, name], deadline=deadline)
        after = _names(await self._cli.get_account_aliases(account, deadline=deadline))
        if not _names([*before, name]) <= after:
            lost = ", ".join(sorted(_names([*before, name]) - after))
            self._notices.alarm("aliases", f"aliases of {account} were set, and CommuniGate does not show {lost}")
            return Retry("CommuniGate shows other aliases than were set")
        self._notices.log.info("alias set", account=account, alias=name)
        return Ok()

    async def _to_protected(self, address: str, account: str, deadline: float) -> Reply:
        """`abuse: postmaster`: nothing of a protected account is changed, but its mail may come."""
        try:
            soon = min(deadline, asyncio.get_running_loop().time() + _LOOK)
            await self._cli.get_account_settings(account, deadline=soon)
        except CliRefused:
            text = f"{address} is an alias of {account}, which is protected and not there; make it by hand"
            self._notices.alarm(f"alias {account}", text)
            return Retry("an alias of a protected name that does not exist")
        except Trouble as trouble:
            return self._later(trouble)
        return Routed(account)

    def _say_refused(self, address: str, refusal: CliRefused) -> None:
        text = f"CommuniGate refuses to make {address} what the aliases file says: {refusal}"
        self._notices.alarm(f"alias {refusal.code}", text)

    def _later(self, trouble: Trouble) -> Retry:
        self._notices.alarm("cli", f"CommuniGate's CLI: {trouble}")
        return Retry(f"CommuniGate's CLI: {trouble}")


def _names(aliases: list[str]) -> set[str]:
    """As they are compared: lower case, without a domain."""
    return {alias.lower().partition("@")[0] for alias in aliases}
