"""Does a password belong to a stored hash? True and False are certain; everything else is `Unverifiable`.

Compares in constant time. May take seconds for slow kinds: call it off the event loop where `is_slow` says so;
libcrypt, OpenSSL and argon2 let other threads run meanwhile. A hash that asks for more than the limits is never
computed.
The password's bytes are taken exactly as they come; only the Windows kinds, which hash characters, read them.
"""

from __future__ import annotations

import hashlib
import hmac
import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, Final

from migrator import libcrypt
from migrator.passwords import PasswordHash, Scheme
from wire.outcome import clean_reason
from wire.secret import Secret

MOST_MEMORY: Final = 256 * 1024  # KiB: libsodium's "moderate"; two checks at once for each domain
MOST_ROUNDS: Final[dict[Scheme, int]] = {  # each about two seconds of one core in 2026
    Scheme.SHA256_CRYPT: 2_000_000,
    Scheme.SHA512_CRYPT: 2_000_000,
    Scheme.BCRYPT: 1 << 15,
    Scheme.BSDI_CRYPT: 2_000_000,
    Scheme.SUN_MD5: 500_000,
    Scheme.SHA1_CRYPT: 2_000_000,
    Scheme.PBKDF2_SHA1: 3_000_000,
    Scheme.PBKDF2_SHA256: 3_000_000,
    Scheme.PBKDF2_SHA512: 2_000_000,
    Scheme.SCRAM_SHA1: 3_000_000,
    Scheme.SCRAM_SHA256: 3_000_000,
}
MOST_WORK: Final = 1024 * 1024  # KiB written by yescrypt, scrypt and argon2: memory times passes

_QUICK: Final = frozenset(  # microseconds, so that a thread would cost more than the check
    {
        Scheme.MD5,
        Scheme.MD4,
        Scheme.SHA1,
        Scheme.SHA256,
        Scheme.SHA384,
        Scheme.SHA512,
        Scheme.SALTED_MD5,
        Scheme.SALTED_SHA1,
        Scheme.SALTED_SHA256,
        Scheme.SALTED_SHA384,
        Scheme.SALTED_SHA512,
        Scheme.NS_MTA_MD5,
        Scheme.PLAIN,
    }
)


class Unverifiable(Exception):
    """Nobody can tell here whether the password is right. The text is one clean line without secrets."""


def too_costly(stored: PasswordHash) -> str:
    """Why a check would take too long or too much memory; "" where it would not."""
    if stored.memory > MOST_MEMORY:
        return f"a check needs {stored.memory // 1024} MiB, more than {MOST_MEMORY // 1024}"
    if stored.memory * max(1, stored.rounds) > MOST_WORK:
        return "a check passes over its memory too often"
    most = MOST_ROUNDS.get(stored.scheme)
    if most is not None and stored.rounds > most:
        return f"a check takes {stored.rounds} rounds, more than {most}"
    return ""


def is_slow(stored: PasswordHash) -> bool:
    """Whether a check takes so long that it belongs into a thread."""
    return stored.scheme not in _QUICK


def verify(stored: PasswordHash, password: Secret) -> bool:
    """Whether `password` is the one. Unverifiable where that cannot be told; never True for an empty password."""
    if not stored.verifiable:
        raise Unverifiable(stored.problem or f"{stored.scheme.value} cannot be checked")
    excess = too_costly(stored)
    if excess:
        raise Unverifiable(excess)
    check = _CHECKS.get(stored.scheme)
    if check is None:
        raise Unverifiable(f"{stored.scheme.value} cannot be checked")
    given = password.reveal()
    if not given:
        raise Unverifiable("an empty password is never asked about")
    try:
        return check(stored, given)
    except libcrypt.Unsupported as unsupported:
        raise Unverifiable(f"{stored.scheme.value}: {unsupported}") from None


# -- digests -----------------------------------------------------------------------------------------------------------


def _by_digest(algorithm: str) -> Callable[[PasswordHash, bytes], bool]:
    def check(stored: PasswordHash, given: bytes) -> bool:
        made = hashlib.new(algorithm, given + stored.salt, usedforsecurity=False).digest()
        return hmac.compare_digest(made, stored.digest)

    return check


