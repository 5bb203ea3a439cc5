"""The key under which a password's digest is kept, where one must be kept: for `grace`.

It lies beside the configuration and not in the state directory, so that a stolen ledger holds nothing to guess
against. Helper and worker read it; nobody else may.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Final

from migrator.whole_file import write_whole
from wire.outcome import SetupTrouble
from wire.secret import Secret

_OCTETS: Final = 32
_FIRST_LINE: Final = b"extauth-digest-1 "


class DigestKey:
    """Read at the first use. SetupTrouble where the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key = b""

    def digest(self, account: str, kind: str, value: Secret) -> bytes:
        """32 bytes that this value has for this account only; useless to whoever lacks the key."""
        if not self._key:
            self._key = _read(self._path)
        about = f"{kind} {account.lower()}\0".encode("utf-8", "surrogateescape")
        return hashlib.blake2b(about + value.reveal(), key=self._key, digest_size=32).digest()


def make_digest_key(path: Path, directory: Path) -> bool:
    """Make the key file for the owner of the state `directory`, mode 0600; False where it is there already."""
    if os.path.lexists(path):
        return False
    try:
        write_whole(path, _FIRST_LINE + os.urandom(_OCTETS).hex().encode() + b"\n")
        if os.geteuid() == 0 and directory.is_dir():
            owner = directory.stat()
            os.chown(path, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise SetupTrouble(f"cannot write {path}: {error.strerror}") from None
    return True


def find_trouble(path: Path) -> str:
    """What keeps the file from being used, in words; "" where nothing does."""
    try:
        _read(path)
    except SetupTrouble as trouble:
        return trouble.text
    return ""


def _read(path: Path) -> bytes:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        content = path.read_bytes()
    except OSError as error:
        raise SetupTrouble(f"cannot read {path}: {error.strerror}; `migrator keygen` makes it") from None
    if mode & 0o007:
        raise SetupTrouble(f"{path} is open to everybody (mode {mode:04o}); chmod 600 it")
    try:
        key = bytes.fromhex(content.removeprefix(_FIRST_LINE).strip().decode("ascii"))
    except ValueError:
        key = b""
    if not content.startswith(_FIRST_LINE) or len(key) != _OCTETS:
        raise SetupTrouble(f"{path} is no digest key; move it away, and `migrator keygen` makes one")
    return key
