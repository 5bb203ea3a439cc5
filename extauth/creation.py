"""Accounts are made here, and nowhere else in the helper.

Where the old server accepts every address, its word is no proof: the accounts made on it are limited in number, and
reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from cli_client.commands import Cli, Made
from cli_client.errors import AlreadyExists, CliRefused
from cli_client.format import Value
from extauth.allowance import Allowance
from extauth.notices import Notices
from extauth.protocol import Ok, Reply, Retry
from migrator.ledger.logins import Logins
from migrator.settings import DomainSettings
from wire.outcome import Trouble
from wire.secret import Secret

_DOMAINS: Final = 10_000  # whose limits are remembered: more than any server has


class Creation:
    """Makes accounts over one CLI."""

    def __init__(
        self, notices: Notices, *, cli: Cli, logins: Logins, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._notices = notices
        self._log: Any = notices.log
        self._cli = cli
        self._logins = logins
        self._clock = clock
        self._limits: dict[tuple[str, bool], Allowance] = {}

    async def make_unproven(self, address: str, domain: DomainSettings, deadline: float, *, login: bool) -> Reply:
        """`make`, on the word of a server that accepts every address: only so many in a time, mail and logins apart."""
        name = address.rpartition("@")[2]
        limit = await self._limit_of(name, domain, login)
        if domain.create_limit.count and not limit.take(self._clock()):
            count, minutes = domain.create_limit.count, domain.create_limit.seconds / 60
            self._notices.alarm(
                f"create limit {name}",
                f"{count} accounts of {name} were made in {minutes:.0f} minutes on the word of {domain.smtp},"
                f" which accepts every address: no more for now. A roster would tell users from spam (accept_all in"
                f' [domains."{domain.name}"]); create_limit is how many may be made',
            )
            return Retry("too many accounts were made on the word of a server that accepts every address")
        reply, made = await self._make(address, domain, deadline, unproven=True)
        if not made and domain.create_limit.count:
            limit.give(self._clock())
        return reply

    async def make(self, address: str, domain: DomainSettings, deadline: float) -> Reply:
        """Ok once the account is there, by whoever's hand; Retry where CommuniGate does not make it."""
        reply, _ = await self._make(address, domain, deadline, unproven=False)
        return reply

    async def _make(
        self, address: str, domain: DomainSettings, deadline: float, *, unproven: bool
    ) -> tuple[Reply, bool]:
        settings: dict[str, Value | Secret] = {}
        settings.update(domain.create)  # type: ignore[arg-type]  # strings, lists and tables of them: all are Values
        settings |= {"UseAppPassword": "NO", "UseExtPassword": "YES"}
        try:
            made = await self._cli.ensure_account(address, settings, deadline=deadline)
        except AlreadyExists as taken:
            if taken.kind == "account":  # but it cannot be read: a yes would bounce what the server does not find
                return Retry(f"CommuniGate says that the account exists, and does not show it: {taken}"), False
            return Ok(), False  # an alias, a list, a forwarder: the server looks once more and finds it
        except CliRefused as refusal:
            self._notices.alarm(f"create {refusal.code}", f"CommuniGate refuses to make {address}: {refusal}")
            return Retry(f"CommuniGate refuses to make the account: {refusal}"), False
        except Trouble as trouble:
            self._notices.alarm("cli", f"CommuniGate's CLI: {trouble}")
            return Retry(f"CommuniGate's CLI: {trouble}"), False
        self._notices.over("cli", "CommuniGate's CLI answers again")
        if made is Made.CREATED:
            self._log.info("account made", account=address, unproven=unproven)
            await self._remember(address, unproven)
        return Ok(), made is Made.CREATED

    async def _limit_of(self, name: str, domain: DomainSettings, login: bool) -> Allowance:
        """The allowance of a domain. After a restart, what was made before it counts against both."""
        if (name, login) not in self._limits:
            try:
                used = await self._logins.count_unproven(name, within=domain.create_limit.seconds)
            except Trouble:
                used = 0  # the ledger says so itself, with each account that it does not note
            if len(self._limits) >= _DOMAINS:
                self._limits.clear()
            for kind in (False, True):
                self._limits.setdefault((name, kind), Allowance(domain.create_limit, self._clock(), used=used))
        return self._limits[name, login]

    async def _remember(self, address: str, unproven: bool) -> None:
        """Count the account among those whose user has not come yet; the account exists whether this works or not."""
        try:
            await self._logins.seen(address, address.rpartition("@")[2], unproven=unproven)
        except Trouble as trouble:
            self._notices.alarm("ledger", f"the ledger does not take notes: {trouble}", account=address)
