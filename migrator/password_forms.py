"""Reads a stored password in every form that passwd files, LDAP directories and Dovecot write.

Pure, and never raises: what is not understood is UNKNOWN, what is understood but damaged has its `problem`. Strict on
purpose: a cut hash must never look like a whole one, because a user would then be refused for it.

Sources: crypt(5) of libxcrypt; RFC 2307 and OpenLDAP's slapd.conf(5) and contrib/slapd-modules/passwd; Dovecot's
"Password Schemes"; passlib's documentation of its formats; the CommuniGate Pro migration guide 5.2; RFC 5802 (SCRAM).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Final

from migrator.crypt_forms import read_crypt, read_windows
from migrator.passwords import PasswordHash, Scheme

_LIMIT: Final = 4096  # characters: a line of CommuniGate's helper protocol; the longest real form is below 1000
_PREFIX: Final = re.compile(r"\{([A-Za-z0-9_./-]{1,32})\}(.*)", re.DOTALL)
_HEX: Final = re.compile(r"(?:[0-9a-f]{2})*|(?:[0-9A-F]{2})*|(?:[0-9A-Fa-f]{2})*")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")  # a byte that was not UTF-8
_MOST_SALT: Final = 256  # bytes; OpenLDAP's are 4 to 64


class _Broken(Exception):
    """The text says which kind it is, but is not whole."""


def read_password(text: str) -> PasswordHash:
    """What `text`, the password field of one user, is."""
    if len(text) > _LIMIT:
        return PasswordHash(Scheme.UNKNOWN, problem=f"longer than {_LIMIT} characters")
    text = text.strip(" \t\r\n")
    absent = _read_absent(text)
    if absent is not None:
        return absent
    prefixed = _PREFIX.fullmatch(text)
    if prefixed is None:
        return read_crypt(text)
    return _read_prefixed(prefixed[1].upper(), prefixed[2])


def _read_absent(text: str) -> PasswordHash | None:
    if text in ("", "x", "*", "+", "NP", "*NP*", "!!", "!*", "NOPASSWORD"):
        return PasswordHash(Scheme.ABSENT, problem="no password in this field: it is kept elsewhere, or was never set")
    if text.startswith(("!", "*LK*", "*LOCKED*")):
        return PasswordHash(Scheme.LOCKED, problem="the account is locked")
    return None


def _read_prefixed(name: str, rest: str) -> PasswordHash:
    name, encoding = _split_encoding(name)
    read = _FORMS.get(name)
    if read is None:
        return PasswordHash(Scheme.UNKNOWN, problem=f"the scheme {{{name}}} is not known")
    try:
        return read(rest, encoding)
    except _Broken as broken:
        return PasswordHash(_scheme_of(name), problem=f"{{{name}}} {broken}")


def _split_encoding(name: str) -> tuple[str, str]:
    """Dovecot's {SCHEME.HEX}, {SCHEME.B64}, {SCHEME.BASE64}."""
    for suffix, encoding in ((".HEX", "hex"), (".B64", "base64"), (".BASE64", "base64")):
        if name.endswith(suffix):
            return name.removesuffix(suffix), encoding
    return name, ""


def _decode(text: str, encoding: str) -> bytes:
    """Base64 (padding may be missing) or hexadecimal."""
    if encoding == "hex":
        if not _HEX.fullmatch(text):
            raise _Broken("is not hexadecimal")
        return bytes.fromhex(text)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise _Broken("is not base64") from None


# -- digests -----------------------------------------------------------------------------------------------------------

_LENGTHS: Final = {
    Scheme.MD4: 16,
    Scheme.MD5: 16,
    Scheme.SHA1: 20,
    Scheme.SHA256: 32,
    Scheme.SHA384: 48,
    Scheme.SHA512: 64,
    Scheme.SALTED_MD5: 16,
    Scheme.SALTED_SHA1: 20,
    Scheme.SALTED_SHA256: 32,
    Scheme.SALTED_SHA384: 48,
    Scheme.SALTED_SHA512: 64,
}
_Read = Callable[[str, str], PasswordHash]


