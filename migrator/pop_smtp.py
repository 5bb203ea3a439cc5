"""The target's side of a copy by SMTP: the recipient, a connection, and a message in the form in which it is sent."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from migrator.oddities import Scanner
from migrator.options import CopyOptions
from migrator.pop_source import Spooled
from migrator.repair import Rung, ladder
from migrator.rewrite import Rewritten, rewrite
from migrator.session import Surroundings
from migrator.uidl_marks import UidlMark
from wire.endpoint import Endpoint, TlsPolicy
from wire.outcome import MessageRefused, Temporary
from wire.smtp import SmtpClient
from wire.smtp_convoy import COMMAND_PATIENCE, MESSAGE_PATIENCE, Convoy, Parcel

RESTS: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # seconds after each 4xx in a row: a limit on mail slows us
_NOT_THE_FORM: Final = ("552", "523", "5.2.", "5.3.", "5.7.")  # a full mailbox, a size, a policy (RFC 3463)


@dataclass(frozen=True, slots=True)
class Submission:
    """Where the messages go."""

    endpoint: Endpoint
    recipient: str
    tls: TlsPolicy

    @property
    def label(self) -> str:
        """For reports and the key of marks."""
        return f"{self.endpoint} {self.recipient}"


@dataclass(slots=True, eq=False)
class Sending:
    """One message from its intent to its answer, whole or in another form after a refusal."""

    order: int
    key: bytes
    message: Spooled
    before: UidlMark | None  # what stood there before the intent
    tries: int = 0  # how often the server said "later" in a row
    copied: int = 0  # how many had been accepted when it said so first
    reasons: list[str] = field(default_factory=list)  # the server's words to each form
    form: Rung | None = None
    _changed: Rewritten | None = None
    _steps: deque[Rung] | None = None

    @property
    def parcel(self) -> Parcel:
        """As it is to be sent now."""
        content = self._changed or self.message
        return Parcel(content.size, content.chunks)

    async def change(self, refusal: MessageRefused) -> bool:
        """Take the next form that a target may like better than the one it has refused; False if there is none.

        Only what is odd about a message is mended. A clean one was refused for what it says, and so was one that a
        policy or a limit is against: it is not wrapped to slip through.
        """
        self.reasons.append(f"{self.form.sentence}: {refusal.text}" if self.form else refusal.text)
        if self._steps is None:
            odd = await _oddities(self.message)
            self._steps = deque(ladder(odd) if odd else ())
        if not self._steps or refusal.code.startswith(_NOT_THE_FORM):
            return False
        self._drop_changed()
        self.form = self._steps.popleft()
        self._changed = await rewrite(self.message.chunks(), self.form.transformer())
        return True

    def close(self) -> None:
        """Give the room back."""
        self._drop_changed()
        self.message.close()

    def _drop_changed(self) -> None:
        if self._changed is not None:
            self._changed.close()
            self._changed = None


def close_all(sendings: Iterable[Sending]) -> None:
    """Give the room of all of them back."""
    for sending in sendings:
        sending.close()


async def _oddities(message: Spooled) -> frozenset[str]:
    scanner = Scanner()
    async for chunk in message.chunks():
        scanner.feed(chunk)
    return scanner.finish()


async def connect(target: Submission, options: CopyOptions, around: Surroundings) -> Convoy:
    """A connection; a server that says "later" is waited for. Temporary when it goes on saying so, or is not there."""
    for rest in (*RESTS, None):
        deadline = asyncio.get_running_loop().time() + options.timeout
        try:
            client = await SmtpClient.connect(target.endpoint, target.tls, helo=_own_name(), deadline=deadline)
        except Temporary as trouble:
            if rest is None or not trouble.code.startswith("4"):
                raise
            await around.sleep(rest)
            continue
        convoy = Convoy(client, "", target.recipient)
        convoy.command_patience = max(options.timeout, COMMAND_PATIENCE)
        convoy.message_patience = max(options.timeout, MESSAGE_PATIENCE)
        return convoy
    raise AssertionError("unreachable: the last attempt returns or raises")


def _own_name() -> str:
    name = socket.gethostname()
    return name if name and all(c.isascii() and (c.isalnum() or c in ".-") for c in name) else "localhost"
