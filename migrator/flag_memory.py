"""The flags of a mailbox's messages as they were last seen at the source, in little room. Pure.

A line for each combination of flags that occurs, with the uids that have it: `\\seen $forwarded<TAB>1:500,502`,
compressed. Most mailboxes have less than ten combinations. Flags are lower case: servers take them in any case.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from wire.imap.encoder import parse_uid_set, render_uid_set

_OWN: Final = b"\\recent"  # the server's own: no flag of a message


class FlagMemory:
    """Flags by uid."""

    __slots__ = ("_flags",)

    def __init__(self, flags: Mapping[int, frozenset[bytes]]) -> None:
        self._flags = dict(flags)

    @classmethod
    def of(cls, flags: Mapping[int, Collection[bytes]]) -> FlagMemory:
        """From flags as a server gives them."""
        return cls({uid: plain(words) for uid, words in flags.items()})

    @classmethod
    def parse(cls, text: bytes) -> FlagMemory:
        """What bytes() wrote. ValueError for anything else."""
        flags: dict[int, frozenset[bytes]] = {}
        try:
            lines = zlib.decompress(text).split(b"\n")
        except zlib.error:
            raise ValueError("not remembered flags") from None
        for line in filter(None, lines):
            words, _, uids = line.partition(b"\t")
            flags.update(dict.fromkeys(parse_uid_set(uids), frozenset(words.split())))
        return cls(flags)

    def __bytes__(self) -> bytes:
        uids: dict[frozenset[bytes], list[int]] = defaultdict(list)
        for uid in sorted(self._flags):
            uids[self._flags[uid]].append(uid)
        lines = (b" ".join(sorted(words)) + b"\t" + render_uid_set(having) for words, having in uids.items())
        return zlib.compress(b"\n".join(lines), 6)

    def __len__(self) -> int:
        return len(self._flags)

    def __iter__(self) -> Iterator[int]:
        return iter(self._flags)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FlagMemory) and self._flags == other._flags

    __hash__ = None  # type: ignore[assignment]  # it is as mutable as a dict

    def get(self, uid: int) -> frozenset[bytes] | None:
        """None for a message whose flags were never seen."""
        return self._flags.get(uid)

    def updated(self, flags: Mapping[int, Collection[bytes]], keep: Collection[int]) -> FlagMemory:
        """With `flags` as they are now, and only of the uids in `keep`."""
        merged = {**self._flags, **{uid: plain(words) for uid, words in flags.items()}}
        return FlagMemory({uid: words for uid, words in merged.items() if uid in keep})


def plain(words: Collection[bytes]) -> frozenset[bytes]:
    """Flags as they are compared."""
    return frozenset(word.lower() for word in words) - {_OWN}
