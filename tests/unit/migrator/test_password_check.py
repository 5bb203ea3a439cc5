"""A right password is right, a wrong one is wrong, and whatever cannot be told is neither."""

from __future__ import annotations

import ctypes
import hashlib
from base64 import b64encode
from collections.abc import Iterator

import pytest

from migrator import libcrypt
from migrator.password_check import Unverifiable, is_slow, passlib_handler, too_costly, verify
from migrator.password_forms import read_password
from migrator.passwords import Scheme
from tests.vectors.password_hashes import VECTORS, Vector
from wire.secret import Secret

_IDS = [f"{n}-{vector.scheme.value}" for n, vector in enumerate(VECTORS)]


@pytest.mark.parametrize("vector", VECTORS, ids=_IDS)
def test_published_vectors(vector: Vector) -> None:
    """The password of the vector is accepted; with a changed first character it is not."""
    stored = read_password(vector.text)
    assert verify(stored, Secret(vector.password))
    assert not verify(stored, Secret(bytes([vector.password[0] ^ 1]) + vector.password[1:]))


@pytest.mark.parametrize("vector", VECTORS, ids=_IDS)
def test_a_zero_byte_never_hides_the_rest(vector: Vector) -> None:
    """crypt(3) reads up to a zero byte: what stands before it is never taken for the password."""
    assert not verify(read_password(vector.text), Secret(vector.password + b"\0more"))


@pytest.mark.parametrize("vector", VECTORS, ids=_IDS)
def test_an_empty_password_is_never_checked(vector: Vector) -> None:
    """Not even against a hash of nothing."""
    with pytest.raises(Unverifiable):
        verify(read_password(vector.text), Secret(b""))


@pytest.mark.parametrize("salt", [b"", b"\0", b"1234", b"12345678", bytes(range(64)), bytes(256)])
def test_salts_of_any_length(salt: bytes) -> None:
    """OpenLDAP's, Dovecot's and Sun's salts differ in length."""
    for prefix, algorithm in (
        ("SMD5", "md5"),
        ("SSHA", "sha1"),
        ("SSHA256", "sha256"),
        ("SSHA384", "sha384"),
        ("SSHA512", "sha512"),
    ):
        raw = hashlib.new(algorithm, b"s\xe9cret" + salt).digest() + salt
        stored = read_password(f"{{{prefix}}}{b64encode(raw).decode()}")
        assert verify(stored, Secret(b"s\xe9cret"))
        assert not verify(stored, Secret("sécret".encode()))  # the bytes as they come: nothing is converted


@pytest.mark.parametrize("password", ["sécret".encode(), "sécret".encode("latin-1"), b"\xff\xfe", "пароль".encode()])
def test_bytes_are_taken_as_they_come(password: bytes) -> None:
    """UTF-8 and Latin-1 forms of a password are two passwords for every kind of crypt."""
    for setting in ("ab", "$1$salt", "$5$salt", "$6$salt", "$y$j75$salt", "$2b$04$abcdefghijklmnopqrstuu"):
        stored = read_password(libcrypt.crypt(password, setting))
        assert verify(stored, Secret(password))
        assert not verify(stored, Secret(bytes([password[0] ^ 1]) + password[1:]))


def test_windows_hashes_read_characters() -> None:
    """NT hashes are of characters, so that either encoding of the same word is right."""
    stored = read_password("{MSNT}" + _nt("sécret").hex())
    assert verify(stored, Secret("sécret".encode()))
    assert verify(stored, Secret("sécret".encode("latin-1")))
    lanman = read_password("{LANM}e52cac67419a9a224a3b108f3fa6cb6d")
    assert verify(lanman, Secret(b"pAsSwOrD"))
    fourteen = read_password("{LANM}" + _lanman("fourteen chars").hex())
    assert verify(fourteen, Secret(b"fourteen chars"))
    assert not verify(fourteen, Secret(b"fourteen chars and more"))
    with pytest.raises(Unverifiable, match="code page"):
        verify(lanman, Secret("sécret".encode()))


def _lanman(text: str) -> bytes:
    from passlib.hash import lmhash

    raw: bytes = lmhash.raw(text)
    return raw


def _nt(text: str) -> bytes:
    from passlib.hash import nthash

    raw: bytes = nthash.raw(text)
    return raw


@pytest.mark.parametrize(
    "text",
    [
        "$6$rounds=999999999$saltstring$" + "a" * 86,
        "$5$rounds=2000001$saltstring$" + "a" * 43,
        "$2b$31$" + "." * 22 + "a" * 31,
        "{PBKDF2}$1$salt$4294967295$4b007901b765489abead49d926f721d065a429c1",
        "$argon2id$v=19$m=4194304,t=3,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        "$argon2id$v=19$m=65536,t=4000000000,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        "$y$jPT$Q1prQMyhsxOuabC3z39oc0$7uK0iFh0QofWQVdjp28TF22VNz.mdH8LVT3TsLCoG.5",
        "$7$ZU..../....mQCq6Jcu36J4alj5jfFDH1$wmHcn1CsVDk5vboYSqWIKiIsGspi.F9X0IdKBREw.d0",
        "$md5,rounds=4000000000$QEiEyIVH$$PST3d5MfGtnmDuZjsCmqI/",
        "$sha1$4000000000$jtNX3nZ2$hBNaIXkt4wBI2o5rsi8KejSjNqIq",
        "_zzzz9kan5sssBkBc8BY",
        "$argon2id$v=19$m=200000,t=10,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        "{SCRAM-SHA-1}4096000000,QSXCR+Q6sek8bf92,6dlGYMOdZcOPutkcNY8U2g7vK9Y=,D+CSWLOshSulAsxiupA+qs2/fTE=",
    ],
)
def test_a_hash_that_asks_for_hours_is_never_computed(text: str) -> None:
    """It is whole and known, and its cost is refused before anything is computed."""
    stored = read_password(text)
    assert stored.verifiable, stored.problem
    assert too_costly(stored)
    with pytest.raises(Unverifiable):
        verify(stored, Secret(b"secret"))


