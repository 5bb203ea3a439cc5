"""--fixLongLines: what becomes of lines that are too long, and of those that are not."""

from __future__ import annotations

from email import message_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.long_lines import LineBreaker


def broken(message: bytes, limit: int, size: int = 1 << 20) -> bytes:
    breaker = LineBreaker(limit)
    pieces = [breaker.feed(message[at : at + size]) for at in range(0, len(message), size)]
    return b"".join(pieces) + breaker.finish()


BODY = b"Subject: x\r\n\r\n"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (BODY + b"a" * 25 + b"\r\n", BODY + b"a" * 10 + b"\r\n" + b"a" * 10 + b"\r\n" + b"a" * 5 + b"\r\n"),
        (BODY + b"a" * 10 + b"\r\n", BODY + b"a" * 10 + b"\r\n"),  # as long as it may be
        (BODY + b"a" * 11, BODY + b"a" * 10 + b"\r\na"),  # no line end
        (BODY + b"a" * 10 + b"\r", BODY + b"a" * 10 + b"\r\n\r"),
        (BODY + b"a" * 20 + b"\n", BODY + b"a" * 10 + b"\r\n" + b"a" * 10 + b"\n"),
        (BODY + "äöüäöü".encode() + b"\r\n", BODY + "äöüäö".encode() + b"\r\n" + "ü".encode() + b"\r\n"),
        (BODY + b"a" + "äöüäöü".encode(), BODY + b"a" + "äöüä".encode() + b"\r\n" + "öü".encode()),
        (BODY + b"\x80" * 12, BODY + b"\x80" * 10 + b"\r\n" + b"\x80" * 2),  # no UTF-8 at all
        (b"x" * 15 + b"\r\n\r\n", b"x" * 10 + b"\r\n" + b"x" * 5 + b"\r\n\r\n"),  # no header at all
        (b"", b""),
    ],
)
def test_body(message: bytes, expected: bytes) -> None:
    assert broken(message, 10) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"To: aaaa, bbbb, cccc\r\n", b"To: aaaa,\r\n bbbb,\r\n cccc\r\n"),
        (b"X: aaaaaaaaaaaaaaa\r\n", b"X:\r\n aaaaaaaaa\r\n aaaaaa\r\n"),  # no white space: one is put there
        (b"A: b\r\n\taaaaaaaaaaaaaaa\r\n", b"A: b\r\n\taaaaaaaaa\r\n aaaaaa\r\n"),
    ],
)
def test_header_is_folded(header: bytes, expected: bytes) -> None:
    assert broken(header + b"\r\nx", 10) == expected + b"\r\nx"


def test_folded_header_means_the_same() -> None:
    addresses = ", ".join(f"user{number}@example.com" for number in range(50))
    message = f"To: {addresses}\r\nSubject: hello\r\n\r\nbody\r\n".encode()
    folded = message_from_bytes(broken(message, 100))
    assert folded["To"].replace("\r\n", "") == addresses
    assert folded["Subject"] == "hello"
    assert folded.get_payload() == "body\r\n"


_MESSAGES = st.lists(
    st.one_of(st.binary(max_size=40), st.sampled_from([b"\r\n", b"\n", b"\r", b"Subject: x\r\n", b" a b c", b"a" * 30]))
).map(b"".join)


@given(_MESSAGES, st.integers(2, 30), st.integers(1, 50))
def test_any_message(message: bytes, limit: int, size: int) -> None:
    """No line is too long, nothing is lost, nothing changes without need, and it does not matter how it came."""
    result = broken(message, limit)
    assert broken(message, limit, size) == result
    assert max(len(line.removesuffix(b"\r")) for line in result.split(b"\n")[:-1] or [b""]) <= limit
    assert len(result.split(b"\n")[-1]) <= limit
    blank = bytes.maketrans(b"", b"")
    assert result.translate(blank, b"\r\n ") == message.translate(blank, b"\r\n ")
    lines = message.split(b"\n")
    if all(len(line.removesuffix(b"\r")) <= limit for line in lines[:-1]) and len(lines[-1]) <= limit:
        assert result == message


@given(_MESSAGES, st.integers(2, 30))
def test_broken_once_is_enough(message: bytes, limit: int) -> None:
    once = broken(message, limit)
    assert broken(once, limit) == once
