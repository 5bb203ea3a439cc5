"""What NEW and VRFY come to: names, loops and limits first, then the old server's word, then what follows from it.

One service is built for one configuration. It shares equal requests, never raises for what a server does, and may be
asked everything twice.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final

from cli_client.commands import Cli
from extauth.accept_all import AcceptAll
from extauth.arrival import Arrival
from extauth.brake import Asker, Brake
from extauth.creation import Creation
from extauth.flight import Flight, Flights
from extauth.gates import Gates
from extauth.guard import OwnServers, UnderWay
from extauth.inquiry import Inquiry
from extauth.lanes import Lane
from extauth.login import Login
from extauth.names import Account, Carrier, Illegal, Named, read_name
from extauth.notices import Notices
from extauth.password_guard import PasswordGuard
from extauth.probe import Prober
from extauth.protocol import New, Ok, Refuse, Reply, Retry, Routed, Verify
from extauth.trust import Trust
from extauth.verify import Verifier
from migrator.account_name import qualify
from migrator.adopt import AccountLocks
from migrator.cli_pool import open_pool
from migrator.ledger.graces import Graces
from migrator.ledger.habits import Habits
from migrator.ledger.logins import Logins
from migrator.ledger.probes import Probes
from migrator.ledger.store import Store
from migrator.settings import DomainSettings, Settings

_LATE: Final = 15.0  # seconds a check may go on after its first deadline: a late YES spares the next try
_PATIENCE: Final = 5.0  # seconds that a server must have had until its silence counts against it
_NOBODY: Final = Lane(None, 1)
_LOGIN_MODES: Final = frozenset({"IMAP", "POP", "POP3", "HTTP", "HTTPU", "XMPP", "XIMSS", "ACAP", "LDAP", "FTP", "PWD"})


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a request is about, and the settings of its domain."""

    address: str
    named: Named
    domain: DomainSettings


