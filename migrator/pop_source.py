"""The source's side of a copy by POP: what is there, and one message after the other in a spool.

POP never says how long a message will be, and both APPEND and a whole DATA need to know that it came to
its end: each message is spooled first, in memory while it is small, else in a file that has no name.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import IO, Final

from migrator.access import Access, open_pop
from migrator.content import ContentDigest
from migrator.report import InboxIdentity
from wire.outcome import Permanent, Temporary
from wire.pop3 import Pop3Client

_IN_MEMORY: Final = 1 << 18  # most mail is smaller; what is larger is written to disk
_PIECE: Final = 1 << 16
_WINDOW: Final = 16  # RETR commands under way where the server offers PIPELINING
_OLDEST: Final = 16


@dataclass(slots=True)
class Spooled:
    """One message, whole. `close` gives its room back."""

    number: int
    file: IO[bytes]
    size: int
    digest: bytes
    header: bytes
    mailbox_lines: bytes = b""  # header lines that the source's mailbox has put in, such as Status

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes exactly as they came, from the beginning."""
        self.file.seek(0)
        while piece := self.file.read(_PIECE):
            yield piece

    def close(self) -> None:
        """Forget the content."""
        self.file.close()


@dataclass(frozen=True, slots=True)
class Withheld:
    """A message that the source lists and does not give."""

    number: int
    reason: str


class PopSource:
    """A logged-in POP session. One thing at a time."""

    def __init__(self, client: Pop3Client, timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        self.listing: list[tuple[int, bytes]] = []  # number and UIDL, b"" where the server knows none
        self.uidls: dict[int, bytes] = {}
        self.sizes: dict[int, int] = {}  # as the server counts them: for planning only
        self.has_uidls = True
        self.broke_at = 0  # the number of the message at which the source broke off, or would not go on for now

    @classmethod
    async def open(cls, access: Access, timeout: float, rate: int = 0) -> PopSource:
        """Log in and list. Raises what `open_pop` raises."""
        source = cls(await open_pop(access, timeout=timeout, rate=rate), timeout)
        try:
            await source._list()
        except BaseException:
            source.abort()
            raise
        return source

    async def _list(self) -> None:
        self.touch()
        self.sizes = await self._client.list_sizes()
        self.uidls = dict.fromkeys(self.sizes, b"")  # a server may list messages that it has no UIDL for
        try:
            self.uidls.update(await self._client.uidl())
        except Permanent:  # UIDL is optional (RFC 1939 7), and servers say so in words of their own
            self.has_uidls = False
        self.listing = sorted(self.uidls.items())

    def name_of(self, number: int) -> str:
        """A message as a report names it."""
        return self.uidls.get(number, b"").decode("latin-1") or f"number {number}"

    @property
    def identity(self) -> InboxIdentity:
        """Of the maildrop, by its first UIDLs with their sizes (UIDLs alone may be plain numbers)."""
        first = self.listing[:_OLDEST] if self.has_uidls else []
        return InboxIdentity(0, tuple(f"{uidl.decode('latin-1')} {self.sizes.get(number)}" for number, uidl in first))

    async def last(self) -> int:
        """The highest number that was ever fetched (LAST, RFC 1460); 0 where the server does not tell."""
        self.touch()
        try:
            return await self._client.last()
        except Permanent:
            return 0

    def touch(self) -> None:
        """Something went on: the time-out begins anew."""
        self._client.deadline = asyncio.get_running_loop().time() + self._timeout

    async def messages(self, numbers: Sequence[int]) -> AsyncGenerator[Spooled | Withheld, None]:
        """Each message in turn, whole. Whoever takes a Spooled closes it. Temporary when the connection is lost."""
        self.touch()
        window = _WINDOW if "PIPELINING" in await self._client.capabilities() else 1
        due = deque(numbers)
        try:
            async with aclosing(self._retrieve(numbers, window)) as messages:
                async for message in messages:
                    due.remove(message.number)
                    yield message
                    self.touch()
        except Temporary:
            self.broke_at = due[0] if due else 0
            raise

    async def _retrieve(self, numbers: Sequence[int], window: int) -> AsyncGenerator[Spooled | Withheld, None]:
        async with aclosing(self._client.retrieve(numbers, window=window)) as messages:
            async for message in messages:
                self.touch()
                if isinstance(message.refusal, Temporary):
                    raise message.refusal
                if message.refusal is not None:
                    yield Withheld(message.number, f"the source does not give it: {message.refusal.text}")
                    continue
                yield await self._spool(message.number, message.chunks)

    async def _spool(self, number: int, chunks: AsyncGenerator[bytes, None]) -> Spooled:
        file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - it lives as long as the Spooled
        content = ContentDigest()
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    self.touch()
                    content.feed(chunk)
                    file.write(chunk)
        except BaseException:
            file.close()
            raise
        return Spooled(number, file, content.size, content.digest(), content.header, content.left_out)

    async def delete(self, numbers: Sequence[int]) -> int:
        """Delete these and end the session, for only QUIT deletes. How many; Temporary if nothing is sure."""
        deleted = 0
        for number in numbers:
            self.touch()
            try:
                await self._client.dele(number)
                deleted += 1
            except Permanent:
                continue  # it stays at the source, which is always safe
        self.touch()
        await self._client.quit()
        return deleted

    async def close(self) -> None:
        """End the session without deleting; what the server makes of it is of no interest any more."""
        try:
            self.touch()
            await self._client.quit()
        except (Temporary, Permanent):
            self._client.close()

    def abort(self) -> None:
        """Drop the connection: nothing is deleted."""
        self._client.stream.abort()
