"""The data format for all values: what is rendered is read back the same, and no text ever becomes syntax."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    quote,
    render_data,
    render_pretty,
)
from cli_client.protocol import render_command
from wire.secret import Secret

# every byte string, with those that look like syntax found more often
wild_bytes = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=30).map(lambda text: text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()),
    st.sampled_from([b"#1234", b"#NULL#", b"#T22-10-2009", b"", b"YES", b'x";UseExtPassword=YES;Z="y', b"\x02hash"]),
    st.text(alphabet='"\\#;={}()[],/* \r\n\t\0\x7f', max_size=12).map(str.encode),
)
strings = wild_bytes.map(lambda data: data.decode("utf-8", "surrogateescape"))
moments = st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2999, 1, 1)).map(  # noqa: DTZ001  # strategies bound naive values
    lambda moment: TimeStamp.at(moment.replace(tzinfo=UTC))
)
addresses = st.builds(
    IPAddress,
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str),
    st.one_of(st.none(), st.integers(0, 65535)),
)
simple = st.one_of(
    strings,
    st.integers(-(2**62), 2**62),
    st.binary(max_size=40).map(DataBlock),
    moments,
    addresses,
    st.just(NULL),
)
values = cast(
    "st.SearchStrategy[Value]",
    st.recursive(
        simple,
        lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(strings, inner, max_size=5)),
        max_leaves=20,
    ),
)


class Position:
    def __init__(self, at: int) -> None:
        self.at = at


def parse_or_position(data: bytes) -> Value | Position:
    try:
        return parse_data(data)
    except FormatError as error:
        return Position(error.position)


@given(values)
def test_what_is_rendered_reads_back_the_same(value: Value) -> None:
    rendered = render_data(value)
    assert parse_data(rendered) == value
    assert not any(byte in rendered for byte in b"\r\n\0")
    rendered.decode("utf-8")


@given(values)
def test_the_form_for_people_reads_back_the_same(value: Value) -> None:
    assert parse_data(render_pretty(value).encode("utf-8")) == value


@given(values)
def test_the_structure_tells_where_an_object_of_many_lines_ends(value: Value) -> None:
    lines = render_pretty(value).encode("utf-8").split(b"\n")
    scanner = ObjectScanner()
    answers = [scanner.feed(line) for line in lines]
    assert answers == [False] * (len(lines) - 1) + [True]


@given(strings)
def test_a_string_is_always_one_string(text: str) -> None:
    rendered = quote(text)
    assert parse_object(rendered + b";UseExtPassword=YES;") == (text, len(rendered))


@given(wild_bytes, wild_bytes)
def test_names_and_passwords_never_become_syntax(name: bytes, password: bytes) -> None:
    line = render_command("SetAccountPassword", name.decode("utf-8", "surrogateescape"), Secret(password)).line
    first, end = parse_object(line, len(b"SetAccountPassword "))
    second, last = parse_object(line, end)
    assert (first, second) == tuple(part.decode("utf-8", "surrogateescape") for part in (name, password))
    assert last == len(line)


@given(st.binary(max_size=60))
def test_no_bytes_do_anything_but_read_or_fail_with_a_position(data: bytes) -> None:
    value = parse_or_position(data)
    if isinstance(value, Position):
        assert 0 <= value.at <= len(data)
        return
    assert parse_data(render_data(value)) == value


@given(st.text(alphabet='ab1#="\\;{}()[],/*\n \t-TI:.NULL', max_size=40).map(str.encode))
def test_text_near_the_grammar_reads_or_fails_with_a_position(data: bytes) -> None:
    value = parse_or_position(data)
    if isinstance(value, Position):
        assert 0 <= value.at <= len(data)
        return
    assert parse_data(render_data(value)) == value
    scanner = ObjectScanner()
    lines = data.split(b"\n")
    assert [scanner.feed(line) for line in lines][-1]


@given(st.integers(101, 5000))
def test_depth_is_limited_both_ways(depth: int) -> None:
    with pytest.raises(FormatError, match="too deep"):
        parse_data(b"(" * depth + b")" * depth)
    value: Value = "x"
    for _ in range(depth):
        value = [value]
    with pytest.raises(ValueError, match="deep"):
        render_data(value)