class Service:
    """Answers NEW and VRFY for one configuration."""

    def __init__(self, settings: Settings, notices: Notices) -> None:
        communigate = settings.communigate
        self._settings = settings
        self._notices = notices
        self._log: Any = notices.log
        self._pool = open_pool(settings, communigate.connections)
        self._store = Store(settings.state.path)
        cli = Cli(self._pool)
        logins = Logins(self._store, keep_done=settings.state.keeps_passwords)
        own = OwnServers(communigate.cli, communigate.imap, communigate.smtp)
        self._under_way = UnderWay(own)
        self._gates = Gates(
            settings.domains,
            state=settings.state.directory,
            notices=notices,
            patience=min(_PATIENCE, settings.helper.deadline / 2),
            guarded=settings.helper.guards,
        )
        self._prober = Prober(own, self._under_way, self._gates)
        habits = Habits(self._store)
        self._inquiry = Inquiry(
            notices,
            prober=self._prober,
            probes=Probes(self._store, settings.helper.probe_answers),
            accept_all=AcceptAll(notices, habits),
            brake=Brake(notices),
            under_way=self._under_way,
        )
        self._locks = AccountLocks(settings.state.directory / "adoption.lock")
        self._arrival = Arrival(
            notices,
            communigate=communigate,
            locks=self._locks,
            cli=cli,
            creation=Creation(notices, cli=cli, logins=logins),
            inquiry=self._inquiry,
            under_way=self._under_way,
        )
        verifier = self._verifier = Verifier(own, self._under_way, self._gates, notices.alarm)
        self._login = Login(
            settings,
            notices,
            cli=cli,
            logins=logins,
            graces=Graces(self._store),
            verifier=verifier,
            locks=self._locks,
            trust=Trust(notices, verifier, habits),
            under_way=self._under_way,
        )
        self._arrivals: Flights[Reply] = Flights(self._unheard)
        self._checks: Flights[Reply] = Flights(self._unheard)
        self._key = os.urandom(32)  # equal passwords are known by their digest under a key that dies with the process
        self._guard = PasswordGuard(settings, notices, own, self._key)

    def lane(self, request: New | Verify) -> Lane:
        """The requests that ask the same listener share a lane; those that ask none share one too."""
        address = qualify(request.name, self._settings.communigate.main_domain)
        domain = self._settings.domain(address.rpartition("@")[2]) if address else None
        if domain is None:
            return _NOBODY
        asked = domain.verify_source if isinstance(request, Verify) else domain.smtp
        return Lane(asked, domain.max_connections)

    def work(self, request: New | Verify) -> Hashable:
        """Equal for requests that share one check (account, source and exact password) or one probe."""
        address = qualify(request.name, self._settings.communigate.main_domain)
        return (address, request.password.digest(self._key)) if isinstance(request, Verify) else address

    async def answer(self, request: New | Verify, deadline: float) -> Reply:
        """The reply, by `deadline` (in the loop's time)."""
        if isinstance(request, Verify):
            return await self._verify(request, deadline)
        return await self._new(request, deadline)

    async def retire(self, timeout: float) -> None:
        """Finish what is under way, at most `timeout` seconds, then close everything."""
        await asyncio.gather(self._arrivals.finish(timeout), self._checks.finish(timeout))
        await self._login.finish(timeout)
        await self._inquiry.finish()
        self._locks.close()
        self._verifier.close()
        await self._prober.close()
        await self._gates.close()
        await self._pool.close()
        await self._store.close()

    # -- VRFY ----------------------------------------------------------------------------------------------------------

    async def _verify(self, request: Verify, deadline: float) -> Reply:
        if not request.password:
            return Refuse("an empty password is never right")  # some old servers accept it
        subject = self._subject(request.name)
        if isinstance(subject, Retry):
            return subject
        address, domain = subject.address, subject.domain
        if self._settings.communigate.is_protected(address):
            self._notices.alarm(f"protected {address}", f"a login of {address} was refused: the name is protected")
            return Refuse("this name is protected and never checked at the old server")
        if not isinstance(subject.named, Account):
            return Refuse("no account can have this name")
        if await self._under_way.is_echo(address, request.client, domain.verify_endpoints):
            return self._echo(address, request.client)
        password, client = request.password, request.client
        digest = password.digest(self._key)
        if refusal := self._guard.refusal(address, client, digest):
            return refusal
        key = (address, domain.verify_source, digest)
        attempt = None
        if self._checks.get(key) is None:  # who asks what is being asked tries nothing new
            admitted = await self._guard.admit(address, client, deadline)
            if isinstance(admitted, Retry):
                return admitted
            attempt = admitted
            if self._checks.get(key) is not None:  # somebody else asks it since the pause began
                self._guard.close(attempt, Retry("not asked"), client, digest)
                attempt = None

        async def check(flight: Flight[Reply]) -> Reply:
            reply = await self._login.check(
                flight, address, domain, password, client, turn_by=deadline, deadline=deadline + _LATE
            )
            if attempt is not None:
                self._guard.close(attempt, reply, client, digest)
            return reply

        return await self._checks.join(key, check, deadline) or Retry("the old server did not answer in time")

    # -- NEW -----------------------------------------------------------------------------------------------------------

    async def _new(self, request: New, deadline: float) -> Reply:
        subject = self._subject(request.name)
        if isinstance(subject, Retry):
            return subject
        address, domain = subject.address, subject.domain
        if await self._under_way.is_echo(address, request.client, (domain.smtp, *domain.verify_endpoints)):
            return self._echo(address, request.client)
        asker = Asker(request.client, request.mode.upper() in _LOGIN_MODES)
        match subject.named:
            case Account():
                return await self._arrive(address, domain, asker, deadline)
            case Carrier(_, base):
                return await self._carry(subject, base, asker, deadline)
            case Illegal(_, reason, sendable):
                if not sendable:
                    return Refuse(reason)  # neither mail nor an account can ever be under this name
                return await self._arrival.ask_only(address, domain, reason, asker, deadline)

    async def _arrive(self, address: str, domain: DomainSettings, asker: Asker, deadline: float) -> Reply:
        if self._settings.communigate.is_protected(address):
            self._notices.alarm(f"protected {address}", f"NEW for {address}: the name is protected, no account is made")
            return Retry("this name is protected and never made an account")

        async def arrive(_flight: Flight[Reply]) -> Reply:
            return await self._arrival.arrive(address, domain, asker, deadline)

        # a login never waits for mail that a brake holds up
        reply = await self._arrivals.join((address, asker.login), arrive, deadline)
        return reply or Retry("the old server or CommuniGate did not answer in time")

    async def _carry(self, subject: Subject, base: str, asker: Asker, deadline: float) -> Reply:
        """A name that only carries something for `base`: mail goes there, if `base` exists here or there."""
        own = subject.domain
        domain_name = base.rpartition("@")[2]
        if domain_name != subject.address.rpartition("@")[2]:
            # an SRS address of a stranger's domain: not ours to route to, anybody can write one
            listed = self._settings.domains.get(domain_name)
            if listed is None:
                reason = "a forwarder's return address"
                return await self._arrival.ask_only(subject.address, own, reason, asker, deadline)
            own = listed
        if not self._is_served(base):
            return Retry("not among the addresses served now")
        if await self._arrival.exists(base, deadline):
            return Routed(base)
        reply = await self._arrive(base, own, asker, deadline)
        return Routed(base) if isinstance(reply, Ok) else reply

    # -- both ----------------------------------------------------------------------------------------------------------

    def _subject(self, name: str) -> Subject | Retry:
        address = qualify(name, self._settings.communigate.main_domain)
        if address is None:
            self._notices.alarm("main_domain", "a name came without a domain, but communigate.main_domain is not set")
            return Retry("a name without a domain, and no main domain is configured")
        if not self._is_served(address):
            return Retry("not among the addresses served now")
        domain_name = address.rpartition("@")[2]
        domain = self._settings.domain(domain_name)
        if domain is None:
            self._notices.alarm(f"domain {domain_name}", f"no table for domain {domain_name}, and no domains.default")
            return Retry("this domain is not configured")
        return Subject(address, read_name(address), domain)

    def _is_served(self, address: str) -> bool:
        pilot = self._settings.helper.pilot
        if pilot is None or address in pilot:
            return True
        named = read_name(address)
        return isinstance(named, Carrier) and named.base in pilot

    def _echo(self, address: str, client: str) -> Retry:
        self._notices.alarm(f"echo {client}", f"the old server {client} asks us about {address} while we ask it")
        return Retry("asked by the old server that is being asked")

    def _unheard(self, error: Exception) -> None:
        self._log.error("bug after the answer", exc_info=error)
        self._notices.alarm("bug", "an internal error; the log has the details")
