"""Mailbox files as a source of a copy: what an IMAP server would answer about them, without one.

A copy asks its source the same questions wherever the mail lies; here they are answered from an mbox or a Maildir. The
files are only ever read. A mailbox that is rewritten while it is read ends the run as a lost connection does: the next
attempt reads it anew, and goes on by what each message is known by.
"""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from migrator.file_uids import FileUids, UidRecord
from migrator.mail_files import (
    FilePlace,
    Mailboxes,
    Stored,
    date_of,
    list_mailboxes,
    list_subscribed,
    read_content,
    read_mailbox,
    size_of,
)
from migrator.maildir import MaildirGone
from migrator.mbox_file import MboxChanged, MboxLocked, NotAnMbox
from migrator.wire_form import HEADER_LIMIT, read_fields, split_header
from wire.imap.client import ImapClient
from wire.imap.listing import Survey
from wire.imap.results import Listed, Namespaces, Selected, Summary
from wire.imap.transfer import Body, Fetcher
from wire.outcome import MailboxUnavailable, SetupTrouble, Temporary

_PIECE: Final = 65536
_LARGE: Final = 4 << 20  # bytes that are read in ten milliseconds or so
_FOR_GOOD: Final = frozenset({errno.ELOOP, errno.EINVAL, errno.EACCES, errno.EPERM})
_POLL: Final = 0.25  # seconds between looks at a locked mbox
_PATIENCE: Final = 40  # looks


@dataclass(frozen=True, slots=True)
class MailFiles:
    """A source in files. The numbers of its messages are kept in `directory`; a dry run writes none (`writing`)."""

    place: FilePlace
    directory: Path
    writing: bool = True

    def open(self) -> FileClient:
        """In place of a connection. SetupTrouble where it cannot be read."""
        return FileClient(self.place, UidRecord(self.directory, str(self.place), writing=self.writing))


