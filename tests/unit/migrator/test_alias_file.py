"""Aliases files as sendmail and Postfix take them: quotes, continuation, comments, and what is no entry."""

from __future__ import annotations

import pytest

from migrator.alias_file import (
    AliasFileTrouble,
    BadLine,
    Entry,
    Kind,
    Target,
    parse_aliases,
    parse_targets,
    render_entry,
    shown,
    simple_aliases,
)


def one(text: str) -> Entry | BadLine:
    (found,) = parse_aliases(text.encode())
    return found


def address(text: str) -> Target:
    return Target(Kind.ADDRESS, text)


@pytest.mark.parametrize(
    ("line", "targets"),
    [
        ("a: joe", [address("joe")]),
        ("a:joe,x@y.test", [address("joe"), address("x@y.test")]),
        ("a : , joe,", [address("joe")]),
        ('a: "Real, Name" <x@y.test>, joe (a comment, (nested))', [address("x@y.test"), address("joe")]),
        (r"a: \joe", [Target(Kind.ACCOUNT, "joe")]),
        (r'a: "\joe"', [address("joe")]),  # a quoted string loses its backslash
        (r'a: "\\joe"', [Target(Kind.ACCOUNT, "joe")]),
        ('a: "|/bin/x -a, \\"b\\""', [Target(Kind.COMMAND, '/bin/x -a, "b"')]),
        ("a: |/bin/x -a <b>", [Target(Kind.COMMAND, "/bin/x -a <b>")]),
        ('a: |"/bin/x y"', [Target(Kind.COMMAND, "/bin/x y")]),
        ("a: /dev/null", [Target(Kind.FILE, "/dev/null")]),
        ('a: ":include:/etc/a list"', [Target(Kind.INCLUDE, "/etc/a list")]),
        ("a: :Include:/etc/x", [Target(Kind.INCLUDE, "/etc/x")]),
        ("a: user+foo, b%c@d.test", [address("user+foo"), address("b%c@d.test")]),
    ],
)
def test_targets(line: str, targets: list[Target]) -> None:
    """What stands behind the colon, in its order."""
    entry = one(line)
    assert isinstance(entry, Entry)
    assert list(entry.targets) == targets


@pytest.mark.parametrize(
    "line",
    [
        "no colon",
        "a:",
        "a: ,",
        'a: ""',
        'a: "open',
        "a: (open",
        "a: x\\",
        "a: |",
        "a: :include:",
        "a: <x",
        "a: <>",
        "a: x <y> z",
        "a: joe smith",
        "a b: c",
        "x@y.test: z",
        ": z",
        '"": z',
        "a: b\0",
    ],
)
def test_bad_lines(line: str) -> None:
    """Each is named, with its line; the entries around it are read."""
    before, bad, after = parse_aliases(b"before: x\n" + line.encode() + b"\nafter: y\n")
    assert isinstance(bad, BadLine)
    assert bad.line == 2
    assert bad.reason
    assert isinstance(before, Entry)
    assert isinstance(after, Entry)


def test_bytes_that_are_not_utf8() -> None:
    """Shown, not guessed."""
    (bad,) = parse_aliases(b"a: j\xf6rg\n")
    assert bad == BadLine(1, "it is not UTF-8", "a: j\udcf6rg")
    assert shown(bad.text) == "a: j\\xf6rg"


def test_lines_go_on_over_comments_and_empty_lines() -> None:
    """As Postfix reads them; the number is that of the first line."""
    first, second = parse_aliases(b"\n# x\na: b,\r\n# between\n\n\tc,\n  d\nz: y\n")
    assert first == Entry(3, "a", (address("b"), address("c"), address("d")))
    assert second == Entry(8, "z", (address("y"),))


def test_names() -> None:
    """Quoted and escaped names; case stays."""
    found = parse_aliases(b'"a: b": x\na\\ b: x\nOwner-List: x\n(c) b (d): x\n')
    assert [entry.name for entry in found if isinstance(entry, Entry)] == ["a: b", "a b", "Owner-List", "b"]


def test_rendered_entries_are_read_back() -> None:
    """Also names and targets that need quotes."""
    for line in (r'"a b": \joe, "|x \"y\"", ":include:/a b", /x', '"#a": "a#b", c'):
        entry = one(line)
        assert isinstance(entry, Entry)
        assert one(render_entry(entry)) == entry


def test_parse_targets_of_a_forward_file() -> None:
    """One line of a .forward file is the right side of an alias."""
    found = parse_targets(r'\joe, "|/usr/bin/vacation joe"')
    assert found == [Target(Kind.ACCOUNT, "joe"), Target(Kind.COMMAND, "/usr/bin/vacation joe")]


def test_simple_aliases() -> None:
    """Pairs in lower case, or the first line that is none."""
    assert simple_aliases(b"J.Smith: Joe\nsales: shop@example.test\n") == {
        "j.smith": "joe",
        "sales": "shop@example.test",
    }
    for text in (b"ok: x\na: b, c\n", b"ok: x\na: |x\n", b"ok: x\nOK: y\n", b"ok: x\nbad\n"):
        with pytest.raises(AliasFileTrouble) as caught:
            simple_aliases(text)
        assert caught.value.line == 2
