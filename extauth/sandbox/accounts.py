"""What the simulated CommuniGate knows: domains, accounts, forwarders, groups and settings. No socket, no clock.

Every refusal is a Refusal with the CLI's code and text (codes as the published clients list them).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cli_client.format import NULL, Value
from extauth.sandbox.mailstore import MailboxError, MailStore
from extauth.sandbox.stored_password import matches

Settings = dict[str, Value]

SERVER_DEFAULTS: Settings = {  # what an account has when neither it nor its domain says otherwise
    "UseAppPassword": "YES",
    "UseExtPassword": "NO",
    "UseSysPassword": "NO",
    "AccessModes": "All",
    "PasswordEncryption": "clear",
}
_NAME = re.compile(r"[A-Za-z0-9_-](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9_-])?")
_DOMAIN = re.compile(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")


class Refusal(Exception):
    """A command that CommuniGate refuses."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text


def check_mailbox_name(name: bytes) -> None:
    """Refuse names that CommuniGate cannot have (migration guide, notes on MoveIMAPMail)."""
    for level in name.split(b"/"):
        if (
            level.startswith((b".", b"~"))
            or level != level.strip(b" ")
            or level.endswith((b".mbox", b".mdir"))
            or any(c in level for c in b"\\#\r\n\0")
        ):
            raise MailboxError("incorrect mailbox name", "CANNOT")


def change_settings(settings: Settings, changes: Mapping[str, Value]) -> None:
    """Put `changes` into `settings`; `default` and NULL take a setting back (a password may be the word `default`)."""
    for key, value in changes.items():
        if value is NULL or (isinstance(value, str) and value.lower() == "default" and key != "Password"):
            settings.pop(key, None)
        else:
            settings[key] = value


@dataclass(slots=True)
class Account:
    """One account; `settings` are those set on the account itself."""

    name: str
    domain: Domain
    settings: Settings = field(default_factory=dict)
    kind: str = "MultiMailbox"
    external: bool = False
    aliases: list[str] = field(default_factory=list)
    rights: list[str] = field(default_factory=list)
    prefs: Settings = field(default_factory=dict)
    alerts: list[str] = field(default_factory=list)
    mail_rules: list[list[Value]] = field(default_factory=list)
    store: MailStore = field(default_factory=lambda: MailStore(check_name=check_mailbox_name))

    @property
    def address(self) -> str:
        """`name@domain`."""
        return f"{self.name}@{self.domain.name}"

    @property
    def effective(self) -> Settings:
        """The settings with all defaults filled in."""
        return {**SERVER_DEFAULTS, **self.domain.account_defaults, **self.settings}

    def option(self, key: str) -> bool:
        """Whether a YES/NO setting is on."""
        return str(self.effective.get(key, "NO")).upper() == "YES"

    def accepts(self, password: bytes) -> bool:
        """Whether `password` is the CommuniGate password (whatever UseAppPassword says)."""
        return matches(str(self.effective.get("Password", "")), password)

    @property
    def is_admin(self) -> bool:
        """Whether it has access rights: it may use the CLI and open others' mailboxes."""
        return bool(self.rights)


@dataclass(slots=True)
class Domain:
    """One domain with its objects by lower-case name."""

    name: str
    settings: Settings = field(default_factory=dict)
    account_template: Settings = field(default_factory=dict)  # given to an account when it is made
    account_defaults: Settings = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    forwarders: dict[str, str] = field(default_factory=dict)
    groups: dict[str, Settings] = field(default_factory=dict)
    lists: dict[str, Settings] = field(default_factory=dict)
    subscribers: dict[str, dict[str, str]] = field(default_factory=dict)  # by list: address and mode
    aliases: dict[str, Account] = field(default_factory=dict)

    @property
    def effective(self) -> Settings:
        """The settings with all defaults filled in."""
        return {"ExternalOnUnknown": "NO", **self.settings}

    def occupied(self, name: str) -> Refusal | None:
        """The refusal to make another object `name`, or None when it is free."""
        for table, code, what in (
            (self.accounts, 520, "Account"),
            (self.aliases, 521, "Alias"),
            (self.lists, 522, "List"),
            (self.groups, 523, "Group"),
            (self.forwarders, 524, "Forwarder"),
        ):
            if name in table:
                return Refusal(code, f"{what} with this name already exists")
        return None


