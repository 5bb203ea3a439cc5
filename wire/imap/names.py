"""Mailbox names: modified UTF-7 (RFC 3501 5.1.3) and back. Pure; neither direction ever fails.

Real servers hold names that are not valid: raw UTF-8, Latin-1 bytes, a bare `&`. Those are read as what a person
would see in them; bytes that are no UTF-8 survive as lone surrogates (`surrogateescape`) and are sent as they were.
Two different wire names may therefore read alike: keep the wire name to talk to the server that listed it.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

_SHIFT: Final = re.compile(rb"&([A-Za-z0-9+,]*)-")
_UNPRINTABLE: Final = re.compile("[^\x20-\x7e\udc80-\udcff]+|&")


def decode_mailbox(name: bytes) -> str:
    """The name for people and for comparing."""
    if b"&" not in name:
        return name.decode("utf-8", "surrogateescape")
    pieces: list[str] = []
    at = 0
    for match in _SHIFT.finditer(name):
        text = _decode_shifted(match[1])
        if text is not None:
            pieces += (name[at : match.start()].decode("utf-8", "surrogateescape"), text)
            at = match.end()
    pieces.append(name[at:].decode("utf-8", "surrogateescape"))
    return "".join(pieces)


def encode_mailbox(name: str) -> bytes:
    """The name in modified UTF-7."""
    return _UNPRINTABLE.sub(_encode_run, name).encode("ascii", "surrogateescape")


def encode_utf8(name: str) -> bytes:
    """The name in UTF-8, for a server that was told `ENABLE UTF8=ACCEPT` (RFC 6855 3)."""
    return name.encode("utf-8", "surrogateescape")


def _decode_shifted(coded: bytes) -> str | None:
    """The text between `&` and `-`; None unless it is what an encoder could have written."""
    if not coded:
        return "&"
    try:
        raw = binascii.a2b_base64(coded.replace(b",", b"/") + b"=" * (-len(coded) % 4), strict_mode=True)
        return raw.decode("utf-16-be")
    except ValueError:  # binascii.Error and UnicodeDecodeError
        return None


def _encode_run(match: re.Match[str]) -> str:
    if match[0] == "&":
        return "&-"
    raw = match[0].encode("utf-16-be", "surrogatepass")
    return "&" + binascii.b2a_base64(raw, newline=False).rstrip(b"=").replace(b"/", b",").decode("ascii") + "-"
