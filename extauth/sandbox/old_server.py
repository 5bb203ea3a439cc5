"""The old server of the sandbox: users, aliases and mail behind SMTP, IMAP and POP, misbehaving on command.

Each listener has `conditions` (black hole, cut after n bytes, latency) and each server `faults` (any step); an outage
refuses connections on the ports it keeps. Policies here: accept_all, greylisting, full mailboxes, bare reply codes.
"""

from __future__ import annotations

import asyncio
import hmac
import ssl
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from extauth.sandbox.imap_listing import MailUser
from extauth.sandbox.imap_server import ImapServer
from extauth.sandbox.imap_session import LoginRefused
from extauth.sandbox.mailstore import MailStore
from extauth.sandbox.pop_server import PopRefused, PopServer, PopUser
from extauth.sandbox.smtp_server import RcptReply, SmtpServer


@dataclass(slots=True)
class OldUser:
    """One user; `login` and `password` are bytes, as odd as they come."""

    address: str
    login: bytes
    password: bytes = field(repr=False)
    aliases: tuple[str, ...] = ()
    full: bool = False  # 552 at RCPT; for APPEND set store.quota
    locked: bool = False  # logins get a temporary refusal
    store: MailStore = field(default_factory=MailStore)


class OldServer:
    """Start it, add users, and give its ports to whoever migrates."""

    def __init__(
        self,
        domains: Iterable[str] = ("old.test",),
        *,
        separator: bytes = b".",
        prefix: bytes = b"",
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        admin_login: bytes = b"",
        admin_password: bytes = b"",
    ) -> None:
        self.domains = {d.lower() for d in domains}
        self.separator = separator
        self.prefix = prefix
        self.users: dict[str, OldUser] = {}
        self.accept_all = False
        self.greylist_tries = 0  # how often each sender and recipient get 451 before they are let in
        self.enhanced_codes = True
        self.penalty = 0.0  # seconds that a wrong password costs
        self.log_in_attempts: Counter[str] = Counter()  # by login name
        self.delivered: list[tuple[str, str]] = []  # sender and recipient of each message that came by SMTP
        self.smtp = SmtpServer(self._rcpt, self._deliver, name="old ESMTP", tls=None if implicit_tls else tls)
        self.imap = ImapServer(self._log_in_imap, name="old IMAP", tls=tls, implicit_tls=implicit_tls)
        self.pop = PopServer(self._log_in_pop, self._find_pop, name="old POP3", tls=tls, implicit_tls=implicit_tls)
        self.imap.offer.proxy = self._proxy
        self.admin = (admin_login, admin_password)  # may open any mailbox; empty: nobody may
        self._grey: Counter[tuple[str, str]] = Counter()

    # -- users ---------------------------------------------------------------------------------------------------------

    def add_user(
        self,
        address: str,
        password: bytes | str,
        *,
        login: bytes | str | None = None,
        aliases: Iterable[str] = (),
    ) -> OldUser:
        """A user of this server; the login name is the address unless told otherwise."""
        address = address.lower()
        name = address if login is None else login
        user = OldUser(
            address,
            name.encode() if isinstance(name, str) else name,
            password.encode() if isinstance(password, str) else password,
            tuple(a.lower() for a in aliases),
            store=MailStore(self.separator, prefix=self.prefix, makes_parents=False),
        )
        self.users[address] = user
        self.domains.add(address.rpartition("@")[2])
        return user

    def find(self, address: str) -> OldUser | None:
        """The user of an address or alias."""
        address = address.lower()
        user = self.users.get(address)
        return user or next((u for u in self.users.values() if address in u.aliases), None)

    def _by_login(self, login: bytes) -> OldUser | None:
        wanted = login.lower()
        exact = next((u for u in self.users.values() if u.login.lower() == wanted), None)
        if exact is not None or b"@" in wanted:
            return exact
        short = [u for u in self.users.values() if u.login.lower().partition(b"@")[0] == wanted]
        return short[0] if len(short) == 1 else None  # a name that two domains have says nothing without its domain

    # -- the whole server ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open all listeners."""
        await self.smtp.start()
        await self.imap.start()
        await self.pop.start()

    async def close(self) -> None:
        """Close all listeners."""
        await self.smtp.close()
        await self.imap.close()
        await self.pop.close()

    async def go_down(self) -> None:
        """An outage: connections are dropped and refused; the ports are kept."""
        for server in (self.smtp, self.imap, self.pop):
            await server.listener.refuse()

    async def come_back(self) -> None:
        """The end of an outage."""
        await self.start()

    # -- SMTP ----------------------------------------------------------------------------------------------------------

    async def _rcpt(self, sender: str, recipient: str, ip: str) -> RcptReply:
        del ip
        local, _, domain = recipient.lower().rpartition("@")
        if domain not in self.domains:
            return self._reply(554, "5.7.1", "relay access denied")
        if self.greylist_tries and self._grey[(sender, recipient.lower())] < self.greylist_tries:
            self._grey[(sender, recipient.lower())] += 1
            return self._reply(451, "4.7.1", "greylisted, try again later")
        user = self.find(recipient)
        if user is not None and user.full:
            return self._reply(552, "5.2.2", "mailbox is full")
        if user is None and local != "postmaster" and not self.accept_all:
            return self._reply(550, "5.1.1", f"<{recipient}> user unknown")
        return self._reply(250, "2.1.5", "recipient accepted", (recipient, user))

    def _reply(self, code: int, enhanced: str, text: str, context: object = None) -> RcptReply:
        return RcptReply(code, f"{enhanced} {text}" if self.enhanced_codes else text, context)

    async def _deliver(self, sender: str, accepted: list[RcptReply], message: bytes) -> str:
        for reply in accepted:
            assert isinstance(reply.context, tuple)  # put there by _rcpt
            recipient, user = reply.context
            self.delivered.append((sender, recipient))
            if user is not None:
                user.store.inbox.add(message)
        self.imap.wake()
        return "250 2.0.0 queued"

    # -- IMAP and POP --------------------------------------------------------------------------------------------------

    async def _check(self, login: bytes, password: bytes, authzid: bytes) -> tuple[OldUser | None, bool]:
        """The user, and whether the password is right."""
        self.log_in_attempts[login.decode("utf-8", "replace").lower()] += 1
        admin, admin_password = self.admin
        name, star, master = login.partition(b"*")
        if admin and ((star and master == admin) or (authzid and login == admin)):
            user = self._by_login(name if star else authzid)
            right = hmac.compare_digest(password, admin_password) and user is not None
        else:
            user = self._by_login(login)
            right = user is not None and bool(password) and hmac.compare_digest(password, user.password)
            right = right and (not authzid or self._by_login(authzid) is user)
        if not right and self.penalty:
            await asyncio.sleep(self.penalty)
        return user, right

    async def _log_in_imap(self, login: bytes, password: bytes, authzid: bytes, ip: str) -> MailUser:
        del ip
        if self.admin[0] and login == self.admin[0] and not authzid:
            if hmac.compare_digest(password, self.admin[1]):
                return MailUser("admin", MailStore(self.separator))
            raise LoginRefused("AUTHENTICATIONFAILED", "authentication failed")
        user, right = await self._check(login, password, authzid)
        if user is None or not right:
            raise LoginRefused("AUTHENTICATIONFAILED", "authentication failed")
        if user.locked:
            raise LoginRefused("UNAVAILABLE", "mailbox is locked, try again later")
        return MailUser(user.address, user.store)

    def _proxy(self, by: MailUser, name: str) -> MailUser:
        user = self._by_login(name.encode("utf-8", "surrogateescape"))
        if by.name != "admin" or user is None:
            raise LoginRefused("AUTHORIZATIONFAILED", "no")
        return MailUser(user.address, user.store)

    async def _log_in_pop(self, login: bytes, password: bytes, ip: str) -> PopUser:
        del ip
        user, right = await self._check(login, password, b"")
        if user is None or not right:
            raise PopRefused("authentication failed", "AUTH")
        if user.locked:
            raise PopRefused("mailbox is locked, try again later", "SYS/TEMP")
        return PopUser(user.address, user.password, user.store.inbox)

    def _find_pop(self, login: bytes) -> PopUser | None:
        user = self._by_login(login)
        return None if user is None else PopUser(user.address, user.password, user.store.inbox)
