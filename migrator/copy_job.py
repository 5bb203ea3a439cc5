"""One copy from beginning to end: adopt if that is still owed, log in at both ends, copy, say what came of it.

The outcome is a value; the worker tells it to the queue. A bug comes out as the exception it is.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final, Protocol

from migrator.access import Access
from migrator.adopt import AdoptionOutcome, AdoptionResult
from migrator.grace import GraceAdopter
from migrator.ledger.logins import Logins
from migrator.model import Adoption, Counts, Job, StoredLogin
from migrator.options import CopyOptions, OptionTrouble, parse_copy_options
from migrator.report import CopyInterrupted, InboxIdentity, ProgressListener, Report, SourceRefused, TargetRefused
from migrator.seal import Opener
from migrator.settings import DomainSettings, Settings
from migrator.window import WindowClosed
from wire.endpoint import Endpoint, parse_endpoint
from wire.outcome import Permanent, Temporary, Throttled
from wire.resolver import resolver
from wire.secret import Secret

ADOPTION_TIMEOUT: Final = 30.0  # seconds for the CLI in a worker, which nobody waits for
_LISTED: Final = 100  # refused messages of a mailbox, and problems of an account, that the ledger keeps by name


class Ending(Enum):
    """What the queue is to do with the job."""

    DONE = "done"
    POSTPONE = "postpone"
    WAIT = "wait"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a copy ended. `report` is JSON, or empty where none was made."""

    ending: Ending
    reason: str = ""
    counts: Counts = field(default_factory=Counts)
    report: str = ""
    pause: float = 0.0  # seconds at least before a postponed copy is worth a try


BeforeCopy = Callable[[InboxIdentity], Awaitable[None]]
Claimed = Callable[[InboxIdentity], Awaitable[str]]
"""Asked before anything is written: the account that already copies this INBOX, or ""."""


class Copy(Protocol):
    """The copier of one account: IMAP to IMAP or POP to IMAP, by the source's endpoint."""

    async def __call__(
        self,
        account: str,
        source: Access,
        target: Access,
        options: CopyOptions,
        *,
        progress: ProgressListener,
        before_copy: BeforeCopy,
    ) -> Report:
        """The report of a copy that ran to its end; raises what `migrator.mover` raises."""


class HeldBack(Exception):
    """The job must not run as things are; a person must look."""


