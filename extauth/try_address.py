"""`extauth try ADDRESS`: what NEW and VRFY would do, step by step. Asks the servers and changes nothing anywhere."""

from __future__ import annotations

import asyncio
import getpass
import sys
from collections.abc import Callable
from typing import Final

from cli_client.commands import Cli
from cli_client.errors import NoSuchAccount, UnknownCommand
from extauth.gates import Gates
from extauth.guard import OwnServers, UnderWay
from extauth.names import Carrier, Illegal, read_name
from extauth.probe import Prober
from extauth.strangers import make_password, make_stranger, make_strangers
from extauth.verify import Verifier
from migrator.account_name import qualify
from migrator.alias_names import Lead, Leads
from migrator.cli_pool import code_of, open_pool_beside
from migrator.exit_codes import CONFIGURATION, LOGIN_REFUSED, UNAVAILABLE
from migrator.settings import DomainSettings, Settings
from wire.outcome import Answer, Scope, Trouble, Verdict
from wire.secret import Secret

Say = Callable[[str], None]

_TURN: Final = 15.0  # seconds for each server


def read_password() -> Secret:
    """The password: asked for on a terminal, else the first line of stdin. Empty means: do not try one."""
    if sys.stdin.isatty():
        try:
            typed = getpass.getpass("Password at the old server (empty: only NEW is tried): ")
        except EOFError:  # Ctrl-D
            typed = ""
        return Secret(typed.encode("utf-8", "surrogateescape"))
    line = sys.stdin.buffer.readline()
    return Secret(line.removesuffix(b"\n").removesuffix(b"\r"))


def try_address(settings: Settings, address: str, password: Secret, say: Say) -> int:
    """Say what would happen; 0 when the address, and the password if one was given, would be let in."""
    return asyncio.run(_Trial(settings, say).run(address, password))


