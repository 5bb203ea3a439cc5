"""IMAP parsing under any cut of the bytes, and encoders against their decoders."""

from __future__ import annotations

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from tests.vectors.imap_replies import MALFORMED, RESPONSES
from wire.imap.encoder import Text, encode_command, parse_uid_set, render_uid_set
from wire.imap.names import decode_mailbox, encode_mailbox
from wire.imap.parser import Response, ResponseParser, Untagged, Value
from wire.outcome import ProtocolTrouble

vectors = [wire for wire, _ in RESPONSES.values()] + list(MALFORMED.values())


def responses_of(chunks: list[bytes]) -> list[Response | None]:
    """All responses, with None at the end if one could not be read."""
    parser = ResponseParser(line_limit=500, literal_limit=500)
    found: list[Response | None] = []
    for chunk in chunks:
        parser.feed(chunk)
        try:
            while (response := parser.next_response()) is not None:
                found.append(response)
        except ProtocolTrouble:
            return [*found, None]
    return found


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """`data` cut at the given places."""
    marks = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(marks)]


@given(st.lists(st.sampled_from(vectors), max_size=6), st.lists(st.integers(0, 1 << 16), max_size=12))
def test_any_cut_of_real_replies(wires: list[bytes], places: list[int]) -> None:
    """Servers' own replies, good and bad, give the same responses however they arrive."""
    whole = b"".join(wires)
    expected = responses_of([whole])
    assert responses_of(cut(whole, places)) == expected
    assert responses_of([bytes([byte]) for byte in whole]) == expected


noise = st.lists(
    st.binary(max_size=6)
    | st.sampled_from(
        [b"* ", b"a1 ", b"OK ", b"NO ", b"[", b"]", b"(", b")", b'"', b"\\", b"{3}\r\n", b"\r\n", b"FETCH ", b"1 "]
    )
    | st.sampled_from([b"BODY[", b"NIL", b"~{2}\r\n", b"+ ", b"LIST ", b" "]),
    max_size=25,
).map(b"".join)


@given(noise, st.lists(st.integers(0, 1 << 16), max_size=8))
def test_any_cut_of_noise(whole: bytes, places: list[int]) -> None:
    """Nonsense ends in ProtocolTrouble or in responses, never in another exception, and never by luck of timing."""
    assert responses_of(cut(whole, places)) == responses_of([whole])


atoms = st.from_regex(rb"\A[A-Za-z$\\][A-Za-z0-9.-]{0,8}\Z").filter(lambda atom: atom.upper() != b"NIL")
strings = st.binary(max_size=30)
values = st.recursive(
    st.none() | st.tuples(st.just("atom"), atoms) | st.tuples(st.sampled_from(["quoted", "literal"]), strings),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


def render(value: object) -> bytes:
    """A server's way to write a value."""
    if value is None:
        return b"NIL"
    if isinstance(value, list):
        return b"(" + b" ".join(render(item) for item in value) + b")"
    assert isinstance(value, tuple)
    kind, content = value[0], bytes(value[1])
    if kind == "atom":
        return content
    if kind == "quoted" and not set(content) & set(b"\r\n\0"):
        return b'"' + content.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return b"{%d}\r\n" % len(content) + content


def plain(value: object) -> Value:
    """What the parser should make of it."""
    if value is None:
        return None
    if isinstance(value, list):
        return [plain(item) for item in value]
    assert isinstance(value, tuple)
    return bytes(value[1])


@given(st.lists(values, max_size=4))
def test_any_data_is_read_as_it_was_written(data: list[object]) -> None:
    """Atoms, quoted strings, literals and nested lists of any bytes."""
    parser = ResponseParser()
    parser.feed(b"* X-DATA " + b" ".join(render(value) for value in data) + b"\r\n")
    assert parser.next_response() == Untagged(b"X-DATA", None, [plain(value) for value in data])


@given(st.binary(max_size=1200).filter(lambda value: b"\0" not in value), st.booleans())
def test_any_argument_arrives_as_it_was(value: bytes, plus: bool) -> None:
    """What a server reads from LOGIN is what was given, quoted or as a literal."""
    chunks = encode_command(b"a1", b"LOGIN", (Text(value),), literal_plus=plus)
    line = re.sub(rb"\A(a1 LOGIN \{\d+)\+\}", rb"\1}", b"".join(chunks))  # only the literal's own mark
    parser = ResponseParser()
    parser.feed(b"* LOGIN" + line.removeprefix(b"a1 LOGIN"))
    assert parser.next_response() == Untagged(b"LOGIN", None, [value])


@given(st.text())
def test_names_survive(name: str) -> None:
    """Any text goes out in ASCII and comes back."""
    wire = encode_mailbox(name)
    assert wire.isascii()
    assert decode_mailbox(wire) == name


@given(st.binary())
def test_no_name_fails(wire: bytes) -> None:
    """Any bytes are a name; reading it again changes nothing."""
    name = decode_mailbox(wire)
    assert decode_mailbox(encode_mailbox(name)) == name


@given(st.lists(st.integers(1, 300)))
def test_uid_sets(uids: list[int]) -> None:
    """A set holds the numbers it was made of, in their order."""
    text = render_uid_set(uids)
    assert (parse_uid_set(text) if text else []) == uids
