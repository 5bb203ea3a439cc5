"""Line ends and headers of stored messages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from migrator.wire_form import read_fields, split_header, with_crlf, without_own_fields


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"", b"b\n"]), max_size=12))
def test_line_ends_do_not_depend_on_where_it_is_cut(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    expected = whole.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    assert b"".join(with_crlf(pieces)) == b"".join(with_crlf([whole])) == expected


def test_split_header() -> None:
    assert split_header(b"A: b\n\nbody\n\n") == (b"A: b\n\n", b"body\n\n")
    assert split_header(b"A: b\r\n\r\nbody") == (b"A: b\r\n\r\n", b"body")
    assert split_header(b"\nbody") == (b"\n", b"body")
    assert split_header(b"A: b\n") == (b"A: b\n", b"")


def test_fields() -> None:
    header = b"A: b\n c\nno field\nStatus: R\n\tO\nX-Uid: 1\r\nD: e\rStatus: kept\n\n"
    assert [name for name, _ in read_fields(header)] == [b"a", b"", b"status", b"x-uid", b"d", b""]
    kept, own = without_own_fields(header)
    assert kept == b"A: b\n c\nno field\nD: e\rStatus: kept\n\n"
    assert own == {b"status": b"R\n\tO", b"x-uid": b"1"}
