"""CommuniGate Pro's External Authentication protocol: request lines to values, values to reply lines. Pure.

Only this module knows which words CommuniGate wants. It reads every form that any version sends, never raises
for what a line holds, and never lets outside bytes into a reply unescaped.
"""

from __future__ import annotations

import re
import socket
from typing import Final

from msgspec import Struct

from wire.outcome import clean_reason
from wire.secret import Secret

REPLY_LIMIT: Final = 4096  # bytes of a reply line, line end included: CommuniGate's own limit
REQUEST_LIMIT: Final = 65536  # bytes of a request line; names and passwords of any real server are far below
_NUMBER_LIMIT: Final = 20  # digits of a sequence number: 64 bits
_REASON_LIMIT: Final = 400  # characters of a reason within a reply

_NUMBERED: Final = re.compile(rb"[ \t]*([0-9]+)(?:[ \t]+|\Z)")
_WORD: Final = re.compile(rb"[^ \t(]*")
_LEADING_MODE: Final = re.compile(rb"[ \t]*\(([^()\s]*)\)(?=[ \t]|\Z)[ \t]*")
_TRAILING_ADDRESS: Final = re.compile(rb"(?:[ ]|^)\[([0-9A-Fa-f:.%]+)\][ \t]*\Z")
_NAME: Final = re.compile(rb"[^ \t]+")
_QUOTED: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"[ \t]*', re.DOTALL)
_ESCAPE: Final = re.compile(rb'\\(?:([0-9]{3})|(["\\rnte])|(.|\Z))', re.DOTALL)
_ESCAPED: Final = {b'"': b'"', b"\\": b"\\", b"r": b"\r", b"n": b"\n", b"t": b"\t", b"e": b"\n"}


# Structs, because they are made ten times faster than dataclasses, when the helper starts and for each request.


class Interface(Struct, frozen=True):
    """`n INTF v`: the highest interface version the server speaks."""

    number: bytes
    version: int


class New(Struct, frozen=True):
    """`n NEW name [(mode)] [[ip]]`: mail or a login for a name that has no account."""

    number: bytes
    name: str  # lower-case; other bytes than UTF-8 survive as surrogates
    mode: str = ""
    client: str = ""


class Verify(Struct, frozen=True):
    """`n VRFY [(mode)] name password [[ip]]`: is this the password at the old server?"""

    number: bytes
    name: str
    password: Secret
    mode: str = ""
    client: str = ""


class Sasl(Struct, frozen=True):
    """`n SASL(method) ...`: a login that shows no password, so no old server can judge it."""

    number: bytes
    method: str


class ReadPlain(Struct, frozen=True):
    """`n READPLAIN name`: the server wants a password in the clear. It never gets one."""

    number: bytes


class Quit(Struct, frozen=True):
    """`n QUIT`."""

    number: bytes


class Unknown(Struct, frozen=True):
    """Anything else; `number` is empty where the line has none, and then no reply can be given."""

    number: bytes
    reason: str


Request = Interface | New | Verify | Sasl | ReadPlain | Quit | Unknown


class Ok(Struct, frozen=True):
    """Yes."""


class Refuse(Struct, frozen=True):
    """ERROR: a permanent no. Mail bounces, the login is refused. `wrong`: the old server refused just this password."""

    reason: str
    wrong: bool = False


class Retry(Struct, frozen=True):
    """FAILURE: could not find out now. Mail stays queued, the login may be tried again."""

    reason: str


class Routed(Struct, frozen=True):
    """ROUTED: mail for this name goes to `address` instead."""

    address: str


class Version(Struct, frozen=True):
    """The interface version this helper speaks."""

    version: int


Reply = Ok | Refuse | Retry | Routed | Version


def parse_request(line: bytes) -> Request:
    """One request line, with or without its line end. Never raises; what makes no sense is Unknown."""
    line = line.removesuffix(b"\n").removesuffix(b"\r")
    start = _NUMBERED.match(line)
    if start is None or len(start[1]) > _NUMBER_LIMIT:
        return Unknown(b"", "a line without a request number")
    number = start[1]
    if len(line) > REQUEST_LIMIT:
        return Unknown(number, f"request of more than {REQUEST_LIMIT} bytes")
    match = _WORD.match(line, start.end())
    assert match is not None  # it matches the empty string
    word, rest = match[0].upper(), line[match.end() :]
    if word == b"VRFY":
        return _parse_verify(number, rest)
    if word == b"NEW":
        return _parse_new(number, rest)
    if word == b"SASL":
        mode = _LEADING_MODE.match(rest)
        return Sasl(number, _text(mode[1]) if mode else "")
    if word == b"READPLAIN":
        return ReadPlain(number)
    if word == b"INTF":
        return _parse_interface(number, rest)
    if word == b"QUIT":
        return Quit(number)
    return Unknown(number, "unknown request" if word else "no request after the number")


def _parse_interface(number: bytes, rest: bytes) -> Request:
    version = rest.strip()
    if not re.fullmatch(rb"[0-9]{1,9}", version):
        return Unknown(number, "INTF needs a version number")
    return Interface(number, int(version))


