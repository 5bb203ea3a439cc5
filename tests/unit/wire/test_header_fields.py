"""Header fields picked out of a whole header, as HEADER.FIELDS would give them."""

from __future__ import annotations

import pytest

from wire.imap.header_fields import select_fields


@pytest.mark.parametrize(
    ("header", "selected"),
    [
        (b"Date: 1\r\nSubject: a\r\n\tb\r\n c\r\nTo: x\r\n\r\n", b"Subject: a\r\n\tb\r\n c\r\n\r\n"),
        (b"SUBJECT : a\r\nsubject: b\r\n\r\n", b"SUBJECT : a\r\nsubject: b\r\n\r\n"),
        (b"no field at all\r\nSubject: a\n\n", b"Subject: a\n\r\n"),
        (b"Subject: a", b"Subject: a\r\n\r\n"),
        (b" Subject: folded into nothing\r\nX-Subject: a\r\n\r\n", b"\r\n"),
        (b"\xff\xfe: x\r\nSubject: \xff\r\n\r\n", b"Subject: \xff\r\n\r\n"),
        (b"", b"\r\n"),
    ],
)
def test_the_named_fields_and_nothing_else(header: bytes, selected: bytes) -> None:
    assert select_fields(header, ["subject"]) == selected
