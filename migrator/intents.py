"""Which messages of an interrupted batch had arrived after all. Pure.

An intent says: these source messages were about to be appended when the target's next UID was `floor`.
Whatever of them was stored stands at or above it, among mail that others have delivered since. The same
rules find messages again after the source's UIDVALIDITY changed.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Description:
    """What is known of one message on either side."""

    uid: int
    moment: int | None  # INTERNALDATE in seconds since the epoch
    size: int
    digest: bytes = b""  # of the content or the header, made in the same way on both sides; b"" if unknown
    message_id: bytes = b""


def plausible(source: Description, target: Description) -> bool:
    """Whether fetching both, to compare them, is worth while: the same date, or about the same size.

    Servers change dates (a future one becomes now) and sizes (`\\r\\r\\n`, bare LF), rarely both.
    """
    if source.moment is not None and source.moment == target.moment:
        return True
    return abs(source.size - target.size) <= 64 + max(source.size, target.size) // 10


def match_messages(
    sources: Sequence[Description], targets: Sequence[Description], *, headers_only: bool = False
) -> dict[int, int]:
    """Source uid -> target uid for every source message that is at the target; each target is given once.

    The strongest evidence goes first: equal content and date, then equal content, then, for servers
    that change content, equal date with equal Message-ID or equal size. Equal messages are taken as they
    stand, in the order of both sides: three equal ones and two arrivals leave one to copy.
    With `headers_only` the digests are of headers, which prove less: without an equal date, they
    count only together with an equal size and a Message-ID.
    """
    found: dict[int, int] = {}
    left_sources = sorted(sources, key=lambda message: message.uid)
    left_targets = sorted(targets, key=lambda message: message.uid)
    for evidence in _BY_HEADER if headers_only else _BY_CONTENT:
        waiting: dict[Hashable, deque[Description]] = defaultdict(deque)
        for target in left_targets:
            key = evidence(target)
            if key is not None:
                waiting[key].append(target)
        used: set[int] = set()
        for source in left_sources:
            key = evidence(source)
            line = waiting.get(key) if key is not None else None
            other = next((target for target in line if _compatible(source, target)), None) if line else None
            if line and other is not None:
                line.remove(other)
                found[source.uid] = other.uid
                used.add(other.uid)
        left_sources = [source for source in left_sources if source.uid not in found]
        left_targets = [target for target in left_targets if target.uid not in used]
    return found


def _compatible(source: Description, target: Description) -> bool:
    """Two different Message-IDs are two messages, whatever else is equal."""
    return not (source.message_id and target.message_id and source.message_id != target.message_id)


def _content_and_date(message: Description) -> Hashable | None:
    return (message.digest, message.moment) if message.digest and message.moment is not None else None


def _content(message: Description) -> Hashable | None:
    return message.digest or None


def _date_and_id(message: Description) -> Hashable | None:
    return (message.moment, message.message_id) if message.moment is not None and message.message_id else None


def _date_and_size(message: Description) -> Hashable | None:
    return (message.moment, message.size) if message.moment is not None else None


def _header_and_size(message: Description) -> Hashable | None:
    return (message.digest, message.size, message.message_id) if message.digest and message.message_id else None


def _date_and_size_only(message: Description) -> Hashable | None:
    return None if message.digest or message.message_id else _date_and_size(message)  # nothing else is known of it


_Evidence = Sequence[Callable[[Description], Hashable | None]]
_BY_CONTENT: Final[_Evidence] = (_content_and_date, _content, _date_and_id, _date_and_size)
_BY_HEADER: Final[_Evidence] = (_content_and_date, _header_and_size, _date_and_id, _date_and_size_only)
