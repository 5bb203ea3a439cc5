"""Names that nobody has: what an old server says to them tells what its yes to others is worth. Pure.

They cannot be guessed, so that nobody can make them exist; they begin with `nobody`, so that the old server's
administrator knows them in its log.
"""

from __future__ import annotations

import secrets
import string

from wire.secret import Secret


def make_stranger() -> str:
    """A local part with 64 random bits."""
    return f"nobody{secrets.token_hex(8)}"


def make_strangers() -> tuple[str, str]:
    """Two local parts of different shapes: some servers take every name that looks like `first.last`."""
    letters = "".join(secrets.choice(string.ascii_lowercase) for _ in range(14))
    return make_stranger(), f"nobody.{letters}"


def make_password() -> Secret:
    """A password that nobody has."""
    return Secret(secrets.token_urlsafe(18).encode())
