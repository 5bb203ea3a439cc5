"""What the replies to LIST, NAMESPACE, STATUS, SELECT, SEARCH and FETCH hold, as frozen values. Pure.

Servers add items that nobody asked for and leave out some that were; what is not understood is passed over, what is
needed and missing is ProtocolTrouble.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from wire.imap.dialogue import Completed
from wire.imap.encoder import parse_uid_set
from wire.imap.parser import Status, Untagged, Value
from wire.outcome import MailboxUnavailable, ProtocolTrouble


@dataclass(frozen=True, slots=True)
class Listed:
    """One mailbox of LIST or LSUB; `name` as on the wire, `attributes` in lower case (`\\noselect`, `\\all`)."""

    name: bytes
    separator: bytes | None
    attributes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Namespaces:
    """(prefix, separator) pairs of each kind (RFC 2342)."""

    personal: tuple[tuple[bytes, bytes | None], ...]
    other: tuple[tuple[bytes, bytes | None], ...]
    shared: tuple[tuple[bytes, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Selected:
    """What SELECT or EXAMINE said of a mailbox."""

    exists: int
    uidvalidity: int
    uidnext: int  # 0 where the server does not say
    flags: frozenset[str]
    permanent_flags: frozenset[str]  # as `flags` where the server does not say (RFC 3501 7.1); may hold "\\*"
    read_only: bool
    uid_sticky: bool  # False: UIDs do not outlive the session (UIDNOTSTICKY, RFC 4315)
    highestmodseq: int | None


@dataclass(frozen=True, slots=True)
class Summary:
    """One message without its body."""

    uid: int
    flags: tuple[bytes, ...]
    internal_date: bytes | None  # `17-Jul-1996 02:44:25 -0700`, without its quotes
    size: int  # RFC822.SIZE: for planning only, servers get it wrong


@dataclass(frozen=True, slots=True)
class Appended:
    """Where APPEND put a message (UIDPLUS, RFC 4315); None where the server does not say."""

    uidvalidity: int | None
    uid: int | None


def read_number(value: Value) -> int:
    """A non-negative number; ProtocolTrouble otherwise."""
    if isinstance(value, bytes) and value.isdigit() and len(value) <= 20:
        return int(value)
    raise ProtocolTrouble(f"a number was expected, not {str(value)[:40]}")


def read_listed(response: Untagged) -> Listed | None:
    """`* LIST (attributes) separator name ...`; None for one that cannot be read."""
    if len(response.data) < 3:
        return None
    attributes, separator, name = response.data[:3]
    if not isinstance(attributes, list) or isinstance(separator, list) or isinstance(name, list):
        return None
    words = frozenset(word.decode("ascii", "replace").lower() for word in attributes if isinstance(word, bytes))
    return Listed(b"NIL" if name is None else name, separator or None, words)


def read_namespaces(response: Untagged) -> Namespaces:
    """`* NAMESPACE personal other shared`, each NIL or a list of (prefix separator ...)."""
    kinds = [*response.data[:3], None, None, None][:3]
    return Namespaces(*(tuple(_pairs(kind)) for kind in kinds))


def _pairs(kind: Value) -> list[tuple[bytes, bytes | None]]:
    pairs: list[tuple[bytes, bytes | None]] = []
    for entry in kind if isinstance(kind, list) else []:
        if isinstance(entry, list) and len(entry) >= 2 and not isinstance(entry[0], list):
            separator = entry[1] if isinstance(entry[1], bytes) else None
            pairs.append((entry[0] or b"", separator or None))
    return pairs


def read_status(response: Untagged) -> dict[str, int]:
    """`* STATUS name (MESSAGES 3 UIDNEXT 4)` as {"MESSAGES": 3, "UIDNEXT": 4}."""
    items = response.data[-1] if response.data else None
    if not isinstance(items, list):
        raise ProtocolTrouble("a STATUS reply without a list")
    return {_word(key): read_number(value) for key, value in zip(items[::2], items[1::2], strict=False)}


def _word(value: Value) -> str:
    return _name(value) if isinstance(value, bytes) else ""


@lru_cache(maxsize=256)  # the same few names come with every message
def _name(value: bytes) -> str:
    return value.decode("ascii", "replace").upper()


def _flags(value: Value) -> frozenset[str]:
    words = value if isinstance(value, list) else []
    return frozenset(word.decode("utf-8", "surrogateescape") for word in words if isinstance(word, bytes))


_FLAG: Final = re.compile(rb"[^\s()]+")


def read_selected(reply: Completed, *, examined: bool) -> Selected:
    """Put together what came before the OK. ProtocolTrouble without EXISTS, MailboxUnavailable without UIDVALIDITY."""
    exists: int | None = None
    flags: frozenset[str] = frozenset()
    for response in reply.untagged:
        if response.name == b"EXISTS":
            exists = response.number
        elif response.name == b"FLAGS" and response.data:
            flags = _flags(response.data[0])
    codes = {notice.code: notice for notice in reply.notices if notice.code}
    if reply.code:
        codes[reply.code] = Status(b"", b"OK", reply.code, reply.code_args, b"")
    uidvalidity = _code_number(codes.get("UIDVALIDITY"))
    if exists is None:
        raise ProtocolTrouble("the server opened a mailbox without saying how much is in it")
    if not uidvalidity:  # RFC 3501 7.1 requires it; nothing could be copied just once without
        raise MailboxUnavailable("the server gives no UIDVALIDITY for the mailbox")
    permanent = codes.get("PERMANENTFLAGS")
    words = _FLAG.findall(permanent.code_args) if permanent else []
    return Selected(
        exists,
        uidvalidity,
        _code_number(codes.get("UIDNEXT")) or 0,
        flags,
        frozenset(word.decode("utf-8", "surrogateescape") for word in words) if permanent else flags,
        examined or reply.code == "READ-ONLY",
        "UIDNOTSTICKY" not in codes,
        _code_number(codes.get("HIGHESTMODSEQ")),
    )


def _code_number(notice: Status | None) -> int | None:
    digits = notice.code_args.strip() if notice else b""
    return int(digits) if digits.isdigit() and len(digits) <= 20 else None


def read_search(responses: Sequence[Untagged]) -> list[int]:
    """The UIDs of SEARCH or ESEARCH replies, ascending, each once."""
    found: set[int] = set()
    for response in responses:
        words = [word for word in response.data if isinstance(word, bytes)]
        try:
            if response.name == b"SEARCH":  # (MODSEQ n) may follow: a list, not a word
                found.update(map(int, words))
            elif response.name == b"ESEARCH" and b"ALL" in words:
                found.update(parse_uid_set(words[words.index(b"ALL") + 1]))
        except (ValueError, IndexError):
            raise ProtocolTrouble("a SEARCH reply that holds no numbers") from None
    found.discard(0)
    return sorted(found)


def read_fetch(response: Untagged) -> dict[str, Value]:
    """The items of `* n FETCH (...)` by their names in upper case."""
    items = response.data[0] if response.data else None
    if not isinstance(items, list) or len(items) % 2:
        raise ProtocolTrouble("a FETCH reply without pairs")
    return {_word(items[index]): items[index + 1] for index in range(0, len(items), 2)}


def read_summary(items: dict[str, Value]) -> Summary | None:
    """A Summary, or None for an unsolicited FETCH that lacks the size or the UID."""
    if "UID" not in items or "RFC822.SIZE" not in items:
        return None
    flags = items.get("FLAGS")
    date = items.get("INTERNALDATE")
    return Summary(
        read_number(items["UID"]),
        tuple(flag for flag in flags if isinstance(flag, bytes)) if isinstance(flags, list) else (),
        date if isinstance(date, bytes) else None,
        read_number(items["RFC822.SIZE"]),
    )


_APPENDUID: Final = re.compile(rb" *(\d{1,10}) +(\d{1,10}) *\Z")


_APPENDUIDS: Final = re.compile(rb" *(\d{1,10}) +([0-9:,]+) *\Z")


def read_all_appended(reply: Completed, count: int) -> list[Appended]:
    """`[APPENDUID uidvalidity uids]` of one APPEND with `count` messages; nothing is known where the numbers differ."""
    match = _APPENDUIDS.match(reply.code_args) if reply.code == "APPENDUID" else None
    if match is not None:
        try:
            uids = parse_uid_set(match[2])
        except ValueError:
            uids = []
        if len(uids) == count:
            return [Appended(int(match[1]), uid) for uid in uids]
    return [Appended(None, None)] * count


def read_appended(reply: Completed) -> Appended:
    """`[APPENDUID uidvalidity uid]` of a single APPEND."""
    match = _APPENDUID.match(reply.code_args) if reply.code == "APPENDUID" else None
    return Appended(int(match[1]), int(match[2])) if match else Appended(None, None)
