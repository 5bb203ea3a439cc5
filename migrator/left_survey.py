"""Collects who has not moved: from the ledger, CommuniGate, the rosters and the files of hashes. Changes nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Final

from cli_client.commands import Cli
from cli_client.errors import NoSuchAccount, NoSuchDomain, UnknownCommand
from cli_client.format import Value
from migrator.hash_file import read_hash_file
from migrator.hash_table import HashTable, account_of, find_account, read_entry
from migrator.ledger.store import Store
from migrator.left import Facts, Left, judge
from migrator.model import Adoption, Phase
from migrator.passwords import CANNOT_BE_CHECKED
from migrator.roster import Listed
from migrator.settings import DomainSettings, Settings
from wire.outcome import SetupTrouble, Trouble

_PAGE: Final = 1000  # accounts in one reply
_TURN: Final = 60.0  # seconds for one command: a server may look through a large domain for a list of it

Progress = Callable[[int, int], None]


class LeftSurvey:
    """One look at all domains, or at one. `progress` hears how many accounts of how many were asked about."""

    def __init__(self, settings: Settings, store: Store, cli: Cli | None, *, only: str = "") -> None:
        """Without a `cli` CommuniGate is not asked. `only` is a domain's name."""
        self._settings = settings
        self._store = store
        self._cli = cli
        self._only = only.lower()
        self._facts: dict[str, Facts] = {}

    async def run(self, progress: Progress = lambda _done, _all: None) -> list[Left]:
        """Everybody who is left, by domain and name. Trouble where a source of it cannot be read."""
        for facts in await self._store.read(_of_ledger):
            self._note(facts)
        for domain in self._settings.domains.values():
            self._read_lists(domain)
        if self._cli is not None:
            for name in await self._domain_names():
                await self._list_accounts(name)
            await self._ask_each(progress)
        return list(self._judged())

    def _judged(self) -> Iterator[Left]:
        for account in sorted(self._facts, key=lambda address: address.rpartition("@")[::-1]):
            domain = self._domain_of(account)
            if domain is None or self._settings.communigate.is_protected(account):
                continue
            left = judge(self._facts[account], domain)
            if left is not None:
                yield left

    def _domain_of(self, account: str) -> DomainSettings | None:
        name = account.rpartition("@")[2]
        return self._settings.domain(name) if name and self._only in ("", name) else None

    def _note(self, facts: Facts) -> None:
        if self._domain_of(facts.account) is not None:
            self._facts[facts.account] = facts

    def _known(self, account: str) -> Facts:
        return self._facts.get(account) or Facts(account)

    def _read_lists(self, domain: DomainSettings) -> None:
        listed = domain.roster.read() if domain.roster is not None else Listed()
        if listed.problem:
            raise SetupTrouble(f"the roster of {domain.name}: {listed.problem}")
        for account in listed.names:
            self._note(replace(self._known(account), listed=True))
        if domain.hashes is None:
            return
        content, _stamp = read_hash_file(domain.hashes)
        table = HashTable(content, domain="" if domain.name == "default" else domain.name)
        for line in table:
            account = account_of(domain, line.name)
            # system users, and those who are locked, are somebody's mail account only where another list has them
            if account not in self._facts and read_entry(line).scheme not in CANNOT_BE_CHECKED:
                self._note(Facts(account))
        for account, facts in self._facts.items():
            if self._settings.domain(account.rpartition("@")[2]) is domain:
                found = find_account(table, domain, account)
                if found is not None:
                    self._facts[account] = replace(facts, stored=read_entry(found))

    # -- CommuniGate ---------------------------------------------------------------------------------------------------

    async def _domain_names(self) -> list[str]:
        if self._only:
            return [self._only]
        named = [name for name in self._settings.domains if name != "default"]
        if "default" not in self._settings.domains:
            return named
        assert self._cli is not None
        return sorted({*named, *(name.lower() for name in await self._cli.list_domains(deadline=_by()))})

    async def _list_accounts(self, domain: str) -> None:
        try:
            names = [name async for name in self._pages(domain)]
        except NoSuchDomain:
            return  # not made yet at CommuniGate
        for name in names:
            account = name.lower() if "@" in name else f"{name.lower()}@{domain}"
            facts = self._known(account)
            self._note(replace(facts, exists=True))
        for account, facts in self._facts.items():
            if account.rpartition("@")[2] == domain and facts.exists is None:
                self._facts[account] = replace(facts, exists=False)

    async def _pages(self, domain: str) -> AsyncIterator[str]:
        assert self._cli is not None
        cookie: str | None = ""
        try:
            while cookie is not None:
                page = await self._cli.list_domain_objects(domain, _PAGE, cookie=cookie, deadline=_by())
                for name in page.objects:
                    yield name
                cookie = page.cookie if page.cookie not in ("", cookie) else None
        except UnknownCommand:  # an older server
            for name in await self._cli.list_accounts(domain, deadline=_by()):
                yield name

    async def _ask_each(self, progress: Progress) -> None:
        """Whether those who exist are on external authentication; adopted ones were read back when they were."""
        asked = [name for name, facts in self._facts.items() if facts.exists and facts.adoption is not Adoption.ADOPTED]
        waiting = iter(asked)
        done = 0

        async def ask() -> None:
            nonlocal done
            assert self._cli is not None
            for account in waiting:
                facts = self._facts[account]
                try:
                    found = await self._cli.get_account_effective_settings(account, deadline=_by())
                    self._facts[account] = replace(facts, external=_is_yes(found.get("UseExtPassword")))
                except NoSuchAccount:
                    self._facts[account] = replace(facts, exists=False)
                done += 1
                progress(done, len(asked))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._settings.communigate.connections):
                    group.create_task(ask())
        except* Trouble as troubles:
            raise troubles.exceptions[0] from None


def _is_yes(value: Value | None) -> bool:
    return isinstance(value, str) and value.upper() == "YES"


def _by() -> float:
    return asyncio.get_running_loop().time() + _TURN


def _of_ledger(connection: sqlite3.Connection) -> list[Facts]:
    """Every account of the ledger, with its latest copy."""
    phases: dict[str, Phase] = {}
    for account, phase in connection.execute("SELECT account, phase FROM jobs ORDER BY id"):
        phases[account] = Phase(phase)
    rows = connection.execute("SELECT account, adoption, reason FROM accounts")
    return [Facts(account, Adoption(adoption), reason, phase=phases.get(account)) for account, adoption, reason in rows]
