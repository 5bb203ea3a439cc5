"""Stored passwords are recognised for what they are, and damaged ones never for whole ones."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.password_forms import read_password
from migrator.passwords import Scheme, Use
from tests.vectors.password_hashes import VECTORS, Vector

_IDS = [f"{n}-{vector.scheme.value}" for n, vector in enumerate(VECTORS)]


@pytest.mark.parametrize("vector", VECTORS, ids=_IDS)
def test_every_published_form_is_recognised(vector: Vector) -> None:
    """Kind and use are as the vector says, and what CommuniGate takes has the 002 prefix and the import column."""
    found = read_password(vector.text)
    assert (found.scheme, found.use, found.problem) == (vector.scheme, vector.use, "")
    assert bool(found.communigate) == (vector.use is Use.AS_IT_IS)
    if vector.use is Use.AS_IT_IS:
        assert found.for_cli == "\x02" + found.communigate
        assert found.import_columns == {"UnixPassword": found.communigate}
    else:
        assert (found.for_cli, found.import_columns) == ("", {})


@pytest.mark.parametrize("vector", VECTORS, ids=_IDS)
def test_a_cut_hash_is_never_taken_for_a_whole_one(vector: Vector) -> None:
    """It has a problem, is of a kind that says it may be cut, or lacks nothing but base64's padding."""
    whole = read_password(vector.text)
    for cut in range(1, len(vector.text)):
        found = read_password(vector.text[:-cut])
        padding_only = vector.text[-cut:].strip("=") == "" and found == whole
        assert not found.verifiable or found.may_be_cut or padding_only, vector.text[:-cut]


@pytest.mark.parametrize("vector", VECTORS, ids=_IDS)
def test_a_repr_holds_no_hash(vector: Vector) -> None:
    """Neither the text nor its parts are in the repr, which may come into a log."""
    found = read_password(vector.text)
    for part in vector.text.replace("}", "$").replace("rounds=", "").split("$"):
        assert len(part) < 16 or part not in repr(found)


@pytest.mark.parametrize(
    ("text", "communigate"),
    [
        ("{CRYPT}$1$12345678$f8QoJuo0DpBRfQSD0vglc1", "$1$12345678$f8QoJuo0DpBRfQSD0vglc1"),
        ("{MD5}$1$12345678$f8QoJuo0DpBRfQSD0vglc1", "$1$12345678$f8QoJuo0DpBRfQSD0vglc1"),
        ("{md5-crypt}$1$12345678$f8QoJuo0DpBRfQSD0vglc1", "$1$12345678$f8QoJuo0DpBRfQSD0vglc1"),
        ("{sha}5en6G6MezRroT3XKqkdPOmY/BfQ=", "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="),
        ("{SHA1}5en6G6MezRroT3XKqkdPOmY/BfQ", "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="),
        ("{SHA.HEX}e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4", "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="),
        ("{SHA}e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4", "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="),
        ("{PLAIN-MD5}5ebe2294ecd0e0f08eab7690d2a6ee69", "{MD5}Xr4ilOzQ4PCOq3aQ0qbuaQ=="),
        ("{LDAP-MD5}Xr4ilOzQ4PCOq3aQ0qbuaQ==", "{MD5}Xr4ilOzQ4PCOq3aQ0qbuaQ=="),
        ("$3$$8846f7eaee8fb117ad06bdd830b7586c", "{MSNT}8846f7eaee8fb117ad06bdd830b7586c"),
        ("{NT}8846F7EAEE8FB117AD06BDD830B7586C", "{MSNT}8846F7EAEE8FB117AD06BDD830B7586C"),
        ("{LM}E52CAC67419A9A224A3B108F3FA6CB6D", "{LANM}E52CAC67419A9A224A3B108F3FA6CB6D"),
        ("{WM-CRY}XXxzOu6maQKqQ", "XXxzOu6maQKqQ"),
        ("{BLF-CRYPT}$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", None),
    ],
)
def test_other_spellings_are_converted_to_the_guides(text: str, communigate: str | None) -> None:
    """What CommuniGate takes is written as its guide writes it."""
    assert read_password(text).communigate == (communigate or text.partition("}")[2])


def test_only_the_salt_length_that_the_guide_names_is_taken_as_it_is() -> None:
    """{SSHA} with 8 bytes of salt goes in as it is; with any other length it is left to the first login."""
    from base64 import b64encode

    for length, use in ((0, Use.FIRST_LOGIN), (4, Use.FIRST_LOGIN), (8, Use.AS_IT_IS), (16, Use.FIRST_LOGIN)):
        assert read_password("{SSHA}" + b64encode(bytes(20 + length)).decode()).use is use


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("", Scheme.ABSENT),
        ("x", Scheme.ABSENT),
        ("*", Scheme.ABSENT),
        ("!!", Scheme.ABSENT),
        ("*NP*", Scheme.ABSENT),
        ("{CRYPT}*", Scheme.ABSENT),
        ("{LANM}AAD3B435B51404EEAAD3B435B51404EE", Scheme.ABSENT),  # what stands there where only an NT hash is kept
        ("{MSNT}31d6cfe0d16ae931b73c59d7e0c089c0", Scheme.ABSENT),
        ("$3$$31d6cfe0d16ae931b73c59d7e0c089c0", Scheme.ABSENT),
        ("!", Scheme.LOCKED),
        ("!$6$saltstring$abc", Scheme.LOCKED),
        ("*LK*$1$12345678$f8QoJuo0DpBRfQSD0vglc1", Scheme.LOCKED),
        ("{CRYPT}!$1$12345678$f8QoJuo0DpBRfQSD0vglc1", Scheme.LOCKED),
        ("secret", Scheme.UNKNOWN),
        ("YIdhkjeHDKbYsji", Scheme.UNKNOWN),  # the guide's own sample: 15 characters are no crypt
        ("$9$what", Scheme.UNKNOWN),
        ("{WHAT}abc", Scheme.UNKNOWN),
        ("{SASL}user@REALM", Scheme.OTHER),
        ("{CRAM-MD5}cd3ba7deaad6e5ca23448ba42e379747a9e0f7f1fbc00c8a81bbaac395731b56", Scheme.CRAM_MD5),
        ("{DIGEST-MD5}eae66b7357f105b7e6f4828d37c0653f", Scheme.DIGEST_MD5),
        ("a" * 5000, Scheme.UNKNOWN),
    ],
)
def test_what_holds_no_password_to_check_says_so(text: str, scheme: Scheme) -> None:
    """It needs a new password, with a reason that does not repeat it."""
    found = read_password(text)
    assert (found.scheme, found.use, found.verifiable) == (scheme, Use.NEW_PASSWORD, False)
    assert found.problem
    assert len(text) < 4 or text not in found.problem


def test_clear_text_goes_into_the_password_column() -> None:
    """{PLAIN} is a password, not a hash; one with a control character would be taken for an encrypted one."""
    found = read_password("{PLAIN}se:cret")
    assert (found.use, found.for_cli, found.import_columns) == (Use.PASSWORD, "se:cret", {"Password": "se:cret"})
    assert read_password("{PLAIN}\x02AslUzT1JkPsoc").use is Use.NEW_PASSWORD


@settings(max_examples=300)
@given(st.text(alphabet=st.sampled_from("${}./$,=!*_y256argonSHA1mdrounds09 \x00é"), max_size=60))
def test_no_text_is_too_odd(text: str) -> None:
    """Reading never raises, and gives one printable line where there is a problem."""
    found = read_password(text)
    assert found.verifiable or found.problem
    assert found.problem.isprintable()
