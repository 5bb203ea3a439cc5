"""Hashes as other programs make them: mkpasswd, Dovecot, OpenSSL, OpenLDAP and passlib, checked both ways.

Each program is its own implementation of most kinds, so that an error of ours cannot agree with itself.
"""

from __future__ import annotations

import subprocess
import warnings
from pathlib import Path

import pytest

from migrator.password_check import Unverifiable, verify
from migrator.password_forms import read_password
from migrator.passwords import Scheme
from tests.vectors.password_hashes import VECTORS, Vector
from wire.secret import Secret

PASSWORDS = [
    b"secret",
    "s\u00e9cr\u00e8t \u043f\u0430\u0440".encode(),
    b"latin \xe9\xff",
    b'quo"te \\ $x {SHA} ' + b"y" * 30,
]
MKPASSWD = {
    "yescrypt": Scheme.YESCRYPT,
    "gost-yescrypt": Scheme.GOST_YESCRYPT,
    "scrypt": Scheme.SCRYPT,
    "bcrypt": Scheme.BCRYPT,
    "bcrypt-a": Scheme.BCRYPT,
    "sha512crypt": Scheme.SHA512_CRYPT,
    "sha256crypt": Scheme.SHA256_CRYPT,
    "sunmd5": Scheme.SUN_MD5,
    "md5crypt": Scheme.MD5_CRYPT,
    "bsdicrypt": Scheme.BSDI_CRYPT,
    "descrypt": Scheme.DES_CRYPT,
    "nt": Scheme.NT,
}
DOVECOT = {
    "MD5": Scheme.MD5_CRYPT,
    "MD5-CRYPT": Scheme.MD5_CRYPT,
    "DES-CRYPT": Scheme.DES_CRYPT,
    "CRYPT": Scheme.BCRYPT,
    "BLF-CRYPT": Scheme.BCRYPT,
    "SHA256-CRYPT": Scheme.SHA256_CRYPT,
    "SHA512-CRYPT": Scheme.SHA512_CRYPT,
    "SHA": Scheme.SHA1,
    "SHA1": Scheme.SHA1,
    "SHA256": Scheme.SHA256,
    "SHA512": Scheme.SHA512,
    "SMD5": Scheme.SALTED_MD5,
    "SSHA": Scheme.SALTED_SHA1,
    "SSHA256": Scheme.SALTED_SHA256,
    "SSHA512": Scheme.SALTED_SHA512,
    "PLAIN": Scheme.PLAIN,
    "CLEAR": Scheme.PLAIN,
    "CLEARTEXT": Scheme.PLAIN,
    "PLAIN-MD4": Scheme.MD4,
    "PLAIN-MD5": Scheme.MD5,
    "LDAP-MD5": Scheme.MD5,
    "PBKDF2": Scheme.PBKDF2_SHA1,
    "SCRAM-SHA-1": Scheme.SCRAM_SHA1,
    "SCRAM-SHA-256": Scheme.SCRAM_SHA256,
    "ARGON2I": Scheme.ARGON2,
    "ARGON2ID": Scheme.ARGON2,
}
DOVECOT_UNCHECKED = {"CRAM-MD5", "HMAC-MD5", "DIGEST-MD5", "OTP", "PLAIN-TRUNC"}


def run(*command: str | bytes, stdin: bytes = b"") -> str:
    """What a program prints, without the line end."""
    done = subprocess.run(command, input=stdin, capture_output=True, check=True, timeout=60)
    return done.stdout.decode("utf-8", "surrogateescape").rstrip("\n")


def check(text: str, password: bytes, scheme: Scheme) -> None:
    """Right is right, wrong is wrong, and the kind is what it should be."""
    stored = read_password(text)
    assert (stored.scheme, stored.problem) == (scheme, "")
    assert verify(stored, Secret(password))
    assert not verify(stored, Secret(bytes([password[0] ^ 1]) + password[1:]))