class FileClient(ImapClient):
    """One account's files in place of a server. Opened by `MailFiles`; nothing is asked of any network."""

    def __init__(self, place: FilePlace, record: UidRecord) -> None:
        self.place = place
        self.preauth = False
        self.greeting = ""
        self._record = record
        self._found = self._look()
        self._path = Path()
        self._messages: dict[int, Stored] = {}
        self._uids = FileUids(0)

    @property
    def capabilities(self) -> frozenset[str]:
        """Nothing beyond what every server has."""
        return frozenset()

    @property
    def deadline(self) -> float | None:
        """Files keep nobody waiting."""
        return None

    @deadline.setter
    def deadline(self, value: float | None) -> None:
        pass

    @property
    def progress_timeout(self) -> float | None:
        """The same."""
        return None

    @progress_timeout.setter
    def progress_timeout(self, seconds: float | None) -> None:
        pass

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Files that are no mailboxes, and why."""
        return self._found.skipped

    async def noop(self) -> None:
        """Nothing."""

    async def logout(self, *, wait: bool = False) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing: no file is open between two questions."""

    # What there is ------------------------------------------------------------------------------------------------

    def _look(self) -> Mailboxes:
        try:
            return list_mailboxes(self.place)
        except OSError as error:
            raise SetupTrouble(f"{self.place}: {error.strerror}: {error.filename}") from None

    async def survey(self, pattern: bytes = b"*", *, reference: bytes = b"", subscribed: bool = False) -> Survey:
        """The mailboxes, and the file of subscriptions."""
        listed = await self.list_mailboxes(pattern, reference=reference)
        return Survey(listed, None, await self.list_mailboxes(subscribed=True) if subscribed else None)

    async def list_mailboxes(
        self, pattern: bytes = b"*", *, reference: bytes = b"", subscribed: bool = False
    ) -> list[Listed]:
        """By name; `*` and `%` stand for what they do in LIST (RFC 3501 6.3.8)."""
        names = list_subscribed(self.place) if subscribed else list(self._found.paths)
        separator = self._found.separator
        return [
            Listed(name, separator, frozenset()) for name in names if _matches(name, reference + pattern, separator)
        ]

    async def namespaces(self) -> Namespaces | None:
        """None."""
        return None

    async def status_many(self, mailboxes: Iterable[bytes], items: Sequence[str]) -> dict[bytes, dict[str, int]]:
        """Of none: each is looked at anew."""
        return {}

    # One mailbox --------------------------------------------------------------------------------------------------

    async def open_with_uids(self, mailbox: bytes, *, writing: bool = False) -> tuple[Selected, list[int]]:
        """Read which messages there are, and give them their numbers, which are on disk then."""
        path = self._found.paths.get(mailbox)
        if path is None:
            raise MailboxUnavailable(f"{self.place}: no such mailbox")
        try:
            stored = await self._read(path)
            uids = self._record.uids(mailbox, [message.identity for message in stored])
        except NotAnMbox:
            raise MailboxUnavailable(f"{path}: no mbox: it does not begin with `From `") from None
        except OSError as error:
            raise MailboxUnavailable(f"{error.filename or path}: {error.strerror}") from None
        self._path, self._uids = path, uids
        self._messages = {uids.numbers[message.identity]: message for message in stored}
        flags = frozenset(flag.decode("utf-8", "backslashreplace").lower() for one in stored for flag in one.flags)
        selected = Selected(len(stored), uids.uidvalidity, uids.next, flags, flags, True, True, None)
        return selected, sorted(self._messages)

    async def _read(self, path: Path) -> list[Stored]:
        for _ in range(_PATIENCE):
            with suppress(MboxLocked):
                return await asyncio.to_thread(read_mailbox, self.place, path)
            await asyncio.sleep(_POLL)
        raise Temporary(f"{path}: another program is writing to it", code="in use")

    async def open_with_summaries(
        self, mailbox: bytes, highest: int, *, writing: bool = False
    ) -> tuple[Selected, list[int], dict[int, Summary] | None]:
        """The same; summaries are asked for when they are needed."""
        return (*await self.open_with_uids(mailbox), None)

    async def examine(self, mailbox: bytes) -> Selected:
        """Open it."""
        return (await self.open_with_uids(mailbox))[0]

    async def select(self, mailbox: bytes) -> Selected:
        """Never: nothing is written."""
        raise MailboxUnavailable(f"{self.place}: these files are only read")

    async def uid_search(self, criteria: bytes = b"ALL") -> list[int]:
        """All of them."""
        return sorted(self._messages)

    async def fetch_summaries(self, uids: bytes = b"1:*") -> list[Summary]:
        """Flags, date and about the size; what is gone is left out."""
        return [summary for uid in _numbers(uids, self._uids.next) if (summary := self._summary(uid)) is not None]

    def _summary(self, uid: int) -> Summary | None:
        message = self._messages.get(uid)
        if message is None:
            return None
        try:
            return Summary(uid, message.flags, date_of(message), size_of(message))
        except (MaildirGone, OSError):
            return None

    async def fetch_flags(self, uids: bytes = b"1:*", *, changed_since: int = 0) -> dict[int, frozenset[bytes]]:
        """As the mailbox was opened."""
        numbers = _numbers(uids, self._uids.next)
        return {uid: frozenset(self._messages[uid].flags) for uid in numbers if uid in self._messages}

    async def fetch_headers(self, uids: Iterable[int], fields: Sequence[str]) -> dict[int, bytes]:
        """The named fields of each message, raw."""
        wanted = {field.lower().encode("ascii") for field in fields}
        found = {}
        for uid in uids:
            try:
                header = split_header(self._beginning(uid))[0]
            except (KeyError, MaildirGone, OSError):
                continue
            found[uid] = b"".join(text for name, text in read_fields(header) if name in wanted) + b"\r\n"
        return found

    async def fetch_outlines(
        self, uids: Sequence[int], fields: Sequence[str]
    ) -> tuple[dict[int, bytes], list[Summary]]:
        """Headers and summaries."""
        summaries = [summary for uid in uids if (summary := self._summary(uid)) is not None]
        return await self.fetch_headers(uids, fields), summaries

    def _beginning(self, uid: int) -> bytes:
        """Enough of a message to hold its header."""
        content = bytearray()
        for piece in self.content(uid):
            content += piece
            if len(content) >= HEADER_LIMIT:
                break
        return bytes(content)

    def is_large(self, uid: int) -> bool:
        """Whether reading it takes a while."""
        summary = self._summary(uid)
        return summary is not None and summary.size > _LARGE

    def content(self, uid: int) -> Iterator[bytes]:
        """A message as IMAP shows it, in pieces. KeyError, MaildirGone, MboxChanged, OSError."""
        return read_content(self._path, self._messages[uid])

    def fetcher(
        self,
        uids: Iterable[int],
        *,
        item: bytes = b"BODY.PEEK[]",
        window: int = 1,
        group: int = 1,
        whole: int = 0,
        lenient: bool = False,
    ) -> Fetcher:
        """Whole messages, in order."""
        return FileFetcher(self, uids, whole)


