"""Any bytes are an aliases file; what is read is written back as the same."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from migrator.alias_file import BadLine, Entry, Kind, Target, parse_aliases, render_entry

_PIECES = st.sampled_from(
    [
        b"a",
        b"joe",
        b"@",
        b"x.test",
        b":",
        b",",
        b" ",
        b"\t",
        b"\n",
        b"\r\n",
        b'"',
        b"\\",
        b"(",
        b")",
        b"<",
        b">",
        b"|",
        b"/",
        b"#",
        b";",
        b":include:",
        b"\xff",
        b"\0",
        "ä".encode(),
    ]
)
_TEXT = st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]), min_size=1, max_size=12)


@given(st.one_of(st.binary(max_size=200), st.lists(_PIECES, max_size=40).map(b"".join)))
@example(b"a: \\")
@settings(max_examples=300)
def test_nothing_is_raised_and_no_line_is_lost(data: bytes) -> None:
    """Every line that is neither a comment, empty nor a continuation begins an entry or is named as bad."""
    found = list(parse_aliases(data))
    begun = [
        number
        for number, line in enumerate(data.split(b"\n"), 1)
        if line.strip() and not line.strip().startswith(b"#") and line[:1] not in (b" ", b"\t")
    ]
    assert set(begun) <= {entry.line for entry in found}
    assert all(isinstance(entry, Entry | BadLine) for entry in found)
    for entry in found:
        if isinstance(entry, Entry):
            (again,) = parse_aliases(render_entry(entry).encode())
            assert again == Entry(1, entry.name, entry.targets)


_TARGETS = st.one_of(
    _TEXT.filter(lambda text: text[0] not in "|/\\:").map(lambda text: Target(Kind.ADDRESS, text)),
    st.sampled_from([Kind.COMMAND, Kind.INCLUDE]).flatmap(lambda kind: _TEXT.map(lambda text: Target(kind, text))),
    _TEXT.map(lambda text: Target(Kind.FILE, "/" + text)),
)


@given(_TEXT, st.lists(_TARGETS, min_size=1, max_size=5))
@settings(max_examples=200)
def test_entries_are_read_back(name: str, targets: list[Target]) -> None:
    """Whatever letters a name or target is made of."""
    entry = Entry(1, name, tuple(targets))
    (again,) = parse_aliases(render_entry(entry).encode())
    assert again == entry
