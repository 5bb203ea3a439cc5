"""The receive buffer: limits, line ends and blocks."""

from __future__ import annotations

import pytest

from wire.buffer import ReceiveBuffer
from wire.outcome import ProtocolTrouble


def filled(data: bytes) -> ReceiveBuffer:
    """A buffer that got `data`."""
    buffer = ReceiveBuffer()
    buffer.feed(data)
    return buffer


def test_line_ends() -> None:
    """CRLF and LF end a line, a CR inside or in front does not, and only one CR belongs to the end."""
    buffer = filled(b"a\r\nb\n\r\n\nc\rd\r\ne\r\r\nf")
    assert [buffer.take_line() for _ in range(7)] == [b"a", b"b", b"", b"", b"c\rd", b"e\r", None]
    assert buffer.take_some(10) == b"f"


def test_the_limit_counts_what_stands_before_the_line_feed() -> None:
    """Exactly the limit passes, one more does not, whether its end is there or not."""
    assert filled(b"1234\n").take_line(4) == b"1234"
    assert filled(b"123\r\n").take_line(4) == b"123"
    for data in (b"12345\n", b"12345", b"1234\r\n"):
        with pytest.raises(ProtocolTrouble):
            filled(data).take_line(4)


def test_a_long_line_in_small_pieces_takes_linear_time() -> None:
    """Each byte is looked at once: eight megabytes in pieces of a hundred are no matter."""
    buffer = ReceiveBuffer()
    for _ in range(80_000):
        buffer.feed(b"x" * 100)
        assert buffer.take_line(10_000_000) is None
    buffer.feed(b"\n")
    line = buffer.take_line(10_000_000)
    assert line is not None
    assert len(line) == 8_000_000


def test_what_is_put_back_comes_first() -> None:
    """A reader that took too much."""
    buffer = filled(b"cd\n")
    buffer.unread(b"ab")
    assert buffer.take_line() == b"abcd"


def test_clearing_says_how_much_there_was() -> None:
    """Bytes in the clear before TLS are counted, so that they can be taken for what they are."""
    buffer = filled(b"evil")
    assert buffer.clear() == 4
    assert buffer.clear() == 0
    assert buffer.take_line() is None