def dovecot_says(text: str, password: bytes) -> bool:
    """Dovecot's own word on a password."""
    done = subprocess.run(["doveadm", "pw", "-t", text, "-p", password], capture_output=True, check=False, timeout=60)
    return done.returncode == 0


def test_every_method_of_mkpasswd_is_in_the_list() -> None:
    """A method that a newer mkpasswd brings is to be added here."""
    listed = {line.split()[0] for line in run("mkpasswd", "-m", "help").splitlines() if line[:1].islower()}
    assert listed == set(MKPASSWD)


@pytest.mark.parametrize("method", MKPASSWD)
@pytest.mark.parametrize("password", PASSWORDS)
def test_mkpasswd(method: str, password: bytes) -> None:
    """/etc/shadow's kinds, as this system makes them."""
    check(run("mkpasswd", "-s", "-m", method, stdin=password), password, MKPASSWD[method])


def test_every_scheme_of_dovecot_is_in_the_list() -> None:
    """A scheme that a newer Dovecot brings is to be added here."""
    assert set(run("doveadm", "pw", "-l").split()) == set(DOVECOT) | DOVECOT_UNCHECKED


@pytest.mark.parametrize("scheme", DOVECOT)
def test_dovecot_makes_them_and_we_check_them(scheme: str) -> None:
    """Its schemes, for every password."""
    for password in PASSWORDS[2:] if scheme.startswith("ARGON2") else PASSWORDS:  # these are slow on purpose
        check(run("doveadm", "pw", "-s", scheme, "-p", password), password, DOVECOT[scheme])


@pytest.mark.parametrize("scheme", sorted(DOVECOT_UNCHECKED))
def test_what_cannot_be_checked_is_known(scheme: str) -> None:
    """It says why, and never that a password is wrong."""
    stored = read_password(run("doveadm", "pw", "-s", scheme, "-p", "secret", "-u", "u@d.test"))
    assert stored.scheme is not Scheme.UNKNOWN
    for password in (b"secret", b"wrong"):
        with pytest.raises(Unverifiable):
            verify(stored, Secret(password))


_NOT_DOVECOTS = {  # kinds that it does not have
    Scheme.NS_MTA_MD5,
    Scheme.SHA384,
    Scheme.LANMAN,
    Scheme.NT,
    Scheme.APR_MD5,
    Scheme.PBKDF2_SHA256,
    Scheme.PBKDF2_SHA512,
}
_SHARED = [
    v
    for v in VECTORS
    if v.scheme not in _NOT_DOVECOTS and "$argon2i$m=" not in v.text  # version 0x10, which libsodium does not know
]


@pytest.mark.parametrize("vector", _SHARED, ids=[f"{n}-{v.scheme.value}" for n, v in enumerate(_SHARED)])
def test_dovecot_agrees_about_the_published_vectors(vector: Vector) -> None:
    """The right password and a wrong one, in the spelling that it knows."""
    text = vector.text
    for ours, its in (("{WM-CRY}", "{CRYPT}"), ("{ARGON2}", "{ARGON2ID}"), ("{MD5}", "{LDAP-MD5}")):
        text = text.replace(ours, its)
    if text.startswith("$argon2i$"):
        text = "{ARGON2I}" + text
    elif not text.startswith("{"):
        text = "{CRYPT}" + text
    wrong = bytes([vector.password[0] ^ 1]) + vector.password[1:]
    assert (dovecot_says(text, vector.password), dovecot_says(text, wrong)) == (True, False)


@pytest.mark.parametrize(
    ("flag", "scheme"),
    [
        ("-1", Scheme.MD5_CRYPT),
        ("-apr1", Scheme.APR_MD5),
        ("-5", Scheme.SHA256_CRYPT),
        ("-6", Scheme.SHA512_CRYPT),
    ],
)
def test_openssl(flag: str, scheme: Scheme) -> None:
    """Its own implementation of four kinds."""
    for password in PASSWORDS:
        check(run("openssl", "passwd", flag, "-stdin", stdin=password + b"\n"), password, scheme)


