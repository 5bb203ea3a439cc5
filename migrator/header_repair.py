"""A header that every server takes, made of whatever stands at the beginning of a message. Pure.

No byte is lost: what is no field becomes the value of one, or, where the header seems to have ended without a blank
line, the beginning of the body.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from migrator.long_lines import LineBreaker
from migrator.oddities import CONTINUED, FIELD, LONGEST, LONGEST_NAME

NAME: Final = b"X-Invalid-Header: "
NO_HEADER: Final = NAME + b"none\r\n"  # the whole header of a message that has none

_MOST_HELD: Final = 4096  # bytes of lines that may be a broken header or already the body
_MBOX: Final = (b"From ", b">From ")
_SPACED: Final = re.compile(rb"([!-9;-~]{1,%d}+)[ \t]{1,64}+:" % LONGEST_NAME)  # RFC 5322 4.5: obsolete, but a field
_KNOWN: Final = re.compile(  # a text may have lines that look like a field ("http://..."), rarely like one of these
    rb"(?:received|return-path|delivered-to|from|sender|reply-to|to|cc|subject|date|message-id|mime-version|status"
    rb"|content-[a-z-]+|x-[a-z-]+):",
    re.IGNORECASE,
)


class HeaderRepair:
    """Repairs the header of one message with CRLF line ends, fed in pieces of any size.

    Lines that are no field (an mbox From line among them) are named X-Invalid-Header if the header goes on behind them;
    otherwise the body begins with them, and a blank line is put before it. A text without any header gets one, and so
    does an empty message. White space between a field's name and its colon goes.
    """

    def __init__(self) -> None:
        self._line = bytearray()  # that has not ended
        self._held: list[bytes] = []  # lines that are no field, with their continuations
        self._held_size = 0
        self._fields = 0
        self._within = False  # a field's line that is being passed on
        self._in_body = False

    def feed(self, data: bytes) -> bytes:
        """The next bytes of the message; gives what can be said of it so far."""
        if self._in_body:
            return data
        out = bytearray()
        self._line += data
        at = 0
        while not self._in_body and (end := self._line.find(b"\n", at)) >= 0:
            self._take(bytes(self._line[at : end + 1]), out)
            at = end + 1
        del self._line[:at]
        if self._in_body:
            out += self._line
            self._line.clear()
        elif self._within or len(self._line) > _MOST_HELD:
            self._take(bytes(self._line), out)
            self._line.clear()
        return bytes(out)

    def finish(self) -> bytes:
        """The rest, when the message has ended."""
        if self._in_body:
            return b""
        out = bytearray()
        if self._line:
            self._take(bytes(self._line), out)
        if not self._in_body and self._held:
            self._begin_body(out)
        elif not self._in_body:
            out += (b"\r\n" if self._within else b"") + (b"" if self._fields else NO_HEADER) + b"\r\n"
        return bytes(out)

    def _take(self, line: bytes, out: bytearray) -> None:
        """A line with its line end, or as much of one as is to be decided on at once."""
        if self._within:
            out += line
            self._within = not line.endswith(b"\n")
        elif line in {b"\r\n", b"\n"}:
            self._end(line, out)
        elif line.startswith(CONTINUED) and self._held:
            self._hold(line, out, alone=False)
        elif FIELD.match(line) or _SPACED.match(line) or (line.startswith(CONTINUED) and self._fields):
            self._take_field(line, out)
        else:
            self._hold(line, out, alone=True)

    def _take_field(self, line: bytes, out: bytearray) -> None:
        original = line
        if spaced := _SPACED.match(line):
            line = spaced[1] + line[spaced.end() - 1 :]
        if self._held and not self._belongs(line):
            self._begin_body(out)
            out += original
            return
        self._name_held(out)
        self._fields += 1
        out += line
        self._within = not line.endswith(b"\n")

    def _belongs(self, field: bytes) -> bool:
        """Whether `field` shows that what is held stands in a header."""
        alone = len(self._held) == 1 and (self._fields > 0 or self._held[0].startswith(_MBOX))
        return alone or _KNOWN.match(field) is not None

    def _hold(self, line: bytes, out: bytearray, *, alone: bool) -> None:
        if alone:
            self._held.append(line)
        else:
            self._held[-1] += line
        self._held_size += len(line)
        if self._held_size > _MOST_HELD:
            self._begin_body(out)

    def _end(self, line: bytes, out: bytearray) -> None:
        """The first blank line."""
        only_mbox = len(self._held) == 1 and self._held[0].startswith(_MBOX)
        if self._held and not only_mbox and (len(self._held) > 1 or not self._fields):
            self._begin_body(out)
        else:
            self._name_held(out)
            out += b"" if self._fields else NO_HEADER
            self._in_body = True
        out += line

    def _name_held(self, out: bytearray) -> None:
        self._fields += len(self._held)
        out += b"".join(_named(line) for line in self._held)
        self._held.clear()
        self._held_size = 0

    def _begin_body(self, out: bytearray) -> None:
        """The header has ended before what is held."""
        out += (b"" if self._fields else NO_HEADER) + b"\r\n" + b"".join(self._held)
        self._held.clear()
        self._in_body = True


def _named(line: bytes) -> bytes:
    """A line, with its continuations, as a field that is no longer than it was, or than a line may be."""
    if line.find(b"\n") > LONGEST + 1:
        return NAME + line
    breaker = LineBreaker(LONGEST)
    return breaker.feed(NAME + line) + breaker.finish()


_WORDS: Final = re.compile(
    rb"[^\s\x80-\xff\x00-\x1f()<>@,;:\\\"\[\]]*[\x80-\xff](?:[^\x00-\x1f()<>@,;:\\\"\[\]]*[\x80-\xff])?"
    rb"[^\s\x00-\x1f()<>@,;:\\\"\[\]]*"
)
_WORD_OCTETS: Final = 19  # 57 characters as =XX: an encoded word may have 75 with its charset (RFC 2047 2)


class HeaderEncoder:
    """Encodes raw 8-bit bytes in the header of one message as RFC 2047 words: UTF-8, or ISO-8859-1 where it is none.

    Words within quotes are encoded as well, which RFC 2047 5 would not have; mail programs show them. The header must
    be one with CRLF line ends and no long lines; lines get longer.
    """

    def __init__(self) -> None:
        self._line = bytearray()
        self._in_body = False

    def feed(self, data: bytes) -> bytes:
        """The next bytes of the message; gives what can be said of it so far."""
        if self._in_body:
            return data
        out = bytearray()
        self._line += data
        at = 0
        while not self._in_body and (end := self._line.find(b"\n", at)) >= 0:
            line = bytes(self._line[at : end + 1])
            self._in_body = line in {b"\r\n", b"\n"}
            out += line if line.isascii() else encode_words(line)
            at = end + 1
        del self._line[:at]
        if self._in_body:
            out += self._line
            self._line.clear()
        return bytes(out)

    def finish(self) -> bytes:
        """The rest, when the message has ended."""
        return bytes(self._line) if self._line.isascii() else encode_words(bytes(self._line))


def encode_words(line: bytes) -> bytes:
    """A header line in ASCII."""
    name = FIELD.match(line, 0, LONGEST_NAME + 1)
    start = name.end() if name else 1 if line.startswith(CONTINUED) else 0
    value = line[start:]

    def encode(found: re.Match[bytes]) -> bytes:
        # white space between two encoded words is not shown (RFC 2047 6.2): that of a folded line goes into the word
        folded = b" " if found.start() == 0 and not name else b""
        return b"\r\n ".join(_encoded(folded + found[0]))

    return line[:start] + _WORDS.sub(encode, value)


def _encoded(text: bytes) -> Iterator[bytes]:
    try:
        pieces = _cut(text.decode())
        charset = b"utf-8"
    except UnicodeDecodeError:
        pieces = [text[at : at + _WORD_OCTETS] for at in range(0, len(text), _WORD_OCTETS)]
        charset = b"iso-8859-1"
    for piece in pieces:
        yield b"=?%b?q?%b?=" % (charset, b"".join(_QUOTED[octet] for octet in piece))


def _cut(text: str) -> list[bytes]:
    """UTF-8 in pieces that fit one encoded word each, no character cut in two."""
    pieces = [b""]
    for character in text:
        octets = character.encode()
        if len(pieces[-1]) + len(octets) > _WORD_OCTETS:
            pieces.append(b"")
        pieces[-1] += octets
    return pieces


_PLAIN: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_QUOTED: Final = [
    bytes([octet]) if octet in _PLAIN else b"_" if octet == 0x20 else b"=%02X" % octet for octet in range(256)
]
