"""Passwords at rest: sealed with a public key, opened only with the key file.

Who holds `seal.pub` can put a password into a box and not take it out again: the helper has no more than
that. A box is made with a key pair that is thrown away at once, or within a tenth of a second (X25519,
XSalsa20-Poly1305; the pair's public key and the box's number stand before it), and different each time. The
account's address is inside, so that a box which was moved to another account's row does not open.

Trouble with a key file or a box is SetupTrouble; no text ever holds a password.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import stat
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Final

import nacl.exceptions
import nacl.public

from migrator.file_stamp import Stamp, stamp_of
from wire.outcome import SetupTrouble
from wire.secret import Secret

_PUBLIC: Final = "extauth-seal-public-1"
_PRIVATE: Final = "extauth-seal-private-1"
_BOX: Final = b"1"  # the first byte of what is inside: how the rest is to be read
_PADDING: Final = 64  # bytes: the length of a box does not tell the length of the password
_SHARED: Final = 0.1  # seconds that boxes share a pair: making one costs 25 times as much as the box
_FILE_LIMIT: Final = 4096  # bytes of a key file: one short line


Later = Callable[[float, Callable[[], None]], object]
# its public half, what it seals with, and the number of the next box
_Pair = tuple[bytes, nacl.public.Box, "count[int]"]


class Sealer:
    """Seals with the public key in `public_key_file`; cannot open anything, but for what it sealed in this moment."""

    def __init__(self, public_key_file: Path, *, later: Later | None = None) -> None:
        """With `later`, which calls something after so many seconds, the boxes of a moment share a pair."""
        self._public = nacl.public.PublicKey(_read_key(public_key_file, _PUBLIC))
        self._later = later
        self._pair: _Pair | None = None

    def seal(self, password: Secret, address: str) -> bytes:
        """A box that holds `password` for `address` (in any case)."""
        inside = _header(address) + len(password).to_bytes(4, "big") + password.reveal()
        inside += bytes(-len(inside) % _PADDING)
        own, box, numbers = self._pair or self._make_pair()
        # a random nonce is no better under a pair that nobody else has, and a call of the system for each box
        return own + box.encrypt(inside, next(numbers).to_bytes(box.NONCE_SIZE, "big"))

    def _make_pair(self) -> _Pair:
        private = nacl.public.PrivateKey.generate()
        pair = bytes(private.public_key), nacl.public.Box(private, self._public), count()
        if self._later is not None:
            self._pair = pair
            self._later(_SHARED, self._drop_pair)
        return pair

    def _drop_pair(self) -> None:
        self._pair = None


class Opener:
    """Opens with the private key in `key_file`, which nobody but its owner may be able to read.

    While the keys are being changed (`rotate_keys`) the key from before, beside it, opens as well. A box that does not
    open makes it look at the files again: another process may have changed them.
    """

    def __init__(self, key_file: Path) -> None:
        self._file = key_file
        self._stamps: tuple[Stamp | None, ...] = ()
        self._keys: list[nacl.public.PrivateKey] = []
        self._read()

    def open(self, sealed: bytes, address: str) -> Secret:
        """The password in the box. SetupTrouble if it is another key's box, damaged, or another account's."""
        inside = self._decrypt(sealed)
        if inside is None and self._stamps != _stamps(self._file):
            self._read()
            inside = self._decrypt(sealed)
        if inside is None:
            raise SetupTrouble("a saved password does not open with this key file")
        header = _header(address)
        if not inside.startswith(header):
            raise SetupTrouble("a saved password belongs to another account")
        start = len(header) + 4
        return Secret(inside[start : start + int.from_bytes(inside[len(header) : start], "big")])

    def is_new(self, sealed: bytes) -> bool:
        """Whether the key that is in force now opens this box."""
        return self._decrypt(sealed, self._keys[:1]) is not None

    def _read(self) -> None:
        self._stamps = _stamps(self._file)
        files = [self._file, *[path for path in [old_key_file(self._file)] if path.exists()]]
        self._keys = [nacl.public.PrivateKey(_read_key(path, _PRIVATE)) for path in files]

    def _decrypt(self, sealed: bytes, keys: list[nacl.public.PrivateKey] | None = None) -> bytes | None:
        public, box = sealed[: nacl.public.PublicKey.SIZE], sealed[nacl.public.PublicKey.SIZE :]
        for key in self._keys if keys is None else keys:
            with contextlib.suppress(nacl.exceptions.CryptoError, ValueError, TypeError):
                return nacl.public.Box(key, nacl.public.PublicKey(public)).decrypt(box)
            with contextlib.suppress(nacl.exceptions.CryptoError, ValueError, TypeError):
                return bytes(nacl.public.SealedBox(key).decrypt(sealed))  # as boxes were made before 2026-11-26
        return None


def old_key_file(key_file: Path) -> Path:
    """Where the private key from before is, until nothing is sealed to it any more."""
    return key_file.with_name(key_file.name + ".old")


def rotate_keys(public_file: Path, key_file: Path) -> bool:
    """Put a new pair in force, the old private key staying beside it; False where that was done before.

    Cut off anywhere, it goes on when it is called again, and at no moment is there a box that nobody can open. Helper
    and worker see the files change. SetupTrouble where they cannot be read or written.
    """
    current = nacl.public.PrivateKey(_read_key(key_file, _PRIVATE))
    old = old_key_file(key_file)
    fresh = not old.exists()
    try:
        if fresh:
            os.link(key_file, old)  # from now on two names for one key, and then a new one in the first's place
        if bytes(current) == _read_key(old, _PRIVATE):
            current = nacl.public.PrivateKey.generate()
            _write_key(key_file, _PRIVATE, bytes(current), 0o600, force=True)
        if _read_key(public_file, _PUBLIC) != bytes(current.public_key):
            _write_key(public_file, _PUBLIC, bytes(current.public_key), 0o644, force=True)
    except OSError as error:
        raise SetupTrouble(f"cannot write {error.filename or key_file}: {error.strerror}") from None
    return fresh


def forget_old_key(key_file: Path) -> None:
    """Overwrite the private key from before, and remove it. SetupTrouble where that cannot be."""
    old = old_key_file(key_file)
    try:
        with open(old, "r+b", buffering=0) as file:
            file.write(bytes(os.fstat(file.fileno()).st_size))
            os.fsync(file.fileno())
        old.unlink()
    except OSError as error:
        raise SetupTrouble(f"cannot remove {old}: {error.strerror}") from None


def _stamps(key_file: Path) -> tuple[Stamp | None, ...]:
    return stamp_of(key_file), stamp_of(old_key_file(key_file))


def generate_keys(public_file: Path, key_file: Path, *, force: bool = False) -> None:
    """Make a key pair: `key_file` with mode 0600, `public_file` with 0644, each complete or not at all.

    SetupTrouble when one of them exists and `force` is not given: what was sealed with the old pair could
    never be opened again. With `force` the old key file is kept beside the new one, with `.old` appended.
    """
    for path in (key_file, public_file):
        if not force and os.path.lexists(path):
            raise SetupTrouble(f"{path} exists; with another key pair, saved passwords could not be opened any more")
    key = nacl.public.PrivateKey.generate()
    try:
        if force and key_file.exists():
            key_file.replace(old_key_file(key_file))
        _write_key(key_file, _PRIVATE, bytes(key), 0o600, force=force)
        _write_key(public_file, _PUBLIC, bytes(key.public_key), 0o644, force=force)
    except OSError as error:
        raise SetupTrouble(f"cannot write {error.filename or key_file}: {error.strerror}") from None


def _header(address: str) -> bytes:
    name = address.lower().encode("utf-8", "surrogateescape")
    return _BOX + len(name).to_bytes(2, "big") + name


def _write_key(path: Path, kind: str, key: bytes, mode: int, *, force: bool) -> None:
    """Write under another name, then link: nobody ever sees half a key, and an existing file wins unless forced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        try:
            os.fchmod(file, mode)
            os.write(file, f"{kind} {base64.b64encode(key).decode()}\n".encode())
            os.fsync(file)
        finally:
            os.close(file)
        if force:
            new.replace(path)
        else:
            os.link(new, path)  # unlike rename, this fails when the name was taken meanwhile
            new.unlink()
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
        raise


def _read_key(path: Path, kind: str) -> bytes:
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(_FILE_LIMIT)
    except OSError as error:
        raise SetupTrouble(f"cannot read the key file {path}: {error.strerror}") from None
    if kind == _PRIVATE and mode & 0o077:
        raise SetupTrouble(f"the key file {path} is open to others (mode {mode:04o}); chmod 600 it")
    word, _, text = content.decode("ascii", "replace").strip().partition(" ")
    if word != kind:
        raise SetupTrouble(f"{path} is no {'private' if kind == _PRIVATE else 'public'} key of `migrator keygen`")
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != nacl.public.PublicKey.SIZE:
        raise SetupTrouble(f"the key in {path} is damaged")
    return key