class Directory:
    """All domains, and how a name is looked up in them."""

    def __init__(self, main_domain: str) -> None:
        self.main_domain = main_domain.lower()
        self.domains: dict[str, Domain] = {}
        self.server_settings: Settings = {}
        self.router_table = ""
        self.exists_code: int | None = None  # the guide's transcript has 501 for every name that is taken
        self.password_policy: Callable[[str], str | None] = lambda password: None  # why a password is refused
        self.create_domain(self.main_domain)

    def create_domain(self, name: str, settings: Mapping[str, Value] | None = None) -> Domain:
        """Make a domain."""
        name = name.lower()
        if not _DOMAIN.fullmatch(name) or len(name) > 255:
            raise Refusal(525, "incorrect domain name")
        if name in self.domains:
            raise Refusal(519, "Domain with this name already exists")
        domain = Domain(name, dict(settings or {}))
        self.domains[name] = domain
        return domain

    def split(self, address: str) -> tuple[str, str]:
        """Lower-case name and domain; the main domain where none is given."""
        name, at, domain = address.rpartition("@")
        return (name.lower(), domain.lower()) if at else (address.lower(), self.main_domain)

    def domain(self, name: str) -> Domain:
        """The domain; "" is the main one."""
        found = self.domains.get(name.lower() or self.main_domain)
        if found is None:
            raise Refusal(512, "unknown secondary domain name")
        return found

    def find(self, address: str) -> Account | None:
        """The account of this name or alias; None when there is none (or no such domain)."""
        name, domain_name = self.split(address)
        domain = self.domains.get(domain_name)
        if domain is None:
            return None
        return domain.accounts.get(name) or domain.aliases.get(name)

    def account(self, address: str) -> Account:
        """The account of this name or alias."""
        self.domain(self.split(address)[1])
        found = self.find(address)
        if found is None:
            raise Refusal(513, "unknown user account")
        return found

    def free_name(self, address: str) -> tuple[str, Domain]:
        """Check that an object can be made under this name."""
        name, domain_name = self.split(address)
        domain = self.domain(domain_name)
        if not _NAME.fullmatch(name) or ".." in name:
            raise Refusal(525, "incorrect object name")
        taken = domain.occupied(name)
        if taken is not None:
            raise Refusal(self.exists_code or taken.code, taken.text)
        return name, domain

    def create_account(
        self,
        address: str,
        settings: Mapping[str, Value] | None = None,
        *,
        kind: str = "MultiMailbox",
        external: bool = False,
    ) -> Account:
        """Make an account from the domain's template and `settings`."""
        name, domain = self.free_name(address)
        given = dict(settings or {})
        self._check_password(given)
        account = Account(name, domain, {**domain.account_template, **given}, kind, external)
        domain.accounts[name] = account
        return account

    def update_account(self, account: Account, settings: Mapping[str, Value]) -> None:
        """Change settings, all or none; the value `default` takes a setting back."""
        self._check_password(settings)
        change_settings(account.settings, settings)

    def _check_password(self, settings: Mapping[str, Value]) -> None:
        password = settings.get("Password")
        if password is None:
            return
        if not isinstance(password, str):
            raise Refusal(501, "incorrect password value")
        problem = self.password_policy(password)
        if problem is not None:
            raise Refusal(501, problem)

    def set_aliases(self, account: Account, aliases: list[str]) -> None:
        """Give an account these aliases and no others."""
        domain = account.domain
        names = [alias.lower() for alias in aliases]
        for name in names:
            if domain.aliases.get(name) is not account:
                self.free_name(f"{name}@{domain.name}")
        for name in account.aliases:
            domain.aliases.pop(name, None)
        for name in names:
            domain.aliases[name] = account
        account.aliases = names

    def delete_account(self, account: Account) -> None:
        """Remove an account and its aliases."""
        for alias in account.aliases:
            account.domain.aliases.pop(alias, None)
        del account.domain.accounts[account.name]

    def rename_account(self, account: Account, address: str) -> None:
        """Give an account another name, perhaps in another domain."""
        name, domain = self.free_name(address)
        self.delete_account(account)
        account.aliases = []
        account.name, account.domain = name, domain
        domain.accounts[name] = account
