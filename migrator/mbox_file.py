"""An mbox file: where each message begins and ends, and what is noted about it (flags, date). The file is only read.

A message begins with a line `From sender date` at the start of the file or behind an empty line; one without a date
that we can read needs a header field below it, and one without the empty line both. Content-Length is believed where
another message, or the end of the file, stands right behind that many bytes, so that a `From ` line within such a
message divides nothing. `>From ` stays as it is: what the file's old server showed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from migrator.oddities import FIELD
from migrator.plain_file import open_plain
from migrator.wire_form import HEADER_LIMIT, split_header, with_crlf, without_own_fields

_BLOCK: Final = 1 << 20
_MOST_HEADERS: Final = 1 << 14  # bytes in which nearly every header ends
_PEEK: Final = 1 << 10  # bytes of the line below a `From ` line
_STALE: Final = 300.0  # seconds after which nobody believes in a lock file any more
_FROM: Final = re.compile(
    rb"From (?:[^\r\n]*[ \t])?(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),?[ \t]+"
    rb"(?P<month>[A-Z][a-z]{2})[ \t]+(?P<day>\d{1,2})[ \t]+(?P<time>\d{1,2}:\d{2}(?::\d{2})?)"
    rb"(?:[ \t]+(?P<zone>[A-Za-z]{2,5}|[+-]\d{4}))?(?:[ \t]+DST)?[ \t]+(?P<year>\d{4})"
    rb"(?:[ \t]+(?P<late>[+-]\d{4}))?[^\r\n]*\r?\n"
)
_FLAGS: Final = {
    ord("R"): b"\\Seen",
    ord("A"): b"\\Answered",
    ord("F"): b"\\Flagged",
    ord("T"): b"\\Draft",
    ord("D"): b"\\Deleted",
}
_INTERNAL: Final = b"DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA"  # c-client's first message, which is none
_MONTHS: Final = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


@dataclass(frozen=True, slots=True)
class MboxMessage:
    """One message. `identity` is of its content and of how many equal ones stand before it: flags do not change it."""

    identity: str
    start: int  # of its header in the file
    end: int
    size: int  # as IMAP shows it
    flags: tuple[bytes, ...]
    date: bytes  # INTERNALDATE, or b"" where the line has none


class MboxChanged(Exception):
    """The file was rewritten since it was read: its messages must be found again."""


class NotAnMbox(Exception):
    """The file does not begin with a `From ` line: what is in it would be lost without a word."""


class MboxLocked(Exception):
    """Another program is writing to the file."""


def is_mbox(path: Path) -> bool:
    """Whether a file looks like one, or is empty."""
    with open_plain(path) as file:
        start = file.read(_BLOCK).lstrip(b"\r\n")
    return not start or start.startswith(b"From ")


def read_mbox(path: Path) -> list[MboxMessage]:
    """Every message of the file as it is now. MboxLocked while somebody writes to it: the last would be half there."""
    found: list[MboxMessage] = []
    seen: Counter[str] = Counter()
    with open_plain(path) as file:
        _lock(path, file)
        for line, start, end in _bounds(file):
            sha, size, head = hashlib.sha256(), 0, b""
            for piece in _wire(file, start, end):
                sha.update(piece)
                size += len(piece)
                head = head or piece
            if _INTERNAL in head and not found:
                continue
            digest = sha.hexdigest()[:32]
            seen[digest] += 1
            identity = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
            found.append(MboxMessage(identity, start, end, size, _flags(_own(file, start, end)), _date(line)))
    return found


def read_message(path: Path, message: MboxMessage) -> Iterator[bytes]:
    """A message as IMAP shows it, in pieces. MboxChanged, at its end, where the file is another by now."""
    sha = hashlib.sha256()
    with open_plain(path) as file:
        for piece in _wire(file, message.start, message.end):
            sha.update(piece)
            yield piece
    if sha.hexdigest()[:32] != message.identity.partition("-")[0]:
        raise MboxChanged


def _lock(path: Path, file: IO[bytes]) -> None:
    """Against whoever locks as deliverers do: by fcntl, or by a file beside it. It ends when the file is closed."""
    try:
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if time.time() - path.with_name(f"{path.name}.lock").stat().st_mtime < _STALE:
            raise MboxLocked
    except BlockingIOError:
        raise MboxLocked from None
    except OSError:
        return  # no lock beside it, or a file system that has none


def _bounds(file: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """The `From ` line of each message, and where its header begins and its text ends."""
    line, at = file.readline(_BLOCK), 0
    while line:
        if line in (b"\n", b"\r\n"):  # before the first message, or between two
            at += len(line)
            line = file.readline(_BLOCK)
            continue
        if not line.startswith(b"From "):
            raise NotAnMbox
        start = at + len(line)
        end, after = _end_of(file, start)
        yield line, start, end
        file.seek(after)
        at, line = after, file.readline(_BLOCK)


def _end_of(file: IO[bytes], start: int) -> tuple[int, int]:
    """Where the message that begins at `start` ends, and where the next one's `From ` line is."""
    header = _header(file, start, start + HEADER_LIMIT)
    length = without_own_fields(header)[1].get(b"content-length", b"")
    if length.isdigit() and len(length) < 16:
        end = start + len(header) + int(length)
        file.seek(end)
        rest = file.read(4096)
        if end <= _size(file) and (not rest.strip(b"\r\n") or _is_first_line(rest.lstrip(b"\r\n"), empty=True)):
            return end, end + len(rest) - len(rest.lstrip(b"\r\n"))
    file.seek(start + len(header))
    at, empty = start + len(header), True  # the header's empty line
    end = at
    begins = True  # of a line, where the last piece ended with one
    while line := file.readline(_BLOCK):
        if begins and line.startswith(b"From "):
            below = file.readline(_PEEK)
            file.seek(-len(below), os.SEEK_CUR)
            if _is_first_line(line + below, empty=empty):
                return end, at
        if begins and line in (b"\n", b"\r\n"):
            empty, end = True, at  # it divides two messages, if another follows
        else:
            empty, end = False, at + len(line)
        at += len(line)
        begins = line.endswith(b"\n")
    return end, at


