"""What the configuration comes to: frozen values that every program of the migration reads.

No file is opened here; `migrator.config` reads and checks the file.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wire.endpoint import Endpoint, TlsPolicy
from wire.secret import Secret

if TYPE_CHECKING:
    from migrator.alias_names import AliasNames
    from migrator.live_file import LiveFile
    from migrator.roster import Roster

Value = str | list["Value"] | dict[str, "Value"]  # what CreateAccount settings may hold here

PLACEHOLDER: Final = re.compile(r"\{(?:user|domain|address)\}")


def is_protected(address: str, *, protected: frozenset[str], admin_login: str, main_domain: str = "") -> bool:
    """Whether `address` is protected by its name alone; asks no server.

    A protected name without a domain is protected in every domain. `admin_login` without a domain is of
    `main_domain`, or of any domain where none is configured.
    """
    address = address.lower()
    name, _, domain = address.partition("@")
    if name in protected or address in protected:
        return True
    login, _, login_domain = admin_login.lower().partition("@")
    return name == login and domain in ("", login_domain or main_domain.lower() or domain)


@dataclass(frozen=True, slots=True)
class Quota:
    """`count` in `seconds`; a count of 0 is no limit."""

    count: int
    seconds: float


CREATE_LIMIT: Final = Quota(1000, 3600.0)  # 50,000 users within two days, and a night of spam makes no more than these
UNKNOWN_LIMIT: Final = Quota(1000, 600.0)
UNKNOWN_LIMIT_PER_CLIENT: Final = Quota(200, 600.0)


@dataclass(frozen=True, slots=True)
class ProbeCacheSettings:
    """How long an old server's answers about addresses are believed, in seconds; in the manner of verify(8)."""

    positive: float = 31 * 86_400.0  # a yes counts so long
    refresh: float = 7 * 86_400.0  # and is asked about again, in the background, when it is so old
    negative: float = 1800.0  # a no counts so long where the server cannot be asked
    negative_refresh: float = 300.0  # and is asked about again when it is so old


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """`[limits]`: wrong passwords; times in seconds."""

    remember_refused: float = 600.0  # the longest that a refused password is answered from memory; 0: never
    wrong_per_account: Quota = Quota(20, 600.0)  # different ones; no user mistypes 20 times
    wrong_per_client: Quota = Quota(100, 600.0)  # an office behind one address has its share of them
    slow_down: float = 2.0  # the longest wait before an attempt
    shared: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()  # addresses of many users


@dataclass(frozen=True, slots=True)
class CommuniGateSettings:
    """`[communigate]`: the new server."""

    cli: Endpoint
    login: str
    password: Secret
    imap: Endpoint
    smtp: Endpoint
    connections: int
    protected: frozenset[str]  # lower-case; a name without a domain is protected in every domain
    main_domain: str
    copy_as: str
    tls: TlsPolicy

    def is_protected(self, address: str) -> bool:
        """Whether `address` (lower-case) is a protected name or `login` itself; asks no server."""
        return is_protected(address, protected=self.protected, admin_login=self.login, main_domain=self.main_domain)


@dataclass(frozen=True, slots=True)
class HelperSettings:
    """`[helper]`; `deadline` in seconds."""

    deadline: float
    concurrency: int
    log: Path
    temporary: str
    interface: int
    guards: bool  # breakers, shared slots and adaptive limits for the old servers
    pilot: frozenset[str] | None  # None: everybody is served
    probe_answers: int = 200_000  # answers about addresses kept in the ledger
    suspect_after: float = 30 * 86_400.0  # an account that was made for mail, and whose user has not come since


@dataclass(frozen=True, slots=True)
class StateSettings:
    """`[state]`."""

    url: str
    path: Path
    public_key_file: Path
    key_file: Path
    keep_password: str
    digest_key_file: Path = Path("/etc/extauth/digest.key")

    @property
    def keeps_passwords(self) -> bool:
        """Whether passwords stay sealed after their copy is done, for a final pass."""
        return self.keep_password == "retired"  # noqa: S105 - the configuration's word, no password

    @property
    def directory(self) -> Path:
        """Where the ledger and its locks lie."""
        return self.path.parent


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """`[worker]`."""

    embedded: bool
    copies: int