class _Trial:
    """One run: the same servers, the same questions as the helper's, and no command that changes anything."""

    def __init__(self, settings: Settings, say: Say) -> None:
        self._settings = settings
        self._say = say
        communigate = settings.communigate
        own = OwnServers(communigate.cli, communigate.imap, communigate.smtp)
        under_way = UnderWay(own)
        gates = Gates(settings.domains)
        self._prober = Prober(own, under_way, gates)
        self._verifier = Verifier(own, under_way, gates)
        self._pool = open_pool_beside(settings)
        self._cli = Cli(self._pool)

    async def run(self, name: str, password: Secret) -> int:
        try:
            return await self._steps(name, password)
        finally:
            self._verifier.close()
            await self._prober.close()
            await self._pool.close()

    async def _steps(self, name: str, password: Secret) -> int:
        settings, say = self._settings, self._say
        address = qualify(name.lower(), settings.communigate.main_domain)
        if address is None:
            say("name:     no domain, and communigate.main_domain is not set: FAILURE")
            return CONFIGURATION
        named = read_name(address)
        if isinstance(named, Carrier):
            say(f"name:     {address} can be no account; mail for it is for {named.base} (ROUTED)")
            address = named.base
        elif isinstance(named, Illegal):
            say(f"name:     {address} can be no account: {named.reason}")
            return LOGIN_REFUSED
        else:
            say(f"name:     {address}")
        domain = settings.domain(address.rpartition("@")[2])
        if domain is None:
            say("domain:   no table for this domain, and no domains.default: FAILURE")
            return CONFIGURATION
        say(f"domain:   table {domain.name}; at the old server the address is {domain.old_address(address)}")
        if not self._is_served(address):
            return LOGIN_REFUSED
        worst = await self._new(address, domain)
        return max(worst, await self._verify(address, domain, password))

    def _is_served(self, address: str) -> bool:
        pilot = self._settings.helper.pilot
        if pilot is not None and address not in pilot:
            self._say("pilot:    not among the addresses served now: FAILURE")
            return False
        if self._settings.communigate.is_protected(address):
            self._say("protected: this name is never created, verified, adopted or copied")
            return False
        return True

    async def _new(self, address: str, domain: DomainSettings) -> int:
        say = self._say
        try:
            await self._pool.reach()
            exists = await self._look(address)
        except Trouble as trouble:
            say(f"CommuniGate: {trouble}")
            return code_of(trouble)
        if exists:
            say("NEW:      the account exists: OK")
            return 0
        if domain.aliases is not None:
            names = await domain.aliases.look()
            lead = names.lead(address)
            if names.problem:
                say(f"aliases:  {domain.aliases.path}: {names.problem}")
            if lead is not None or names.unread:
                say(f"NEW:      {_lead(lead)}")
                return CONFIGURATION if lead is None else 0
        if domain.new == "refuse":
            say('NEW:      new = "refuse": ERROR')
            return LOGIN_REFUSED
        if domain.new == "roster":
            try:
                listed = domain.roster is not None and await domain.roster.holds(address)
            except Trouble as trouble:
                say(f"NEW:      {trouble}: FAILURE")
                return CONFIGURATION
            say(
                "NEW:      "
                + ("in the roster: the account would be made: OK" if listed else "not in the roster: ERROR")
            )
            return 0 if listed else LOGIN_REFUSED
        deadline = asyncio.get_running_loop().time() + _TURN
        finding = await self._prober.check_recipient(
            domain, domain.old_address(address), deadline=deadline, strangers=lambda _taken: make_strangers()
        )
        answer = finding.answer
        if finding.accepts_all:
            say(f'NEW:      {domain.smtp} accepts every address; accept_all = "{domain.accept_all}" decides')
        say(f"NEW:      {domain.smtp} says {_word(answer, yes='the account would be made: OK')}")
        return _code(answer)

    async def _lets_strangers_in(self, domain: DomainSettings, address: str) -> bool:
        """Whether a login that nobody has is accepted where `address` was."""
        if domain.verify == "hashes":
            return False
        deadline = asyncio.get_running_loop().time() + _TURN
        stranger = f"{make_stranger()}@{address.rpartition('@')[2]}"
        answer = await self._verifier.check_password(
            domain, stranger, make_password(), turn_by=deadline, deadline=deadline
        )
        return answer.verdict is Verdict.YES

    async def _look(self, address: str) -> bool:
        """Whether the account exists at CommuniGate; says in what state it is."""
        deadline = asyncio.get_running_loop().time() + _TURN
        try:
            found = await self._cli.get_account_effective_settings(address, deadline=deadline)
        except NoSuchAccount:
            self._say("CommuniGate: no such account yet")
            return False
        state = ", ".join(f"{key}={found.get(key, '?')}" for key in ("UseAppPassword", "UseExtPassword"))
        self._say(f"CommuniGate: the account exists, {state}")
        if found.get("UseExtPassword") != "YES":
            self._say("CommuniGate: it is not on external authentication, so the helper will not be asked")
        try:
            rights = await self._cli.get_account_rights(address, deadline=deadline)
        except UnknownCommand:
            rights = []
        if rights:
            self._say("CommuniGate: it has access rights, so it is never verified or adopted: ERROR")
        return True

    async def _verify(self, address: str, domain: DomainSettings, password: Secret) -> int:
        say = self._say
        source = domain.verify_source
        login = domain.source_login(address).decode("utf-8", "backslashreplace")
        if not password:
            say(f"VRFY:     {source} would be asked as {login}; no password given, not tried")
            return 0
        deadline = asyncio.get_running_loop().time() + _TURN
        answer = await self._verifier.check_password(domain, address, password, turn_by=deadline, deadline=deadline)
        if answer.verdict is Verdict.YES and await self._lets_strangers_in(domain, address):
            say(f"VRFY:     {source} lets a login in that nobody has, so its yes counts for nothing: FAILURE")
            return CONFIGURATION
        say(f"VRFY:     {source} as {login} says {_word(answer, yes='the user would be let in: OK')}")
        if answer.verdict is Verdict.YES:
            say(f'then:     CommuniGate would take the password over; after_login = "{domain.after_login}"')
        return _code(answer)


def _lead(lead: Lead | None) -> str:
    """What NEW does with a name of the aliases file; None stands for a file that cannot be read."""
    if lead is None:
        return "it may be one of these aliases: FAILURE"
    words = {
        Leads.ACCOUNT: "an alias: it would be set for {}: OK",
        Leads.AWAY: "an alias: a forwarder to {} would be made: OK",
        Leads.SEVERAL: "an alias: a group of {} would be made: OK",
        Leads.ELSEWHERE: "an alias that only the old server can follow: mail goes on to it (ROUTED)",
    }
    return words[lead.kind].format(", ".join(lead.targets[:3]) + (", ..." if len(lead.targets) > 3 else ""))


def _word(answer: Answer, *, yes: str) -> str:
    verdict = {Verdict.YES: yes, Verdict.NO: "no: ERROR", Verdict.LATER: "nothing clear: FAILURE"}[answer.verdict]
    return f"{answer.reason!r}: {verdict}"


def _code(answer: Answer) -> int:
    if answer.verdict is Verdict.LATER:
        return CONFIGURATION if answer.scope is Scope.SETUP else UNAVAILABLE
    return 0 if answer.verdict is Verdict.YES else LOGIN_REFUSED