def _plain_digest(scheme: Scheme, communigate: str = "", encoding: str = "") -> _Read:
    """An unsalted digest; `communigate` is the prefix under which CommuniGate takes it, in base64."""
    length = _LENGTHS[scheme]

    def read(text: str, given: str) -> PasswordHash:
        kind = given or encoding
        if not kind:
            kind = "hex" if len(text) == 2 * length and _HEX.fullmatch(text) else "base64"
        digest = _decode(text, kind)
        if len(digest) != length:
            raise _Broken(f"has {len(digest)} bytes where {length} belong")
        form = communigate + base64.b64encode(digest).decode() if communigate else ""
        return PasswordHash(scheme, digest=digest, communigate=form)

    return read


def _salted_digest(scheme: Scheme) -> _Read:
    """A digest of password and salt, with the salt, of any length, after it."""
    length = _LENGTHS[scheme]

    def read(text: str, given: str) -> PasswordHash:
        raw = _decode(text, given or "base64")
        digest, salt = raw[:length], raw[length:]
        if len(digest) < length:
            raise _Broken(f"has {len(raw)} bytes where more than {length} belong")
        if len(salt) > _MOST_SALT:
            raise _Broken(f"has a salt of {len(salt)} bytes")
        # the guide speaks of an 8-byte salt; whether the server reads others is not documented
        taken = scheme is Scheme.SALTED_SHA1 and len(salt) == 8
        form = "{SSHA}" + base64.b64encode(raw).decode() if taken else ""
        return PasswordHash(scheme, digest=digest, salt=salt, communigate=form)

    return read


def _md5(text: str, given: str) -> PasswordHash:
    """{MD5} is a base64 digest in LDAP, and md5-crypt in Dovecot: the text tells which."""
    if text.startswith("$1$"):
        return _inner(Scheme.MD5_CRYPT)(text, given)
    return _plain_digest(Scheme.MD5, "{MD5}")(text, given)


def _ns_mta_md5(text: str, given: str) -> PasswordHash:
    if len(text) != 64 or not _HEX.fullmatch(text):
        raise _Broken("is not 64 hexadecimal digits")
    return PasswordHash(
        Scheme.NS_MTA_MD5,
        digest=bytes.fromhex(text[:32]),
        salt=text[32:].encode(),  # as text, in the case it is written in
        communigate="{NS-MTA-MD5}" + text,
    )


def _windows(scheme: Scheme) -> _Read:
    def read(text: str, given: str) -> PasswordHash:
        if len(text) != 32 or not _HEX.fullmatch(text):
            raise _Broken("is not 32 hexadecimal digits")
        return read_windows(scheme, text)

    return read


# -- crypt behind a prefix ---------------------------------------------------------------------------------------------


def _inner(expected: Scheme | None) -> _Read:
    """crypt(3) behind a prefix; `expected` is the kind the prefix promises."""

    def read(text: str, given: str) -> PasswordHash:
        absent = _read_absent(text)
        if absent is not None:
            return absent
        inner = read_crypt(text)
        if expected is not None and inner.scheme is not expected:
            raise _Broken(f"does not hold {expected.value}")
        return inner

    return read


def _plain(text: str, encoding: str) -> PasswordHash:
    if encoding or not text:
        raise _Broken("holds no clear text")
    if any(c < " " or c == "\x7f" for c in text):
        raise _Broken("holds control characters")  # a leading 002 would make it an encrypted password
    raw = text.encode("utf-8", "surrogateescape")
    # bytes that are not UTF-8 can be compared with what a user sends, but in no import file
    return PasswordHash(Scheme.PLAIN, digest=raw, communigate="" if _SURROGATE.search(text) else text)


# -- PBKDF2 and SCRAM --------------------------------------------------------------------------------------------------

_PBKDF2_LENGTHS: Final = {Scheme.PBKDF2_SHA1: 20, Scheme.PBKDF2_SHA256: 32, Scheme.PBKDF2_SHA512: 64}
_DOVECOT_PBKDF2: Final = re.compile(r"\$1\$([!-#%-~]{1,64})\$([1-9][0-9]{0,9})\$([0-9a-fA-F]{40})")
_PBKDF2: Final = re.compile(r"([1-9][0-9]{0,9})\$([A-Za-z0-9./+]*={0,2})\$([A-Za-z0-9./+]+={0,2})")


