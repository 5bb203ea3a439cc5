"""A stored password as an old system wrote it: which kind of hash it is, and what CommuniGate makes of it.

Pure: no file is read, and no hash computed (`password_check` verifies). Never prints a hash: reprs leave it out.
What CommuniGate takes as it is stands in its migration guide (5.2), "Converting Passwords"; whatever the guide does not
name is left to the first login, because nobody could log in if the server read it differently.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

BINARY_PREFIX: Final = "\x02"  # before an encrypted password in a CLI command (the guide)


class Scheme(Enum):
    """A kind of stored password; the value is how it is called in lists."""

    DES_CRYPT = "des-crypt"
    BIG_CRYPT = "bigcrypt"  # DES, 11 more characters for each 8 of the password
    BSDI_CRYPT = "bsdi-crypt"
    MD5_CRYPT = "md5-crypt"  # $1$
    APR_MD5 = "apr1-md5"  # $apr1$, Apache's htpasswd
    BCRYPT = "bcrypt"  # $2a$, $2b$, $2y$
    SHA256_CRYPT = "sha256-crypt"  # $5$
    SHA512_CRYPT = "sha512-crypt"  # $6$
    YESCRYPT = "yescrypt"  # $y$
    GOST_YESCRYPT = "gost-yescrypt"  # $gy$
    SCRYPT = "scrypt"  # $7$
    SUN_MD5 = "sun-md5"  # $md5$
    SHA1_CRYPT = "sha1-crypt"  # $sha1$, NetBSD
    ARGON2 = "argon2"
    MD5 = "md5"
    MD4 = "md4"
    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA384 = "sha384"
    SHA512 = "sha512"
    SALTED_MD5 = "salted-md5"
    SALTED_SHA1 = "salted-sha1"
    SALTED_SHA256 = "salted-sha256"
    SALTED_SHA384 = "salted-sha384"
    SALTED_SHA512 = "salted-sha512"
    NS_MTA_MD5 = "ns-mta-md5"
    LANMAN = "lanman"
    NT = "nt"
    PBKDF2_SHA1 = "pbkdf2-sha1"
    PBKDF2_SHA256 = "pbkdf2-sha256"
    PBKDF2_SHA512 = "pbkdf2-sha512"
    SCRAM_SHA1 = "scram-sha1"
    SCRAM_SHA256 = "scram-sha256"
    PLAIN = "plain"  # {PLAIN}, {CLEARTEXT}: no hash at all
    CRAM_MD5 = "cram-md5"
    DIGEST_MD5 = "digest-md5"
    OTHER = "known elsewhere, cannot be checked here"
    LOCKED = "locked"  # a mark before the hash, or *LK*
    ABSENT = "no password here"  # empty, *, x, *NP*: it is kept elsewhere, or there is none
    UNKNOWN = "unknown"


class Use(Enum):
    """What becomes of a user with such a password; the value is how it is called in lists."""

    AS_IT_IS = "taken as it is"  # 002 prefix in the CLI, UnixPassword column of an import file
    PASSWORD = "clear text"  # noqa: S105 - a kind's name. The Password column, no prefix
    FIRST_LOGIN = "at the first login"  # verify = "hashes" checks it and sets the real password
    NEW_PASSWORD = "needs a new password"  # noqa: S105 - a kind's name. Nobody can check it


CANNOT_BE_CHECKED: Final = frozenset(
    {Scheme.CRAM_MD5, Scheme.DIGEST_MD5, Scheme.OTHER, Scheme.LOCKED, Scheme.ABSENT, Scheme.UNKNOWN}
)
_CUTTABLE: Final = frozenset(
    {
        Scheme.SALTED_MD5,
        Scheme.SALTED_SHA1,
        Scheme.SALTED_SHA256,
        Scheme.SALTED_SHA384,
        Scheme.SALTED_SHA512,
        Scheme.PLAIN,
        Scheme.ARGON2,
        Scheme.BIG_CRYPT,
        Scheme.DES_CRYPT,  # the beginning of a bigcrypt is one
    }
)


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """One stored password, taken apart. Built by `password_forms.read_password` only."""

    scheme: Scheme
    communigate: str = field(default="", repr=False)  # the form CommuniGate takes; "" where it takes none
    crypt: str = field(default="", repr=False)  # what libcrypt, passlib or argon2 compare with
    digest: bytes = field(default=b"", repr=False)
    salt: bytes = field(default=b"", repr=False)
    text_salt: bytes = field(default=b"", repr=False)  # the salt as some programs take the same text: not decoded
    rounds: int = 0  # iterations; 2 ** cost for bcrypt; passes over the memory for argon2
    memory: int = 0  # KiB a check needs, for the kinds that need much
    problem: str = ""  # why it cannot be used: one clean line without the hash

    @property
    def use(self) -> Use:
        """What becomes of the user who has it."""
        if self.problem or self.scheme in CANNOT_BE_CHECKED:
            return Use.NEW_PASSWORD
        if not self.communigate:
            return Use.FIRST_LOGIN
        return Use.PASSWORD if self.scheme is Scheme.PLAIN else Use.AS_IT_IS

    @property
    def verifiable(self) -> bool:
        """Whether `password_check.verify` can tell a right password from a wrong one."""
        return not self.problem and self.scheme not in CANNOT_BE_CHECKED

    @property
    def may_be_cut(self) -> bool:
        """Whether a part of it would still look whole: it has no fixed length."""
        return self.scheme in _CUTTABLE

    @property
    def for_cli(self) -> str:
        """The value of `Password` in CreateAccount and UpdateAccountSettings; "" where CommuniGate takes none.

        A hash gets the binary 002 before it. Clear text goes as it is.
        """
        if self.use is Use.AS_IT_IS:
            return BINARY_PREFIX + self.communigate
        return self.communigate if self.use is Use.PASSWORD else ""

    @property
    def import_columns(self) -> dict[str, str]:
        """The column of an account import file and its value; empty where CommuniGate takes none."""
        if self.use is Use.AS_IT_IS:
            return {"UnixPassword": self.communigate}
        return {"Password": self.communigate} if self.use is Use.PASSWORD else {}
