"""How CommuniGate compares a password with the stored `Password` setting. Pure.

A stored string that begins with the byte 002 is an encrypted password (migration guide, "Converting Passwords"); only
the methods that the guide names let anybody in. Strings are in the CLI's form: UTF-8, other bytes as surrogate escapes.
"""

from __future__ import annotations

import hmac

from migrator.passwords import BINARY_PREFIX
from wire.secret import Secret


def matches(stored: str, password: bytes) -> bool:
    """Whether `password` is the one stored. An empty stored password matches nothing."""
    if not stored or not password:
        return False
    if not stored.startswith(BINARY_PREFIX):
        return hmac.compare_digest(stored.encode("utf-8", "surrogateescape"), password)
    return _matches_encrypted(stored.removeprefix(BINARY_PREFIX), password)


def _matches_encrypted(stored: str, password: bytes) -> bool:
    # late: few accounts of a sandbox have such a password
    from migrator.password_check import Unverifiable, verify  # noqa: PLC0415
    from migrator.password_forms import read_password  # noqa: PLC0415

    found = read_password(stored)
    if not found.for_cli.startswith(BINARY_PREFIX):
        return False
    try:
        return verify(found, Secret(password))
    except Unverifiable:
        return False
