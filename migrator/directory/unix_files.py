"""Accounts of passwd, shadow, master.passwd and Dovecot's passwd-file. Pure: lines in, entries out.

passwd(5), shadow(5), FreeBSD's master.passwd(5), Dovecot's "Passwd-file" page.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from migrator.directory.entry import Entry, Stored, bad_entry, left_out
from migrator.directory.quota import read_dovecot_quota
from migrator.directory.text_lines import clean_text
from wire.secret import Secret

FIRST_USER: Final = 1000  # uid; below are the system's own (login.defs, FreeBSD's pw)
_NOBODY: Final = frozenset({65534, 65533, 4294967294})
_ELSEWHERE: Final = frozenset({"", "x", "*", "##"})  # the password of a passwd line that is kept in another file
Lines = Iterable[tuple[int, bytes]]


def read_passwd(
    lines: Lines, *, shadow: Mapping[str, Secret] | None = None, first_user: int = FIRST_USER
) -> Iterator[Entry]:
    """`name:password:uid:gid:gecos:home:shell`; the password from `shadow` where the line has none."""
    for number, raw, fields in _records(lines, 7):
        if isinstance(fields, str):
            yield bad_entry(number, raw, fields)
            continue
        name, password, uid, _, gecos, _, _ = fields
        stored = Secret(password.encode())
        if password in _ELSEWHERE:
            stored = (shadow or {}).get(name, stored)
        yield _user(number, raw, name, stored=stored, uid=uid, gecos=gecos, first_user=first_user)


def read_master_passwd(lines: Lines, *, first_user: int = FIRST_USER) -> Iterator[Entry]:
    """BSD's `name:password:uid:gid:class:change:expire:gecos:home:shell`."""
    for number, raw, fields in _records(lines, 10):
        if isinstance(fields, str):
            yield bad_entry(number, raw, fields)
            continue
        stored = Secret(fields[1].encode())
        yield _user(number, raw, fields[0], stored=stored, uid=fields[2], gecos=fields[7], first_user=first_user)


def read_shadow(lines: Lines) -> Iterator[Entry]:
    """`name:password:...`: no user ids, so those without a password are taken for the system's own."""
    for number, raw, fields in _records(lines, 9):
        if isinstance(fields, str):
            yield bad_entry(number, raw, fields)
        elif fields[1] in ("*", "!", "!!", "!*", "x", "NP", "*NP*"):
            yield left_out(
                number, raw, "it has no password: a system account, or one that cannot log in", name=fields[0]
            )
        else:
            yield Entry(number, Secret(raw), fields[0], passwords=(Stored(Secret(fields[1].encode())),))


def shadow_passwords(lines: Lines) -> dict[str, Secret]:
    """Name and password field of each line of a shadow file, to be joined with passwd. Bad lines have none."""
    found = {}
    for _, _, fields in _records(lines, 9):
        if not isinstance(fields, str):
            found[fields[0]] = Secret(fields[1].encode())
    return found


def read_dovecot(lines: Lines) -> Iterator[Entry]:
    """`user:password:uid:gid:(gecos):home:(shell):extra fields`; what is missing at the end is empty."""
    for number, raw, fields in _records(lines, None):
        if isinstance(fields, str):
            yield bad_entry(number, raw, fields)
            continue
        name, password, _, _, gecos, _, _ = [*fields, *[""] * 7][:7]
        extra = ":".join(fields[7:])
        try:
            quota = _dovecot_quota(extra)
        except ValueError as error:
            yield bad_entry(number, raw, f"its quota {error}", name=name)
            continue
        if "nopassword" in (word.partition("=")[0] for word in extra.split()):
            yield bad_entry(number, raw, "nopassword: it lets anybody in, and has no password to move", name=name)
            continue
        stored = (Stored(Secret(password.encode())),) if password else ()
        yield Entry(number, Secret(raw), name, passwords=stored, real_name=_real_name(gecos, name), quota=quota)


def _dovecot_quota(extra: str) -> int | None:
    for word in extra.split():
        key, _, value = word.partition("=")
        if key in ("userdb_quota_rule", "quota_rule"):
            return read_dovecot_quota(value)
    return None


def _user(number: int, raw: bytes, name: str, *, stored: Secret, uid: str, gecos: str, first_user: int) -> Entry:
    if not (uid.isascii() and uid.isdigit()):
        return bad_entry(number, raw, "its user id is no number", name=name)
    if int(uid) < first_user or int(uid) in _NOBODY:
        return left_out(number, raw, f"user id {uid} is one of the system's own", name=name)
    return Entry(number, Secret(raw), name, passwords=(Stored(stored),), real_name=_real_name(gecos, name))


def _real_name(gecos: str, name: str) -> str:
    """The full name: what stands before the first comma, `&` being the login with a capital (passwd(5))."""
    return clean_text(gecos.partition(",")[0].replace("&", name[:1].upper() + name[1:]))


def _records(lines: Lines, count: int | None) -> Iterator[tuple[int, bytes, list[str] | str]]:
    """The fields of each line, or why they cannot be had. Comments, empty lines and NIS marks are passed over."""
    for number, raw in lines:
        if not raw.strip() or raw.lstrip().startswith(b"#") or raw[:1] in (b"+", b"-"):
            continue
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            yield number, raw, "it is not UTF-8: convert the file first (iconv -f latin1 -t utf-8)"
            continue
        fields = text.split(":")
        if count is not None and len(fields) != count:
            yield number, raw, f"it has {len(fields)} fields where {count} belong"
        elif not fields[0]:
            yield number, raw, "there is no name"
        elif "\0" in text:
            yield number, raw, "it holds a NUL"
        else:
            yield number, raw, fields
