"""The data format by example: what servers send, what published clients get wrong, what is refused and where."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import pytest

from cli_client.format import (
    NULL,
    DataBlock,
    FormatError,
    IPAddress,
    ObjectScanner,
    TimeStamp,
    Value,
    parse_data,
    parse_object,
    render_data,
    render_pretty,
)

READS: list[tuple[bytes, Value]] = [
    (b"atom", "atom"),
    (b"user@example.com", "user@example.com"),
    (b"first.last-name_x", "first.last-name_x"),
    (b"100M", "100M"),
    (b"a/b", "a/b"),
    (b'""', ""),
    (b'"a b"', "a b"),
    (rb'"q\"b\\s\r\n\t\e\007"', 'q"b\\s\r\n\t\n\x07'),
    (rb'"\195\164"', "ä"),
    ('"ä日"'.encode(), "ä日"),
    (b'"\xe4"', "\udce4"),
    (rb'"\228"', "\udce4"),
    (b"[AAEC]", DataBlock(b"\0\x01\x02")),
    (b"[AA\r\n EC]", DataBlock(b"\0\x01\x02")),
    (b"[]", DataBlock(b"")),
    (b"#123", 123),
    (b"#-4", -4),
    (b"#0", 0),
    (b"#T22-10-2009_15:24:45", TimeStamp("22-10-2009_15:24:45")),
    (b"#T22-10-2009", TimeStamp("22-10-2009")),
    (b"#TPAST", TimeStamp("PAST")),
    (b"#I[10.0.44.55]:25", IPAddress("10.0.44.55", 25)),
    (b"#I[10.0.44.55]", IPAddress("10.0.44.55")),
    (b"#I[2001:db8::1]:106", IPAddress("2001:db8::1", 106)),
    (b"#NULL#", NULL),
    (b"#null#", NULL),
    (b"()", []),
    (b"( a , b , (c) )", ["a", "b", ["c"]]),
    (b"{}", {}),
    (b"{Key = value; Key2 = value;}", {"Key": "value", "Key2": "value"}),
    (b'{"a key"="a;b";x=#NULL#;}', {"a key": "a;b", "x": NULL}),
    (b"{a=(1,#1);b={c=d;};}", {"a": ["1", 1], "b": {"c": "d"}}),
    (b"{a=b}", {"a": "b"}),  # the last ; may be missing
    (b'\r\n {\r\n\tA = b; // not ; c = d;\r\n /* } */ C\t=\r\n"d // e";\r\n}\r\n', {"A": "b", "C": "d // e"}),
    (b'{URL="http://x/*";}', {"URL": "http://x/*"}),
]


@pytest.mark.parametrize(("text", "value"), READS)
def test_reads(text: bytes, value: Value) -> None:
    assert parse_data(text) == value
    assert type(parse_data(text)) is type(value)


REFUSED: list[tuple[bytes, str, int]] = [
    (b"", "ends too early", 0),
    (b"   ", "ends too early", 3),
    (b"a b", "behind the data", 2),
    (b'"abc', "does not end", 0),
    (b'"abc\\"', "does not end", 0),
    (rb'"ab\q"', "unknown escape", 3),
    (rb'"ab\300"', "above", 3),
    (rb'"ab\12"', "unknown escape", 3),
    (b"(a,", "ends too early", 3),
    (b"(a b)", "no , or )", 3),
    (b"(a,)", "unexpected", 3),
    (b"{a}", "no = behind", 2),
    (b"{a=b c=d;}", "no ; behind", 5),
    (b"{=b;}", "unexpected", 1),
    (b"{a=;}", "unexpected", 3),
    (b"{a=b;", "ends too early", 5),
    (b"#", "begins no number", 0),
    (b"#12x", "begins no number", 0),
    (b"#123456789012345678901234567890", "too long", 0),
    (b"#Tnever", "cannot be read", 0),
    (b"#I[not an address]", "begins no number", 0),
    (b"#I[x]", "cannot be read", 0),
    (b"#I[1.2.3.4]:99999", "cannot be read", 0),
    (b"[A]", "not base64", 0),
    (b"[AAEC", "does not end", 0),
    (b"[A-B=]", "does not end", 0),
    (b"a /* no end", "behind the data", 2),
    (b"\0", "unexpected", 0),
    (b"(" * 101, "too deep", 100),
]


@pytest.mark.parametrize(("text", "problem", "position"), REFUSED)
def test_refuses_and_says_where(text: bytes, problem: str, position: int) -> None:
    with pytest.raises(FormatError, match=re.escape(problem)) as caught:
        parse_data(text)
    assert caught.value.position == position
    assert str(position) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        b"{" + b" " * 200_000,
        b"{a" + b"/a" * 100_000,
        b"{a=b" + b" " * 200_000 + b"c}",
        b'"' + rb'\\"' * 100_000,
        b'{a="' + b"x" * 200_000,
        b"/*" * 100_000,
        b"//\n" * 50_000,
        b"{" + b"a=/*;" * 40_000,
        b"(" * 99 + b"a," * 100_000,
    ],
)
def test_hostile_text_costs_linear_time(text: bytes) -> None:
    started = time.process_time()
    with pytest.raises(FormatError):
        parse_data(text)
    assert time.process_time() - started < 2  # quadratic time would take minutes


def test_size_is_limited() -> None:
    with pytest.raises(FormatError, match="more than 10 bytes"):
        parse_data(b"(aaaaaaaaaaaaa)", size_limit=10)


WRITES: list[tuple[Value, bytes]] = [
    ("YES", b"YES"),
    ("", b'""'),
    ("#1234", b'"#1234"'),  # CGP::CLI sends it bare, as a number
    ("#NULL#", b'"#NULL#"'),
    ("1234", b'"1234"'),
    ("a@b.c", b'"a@b.c"'),
    ('say "hi" \\ there', rb'"say \"hi\" \\ there"'),  # CGP::CLI leaves both unescaped
    ("\r\n\t\0\x02\x7f", rb'"\r\n\t\000\002\127"'),
    ("ä", '"ä"'.encode()),
    ("\udce4", rb'"\228"'),
    (1234, b"#1234"),
    (-4, b"#-4"),
    (DataBlock(b"\0\x01\x02"), b"[AAEC]"),
    (TimeStamp.at(datetime(2009, 10, 22, 15, 24, 45, tzinfo=UTC)), b"#T22-10-2009_15:24:45"),
    (IPAddress("10.0.44.55", 25), b"#I[10.0.44.55]:25"),
    (NULL, b"#NULL#"),
    (["a", ["b c"]], b'(a,("b c"))'),
    ({"Key": "v", "a key": 1}, b'{Key=v;"a key"=#1;}'),
    ([], b"()"),
    ({}, b"{}"),
]


@pytest.mark.parametrize(("value", "text"), WRITES)
def test_writes(value: Value, text: bytes) -> None:
    assert render_data(value) == text


@pytest.mark.parametrize("value", [True, 1.5, None, b"bytes", {1: "a"}, [object()], 10**30, "\ud800"])
def test_what_the_format_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        render_data(value)  # type: ignore[arg-type]  # the wrong type is the test


@pytest.mark.parametrize("text", ["", "22-10", "x", "22-10-2009_15:24", "22-10-2009;A=B"])
def test_a_time_stamp_holds_nothing_else(text: str) -> None:
    with pytest.raises(ValueError, match="time stamp"):
        TimeStamp(text)


@pytest.mark.parametrize(("address", "port"), [("x]y", None), ("1.2.3.4]:1;A=B", None), ("", None), ("1.2.3.4", 70000)])
def test_an_address_holds_nothing_else(address: str, port: int | None) -> None:
    with pytest.raises(ValueError, match="not a"):
        IPAddress(address, port)


def test_time_stamps_are_moments() -> None:
    assert TimeStamp("22-10-2009_15:24:45").moment == datetime(2009, 10, 22, 15, 24, 45, tzinfo=UTC)
    assert TimeStamp("22-10-2009").moment == datetime(2009, 10, 22, tzinfo=UTC)
    assert TimeStamp("FUTURE").moment is None


def test_an_object_may_be_followed_by_others() -> None:
    text = b'"a b" PASSWORD "c"'
    assert parse_object(text) == ("a b", 5)
    assert parse_object(text, 5) == ("PASSWORD", 14)


LINES: list[list[bytes]] = [
    [b"{", b"  A = (", b"    a,", b"    b", b"  );", b"  B = {", b"    c = d;", b"  };", b"}"],
    [b'{ A = "ends in )', b'}"; }'],
    [b"{ // }", b"/* }", b"} */", b"}"],
    [b'{A="\\"}', b'";}'],
    [b"(", b'"}",', b'")"', b")"],
    [b"", b"  ", b"atom"],
    [b"// only a comment", b"#NULL#"],
    [b"(a,", b"b)  "],
    [b"[AAEC", b"AAEC]"],
    [b"a/b"],
]


@pytest.mark.parametrize("lines", LINES)
def test_the_end_of_many_lines_is_found_by_structure(lines: list[bytes]) -> None:
    """CGP::CLI stops at the first line that ends in ) or }."""
    scanner = ObjectScanner()
    assert [scanner.feed(line) for line in lines] == [False] * (len(lines) - 1) + [True]


def test_the_form_for_people_is_laid_out() -> None:
    value: Value = {"RealName": "A B", "Rules": [["x", "y"], "z"], "Empty": {}}
    assert render_pretty(value) == (
        '{\n  RealName = "A B";\n  Rules    = (\n    (\n      x,\n      y\n    ),\n    z\n  );\n  Empty    = {};\n}'
    )
