"""Odd messages: the same ones in every run, and real ones where a collection is at hand.

A collection is a directory of `.eml` files, named by EXTAUTH_CORPUS. Tests must hold on the generated messages alone.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Message:
    """A message as bytes, with CRLF line ends wherever a line end is meant."""

    name: str
    content: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes, as hex."""
        return hashlib.sha256(self.content).hexdigest()


def read_corpus() -> list[Message]:
    """The generated messages, then the real ones if there are any, with CRLF line ends as a server shows them."""
    return [*generated(), *_real()]


def stored_form(content: bytes) -> bytes:
    """`content` as Dovecot keeps it.

    One CR of `\\r\\r\\n` and one final lone CR go, a bare LF becomes CRLF; nothing else changes.
    """
    content = re.sub(rb"(?<!\r)\n", b"\r\n", content).replace(b"\r\r\n", b"\r\n")
    return content.removesuffix(b"\r")


def generated() -> list[Message]:
    """One message for each oddity that mail systems are known to stumble over."""
    return [Message(name, content.replace(b"~", b"\r\n")) for name, content in _oddities()]


def unsendable() -> list[Message]:
    """Messages that no server may send, and Courier does: with NUL."""
    usual = b"From: a@elsewhere.test\r\nSubject: %b\r\n\r\n%b\r\n"
    return [
        Message("nul-in-body", usual % (b"nul below", b"be\0fore")),
        Message("nul-in-header", usual % (b"n\0ul", b"body")),
    ]


def mixed(count: int, seed: int) -> list[Message]:
    """`count` plain messages that differ from each other, from `seed` alone: sizes from 200 bytes to 60 KB."""
    return [_ordinary(number, random.Random(f"{seed}/{number}")) for number in range(count)]


def spread_date(number: int) -> datetime:
    """An internal date for message `number`: past, distinct, in the order of the numbers, with odd time zones."""
    return datetime(2009, 2, 13, 23, 31, 30, tzinfo=UTC) + timedelta(hours=7 * number, seconds=number)


