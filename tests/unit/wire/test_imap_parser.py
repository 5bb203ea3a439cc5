"""The IMAP response parser on what servers send, whole and broken."""

from __future__ import annotations

import pytest

from tests.vectors.imap_replies import MALFORMED, RESPONSES
from wire.imap.parser import Assembler, ResponseParser, Status
from wire.outcome import ProtocolTrouble


@pytest.mark.parametrize("name", RESPONSES)
def test_reads_a_response(name: str) -> None:
    """Each vector is exactly one response, and the parser waits for more after it."""
    wire, expected = RESPONSES[name]
    parser = ResponseParser()
    parser.feed(wire)
    assert parser.next_response() == expected
    assert parser.next_response() is None


@pytest.mark.parametrize("name", RESPONSES)
def test_gives_nothing_before_the_last_byte(name: str) -> None:
    """A response that is not complete is never given, however little is missing."""
    wire, expected = RESPONSES[name]
    parser = ResponseParser()
    for index in range(len(wire) - 1):
        parser.feed(wire[index : index + 1])
        assert parser.next_response() is None
    parser.feed(wire[-1:])
    assert parser.next_response() == expected


@pytest.mark.parametrize("name", MALFORMED)
def test_refuses_what_is_no_response(name: str) -> None:
    """Whatever the grammar does not allow is ProtocolTrouble, never a guess."""
    parser = ResponseParser()
    parser.feed(MALFORMED[name])
    with pytest.raises(ProtocolTrouble):
        parser.next_response()


def test_reads_all_vectors_in_one_stream() -> None:
    """Responses follow each other without losing their place."""
    parser = ResponseParser()
    parser.feed(b"".join(wire for wire, _ in RESPONSES.values()))
    assert [parser.next_response() for _ in RESPONSES] == [expected for _, expected in RESPONSES.values()]
    assert parser.next_response() is None


def test_line_limit() -> None:
    """A line without end is refused when the limit is passed, not when memory is."""
    parser = ResponseParser(line_limit=100)
    parser.feed(b"* OK " + b"x" * 200)
    with pytest.raises(ProtocolTrouble, match="100"):
        parser.next_response()


def test_literal_limit() -> None:
    """A literal is refused by the length it announces, before any of it is held."""
    parser = ResponseParser(literal_limit=100)
    parser.feed(b"* LIST () NIL {101}\r\n")
    with pytest.raises(ProtocolTrouble, match="101"):
        parser.next_response()


def test_a_long_fetch_line_and_a_long_literal_pass() -> None:
    """What is long but within the limits is read: ten thousand keywords, a megabyte of header."""
    parser = ResponseParser(line_limit=1 << 20)
    flags = b" ".join(b"keyword%d" % number for number in range(10_000))
    parser.feed(b"* 1 FETCH (FLAGS (" + flags + b") BODY[HEADER] {1000000}\r\n" + b"h" * 1_000_000 + b")\r\n")
    response = parser.next_response()
    assert response is not None
    assert not isinstance(response, Status)


def test_literals_without_end() -> None:
    """A response made of ever more literals is refused."""
    parser = ResponseParser()
    parser.feed(b"* X" + b" {0}\r\n" * 10_002 + b"\r\n")
    with pytest.raises(ProtocolTrouble, match="literals"):
        parser.next_response()


@pytest.mark.parametrize(
    ("line", "streams"),
    [
        (b"* 1 FETCH (UID 5 BODY[] {10}", True),
        (b"* 1 FETCH (BODY[] {10}", True),
        (b"* 1 fetch (uid 5 body[] {10}", True),
        (b"* 1 FETCH (UID 5 RFC822 {10}", True),
        (b"* 1 FETCH (UID 5 BINARY[] ~{10}", True),
        (b"* 1 FETCH (UID 5 BODY[]<0> {10}", True),
        (b"* 1 FETCH (UID 5 FLAGS (\\Seen) BODY[] {10}", True),
        (b"* 1 FETCH (UID 5 ENVELOPE (NIL {10}", False),
        (b"* LIST () NIL {10}", False),
        (b"* LIST () BODY[] {10}", False),
    ],
)
def test_tells_content_from_other_literals(line: bytes, streams: bool) -> None:
    """Only message content may be streamed past the limits."""
    assembler = Assembler()
    assert assembler.add_line(line) == 10
    assert assembler.body_follows() is streams
