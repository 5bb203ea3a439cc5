"""SEARCH (RFC 9051 6.4.4): reads the keys into a test and applies it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.errors import MessageError
from email.header import decode_header, make_header
from email.utils import parsedate_to_datetime

from extauth.sandbox.imap_grammar import BadCommand, Cursor, Numbers, parse_date
from extauth.sandbox.imap_message import parse_message
from extauth.sandbox.mailstore import Message, canonical_flag


@dataclass(frozen=True, slots=True)
class Candidate:
    """A message with its number in this session."""

    number: int
    message: Message
    recent: bool


@dataclass(frozen=True, slots=True)
class Known:
    """What numbers and UIDs the session knows, for sets with `*`."""

    numbers: Sequence[int]
    uids: Sequence[int]


Test = Callable[[Candidate, Known], bool]

_FLAG_KEYS = {
    b"ANSWERED": b"\\Answered",
    b"DELETED": b"\\Deleted",
    b"DRAFT": b"\\Draft",
    b"FLAGGED": b"\\Flagged",
    b"SEEN": b"\\Seen",
}


class UnknownCharset(Exception):
    """[BADCHARSET]."""


def parse_search(cursor: Cursor) -> Test:
    """All keys up to the end of the command."""
    charset = "utf-8"
    if cursor.skip(b"CHARSET "):
        charset = cursor.astring().decode("ascii", "replace")
        cursor.space()
        if charset.lower() not in ("utf-8", "us-ascii", "iso-8859-1"):
            raise UnknownCharset
    tests = [_key(cursor, charset, 0)]
    while not cursor.at_end():
        cursor.space()
        tests.append(_key(cursor, charset, 0))
    return _all(tests)


def _all(tests: Sequence[Test]) -> Test:
    return lambda candidate, known: all(test(candidate, known) for test in tests)


def _key(cursor: Cursor, charset: str, depth: int) -> Test:
    if depth > 50:
        raise BadCommand("nested too deep")
    if cursor.skip(b"("):
        tests = [_key(cursor, charset, depth + 1)]
        while not cursor.skip(b")"):
            cursor.space()
            tests.append(_key(cursor, charset, depth + 1))
        return _all(tests)
    if cursor.peek_sequence_set():
        wanted = cursor.sequence_set()
        return lambda candidate, known: candidate.number in _members(wanted, known.numbers)
    return _named_key(cursor, cursor.word(), charset, depth)


def _members(wanted: Numbers, known: Sequence[int]) -> set[int]:
    return set(wanted.of(known))


def _named_key(cursor: Cursor, word: bytes, charset: str, depth: int) -> Test:
    simple = _simple(word)
    if simple is not None:
        return simple
    cursor.space()
    if word == b"NOT":
        negated = _key(cursor, charset, depth + 1)
        return lambda candidate, known: not negated(candidate, known)
    if word == b"OR":
        first = _key(cursor, charset, depth + 1)
        cursor.space()
        second = _key(cursor, charset, depth + 1)
        return lambda candidate, known: first(candidate, known) or second(candidate, known)
    if word == b"UID":
        wanted = cursor.sequence_set()
        return lambda candidate, known: candidate.message.uid in _members(wanted, known.uids)
    if word in (b"KEYWORD", b"UNKEYWORD"):
        keyword = canonical_flag(cursor.atom()).lower()
        positive = word == b"KEYWORD"
        return lambda candidate, known: (keyword in {f.lower() for f in candidate.message.flags}) == positive
    if word in (b"LARGER", b"SMALLER"):
        size = cursor.number()
        if word == b"LARGER":
            return lambda candidate, known: len(candidate.message.data) > size
        return lambda candidate, known: len(candidate.message.data) < size
    if word in (b"BEFORE", b"ON", b"SINCE", b"SENTBEFORE", b"SENTON", b"SENTSINCE"):
        return _date_test(word, cursor.astring())
    return _text_test(cursor, word, charset)


def _simple(word: bytes) -> Test | None:
    if word == b"ALL":
        return lambda candidate, known: True
    if word in _FLAG_KEYS:
        flag = _FLAG_KEYS[word]
        return lambda candidate, known: flag in candidate.message.flags
    if word[:2] == b"UN" and word[2:] in _FLAG_KEYS:
        absent = _FLAG_KEYS[word[2:]]
        return lambda candidate, known: absent not in candidate.message.flags
    if word == b"RECENT":
        return lambda candidate, known: candidate.recent
    if word == b"OLD":
        return lambda candidate, known: not candidate.recent
    if word == b"NEW":
        return lambda candidate, known: candidate.recent and b"\\Seen" not in candidate.message.flags
    return None


def _date_test(word: bytes, text: bytes) -> Test:
    day = parse_date(text).date()

    def test(candidate: Candidate, known: Known) -> bool:
        if word.startswith(b"SENT"):
            value = parse_message(candidate.message.data).field(b"date")
            try:
                found = parsedate_to_datetime((value or b"").decode("latin-1")).date()
            except (ValueError, TypeError):
                return False
        else:
            found = candidate.message.date.date()
        kind = word.removeprefix(b"SENT")
        return found < day if kind == b"BEFORE" else found >= day if kind == b"SINCE" else found == day

    return test


def _text_test(cursor: Cursor, word: bytes, charset: str) -> Test:
    name = b""
    if word == b"HEADER":
        name = cursor.astring()
        cursor.space()
    elif word in (b"BCC", b"CC", b"FROM", b"SUBJECT", b"TO"):
        name = word
    elif word not in (b"BODY", b"TEXT"):
        raise BadCommand("unknown search key")
    wanted = cursor.astring().decode(charset, "replace").lower()

    def test(candidate: Candidate, known: Known) -> bool:
        data = candidate.message.data
        part = parse_message(data)
        if name:
            values = [_decoded(value) for key, value in part.header_fields() if key.lower() == name.lower()]
            return any(wanted in value.lower() for value in values)
        searched = part.body if word == b"BODY" else data
        return wanted in searched.decode("utf-8", "replace").lower()

    return test


def _decoded(value: bytes) -> str:
    text = value.decode("utf-8", "replace")
    try:
        return str(make_header(decode_header(text)))
    except (MessageError, LookupError, ValueError):
        return text
