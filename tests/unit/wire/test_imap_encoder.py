"""IMAP commands as bytes: what is quoted, what becomes a literal, what is refused."""

from __future__ import annotations

import pytest

from wire.imap.encoder import (
    LITERAL_MINUS_LIMIT,
    QUOTED_LIMIT,
    LiteralOf,
    Text,
    Unsendable,
    encode_command,
    parse_uid_set,
    quote,
    render_flags,
    render_uid_set,
    render_uid_sets,
    sendable_flag,
)


def login(password: bytes, *, plus: bool = False, minus: bool = False) -> list[bytes]:
    """LOGIN of u1 as chunks."""
    args = (Text(b"u1"), Text(password))
    return encode_command(b"a1", b"LOGIN", args, literal_plus=plus, literal_minus=minus)


@pytest.mark.parametrize(
    ("password", "wire"),
    [
        (b"secret", b'a1 LOGIN "u1" "secret"\r\n'),
        (b"", b'a1 LOGIN "u1" ""\r\n'),
        (b" two  spaces ", b'a1 LOGIN "u1" " two  spaces "\r\n'),
        (b'quo"te', b'a1 LOGIN "u1" "quo\\"te"\r\n'),
        (b"back\\slash\\", b'a1 LOGIN "u1" "back\\\\slash\\\\"\r\n'),
        (b"#1234", b'a1 LOGIN "u1" "#1234"\r\n'),
        (b"0", b'a1 LOGIN "u1" "0"\r\n'),
        (b"NIL", b'a1 LOGIN "u1" "NIL"\r\n'),
        (b"{5}", b'a1 LOGIN "u1" "{5}"\r\n'),
        (b"%*()", b'a1 LOGIN "u1" "%*()"\r\n'),
    ],
)
def test_printable_ascii_is_quoted(password: bytes, wire: bytes) -> None:
    """One line, no round trip, every byte kept."""
    assert login(password) == [wire]


@pytest.mark.parametrize(
    "password", ["pä".encode(), b"p\xe4", b"a\tb", b"a\x7fb", b"a\r\nb", b"x" * (QUOTED_LIMIT + 1)]
)
def test_everything_else_is_a_literal(password: bytes) -> None:
    """The bytes follow the announced length unchanged, after the server's `+`."""
    assert login(password) == [b'a1 LOGIN "u1" {%d}\r\n' % len(password), password + b"\r\n"]


def test_literal_plus_needs_no_round_trip() -> None:
    """LITERAL+ joins everything into one chunk; LITERAL- only up to 4096 bytes."""
    assert login(b"\xe4", plus=True) == [b'a1 LOGIN "u1" {1+}\r\n\xe4\r\n']
    assert login(b"\xe4", minus=True) == [b'a1 LOGIN "u1" {1+}\r\n\xe4\r\n']
    assert len(login(b"\xe4" * LITERAL_MINUS_LIMIT, minus=True)) == 1
    assert len(login(b"\xe4" * (LITERAL_MINUS_LIMIT + 1), minus=True)) == 2


def test_two_literals_wait_twice() -> None:
    """Every chunk but the last ends at a literal's length."""
    chunks = encode_command(b"a1", b"LOGIN", (Text(b"\xe4"), Text(b"\xf6")))
    assert chunks == [b"a1 LOGIN {1}\r\n", b"\xe4 {1}\r\n", b"\xf6\r\n"]


def test_the_head_of_an_append() -> None:
    """The message itself is the caller's."""
    args = (Text(b"INBOX"), b"(\\Seen)", LiteralOf(310))
    assert encode_command(b"a1", b"APPEND", args) == [b'a1 APPEND "INBOX" (\\Seen) {310}\r\n']
    assert encode_command(b"a1", b"APPEND", args, literal_plus=True) == [b'a1 APPEND "INBOX" (\\Seen) {310+}\r\n']


@pytest.mark.parametrize("byte", [b"\r", b"\n", b"\0", b"\r\na2 DELETE INBOX"])
def test_no_line_end_enters_a_command(byte: bytes) -> None:
    """CR, LF and NUL are refused in atoms, names and quoted strings."""
    with pytest.raises(Unsendable):
        encode_command(b"a1", b"UID FETCH", (b"1" + byte,))
    with pytest.raises(Unsendable):
        encode_command(b"a1", b"NOOP" + byte)
    with pytest.raises(Unsendable):
        quote(b"x" + byte)


def test_nul_is_refused_in_literals_too() -> None:
    """CHAR8 excludes NUL."""
    with pytest.raises(Unsendable):
        encode_command(b"a1", b"LOGIN", (Text(b"a\0b"),))


def test_a_text_does_not_show_in_a_repr() -> None:
    """A password may be one."""
    assert "secret" not in repr(Text(b"secret"))


@pytest.mark.parametrize("flag", [b"\\Seen", b"$Forwarded", b"NonJunk", b"label-1", b"\\XNonStandard"])
def test_flags_that_can_be_set(flag: bytes) -> None:
    """System flags, keywords, unknown backslash flags."""
    assert sendable_flag(flag)


@pytest.mark.parametrize(
    "flag",
    [b"", b"\\", b"\\*", b"\\Recent", b"\\recent", b"a b", b"a)", b'a"', b"a]", b"{5}", b"a\r\n", b"\xe4", b"a\\b"],
)
def test_flags_that_cannot(flag: bytes) -> None:
    r"""\Recent is the server's own; the rest is no atom and would break out of the list."""
    assert not sendable_flag(flag)
    with pytest.raises(Unsendable):
        render_flags([b"\\Seen", flag])


def test_a_set_that_names_the_same_numbers_again_and_again_is_given_up() -> None:
    """Five bytes a million numbers: a hostile server's line must not take the memory."""
    with pytest.raises(ValueError, match="out of range"):
        parse_uid_set(b",".join([b"1:999999"] * 5000))


def test_uid_sets() -> None:
    """Runs are joined, order is kept, nothing gives nothing."""
    assert render_uid_set([1, 2, 3, 7, 9, 10]) == b"1:3,7,9:10"
    assert render_uid_set([3, 2, 1]) == b"3,2,1"
    assert render_uid_set([]) == b""
    assert list(render_uid_sets([])) == []


def test_uid_sets_in_pieces() -> None:
    """No command line grows past what servers take."""
    uids = list(range(1, 20_000, 2))
    pieces = list(render_uid_sets(uids, 4000))
    assert all(len(piece) <= 4000 for piece in pieces)
    assert [uid for piece in pieces for uid in parse_uid_set(piece)] == uids


@pytest.mark.parametrize("text", [b"", b"0", b"1:*", b"a", b"1,,2", b"-1", b"99999999999", b"1:4294967295"])
def test_uid_sets_out_of_range(text: bytes) -> None:
    """A set that no mailbox has is refused, and never expanded into memory."""
    with pytest.raises(ValueError, match=r".*"):
        parse_uid_set(text)
