"""A message that a target refuses, put whole into a new one that it takes. Pure.

The same message gives the same bytes every time: no boundary, no clock, no Message-ID. So a copy that was broken off
finds what it had stored.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Iterator
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.header import decode_header
from email.utils import format_datetime
from typing import Final

from migrator.dates import header_date
from migrator.line_ends import LineEnds

_HEADER_LIMIT: Final = 1 << 16  # looked through for Subject and Date
_BLANK: Final = re.compile(rb"(?:\A|(?>\r\r\n|\r\n|\n|\r))(?>\r\r\n|\r\n|\n|\r)")
_UNDECIDED: Final = 2  # bytes that a line end may still grow by
_LINE: Final = 57  # bytes that make a base64 line of 76
_SUBJECT: Final = re.compile(rb"^subject[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)", re.IGNORECASE | re.MULTILINE)
_SUBJECT_LIMIT: Final = 100  # characters: enough to find it by
_WORD: Final = 45  # bytes that fit an encoded word in base64 (RFC 2047 2: 75 characters)
_NO_DATE: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FAR: Final = datetime(9000, 1, 1, tzinfo=UTC)  # any date that the message gives will do


class Wrapper:
    """Wraps one message, fed in pieces of any size, as the attachment `original.eml` of a new message.

    With `base64` the original comes back byte for byte whatever it holds: NUL, bare line ends, lines of any length.
    RFC 2046 5.2.1 allows only 7bit, 8bit and binary for message/rfc822; but the first two cannot hold such a message,
    and the third is what the target has just refused. Mail programs and parsers decode it all the same, and as
    application/octet-stream nobody would see that it is mail.
    """

    def __init__(self, *, base64: bool) -> None:
        self._base64 = base64
        self._header: bytearray | None = bytearray()  # of the original, until ours has been given out
        self._rest = b""  # bytes that do not fill a base64 line yet

    def feed(self, data: bytes) -> bytes:
        """The next bytes of the message; gives what can be said of it so far."""
        if self._header is None:
            return self._encode(data)
        self._header += data
        size = len(self._header)
        blank = _BLANK.search(self._header, 0, min(size, _HEADER_LIMIT))
        if blank and blank.end() <= min(size, _HEADER_LIMIT) - _UNDECIDED:
            return self._begin(blank.start())
        return self._begin(_HEADER_LIMIT) if size >= _HEADER_LIMIT else b""

    def finish(self) -> bytes:
        """The rest, when the message has ended."""
        out = b""
        if self._header is not None:
            blank = _BLANK.search(self._header)
            out = self._begin(blank.start() if blank else len(self._header))
        return out + (_base64_line(self._rest) if self._rest else b"")

    def _begin(self, header_end: int) -> bytes:
        assert self._header is not None
        content, self._header = bytes(self._header), None
        return self._our_header(content[:header_end]) + self._encode(content)

    def _encode(self, data: bytes) -> bytes:
        if not self._base64:
            return data
        data = self._rest + data
        whole = len(data) - len(data) % _LINE
        self._rest = data[whole:]
        return b"".join(_base64_line(data[at : at + _LINE]) for at in range(0, whole, _LINE))

    def _our_header(self, original: bytes) -> bytes:
        ends = LineEnds()
        header = (ends.feed(original) + ends.finish()).replace(b"\r\n", b"\n").replace(b"\0", b" ")
        when = header_date(header, now=_FAR) or _NO_DATE
        lines = [
            b"Date: " + format_datetime(when).encode(),
            b"From: Mail migration <migration@migration.invalid>",  # RFC 2606 2: nobody's
            b"Subject: " + b"\r\n ".join(_encode_subject(_read_subject(header))),
            b"MIME-Version: 1.0",
            b"Content-Type: message/rfc822",
            b"Content-Disposition: attachment; filename=original.eml",
            b"Content-Transfer-Encoding: " + (b"base64" if self._base64 else b"8bit"),
        ]
        return b"\r\n".join(lines) + b"\r\n\r\n"


def _base64_line(data: bytes) -> bytes:
    return b2a_base64(data, newline=False) + b"\r\n"


def _read_subject(header: bytes) -> str:
    """The subject as a person reads it, on one line and shortened."""
    found = _SUBJECT.search(header)
    raw = found[1] if found else b""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    text = _decode_words(" ".join(text.split()))
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if len(text) > _SUBJECT_LIMIT:
        text = text[:_SUBJECT_LIMIT].rstrip() + "..."
    return text or "(a message without a subject)"


def _decode_words(text: str) -> str:
    """Encoded words decoded; the text itself where that cannot be done."""
    if "=?" not in text:
        return text
    try:
        parts = decode_header(text)
        return "".join(
            part if isinstance(part, str) else part.decode(charset or "latin-1", "replace") for part, charset in parts
        )
    except (HeaderParseError, LookupError, ValueError):  # of base64 that is none, of a charset that nobody knows
        return text


def _encode_subject(text: str) -> Iterator[bytes]:
    if text.isascii() and "=?" not in text:
        yield text.encode()
        return
    piece = b""
    for character in text:
        octets = character.encode()
        if len(piece) + len(octets) > _WORD:
            yield b"=?utf-8?b?" + b2a_base64(piece, newline=False) + b"?="
            piece = b""
        piece += octets
    yield b"=?utf-8?b?" + b2a_base64(piece, newline=False) + b"?="
