"""IMAP commands: values in, chunks of bytes out. Pure.

Outside bytes enter a command only as a quoted string or a literal (RFC 3501 4.3); atoms come from our own
code. CR, LF and NUL are refused in both atoms and quoted strings, NUL everywhere.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from wire.outcome import Permanent, Scope

QUOTED_LIMIT: Final = 900  # Dovecot closes on a line over 1 to 4 KB before login: longer strings travel as literals
LITERAL_MINUS_LIMIT: Final = 4096  # RFC 7888 5: LITERAL- allows {n+} up to here


class Unsendable(Permanent):
    """An argument that IMAP cannot carry; nothing was sent."""

    scope = Scope.USER


@dataclass(frozen=True, slots=True)
class Text:
    """A string from outside: quoted where that is safe, a literal otherwise. Bytes arrive exactly as given."""

    value: bytes = field(repr=False)  # it may be a password


@dataclass(frozen=True, slots=True)
class LiteralOf:
    """The head of a literal of `size` bytes which the caller streams after the last chunk (APPEND).

    With `ask`, the server's `+` is awaited even where LITERAL+ would do without. A server that dislikes the rest of
    the command may answer BAD and then read the literal as commands (Dovecot 2.3 does): lines from outside are sent
    unasked only behind arguments that no server can dislike.
    """

    size: int
    ask: bool = False


Arg = bytes | Text | LiteralOf  # bytes: an atom or a parenthesised list, written by our own code

_QUOTABLE: Final = re.compile(rb"[\x20-\x7e]*\Z")
_SPECIAL: Final = re.compile(rb'(["\\])')
_FORBIDDEN: Final = re.compile(rb"[\r\n\0]")


def quote(value: bytes) -> bytes:
    """`value` as a quoted string; Unsendable unless it is printable ASCII."""
    if not _QUOTABLE.match(value):
        raise Unsendable("a quoted string holds printable ASCII only")
    return b'"' + _SPECIAL.sub(rb"\\\1", value) + b'"'


def encode_command(
    tag: bytes, name: bytes, args: Sequence[Arg] = (), *, literal_plus: bool = False, literal_minus: bool = False
) -> list[bytes]:
    """The command in chunks; after every chunk but the last, the server's `+` must come first.

    A `LiteralOf` may only be the last argument; its bytes, and the final CRLF, are the caller's.
    """
    chunks: list[bytes] = []
    line = tag + b" " + name
    if _FORBIDDEN.search(line):
        raise Unsendable("CR, LF or NUL in a command name")
    for arg in args:
        if isinstance(arg, LiteralOf):
            plus = b"" if arg.ask else _plus(arg.size, literal_plus, literal_minus)
            chunks.append(line + b" {%d%s}\r\n" % (arg.size, plus))
            return chunks
        if isinstance(arg, bytes):
            if _FORBIDDEN.search(arg):
                raise Unsendable("CR, LF or NUL in an argument")
            line += b" " + arg
        elif len(arg.value) <= QUOTED_LIMIT and _QUOTABLE.match(arg.value):
            line += b' "' + _SPECIAL.sub(rb"\\\1", arg.value) + b'"'
        elif b"\0" in arg.value:
            raise Unsendable("NUL in an argument: IMAP cannot carry it")
        else:
            safe = not _FORBIDDEN.search(arg.value)  # see LiteralOf
            plus = _plus(len(arg.value), literal_plus and safe, literal_minus and safe)
            line += b" {%d%s}\r\n" % (len(arg.value), plus)
            if not plus:
                chunks.append(line)
                line = b""
            line += arg.value
    chunks.append(line + b"\r\n")
    return chunks


def _plus(size: int, literal_plus: bool, literal_minus: bool) -> bytes:
    return b"+" if literal_plus or (literal_minus and size <= LITERAL_MINUS_LIMIT) else b""


_FLAG: Final = re.compile(rb"\\?[^\x00-\x20(){%*\"\\\]\x7f-\xff]+\Z")


_SYSTEM_FLAGS: Final = frozenset({b"\\answered", b"\\flagged", b"\\deleted", b"\\seen", b"\\draft"})
_KEYWORD: Final = re.compile(rb"[A-Za-z0-9$_.-]{1,64}\Z")
_DATE: Final = re.compile(
    rb"([ 0-3][0-9])-(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)-(19[7-9][0-9]|20[0-2][0-9]|203[0-7]) "
    rb"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9] [+-](?:0[0-9]|1[0-4])[0-5][0-9]\Z"
)
_MONTHS: Final = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


def undisputed(mailbox: bytes, flags: Iterable[bytes], date: bytes | None) -> bool:
    """Whether no server can find fault with these arguments of APPEND as such."""
    return (
        len(mailbox) <= QUOTED_LIMIT
        and bool(_QUOTABLE.match(mailbox))
        and all(flag.lower() in _SYSTEM_FLAGS or _KEYWORD.match(flag) for flag in flags)
        and (date is None or _undisputed_date(date))
    )


def _undisputed_date(date: bytes) -> bool:
    """A day that the calendar has, in a year that every server's clock can hold."""
    match = _DATE.match(date)
    if match is None:
        return False
    year = int(match[3])
    return 1 <= int(match[1]) <= monthrange(year, _MONTHS.index(match[2]) + 1)[1]


def sendable_flag(flag: bytes) -> bool:
    """Whether `flag` is a flag or keyword that RFC 3501 allows in a command (`\\Recent` never is)."""
    return bool(_FLAG.match(flag)) and flag.lower() != b"\\recent"


def render_flags(flags: Iterable[bytes]) -> bytes:
    """`(\\Seen $Label1)`; Unsendable for what is not an atom."""
    flags = list(flags)
    for flag in flags:
        if not sendable_flag(flag):
            raise Unsendable(b"not a flag that can be set: " + flag)
    return b"(" + b" ".join(flags) + b")"


def render_uid_set(uids: Iterable[int]) -> bytes:
    """`1:3,7` for [1, 2, 3, 7]; order is kept, neighbours are joined."""
    return b",".join(_runs(uids))


def render_uid_sets(uids: Iterable[int], limit: int = 4000) -> Iterator[bytes]:
    """The same in pieces of at most `limit` bytes: servers bound a command line, some at 8 KB."""
    piece: list[bytes] = []
    size = 0
    for run in _runs(uids):
        if piece and size + len(run) + 1 > limit:
            yield b",".join(piece)
            piece, size = [], 0
        piece.append(run)
        size += len(run) + 1
    if piece:
        yield b",".join(piece)


def _runs(uids: Iterable[int]) -> Iterator[bytes]:
    first = last = 0
    for uid in uids:
        if last and uid == last + 1:
            last = uid
            continue
        if last:
            yield b"%d:%d" % (first, last) if first != last else b"%d" % first
        first = last = uid
    if last:
        yield b"%d:%d" % (first, last) if first != last else b"%d" % first


def parse_uid_set(text: bytes) -> list[int]:
    """The numbers of `1:3,7` (RFC 3501 sequence-set without `*`), as written; ValueError otherwise.

    Also for more numbers than any mailbox has: a line may name the same ones again and again, to fill the memory.
    """
    uids: list[int] = []
    for piece in text.split(b","):
        low, colon, high = piece.partition(b":")
        first = int(low)
        last = int(high) if colon else first
        if first > last:
            first, last = last, first
        if last > 0xFFFFFFFF or first < 1 or len(uids) + last - first > 20_000_000:
            raise ValueError("a UID set out of range")
        uids.extend(range(first, last + 1))
    return uids
