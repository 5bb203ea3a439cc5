"""Makes accounts over the CLI, several at a time. What exists is never changed.

Each batch: ask which names are free, write those down as begun (one write to the disk), CreateAccount, then
SetAccountAliases. An answer that is lost is settled by asking again: a name that was free a moment ago and is taken
now is ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from cli_client.commands import Cli, Settings
from cli_client.errors import CliRefused
from migrator.directory.account import NewAccount
from migrator.directory.creation_journal import CreationJournal, State
from wire.outcome import Temporary

BATCH: Final = 64  # accounts that a crash leaves to be looked at again
_FOUND: Final = "found there after a run that was broken off, which had begun it"
_THERE: Final = "an account or alias of this name is there: it is not changed"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one account."""

    account: NewAccount
    state: State
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Making:
    """How accounts are made: `settings` gives those of one; `kind` and `external` are CreateAccount's keywords."""

    settings: Callable[[NewAccount], Settings]
    kind: str | None = None
    external: bool = False
    jobs: int = 4


class Creation:
    """One run. Raises CliLoginRefused and the like, which concern every account; Temporary trouble is a result."""

    def __init__(self, cli: Cli, journal: CreationJournal, making: Making) -> None:
        self._cli = cli
        self._journal = journal
        self._making = making
        self._places = asyncio.Semaphore(making.jobs)

    async def create(self, accounts: Iterable[NewAccount]) -> AsyncIterator[Result]:
        """A result for each account, in their order. Ends asking when the server has not answered a whole batch."""
        waiting = iter(accounts)
        while batch := list(islice(waiting, BATCH)):
            results = await self._batch(batch)
            for result in results:
                if result.state is not State.DONE or self._journal.states.get(result.account.address) is not State.DONE:
                    self._journal.note(result.account.address, result.state, result.reason)
                yield result
            if all(result.state is State.LATER for result in results):
                for result in _not_tried(waiting, results[-1].reason):
                    yield result

    async def preview(self, accounts: Iterable[NewAccount]) -> AsyncIterator[Result]:
        """What `create` would do, from questions alone. Writes nothing, here or there."""
        waiting = iter(accounts)
        while batch := list(islice(waiting, BATCH)):
            looked = await self._each(batch, self._look_only)
            for account in batch:
                yield looked[account.address]

    async def _look_only(self, account: NewAccount) -> Result:
        before = self._journal.states.get(account.address)
        if before is State.DONE:
            return Result(account, State.DONE, "made by an earlier run")
        if not await self._exists(account.address):
            return Result(account, State.FREE)
        if before is None:
            return Result(account, State.EXISTS, _THERE)
        return Result(account, State.FREE, "begun by an earlier run: it would be gone on with")

    async def _batch(self, batch: list[NewAccount]) -> list[Result]:
        looked = await self._each(batch, self._look)
        free = [account for account in batch if account.address not in looked]
        self._journal.begin(account.address for account in free)
        made = await self._each(free, self._make)
        return [looked.get(account.address) or made[account.address] for account in batch]

    async def _each(
        self, batch: list[NewAccount], act: Callable[[NewAccount], Awaitable[Result | None]]
    ) -> dict[str, Result]:
        """Do it to all of them, `jobs` at a time; what came of it where something did."""
        found: dict[str, Result] = {}

        async def one(account: NewAccount) -> None:
            async with self._places:
                try:
                    result = await act(account)
                except Temporary as trouble:
                    result = Result(account, State.LATER, str(trouble))
                if result is not None:
                    found[account.address] = result

        try:
            async with asyncio.TaskGroup() as group:
                for account in batch:
                    group.create_task(one(account))
        except ExceptionGroup as group:  # the login, a certificate: no account can be made
            raise group.exceptions[0] from None
        return found

    async def _look(self, account: NewAccount) -> Result | None:
        """What is settled without making anything; None for a name that is free."""
        before = self._journal.states.get(account.address)
        if before is State.DONE:
            return Result(account, State.DONE, "made by an earlier run")
        there = await self._exists(account.address)
        if not there:
            return None
        if before is None:
            return Result(account, State.EXISTS, _THERE)
        result = await self._give_aliases(account, await self._cli.get_account_aliases(account.address))
        return replace(result, reason=result.reason or _FOUND)

    async def _make(self, account: NewAccount) -> Result:
        making = self._making
        try:
            await self._cli.create_account(
                account.address, making.settings(account), kind=making.kind, external=making.external
            )
        except CliRefused as refusal:
            return Result(account, State.REFUSED, str(refusal))
        except Temporary:
            if not await self._exists(account.address):
                raise
        return await self._give_aliases(account)

    async def _give_aliases(self, account: NewAccount, there: Sequence[str] = ()) -> Result:
        """Add the aliases to those that are `there`; where the server refuses them together, one by one."""
        self._journal.note(account.address, State.MADE)
        given = list(there)
        missing = [alias for alias in account.aliases if alias not in {one.lower() for one in given}]
        if not missing:
            return Result(account, State.DONE)
        try:
            await self._cli.set_account_aliases(account.address, [*given, *missing])
        except CliRefused:
            pass
        else:
            return Result(account, State.DONE)
        refused = []
        for alias in missing:
            try:
                await self._cli.set_account_aliases(account.address, [*given, alias])
            except CliRefused as refusal:
                refused.append(f"{alias}: {refusal}")
            else:
                given.append(alias)
        return Result(account, State.ALIASES if refused else State.DONE, "; ".join(refused))

    async def _exists(self, address: str) -> bool:
        try:
            await self._cli.get_account_settings(address)
        except CliRefused:
            return False
        return True


def _not_tried(waiting: Iterator[NewAccount], reason: str) -> Iterator[Result]:
    for account in waiting:
        yield Result(account, State.LATER, f"not tried: {reason}")
