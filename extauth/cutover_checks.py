"""What `extauth cutover` asks servers: who greets at a port, whether a test account can log in, send and receive."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from wire.endpoint import Endpoint, TlsPolicy
from wire.imap.client import ImapClient
from wire.outcome import Answer, Trouble, Verdict, clean_reason
from wire.pop3 import Pop3Client
from wire.secret import Secret
from wire.smtp import SmtpClient
from wire.stream import Stream

TURN: Final = 10.0  # seconds for each dialogue
_ARRIVES: Final = 30.0  # seconds until a message that was taken must be seen
_POLL: Final = 0.5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `good` is None where only a person can judge it."""

    good: bool | None
    text: str


async def greeting(endpoint: Endpoint, tls: TlsPolicy) -> str:
    """The first line that a server says. Raises Trouble when there is none."""
    stream = await Stream.open(endpoint, tls, deadline=_deadline())
    with closing(stream):
        return clean_reason(await stream.read_line())


async def is_communigate(endpoint: Endpoint, tls: TlsPolicy) -> Finding:
    """Whether CommuniGate Pro greets there."""
    try:
        said = await greeting(endpoint, tls)
    except Trouble as trouble:
        return Finding(False, f"{endpoint}: nobody answers ({trouble})")
    ours = "communigate" in said.lower()
    return Finding(ours, f"{endpoint}: " + ("CommuniGate Pro answers" if ours else f"another server answers: {said}"))


async def answers(endpoint: Endpoint, tls: TlsPolicy) -> Finding:
    """Whether an old server still answers; whether it should is for a person to say."""
    try:
        await greeting(endpoint, tls)
    except Trouble:
        return Finding(None, f"{endpoint}: nobody answers there")
    return Finding(None, f"{endpoint}: still answers")


async def logs_in(endpoint: Endpoint, tls: TlsPolicy, address: str, password: Secret) -> Finding:
    """A login by IMAP or POP."""
    try:
        answer = await _log_in(endpoint, tls, address, password)
    except Trouble as trouble:
        return Finding(False, f"{endpoint}: {address} cannot log in: {trouble}")
    if answer.verdict is Verdict.YES:
        return Finding(True, f"{endpoint}: {address} logs in")
    return Finding(False, f"{endpoint}: {address} cannot log in: {answer.reason}")


async def _log_in(endpoint: Endpoint, tls: TlsPolicy, address: str, password: Secret) -> Answer:
    if endpoint.protocol == "pop3":
        pop = await Pop3Client.connect(endpoint, tls, deadline=_deadline())
        with closing(pop):
            return await pop.login(address.encode(), password)
    imap = await ImapClient.connect(endpoint, tls, deadline=_deadline())
    with closing(imap):
        return await imap.login(address.encode(), password)


async def mail_arrives(
    smtp: Endpoint,
    imap: Endpoint,
    tls: TlsPolicy,
    ends: tuple[str, str],
    password: Secret,
    *,
    patience: float = _ARRIVES,
) -> Finding:
    """A message from one test account to another, by SMTP, seen in its INBOX by IMAP."""
    sender, recipient = ends
    token = secrets.token_hex(8)
    content = (
        f"From: {sender}\r\nTo: {recipient}\r\nSubject: test {token}\r\nMessage-ID: <{token}@extauth>\r\n"
        "Auto-Submitted: auto-generated\r\n\r\nA test message of a migration; it may be deleted.\r\n"
    ).encode()
    way = f"mail from {sender} to {recipient}"
    try:
        client = await SmtpClient.connect(smtp, tls, helo=socket.gethostname(), deadline=_deadline())
        with closing(client):
            await client.send(sender, [recipient], _one(content))
            await client.quit()
        inbox = await ImapClient.connect(imap, tls, deadline=_deadline() + patience)
        with closing(inbox):
            answer = await inbox.login(recipient.encode(), password)
            if answer.verdict is not Verdict.YES:
                return Finding(False, f"{imap}: {recipient} cannot log in: {answer.reason}")
            found = await _seen(inbox, f'HEADER Message-ID "{token}"'.encode(), patience)
    except Trouble as trouble:
        return Finding(False, f"{smtp}: {way}: {trouble}")
    return Finding(
        found, f"{smtp}: {way} " + ("arrives" if found else f"was taken, and has not come in {patience:.0f} s")
    )


async def _seen(inbox: ImapClient, criteria: bytes, patience: float) -> bool:
    loop = asyncio.get_running_loop()
    until = loop.time() + patience
    await inbox.examine(b"INBOX")
    while not await inbox.fresh_uid_search(criteria):
        if loop.time() > until:
            return False
        await asyncio.sleep(_POLL)
    return True


async def _one(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _deadline() -> float:
    return asyncio.get_running_loop().time() + TURN
