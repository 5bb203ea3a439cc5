"""Who has not moved yet, and the tool that fits each of them. Pure: values in, values out.

The migration guide's ways are tried in this order: the password that CommuniGate takes as it is; the hash that a first
login can be checked against; the old server's word at the first login; and where nobody knows the password, a new one,
with the mail fetched by an administrator's login or by switching the shadow file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Final

from migrator.hash_survey import use_of
from migrator.model import Adoption, Phase
from migrator.passwords import PasswordHash, Scheme, Use
from migrator.settings import DomainSettings


class Tool(Enum):
    """What is to be done; the value is how it is called in lists and with --tool."""

    WAIT = "wait"
    PERSON = "person"
    IMPORT = "import"
    HASHES = "hashes"
    LOGIN = "login"
    NEW_PASSWORD = "new-password"  # noqa: S105 - a tool's name
    LOCKED = "locked"


WHAT: Final[Mapping[Tool, str]] = {
    Tool.WAIT: "a right password is saved, and the worker sets it at CommuniGate: nothing to do but to look again",
    Tool.PERSON: "CommuniGate refuses the password: mend its password rules, then `extauth` takes the next login",
    Tool.IMPORT: "CommuniGate takes the hash as it is: `migrator accounts`, or the CLI with \\002 before it",
    Tool.HASHES: 'the first login can be checked against the hash: verify = "hashes" in the domain\'s table',
    Tool.LOGIN: "the user must log in once, while the old server still answers",
    Tool.NEW_PASSWORD: "nobody can check the password: give a new one",
    Tool.LOCKED: "locked at the old server: decide whether anybody still needs it",
}


class Mail(Enum):
    """How the mail comes over."""

    NONE = ""  # it is there, or none is to be copied
    QUEUED = "queued"
    AT_LOGIN = "at the login"
    ADMIN = "admin_login"  # `admin_login` of the domain opens every mailbox
    SHADOW = "shadow-switch"  # MoveAccounts with one password for all, or the mailbox files themselves


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one account. None is "not asked"."""

    account: str
    adoption: Adoption | None = None  # the ledger's
    reason: str = ""
    phase: Phase | None = None  # of the copy
    exists: bool | None = None  # at CommuniGate
    external: bool | None = None  # on external authentication there
    listed: bool = False  # on the roster
    stored: PasswordHash | None = None


@dataclass(frozen=True, slots=True)
class Left:
    """One who has not moved."""

    account: str
    standing: str
    hash: str  # its kind, or ""
    tool: Tool
    mail: Mail
    reason: str

    def as_json(self) -> dict[str, Any]:
        """Plain values for json.dumps and for a row of CSV."""
        return {**asdict(self), "tool": self.tool.value, "mail": self.mail.value}


def judge(facts: Facts, domain: DomainSettings) -> Left | None:
    """What is to be done for one account; None for those who have moved."""
    if _has_moved(facts):
        return None
    tool, reason = _tool(facts, domain)
    kind = facts.stored.scheme.value if facts.stored is not None and facts.stored.scheme is not Scheme.ABSENT else ""
    return Left(facts.account, _standing(facts), kind, tool, _mail(facts, domain, tool), reason)


def _has_moved(facts: Facts) -> bool:
    if facts.external is not None:
        return not facts.external
    return facts.adoption is Adoption.ADOPTED


def _standing(facts: Facts) -> str:
    if facts.adoption is Adoption.ADOPTING:
        return "password not taken over yet"
    if facts.adoption is Adoption.REFUSED:
        return "password refused by CommuniGate"
    if facts.adoption is Adoption.ADOPTED:
        return "put back on external authentication"
    if facts.exists is False:
        return "no account yet"
    if facts.exists is None and facts.adoption is None:
        return "not heard of yet"
    return "never logged in"


def _tool(facts: Facts, domain: DomainSettings) -> tuple[Tool, str]:
    if facts.adoption is Adoption.ADOPTING:
        return Tool.WAIT, facts.reason
    if facts.adoption is Adoption.REFUSED:
        return Tool.PERSON, facts.reason
    if facts.stored is not None:
        use, problem = use_of(facts.stored)
        if use in (Use.AS_IT_IS, Use.PASSWORD):
            return Tool.IMPORT, ""
        if use is Use.FIRST_LOGIN:
            return (Tool.LOGIN, "against its hash") if domain.verify == "hashes" else (Tool.HASHES, "")
        if facts.stored.scheme is Scheme.LOCKED:
            return Tool.LOCKED, problem
        if domain.verify == "hashes":
            return Tool.NEW_PASSWORD, problem
    if domain.verify == "hashes":
        return Tool.NEW_PASSWORD, "not in the file of hashes"
    return Tool.LOGIN, ""


def _mail(facts: Facts, domain: DomainSettings, tool: Tool) -> Mail:
    if not domain.copies or facts.phase is Phase.DONE:
        return Mail.NONE
    if facts.phase is not None:
        return Mail.QUEUED
    if domain.admin_login:
        return Mail.ADMIN
    if tool in (Tool.LOGIN, Tool.HASHES, Tool.WAIT, Tool.PERSON):
        return Mail.AT_LOGIN
    return Mail.SHADOW
