r"""Which mailbox of the target is the one for sent mail, drafts and so on (RFC 6154). Pure.

A mailbox that carries the attribute is believed; where none does, a mailbox with a usual name is taken. At the source
only the attribute counts: a name alone says too little about what somebody keeps there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from wire.imap.names import encode_mailbox
from wire.imap.results import Listed

USUAL_NAMES: Final = {  # what servers and programs call them, the most usual first
    "\\drafts": ("Drafts", "Draft"),
    "\\sent": ("Sent", "Sent Items", "Sent Messages", "Sent Mail"),
    "\\trash": ("Trash", "Deleted Items", "Deleted Messages", "Deleted"),
    "\\junk": ("Junk", "Spam", "Junk E-mail", "Junk Email", "Junk Mail", "Bulk Mail"),
    "\\archive": ("Archive", "Archives", "Archived"),
}
_NO_MAILBOX: Final = frozenset({"\\noselect", "\\nonexistent"})


def use_of(entry: Listed) -> str | None:
    """The use of a mailbox, by its attributes; the first of them, in the order above, where it has several."""
    return next((use for use in USUAL_NAMES if use in entry.attributes), None)


def places(listed: Iterable[Listed], prefix: bytes) -> dict[str, bytes]:
    """The target's mailbox for each use, as far as it has one. `prefix` stands before its mailboxes' names."""
    there = {entry.name: entry for entry in listed if not entry.attributes & _NO_MAILBOX}
    folded = {name.lower(): name for name in sorted(there, reverse=True)}
    found: dict[str, bytes] = {}
    for use, names in USUAL_NAMES.items():
        usual = [folded[name] for one in names if (name := (prefix + encode_mailbox(one)).lower()) in folded]
        marked = sorted(name for name, entry in there.items() if use in entry.attributes)
        for name in (*(name for name in usual if name in marked), *marked, *usual):
            found[use] = name
            break
    return found
