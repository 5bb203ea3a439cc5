"""How an account is reached, and a logged-in session for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential, wait_random

from migrator.report import SourceRefused, TargetRefused
from wire.endpoint import Endpoint, TlsPolicy
from wire.imap.client import ImapClient
from wire.imap.encoder import Text
from wire.outcome import Answer, Permanent, Scope, SetupTrouble, Temporary, Unreachable, Verdict
from wire.rate import RateLimit
from wire.secret import Secret

if TYPE_CHECKING:
    from migrator.file_source import MailFiles
    from wire.pop3 import Pop3Client

_CHECKED: Final = TlsPolicy()
_ATTEMPTS: Final = 3  # to connect: a server that restarts is back within a second or two, else the job is postponed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Access:
    """One account at one server. `prefix` is put before every mailbox name (`~account/` for an administrator)."""

    endpoint: Endpoint
    login: bytes
    password: Secret
    tls: TlsPolicy = _CHECKED
    authzid: bytes = b""
    prefix: bytes = b""
    apop: bool = False  # at POP: prove the password by APOP
    preauth: bool = False  # a greeting of PREAUTH is taken as a login; elsewhere it is none
    proxy: bytes = b""  # the account to become by PROXYAUTH after an administrator's login
    files: MailFiles | None = None  # mailbox files in place of a server, as a source

    @property
    def label(self) -> str:
        """Endpoint and login for reports and for the key of marks; no secret."""
        if self.files is not None:
            return str(self.files.place)
        login = (self.proxy or self.authzid or self.login).decode("utf-8", "backslashreplace")
        prefix = self.prefix.decode("utf-8", "backslashreplace")
        return f"{self.endpoint} {login}" + (f" {prefix}" if prefix else "")

    @property
    def account(self) -> str:
        """Whose mailboxes these are, whoever logs in for them."""
        return (self.prefix.strip(b"~/") or self.authzid or self.login).decode("utf-8", "backslashreplace")


async def connect_patiently(connect: Callable[[], Awaitable[T]]) -> T:
    """What `connect` gives, tried a few times while nobody answers the door.

    Only Unreachable is tried again: once a server has said a word, its word counts; a login is never repeated.
    `connect` keeps one deadline over all its attempts.
    """
    attempts = AsyncRetrying(
        retry=retry_if_exception_type(Unreachable),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_exponential(multiplier=0.2, max=1.0) + wait_random(0.0, 0.1),
        reraise=True,
    )
    async for attempt in attempts:
        with attempt:
            return await connect()
    raise AssertionError("unreachable: the last attempt returns or raises")


@lru_cache(maxsize=1000)  # old servers of one process; one that is forgotten begins anew
def limit_of(host: str, rate: int) -> RateLimit:
    """The limit that all copies of this process from one old server share."""
    return RateLimit(rate)


async def open_pop(access: Access, *, timeout: float, rate: int = 0) -> Pop3Client:
    """Connect to a POP server and log in, one attempt. Raises what `open_imap` raises for a source."""
    from wire.pop3 import Pop3Client  # noqa: PLC0415 - most programs never speak POP

    deadline = asyncio.get_running_loop().time() + timeout
    client = await connect_patiently(lambda: Pop3Client.connect(access.endpoint, access.tls, deadline=deadline))
    try:
        _require_yes(await client.login(access.login, access.password, apop=access.apop), access, source=True)
        if rate:
            client.stream.keep_to(limit_of(access.endpoint.host, rate))
    except BaseException:
        client.close()
        raise
    return client


async def open_imap(
    access: Access, *, source: bool, timeout: float, rate: int = 0, compress: bool = False
) -> ImapClient:
    """Connect and log in, one attempt. With `rate`, nothing comes faster; with `compress`, packed where offered.

    SourceRefused or TargetRefused when the server said no to these credentials; SetupTrouble for what no retry
    mends; Temporary for everything unclear, and where nobody answers.
    """
    if access.files is not None:
        return access.files.open()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    client = await connect_patiently(lambda: ImapClient.connect(access.endpoint, access.tls, deadline=deadline))
    try:
        client.deadline = loop.time() + timeout
        if not (access.preauth and await client.adopt()):
            answer = await client.login(access.login, access.password, authzid=access.authzid)
            _require_yes(answer, access, source=source)
        if access.proxy:
            await _become(client, access)
        if compress:
            await client.compress()
        if rate:
            client.stream.keep_to(limit_of(access.endpoint.host, rate))
    except BaseException:
        client.close()
        raise
    return client


async def open_both(
    source: Access,
    target: Access,
    *,
    timeout: float,
    rate: int,
    compress: bool,
    logged_in: Callable[[str], None],
) -> tuple[ImapClient, ImapClient]:
    """Connections and logins at both ends, each without waiting for the other's.

    What is wrong with the source is raised before what is wrong with the target. `logged_in` hears of each login.
    """
    opening = [
        asyncio.ensure_future(open_imap(source, source=True, timeout=timeout, rate=rate, compress=compress)),
        asyncio.ensure_future(open_imap(target, source=False, timeout=timeout, compress=compress)),
    ]
    try:
        old = await opening[0]
        logged_in("source: logged in")
        new = await opening[1]
        logged_in("target: logged in")
    except BaseException:
        for task in opening:
            task.cancel()
        for client in await asyncio.gather(*opening, return_exceptions=True):
            if isinstance(client, ImapClient):
                client.close()
        raise
    return old, new


def _require_yes(answer: Answer, access: Access, *, source: bool) -> None:
    if answer.verdict is Verdict.NO:
        raise (SourceRefused if source else TargetRefused)(f"{access.endpoint}: login refused: {answer.reason}")
    if answer.verdict is not Verdict.YES:
        kind = SetupTrouble if answer.scope is Scope.SETUP else Temporary
        raise kind(f"{access.endpoint}: no login now: {answer.reason}", scope=answer.scope)


async def _become(client: ImapClient, access: Access) -> None:
    try:
        await client.command(b"PROXYAUTH", Text(access.proxy))  # Netscape Messaging Server
    except Permanent as refusal:
        raise SourceRefused(f"{access.endpoint}: PROXYAUTH refused: {refusal.text}", code=refusal.code) from None