@dataclass(frozen=True, slots=True)
class DomainSettings:
    """`[domains."NAME"]`: one domain's old servers and how its users move."""

    name: str
    new: str
    smtp: Endpoint | None
    roster: Roster | None
    aliases: LiveFile[AliasNames] | None
    verify: str
    imap: Endpoint | None
    pop: Endpoint | None
    hashes: Path | None  # a file of password hashes
    login: str
    old_domain: str
    tls: TlsPolicy
    after_login: str
    copy: str
    copy_options: tuple[str, ...]
    max_connections: int
    accept_all: str
    admin_login: str
    admin_password: Secret | None
    forward_ip: bool
    apop: bool
    helo: str
    senders: tuple[str, ...]
    cache: ProbeCacheSettings = ProbeCacheSettings()
    create_limit: Quota = CREATE_LIMIT
    unknown_limit: Quota = UNKNOWN_LIMIT
    unknown_limit_per_client: Quota = UNKNOWN_LIMIT_PER_CLIENT
    grace: float = 0.0  # seconds after adoption that a password changed at the old server is taken over
    create: Mapping[str, Value] = field(default_factory=dict)

    @property
    def verify_source(self) -> Endpoint | str:
        """What is asked about passwords, as it is called in logs and in the ledger."""
        return f"hashes://{self.name}" if self.verify == "hashes" else self.verify_endpoint

    @property
    def verify_endpoints(self) -> tuple[Endpoint, ...]:
        """The listener that is asked about passwords; none where a file is."""
        return () if self.verify == "hashes" else (self.verify_endpoint,)

    @property
    def verify_endpoint(self) -> Endpoint:
        """The listener that is asked about passwords, unless a file of hashes is."""
        endpoint = self.imap if self.verify == "imap" else self.pop
        assert endpoint is not None  # load_settings refuses a verify without its server
        return endpoint

    @property
    def copy_endpoint(self) -> Endpoint:
        """The listener that mail is copied from."""
        endpoint = self.imap if self.copy == "imap" else self.pop
        assert endpoint is not None  # load_settings refuses a copy without its server
        return endpoint

    @property
    def copies(self) -> bool:
        """Whether a first login queues a copy."""
        return self.after_login in ("copy", "copy+export")

    @property
    def exports(self) -> bool:
        """Whether a first login saves the name/password pair."""
        return self.after_login in ("export", "copy+export")

    def old_address(self, address: str) -> str:
        """`address` as the old server knows it (`old_domain` in place of its domain)."""
        user, _, domain = address.rpartition("@")
        return f"{user}@{self.old_domain or domain}"

    def source_login(self, address: str) -> bytes:
        """The login name on the old server; {domain} and {address} are with `old_domain` where it is set."""
        old = self.old_address(address)
        user, _, domain = old.rpartition("@")
        # one pass, so that a brace inside a name is never taken for a placeholder
        parts = {"{user}": user, "{domain}": domain, "{address}": old}
        return PLACEHOLDER.sub(lambda match: parts[match[0]], self.login).encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration; `files` are all it was read from."""

    path: Path
    communigate: CommuniGateSettings
    helper: HelperSettings
    state: StateSettings
    worker: WorkerSettings
    domains: Mapping[str, DomainSettings]
    files: tuple[Path, ...]
    limits: LimitSettings = LimitSettings()

    def domain(self, name: str) -> DomainSettings | None:
        """The table of domain `name`, else `[domains.default]`, else None."""
        return self.domains.get(name.lower()) or self.domains.get("default")

    def grace_of(self, address: str) -> float:
        """How long a newer password of the old server's is taken over for `address` after its adoption, in seconds."""
        domain = self.domain(address.rpartition("@")[2])
        return domain.grace if domain is not None else 0.0
