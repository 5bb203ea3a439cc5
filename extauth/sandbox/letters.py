"""Mail for the old server: the same seed gives the same messages, of the kinds that copies fail on. Pure."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

from extauth.sandbox.mailstore import MailStore

_EPOCH = datetime(2021, 3, 1, 8, 0, tzinfo=timezone.utc)  # noqa: UP017 - beside other fixed offsets
_WORDS = (
    "minutes", "offer", "invoice", "garden", "Friday", "budget", "train", "photo", "ticket", "review", "delivery",
    "harbour", "winter", "draft", "lunch", "keys", "project", "answer", "school", "concert", "receipt", "printer",
    "window", "meeting", "update", "holiday", "recipe", "contract", "question", "team",
)  # fmt: skip
_NAMES = ("Ann Carter", "Boris Lukin", "Chen Wei", "Dana Öztürk", "Emil Håkansson", "Fay O'Neil", "Σοφία Παππά")


@dataclass(frozen=True, slots=True)
class Letter:
    """One message with what IMAP keeps beside it."""

    data: bytes
    flags: tuple[bytes, ...]
    date: datetime


class LetterBox:
    """Writes letters to one address."""

    def __init__(self, address: str, seed: int | str, *, big: int = 200_000) -> None:
        self._address = address
        self._random = random.Random(f"{seed}/{address}")  # noqa: S311 - mail that looks random, the same each time
        self._count = 0
        self._big = big

    def letters(self, count: int) -> Iterator[Letter]:
        """`count` letters; every kind comes round."""
        for _ in range(count):
            yield self.letter()

    def letter(self, kind: str | None = None) -> Letter:
        """The next letter, of `kind` (see KINDS) or of the kind whose turn it is."""
        self._count += 1
        names = list(KINDS)
        chosen = kind or names[self._random.randrange(len(names)) if self._count > len(names) else self._count - 1]
        date = _EPOCH + timedelta(minutes=self._random.randrange(60 * 24 * 1500))
        zone = timezone(timedelta(minutes=self._random.choice((0, 60, 120, -480, 330, 765))))
        date = date.astimezone(zone).replace(second=self._random.randrange(60))
        return Letter(KINDS[chosen](self, date), self._flags(), date)

    def _flags(self) -> tuple[bytes, ...]:
        r = self._random.random
        system = ((b"\\Seen", 0.7), (b"\\Answered", 0.2), (b"\\Flagged", 0.15), (b"\\Draft", 0.03))
        keywords = ((b"$Forwarded", 0.1), (b"NonJunk", 0.1), (b"$Label2", 0.1), (b"projekt-x", 0.05))
        return tuple(flag for flag, share in (*system, *keywords) if r() < share)

    # -- the parts of a message ----------------------------------------------------------------------------------------

    def _sentence(self, words: int = 9) -> str:
        chosen = [self._random.choice(_WORDS) for _ in range(words)]
        return " ".join(chosen).capitalize() + "."

    def _text(self, lines: int = 6) -> bytes:
        return "".join(self._sentence() + "\r\n" for _ in range(lines)).encode()

    def _header(self, date: datetime, extra: Sequence[str] = (), *, message_id: str | None = "own") -> bytes:
        sender = self._random.choice(_NAMES)
        local = sender.split()[0].encode("ascii", "ignore").decode().lower() or "someone"
        shown = f"=?utf-8?b?{base64.b64encode(sender.encode()).decode()}?=" if not sender.isascii() else f'"{sender}"'
        lines = [
            f"Received: from mx.example.net by old.test; {format_datetime(date)}",
            f"From: {shown} <{local}@example.net>",
            f"To: <{self._address}>",
            f"Subject: {self._sentence(4)[:-1]} {self._count}",
            f"Date: {format_datetime(date)}",
        ]
        if message_id == "own":
            lines.append(f"Message-ID: <{self._count}.{self._random.getrandbits(48):012x}@example.net>")
        elif message_id:
            lines.append(f"Message-ID: {message_id}")
        return "\r\n".join([*lines, *extra, ""]).encode()

    # -- kinds ---------------------------------------------------------------------------------------------------------

    def plain(self, date: datetime) -> bytes:
        """Ordinary ASCII text."""
        return self._header(date) + b"\r\n" + self._text()

    def eight_bit(self, date: datetime) -> bytes:
        """Raw UTF-8 in header and body."""
        extra = ["X-Note: Grüße – žluťoučký", "MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8"]
        extra.append("Content-Transfer-Encoding: 8bit")
        return self._header(date, extra) + "\r\nGrüße aus Köln, привет, 你好\r\n".encode() + self._text(2)

    def latin_one(self, date: datetime) -> bytes:
        """Bytes that are not UTF-8, undeclared."""
        return self._header(date) + b"\r\nSch\xf6ne Gr\xfc\xdfe \xa4 \x96 \xff\r\n" + self._text(1)

    def multipart(self, date: datetime) -> bytes:
        """An attachment in base64 and HTML beside text."""
        mark = f"=_{self._random.getrandbits(64):016x}"
        extra = ["MIME-Version: 1.0", f'Content-Type: multipart/mixed; boundary="{mark}"']
        blob = base64.encodebytes(self._random.randbytes(3000)).replace(b"\n", b"\r\n")
        edge = f"--{mark}".encode()
        parts = [
            b"This is a MIME message.",
            edge + b"\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n" + self._text(2),
            edge + b"\r\nContent-Type: text/html\r\n\r\n<p>" + self._sentence().encode() + b"</p>",
            edge + b'\r\nContent-Type: application/octet-stream; name="a b.bin"\r\n'
            b"Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment\r\n\r\n" + blob,
            edge + b"--",
        ]
        return self._header(date, extra) + b"\r\n" + b"\r\n".join(parts) + b"\r\n"

    def no_id(self, date: datetime) -> bytes:
        """Without a Message-ID."""
        return self._header(date, message_id=None) + b"\r\n" + self._text(3)

    def same_id(self, date: datetime) -> bytes:
        """A Message-ID that others of this mailbox have too."""
        return self._header(date, message_id="<newsletter@example.net>") + b"\r\n" + self._text(3)

    def twin(self, date: datetime) -> bytes:
        """The very same bytes each time: two equal messages are two messages."""
        del date
        head = b"From: robot@example.net\r\nSubject: nightly report\r\nMessage-ID: <nightly@example.net>\r\n"
        return head + b"\r\nAll is well.\r\n"

    def long_lines(self, date: datetime) -> bytes:
        """Lines far beyond 998 bytes, in header and body."""
        extra = ["References: " + " ".join(f"<{n}.ref@example.net>" for n in range(150))]
        return self._header(date, extra) + b"\r\n" + b"long " * 2500 + b"\r\nend\r\n"

    def dots(self, date: datetime) -> bytes:
        """Lines that begin with dots, and lone ones."""
        return self._header(date) + b"\r\n.\r\n..\r\n.hidden\r\n...\r\n" + self._text(1) + b".\r\n"

    def empty_body(self, date: datetime) -> bytes:
        """A header and the empty line."""
        return self._header(date) + b"\r\n"

    def header_only(self, date: datetime) -> bytes:
        """A header without even the empty line behind it."""
        return self._header(date)

    def digest(self, date: datetime) -> bytes:
        """A message within a message."""
        inner = self._header(date) + b"\r\n" + self._text(1)
        return self._header(date, ["MIME-Version: 1.0", "Content-Type: message/rfc822"]) + b"\r\n" + inner

    def blank_lines(self, date: datetime) -> bytes:
        """Blank lines at the end, tabs and spaces before line ends."""
        return self._header(date) + b"\r\n\r\n \t \r\ntext \r\n\t\r\n\r\n\r\n\r\n"

    def folded(self, date: datetime) -> bytes:
        """Folded and odd header fields."""
        extra = ["X-Folded: one\r\n\ttwo\r\n  three", "X-Empty:", "X-Empty:", "CC: , <>,", "bcc : odd@example.net"]
        return self._header(date, extra) + b"\r\n" + self._text(2)

    def big(self, date: datetime) -> bytes:
        """Large."""
        line = base64.b64encode(self._random.randbytes(57)) + b"\r\n"
        return self._header(date) + b"\r\n" + line * (self._big // len(line))


KINDS: dict[str, Callable[[LetterBox, datetime], bytes]] = {
    "plain": LetterBox.plain,
    "eight_bit": LetterBox.eight_bit,
    "latin_one": LetterBox.latin_one,
    "multipart": LetterBox.multipart,
    "no_id": LetterBox.no_id,
    "same_id": LetterBox.same_id,
    "twin": LetterBox.twin,
    "long_lines": LetterBox.long_lines,
    "dots": LetterBox.dots,
    "empty_body": LetterBox.empty_body,
    "header_only": LetterBox.header_only,
    "digest": LetterBox.digest,
    "blank_lines": LetterBox.blank_lines,
    "folded": LetterBox.folded,
    "twin again": LetterBox.twin,
    "same_id again": LetterBox.same_id,
    "big": LetterBox.big,
}

MAILBOXES: tuple[tuple[str, tuple[bytes, ...], bool], ...] = (  # levels by "/", special use, subscribed
    ("Sent", (b"\\Sent",), True),
    ("Drafts", (b"\\Drafts",), True),
    ("Trash", (b"\\Trash",), False),
    ("Archive/2023/Q4", (), True),
    ("Entwürfe & Ideen", (), True),
    ("Projects/Alpha/Notes", (), False),
    ("日本語", (), True),
    ('odd "name"', (), True),
    ("empty", (), True),
)


def fill(store: MailStore, letters: LetterBox, *, inbox: int = 20, mailboxes: int = 5, each: int = 6) -> int:
    """Put mail into INBOX and the first `mailboxes` of MAILBOXES; how many messages."""
    from wire.imap.names import encode_mailbox  # noqa: PLC0415 - the one function here that needs it

    count = 0
    for letter in letters.letters(inbox):
        store.inbox.add(letter.data, letter.flags, letter.date)
        count += 1
    store.subscribe(b"INBOX")
    for name, special, subscribed in MAILBOXES[:mailboxes]:
        encoded = store.prefix + store.separator.join(encode_mailbox(level) for level in name.split("/"))
        box = store.create(encoded, special=special)
        if subscribed:
            store.subscribe(encoded)
        for letter in letters.letters(0 if name == "empty" else each):
            box.add(letter.data, letter.flags, letter.date)
            count += 1
    return count
