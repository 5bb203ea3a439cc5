"""Any bytes are a .procmailrc, a .forward file and a virtual table; nothing is raised."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.alias_file import BadLine
from migrator.forward_rules import Home, convert_home
from migrator.procmail_rules import convert_procmailrc
from migrator.table_file import TableKind, TableRow, parse_addresses, parse_table

_PIECES = st.sampled_from(
    [
        b":0",
        b"\n",
        b"* ",
        b"^Subject:",
        b".*",
        b"(",
        b")",
        b"|",
        b"[",
        b"\\",
        b"$",
        b"x",
        b"@y.test",
        b" ",
        b"{",
        b"}",
        b"!",
    ]
)
_PARTS = st.one_of(st.binary(max_size=120), st.lists(_PIECES, max_size=30).map(b"".join))


@given(_PARTS)
@settings(max_examples=200)
def test_procmailrc(data: bytes) -> None:
    """Rules whose words are text, or problems with their lines."""
    found = convert_procmailrc(b":0\n* " + data)
    assert found.rules or found.problems
    assert len({rule.name for rule in found.rules}) == len(found.rules)


@given(_PARTS, _PARTS, _PARTS)
@settings(max_examples=100)
def test_homes(forward: bytes, procmailrc: bytes, vacation: bytes) -> None:
    """A user's files of any content."""
    convert_home(Home("joe", forward, procmailrc, vacation, lambda text: text == "x"))


@given(_PARTS)
@settings(max_examples=100)
def test_tables(data: bytes) -> None:
    """Rows or bad lines."""
    for kind in TableKind:
        assert all(isinstance(row, TableRow | BadLine) for row in parse_table(data, kind))
    list(parse_addresses(data))
