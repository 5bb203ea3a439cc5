"""The account list of MoveAccounts: a tab-delimited file with a name and a password in each row, bytes as they are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from wire.secret import Secret


class BadFile(Exception):
    """The file cannot be used at all."""


@dataclass(frozen=True, slots=True)
class Row:
    """One account of the file. `trouble` says why it cannot be used; the rest is empty then."""

    line: int
    name: bytes = b""
    password: Secret = field(default_factory=lambda: Secret(b""))
    new_name: bytes = b""
    new_password: Secret = field(default_factory=lambda: Secret(b""))
    trouble: str = ""

    @property
    def label(self) -> str:
        """For the result line: never the password."""
        return (self.name or b"line %d" % self.line).decode("utf-8", "backslashreplace")


def read_accounts(path: Path) -> list[Row]:
    """The rows of a file. BadFile if it cannot be read or used."""
    try:
        return parse_accounts(path.read_bytes())
    except OSError as error:
        raise BadFile(error.strerror or str(error)) from None


def parse_accounts(data: bytes) -> list[Row]:
    """The rows of an account list; bytes stay as they are. BadFile without a header that names Name and Password."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    ending = b"\n" if b"\n" in data else b"\r"  # the extractors of old Macintosh servers write CR
    lines = [line.removesuffix(b"\r") for line in data.split(ending)]
    names = [name.strip().lower() for name in lines[0].split(b"\t")]
    for needed in (b"name", b"password"):
        if names.count(needed) != 1:
            raise BadFile(f"the first line must name the field {needed.decode().title()} once")
    rows = []
    for number, line in enumerate(lines[1:], 2):
        if line.strip():
            rows.append(_parse_row(number, dict(zip(names, line.split(b"\t"), strict=False))))
    seen = Counter((row.name, row.new_name) for row in rows if not row.trouble)
    return [
        Row(row.line, row.name, trouble="this account stands in the file more than once")
        if not row.trouble and seen[row.name, row.new_name] > 1
        else row
        for row in rows
    ]


def _parse_row(line: int, fields: dict[bytes, bytes]) -> Row:
    name, password = fields.get(b"name", b"").strip(), fields.get(b"password", b"")
    if not name:
        return Row(line, trouble="there is no name")
    if not password:
        return Row(line, name, trouble="there is no password")
    new_name = fields.get(b"newname", b"").strip() or name
    new_password = fields.get(b"newpassword", b"") or password
    return Row(line, name, Secret(password), new_name, Secret(new_password))
