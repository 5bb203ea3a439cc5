"""Makes what the plan chose, over the CLI: repeatable, never over what is there, everything read back.

Each object is made, or found as wanted, or found different and left alone. A session that is lost leaves the object to
be read back; what cannot be found out now is LATER, and the next run goes on there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from cli_client.errors import AlreadyExists, CliLoginRefused, CliRefused
from cli_client.format import Value
from cli_client.mail_commands import MailCli
from migrator.mail_objects import Choice, Form
from migrator.mail_rule import rule_name, same_rule
from wire.outcome import Temporary, Trouble

T = TypeVar("T")


class State(Enum):
    """What became of a choice."""

    MADE = "made"
    THERE = "there already"
    DIFFERENT = "different"  # something else has the name; a person decides
    FAILED = "refused"
    LATER = "later"  # CommuniGate could not say now
    BY_HAND = "by hand"  # a Router line, without --router
    NOTHING = "nothing to do"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one choice; `text` says more where it is not as wanted."""

    choice: Choice
    state: State
    text: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values for json.dumps."""
        return {**self.choice.as_json(), "result": self.state.value, "text": self.text}


Told = Callable[[Result], None]


class Maker:
    """Makes objects, at most `places` commands at a time. `there` are names known to be taken: they are read first."""

    def __init__(self, cli: MailCli, *, places: int, router: bool, extend_lists: bool, there: Container[str]) -> None:
        self._cli = cli
        self._places = places
        self._router = router
        self._extend_lists = extend_lists
        self._there = there

    async def make(self, choices: Iterable[Choice], told: Told) -> None:
        """Carry all out. `told` hears of each in the order they end.

        CliLoginRefused when the login is refused: nothing more can be done.
        """
        jobs, lines = _jobs(choices)
        waiting = iter(jobs)

        async def worker() -> None:
            for job in waiting:
                for result in await self._one(job):
                    told(result)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._places):
                    group.create_task(worker())
        except* CliLoginRefused as refusals:
            raise CliLoginRefused(str(refusals.exceptions[0])) from None
        for result in await self._route(lines):
            told(result)

    async def _one(self, job: Sequence[Choice]) -> list[Result]:
        first = job[0]
        makers: dict[Form, Callable[[Choice], Awaitable[Result]]] = {
            Form.FORWARDER: self._forwarder,
            Form.GROUP: self._group,
            Form.LIST: self._list,
            Form.RULE: self._rules,
        }
        if first.form is Form.NOTHING:
            return [Result(choice, State.NOTHING) for choice in job]
        try:
            return await self._aliases(job) if first.form is Form.ALIAS else [await makers[first.form](first)]
        except CliLoginRefused:
            raise
        except Trouble as trouble:
            return _not_made(job, trouble)
        except ValueError as error:
            return [Result(choice, State.FAILED, str(error)) for choice in job]

    # -- one object of a name ------------------------------------------------------------------------------------------

    async def _object(
        self, choice: Choice, create: Callable[[], Awaitable[None]], read: Callable[[], Awaitable[T]]
    ) -> tuple[T | None, bool, Trouble | None]:
        """Create it and read it: what is there now, whether we made it, and why not.

        A refusal of any code and a lost session are settled by reading: a code alone proves nothing.
        """
        refusal: Trouble | None = None
        if choice.address in self._there:
            with suppress(CliRefused):  # it is there as something else: creating says as what
                return await read(), False, None
        try:
            await create()
        except CliLoginRefused:
            raise
        except (CliRefused, Temporary) as trouble:
            refusal = trouble
        try:
            return await read(), refusal is None, refusal
        except CliRefused:
            if isinstance(refusal, Temporary):
                raise refusal from None  # it is not there: the next run makes it
            return None, False, refusal

    def _missing(self, choice: Choice, refusal: Trouble | None) -> Result:
        if isinstance(refusal, AlreadyExists):
            return Result(choice, State.DIFFERENT, f"the name belongs to another object ({refusal.text})")
        return Result(choice, State.FAILED, refusal.text if refusal else "it was made, and could not be read back")

    def _compared(self, choice: Choice, same: bool, made: bool, there: str) -> Result:
        if same:
            return Result(choice, State.MADE if made else State.THERE)
        if made:
            return Result(choice, State.FAILED, f"CommuniGate stored something else: {there}")
        return Result(choice, State.DIFFERENT, f"it is there with: {there}")

    async def _forwarder(self, choice: Choice) -> Result:
        (target,) = choice.values
        found, made, refusal = await self._object(
            choice,
            lambda: self._cli.create_forwarder(choice.address, target),
            lambda: self._cli.get_forwarder(choice.address),
        )
        if found is None:
            return self._missing(choice, refusal)
        domain = choice.item.domain
        return self._compared(choice, _full(found, domain) == _full(target, domain), made, found)

    async def _group(self, choice: Choice) -> Result:
        members: list[Value] = [*choice.values]
        found, made, refusal = await self._object(
            choice,
            lambda: self._cli.create_group(choice.address, {"Members": members}),
            lambda: self._cli.get_group(choice.address),
        )
        if found is None:
            return self._missing(choice, refusal)
        there = found.get("Members", [])
        names = [str(name) for name in there] if isinstance(there, list) else [str(there)]
        same = _all_full(names, choice.item.domain) == _all_full(choice.values, choice.item.domain)
        return self._compared(choice, same, made, f"{len(names)} members" if len(names) > 5 else ", ".join(names))

    async def _list(self, choice: Choice) -> Result:
        """A list of ours that a crash left half full is filled; one with other subscribers is left alone."""
        domain = choice.item.domain
        found, made, refusal = await self._object(
            choice,
            lambda: self._cli.create_list(choice.address, choice.owner),
            lambda: self._cli.get_list(choice.address),
        )
        if found is None:
            return self._missing(choice, refusal)
        owner = str(found.get("Owner", choice.owner))
        if _full(owner, domain) != _full(choice.owner, domain):
            return Result(choice, State.DIFFERENT, f"it is there with the owner {owner}")
        wanted = {_full(address, domain): address for address in choice.values}
        there = _all_full(await self._cli.list_subscribers(choice.address), domain)
        if not made and there - wanted.keys() and not self._extend_lists:
            return Result(choice, State.DIFFERENT, f"it is there with {len(there - wanted.keys())} other subscribers")
        refused = []
        for key in [key for key in wanted if key not in there]:
            try:
                await self._cli.subscribe(choice.address, key)
            except CliRefused as trouble:
                refused.append(f"{wanted[key]}: {trouble.text}")
        left = wanted.keys() - _all_full(await self._cli.list_subscribers(choice.address), domain)
        if left:
            return Result(choice, State.FAILED, f"{len(left)} are not on it: " + "; ".join(refused[:5]))
        return Result(choice, State.MADE if made or wanted.keys() - there else State.THERE)

    # -- accounts ------------------------------------------------------------------------------------------------------

    async def _aliases(self, job: Sequence[Choice]) -> list[Result]:
        """All new names of one account in one command; one by one when that is refused."""
        account = job[0].values[0]
        wanted = {choice.item.name: choice for choice in job}
        before = await self._cli.get_account_aliases(account)
        have = {name.lower() for name in before}
        new = [name for name in wanted if name not in have]
        why: dict[str, Trouble] = {}
        if new:
            try:
                await self._cli.set_account_aliases(account, [*before, *new])
            except CliRefused as trouble:
                why = dict.fromkeys(new, trouble) if len(new) == 1 else await self._one_by_one(account, new)
        now = {name.lower() for name in await self._cli.get_account_aliases(account)}
        results = []
        for name, choice in wanted.items():
            if name in now:
                results.append(Result(choice, State.THERE if name in have else State.MADE))
            else:
                results.append(self._missing(choice, why.get(name)))
        return results

    async def _one_by_one(self, account: str, names: Sequence[str]) -> dict[str, Trouble]:
        why: dict[str, Trouble] = {}
        for name in names:
            try:
                await self._cli.set_account_aliases(account, [*await self._cli.get_account_aliases(account), name])
            except CliRefused as trouble:
                why[name] = trouble
        return why

    async def _rules(self, choice: Choice) -> Result:
        """All rules of a choice or none: one that is there under the name with other words leaves all undone."""
        there = {rule_name(rule): rule for rule in await self._cli.get_account_mail_rules(choice.address)}
        wanted = {rule.name: rule.as_value() for rule in choice.rules}
        other = [name for name in wanted if name in there and not same_rule(there[name], wanted[name])]
        if other:
            return Result(choice, State.DIFFERENT, f"the account has a rule {other[0]} of its own")
        new = [rule for name, rule in wanted.items() if name not in there]
        if new:
            await self._mailboxes(choice)
        for rule in new:
            await self._cli.add_account_mail_rule(choice.address, rule)
        now = await self._cli.get_account_mail_rules(choice.address)
        missing = [name for name, rule in wanted.items() if not any(same_rule(rule, found) for found in now)]
        if missing:
            return Result(choice, State.FAILED, f"CommuniGate stored something else as the rule {missing[0]}")
        return Result(choice, State.MADE if new else State.THERE)

    async def _mailboxes(self, choice: Choice) -> None:
        """Make the mailboxes that rules store into: a rule whose mailbox is not there leaves mail in INBOX."""
        if not choice.mailboxes:
            return
        there = {name.lower() for name in await self._cli.list_mailboxes(choice.address)}
        for name in choice.mailboxes:
            if name.lower() not in there and name.lower() != "inbox":
                await self._cli.create_mailbox(choice.address, name)

    # -- the Router ----------------------------------------------------------------------------------------------------

    async def _route(self, choices: Sequence[Choice]) -> list[Result]:
        """New lines behind those that are there, in one command; a left side that is there already is left alone."""
        if not choices:
            return []
        if not self._router:
            return [Result(choice, State.BY_HAND, "enter it, or say --router") for choice in choices]
        try:
            table = await self._cli.get_router_table()
            there = {_left(line): line for line in reversed(table) if _left(line)}
            new = [choice for choice in choices if _left(choice.values[0]) not in there]
            if new:
                await self._cli.set_router_table([*table, *(choice.values[0] for choice in new)])
            now = {_squeezed(line) for line in await self._cli.get_router_table()}
        except CliLoginRefused:
            raise
        except Trouble as trouble:
            return _not_made(choices, trouble)
        made = {choice.values[0] for choice in new}
        results = []
        for choice in choices:
            line = choice.values[0]
            if _squeezed(line) in now:
                results.append(Result(choice, State.MADE if line in made else State.THERE))
            elif line in made:
                results.append(Result(choice, State.FAILED, "the table does not have it after it was set"))
            else:
                results.append(Result(choice, State.DIFFERENT, f"the table has: {there[_left(line)]}"))
        return results


def _jobs(choices: Iterable[Choice]) -> tuple[list[list[Choice]], list[Choice]]:
    """Choices that go together: the aliases of one account; and the Router lines apart."""
    jobs: list[list[Choice]] = []
    accounts: dict[str, list[Choice]] = {}
    lines: list[Choice] = []
    for choice in choices:
        if choice.form is Form.ROUTER:
            lines.append(choice)
        elif choice.form is Form.ALIAS:
            account = choice.values[0]
            if account not in accounts:
                accounts[account] = []
                jobs.append(accounts[account])
            accounts[account].append(choice)
        else:
            jobs.append([choice])
    lines.sort(key=lambda choice: not choice.item.name)  # a whole domain behind its names: the first that fits counts
    return jobs, lines


def _full(address: str, domain: str) -> str:
    return (address if "@" in address else f"{address}@{domain}").lower()


def _all_full(addresses: Iterable[str], domain: str) -> set[str]:
    return {_full(address, domain) for address in addresses}


def _left(line: str) -> str:
    left, equals, _ = line.partition(";")[0].partition("=")
    return _squeezed(left) if equals else ""


def _squeezed(line: str) -> str:
    return "".join(line.partition(";")[0].split()).lower()


def _not_made(choices: Sequence[Choice], trouble: Trouble) -> list[Result]:
    state = State.LATER if isinstance(trouble, Temporary) else State.FAILED
    return [Result(choice, state, str(trouble)) for choice in choices]
