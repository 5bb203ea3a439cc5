"""Lines of a hash file: whose they are, and when they are nobody's."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.hash_table import HashTable, Line, addresses_of, read_entry, read_lines
from migrator.password_check import verify
from migrator.passwords import Scheme
from wire.secret import Secret

MD5 = "$1$12345678$f8QoJuo0DpBRfQSD0vglc1"
SSHA = "{SSHA}DkMTwBl+a/3DQTxCYEApdUtNXGgdUac3"


def table(text: str, domain: str = "d.test") -> HashTable:
    return HashTable(text.encode("utf-8", "surrogateescape"), domain=domain)


@pytest.mark.parametrize(
    "line",
    [
        f"joe@d.test\t{MD5}",
        f"Joe\t{MD5}\tanything",
        f"joe@D.TEST:{MD5}",
        f"joe:{MD5}:1000:1000:Joe:/home/joe:/bin/sh",
        f"joe:{MD5}:19700:0:99999:7:::",
        f"joe:{MD5}:1000:1000::0:0:Joe:/home/joe:/bin/sh",
        f"joe:{MD5}:::::quota=1\r",
    ],
)
def test_each_kind_of_line_is_read(line: str) -> None:
    """The first two fields count; a name without a domain is of the table's."""
    found = table(f"# comment\n\n{line}\n").find("joe@d.test")
    assert found is not None
    assert (found.number, found.text, found.problem) == (3, MD5, "")


def test_where_a_file_serves_many_domains_a_bare_name_is_nobodys() -> None:
    """`find` is asked for whole addresses there."""
    assert table(f"joe:{MD5}\n", domain="").find("joe@d.test") is None


def test_a_byte_order_mark_is_no_part_of_the_first_name() -> None:
    """Windows editors write one."""
    assert table(f"\ufeffjoe\t{MD5}\n").find("joe@d.test") is not None


def test_a_name_with_two_hashes_is_unclear_in_whatever_order() -> None:
    """An old and a new export joined together: the old password must not count. The same line twice is no harm."""
    for lines in (
        f"joe:{MD5}\njoe:{SSHA}\n",
        f"joe:{MD5}\njoe:{SSHA}\njoe:{SSHA}\n",
        f"joe:{MD5}\nJOE@d.test:{SSHA}\n",
    ):
        found = table(lines).find("joe@d.test")
        assert found is not None
        assert "another hash" in found.problem
        assert not read_entry(found).verifiable
    same = table(f"joe:{MD5}\njoe:{MD5}\n").find("joe@d.test")
    assert same is not None
    assert read_entry(same).verifiable


def test_a_user_who_goes_by_two_names_with_different_hashes_is_unclear() -> None:
    """His address here and his login there are both in the file."""
    both = table(f"joe:{MD5}\njoe@old.test:{SSHA}\n")
    found = both.find("joe@d.test", "joe@old.test")
    assert found is not None
    assert "different hashes" in found.problem
    assert both.find("joe@d.test", "nobody@d.test") == Line(1, "joe@d.test", MD5)


def test_a_last_line_that_may_be_cut_off_is_not_used() -> None:
    """Base64 with a salt looks whole at several lengths; kinds of one length need no line end."""
    cut = table(f"ann:{SSHA}\njoe:{SSHA[:-4]}").find("joe@d.test")
    assert cut is not None
    assert "cut off" in cut.problem
    ann = table(f"ann:{SSHA}\njoe:{SSHA[:-4]}").find("ann@d.test")
    assert ann is not None
    assert ann.problem == ""
    whole = table(f"joe:{MD5}").find("joe@d.test")
    assert whole is not None
    assert whole.problem == ""


def test_clear_text_with_a_colon_needs_a_tab() -> None:
    """Nobody knows where it ends among colons; in a passwd file the second field is known."""
    for line, problem in (
        ("joe:{PLAIN}se:cret", True),
        ("joe:{PLAIN}secret", False),
        ("joe\t{PLAIN}se:cret", False),
        ("joe:{plain}secret:1:1:Joe:/:/bin/sh", False),
    ):
        found = table(line + "\n").find("joe@d.test")
        assert found is not None
        assert bool(found.problem) is problem


def test_lines_that_hold_nobody_are_kept_apart_by_number() -> None:
    """The file is used all the same: nobody is refused for a bad line."""
    found = table(f"joe {MD5}\n:{MD5}\na b:{MD5}\nann:{MD5}\n")
    assert [line.number for line in found.skipped] == [1, 2, 3]
    assert len(found) == 1
    assert all(MD5 not in line.problem for line in found.skipped)


def test_addresses_are_those_with_an_account() -> None:
    """Locked ones have mail too; system users without a password have none."""
    text = f"root:*:0:0::/:/bin/sh\njoe:{MD5}:1:1::/:/bin/sh\nann:!{MD5}:2:2::/:/bin/sh\nbin:x:3:3::/:/bin/sh\n"
    assert addresses_of(table(text)) == ["joe@d.test", "ann@d.test"]


def test_latin_1_names_and_clear_text_do_not_stop_the_file() -> None:
    """Bytes that are not UTF-8 stay what they are."""
    content = b"j\xf6rg\t{PLAIN}s\xe9cret\njoe\t" + MD5.encode() + b"\n"
    found = HashTable(content, domain="d.test")
    assert found.find("joe@d.test") is not None
    odd = next(iter(found))
    assert read_entry(odd).scheme is Scheme.PLAIN
    assert verify(read_entry(odd), Secret(b"s\xe9cret"))
    assert read_entry(odd).import_columns == {}  # an import file is UTF-8


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_can_be_read(content: bytes) -> None:
    """No content raises; every line is somebody's or has a problem."""
    for line in read_lines(content, domain="d.test"):
        assert line.name or line.problem
        assert read_entry(line).verifiable or read_entry(line).problem