def _ns_mta_md5(stored: PasswordHash, given: bytes) -> bool:
    made = hashlib.md5(stored.salt + b"\x59" + given + b"\xf7" + stored.salt, usedforsecurity=False).digest()
    return hmac.compare_digest(made, stored.digest)


def _plain(stored: PasswordHash, given: bytes) -> bool:
    return hmac.compare_digest(given, stored.digest)


def _pbkdf2(algorithm: str) -> Callable[[PasswordHash, bytes], bool]:
    """With the salt decoded, else as it is written: OpenLDAP's own module and Django's differ in nothing else."""

    def check(stored: PasswordHash, given: bytes) -> bool:
        for salt in dict.fromkeys((stored.salt, stored.text_salt or stored.salt)):
            made = hashlib.pbkdf2_hmac(algorithm, given, salt, stored.rounds)
            if hmac.compare_digest(made, stored.digest):
                return True
        return False

    return check


def _scram(algorithm: str) -> Callable[[PasswordHash, bytes], bool]:
    """RFC 5802, section 3: StoredKey = H(HMAC(SaltedPassword, "Client Key"))."""

    def check(stored: PasswordHash, given: bytes) -> bool:
        salted = hashlib.pbkdf2_hmac(algorithm, given, stored.salt, stored.rounds)
        client_key = hmac.digest(salted, b"Client Key", algorithm)
        return hmac.compare_digest(hashlib.new(algorithm, client_key).digest(), stored.digest)

    return check


# -- crypt, argon2, passlib --------------------------------------------------------------------------------------------


def _crypt(stored: PasswordHash, given: bytes) -> bool:
    if b"\0" in given:
        return False  # crypt(3) would take the part before it for the password; nobody's password holds one
    try:
        made = libcrypt.crypt(given, stored.crypt)
    except libcrypt.MethodMissing:
        if stored.scheme not in _PASSLIB or stored.rounds > MOST_ROUNDS.get(stored.scheme, 100_000) // _SLOWER:
            raise
        return _by_passlib(_PASSLIB[stored.scheme])(stored, given)
    if stored.scheme is Scheme.BIG_CRYPT:  # as long as the password needs it
        return made[:2] == stored.crypt[:2] and hmac.compare_digest(made, stored.crypt)
    if len(made) != len(stored.crypt) or made.rpartition("$")[0] != stored.crypt.rpartition("$")[0]:
        raise Unverifiable(f"{stored.scheme.value}: libcrypt reads the parameters differently")
    return hmac.compare_digest(made, stored.crypt)


def _argon2(stored: PasswordHash, given: bytes) -> bool:
    from argon2.exceptions import Argon2Error, VerifyMismatchError  # noqa: PLC0415 - few files hold argon2
    from argon2.low_level import Type, verify_secret  # noqa: PLC0415 - the same

    kind = {"argon2i": Type.I, "argon2d": Type.D, "argon2id": Type.ID}[stored.crypt.split("$")[1]]
    try:
        return bool(verify_secret(stored.crypt.encode("ascii"), given, kind))
    except VerifyMismatchError:
        return False
    except (Argon2Error, ValueError) as error:
        raise Unverifiable(f"argon2: {clean_reason(str(error), 80)}") from None


_SLOWER: Final = 20  # times that passlib's own Python takes, and it holds up everybody else meanwhile
_PASSLIB: Final = {  # where libcrypt lacks them: it is faster, and lets other threads run
    Scheme.DES_CRYPT: "des_crypt",
    Scheme.BIG_CRYPT: "bigcrypt",
    Scheme.BSDI_CRYPT: "bsdi_crypt",
    Scheme.MD5_CRYPT: "md5_crypt",
    Scheme.SHA256_CRYPT: "sha256_crypt",
    Scheme.SHA512_CRYPT: "sha512_crypt",
    Scheme.SUN_MD5: "sun_md5_crypt",
    Scheme.SHA1_CRYPT: "sha1_crypt",
}


