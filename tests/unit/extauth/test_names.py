"""Which names can be accounts, and which lead to another."""

from __future__ import annotations

import pytest

from extauth.names import Account, Carrier, Illegal, read_name
from migrator.account_name import qualify


@pytest.mark.parametrize(
    "address",
    ["u@d.test", "first.last@d.test", "a-b_c.9@sub.d.test", "0@d.test", "-@d.test", "x" * 128 + "@d.test", "u@host"],
)
def test_ordinary_names_are_accounts(address: str) -> None:
    """Letters, digits, dot, underscore, hyphen."""
    assert read_name(address) == Account(address)


@pytest.mark.parametrize(
    ("address", "base"),
    [
        ("u+lists@d.test", "u@d.test"),
        ("u+a+b@d.test", "u@d.test"),
        ("u+@d.test", "u@d.test"),
        ("prvs=0123abcdef=u@d.test", "u@d.test"),
        ("prvs=u/0123abcdef@d.test", "u@d.test"),
        ("prvs=0123abcdef=u+lists@d.test", "u@d.test"),
        ("srs0=ab12=x7=there.test=bob@d.test", "bob@there.test"),
        ("srs0+ab12=x7=there.test=bob@d.test", "bob@there.test"),
        ("srs1=zz99=hop.test==ab12=x7=there.test=bob@d.test", "bob@there.test"),
    ],
)
def test_carriers_lead_to_their_base(address: str, base: str) -> None:
    """Details, BATV and SRS are taken off."""
    assert read_name(address) == Carrier(address, base)


@pytest.mark.parametrize(
    ("address", "sendable"),
    [
        (".u@d.test", True),
        ("u.@d.test", True),
        ("o'brien@d.test", True),
        ("a&b@d.test", True),
        ("user*admin@d.test", True),
        ("a b@d.test", False),
        ("a%b@d.test", True),
        ('"a"@d.test', False),
        ("a@b@d.test", False),
        ("a<b@d.test", False),
        ("+x@d.test", True),
        ("\udcff@d.test", False),
        ("a\r\nb@d.test", False),
        ("a\0@d.test", False),
        ("@d.test", False),
        ("u@", False),
        ("u@d..test", False),
        ("u@-d.test", False),
        ("u@[192.0.2.1]", False),
        ("x" * 129 + "@d.test", False),
        ("x" * 129 + "+y@d.test", False),
        ("prvs=@d.test", True),
        ("srs0=ab12=x7==bob@d.test", True),
        ("prvs=1=prvs=2=u@d.test", True),
    ],
)
def test_other_names_are_never_accounts(address: str, sendable: bool) -> None:
    """And only those that an SMTP line can hold are asked about."""
    named = read_name(address)
    assert isinstance(named, Illegal)
    assert named.sendable is sendable


def test_names_without_a_domain() -> None:
    """They are of the main domain, where one is configured."""
    assert qualify("u", "d.test") == "u@d.test"
    assert qualify("u@e.test", "d.test") == "u@e.test"
    assert qualify("u", "") is None
