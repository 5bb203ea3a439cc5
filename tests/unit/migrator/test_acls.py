"""Whose mailbox a copied access list is."""

from __future__ import annotations

import pytest

from migrator.access import Access
from migrator.acls import is_owner, owners_of
from wire.endpoint import Endpoint
from wire.secret import Secret


def access(login: bytes = b"Ann", authzid: bytes = b"", prefix: bytes = b"", proxy: bytes = b"") -> Access:
    return Access(Endpoint("imap", "old", 143), login, Secret(b"x"), authzid=authzid, prefix=prefix, proxy=proxy)


def test_the_owners_are_all_the_names_that_opened_the_account() -> None:
    assert owners_of(access()) == {b"ann"}
    assert owners_of(access(b"boss", authzid=b"ann")) == {b"boss", b"ann"}
    assert owners_of(access(b"boss", proxy=b"ann@old.test")) == {b"boss", b"ann@old.test"}
    assert owners_of(access(b"postmaster", prefix=b"~Ann/")) == {b"postmaster", b"ann"}
    assert owners_of(access(prefix=b"Mail/")) == {b"ann"}


@pytest.mark.parametrize(
    ("identifier", "owner", "same"),
    [
        (b"ann", b"ann", True),
        (b"ANN@old.test", b"ann", True),
        (b"ann", b"ann@old.test", True),
        (b"ann@new.test", b"ann@old.test", False),
        (b"anna", b"ann", False),
        (b"owner", b"ann", True),
        (b"administrators", b"ann", True),
        (b"anyone", b"ann", False),
        (b"-ann", b"ann", False),
        (b"", b"ann", False),
    ],
)
def test_names_with_and_without_a_domain(identifier: bytes, owner: bytes, same: bool) -> None:
    assert is_owner(identifier, frozenset({owner})) is same
