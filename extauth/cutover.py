"""`extauth cutover`: the migration guide's chapter "Switching Servers", step by step, with what is found at each.

A step is looked at as often as one likes: looking changes nothing. `--apply` does what the program can do (test
accounts, the last pass, noting that a step is done) and `--undo` takes that back. What only a person can do, such as
the ports of CommuniGate's listeners, is said in words. What is done is kept in the state directory, so that it goes on
another day.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cli_client.commands import Cli, Made
from cli_client.errors import NoSuchAccount, NoSuchDomain
from cli_client.format import Value
from extauth.cutover_checks import Finding, answers, is_communigate, logs_in, mail_arrives
from extauth.strangers import make_password
from migrator.cli_pool import open_pool_beside
from migrator.delta_command import lines_of, opens_mailboxes
from migrator.ledger.deltas import queue_deltas
from migrator.ledger.store import Store
from migrator.settings import DomainSettings, Settings
from migrator.status import read_status
from migrator.whole_file import write_whole
from wire.endpoint import Endpoint
from wire.secret import Secret

TEST_NAME: Final = "extauth-cutover-test"  # of an account in each domain, for the time of the cutover
PROTOCOLS: Final = ("smtp", "pop3", "imap")
ASIDE: Final = (26, 111, 144)  # the guide's ports for the time of the migration
STANDARD: Final = (25, 110, 143)


@dataclass(frozen=True, slots=True)
class Ports:
    """SMTP, POP and IMAP of CommuniGate, for the time of the migration and afterwards."""

    host: str
    aside: tuple[int, ...] = ASIDE
    standard: tuple[int, ...] = STANDARD

    def at(self, ports: tuple[int, ...]) -> list[Endpoint]:
        """The three listeners."""
        return [Endpoint(protocol, self.host, port) for protocol, port in zip(PROTOCOLS, ports, strict=True)]


@dataclass(slots=True)
class Memory:
    """What was done so far, in a file of the state directory."""

    path: Path
    done: dict[str, float] = field(default_factory=dict)  # step: seconds since the epoch
    accounts: list[str] = field(default_factory=list)  # test accounts that we have made

    @classmethod
    def read(cls, path: Path) -> Memory:
        """An empty one where there is none yet. ValueError for a file that is not ours."""
        try:
            told = json.loads(path.read_bytes())
            return cls(path, {str(name): float(when) for name, when in told["done"].items()}, list(told["accounts"]))
        except FileNotFoundError:
            return cls(path)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: not a record of a cutover: {error!r}") from None

    def write(self) -> None:
        """OSError when that cannot be."""
        write_whole(self.path, json.dumps({"done": self.done, "accounts": self.accounts}).encode())


Look = Callable[[], Awaitable[list[Finding]]]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the guide. `apply` and `revert` do what a program can; None where there is nothing of the kind."""

    name: str
    title: str
    does: str
    undo: str
    look: Look
    apply: Look | None = None
    revert: Look | None = None


