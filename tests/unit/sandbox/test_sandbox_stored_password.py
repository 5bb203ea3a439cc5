"""Every stored form of a password that the migration guide names and the simulation reads."""

from __future__ import annotations

import base64
import hashlib

import pytest

from extauth.sandbox.stored_password import matches
from migrator.password_forms import read_password
from migrator.passwords import Use
from tests.vectors.password_hashes import VECTORS, Vector

SALT = b"saltsalt"
STORED = {
    "plain": "password",
    "NS-MTA-MD5": "\x02{NS-MTA-MD5}18c04d74cf2d34f9887c6832582546b88fd9d0a03491ce8f99cfbc9ab39f0dd5",
    "SHA": "\x02{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
    "MD5": "\x02{MD5}X03MO1qnZdYdgyfeuILPmQ==",
    "SSHA": "\x02{SSHA}" + base64.b64encode(hashlib.sha1(b"password" + SALT).digest() + SALT).decode(),
    "MD5 crypt": "\x02$1$VlPrB$K5lyFpEad1tLsxlNdutBK0",
    "crypt": "\x02abJnggxhB/yWI",
    "{crypt}": "\x02{crypt}abJnggxhB/yWI",
    "{WM-CRY}": "\x02{WM-CRY}abJnggxhB/yWI",
}


@pytest.mark.parametrize("stored", STORED.values(), ids=STORED.keys())
def test_right_and_wrong(stored: str) -> None:
    assert matches(stored, b"password")
    assert not matches(stored, b"Password")
    assert not matches(stored, b"")


@pytest.mark.parametrize("vector", VECTORS, ids=[f"{n}-{v.scheme.value}" for n, v in enumerate(VECTORS)])
def test_only_what_the_guide_names_lets_anybody_in(vector: Vector) -> None:
    """As it is handed over; a kind that the guide does not name opens nothing, although it is right."""
    taken = vector.use is Use.AS_IT_IS
    assert matches(read_password(vector.text).for_cli, vector.password) is taken
    assert matches("\x02" + vector.text, vector.password) is taken


@pytest.mark.parametrize("stored", ["", "\x02", "\x02{SHA}!", "\x02{SHA}", "\x02{LANM}00", "\x02{other}x", "\x02short"])
def test_what_nobody_can_log_in_with(stored: str) -> None:
    assert not matches(stored, b"password")
    assert not matches(stored, stored.encode())


def test_bytes_that_are_not_utf8() -> None:
    assert matches("\udce4", b"\xe4")
    assert not matches("\udce4", "ä".encode())