def _pbkdf2(scheme: Scheme) -> _Read:
    """rounds$salt$digest in adapted base64 ('.' for '+', no padding) of OpenLDAP and passlib, or Dovecot's own form."""

    def read(text: str, given: str) -> PasswordHash:
        if scheme is Scheme.PBKDF2_SHA1 and (found := _DOVECOT_PBKDF2.fullmatch(text)):
            return PasswordHash(scheme, digest=bytes.fromhex(found[3]), salt=found[1].encode(), rounds=int(found[2]))
        found = _PBKDF2.fullmatch(text)
        if found is None:
            raise _Broken("is not rounds$salt$digest")
        salt, digest = (_decode(part.replace(".", "+").rstrip("="), "base64") for part in (found[2], found[3]))
        if len(digest) != _PBKDF2_LENGTHS[scheme]:
            raise _Broken(f"has {len(digest)} bytes where {_PBKDF2_LENGTHS[scheme]} belong")
        return PasswordHash(scheme, digest=digest, salt=salt, text_salt=found[2].encode(), rounds=int(found[1]))

    return read


def _netscape_pbkdf2(text: str, given: str) -> PasswordHash:
    """389 Directory Server's own: 4 bytes of rounds, 64 of salt, 256 of digest, of which each 32 are a whole PBKDF2."""
    raw = _decode(text, "base64")
    if len(raw) != 4 + 64 + 256:
        raise _Broken(f"has {len(raw)} bytes where 324 belong")
    rounds = int.from_bytes(raw[:4])
    if not rounds:
        raise _Broken("has no rounds")
    return PasswordHash(Scheme.PBKDF2_SHA256, digest=raw[68:100], salt=raw[4:68], rounds=rounds)


def _scram(scheme: Scheme, length: int) -> _Read:
    """rounds,salt,StoredKey,ServerKey (Dovecot): StoredKey is compared."""

    def read(text: str, given: str) -> PasswordHash:
        parts = text.split(",")
        if len(parts) != 4 or not re.fullmatch(r"[1-9][0-9]{0,9}", parts[0]):
            raise _Broken("is not rounds,salt,StoredKey,ServerKey")
        salt, stored, server = (_decode(part, "base64") for part in parts[1:])
        if len(stored) != length or len(server) != length:
            raise _Broken("has keys of the wrong length")
        return PasswordHash(scheme, digest=stored, salt=salt, rounds=int(parts[0]))

    return read


def _only_known(scheme: Scheme, why: str) -> _Read:
    def read(text: str, given: str) -> PasswordHash:
        return PasswordHash(scheme, problem=why)

    return read