class Cutover:
    """All steps, over one configuration. `async with`; nothing is asked before a step is looked at."""

    def __init__(self, settings: Settings, ports: Ports, *, now: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.memory = Memory.read(settings.state.directory / "cutover.json")
        self._ports = ports
        self._now = now
        self._pool = open_pool_beside(settings)
        self._cli = Cli(self._pool)
        self.steps = self._steps()

    async def __aenter__(self) -> Cutover:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close()

    @property
    def next(self) -> str:
        """The first step that is not done; "" after the last."""
        return next((step.name for step in self.steps if step.name not in self.memory.done), "")

    async def apply(self, step: Step) -> list[Finding]:
        """Do the step, and note it as done if nothing was found that is wrong. Trouble when a server is not there."""
        found = await (step.apply or step.look)()
        if all(finding.good is not False for finding in found):
            self.memory.done[step.name] = self._now()
        self.memory.write()
        return found

    async def undo(self, step: Step) -> list[Finding]:
        """Take back what `apply` has done; the step is to be done again."""
        found = await step.revert() if step.revert is not None else []
        self.memory.done.pop(step.name, None)
        self.memory.write()
        return found

    # The steps ----------------------------------------------------------------------------------------------------

    def _steps(self) -> tuple[Step, ...]:
        aside = "/".join(map(str, self._ports.aside))
        standard = "/".join(map(str, self._ports.standard))
        return (
            Step(
                "aside",
                f"CommuniGate stands aside: SMTP, POP and IMAP on {aside}",
                f"WebAdmin: Settings, Mail, SMTP, Receiving, Listener: port {self._ports.aside[0]};"
                f" Settings, Access, POP and IMAP, Listener: ports {self._ports.aside[1]} and {self._ports.aside[2]}."
                " Then communigate.smtp and communigate.imap in the configuration."
                " Only where the old server is on the same machine; else leave the standard ports, and say --apply",
                f"The same pages, ports {standard}, and the configuration",
                self._look_aside,
                apply=self._judged,
            ),
            Step(
                "domains",
                "every domain of the configuration is one of CommuniGate's",
                "WebAdmin: Users, Domains, Create Domain (or an alias of one: Domain Settings, Domain Aliases);"
                " or cgcli 'CreateDomain NAME'",
                "Nothing: a domain without accounts disturbs nobody",
                self._look_domains,
            ),
            Step(
                "try",
                "test accounts log in, send and receive",
                f"--apply makes {TEST_NAME} in each domain, logs in by IMAP and POP, and sends mail between them."
                " By hand, with an account of yours: log in to the WebUser Interface, and send mail to another server",
                "--undo removes the test accounts",
                self._look_accounts,
                apply=self._try,
                revert=self._remove_accounts,
            ),
            Step(
                "accounts",
                "accounts are made: by an import, or by mail and logins that come",
                "`migrator accounts` makes the file for WebAdmin's Account Import; the helper makes the others."
                " For a secondary domain a MoveAccounts list needs the column NewName (name@domain): --new-name",
                "Nothing is to be undone",
                self._look_left,
                apply=self._judged,
            ),
            Step(
                "old",
                "the old server takes no mail and no users any more",
                "Give it other ports, or disconnect it from outside; MX and host names point to CommuniGate."
                " It must go on answering the worker until the last pass is done: change its ports here, too",
                "Its old ports again",
                self._look_old,
                apply=self._judged,
            ),
            Step(
                "delta",
                "the last pass: mail that came since, and flags that changed",
                "--apply queues it for everybody, as `migrator delta --all` does; a worker runs it."
                " What MoveAccounts has copied it copies again: the same command, and only what is new goes over",
                "Nothing is to be undone: a pass adds what is missing",
                self._look_copies,
                apply=self._queue,
            ),
            Step(
                "back",
                f"CommuniGate is the mail server: SMTP, POP and IMAP on {standard}",
                "WebAdmin, the pages of step `aside`; then communigate.imap and communigate.smtp in the configuration",
                f"The same pages, ports {aside}, and the old server's own ports again",
                self._look_back,
            ),
            Step(
                "after",
                "test accounts log in, send and receive on the standard ports",
                "--apply does what step `try` did, there; then `extauth cutover try --undo`",
                "Step `back` says how",
                self._look_accounts,
                apply=self._try_standard,
                revert=self._remove_accounts,
            ),
            Step(
                "retire",
                "nobody needs the old server any more",
                "Keep it running for some hours, for mail that it still has in its queue, but on none of the ports"
                f" {standard}; then switch the helper off, as deploy/communigate.md has it, and the old server",
                "Start both again: nothing there was removed",
                self._look_retired,
                apply=self._retire,
            ),
        )

    async def _judged(self) -> list[Finding]:
        """A person has looked and says that it is done."""
        return [Finding(True, "noted as done, on your word")]

    async def _look_retired(self) -> list[Finding]:
        return [*await self._look_left(), *await self._look_back()]

    async def _retire(self) -> list[Finding]:
        """Who is left is for a person to judge; an old server that is back on our ports is not."""
        return [*await self._look_back(), *await self._judged()]

    async def _look_aside(self) -> list[Finding]:
        return await self._greeted(self._ports.aside)

    async def _look_back(self) -> list[Finding]:
        return await self._greeted(self._ports.standard)

    async def _greeted(self, ports: tuple[int, ...]) -> list[Finding]:
        tls = self.settings.communigate.tls
        return [await is_communigate(endpoint, tls) for endpoint in self._ports.at(ports)]

    async def _look_domains(self) -> list[Finding]:
        there = {name.lower() for name in await self._cli.list_domains()}
        found = []
        for domain in self._domain_names():
            good = domain in there or await self._resolves(domain)
            found.append(Finding(good, f"{domain}: " + ("there" if good else "CommuniGate does not know it")))
        return found or [Finding(None, "no domain is named in the configuration, only domains.default")]

    async def _resolves(self, domain: str) -> bool:
        """Whether CommuniGate knows a domain that it does not list: an alias of another."""
        try:
            await self._cli.get_domain_effective_settings(domain)
        except NoSuchDomain:
            return False
        return True

    async def _look_accounts(self) -> list[Finding]:
        found = []
        for address in self._test_accounts():
            problem = await self._unfit(address)
            state = "is there" if address in self.memory.accounts else "is still to be made"
            found.append(problem or Finding(None, f"{address}: {state}"))
        return found

    async def _unfit(self, address: str) -> Finding | None:
        """Why there can be no test account of this name; None where there can, or is."""
        try:
            there = await self._exists(address)
        except NoSuchDomain:
            return Finding(False, f"{address}: CommuniGate does not know the domain: see step `domains`")
        if there and address not in self.memory.accounts:
            return Finding(False, f"{address}: is there, and was not made by this program: rename it")
        return None

    async def _try(self) -> list[Finding]:
        new = self.settings.communigate
        return await self._try_at(new.smtp, Endpoint("pop3", new.imap.host, self._ports.aside[1]), new.imap)

    async def _try_standard(self) -> list[Finding]:
        return await self._try_at(*self._ports.at(self._ports.standard))

    async def _try_at(self, smtp: Endpoint, pop: Endpoint, imap: Endpoint) -> list[Finding]:
        password = make_password()
        accounts = self._test_accounts()
        problems = [problem for address in accounts if (problem := await self._unfit(address))]
        if problems:
            return problems
        for address in accounts:
            await self._make(address, password)
        tls = self.settings.communigate.tls
        found = []
        for address in accounts:
            found += [await logs_in(imap, tls, address, password), await logs_in(pop, tls, address, password)]
        for sender in accounts:
            for recipient in accounts:
                if sender != recipient or len(accounts) == 1:
                    found.append(await mail_arrives(smtp, imap, tls, (sender, recipient), password))
        return found

    async def _make(self, address: str, password: Secret) -> None:
        """The account, with this password."""
        settings: dict[str, Value | Secret] = {"Password": password, "UseAppPassword": "YES", "UseExtPassword": "NO"}
        if address not in self.memory.accounts:
            self.memory.accounts.append(address)  # first: what is made by a program that dies then is still ours
            self.memory.write()
        if await self._cli.ensure_account(address, settings) is Made.EXISTED:
            await self._cli.update_account_settings(address, settings)

    async def _remove_accounts(self) -> list[Finding]:
        found = []
        for address in list(self.memory.accounts):
            if await self._exists(address):
                await self._cli.delete_account(address)
            self.memory.accounts.remove(address)
            self.memory.write()
            found.append(Finding(True, f"{address}: removed"))
        return found

    async def _exists(self, address: str) -> bool:
        try:
            await self._cli.get_account_settings(address)
        except NoSuchAccount:
            return False
        return True

    async def _look_left(self) -> list[Finding]:
        async with self._ledger() as store:
            status = await read_status(store, self.settings.domains)
        return [
            Finding(not domain.left, f"{domain.domain}: {'; '.join(domain.left) or 'nobody and nothing is left'}")
            for domain in status.domains
        ] or [Finding(None, "no domain is named in the configuration, and nobody has come yet")]

    async def _look_old(self) -> list[Finding]:
        asked: dict[str, tuple[Endpoint, DomainSettings]] = {}
        for domain in self.settings.domains.values():
            for endpoint in (domain.smtp, domain.imap, domain.pop):
                if endpoint is not None:
                    asked[str(endpoint)] = endpoint, domain
        return [await answers(endpoint, domain.tls) for endpoint, domain in asked.values()]

    async def _look_copies(self) -> list[Finding]:
        async with self._ledger() as store:
            status = await read_status(store, self.settings.domains)
        jobs = status.jobs
        under_way = jobs["pending"] + jobs["running"] + jobs["postponed"]
        stuck = jobs["held"] + jobs["waiting"]
        return [
            Finding(not under_way, f"{under_way} copies are still to come or under way, {jobs['done']} are done"),
            Finding(not stuck, f"{stuck} copies wait for a person or a login: `migrator jobs` names them"),
        ]

    async def _queue(self) -> list[Finding]:
        async with self._ledger() as store:
            deltas = await queue_deltas(store, None, opens=opens_mailboxes(self.settings))
        found = [Finding(True, f"{len(deltas.queued)} final passes queued, {len(deltas.under_way)} under way already")]
        return found + [Finding(False, line) for line in lines_of(deltas)]

    @asynccontextmanager
    async def _ledger(self) -> AsyncIterator[Store]:
        store = Store(self.settings.state.path)
        try:
            yield store
        finally:
            await store.close()

    def _domain_names(self) -> list[str]:
        return sorted(name for name in self.settings.domains if name != "default")

    def _test_accounts(self) -> list[str]:
        """In the main and the secondary domains."""
        main = self.settings.communigate.main_domain
        return [f"{TEST_NAME}@{domain}" for domain in sorted({*self._domain_names(), *([main] if main else [])})]


def as_json(step: Step, done: float | None, findings: list[Finding]) -> dict[str, Any]:
    """For programs."""
    return {
        "name": step.name,
        "title": step.title,
        "done": done,
        "does": step.does,
        "undo": step.undo,
        "findings": [{"good": finding.good, "text": finding.text} for finding in findings],
    }
