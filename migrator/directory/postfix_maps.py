"""Accounts of a Postfix virtual_mailbox_maps file. Pure.

The text file that postmap reads: `address path`, comments and continuation lines as in postmap(1) and virtual(8).
Regular expressions, LDAP and SQL maps are other things.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from migrator.alias_file import decode_line, logical_lines
from migrator.directory.entry import Entry, bad_entry
from wire.secret import Secret

_PAIR = re.compile(r"(?:\"([^\"\\]+)\"|([^\s\"]\S*))\s+(\S.*)", re.DOTALL)


def read_mailbox_map(lines: Iterable[bytes]) -> Iterator[Entry]:
    """Accounts of `user@domain path`. The path says nothing that CommuniGate needs."""
    for number, raw in logical_lines(lines):
        pattern, trouble = _address(raw)
        if trouble:
            yield bad_entry(number, raw, trouble, name=pattern)
        elif pattern.startswith("@"):
            reason = f"{pattern} takes mail for every name: make it an account, and say so in the domain's settings"
            yield bad_entry(number, raw, f"{reason} (Mail to Unknown: rerouted to)", name=pattern)
        else:
            yield Entry(number, Secret(raw), pattern)


def _address(raw: bytes) -> tuple[str, str]:
    """The address, and why the line cannot be used. Postfix looks addresses up in lower case."""
    text, trouble = decode_line(raw)
    if trouble:
        return "", trouble
    match = _PAIR.fullmatch(text.strip())
    if match is None:
        return "", "it is no pair of an address and a path"
    return (match[1] or match[2]).lower(), ""
