"""Some fields of a message header, as BODY[HEADER.FIELDS (...)] gives them, for servers that do not. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

# A name up to its colon, then the rest of the line and the lines that go on with it (RFC 5322 2.2.3).
_FIELD: Final = re.compile(rb"([\x21-\x39\x3b-\x7e]+)[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*(?:\n|\Z)")


def select_fields(header: bytes, names: Iterable[str]) -> bytes:
    """The fields of these names (in any case), raw, in the header's order, and the empty line that ends them."""
    wanted = {name.lower().encode("ascii") for name in names}
    kept = []
    at = 0
    while at < len(header):
        field = _FIELD.match(header, at)
        if field is None:  # no field at all: this line goes by, whatever it is
            at = header.find(b"\n", at) + 1 or len(header)
            continue
        if field[1].lower() in wanted:
            kept.append(field[0] if field[0].endswith(b"\n") else field[0] + b"\r\n")
        at = field.end()
    return b"".join(kept) + b"\r\n"
