"""Changes to a message that comes in pieces of any size: broken lines, repairs, the wrap. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Transformer(Protocol):
    """Changes a message that is fed in pieces of any size."""

    def feed(self, data: bytes, /) -> bytes:
        """What can be said of the changed message so far."""
        ...

    def finish(self) -> bytes:
        """The rest, when the message has ended."""
        ...


class Chain:
    """Several changes, one behind the other."""

    def __init__(self, transformers: Sequence[Transformer]) -> None:
        self._transformers = transformers

    def feed(self, data: bytes) -> bytes:
        """The next bytes, through all of them."""
        for transformer in self._transformers:
            data = transformer.feed(data)
        return data

    def finish(self) -> bytes:
        """What each still holds, through those behind it."""
        rest = b""
        for transformer in self._transformers:
            rest = transformer.feed(rest) + transformer.finish()
        return rest


def transform(content: bytes, transformer: Transformer) -> bytes:
    """A message in memory, changed."""
    return transformer.feed(content) + transformer.finish()
