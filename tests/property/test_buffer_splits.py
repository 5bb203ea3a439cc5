"""What the receive buffer gives never depends on how the bytes were cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wire.buffer import ReceiveBuffer
from wire.outcome import ProtocolTrouble

pieces = st.lists(
    st.binary(max_size=12) | st.sampled_from([b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"x" * 40]), max_size=20
)


def lines_of(chunks: list[bytes], limit: int) -> list[bytes | None]:
    """All lines, with None at the end if the limit was passed."""
    buffer = ReceiveBuffer()
    found: list[bytes | None] = []
    for chunk in chunks:
        buffer.feed(chunk)
        try:
            while (line := buffer.take_line(limit)) is not None:
                found.append(line)
        except ProtocolTrouble:
            return [*found, None]
    return found


@given(pieces, st.integers(1, 50))
def test_lines(chunks: list[bytes], limit: int) -> None:
    """Whole, in pieces, or byte by byte: the same lines, and the same limit."""
    whole = b"".join(chunks)
    expected = lines_of([whole], limit)
    assert lines_of(chunks, limit) == expected
    assert lines_of([bytes([byte]) for byte in whole], limit) == expected


@given(st.lists(st.tuples(st.sampled_from(["line", "exact", "some"]), st.integers(0, 9))), st.binary(max_size=60))
def test_nothing_is_lost_or_invented(takes: list[tuple[str, int]], data: bytes) -> None:
    """Whatever is taken, and what is left, makes up what came (but for line ends)."""
    buffer = ReceiveBuffer()
    buffer.feed(data)
    at = 0
    for kind, count in takes:
        if kind == "line":
            line = buffer.take_line()
            if line is not None:
                end = data.index(b"\n", at)
                assert data[at:end] in (line, line + b"\r")
                at = end + 1
        elif kind == "exact":
            block = buffer.take_exact(count)
            if block is not None:
                assert block == data[at : at + count]
                at += count
            else:
                assert len(data) - at < count
        else:
            block = buffer.take_some(count)
            assert block == data[at : at + count]
            at += len(block)
        assert len(buffer) == len(data) - at
    assert buffer.clear() == len(data) - at
    assert len(buffer) == 0
