"""Modified UTF-7 and the names that are not."""

from __future__ import annotations

import pytest

from wire.imap.names import decode_mailbox, encode_mailbox, encode_utf8

VALID = [
    (b"INBOX", "INBOX"),
    (b"", ""),
    (b"&-", "&"),
    (b"R&-D", "R&D"),
    (b"B&APw-ro", "Büro"),
    (b"~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"),  # RFC 3501 5.1.3
    (b"Hi Mom -&Jjo--!", "Hi Mom -☺-!"),
    (b"&BB4EQgQ,BEAEMAQyBDsENQQ9BD0ESwQ1-", "Отправленные"),
    (b"&2D3eAA-", "😀"),
    (b"&-&-", "&&"),
    (b"&ABs-", "\x1b"),
    (b'a"b\\c', 'a"b\\c'),
]


@pytest.mark.parametrize(("wire", "text"), VALID)
def test_both_ways(wire: bytes, text: str) -> None:
    """Valid names survive in both directions."""
    assert decode_mailbox(wire) == text
    assert encode_mailbox(text) == wire


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        (b"R&D", "R&D"),  # never encoded
        (b"&", "&"),
        (b"&APw", "&APw"),  # not closed
        (b"&A-", "&A-"),  # half a character
        (b"&2AA-", "&2AA-"),  # half a surrogate pair
        (b"&!!-", "&!!-"),
        (b"a&b&APw-", "a&bü"),
        ("Büro".encode(), "Büro"),  # raw UTF-8
        (b"B\xfcro", "B\udcfcro"),  # Latin-1
        (b"B\xfc&APw-", "B\udcfcü"),
    ],
)
def test_invalid_names_are_read_as_a_person_sees_them(wire: bytes, text: str) -> None:
    """No name fails, and bytes that mean nothing are kept."""
    assert decode_mailbox(wire) == text


def test_bytes_that_mean_nothing_are_sent_as_they_were() -> None:
    """Latin-1 from an old server goes out unchanged."""
    assert encode_mailbox(decode_mailbox(b"B\xfcro")) == b"B\xfcro"


def test_lone_surrogates_of_other_origin_do_not_fail() -> None:
    """A name that came from elsewhere with half a pair in it is encoded, not raised."""
    assert encode_mailbox("a\ud800b") == b"a&2AA-b"


def test_utf8_names() -> None:
    """After ENABLE UTF8=ACCEPT names are plain UTF-8."""
    assert encode_utf8("R&D Büro") == "R&D Büro".encode()
    assert encode_utf8("B\udcfcro") == b"B\xfcro"
