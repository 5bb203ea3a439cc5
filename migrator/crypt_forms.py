"""Reads what crypt(3), passlib and argon2 write: DES, `$1$` to `$y$`, `$pbkdf2$`, `$argon2id$`.

Pure, and never raises. The cost of a check is read here too, so that a line that asks for hours of it is known before
anything is computed. Sources: crypt(5) of libxcrypt 4.4, passlib's and argon2's documentation of their formats.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Final

from migrator.passwords import PasswordHash, Scheme

_64: Final = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # crypt's own order, not base64's
_S: Final = "[./0-9A-Za-z]"
_MOST_LANES: Final = 64  # of argon2, each a thread while it is computed; programs choose 1 to 8
_DES_BLOCK: Final = rf"{_S}{{10}}[.26AEIMQUYcgkosw]"
_SALT: Final = r"[!-#%-)+-9<-\[\]-~]"  # what libxcrypt takes in a salt: printable, none of $ : ; * and backslash
_Read = Callable[[str, re.Match[str]], PasswordHash]


def read_crypt(text: str) -> PasswordHash:
    """What `text`, a hash without a {prefix}, is."""
    for start, form, read, scheme in _CRYPT:
        if not text.startswith(start):
            continue
        found = form.fullmatch(text)
        if found is not None:
            return read(text, found)
        if start:
            return PasswordHash(scheme, problem=f"begins like {scheme.value} but is not whole")
    if text.startswith("$"):
        return PasswordHash(Scheme.UNKNOWN, problem="a $...$ scheme that is not known")
    return PasswordHash(Scheme.UNKNOWN, problem="not a hash of a known kind")


def _fixed(scheme: Scheme, *, taken: bool = False, rounds: int = 0) -> _Read:
    """A kind whose cost is always the same; `taken`: CommuniGate takes it as it stands."""

    def read(text: str, found: re.Match[str]) -> PasswordHash:
        return PasswordHash(scheme, crypt=text, rounds=rounds, communigate=text if taken else "")

    return read


def _bcrypt(text: str, found: re.Match[str]) -> PasswordHash:
    # the guide names $2a$ only; $2b$ and $2y$ are the same for ASCII passwords, but nobody knows the passwords yet.
    # Of the salt's last character only two bits count, and some programs left the others set: libcrypt clears them.
    salt, rest = found[3], found[4]
    whole = f"${found[1]}${found[2]}${salt[:21]}{_BCRYPT_64[_BCRYPT_64.index(salt[21]) & 0x30]}{rest}"
    cost = int(found[2])
    if not 4 <= cost <= 31:
        return PasswordHash(Scheme.BCRYPT, problem=f"a bcrypt cost of {cost} does not exist")
    return PasswordHash(Scheme.BCRYPT, crypt=whole, rounds=1 << cost, communigate=text if found[1] == "2a" else "")


_BCRYPT_64: Final = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def _sha_crypt(scheme: Scheme) -> _Read:
    def read(text: str, found: re.Match[str]) -> PasswordHash:
        rounds = int(found[1] or 5000)
        if not 1000 <= rounds <= 999_999_999:
            return PasswordHash(scheme, problem=f"{rounds} rounds are outside 1000 to 999999999")
        return PasswordHash(scheme, crypt=text, rounds=rounds)

    return read


def _rounds(scheme: Scheme, default: int = 0) -> _Read:
    """`rounds` stands in the text as a number."""

    def read(text: str, found: re.Match[str]) -> PasswordHash:
        return PasswordHash(scheme, crypt=text, rounds=int(found[1] or 0) + default)

    return read


def _bsdi(text: str, found: re.Match[str]) -> PasswordHash:
    rounds = sum(_64.index(c) << (6 * n) for n, c in enumerate(found[1]))
    if not rounds:
        return PasswordHash(Scheme.BSDI_CRYPT, problem="no rounds")
    return PasswordHash(Scheme.BSDI_CRYPT, crypt=text, rounds=rounds)


def _nt(text: str, found: re.Match[str]) -> PasswordHash:
    return read_windows(Scheme.NT, found[1])


def read_windows(scheme: Scheme, text: str) -> PasswordHash:
    """An NT or LAN Manager hash in 32 hexadecimal digits; that of nothing stands where there is none."""
    prefix, nothing = _WINDOWS[scheme]
    if text.lower() == nothing:
        return PasswordHash(Scheme.ABSENT, problem=f"the {scheme.value} hash of nothing: there is none, or no password")
    return PasswordHash(scheme, digest=bytes.fromhex(text), communigate=prefix + text)


_WINDOWS: Final = {  # the prefix that CommuniGate takes it under, and the hash of nothing
    Scheme.LANMAN: ("{LANM}", "aad3b435b51404eeaad3b435b51404ee"),
    Scheme.NT: ("{MSNT}", "31d6cfe0d16ae931b73c59d7e0c089c0"),
}


def _yescrypt(scheme: Scheme) -> _Read:
    def read(text: str, found: re.Match[str]) -> PasswordHash:
        try:
            log_n, block, parallel, time, more = _yescrypt_parameters(found[1])
        except ValueError:
            return PasswordHash(scheme, problem="parameters that are not whole")
        if more or log_n > 40 or block > 1 << 20:
            return PasswordHash(scheme, problem="parameters that this version does not read")
        kib = (block << log_n) // 8  # blocks of 128 bytes
        return PasswordHash(scheme, crypt=text, memory=kib, rounds=parallel * (1 + time))

    return read


def _yescrypt_parameters(text: str) -> tuple[int, int, int, int, bool]:
    """log2 of N, r, p, t, and whether there is anything else (upgrades, ROM)."""
    _flavour, text = _take_number(text, 0)
    log_n, text = _take_number(text, 1)
    block, text = _take_number(text, 1)
    parallel, time, more = 1, 0, False
    if text:
        have, text = _take_number(text, 1)
        if have & 1:
            parallel, text = _take_number(text, 2)
        if have & 2:
            time, text = _take_number(text, 1)
        more = bool(have & ~3) or bool(text)
    return log_n, block, parallel, time, more


def _take_number(text: str, least: int) -> tuple[int, str]:
    """A number of variable length as yescrypt writes it: more than 47 in the first character means that more follow."""
    if not text:
        raise ValueError
    first = _64.index(text[0])
    start, end, length, bits, value = 0, 47, 1, 0, least
    while first > end:
        value += (end + 1 - start) << bits
        start, end = end + 1, end + 1 + (62 - end) // 2
        length, bits = length + 1, bits + 6
    value += (first - start) << bits
    if len(text) < length:
        raise ValueError
    for c in text[1:length]:
        bits -= 6
        value += _64.index(c) << bits
    return value, text[length:]


def _scrypt(text: str, found: re.Match[str]) -> PasswordHash:
    log_n = _64.index(found[1][0])
    block, parallel = (
        sum(_64.index(c) << (6 * n) for n, c in enumerate(part)) for part in (found[1][1:6], found[1][6:11])
    )
    if not (1 <= log_n <= 40 and block and parallel):
        return PasswordHash(Scheme.SCRYPT, problem="parameters that scrypt does not have")
    return PasswordHash(Scheme.SCRYPT, crypt=text, memory=(block << log_n) // 8, rounds=parallel)


def _argon2(text: str, found: re.Match[str]) -> PasswordHash:
    memory, passes, lanes = int(found[1]), int(found[2]), int(found[3])
    if not (passes and lanes and memory >= 8 * lanes):
        return PasswordHash(Scheme.ARGON2, problem="parameters that argon2 does not have")
    if lanes > _MOST_LANES:
        return PasswordHash(Scheme.ARGON2, problem=f"{lanes} lanes, more than {_MOST_LANES}")
    if len(found[4]) < 11 or len(found[5]) < 6 or 1 in (len(found[4]) % 4, len(found[5]) % 4):
        return PasswordHash(Scheme.ARGON2, problem="is not whole")
    return PasswordHash(Scheme.ARGON2, crypt=text, memory=memory, rounds=passes)


def _passlib_pbkdf2(text: str, found: re.Match[str]) -> PasswordHash:
    scheme, length = {
        None: (Scheme.PBKDF2_SHA1, 20),
        "sha256": (Scheme.PBKDF2_SHA256, 32),
        "sha512": (Scheme.PBKDF2_SHA512, 64),
    }[found[1]]
    try:
        salt, digest = (
            base64.b64decode(part.replace(".", "+") + "=" * (-len(part) % 4), validate=True)
            for part in (found[3], found[4])
        )
    except binascii.Error:
        return PasswordHash(scheme, problem="is not base64")
    if len(digest) != length:
        return PasswordHash(scheme, problem=f"has {len(digest)} bytes where {length} belong")
    return PasswordHash(scheme, digest=digest, salt=salt, rounds=int(found[2]))


def _form(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)


# beginning, whole form, reader, kind; the first that fits
_CRYPT: Final[tuple[tuple[str, re.Pattern[str], _Read, Scheme], ...]] = (
    (
        "$1$",
        _form(rf"\$1\${_SALT}{{0,8}}\${_S}{{22}}"),
        _fixed(Scheme.MD5_CRYPT, taken=True, rounds=1000),
        Scheme.MD5_CRYPT,
    ),
    ("$2", _form(rf"\$(2[abxy])\$(\d\d)\$({_S}{{22}})({_S}{{31}})"), _bcrypt, Scheme.BCRYPT),
    ("$3$", _form(r"\$3\$\$([0-9a-fA-F]{32})"), _nt, Scheme.NT),
    (
        "$5$",
        _form(rf"\$5\$(?:rounds=([1-9]\d{{0,9}})\$)?{_SALT}{{0,16}}\${_S}{{43}}"),
        _sha_crypt(Scheme.SHA256_CRYPT),
        Scheme.SHA256_CRYPT,
    ),
    (
        "$6$",
        _form(rf"\$6\$(?:rounds=([1-9]\d{{0,9}})\$)?{_SALT}{{0,16}}\${_S}{{86}}"),
        _sha_crypt(Scheme.SHA512_CRYPT),
        Scheme.SHA512_CRYPT,
    ),
    ("$7$", _form(rf"\$7\$({_S}{{11}}){_S}{{0,86}}\${_S}{{43}}"), _scrypt, Scheme.SCRYPT),
    ("$y$", _form(rf"\$y\$({_S}+)\${_S}{{0,86}}\${_S}{{43}}"), _yescrypt(Scheme.YESCRYPT), Scheme.YESCRYPT),
    ("$gy$", _form(rf"\$gy\$({_S}+)\${_S}{{0,86}}\${_S}{{43}}"), _yescrypt(Scheme.GOST_YESCRYPT), Scheme.GOST_YESCRYPT),
    (
        "$md5",
        _form(rf"\$md5(?:,rounds=([1-9]\d{{0,9}}))?\${_S}{{1,32}}\$\$?{_S}{{22}}"),
        _rounds(Scheme.SUN_MD5, 4096),
        Scheme.SUN_MD5,
    ),
    (
        "$sha1$",
        _form(rf"\$sha1\$([1-9]\d{{0,9}})\${_S}{{1,64}}\${_S}{{28}}"),
        _rounds(Scheme.SHA1_CRYPT),
        Scheme.SHA1_CRYPT,
    ),
    ("$apr1$", _form(rf"\$apr1\${_S}{{0,8}}\${_S}{{22}}"), _fixed(Scheme.APR_MD5, rounds=1000), Scheme.APR_MD5),
    (
        "$argon2",
        _form(
            r"\$argon2(?:id|i|d)\$(?:v=\d+\$)?m=(\d{1,10}),t=(\d{1,10}),p=(\d{1,8})"
            r"\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)"
        ),
        _argon2,
        Scheme.ARGON2,
    ),
    (
        "$pbkdf2",
        _form(r"\$pbkdf2(?:-(sha256|sha512))?\$([1-9]\d{0,9})\$([A-Za-z0-9./]*)\$([A-Za-z0-9./]+)"),
        _passlib_pbkdf2,
        Scheme.PBKDF2_SHA1,
    ),
    ("_", _form(rf"_({_S}{{4}}){_S}{{4}}{_S}{{11}}"), _bsdi, Scheme.BSDI_CRYPT),
    # 64 bits in 11 characters: the last one has two bits that are always 0, which tells many words from a hash
    ("", _form(rf"{_S}{{2}}{_DES_BLOCK}"), _fixed(Scheme.DES_CRYPT, taken=True, rounds=25), Scheme.DES_CRYPT),
    # OpenLDAP's {CRYPT} of a password of more than eight characters, on systems with libxcrypt
    ("", _form(rf"{_S}{{2}}(?:{_DES_BLOCK}){{2,16}}"), _fixed(Scheme.BIG_CRYPT, rounds=400), Scheme.BIG_CRYPT),
)