def _ordinary(number: int, draw: random.Random) -> Message:
    words = ["mailbox", "wörter", "числа", "言葉", "quarterly", "re-sent", "Grüße", "draft"]
    head = (
        f"From: sender{number}@elsewhere.test\r\nTo: user@old.test\r\nSubject: {draw.choice(words)} {number}\r\n"
        f"Message-ID: <{number}.{draw.randrange(10**9)}@elsewhere.test>\r\n"
        f"Date: Fri, 13 Feb 2009 23:31:{number % 60:02} +0000\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    lines = draw.choice([1, 3, 10, 40, 900])
    body = "".join(" ".join(draw.choices(words, k=6)) + "\r\n" for _ in range(lines))
    return Message(f"mixed-{number}", (head + body).encode())


def _oddities() -> Iterator[tuple[str, bytes]]:
    head = b"From: a@elsewhere.test~To: b@old.test~Date: Fri, 13 Feb 2009 23:31:30 +0000~"
    usual = head + b"Message-ID: <usual@elsewhere.test>~Subject: usual~~"
    yield "plain", usual + b"One line.~"
    yield (
        "8bit-header",
        head + b"Subject: Gr\xfc\xdfe und \xd0\xbf\xd0\xbe\xd1\x87\xd1\x82\xd0\xb0~~latin and utf-8 above~",
    )
    yield "8bit-body", usual + bytes(range(0x80, 0x100)) * 8 + b"~"
    yield "bare-cr", usual + b"before\rafter~and\r\rtwice~"
    yield "bare-lf", usual + b"before\nafter~"
    yield "cr-cr-lf", usual + b"one\r\r~two~"
    yield "long-line", usual + b"x" * 5000 + b"~" + b"y" * 998 + b"~"
    yield "long-header", head + b"Subject: " + b"s" * 3000 + b"~~body~"
    yield "folded-header", head + b"Subject: one~ two~\tthree~~body~"
    yield "no-message-id", head + b"Subject: nothing to know me by~~body~"
    yield (
        "no-message-id-twin",
        head + b"Subject: nothing to know me by~~body~",
    )  # the same bytes: two messages all the same
    yield "duplicate-id-1", head + b"Message-ID: <twice@elsewhere.test>~Subject: first~~first~"
    yield "duplicate-id-2", head + b"Message-ID: <twice@elsewhere.test>~Subject: second~~second~"
    yield "no-date", b"From: a@elsewhere.test~Subject: undated~~body~"
    yield "impossible-date", b"From: a@elsewhere.test~Date: Mon, 99 Foo 0000 99:99:99 +9999~~body~"
    yield "no-header", b"~only a body~"
    yield "header-only", head + b"Subject: no body follows~"
    yield "header-no-end", head + b"Subject: not even a line end"
    yield "not-a-header", b"this is no header line~nor is this~~body~"
    yield "from-line", b"From a@elsewhere.test Fri Feb 13 23:31:30 2009~" + usual + b"From the start of a line~"
    yield "lone-dots", usual + b".~..~...~.a~~.~"
    yield "ends-in-dot", usual + b"."
    yield "no-final-line-end", usual + b"no line end here"
    yield "empty-lines", usual + b"~" * 50
    yield "one-byte", b"x"
    yield "one-line-end", b"~"
    yield "controls", usual + bytes(range(1, 9)) + b"\x0b\x0c" + bytes(range(14, 32)) + b"\x7f~"
    yield "looks-like-imap", usual + b"* BYE~A1 OK done~)~{3}~* 1 FETCH (BODY[] {5}~"
    yield "looks-like-smtp", usual + b"QUIT~.~RSET~250 OK~"
    yield "utf-7-subject", head + b"Subject: =?utf-7?Q?+AGEA-?= =?x-unknown?B?/////?=~~body~"
    yield "many-received", b"".join(b"Received: from h%d by h%d~" % (n, n + 1) for n in range(200)) + usual + b"body~"
    yield "big", usual + b"0123456789abcdef" * 64 * 200 + b"~"
    yield "blank-in-field-name", head + b"X Foo: 1~~body~"
    yield "blank-before-colon", head + b"X-Foo : 1~~body~"
    yield "no-field-name", head + b": nameless~~body~"
    yield "8bit-field-name", head + b"X-\xc3\x84: 1~~body~"
    yield "starts-folded", b" as if of a line before~" + usual + b"body~"
    yield "blank-header-line", head + b"   ~Subject: below blanks~~body~"
    yield "bare-cr-in-header", head + b"Subject: one\rtwo~~body~"
    yield "bare-lf-in-header", head + b"Subject: one\nX-Two: 2~~body~"
    yield "escape-in-header", head + b"Subject: \x1b[31mred\x07~~body~"
    yield "never-ends-mime", head + b'MIME-Version: 1.0~Content-Type: multipart/mixed; boundary="b"~~--b~~no end~'
    yield "deep-mime", head + b"MIME-Version: 1.0~" + _nested(40)


def _nested(depth: int) -> bytes:
    if not depth:
        return b"Content-Type: text/plain~~the core~"
    mark = b"b%d" % depth
    inner = _nested(depth - 1)
    return b'Content-Type: multipart/mixed; boundary="%s"~~--%s~%s~--%s--~' % (mark, mark, inner, mark)


def _real() -> Iterator[Message]:
    directory = os.environ.get("EXTAUTH_CORPUS")
    for path in sorted(Path(directory).glob("*.eml")) if directory else ():
        content = path.read_bytes()
        if b"\0" in content or not content:
            continue  # NUL cannot travel by IMAP or POP; an empty message cannot be appended
        if b"\r\n" not in content:
            content = content.replace(b"\n", b"\r\n")
        yield Message(path.stem, content)