@dataclass(frozen=True, slots=True)
class JobRunner:
    """Everything a copy needs that does not change from job to job."""

    settings: Settings
    logins: Logins
    opener: Opener
    adopter: GraceAdopter
    copy: Copy

    async def run(self, job: Job, *, progress: ProgressListener, claimed: Claimed) -> Outcome:
        """Run `job`. Never raises Trouble: what servers say and fail to say is an Outcome."""
        try:
            return await self._run(job, progress, claimed)
        except HeldBack as reason:
            return Outcome(Ending.HOLD, str(reason))
        except CopyInterrupted as trouble:
            counts, text = counts_of(trouble.report), render_report(trouble.report)
            return Outcome(Ending.POSTPONE, str(trouble), counts, text, trouble.pause)
        except WindowClosed as closed:
            return Outcome(Ending.POSTPONE, str(closed), pause=closed.pause)
        except SourceRefused as refusal:
            return Outcome(Ending.WAIT, str(refusal))
        except Throttled as trouble:
            return Outcome(Ending.POSTPONE, str(trouble), pause=trouble.pause)
        except Temporary as trouble:
            return Outcome(Ending.POSTPONE, str(trouble))
        except Permanent as trouble:
            return Outcome(Ending.HOLD, str(trouble))

    async def _run(self, job: Job, progress: ProgressListener, claimed: Claimed) -> Outcome:
        domain = self._domain(job)
        source = _current_endpoint(job, domain)
        await self._refuse_own_server(source)
        options = replace(_options(domain, source), sync_flags=self._expects_delta(job, domain))
        login = await self.logins.login_of(job.account, job.source)
        password = self.opener.open(login.sealed, job.account) if login and login.sealed else None
        if password is None and not domain.admin_login:
            return Outcome(Ending.WAIT, "no password is saved for the old server")
        adoption = login.adoption if login else Adoption.SEEN
        if adoption is Adoption.ADOPTING and password is not None:
            result = await self._adopt(job.account, password)
            if result.outcome is AdoptionOutcome.LATER:
                return Outcome(Ending.POSTPONE, result.reason)
            adoption = Adoption.ADOPTED if result.confirmed else Adoption.REFUSED
        if adoption is not Adoption.ADOPTED:
            await self._refuse_administrator(job.account)
        sources = _sources(domain, source, job, login, password)
        targets = self._targets(job.account, password, adoption)

        async def refuse_second(identity: InboxIdentity) -> None:
            if other := await claimed(identity):
                raise HeldBack(f"{other} has the same mailbox at the old server, and its copy comes first")

        async def copy(one: Access, other: Access) -> Report:
            return await self.copy(job.account, one, other, options, progress=progress, before_copy=refuse_second)

        try:
            return outcome_of(await _first_accepted(sources, targets, copy))
        except SourceRefused as refusal:
            if password is None:  # no login of the user will bring what is missing
                raise HeldBack(f"admin_login: {refusal}") from None
            raise

    def _expects_delta(self, job: Job, domain: DomainSettings) -> bool:
        """Whether flags are brought over and remembered: in a second pass, and in a first that can have a second."""
        return job.passes > 0 or self.settings.state.keeps_passwords or bool(domain.admin_login)

    def _domain(self, job: Job) -> DomainSettings:
        domain = self.settings.domain(job.domain)
        if domain is None:
            raise HeldBack(f"the configuration has no table for the domain {job.domain}")
        if self.settings.communigate.is_protected(job.account):
            raise HeldBack(f"{job.account} is a protected name")
        return domain

    async def _refuse_own_server(self, source: Endpoint) -> None:
        """After the switch the old server's name may lead to CommuniGate itself."""
        target = self.settings.communigate.imap
        if source.port == target.port and await _addresses(source) & await _addresses(target):
            raise HeldBack(f"the old server {source} is CommuniGate itself: nothing is copied")

    async def _refuse_administrator(self, account: str) -> None:
        """An account that was not adopted may be an administrator's: nothing is copied into one."""
        deadline = asyncio.get_running_loop().time() + ADOPTION_TIMEOUT
        if rights := await self.adopter.rights_of(account, deadline=deadline):
            raise HeldBack(f"{account} has access rights: {', '.join(rights)}")

    async def _adopt(self, account: str, password: Secret) -> AdoptionResult:
        deadline = asyncio.get_running_loop().time() + ADOPTION_TIMEOUT
        result = await self.adopter.adopt(account, password, deadline=deadline)
        await note_adoption(self.logins, account, result)
        if result.outcome is AdoptionOutcome.PROTECTED:
            raise HeldBack(result.reason)
        return result

    def _targets(self, account: str, password: Secret | None, adoption: Adoption) -> list[Access]:
        """The logins at CommuniGate to try, in order."""
        communigate = self.settings.communigate
        targets = []
        if communigate.copy_as != "admin" and password is not None and adoption is Adoption.ADOPTED:
            targets.append(Access(communigate.imap, account.encode(), password, communigate.tls))
        if communigate.copy_as != "user":
            prefix = f"~{account}/".encode()
            administrator = communigate.login.encode()
            targets.append(
                Access(communigate.imap, administrator, communigate.password, communigate.tls, prefix=prefix)
            )
        if not targets:
            raise HeldBack('CommuniGate does not accept the password of the user, and copy_as is "user"')
        return targets


async def note_adoption(logins: Logins, account: str, result: AdoptionResult, *, retry_after: float = 30.0) -> None:
    """Write down what an adoption came to."""
    if result.confirmed:
        await logins.adopted(account)
    elif result.outcome is AdoptionOutcome.LATER:
        await logins.adoption_failed(account, result.reason, retry_after=retry_after)
    else:
        await logins.adoption_refused(account, result.reason)


