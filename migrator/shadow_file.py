"""The lines of a passwd, shadow or master.passwd file, with one password put in place of many, and taken out again.

Everything is bytes: such files hold what their system's tools wrote, in no certain encoding. A line that is not
understood, or whose password is none (`x`, `*`, `!`, locked), stays as it is. Nothing here reads or writes a file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

_FIELDS: Final = (7, 9, 10)  # of passwd(5), shadow(5), and the BSDs' master.passwd(5)
_DES: Final = re.compile(rb"[./0-9A-Za-z]{13}\Z|_[./0-9A-Za-z]{19}\Z")  # crypt(3): traditional, and BSDi's
_MODULAR: Final = re.compile(rb"\$[0-9A-Za-z,=-]+\$[^:\s]{8,}\Z|\{[A-Za-z0-9-]+\}[^:\s]+\Z")
_KEPT: Final = frozenset({b"root", b"toor"})  # whoever holds the common password must not hold the machine


@dataclass(frozen=True, slots=True)
class Record:
    """One line that names an account. `number` counts from 1."""

    number: int
    name: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Switched:
    """A file with the common password in it."""

    content: bytes
    names: list[bytes]  # whose password it now is


@dataclass(frozen=True, slots=True)
class Restored:
    """A file with the common password taken out."""

    content: bytes
    names: list[bytes]  # who has the old password again
    changed: list[bytes] = field(default_factory=list)  # whose password was changed meanwhile: it stays
    gone: list[bytes] = field(default_factory=list)  # switched, and not in the file any more
    strangers: list[bytes] = field(default_factory=list)  # who has the common password and never had another


def read_records(content: bytes) -> list[Record]:
    """The accounts of a file, in order; lines of other forms (`+`, comments) are left out."""
    found = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        fields = line.rstrip(b"\r").split(b":")
        if len(fields) in _FIELDS and fields[0] and fields[0][:1] not in b"#+-":
            found.append(Record(number, fields[0], fields[1]))
    return found


def find_problems(content: bytes) -> list[str]:
    """What makes a file unsafe to switch, by line. Names and numbers only, never a hash."""
    records = read_records(content)
    understood = {record.number for record in records}
    problems = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        bare = line.rstrip(b"\r")
        if bare and number not in understood and bare[:1] not in b"#+-":
            problems.append(
                f"line {number}: neither 7, 9 nor 10 fields divided by colons: not a line of passwd or shadow"
            )
    for name, count in Counter(record.name for record in records).items():
        if count > 1:
            numbers = ", ".join(str(record.number) for record in records if record.name == name)
            problems.append(f"lines {numbers}: {show(name)} stands there {count} times: remove all but one")
    return problems


def is_password(text: bytes) -> bool:
    """Whether a password field holds the hash of a password that somebody may use, rather than `*`, `!` or `x`."""
    return bool(_DES.match(text) or _MODULAR.match(text))


def common_kind(content: bytes) -> str:
    """The crypt(3) kind that most accounts of a file have (`des`, or what stands between the dollars); "" for none."""
    kinds = Counter(
        record.hash.split(b"$")[1].decode("ascii") if record.hash[:1] == b"$" else "des"
        for record in read_records(content)
        if is_password(record.hash) and record.hash[:1] != b"{"
    )
    return kinds.most_common(1)[0][0] if kinds else ""


def switch(content: bytes, common: bytes, *, only: Collection[bytes] = (), keep: Collection[bytes] = ()) -> Switched:
    """Put the hash `common` in place of every usable one, of `only` if given, never of `keep` nor of root."""
    names = [
        record.name
        for record in read_records(content)
        if is_password(record.hash)
        and record.name not in _KEPT
        and record.name not in keep
        and (not only or record.name in only)
    ]
    return Switched(_replace(content, dict.fromkeys(names, common)), names)


def restore(content: bytes, original: bytes, common: bytes, names: Collection[bytes]) -> Restored:
    """Give `names` the hashes of `original` back, wherever `content` still has `common` for them.

    An account whose hash is another by now got a new password meanwhile, and keeps it. Accounts that were made or
    removed meanwhile stay so. Nothing but the password field of a line changes.
    """
    before = {record.name: record.hash for record in read_records(original)}
    wanted = {name: before[name] for name in names if name in before}
    now = {record.name: record.hash for record in read_records(content)}
    back = {name: old for name, old in wanted.items() if now.get(name) == common}
    return Restored(
        _replace(content, back),
        list(back),
        changed=[name for name, old in wanted.items() if name in now and now[name] not in (common, old)],
        gone=[name for name in wanted if name not in now],
        strangers=[
            name for name, text in now.items() if text == common and before.get(name) != common and name not in back
        ],
    )


def _replace(content: bytes, hashes: Mapping[bytes, bytes]) -> bytes:
    lines = content.split(b"\n")
    for record in read_records(content):
        if record.name in hashes:
            name, _, rest = lines[record.number - 1].partition(b":")
            lines[record.number - 1] = name + b":" + hashes[record.name] + rest[len(record.hash) :]
    return b"\n".join(lines)


def show(name: bytes) -> str:
    """A name for a person."""
    return name.decode("utf-8", "backslashreplace")
