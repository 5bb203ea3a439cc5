"""What is tried with a message that the target refuses, step by step, before it is left out. Pure.

The original has been refused already. Each rung of the ladder changes a little more: line ends, NUL, the header, long
lines, 8-bit bytes in the header; then the message is wrapped whole into a new one. A rung's code is what the journal
keeps, so that after a crash the same change is made again and what was stored is recognised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from migrator.header_repair import HeaderEncoder, HeaderRepair
from migrator.line_ends import LineEnds
from migrator.long_lines import LineBreaker
from migrator.oddities import (
    BARE_CR,
    BARE_LF,
    EIGHT_BIT,
    EMPTY,
    HEADER,
    LONG_LINE,
    LONGEST,
    NUL,
    Scanner,
    oddities,
)
from migrator.transformer import Chain, Transformer, transform
from migrator.wrapping import Wrapper

__all__ = ["Rung", "Scanner", "ladder", "oddities", "rung"]


@dataclass(frozen=True, slots=True)
class Rung:
    """One change to try. Two with equal codes make equal messages of equal messages."""

    code: str
    sentence: str  # for the report: what was done to the message

    def transformer(self) -> Transformer:
        """For one message."""
        steps = [make() for step in self.code.split("+") for make in _STEPS[step].makers]
        return steps[0] if len(steps) == 1 else Chain(steps)

    def apply(self, content: bytes) -> bytes:
        """The same for a message in memory."""
        return transform(content, self.transformer())


def ladder(found: frozenset[str]) -> Sequence[Rung]:
    """The rungs to try in order for a message with these oddities; the last one wraps it.

    Each holds those before it. A rung that changes nothing of such a message is left out.
    """
    rungs: list[Rung] = []
    code = ""
    for name, step in _STEPS.items():
        if step.mends & found:
            code = f"{code}+{name}" if code else name
            rungs.append(rung(code))
    rungs.append(rung("wrap64" if found & _UNFIT else "wrap"))
    return rungs


def rung(code: str) -> Rung:
    """The rung of this code; ValueError if there is none."""
    steps = [_STEPS.get(name) for name in code.split("+")]
    known = [step.sentence for step in steps if step is not None]
    if len(known) < len(steps):
        raise ValueError(f"no repair is called {code!r}")
    return Rung(code, "; ".join(known))


class _Spaces:
    """NUL becomes a space: the length stays, and so does everything else."""

    def feed(self, data: bytes) -> bytes:
        return data.replace(b"\0", b" ")

    def finish(self) -> bytes:
        return b""


@dataclass(frozen=True, slots=True)
class _Step:
    mends: frozenset[str]
    sentence: str
    makers: tuple[Callable[[], Transformer], ...]


def _breaker() -> LineBreaker:
    return LineBreaker(LONGEST)


_STEPS: Final[dict[str, _Step]] = {  # in the order in which they are tried; the codes stand in journals
    "ends": _Step(frozenset({BARE_LF, BARE_CR}), "bare line feeds or carriage returns became line ends", (LineEnds,)),
    "nul": _Step(frozenset({NUL}), "NUL bytes became spaces", (_Spaces,)),
    "header": _Step(
        frozenset({HEADER, EMPTY}), "the header was made valid (X-Invalid-Header, blank line)", (HeaderRepair,)
    ),
    "long": _Step(frozenset({LONG_LINE}), f"lines of more than {LONGEST} bytes were broken", (_breaker,)),
    "8bit": _Step(frozenset({EIGHT_BIT}), "8-bit bytes in the header were encoded", (HeaderEncoder, _breaker)),
    "wrap": _Step(frozenset(), "wrapped as an attachment of a new message", (lambda: Wrapper(base64=False),)),
    "wrap64": _Step(frozenset(), "wrapped as a base64 attachment of a new message", (lambda: Wrapper(base64=True),)),
}
_UNFIT: Final = frozenset({NUL, BARE_LF, BARE_CR, LONG_LINE})  # for 7bit and 8bit (RFC 2045 2.7, 2.8)
