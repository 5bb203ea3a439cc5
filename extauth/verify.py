"""Is this the user's password? One attempt at the old server, by IMAP or POP, or a look into a file of hashes.

YES only from one complete, explicit positive reply; NO only from the server's own refusal of this user; everything else
is LATER. Connections are opened for each check, as a login cannot be taken back, and closed after it; their number for
each old server is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from extauth.gate import Visit
from extauth.gates import Gates
from extauth.guard import OwnServers, UnderWay
from extauth.strangers import make_password, make_stranger
from migrator.settings import DomainSettings
from wire.endpoint import Endpoint
from wire.imap.client import ImapClient
from wire.outcome import Answer, Permanent, Scope, Temporary, Verdict
from wire.pop3 import Pop3Client
from wire.secret import Secret

if TYPE_CHECKING:
    from extauth.hash_verify import HashVerifier

Report = Callable[[str, str], None]


_CONNECT: Final = 10.0  # seconds until a server must have greeted: the rest of a deadline is for the login
_TRIAL: Final = 30.0  # seconds for a login of nobody: servers make wrong passwords wait, by 15 s at most
_REACHED: Final = Answer(Verdict.NO, "the server greets")  # to a question that wants to know no more


class _Attempt(NamedTuple):
    """One login to be tried; `forwarded` is the client's address where the old server is told it."""

    endpoint: Endpoint
    domain: DomainSettings
    login: bytes
    password: Secret
    forwarded: str
    deadline: float


class Verifier:
    """Checks passwords at the old servers of one configuration."""

    def __init__(
        self, own: OwnServers, under_way: UnderWay, gates: Gates, report: Report = lambda _key, _text: None
    ) -> None:
        """`report` gets a key and a line for what an administrator should mend in a file of hashes."""
        self._own = own
        self._report = report
        self._hashes: HashVerifier | None = None
        self._under_way = under_way
        self._gates = gates
        self._tags = random.Random(os.urandom(16))  # noqa: S311 - no key: a tag must only differ from connection to connection

    async def check_password(
        self,
        domain: DomainSettings,
        address: str,
        password: Secret,
        *,
        client: str = "",
        turn_by: float,
        deadline: float,
    ) -> Answer:
        """The old server's word on `password`. Waits for a connection's turn until `turn_by`, for the rest until
        `deadline`. Tells the server the `client`'s address where `forward_ip` is set. Never raises for what a server
        does."""
        if domain.verify == "hashes":
            return await self._by_hashes().check_password(domain, address, password, turn_by=turn_by, deadline=deadline)
        endpoint = domain.verify_endpoint
        attempt = _Attempt(endpoint, domain, domain.source_login(address), password, _told(domain, client), deadline)
        log_in = self._by_imap if endpoint.protocol == "imap" else self._by_pop

        async def stranger(visit: Visit) -> Answer:
            name = domain.source_login(f"{make_stranger()}@{address.rpartition('@')[2]}")
            by = asyncio.get_running_loop().time() + _TRIAL
            return await log_in(_Attempt(endpoint, domain, name, make_password(), "", by), visit)

        try:
            return await self._gates.of(endpoint).ask(
                address, lambda visit: log_in(attempt, visit), stranger, turn_by=turn_by, deadline=deadline
            )
        except Temporary as trouble:
            return Answer(Verdict.LATER, str(trouble), trouble.scope)
        except Permanent as trouble:
            return Answer(Verdict.LATER, str(trouble), Scope.SETUP if trouble.scope is Scope.SETUP else Scope.SERVER)

    def close(self) -> None:
        """Let go of the threads that compute hashes."""
        if self._hashes is not None:
            self._hashes.close()

    def _by_hashes(self) -> HashVerifier:
        if self._hashes is None:
            from extauth.hash_verify import HashVerifier  # noqa: PLC0415 - most helpers never see a hash

            self._hashes = HashVerifier(self._report)
        return self._hashes

    def _tag_prefix(self) -> bytes:
        """Not to be guessed, so that no reply sent before the command can carry its tag."""
        return b"x%06x" % self._tags.getrandbits(24)

    async def _refuse_own(self, endpoint: Endpoint, peer: tuple[str, int] | None) -> Answer | None:
        self._under_way.note_peer(endpoint, peer)
        if not await self._own.owns(peer):
            return None
        return Answer(Verdict.LATER, f"{endpoint} is CommuniGate itself, not the old server", Scope.SETUP)

    async def _by_imap(self, attempt: _Attempt, visit: Visit) -> Answer:
        endpoint, domain = attempt.endpoint, attempt.domain
        client = await ImapClient.connect(
            endpoint, domain.tls, deadline=_greeted_by(attempt), tag_prefix=self._tag_prefix()
        )
        try:
            visit.reached = True
            if visit.only_reach:
                return _REACHED
            client.deadline = attempt.deadline
            if loop := await self._refuse_own(endpoint, client.stream.peer):
                return loop
            if attempt.forwarded:
                await client.identify({"x-originating-ip": attempt.forwarded})
            return await client.login(attempt.login, attempt.password, refresh_capabilities=False)
        finally:
            client.close()

    async def _by_pop(self, attempt: _Attempt, visit: Visit) -> Answer:
        endpoint, domain = attempt.endpoint, attempt.domain
        client = await Pop3Client.connect(endpoint, domain.tls, deadline=_greeted_by(attempt))
        try:
            visit.reached = True
            if visit.only_reach:
                return _REACHED
            client.deadline = attempt.deadline
            if loop := await self._refuse_own(endpoint, client.stream.peer):
                return loop
            if attempt.forwarded:
                await client.forward_address(attempt.forwarded)
            answer = await client.login(attempt.login, attempt.password, apop=domain.apop)
            if answer.verdict is Verdict.YES:
                await _leave(client)
            return answer
        finally:
            client.close()


def _greeted_by(attempt: _Attempt) -> float:
    return min(attempt.deadline, asyncio.get_running_loop().time() + _CONNECT)


async def _leave(client: Pop3Client) -> None:
    """QUIT gives the maildrop's lock back at once; a server that is slow to say goodbye is not waited for."""
    client.deadline = asyncio.get_running_loop().time() + 1.0
    with contextlib.suppress(Temporary):  # it has accepted the password; how it says goodbye changes nothing
        await client.quit()


def _told(domain: DomainSettings, client: str) -> str:
    """The client's address where the old server is to hear it: after TLS, before the login.

    Never an address that only means something here: to the old server loopback is itself, which it trusts and never
    slows down.
    """
    if not domain.forward_ip or not client:
        return ""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return ""
    plain = address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address
    useless = plain.is_loopback or plain.is_unspecified or plain.is_link_local or plain.is_multicast
    return "" if useless else str(plain)
