"""The simulated CommuniGate: its Directory, CLI, IMAP and SMTP, and what it asks the External Authentication program.

A login or a message for an account that does not exist consults the program with NEW where the domain has
ExternalOnUnknown=YES, then looks again; a password is compared where UseAppPassword is on, and asked with VRFY where
UseExtPassword is on.
"""

from __future__ import annotations

import asyncio
import re
import smtplib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from cli_client.format import Value
from extauth.sandbox.accounts import Account, Directory, Domain
from extauth.sandbox.cli_commands import Commands
from extauth.sandbox.cli_server import CliServer
from extauth.sandbox.faults import Faults
from extauth.sandbox.helper_process import HelperProcess, HelperReply
from extauth.sandbox.imap_listing import MailUser
from extauth.sandbox.imap_server import ImapServer
from extauth.sandbox.imap_session import LoginRefused
from extauth.sandbox.mailstore import MailboxError, MailStore
from extauth.sandbox.smtp_server import RcptReply, SmtpServer

_ROUTES = 5  # ROUTED answers and forwarders followed for one address: a loop ends here
_EXTENSIONS = {"NAMESPACE", "UIDPLUS", "IDLE", "LITERAL+", "ID", "CHILDREN", "UNSELECT"}  # as 5.2 announces them
_VIA = re.compile(r"(?P<host>\[[0-9A-Fa-f.:]+\]|[A-Za-z0-9.-]+?)(?:[:.](?P<port>[0-9]{1,5}))?\._?via", re.IGNORECASE)


