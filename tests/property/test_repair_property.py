"""The repair ladder over any message: it does not matter how it came, and what a rung names is all that it changes."""

from __future__ import annotations

import itertools
import re
from base64 import b64decode

from hypothesis import given
from hypothesis import strategies as st

from migrator.repair import Rung, Scanner, ladder, oddities, rung

CODES = ["ends", "nul", "header", "long", "8bit", "wrap", "wrap64"]
NAMED = {
    "ends": {"bare LF", "bare CR"},
    "nul": {"NUL"},
    "header": {"header", "empty"},
    "long": {"long line"},
    "8bit": {"8-bit header"},
}

_PIECES = st.sampled_from(
    [
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b"\r\r\n",
        b"\0",
        b" ",
        b"\t",
        b":",
        b"Subject: x\r\n",
        b"X-Y: z\r\n",
        b"Subject : x\r\n",
        b"From a@b\r\n",
        b"a" * 300,
        b"b" * 997,
        b"c" * 999 + b"\r\n",
        b"d" * 4096,
        "Grüße ".encode(),
        b"\xfc\xdf ",
        b"http://x",
        b'"Jo"',
        b"=?utf-8?q?a?=",
    ]
)
MESSAGES = st.lists(st.one_of(_PIECES, _PIECES, st.binary(max_size=5))).map(b"".join)
PLACES = st.lists(st.integers(0, 1 << 16), max_size=12)


def cut(content: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({place % (len(content) + 1) for place in places} | {0, len(content)})
    return [content[start:end] for start, end in itertools.pairwise(marks)]


def in_pieces(step: Rung, pieces: list[bytes]) -> bytes:
    transformer = step.transformer()
    return b"".join([*(transformer.feed(piece) for piece in pieces), transformer.finish()])


@given(MESSAGES, PLACES)
def test_scanner_says_what_oddities_says(content: bytes, places: list[int]) -> None:
    scanner = Scanner()
    for piece in cut(content, places):
        scanner.feed(piece)
    assert scanner.finish() == oddities(content)


@given(MESSAGES, PLACES, st.sampled_from(CODES))
def test_any_split_gives_the_same(content: bytes, places: list[int], code: str) -> None:
    for step in {rung(code), *ladder(oddities(content))}:
        assert in_pieces(step, cut(content, places)) == step.apply(content)


@given(MESSAGES)
def test_the_last_repair_leaves_nothing_odd(content: bytes) -> None:
    *repairs, wrap = ladder(oddities(content))
    if repairs:
        assert oddities(repairs[-1].apply(content)) == frozenset()
    else:
        assert oddities(content) == frozenset()
    assert oddities(wrap.apply(content)) == frozenset()


@given(MESSAGES)
def test_each_rung_ends_what_it_names(content: bytes) -> None:
    """A rung takes at least its own oddity away, and brings no new one."""
    found = oddities(content)
    for step in ladder(found)[:-1]:
        left = oddities(step.apply(content))
        assert left <= found
        assert not left & NAMED[step.code.split("+")[-1]]
        found = left


@given(MESSAGES)
def test_base64_gives_the_original_back(content: bytes) -> None:
    header, _, body = rung("wrap64").apply(content).partition(b"\r\n\r\n")
    assert b64decode(body) == content
    assert max(map(len, [*header.split(b"\r\n"), *body.split(b"\r\n")])) <= 120
    assert max(map(len, body.split(b"\r\n"))) <= 76
    assert rung("wrap").apply(content).partition(b"\r\n\r\n")[2] == content


@given(MESSAGES)
def test_nothing_else_changes(content: bytes) -> None:
    """Without what each step adds, the bytes are those of the original."""
    blank = bytes.maketrans(b"", b"")
    ends = rung("ends").apply(content)
    assert ends.translate(blank, b"\r\n") == content.translate(blank, b"\r\n")
    assert ends.count(b"\n") == ends.count(b"\r") == len(re.findall(rb"\r\r\n|\r\n|\r|\n", content))
    assert rung("nul").apply(content) == content.replace(b"\0", b" ")
    header = rung("header").apply(ends)
    added = header.replace(b"X-Invalid-Header: none\r\n", b"").replace(b"X-Invalid-Header:", b"")
    assert added.translate(blank, b"\r\n\t ") == ends.translate(blank, b"\r\n\t ")
    encoded = rung("8bit").apply(ends)
    assert encoded.translate(blank, b"\r\n ").endswith(ends.partition(b"\r\n\r\n")[2].translate(blank, b"\r\n "))
