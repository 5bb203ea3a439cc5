"""Does the old server know this address? Asked with RCPT TO over kept connections; no message is ever sent.

Where it is not known yet whether the server accepts everybody, names that nobody has are asked about in the same
session, so that its yes is worth something. Several recipients share one transaction, and a connection is left before
the server begins to slow it: Postfix does so after ten refused recipients, and hangs up after about a hundred commands
that deliver nothing. Any refusal before RCPT says something about us or the server, never about the user.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections import deque
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Final

from extauth.gate import Visit
from extauth.gates import Gates
from extauth.guard import OwnServers, UnderWay
from extauth.strangers import make_stranger
from migrator.settings import DomainSettings
from wire.endpoint import Endpoint, TlsPolicy
from wire.outcome import Answer, Permanent, Scope, Temporary, Verdict
from wire.smtp import SmtpClient, SmtpReply, classify_rcpt

REFUSALS: Final = 9  # of one connection: Postfix slows after 10 errors
COMMANDS: Final = 90  # of one connection: Postfix hangs up after 100 that deliver nothing
RECIPIENTS: Final = 20  # of one transaction: far below any server's limit, which counts accepted ones
_IDLE: Final = 20.0  # seconds a connection is kept unused: below the shortest time-outs of servers under strain
_PER_PROBE: Final = 30.0  # seconds of the total budget where the deadline is farther away
_SENDERS: Final = 10_000  # servers whose way with senders is remembered
_SENDER: Final = re.compile(
    r"\bsender\b.{0,40}\b(?:rejected|refused|denied|not (?:allowed|accepted))|null.{0,10}sender|<>:", re.IGNORECASE
)
_Key = tuple[Endpoint, TlsPolicy, str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Finding:
    """The server's word on an address, and whether it accepts strangers too; None where that was not asked or unclear.

    `asked` tells whether strangers were asked about at all.
    """

    answer: Answer
    accepts_all: bool | None = None
    asked: bool = False


def _nobody(_user_taken: bool) -> tuple[str, ...]:
    return ()


class _Session:
    """One connection with what it has been used for."""

    __slots__ = ("accepted", "client", "commands", "fresh", "last_used", "recipients", "refusals", "sender")

    def __init__(self, client: SmtpClient) -> None:
        self.client = client
        self.commands = 0
        self.refusals = 0
        self.recipients = -1  # of the open transaction; -1: none is open
        self.sender = ""  # of the open transaction
        self.accepted: dict[str, bool] = {}  # by domain: whether this session accepts somebody there
        self.fresh = True  # nothing was answered over it yet in this use
        self.last_used = 0.0

    @property
    def worn(self) -> bool:
        return self.refusals >= REFUSALS or self.commands >= COMMANDS


@dataclass(frozen=True, slots=True)
class _Question:
    address: str
    strangers: Callable[[bool], tuple[str, ...]]


class Prober:
    """Asks about recipients at the old servers of one configuration."""

    def __init__(self, own: OwnServers, under_way: UnderWay, gates: Gates) -> None:
        self._own = own
        self._under_way = under_way
        self._gates = gates
        self._idle: dict[_Key, deque[_Session]] = {}
        self._senders: dict[_Key, str] = {}  # the sender that a server took, where it was not the first
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    async def check_recipient(
        self,
        domain: DomainSettings,
        address: str,
        *,
        deadline: float,
        strangers: Callable[[bool], tuple[str, ...]] = _nobody,
    ) -> Finding:
        """The old server's word on `address`, by `deadline`. Never raises for what a server does.

        Once the server has accepted `address`, or puts it off, the names that `strangers` gives are asked about in the
        same session; it is told whether `address` was accepted.
        """
        endpoint = domain.smtp
        if endpoint is None:
            return Finding(Answer(Verdict.LATER, "no SMTP server is configured for this domain", Scope.SETUP))
        deadline = min(deadline, asyncio.get_running_loop().time() + _PER_PROBE)
        finding = Finding(Answer(Verdict.LATER, "not asked"))

        async def ask(visit: Visit) -> Answer:
            nonlocal finding
            finding = await self._ask(endpoint, domain, _Question(address, strangers), deadline, visit)
            return finding.answer

        async def stranger(visit: Visit) -> Answer:
            nobody = f"{make_stranger()}@{address.rpartition('@')[2]}"
            by = asyncio.get_running_loop().time() + _PER_PROBE
            return (await self._ask(endpoint, domain, _Question(nobody, _nobody), by, visit)).answer

        try:
            await self._gates.of(endpoint).ask(address, ask, stranger, turn_by=deadline, deadline=deadline)
            return finding
        except Temporary as trouble:
            return Finding(Answer(Verdict.LATER, str(trouble), trouble.scope))
        except Permanent as trouble:
            scope = Scope.SETUP if trouble.scope is Scope.SETUP else Scope.SERVER
            return Finding(Answer(Verdict.LATER, str(trouble), scope))

    async def close(self) -> None:
        """Drop every kept connection, with a QUIT that is not waited for."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for sessions in self._idle.values():
            for session in sessions:
                _part(session.client)
        self._idle.clear()

    # -- one question --------------------------------------------------------------------------------------------------

    async def _ask(
        self, endpoint: Endpoint, domain: DomainSettings, question: _Question, deadline: float, visit: Visit
    ) -> Finding:
        key = (endpoint, domain.tls, domain.helo, domain.senders)
        if session := self._take_idle(key):
            visit.reached = True
            try:
                return await self._ask_in(session, key, domain, question, deadline)
            except Temporary:
                if not session.fresh or asyncio.get_running_loop().time() >= deadline:
                    raise
            # hung up on while it was idle: says nothing about the server
            visit.reached = False
        opened = await self._open(endpoint, domain, deadline)
        visit.reached = True
        if isinstance(opened, Answer):
            return Finding(opened)
        return await self._ask_in(opened, key, domain, question, deadline)

    async def _open(self, endpoint: Endpoint, domain: DomainSettings, deadline: float) -> _Session | Answer:
        helo = domain.helo or _own_name()
        client = await SmtpClient.connect(endpoint, domain.tls, helo=helo, deadline=deadline)
        session = _Session(client)
        peer = client.stream.peer
        self._under_way.note_peer(endpoint, peer)
        try:
            if await self._own.owns(peer):
                client.close()
                return Answer(Verdict.LATER, f"{endpoint} is CommuniGate itself, not the old server", Scope.SETUP)
        except BaseException:
            client.close()
            raise
        return session

    async def _ask_in(
        self, session: _Session, key: _Key, domain: DomainSettings, question: _Question, deadline: float
    ) -> Finding:
        """One question over `session`, which is kept for the next one or closed."""
        session.client.deadline = deadline
        session.fresh = True
        keep = False
        try:
            finding = await self._dialogue(session, key, domain, question)
            keep = session.client.usable and not session.worn
        finally:
            if keep and not self._closed:
                self._keep(key, session)
            else:
                _part(session.client)
        return finding

    async def _dialogue(self, session: _Session, key: _Key, domain: DomainSettings, question: _Question) -> Finding:
        if session.recipients < 0 or session.recipients >= RECIPIENTS:
            trouble = await self._begin(session, key, domain)
            if trouble is not None:
                return Finding(trouble)
        address = question.address
        reply = await self._recipient(session, address)
        refused: set[str] = set()
        while _is_about_sender(reply) and len(refused) + 1 < len(domain.senders):
            refused.add(session.sender)  # many servers judge the sender only now (Postfix's smtpd_delay_reject)
            trouble = await self._begin(session, key, domain, refused)
            if trouble is not None:
                return Finding(trouble)
            reply = await self._recipient(session, address)
        at = address.rpartition("@")[2]
        if _is_bare_refusal(reply) and at not in session.accepted:
            # often "relaying denied": it speaks of the user only if somebody of this domain is accepted here
            known = await self._recipient(session, f"postmaster@{at}")
            if known.code >= 500 or known.code in (250, 251):  # put off, it says nothing about the session
                session.accepted[at] = known.code < 500
        elif reply.code in (250, 251):
            session.accepted[at] = True
        answer = classify_rcpt(reply, known_accepted=session.accepted.get(at))
        put_off = 400 <= reply.code < 500 and reply.code != 421
        if answer.verdict is not Verdict.YES and not put_off:
            return Finding(answer)
        names = question.strangers(not put_off)
        if not names:
            return Finding(answer)
        return Finding(answer, await self._accepts(session, [f"{name}@{at}" for name in names]), asked=True)

    async def _accepts(self, session: _Session, strangers: list[str]) -> bool | None:
        """Whether any of `strangers` is accepted; None where that stays unclear.

        Here every permanent refusal counts, whatever it says: somebody was accepted in the same breath.
        """
        refused = 0
        try:
            for stranger in strangers:
                reply = await self._recipient(session, stranger)
                if reply.code in (250, 251):
                    return True
                refused += 500 <= reply.code < 600
        except Temporary:  # the answer about the address itself stands
            return None
        return False if refused == len(strangers) else None

    async def _begin(
        self, session: _Session, key: _Key, domain: DomainSettings, refused: Set[str] = frozenset()
    ) -> Answer | None:
        """Start a transaction with the first sender that the server takes and has not `refused`; None when it stands.

        The sender that it took is the first one next time: a constant sender lets greylisting mature.
        """
        client = session.client
        if session.recipients >= 0:
            session.commands += 1
            session.recipients = -1
            reply = await client.rset()
            session.fresh = False
            if reply.code != 250:
                client.close()
                return Answer(Verdict.LATER, f"RSET: {reply.code} {reply.text}", Scope.SERVER)
        taken = self._senders.get(key)
        first = domain.senders[0] if taken is None else taken
        for sender in sorted(set(domain.senders) - refused, key=lambda s: (s != first, domain.senders.index(s))):
            session.commands += 1
            reply = await client.mail(sender)
            session.fresh = False
            if 200 <= reply.code < 300:
                session.recipients = 0
                session.sender = sender
                if sender != first:
                    self._remember_sender(key, sender)
                return None
            session.refusals += 1
            if not 500 <= reply.code < 600:
                break
        return Answer(Verdict.LATER, f"MAIL FROM refused: {reply.code} {reply.text}", Scope.SERVER)

    def _remember_sender(self, key: _Key, sender: str) -> None:
        if len(self._senders) >= _SENDERS:
            self._senders.clear()
        self._senders[key] = sender

    async def _recipient(self, session: _Session, address: str) -> SmtpReply:
        session.commands += 1
        session.recipients += 1
        reply = await session.client.rcpt(address)
        session.fresh = False
        if reply.code >= 400:
            session.refusals += 1
        if reply.code in (452, 552):
            session.recipients = RECIPIENTS  # perhaps too many of them: the next question starts afresh
        if reply.code == 421:
            _part(session.client)
        return reply

    # -- kept connections ----------------------------------------------------------------------------------------------

    def _take_idle(self, key: _Key) -> _Session | None:
        sessions = self._idle.get(key)
        soonest = asyncio.get_running_loop().time() - _IDLE
        while sessions:
            session = sessions.pop()  # the one used last: it is the least likely to have been hung up on
            if session.client.usable and session.last_used > soonest:
                return session
            _part(session.client)
        return None

    def _keep(self, key: _Key, session: _Session) -> None:
        loop = asyncio.get_running_loop()
        session.last_used = loop.time()
        self._idle.setdefault(key, deque()).append(session)
        if self._sweep is None:
            self._sweep = loop.call_later(_IDLE / 2, self._drop_old)

    def _drop_old(self) -> None:
        loop = asyncio.get_running_loop()
        soonest = loop.time() - _IDLE
        self._sweep = None
        for sessions in self._idle.values():
            while sessions and (sessions[0].last_used < soonest or not sessions[0].client.usable):
                _part(sessions.popleft().client)
        if any(self._idle.values()):
            self._sweep = loop.call_later(_IDLE / 2, self._drop_old)


def _part(client: SmtpClient) -> None:
    """Hang up with a QUIT whose answer is not waited for."""
    if client.usable:
        with contextlib.suppress(Temporary):  # the server was faster
            client.stream.write_soon(b"QUIT\r\n")
    client.close()


def _is_bare_refusal(reply: SmtpReply) -> bool:
    return reply.code in (550, 551, 553) and not reply.enhanced


def _is_about_sender(reply: SmtpReply) -> bool:
    """Whether a permanent refusal of a recipient is the sender's (RFC 3463: X.1.7 and X.1.8 are)."""
    if not 500 <= reply.code < 600 or reply.enhanced in ("5.1.1", "5.1.3", "5.1.6", "5.1.10"):
        return False
    return reply.enhanced in ("5.1.7", "5.1.8") or _SENDER.search(reply.text) is not None


def _own_name() -> str:
    """The name for EHLO: constant, so that greylisting matures."""
    return socket.gethostname() or "localhost"