class LoginResult(Enum):
    """What a user who logs in is told."""

    OK = "ok"
    WRONG = "wrong"
    TEMPORARY = "temporary"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where mail for an address goes: an account, another server, or nowhere (with the reply that says so)."""

    code: int
    text: str
    account: Account | None = None
    relay: tuple[str, int, str] | None = None  # host, port, address there
    routed: str = ""  # the ROUTED answer that was followed


@dataclass(frozen=True, slots=True)
class LoginRecord:
    """One login, for tests: never the password."""

    address: str
    service: str
    result: LoginResult
    asked: str  # the program's word to VRFY, or "" where it was not asked


@dataclass(slots=True)
class Tally:
    """Counts for a display."""

    logins: dict[LoginResult, int] = field(default_factory=lambda: dict.fromkeys(LoginResult, 0))
    mail: dict[int, int] = field(default_factory=dict)


class CommuniGate:
    """One server. `start` opens its listeners; `attach` gives it the External Authentication program."""

    def __init__(
        self,
        main_domain: str = "company.test",
        *,
        admin: str = "postmaster",
        admin_password: str = "sandbox admin",  # noqa: S107 - the password of a simulation on loopback
        multiappend: bool = True,
        acl: bool = True,
    ) -> None:
        self.directory = Directory(main_domain)
        self.admin = self.directory.create_account(admin, {"Password": admin_password})
        self.admin.rights = ["Master"]
        self.commands = Commands(self.directory, kill_sessions=self._kill_sessions)
        self.cli = CliServer(self.commands)
        self.imap = ImapServer(self._log_in_imap, name="CommuniGate Pro IMAP Server 5.2")
        self.imap.offer.extensions = {*_EXTENSIONS, *["MULTIAPPEND"] * multiappend, *["ACL"] * acl}
        self.smtp = SmtpServer(self._rcpt, self._deliver, name="CommuniGate Pro SMTP 5.2")
        self.helper: HelperProcess | None = None
        self.logins: list[LoginRecord] = []
        self.tally = Tally()

    @property
    def log(self) -> list[tuple[str, str]]:
        """What WriteLog wrote: level and line."""
        return self.commands.log

    @property
    def faults(self) -> Faults:
        """Faults of the CLI."""
        return self.cli.faults

    async def start(self) -> None:
        """Open the CLI, IMAP and SMTP listeners."""
        await self.cli.start()
        await self.imap.start()
        await self.smtp.start()

    async def attach(self, helper: HelperProcess) -> None:
        """Run this program as the External Authentication program."""
        self.helper = helper
        self.directory.server_settings["ExternalAUTH"] = {"Enabled": "YES", "ProgramName": helper.command[0]}
        await helper.start()

    async def close(self) -> None:
        """Stop the program, then the listeners."""
        if self.helper is not None:
            await self.helper.stop()
        await self.smtp.close()
        await self.imap.close()
        await self.cli.close()

    def add_domain(self, name: str, *, external: bool = True, template: Mapping[str, Value] | None = None) -> Domain:
        """A domain, with external authentication on (as the migration guide sets it up) unless told otherwise."""
        domain = self.directory.domains.get(name.lower()) or self.directory.create_domain(name)
        if external:
            domain.settings["ExternalOnUnknown"] = "YES"
            domain.account_template.update({"UseAppPassword": "NO", "UseExtPassword": "YES"})
        domain.account_template.update(template or {})
        return domain

    def account(self, address: str) -> Account | None:
        """The account, or None."""
        return self.directory.find(address)

    # -- logins --------------------------------------------------------------------------------------------------------

    async def login(self, address: str, password: bytes, service: str = "IMAP", ip: str = "127.0.0.1") -> LoginResult:
        """Somebody logs in. Never raises; a program that does not answer makes it TEMPORARY."""
        result, asked, _ = await self._log_in(address, password, service, ip)
        self.logins.append(LoginRecord(address, service, result, asked))
        self.tally.logins[result] += 1
        return result

    async def _log_in(
        self, address: str, password: bytes, service: str, ip: str
    ) -> tuple[LoginResult, str, Account | None]:
        found = await self._find(address, service, ip)
        if found.account is None:
            return (LoginResult.TEMPORARY if found.code == 450 else LoginResult.WRONG), "", None
        account = found.account
        if account.option("UseAppPassword") and account.accepts(password):
            return LoginResult.OK, "", account
        if not account.option("UseExtPassword") or self.helper is None:
            return LoginResult.WRONG, "", account
        reply = await self.helper.verify(account.address, password, service, ip)
        if reply.word == "OK":
            return LoginResult.OK, reply.word, account
        return (LoginResult.WRONG if reply.word == "ERROR" else LoginResult.TEMPORARY), reply.word, account

    # -- mail ----------------------------------------------------------------------------------------------------------

    async def mail_arrives(self, sender: str, recipient: str, message: bytes, ip: str = "127.0.0.1") -> Destination:
        """A message for one recipient comes by SMTP: found, asked, delivered or relayed. `code` is the SMTP reply."""
        del sender  # every sender is welcome
        destination = await self._find(recipient, "SMTP", ip)
        if destination.code == 250:
            destination = await self._store(destination, message)
        self.tally.mail[destination.code] = self.tally.mail.get(destination.code, 0) + 1
        return destination

    async def _store(self, destination: Destination, message: bytes) -> Destination:
        if destination.account is not None:
            destination.account.store.inbox.add(message)
            self.imap.wake()
            return destination
        assert destination.relay is not None
        host, port, address = destination.relay
        try:
            await asyncio.to_thread(_relay, host, port, address, message)
        except smtplib.SMTPResponseException as error:
            return Destination(error.smtp_code, "the next server refused it", routed=destination.routed)
        except smtplib.SMTPRecipientsRefused as error:
            code = next(iter(error.recipients.values()))[0]
            return Destination(code, "the next server refused it", routed=destination.routed)
        except OSError:
            return Destination(450, "the next server cannot be reached", routed=destination.routed)
        return destination

    async def _rcpt(self, sender: str, recipient: str, ip: str) -> RcptReply:
        destination = await self._find(recipient, "SMTP", ip)
        enhanced = {250: "2.1.5", 450: "4.2.1"}.get(destination.code, "5.1.1")
        return RcptReply(destination.code, f"{enhanced} {destination.text}", destination)

    async def _deliver(self, sender: str, accepted: list[RcptReply], message: bytes) -> str:
        worst = "250 2.6.0 message accepted for delivery"
        for reply in accepted:
            assert isinstance(reply.context, Destination)
            stored = await self._store(reply.context, message)
            self.tally.mail[stored.code] = self.tally.mail.get(stored.code, 0) + 1
            if stored.code != 250:
                worst = f"{stored.code} {stored.text}"
        return worst

    # -- looking up ----------------------------------------------------------------------------------------------------

    async def _find(self, address: str, service: str, ip: str) -> Destination:
        """The account of an address, asking the program about unknown ones and following where it routes."""
        routed = ""
        for _ in range(_ROUTES):
            name, domain_name = self.directory.split(address)
            domain = self.directory.domains.get(domain_name)
            if domain is None:
                return _elsewhere(name, domain_name, routed)
            account = self.directory.find(address)
            if account is not None:
                return Destination(250, f"{address} will be delivered", account, routed=routed)
            if name in domain.forwarders:
                address = domain.forwarders[name]
                continue
            if str(domain.effective["ExternalOnUnknown"]).upper() != "YES" or self.helper is None:
                return Destination(550, f"{address} unknown user account", routed=routed)
            reply = await self.helper.new(f"{name}@{domain_name}", service, ip)
            if reply.word == "ROUTED" and reply.text.strip():
                address = routed = reply.text.strip()
                continue
            return self._look_again(address, reply, routed)
        return Destination(550, "too many routes", routed=routed)

    def _look_again(self, address: str, reply: HelperReply, routed: str) -> Destination:
        if reply.word == "ERROR":
            return Destination(550, f"{address} unknown user account", routed=routed)
        if reply.word != "OK":
            return Destination(450, f"{address} cannot be checked now", routed=routed)
        account = self.directory.find(address)
        if account is None:
            return Destination(550, f"{address} unknown user account", routed=routed)
        return Destination(250, f"{address} will be delivered", account, routed=routed)

    # -- IMAP ----------------------------------------------------------------------------------------------------------

    async def _log_in_imap(self, login: bytes, password: bytes, authzid: bytes, ip: str) -> MailUser:
        address = login.decode("utf-8", "surrogateescape")
        result, asked, account = await self._log_in(address, password, "IMAP", ip)
        self.logins.append(LoginRecord(address, "IMAP", result, asked))
        self.tally.logins[result] += 1
        if result is LoginResult.TEMPORARY:
            raise LoginRefused("UNAVAILABLE", "temporary authentication failure")
        if result is LoginResult.WRONG or account is None:
            raise LoginRefused("AUTHENTICATIONFAILED", "incorrect password or account name")
        if authzid and self.directory.find(authzid.decode("utf-8", "surrogateescape")) is not account:
            if not account.is_admin:
                raise LoginRefused("AUTHORIZATIONFAILED", "access rights are required")
            other = self.directory.find(authzid.decode("utf-8", "surrogateescape"))
            if other is None:
                raise LoginRefused("AUTHORIZATIONFAILED", "unknown user account")
            account = other
        return _Visitor(self.directory, account)

    def _kill_sessions(self, account: Account) -> None:
        self.imap.end_sessions(account.address)


class _Visitor(MailUser):
    """A logged-in account: its own mailboxes, and `~account/Mailbox` where it may open them."""

    def __init__(self, directory: Directory, account: Account) -> None:
        super().__init__(account.address, account.store)
        self._directory = directory
        self._account = account

    @property
    def other_users(self) -> bytes:
        return b"~"

    def locate(self, name: bytes) -> tuple[MailStore, bytes, bytes]:
        """The store that holds `name`, the name within it, and the prefix to put before names of that store."""
        if not name.startswith(b"~"):
            return self.store, name, b""
        who, slash, rest = name[1:].partition(b"/")
        text = who.decode("utf-8", "surrogateescape")
        if "@" not in text:
            text = f"{text}@{self._account.domain.name}"
        account = self._directory.find(text)
        if account is None or not (self._account.is_admin or account is self._account):
            raise MailboxError("access to this account is denied", "NOPERM" if account else "NONEXISTENT")
        return account.store, rest, b"~" + who + slash


def _elsewhere(name: str, domain: str, routed: str) -> Destination:
    """`name%domain@[address]:port._via` goes to that server as name@domain; every other domain is not ours."""
    via = _VIA.fullmatch(domain)
    if via is None or "%" not in name or not routed:
        return Destination(550, "we do not relay", routed=routed)
    local, _, there = name.rpartition("%")
    host = via["host"].strip("[]")
    return Destination(250, "will be relayed", relay=(host, int(via["port"] or 25), f"{local}@{there}"), routed=routed)


def _relay(host: str, port: int, address: str, message: bytes) -> None:
    with smtplib.SMTP(host, port, timeout=10) as client:
        client.sendmail("", [address], message)