class FileFetcher(Fetcher):
    """Messages out of files, as a Fetcher gives them."""

    def __init__(self, client: FileClient, uids: Iterable[int], whole: int) -> None:
        self._client = client
        self._uids = list(dict.fromkeys(uids))
        self._limit = whole
        self._at = 0

    @property
    def next_due(self) -> int:
        """The message that is being read; 0 if none is."""
        return self._at

    async def bodies(self) -> AsyncGenerator[Body, None]:
        """Each message in turn. Temporary where the file was rewritten."""
        for uid in self._uids:
            self._at = uid
            # measuring a large message takes a while, in which the target must be heard
            yield await asyncio.to_thread(self._body, uid) if self._client.is_large(uid) else self._body(uid)
            await asyncio.sleep(0)  # the target's replies are read meanwhile
        self._at = 0

    def _body(self, uid: int) -> Body:
        content = bytearray()
        size = 0
        try:
            for piece in self._client.content(uid):
                size += len(piece)
                if size <= self._limit:
                    content += piece
        except (KeyError, MaildirGone):
            return Body(uid, None, _pieces(iter(())))
        except MboxChanged:
            raise _changed(self._client) from None
        except OSError as error:
            reason = f"{error.filename or self._client.place}: {error.strerror}"
            return Body(uid, None, _pieces(iter(())), reason, later=error.errno not in _FOR_GOOD)
        if size <= self._limit:
            return Body(uid, size, _pieces(iter((bytes(content),))), content=bytes(content))
        return Body(uid, size, self._stream(uid, size))

    async def _stream(self, uid: int, size: int) -> AsyncGenerator[bytes, None]:
        """A large message, which has just been measured; no more and no less than that is given."""
        given = 0
        try:
            for piece in self._client.content(uid):
                for start in range(0, len(piece), _PIECE):
                    part = piece[start : start + _PIECE]
                    given += len(part)
                    if given > size:
                        raise _changed(self._client)
                    yield part
                    await asyncio.sleep(0)
        except (KeyError, MaildirGone, MboxChanged, OSError):
            raise _changed(self._client) from None
        if given != size:
            raise _changed(self._client)


def _changed(client: FileClient) -> Temporary:
    return Temporary(f"{client.place}: a mailbox was changed by another program while it was read")


async def _pieces(content: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    for piece in content:
        yield piece


def _numbers(uids: bytes, following: int) -> Iterator[int]:
    """The numbers of a UID set."""
    for part in uids.split(b","):
        first, _, last = part.partition(b":")
        yield from range(int(first), (following if last == b"*" else int(last or first) + 1))


def _matches(name: bytes, pattern: bytes, separator: bytes) -> bool:
    """Whether a name fits a LIST pattern."""
    words = {b"*": b".*", b"%": b"[^" + re.escape(separator) + b"]*"}
    text = b"".join(words.get(bytes([byte]), re.escape(bytes([byte]))) for byte in pattern)
    return re.fullmatch(text, name, re.DOTALL) is not None