async def _first_accepted(
    sources: list[Access], targets: list[Access], copy: Callable[[Access, Access], Awaitable[Report]]
) -> Report:
    """Copy with the first pair of logins that is not refused; nothing was copied when a login is refused."""
    source, target = sources.pop(0), targets.pop(0)
    while True:
        try:
            return await copy(source, target)
        except SourceRefused:
            if not sources:
                raise
            source = sources.pop(0)
        except TargetRefused:
            if not targets:
                raise
            target = targets.pop(0)


def _sources(
    domain: DomainSettings, source: Endpoint, job: Job, login: StoredLogin | None, password: Secret | None
) -> list[Access]:
    """The logins at the old server to try: the user's own, then the administrator who may open the mailbox."""
    name = login.login if login else domain.source_login(job.account)
    sources = []
    if password is not None:
        sources.append(Access(source, name, password, domain.tls))
    if domain.admin_login and domain.admin_password is not None:
        administrator = domain.admin_login.encode()
        sources.append(Access(source, administrator, domain.admin_password, domain.tls, authzid=name))
    if not sources:
        raise HeldBack("admin_login has no password")
    return sources


def _current_endpoint(job: Job, domain: DomainSettings) -> Endpoint:
    """Where to copy from: the configuration may name another port or TLS by now, but not another server."""
    source, now = _endpoint(job.source), domain.copy_endpoint
    if source == now:
        return source
    if source.host.lower() != now.host.lower():
        raise HeldBack(f"the configuration names {now} now; `migrator retry --moved {job.account}` copies from there")
    if source.protocol != now.protocol and job.counts != Counts():
        # what came by POP is not known by IMAP, and would come again
        raise HeldBack(f"this copy began by {source.protocol} and cannot go on by {now.protocol}")
    return now


def _endpoint(text: str) -> Endpoint:
    try:
        return parse_endpoint(text, text.partition("://")[0].partition("+")[0].removesuffix("s"))
    except ValueError as error:
        raise HeldBack(f"the old server's address cannot be read: {error}") from None


def _options(domain: DomainSettings, source: Endpoint) -> CopyOptions:
    try:
        return parse_copy_options(domain.copy_options, pop=source.protocol == "pop3")
    except OptionTrouble as trouble:
        raise HeldBack(f"copy_options of {domain.name}: {trouble}") from None


async def _addresses(endpoint: Endpoint) -> set[str]:
    try:
        return set(await resolver().addresses(endpoint.host))
    except OSError as error:
        raise Temporary(f"the name {endpoint.host} cannot be resolved: {error.strerror or error}") from None


def counts_of(report: Report) -> Counts:
    """The numbers that the ledger keeps of a report."""
    return Counts(
        copied=report.total("copied"),
        bytes=report.total("octets"),
        already=report.total("already"),
        refused=report.total("refused"),
        unexplained=report.unexplained,
    )


def render_report(report: Report) -> str:
    """The report as the ledger keeps it: a million of them must fit, so zeros and long lists are left out."""
    value = report.as_json()
    mailboxes = []
    for mailbox in value["mailboxes"]:
        kept = {key: entry for key, entry in mailbox.items() if entry}
        for name in ("refused", "too_large"):
            if name in kept:
                kept[name], kept[f"{name}_in_all"] = kept[name][:_LISTED], len(kept[name])
        mailboxes.append(kept)
    value["mailboxes"] = mailboxes
    value["problems"] = value["problems"][:_LISTED]
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def outcome_of(report: Report) -> Outcome:
    """What a copy that ran to its end came to. Refused messages stay listed; a held mailbox needs a person."""
    outcome = Outcome(Ending.DONE, "", counts_of(report), render_report(report))
    held = [f"{mailbox.source}: {mailbox.held}" for mailbox in report.mailboxes if mailbox.held]
    if held:
        return replace(outcome, ending=Ending.HOLD, reason="; ".join(held))
    if report.postponed:
        return replace(outcome, ending=Ending.POSTPONE, reason="; ".join(report.postponed))
    return outcome
