"""Knowing a message again by what it holds, whatever servers do to line ends. Pure."""

from __future__ import annotations

import hashlib
import re
from typing import Final

# Lines that mbox servers put into a message and change later; they are no part of what was sent.
_OF_THE_MAILBOX: Final = frozenset(
    {b"status", b"x-status", b"x-uidl", b"x-uid", b"x-keywords", b"x-imap", b"x-imapbase"}
)

_MAY_BE_OF_THE_MAILBOX: Final = re.compile(
    rb"^\s*(?:" + b"|".join(sorted(_OF_THE_MAILBOX)) + rb")\b", re.IGNORECASE | re.MULTILINE
)
_MESSAGE_ID: Final = re.compile(rb"^message-id[ \t]*:[\s]*(<[^>\n]*>|\S+)", re.IGNORECASE | re.MULTILINE)

HEADER_LIMIT: Final = 1 << 18  # kept to look for dates in; a longer header than 256 KB still counts in the digest


class ContentDigest:
    """A digest that two servers' forms of one message share, fed in pieces of any size.

    CR and NUL are left out and line ends behind the last line do not count, because servers change them (RFC 3501 has
    no NUL, Dovecot drops CRs); so are the lines that mbox servers add. Everything else counts.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._line = bytearray()  # of the header, not ended yet
        self._kept = bytearray()
        self._left_out = bytearray()
        self._dropping = False  # within a header line, and its folded lines, that is left out
        self._in_header = True
        self._ends = 0  # LFs seen that count only if something follows
        self.size = 0

    def feed(self, data: bytes) -> None:
        """The next bytes of the message."""
        self.size += len(data)
        clean = data.translate(None, b"\r\0")
        if self._in_header:
            clean = self._feed_header(clean)
        if clean:
            self._add(clean)

    def _feed_header(self, data: bytes) -> bytes:
        end = data.find(b"\n\n", 0, HEADER_LIMIT) + 2
        fresh = not (self._line or self._kept or self._left_out)
        if fresh and end > 1 and data[:1] != b"\n" and not _MAY_BE_OF_THE_MAILBOX.search(data, 0, end):
            self._in_header = False  # all of it at once, and nothing to leave out, as in most mail
            self._kept += data[:end]
            self._add(data[:end])
            return data[end:]
        self._line += data
        at = 0
        while (end := self._line.find(b"\n", at)) >= 0:
            self._take_line(bytes(self._line[at : end + 1]))
            at = end + 1
            if not self._in_header:
                break
        rest = bytes(self._line[at:])
        if not self._in_header:
            self._line.clear()
            return rest
        if len(rest) > HEADER_LIMIT:  # no header has such a line: it is data
            self._in_header = False
            self._line.clear()
            return rest
        self._line = bytearray(rest)
        return b""

    def _take_line(self, line: bytes) -> None:
        if line == b"\n":
            self._in_header = False
        if not (self._dropping and line[:1] in b" \t" and line != b"\n"):
            self._dropping = line.partition(b":")[0].strip().lower() in _OF_THE_MAILBOX
        if self._dropping:
            if len(self._left_out) < HEADER_LIMIT:
                self._left_out += line
        else:
            if len(self._kept) < HEADER_LIMIT:
                self._kept += line
            self._add(line)

    def _add(self, data: bytes) -> None:
        body = data.rstrip(b"\n")
        if not body:
            self._ends += len(data)
            return
        self._hash.update(b"\n" * self._ends + body)
        self._ends = len(data) - len(body)

    @property
    def header(self) -> bytes:
        """The header with LF line ends, folded as it came; of a message without a body, all of it."""
        return bytes(self._kept + self._line) if self._in_header else bytes(self._kept)

    @property
    def left_out(self) -> bytes:
        """The header lines of the mailbox, as `Status: RO`, with LF line ends."""
        return bytes(self._left_out)

    def digest(self) -> bytes:
        """Of everything fed so far."""
        copy = self._hash.copy()
        last = bytes(self._line).rstrip(b"\n")
        if last and not self._dropping and last.partition(b":")[0].strip().lower() not in _OF_THE_MAILBOX:
            copy.update(b"\n" * self._ends + last)
        return copy.digest()


def message_id(header: bytes) -> bytes:
    """The Message-ID, or b"" without one."""
    found = _MESSAGE_ID.search(header.replace(b"\r", b""))
    return found[1] if found else b""


def digest_header(header: bytes) -> bytes:
    """A digest of header fields that survives folding, line ends and the order in which a server gives the fields."""
    unfolded = re.sub(rb"[\r\0]", b"", header)
    unfolded = re.sub(rb"\n[ \t]+", b" ", unfolded)
    lines = []
    for line in unfolded.split(b"\n"):
        name, colon, value = line.partition(b":")
        if colon:
            lines.append(name.strip().lower() + b":" + b" ".join(value.split()))
    return hashlib.sha256(b"\n".join(sorted(lines))).digest()
