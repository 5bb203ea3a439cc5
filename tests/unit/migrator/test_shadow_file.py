"""One password in place of many, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.shadow_file import common_kind, find_problems, is_password, read_records, restore, switch

COMMON = b"$6$temporary$" + b"x" * 86
DES = b"AslUzT1JkPsoc"  # 13 characters, of the migration guide's own form
SHADOW = (
    b"root:$6$aaaaaaaa$" + b"r" * 86 + b":19000:0:99999:7:::\n"
    b"daemon:*:19000:0:99999:7:::\n"
    b"ann:$6$bbbbbbbb$" + b"a" * 86 + b":19000:0:99999:7:::\n"
    b"bob:" + DES + b":19000:0:99999:7:::\n"
    b"carl:!" + DES + b":19000:0:99999:7:::\n"
    b"dora:!!:19000::::::\n"
    b"M\xfcller:$y$j9T$saltsalt$" + b"y" * 43 + b":19000:0:99999:7:::\n"
)


def hashes(content: bytes) -> dict[bytes, bytes]:
    return {record.name: record.hash for record in read_records(content)}


def test_switch() -> None:
    """Accounts that can log in get it; root, locked and password-less ones never."""
    done = switch(SHADOW, COMMON)
    assert done.names == [b"ann", b"bob", b"M\xfcller"]
    now, before = hashes(done.content), hashes(SHADOW)
    assert {name for name in now if now[name] == COMMON} == set(done.names)
    assert all(now[name] == before[name] for name in before if name not in done.names)
    assert done.content.replace(COMMON, b"") != SHADOW
    assert switch(SHADOW, COMMON, only=[b"bob", b"root", b"dora"]).names == [b"bob"]
    assert switch(SHADOW, COMMON, keep=[b"bob"]).names == [b"ann", b"M\xfcller"]


def test_restore_is_exact() -> None:
    done = switch(SHADOW, COMMON)
    back = restore(done.content, SHADOW, COMMON, done.names)
    assert back.content == SHADOW
    assert (back.names, back.changed, back.gone, back.strangers) == (done.names, [], [], [])
    again = restore(SHADOW, SHADOW, COMMON, done.names)
    assert (again.content, again.names, again.changed) == (SHADOW, [], [])


def test_what_changed_meanwhile_stays() -> None:
    """A new password, an account removed, one made, one made as a copy of a switched one, other fields."""
    done = switch(SHADOW, COMMON)
    fresh = b"$6$new$" + b"n" * 86
    lines = done.content.replace(b"ann:" + COMMON + b":19000", b"ann:" + fresh + b":20000")
    lines = b"".join(line + b"\n" for line in lines.splitlines() if not line.startswith(b"M\xfcller"))
    lines = lines.replace(b"bob:" + COMMON + b":19000", b"bob:" + COMMON + b":20001")
    lines += b"eve:" + COMMON + b":20000:0:99999:7:::\nfred:" + fresh + b":20000:0:99999:7:::\n"
    back = restore(lines, SHADOW, COMMON, done.names)
    assert (back.names, back.changed, back.gone, back.strangers) == ([b"bob"], [b"ann"], [b"M\xfcller"], [b"eve"])
    now = hashes(back.content)
    assert (now[b"ann"], now[b"bob"], now[b"fred"]) == (fresh, DES, fresh)
    assert b"bob:" + DES + b":20001:" in back.content
    assert b"M\xfcller" not in now


def test_the_account_whose_password_is_the_common_one() -> None:
    """As the guide has it, the hash of a known account: that account is no stranger afterwards."""
    known = hashes(SHADOW)[b"ann"]
    done = switch(SHADOW, known)
    back = restore(done.content, SHADOW, known, done.names)
    assert back.content == SHADOW
    assert back.strangers == []


def test_passwd_and_master_passwd() -> None:
    passwd = b"ann:" + DES + b":1000:1000:Ann:/home/ann:/bin/sh\nbob:x:1001:1001::/home/bob:/bin/sh\n+::::::\n"
    master = b"# BSD\nann:" + DES + b":1000:1000:class:0:0:Ann:/home/ann:/bin/sh\n"
    for content in (passwd, master):
        assert find_problems(content) == []
        assert switch(content, COMMON).names == [b"ann"]


def test_problems_by_line() -> None:
    assert find_problems(SHADOW) == []
    twice = b"ann:x\n\nann:*:1::::::\nbob:*:1::::::\nbob:" + DES + b":1::::::\n"
    assert find_problems(twice) == [
        "line 1: neither 7, 9 nor 10 fields divided by colons: not a line of passwd or shadow",
        "lines 4, 5: bob stands there 2 times: remove all but one",
    ]


@pytest.mark.parametrize("text", [b"", b"x", b"*", b"!", b"!!", b"*LK*", b"NP", b"!" + DES, b"*" + DES, b"$6$short"])
def test_no_password(text: bytes) -> None:
    assert not is_password(text)


def test_common_kind() -> None:
    assert common_kind(SHADOW) == "6"
    assert common_kind(b"ann:" + DES + b":1::::::\n") == "des"
    assert common_kind(b"ann:*:1::::::\n") == ""


@given(
    st.lists(
        st.tuples(
            st.binary(min_size=1, max_size=5).filter(lambda name: not set(name) & set(b":\n\r#+-")),
            st.sampled_from([DES, COMMON, b"*", b"!", b"!" + DES, b"$1$abcdefgh$" + b"q" * 22, b""]),
        ),
        max_size=8,
        unique_by=lambda pair: pair[0],
    ),
    st.binary(max_size=30),
)
def test_back_is_always_the_same(accounts: list[tuple[bytes, bytes]], tail: bytes) -> None:
    """Whatever the file, whatever its last bytes are."""
    content = b"".join(name + b":" + text + b":1::::::\n" for name, text in accounts) + tail
    common = b"$5$common$" + b"c" * 43
    done = switch(content, common)
    if len(set(done.names)) == len(done.names) and not find_problems(content):
        assert restore(done.content, content, common, done.names).content == content
