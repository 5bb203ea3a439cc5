"""A mailbox of varied mail, the same in every run: written as a Maildir, read back and compared by digest."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.servers.corpus import stored_form
from tests.servers.raw_imap import RawImap, Stored

MAILBOXES = {"INBOX": 0.55, "Sent": 0.25, "Archive.2009": 0.15, "Lists.dev": 0.05}  # shares of the messages
KEYWORDS = ("$Forwarded", "$MDNSent", "NonJunk", "Urlaub2009")
_WORDS = (
    "mailbox",
    "wörter",
    "числа",
    "言葉",
    "quarterly",
    "re-sent",
    "Grüße",
    "draft",
    "report",
    "invoice",
    "the",
    "of",
)


@dataclass(frozen=True, slots=True)
class Letter:
    """One message as it lies in the source."""

    mailbox: str
    content: bytes
    flags: str  # of Maildir: capitals are system flags, a to d the keywords
    when: datetime


def generated(count: int, seed: int = 7) -> Iterator[Letter]:
    """`count` messages: sizes as in real mail (most under 8 KB, some of hundreds), two or three odd ones in 100."""
    draw = random.Random(seed)
    for number in range(count):
        mailbox = draw.choices([*MAILBOXES], [*MAILBOXES.values()])[0]
        flags = "".join(
            sorted(flag for flag, chance in zip("FRSTabcd", _CHANCES, strict=True) if draw.random() < chance)
        )
        when = datetime(2004, 1, 1, tzinfo=UTC) + timedelta(seconds=draw.randrange(20 * 365 * 86400))
        yield Letter(mailbox, _content(number, draw), flags.replace("T", ""), when)


_CHANCES = (0.05, 0.2, 0.8, 0.0, 0.1, 0.05, 0.1, 0.02)


def _content(number: int, draw: random.Random) -> bytes:
    identity = f"Message-ID: <{number % 95 if draw.random() < 0.035 else number}@elsewhere.test>\r\n"
    if draw.random() < 0.044:
        identity = ""
    received = "".join(
        f"Received: from mx{n}.elsewhere.test by h{n} id {draw.randrange(1 << 40):x}\r\n" for n in range(4)
    )
    subject = "_".join(draw.choices(_WORDS, k=5)).encode()
    head = (
        f"{received}From: sender{draw.randrange(500)} <s{number}@elsewhere.test>\r\nTo: user@old.test\r\n"
        f"Subject: =?utf-8?B?{base64.b64encode(subject).decode()}?= {number}\r\n"
        f"Date: Fri, 13 Feb 2009 23:31:{number % 60:02} +0000\r\n{identity}MIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    size = int(min(draw.lognormvariate(8.0, 1.35), 600_000))
    line = (" ".join(draw.choices(_WORDS, k=9)) + f" {number}\r\n").encode()
    body = (line * (size // len(line) + 1))[:size].rstrip(b"\r") + b"\r\n"
    content = head.encode() + body
    oddity = draw.random()
    if oddity < 0.005:
        return content + b"bare\rcarriage return\r\n"
    if oddity < 0.010:
        return content + b"two\r\r\nof them\r\n"
    if oddity < 0.015:
        return content + b"x" * 5000 + b"\r\n"
    if oddity < 0.020:
        return content.replace(b"Subject: ", b"Subject: Gr\xfc\xdfe ", 1)
    if oddity < 0.025:
        return b"only a body, number %d\r\n" % number
    if oddity < 0.027:
        return content + b"a bare\nline feed\r\n"
    return content


def from_corpus(directory: Path, count: int) -> Iterator[Letter]:
    """The .eml files of a directory, again and again, in place of generated messages."""
    contents = [path.read_bytes() for path in sorted(directory.glob("*.eml"))]
    contents = [content for content in contents if content and b"\0" not in content]
    for number, letter in enumerate(generated(count)):
        content = re.sub(rb"(?<!\r)\n", b"\r\n", contents[number % len(contents)])
        yield Letter(letter.mailbox, content, letter.flags, letter.when)


def write_maildir(
    home: Path, letters: Sequence[Letter], owner: tuple[int, int], mailboxes: Iterable[str] = MAILBOXES
) -> None:
    """Put the messages into the Maildir of one user, as Dovecot's own files."""
    root = home / "Maildir"
    for mailbox in mailboxes:
        directory = root if mailbox == "INBOX" else root / f".{mailbox}"
        for part in ("cur", "new", "tmp"):
            (directory / part).mkdir(parents=True, exist_ok=True)
        (directory / "dovecot-keywords").write_text("".join(f"{n} {word}\n" for n, word in enumerate(KEYWORDS)))
    for number, letter in enumerate(letters):
        directory = root if letter.mailbox == "INBOX" else root / f".{letter.mailbox}"
        size = len(letter.content)
        wire = size + len(re.findall(rb"(?<!\r)\n", letter.content))  # as Dovecot will show it: bare LF as CRLF
        path = directory / "cur" / f"{1_000_000_000 + number}.M{number}.bench,S={size},W={wire}:2,{letter.flags}"
        path.write_bytes(letter.content)
        stamp = letter.when.timestamp()
        os.utime(path, (stamp, stamp))
    for path in (home, *home.rglob("*")):
        os.chown(path, *owner)


Seen = tuple[str, str, str, datetime]  # mailbox, digest, flags as in a Maildir, INTERNALDATE


def expected(letters: Sequence[Letter]) -> Counter[Seen]:
    """What is in a mailbox with these messages when each was stored by Dovecot's APPEND."""
    return Counter(
        (letter.mailbox, _digest(letter.content), "".join(sorted(letter.flags)), letter.when) for letter in letters
    )


def stored(
    host: str, port: int, login: str, password: bytes, mailboxes: Iterable[str] = MAILBOXES
) -> dict[str, list[Stored]]:
    """Every message of the mailboxes."""
    with RawImap(host, port, login, password) as raw:
        there = raw.mailboxes()
        return {name: raw.messages(name.encode()) if name.encode() in there else [] for name in mailboxes}


def arrived(
    host: str,
    port: int,
    login: str,
    password: bytes,
    *,
    mailboxes: Iterable[str] = MAILBOXES,
    without: bytes = b"",
) -> Counter[Seen]:
    """What is in a server, as `expected` has it; `without` is a header that a program adds (bytes of its name)."""
    return Counter(
        (name, _digest(_drop(message.content, without)), _letters(message.flags), _date(message.internal_date))
        for name, messages in stored(host, port, login, password, mailboxes).items()
        for message in messages
    )


def contents(seen: Counter[Seen]) -> Counter[tuple[str, str]]:
    """The mailboxes and digests alone."""
    found: Counter[tuple[str, str]] = Counter()
    for (mailbox, digest, _, _), count in seen.items():
        found[mailbox, digest] += count
    return found


_FLAGS = {rb"\Flagged": "F", rb"\Answered": "R", rb"\Seen": "S", rb"\Deleted": "T", rb"\Draft": "D"} | {
    word.encode(): letter for word, letter in zip(KEYWORDS, "abcd", strict=True)
}


def _letters(flags: frozenset[bytes]) -> str:
    return "".join(sorted(_FLAGS.get(flag, "?") for flag in flags))


def _date(text: bytes) -> datetime:
    return datetime.strptime(text.decode().strip(), "%d-%b-%Y %H:%M:%S %z")


def _drop(content: bytes, name: bytes) -> bytes:
    return re.sub(rb"(?m)^" + re.escape(name) + rb": [^\r\n]*\r?\n", b"", content, count=1) if name else content


def _digest(content: bytes) -> str:
    return hashlib.sha256(stored_form(content)).hexdigest()