@cache
def passlib_handler(name: str) -> Any:
    """passlib's handler of this name, imported when somebody first needs one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # passlib asks the standard library's crypt module first
        # 40 ms, for whoever meets such a hash
        return getattr(import_module("passlib.hash"), name)


def _by_passlib(name: str) -> Callable[[PasswordHash, bytes], bool]:
    def check(stored: PasswordHash, given: bytes) -> bool:
        try:
            return b"\0" not in given and bool(passlib_handler(name).verify(given, stored.crypt))
        except ValueError as error:  # its own words for a hash that it reads more strictly, or a password it would cut
            raise Unverifiable(f"{stored.scheme.value}: passlib: {type(error).__name__}") from None

    return check


def _md4(stored: PasswordHash, given: bytes) -> bool:
    passlib_handler("nthash")  # without its warning
    lookup = import_module("passlib.crypto.digest").lookup_hash
    return hmac.compare_digest(lookup("md4").const(given).digest(), stored.digest)


def _nt(stored: PasswordHash, given: bytes) -> bool:
    """MD4 of UTF-16. The bytes are UTF-8; or Latin-1, for which libcrypt takes all that it is given."""
    handler = passlib_handler("nthash")
    texts = {_characters(given), given.decode("latin-1")}
    return any(hmac.compare_digest(handler.raw(text), stored.digest) for text in texts)


def _lanman(stored: PasswordHash, given: bytes) -> bool:
    """Upper case in an OEM code page that is not stored with the hash: only ASCII can be refused for certain."""
    text = _characters(given)
    if len(text) > 14:
        return False  # Windows keeps no such hash of a longer password; cut to 14, another would fit
    for page in ("cp437", "cp850"):
        try:
            made = passlib_handler("lmhash").raw(text.upper().encode(page))
        except UnicodeEncodeError:
            continue
        if hmac.compare_digest(made, stored.digest):
            return True
    if not text.isascii():
        raise Unverifiable("lanman: the code page of a password outside ASCII is not known")
    return False


def _characters(given: bytes) -> str:
    try:
        return given.decode()
    except UnicodeDecodeError:
        return given.decode("latin-1")


_CHECKS: Final[dict[Scheme, Callable[[PasswordHash, bytes], bool]]] = {
    Scheme.DES_CRYPT: _crypt,
    Scheme.BIG_CRYPT: _crypt,
    Scheme.BSDI_CRYPT: _crypt,
    Scheme.MD5_CRYPT: _crypt,
    Scheme.BCRYPT: _crypt,
    Scheme.SHA256_CRYPT: _crypt,
    Scheme.SHA512_CRYPT: _crypt,
    Scheme.YESCRYPT: _crypt,
    Scheme.GOST_YESCRYPT: _crypt,
    Scheme.SCRYPT: _crypt,
    Scheme.SUN_MD5: _crypt,
    Scheme.SHA1_CRYPT: _crypt,
    Scheme.APR_MD5: _by_passlib("apr_md5_crypt"),
    Scheme.ARGON2: _argon2,
    Scheme.MD4: _md4,
    Scheme.MD5: _by_digest("md5"),
    Scheme.SHA1: _by_digest("sha1"),
    Scheme.SHA256: _by_digest("sha256"),
    Scheme.SHA384: _by_digest("sha384"),
    Scheme.SHA512: _by_digest("sha512"),
    Scheme.SALTED_MD5: _by_digest("md5"),
    Scheme.SALTED_SHA1: _by_digest("sha1"),
    Scheme.SALTED_SHA256: _by_digest("sha256"),
    Scheme.SALTED_SHA384: _by_digest("sha384"),
    Scheme.SALTED_SHA512: _by_digest("sha512"),
    Scheme.NS_MTA_MD5: _ns_mta_md5,
    Scheme.LANMAN: _lanman,
    Scheme.NT: _nt,
    Scheme.PBKDF2_SHA1: _pbkdf2("sha1"),
    Scheme.PBKDF2_SHA256: _pbkdf2("sha256"),
    Scheme.PBKDF2_SHA512: _pbkdf2("sha512"),
    Scheme.SCRAM_SHA1: _scram("sha1"),
    Scheme.SCRAM_SHA256: _scram("sha256"),
    Scheme.PLAIN: _plain,
}