@pytest.mark.parametrize(
    ("module", "prefix", "scheme"),
    [
        ("", "{SSHA}", Scheme.SALTED_SHA1),
        ("", "{SMD5}", Scheme.SALTED_MD5),
        ("", "{SHA}", Scheme.SHA1),
        ("", "{MD5}", Scheme.MD5),
        ("pw-sha2", "{SHA256}", Scheme.SHA256),
        ("pw-sha2", "{SSHA256}", Scheme.SALTED_SHA256),
        ("pw-sha2", "{SHA384}", Scheme.SHA384),
        ("pw-sha2", "{SSHA384}", Scheme.SALTED_SHA384),
        ("pw-sha2", "{SHA512}", Scheme.SHA512),
        ("pw-sha2", "{SSHA512}", Scheme.SALTED_SHA512),
        ("pw-pbkdf2", "{PBKDF2}", Scheme.PBKDF2_SHA1),
        ("pw-pbkdf2", "{PBKDF2-SHA1}", Scheme.PBKDF2_SHA1),
        ("pw-pbkdf2", "{PBKDF2-SHA256}", Scheme.PBKDF2_SHA256),
        ("pw-pbkdf2", "{PBKDF2-SHA512}", Scheme.PBKDF2_SHA512),
        ("argon2", "{ARGON2}", Scheme.ARGON2),
    ],
)
def test_slappasswd(tmp_path: Path, module: str, prefix: str, scheme: Scheme) -> None:
    """OpenLDAP's, with the modules that Debian brings."""
    file = tmp_path / "password"
    load = ["-o", f"module-load={module}.so"] if module else []
    for password in PASSWORDS:
        file.write_bytes(password)
        check(run("/usr/sbin/slappasswd", *load, "-h", prefix, "-T", str(file)), password, scheme)


def test_slappasswd_crypt(tmp_path: Path) -> None:
    """DES for eight characters, which is all it looks at; for more of them libxcrypt makes a bigcrypt."""
    file = tmp_path / "password"
    for password, scheme in ((b"eight...", Scheme.DES_CRYPT), (b"more than eight", Scheme.BIG_CRYPT)):
        file.write_bytes(password)
        made = run("/usr/sbin/slappasswd", "-h", "{CRYPT}", "-T", str(file))
        check(made, password, scheme)
        assert verify(read_password(made), Secret(password[:-1] + b"!")) is False
        assert verify(read_password(made), Secret(password + b"...")) is (scheme is Scheme.DES_CRYPT)


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("des_crypt", Scheme.DES_CRYPT),
        ("bsdi_crypt", Scheme.BSDI_CRYPT),
        ("md5_crypt", Scheme.MD5_CRYPT),
        ("sha1_crypt", Scheme.SHA1_CRYPT),
        ("sun_md5_crypt", Scheme.SUN_MD5),
        ("sha256_crypt", Scheme.SHA256_CRYPT),
        ("sha512_crypt", Scheme.SHA512_CRYPT),
        ("ldap_salted_sha1", Scheme.SALTED_SHA1),
        ("pbkdf2_sha1", Scheme.PBKDF2_SHA1),
        ("pbkdf2_sha256", Scheme.PBKDF2_SHA256),
        ("pbkdf2_sha512", Scheme.PBKDF2_SHA512),
        ("ldap_pbkdf2_sha256", Scheme.PBKDF2_SHA256),
        ("nthash", Scheme.NT),
    ],
)
def test_passlib(name: str, scheme: Scheme) -> None:
    """Its own code, where it has a choice, and not this system's libcrypt."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import passlib.hash
    handler = getattr(passlib.hash, name)
    if "rounds" in handler.setting_kwds:
        handler = handler.using(rounds=max(1001, handler.min_rounds))
    if getattr(handler, "backends", ()):
        before = handler.get_backend()
        handler.set_backend("builtin")
    try:
        made = handler.hash("secret")
    finally:
        if getattr(handler, "backends", ()):
            handler.set_backend(before)
    check("{NT}" + made if name == "nthash" else made, b"secret", scheme)