def _parse_new(number: bytes, rest: bytes) -> Request:
    """The mode may stand before or after the name; a name that holds spaces is kept whole, to be refused as a name."""
    mode = b""
    if leading := _LEADING_MODE.match(rest):
        mode, rest = leading[1], rest[leading.end() :]
    client, rest = _cut_address(rest)
    if not mode:
        mode, rest = _cut_mode(rest)
    if not client:
        client, rest = _cut_address(rest)  # some versions put the address before the mode
    name = rest.strip(b" \t")
    if not name:
        return Unknown(number, "NEW needs a name")
    return New(number, _text(name).lower() if name.isascii() else _text(name.lower()), _text(mode), client)


def _cut_mode(text: bytes) -> tuple[bytes, bytes]:
    """A final ` (mode)` and what stands before it; no pattern search, which long runs of spaces would make slow."""
    whole = text.rstrip(b" \t")
    at = whole.rfind(b"(")
    if at < 0 or not whole.endswith(b")") or (at and whole[at - 1] not in b" \t"):
        return b"", text
    mode = whole[at + 1 : -1]
    return (b"", text) if b" " in mode or b"\t" in mode or b")" in mode else (mode, whole[:at])


def _parse_verify(number: bytes, rest: bytes) -> Request:
    """After the name: a quoted string that closes properly, else all up to an optional final ` [ip]`."""
    mode = b""
    if leading := _LEADING_MODE.match(rest):
        mode, rest = leading[1], rest[leading.end() :]
    match = _NAME.match(rest.lstrip(b" \t"))
    if match is None:
        return Unknown(number, "VRFY needs a name and a password")
    name, tail = match[0], rest.lstrip(b" \t")[match.end() :]
    password, client = _parse_password(tail[1:])
    return Verify(number, _text(name.lower()), Secret(password), _text(mode), client)


def _parse_password(text: bytes) -> tuple[bytes, str]:
    if text[:1] == b'"' and (quoted := _QUOTED.match(text)):
        tail = text[quoted.end() :]
        client, left = _cut_address(tail)
        # `"a"[1.2.3.4]` is not two words: there the quotes belong to a raw password
        separate = not tail or (not left and quoted[0][-1:] in b" \t")
        if separate and (value := _unescape(quoted[1])) is not None:
            return value, client
    client, left = _cut_address(text)
    return left, client


def _unescape(text: bytes) -> bytes | None:
    """The bytes a quoted string stands for; None if an escape in it is not one, so that it was no quoted string."""
    if b"\\" not in text:
        return text
    parts, at = [], 0
    for escape in _ESCAPE.finditer(text):
        parts.append(text[at : escape.start()])
        at = escape.end()
        if escape[1] is not None and int(escape[1]) < 256:
            parts.append(bytes((int(escape[1]),)))
        elif escape[2] is not None:
            parts.append(_ESCAPED[escape[2]])
        else:
            return None
    parts.append(text[at:])
    return b"".join(parts)


def _cut_address(text: bytes) -> tuple[str, bytes]:
    """A final ` [ip]` and what stands before it; ("", text) where there is none."""
    match = _TRAILING_ADDRESS.search(text) if text.rstrip(b" \t").endswith(b"]") else None
    if match is None:
        return "", text
    address = match[1].decode()
    if not is_address(address):
        return "", text
    return address, text[: match.start()]


def is_address(text: str) -> bool:
    """Whether `text` is a numeric IPv4 or IPv6 address, the latter with or without a zone."""
    try:
        if ":" in text:
            socket.inet_pton(socket.AF_INET6, text.partition("%")[0])
        else:
            socket.inet_pton(socket.AF_INET, text)
    except (OSError, ValueError):
        return False
    return True


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def render_reply(number: bytes, reply: Reply, *, failure: str = "FAILURE") -> bytes:
    """The reply line with its line end, at most REPLY_LIMIT bytes, always one line of printable ASCII.

    `failure` is the word for Retry: `ERROR` for a VRFY to servers that do not know FAILURE. An address that
    cannot stand in a line as it is becomes FAILURE, never a different address.
    """
    head = number.decode("ascii")
    match reply:
        case Ok():
            text = f"{head} OK"
        case Refuse(reason):
            text = f"{head} ERROR {clean_reason(reason, _REASON_LIMIT)}"
        case Retry(reason):
            text = f"{head} {failure} {clean_reason(reason, _REASON_LIMIT)}"
        case Version(version):
            text = f"{head} INTF {version}"
        case Routed(address):
            text = f"{head} ROUTED {address}"
            if len(text) >= REPLY_LIMIT or " " in address or not all("!" <= c <= "~" for c in address):
                text = f"{head} {failure} the address to route to cannot be written"
    return text.encode("ascii") + b"\n"


def render_information(text: str) -> bytes:
    """A `* ...` line for CommuniGate's own log: one clean line within REPLY_LIMIT."""
    return b"* " + clean_reason(text, REPLY_LIMIT - 8).encode("ascii") + b"\n"
