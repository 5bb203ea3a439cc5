"""A Maildir and its folders: which messages are there, with flags and dates. Nothing is written, renamed or removed.

Folders are directories with `cur` in them: `.Sent.2009` beside the INBOX's own (Maildir++), or directories within
directories. A message is known by its file's name up to the colon, which no server changes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from migrator.dates import render_internal_date
from migrator.plain_file import is_real_directory, open_plain
from migrator.wire_form import with_crlf

_BLOCK: Final = 1 << 20
_FLAGS: Final = {
    "S": b"\\Seen",
    "R": b"\\Answered",
    "F": b"\\Flagged",
    "D": b"\\Draft",
    "T": b"\\Deleted",
    "P": b"$Forwarded",
}
_KEYWORD: Final = re.compile(r"(\d+) (\S+)")
_TIME: Final = re.compile(r"(?P<seconds>\d+)(?:\.(?:[A-Z]\d+)*?M(?P<micro>\d+))?")
_SIZE: Final = re.compile(r",W=(\d+)")  # Dovecot's word for the size with CRLF


@dataclass(frozen=True, slots=True)
class MaildirMessage:
    """One message. `path` is where its file was when the folder was read."""

    identity: str
    path: Path
    flags: tuple[bytes, ...]


class MaildirGone(Exception):
    """The message is not in its folder any more."""


def is_maildir(path: Path) -> bool:
    """Whether a directory holds messages this way."""
    return is_real_directory(path) and is_real_directory(path / "cur")


def read_folder(path: Path) -> list[MaildirMessage]:
    """The messages, as they came: by the time in their names, as far as that goes."""
    keywords = _keywords(path)
    found: dict[str, MaildirMessage] = {}
    for part in ("new", "cur"):  # one that moves meanwhile from the first to the second is seen at least once
        if (path / part).is_symlink():
            continue
        try:
            with os.scandir(path / part) as listed:
                entries = list(listed)
        except FileNotFoundError:
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.is_dir(follow_symlinks=False):
                continue
            identity, _, info = entry.name.partition(":")
            flags = _flags(info, keywords) if part == "cur" else ()
            found[identity] = MaildirMessage(identity, Path(entry.path), flags)
    return sorted(found.values(), key=lambda message: (*_time(message.identity), message.identity))


def stated_size(message: MaildirMessage) -> int:
    """About how large it is, without reading it. MaildirGone."""
    found = _SIZE.search(message.identity)
    return int(found[1]) if found else _stat(message).st_size


def date_of(message: MaildirMessage) -> bytes:
    """INTERNALDATE: when the file was last written, which is when the message came. MaildirGone."""
    from datetime import UTC, datetime  # noqa: PLC0415 - with its only use

    return render_internal_date(datetime.fromtimestamp(int(_stat(message).st_mtime), UTC))


def read_message(message: MaildirMessage) -> Iterator[bytes]:
    """Its content as IMAP shows it, in pieces. MaildirGone where its file is nowhere in the folder."""
    with open_plain(located(message)) as file:
        yield from with_crlf(iter(lambda: file.read(_BLOCK), b""))


def located(message: MaildirMessage) -> Path:
    """Where its file is now: a server may have renamed it since. MaildirGone."""
    if os.path.lexists(message.path):
        return message.path
    folder = message.path.parent.parent
    for part in ("cur", "new"):
        try:
            names = os.listdir(folder / part)
        except FileNotFoundError:
            continue
        for name in names:
            if name.partition(":")[0] == message.identity:
                return folder / part / name
    raise MaildirGone


def _stat(message: MaildirMessage) -> os.stat_result:
    return located(message).lstat()


def _time(identity: str) -> tuple[int, int]:
    """Seconds and microseconds, as far as a name says them."""
    found = _TIME.match(identity)
    return (int(found["seconds"]), int(found["micro"] or 0)) if found else (0, 0)


def _flags(info: str, keywords: dict[str, bytes]) -> tuple[bytes, ...]:
    letters = info.removeprefix("2,").partition(",")[0] if info.startswith("2,") else ""
    return tuple(
        {**_FLAGS, **keywords}[letter] for letter in dict.fromkeys(letters) if letter in {**_FLAGS, **keywords}
    )


def _keywords(path: Path) -> dict[str, bytes]:
    """Dovecot's names for the letters a to z."""
    try:
        with open_plain(path / "dovecot-keywords") as file:
            text = file.read(_BLOCK).decode("utf-8", "surrogateescape")
    except OSError:
        return {}
    return {
        chr(ord("a") + int(number)): os.fsencode(name) for number, name in _KEYWORD.findall(text) if int(number) < 26
    }
