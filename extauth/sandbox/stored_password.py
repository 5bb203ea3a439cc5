"""How CommuniGate compares a password with the stored `Password` setting. Pure.

A stored string that begins with the byte 002 is an encrypted password (migration guide, "Converting Passwords").
Strings are in the CLI's form: UTF-8, other bytes as surrogate escapes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import warnings

ENCRYPTED = "\x02"


def matches(stored: str, password: bytes) -> bool:
    """Whether `password` is the one stored. An empty stored password matches nothing."""
    if not stored or not password:
        return False
    if not stored.startswith(ENCRYPTED):
        return hmac.compare_digest(stored.encode("utf-8", "surrogateescape"), password)
    return _matches_encrypted(stored[1:], password)


def _matches_encrypted(stored: str, password: bytes) -> bool:
    method, brace, encoded = stored[1:].partition("}") if stored.startswith("{") else ("", "", stored)
    method = method.lower()
    if brace and method in ("md5", "sha", "ssha"):
        try:
            raw = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            return False
        kind, size = ("md5", 16) if method == "md5" else ("sha1", 20)
        salt = raw[size:] if method == "ssha" else b""
        digest = hashlib.new(kind, password + salt, usedforsecurity=False).digest()
        return hmac.compare_digest(digest, raw[:size])
    if brace and method == "ns-mta-md5":
        digest_hex, salt = encoded[:32], encoded[32:].encode()
        found = hashlib.md5(salt + b"\x59" + password + b"\xf7" + salt, usedforsecurity=False).hexdigest()
        return hmac.compare_digest(found, digest_hex.lower())
    if brace and method not in ("crypt", "wm-cry"):
        return False
    return _matches_crypt(encoded, password)


def _matches_crypt(stored: str, password: bytes) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # passlib asks the standard library's crypt module first
        # late: 60 ms that most runs never need
        from passlib.hash import des_crypt, md5_crypt  # type: ignore[import-untyped]  # noqa: PLC0415 - it has no types

        for handler in (md5_crypt, des_crypt):
            if handler.identify(stored):
                return bool(handler.verify(password, stored))
    return False