def _is_first_line(text: bytes, *, empty: bool) -> bool:
    """Whether a message begins with this line, by what it says and by the line below it."""
    line, _, below = text.partition(b"\n")
    dated = line.startswith(b"From ") and _FROM.match(line + b"\n") is not None
    headed = line.startswith(b"From ") and FIELD.match(below) is not None
    return (dated or headed) if empty else (dated and headed)


def _size(file: IO[bytes]) -> int:
    return file.seek(0, 2)


def _wire(file: IO[bytes], start: int, end: int) -> Iterator[bytes]:
    """The message as IMAP shows it; its header is in the first piece."""

    def pieces() -> Iterator[bytes]:
        file.seek(start)
        block = file.read(min(HEADER_LIMIT, end - start))
        header, rest = split_header(block)
        yield without_own_fields(header)[0] + rest
        left = end - start - len(block)
        while left > 0 and (block := file.read(min(_BLOCK, left))):
            left -= len(block)
            yield block

    return with_crlf(pieces())


def _own(file: IO[bytes], start: int, end: int) -> dict[bytes, bytes]:
    return without_own_fields(_header(file, start, min(end, start + HEADER_LIMIT)))[1]


def _header(file: IO[bytes], start: int, limit: int) -> bytes:
    """The header that begins at `start`, with its empty line; no more is read than it takes."""
    file.seek(start)
    size = min(_MOST_HEADERS, limit - start)
    text = file.read(size)
    header, rest = split_header(text)
    if not rest and len(text) == size < limit - start:
        header, _ = split_header(text + file.read(limit - start - size))
    return header


def _flags(own: dict[bytes, bytes]) -> tuple[bytes, ...]:
    letters = own.get(b"status", b"") + own.get(b"x-status", b"")
    system = [flag for letter, flag in _FLAGS.items() if letter in letters]
    return tuple(dict.fromkeys([*system, *own.get(b"x-keywords", b"").split()]))


def _date(line: bytes) -> bytes:
    """INTERNALDATE of a `From ` line: in the zone that it names by numbers, else in this machine's."""
    found = _FROM.match(line)
    if found is None or found["month"] not in _MONTHS:
        return b""
    clock = found["time"] if found["time"].count(b":") == 2 else found["time"] + b":00"
    month = _MONTHS.index(found["month"]) + 1
    zone = next((text for text in (found["late"], found["zone"]) if text and text[:1] in b"+-"), b"")
    if not zone:
        hour, minute, second = (int(part) for part in clock.split(b":"))
        try:
            moment = time.mktime((int(found["year"]), month, int(found["day"]), hour, minute, second, 0, 0, -1))
            zone = time.strftime("%z", time.localtime(moment)).encode()
        except (OverflowError, ValueError):
            zone = b"+0000"
    return b"%02d-%b-%b %b %b" % (int(found["day"]), found["month"], found["year"], clock.rjust(8, b"0"), zone)