_FORMS: Final[dict[str, _Read]] = {
    "CRYPT": _inner(None),
    "WM-CRY": _inner(None),
    "UNIX": _inner(None),
    "DES-CRYPT": _inner(Scheme.DES_CRYPT),
    "MD5-CRYPT": _inner(Scheme.MD5_CRYPT),
    "BLF-CRYPT": _inner(Scheme.BCRYPT),
    "BCRYPT": _inner(Scheme.BCRYPT),
    "SHA256-CRYPT": _inner(Scheme.SHA256_CRYPT),
    "SHA512-CRYPT": _inner(Scheme.SHA512_CRYPT),
    "ARGON2": _inner(Scheme.ARGON2),
    "ARGON2I": _inner(Scheme.ARGON2),
    "ARGON2D": _inner(Scheme.ARGON2),
    "ARGON2ID": _inner(Scheme.ARGON2),
    "MD5": _md5,
    "LDAP-MD5": _plain_digest(Scheme.MD5, "{MD5}"),
    "PLAIN-MD5": _plain_digest(Scheme.MD5, "{MD5}", "hex"),
    "PLAIN-MD4": _plain_digest(Scheme.MD4, "", "hex"),
    "SHA": _plain_digest(Scheme.SHA1, "{SHA}"),
    "SHA1": _plain_digest(Scheme.SHA1, "{SHA}"),
    "SHA256": _plain_digest(Scheme.SHA256),
    "SHA384": _plain_digest(Scheme.SHA384),
    "SHA512": _plain_digest(Scheme.SHA512),
    "SMD5": _salted_digest(Scheme.SALTED_MD5),
    "SSHA": _salted_digest(Scheme.SALTED_SHA1),
    "SSHA256": _salted_digest(Scheme.SALTED_SHA256),
    "SSHA384": _salted_digest(Scheme.SALTED_SHA384),
    "SSHA512": _salted_digest(Scheme.SALTED_SHA512),
    "NS-MTA-MD5": _ns_mta_md5,
    "LANM": _windows(Scheme.LANMAN),
    "LANMAN": _windows(Scheme.LANMAN),
    "LM": _windows(Scheme.LANMAN),
    "MSNT": _windows(Scheme.NT),
    "NT": _windows(Scheme.NT),
    "NTLM": _windows(Scheme.NT),
    "PBKDF2": _pbkdf2(Scheme.PBKDF2_SHA1),
    "PBKDF2-SHA1": _pbkdf2(Scheme.PBKDF2_SHA1),
    "PBKDF2-SHA256": _pbkdf2(Scheme.PBKDF2_SHA256),
    "PBKDF2-SHA512": _pbkdf2(Scheme.PBKDF2_SHA512),
    "SCRAM-SHA-1": _scram(Scheme.SCRAM_SHA1, 20),
    "SCRAM-SHA-256": _scram(Scheme.SCRAM_SHA256, 32),
    "PLAIN": _plain,
    "CLEAR": _plain,
    "CLEARTEXT": _plain,
    "CRAM-MD5": _only_known(Scheme.CRAM_MD5, "a CRAM-MD5 context cannot be checked with a password"),
    "HMAC-MD5": _only_known(Scheme.CRAM_MD5, "a CRAM-MD5 context cannot be checked with a password"),
    "DIGEST-MD5": _only_known(Scheme.DIGEST_MD5, "a DIGEST-MD5 secret depends on a realm that is not stored with it"),
    "OTP": _only_known(Scheme.OTHER, "one-time passwords cannot be moved"),
    "SKEY": _only_known(Scheme.OTHER, "one-time passwords cannot be moved"),
    "PLAIN-TRUNC": _only_known(Scheme.OTHER, "cut clear text is not a password"),
    "SASL": _only_known(Scheme.OTHER, "the password is kept by another service ({SASL})"),
    "KERBEROS": _only_known(Scheme.OTHER, "the password is kept by another service ({KERBEROS})"),
    "PBKDF2_SHA256": _netscape_pbkdf2,
}


def _scheme_of(name: str) -> Scheme:
    """The kind that a prefix promises, for a text that does not keep it."""
    return _PROMISED.get(name, Scheme.UNKNOWN)


_PROMISED: Final = {
    "MD5": Scheme.MD5,
    "LDAP-MD5": Scheme.MD5,
    "PLAIN-MD5": Scheme.MD5,
    "PLAIN-MD4": Scheme.MD4,
    "SHA": Scheme.SHA1,
    "SHA1": Scheme.SHA1,
    "SHA256": Scheme.SHA256,
    "SHA384": Scheme.SHA384,
    "SHA512": Scheme.SHA512,
    "SMD5": Scheme.SALTED_MD5,
    "SSHA": Scheme.SALTED_SHA1,
    "SSHA256": Scheme.SALTED_SHA256,
    "SSHA384": Scheme.SALTED_SHA384,
    "SSHA512": Scheme.SALTED_SHA512,
    "NS-MTA-MD5": Scheme.NS_MTA_MD5,
    "LANM": Scheme.LANMAN,
    "MSNT": Scheme.NT,
    "PBKDF2": Scheme.PBKDF2_SHA1,
    "PBKDF2-SHA256": Scheme.PBKDF2_SHA256,
    "PBKDF2_SHA256": Scheme.PBKDF2_SHA256,
    "PBKDF2-SHA512": Scheme.PBKDF2_SHA512,
}
