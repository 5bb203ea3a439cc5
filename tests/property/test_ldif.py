"""LDIF: what is rendered is read back byte for byte, and no bytes at all are answered with a crash."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from migrator.directory.ldap_entries import read_exchange, read_ldap
from migrator.directory.ldif import read_records, render_record

NAMES = st.sampled_from(["uid", "cn", "mail", "userPassword", "jpegPhoto", "cn;lang-de", "2.5.4.3"])
VALUES = st.binary(max_size=200) | st.text(max_size=60).map(lambda text: text.encode())


def numbered(data: bytes) -> list[tuple[int, bytes]]:
    return list(enumerate(data.split(b"\n"), 1))


@given(st.lists(st.tuples(st.binary(max_size=90), st.lists(st.tuples(NAMES, VALUES), max_size=6)), max_size=4))
def test_records_survive(records: list[tuple[bytes, list[tuple[str, bytes]]]]) -> None:
    data = b"version: 1\n\n" + b"".join(render_record(dn, attributes) for dn, attributes in records)
    found = list(read_records(numbered(data)))
    assert [record.trouble for record in found] == [""] * len(records)
    for record, (dn, attributes) in zip(found, records, strict=True):
        wanted: dict[str, list[bytes]] = {}
        for name, value in attributes:
            wanted.setdefault(name.lower(), []).append(value)
        assert (record.dn, record.attributes) == (dn, wanted)


PIECES = st.sampled_from(
    [b"dn: uid=a", b"dn:: eA==", b"uid: a", b"uid:: !", b"mail:< file:///etc/passwd", b" more", b"#no", b"", b":", b"-",
     b"changetype: modify", b"changetype: add", b"version: 1", b"mailQuota: x", b"\xff: \xff", b"control: 1.2.3"]
)  # fmt: skip


@given(st.lists(PIECES | st.binary(max_size=30), max_size=25))
def test_any_lines_are_taken(lines: list[bytes]) -> None:
    """Every record is an entry with a standing; none is lost in silence between two others."""
    data = [(number, line.replace(b"\n", b"")) for number, line in enumerate(lines, 1)]
    for read in (read_ldap, read_exchange):
        for entry in read(read_records(data)):
            assert 1 <= entry.line <= len(lines)


@given(st.lists(PIECES, max_size=12))
def test_a_bad_record_does_not_hide_the_next(lines: list[bytes]) -> None:
    data = b"\n".join([*lines, b"", b"dn: uid=last", b"uid: last", b"", b""])
    assert list(read_records(numbered(data)))[-1].attributes == {"uid": [b"last"]}