def test_an_argon2_with_thousands_of_lanes_is_never_computed() -> None:
    """Each lane would be a thread."""
    stored = read_password(
        "$argon2id$v=19$m=200000,t=1,p=20000$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
    )
    assert "lanes" in stored.problem


@pytest.mark.parametrize("text", ["", "x", "!$1$12345678$f8QoJuo0DpBRfQSD0vglc1", "secret", "{CRAM-MD5}" + "a" * 64])
def test_what_is_no_hash_is_never_compared(text: str) -> None:
    """Above all not as clear text: the word in the file must not become a password."""
    with pytest.raises(Unverifiable):
        verify(read_password(text), Secret(text.encode() or b"x"))


def test_clear_text_is_compared_as_it_is() -> None:
    """{PLAIN} only."""
    assert verify(read_password("{PLAIN}sécret"), Secret("sécret".encode()))
    assert not verify(read_password("{PLAIN}sécret"), Secret(b"secret"))


def test_a_bcrypt_salt_with_stray_bits() -> None:
    """Old programs set bits of the salt's last character that do not count; libcrypt clears them."""
    made = libcrypt.crypt(b"secret", "$2b$04$abcdefghijklmnopqrstuu")
    stray = made[:28] + "v" + made[29:]
    assert verify(read_password(stray), Secret(b"secret"))
    assert not verify(read_password(stray), Secret(b"Secret"))


def test_a_password_that_libcrypt_would_refuse_is_not_wrong() -> None:
    """512 bytes are too many for libcrypt; nobody is told that this is the wrong password."""
    stored = read_password("$1$12345678$f8QoJuo0DpBRfQSD0vglc1")
    assert not verify(stored, Secret(b"x" * 511))
    with pytest.raises(Unverifiable, match="511"):
        verify(stored, Secret(b"x" * 512))


def test_only_digests_are_quick() -> None:
    """Everything that iterates, and what has to be imported first, goes into a thread."""
    assert not is_slow(read_password("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="))
    slow = {read_password(vector.text).scheme for vector in VECTORS if is_slow(read_password(vector.text))}
    assert {Scheme.BCRYPT, Scheme.YESCRYPT, Scheme.ARGON2, Scheme.DES_CRYPT, Scheme.PBKDF2_SHA256} <= slow


@pytest.mark.parametrize("salt", [b"", b"salt", b"c2VhIHNhbHQ"])
@pytest.mark.parametrize("decoded", [True, False])
def test_a_pbkdf2_salt_in_both_readings(salt: bytes, decoded: bool) -> None:
    """Two modules of OpenLDAP write the same form and differ in what the salt is: a right password is right in both."""
    text = b64encode(salt).rstrip(b"=") if decoded else salt
    digest = b64encode(hashlib.pbkdf2_hmac("sha256", b"secret", salt, 1000)).rstrip(b"=")
    stored = read_password(f"{{PBKDF2-SHA256}}1000${text.decode()}${digest.decode().replace('+', '.')}")
    assert verify(stored, Secret(b"secret"))
    assert not verify(stored, Secret(b"Secret"))


IN_PASSLIB = (
    Scheme.DES_CRYPT, Scheme.BSDI_CRYPT, Scheme.MD5_CRYPT, Scheme.SHA256_CRYPT, Scheme.SHA512_CRYPT, Scheme.SUN_MD5,
    Scheme.SHA1_CRYPT,
)  # fmt: skip


@pytest.fixture
def no_libcrypt(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A system without libcrypt, as one with FIPS 140 is for the older methods."""

    def refuse(name: str | None) -> object:
        raise OSError(f"{name}: cannot open shared object file")

    libcrypt._function.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", refuse)
    yield
    libcrypt._function.cache_clear()


@pytest.mark.usefixtures("no_libcrypt")
@pytest.mark.parametrize("vector", [v for v in VECTORS if v.scheme in IN_PASSLIB])
def test_passlib_where_libcrypt_lacks_a_method(vector: Vector) -> None:
    """The same answers, or none; bcrypt and yescrypt are in libcrypt alone."""
    stored = read_password(vector.text)
    passlib_handler("md5_crypt")  # its own first import looks for a libcrypt, too
    assert verify(stored, Secret(vector.password)) is True
    assert verify(stored, Secret(b"x" + vector.password)) is False
