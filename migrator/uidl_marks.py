"""What of a POP mailbox has been copied: by UIDL, and by content where UIDLs cannot be trusted.

RFC 1939 lets equal messages share a UIDL, broken servers give one to different messages, old ones
know none, and a server that was replaced gives new ones. So a UIDL that is known is believed, and a
message that is not known by its UIDL is fetched and compared by digest before it counts as new.
Pure: the SQL is in ledger/marks.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol


class UidlState(Enum):
    """How far one message is."""

    INTENT = "intent"  # about to be sent: after a crash nobody knows whether it arrived
    COPIED = "copied"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class UidlMark:
    """One message. `uid` is where it is at the target, or for an INTENT the floor: the target's next uid before."""

    state: UidlState
    uidvalidity: int = 0
    uid: int = 0
    recorded_at: float = 0.0
    reason: str = ""  # of a refusal; of an intent, the form it is sent in
    digest: bytes = b""  # of the content (content.ContentDigest), once it was fetched
    mailbox: bytes = b""  # at the target; b"" is INBOX


@dataclass(frozen=True, slots=True)
class UidlChange:
    """One durable step. `settled` marks exist as INTENTs, `intended` ones must be new."""

    settled: Mapping[bytes, UidlMark] = field(default_factory=dict)
    dropped: Sequence[bytes] = ()
    intended: Mapping[bytes, UidlMark] = field(default_factory=dict)


BROKE_OFF: Final = "the source broke off at it"


def set_back(key: bytes | None, marks: Mapping[bytes, UidlMark], now: float) -> UidlChange:
    """Remember that the source broke off at a message, so that from now on it stands last and keeps no other
    from being copied. Nothing where the message cannot be told from others, or has a mark already."""
    if key is None or key in marks:
        return UidlChange()
    return UidlChange(intended={key: UidlMark(UidlState.REFUSED, 0, 0, now, BROKE_OFF)})


class UidlStore(Protocol):
    """Where the marks of one copy by POP are kept."""

    async def load(self) -> dict[bytes, UidlMark]:
        """Every message known, by its key."""
        ...

    async def record(self, change: UidlChange) -> None:
        """Make `change` durable, in one commit. Temporary when another writer was there."""
        ...


class Listing:
    """One listing of the source against the marks: which messages are known, and which must be looked at."""

    def __init__(self, listing: Sequence[tuple[int, bytes]], marks: Mapping[bytes, UidlMark]) -> None:
        seen = Counter(uidl for _, uidl in listing)
        self._keys = {number: b"u" + uidl for number, uidl in listing if uidl and seen[uidl] == 1}
        self._marks = dict(marks)
        self._claimed = {key for key in self._keys.values() if key in marks}
        self._by_digest: dict[bytes, list[bytes]] = {}
        for key, mark in marks.items():
            if mark.digest and key not in self._claimed:
                self._by_digest.setdefault(mark.digest, []).append(key)

    def known(self, number: int) -> bytes | None:
        """The key of a message that has a mark under its UIDL; None if its content must tell."""
        key = self._keys.get(number)
        return key if key is not None and key in self._claimed else None

    def by_uidl(self, number: int) -> bytes | None:
        """The key of a message whose content nobody has seen; None if its UIDL does not tell it from others."""
        return self._keys.get(number)

    def recognise(self, number: int, digest: bytes) -> tuple[bytes, bool]:
        """The key of a message with this content, and whether a mark stands under it. Each mark is claimed once."""
        waiting = self._by_digest.get(digest)
        if waiting:
            return waiting.pop(0), True
        key = self._keys.get(number) or self._unused(digest)
        self._claimed.add(key)
        return key, False

    def _unused(self, digest: bytes) -> bytes:
        ordinal = 0
        while (key := b"d%s/%d" % (digest.hex().encode(), ordinal)) in self._marks or key in self._claimed:
            ordinal += 1
        return key
