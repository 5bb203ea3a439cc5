"""The request grammar under any bytes: nothing raises, passwords come back, any split gives the same lines."""

from __future__ import annotations

import itertools
import re

from hypothesis import assume, given
from hypothesis import strategies as st

from cli_client.format import quote
from extauth.channel import LineSplitter
from extauth.protocol import (
    REPLY_LIMIT,
    REQUEST_LIMIT,
    New,
    Refuse,
    Retry,
    Routed,
    Verify,
    is_address,
    parse_request,
    render_reply,
)

lines = st.binary(max_size=400).filter(lambda data: b"\n" not in data)
likely = st.lists(
    st.sampled_from(
        [b"1", b" ", b"  ", b"VRFY", b"new", b"(IMAP)", b"u@d.test", b'"', b"\\", b"[192.0.2.1]", b"\r", b"x"]
    ),
    max_size=14,
).map(b"".join)
names = st.from_regex(r"\A[A-Za-z0-9._+=-]{1,20}(@[a-z0-9.-]{1,20})?\Z")
addresses = st.one_of(st.none(), st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str))
modes = st.sampled_from(["", "(IMAP) ", "(SMTP) ", "(pop) "])


@given(
    st.one_of(lines, likely, likely.map(lambda rest: b"12 VRFY " + rest), likely.map(lambda rest: b"12 NEW " + rest))
)
def test_any_line_is_a_request(line: bytes) -> None:
    """Never an exception; the number is what the line began with."""
    request = parse_request(line)
    assert request.number == b"" or re.match(rb"[ \t]*" + request.number + rb"(?:[ \t]|\r?\Z)", line)


@given(name=names, password=st.binary(max_size=60), mode=modes, address=addresses)
def test_a_quoted_password_comes_back(name: str, password: bytes, mode: str, address: str | None) -> None:
    """As the server quotes it, with or without mode and address."""
    quoted = quote(password.decode("utf-8", "surrogateescape"))
    line = f"9 VRFY {mode}{name} ".encode() + quoted + (f" [{address}]".encode() if address else b"") + b"\r\n"
    request = parse_request(line)
    assert isinstance(request, Verify)
    assert request.password.reveal() == password
    assert request.name == name.lower()
    assert request.client == (address or "")
    assert f"({request.mode}) " == mode or not mode


@given(name=names, password=st.binary(max_size=60), mode=modes, address=addresses)
def test_a_raw_password_comes_back(name: str, password: bytes, mode: str, address: str | None) -> None:
    """As older servers send it: any bytes that no line end and no quotes make ambiguous."""
    password = password.replace(b"\n", b"").replace(b'"', b"")
    line = f"9 VRFY {mode}{name} ".encode() + password + (f" [{address}]".encode() if address else b"") + b"\r\n"
    request = parse_request(line)
    assert isinstance(request, Verify)
    found = re.search(rb"(?:^| )\[([0-9A-Fa-f:.%]+)\][ \t]*\Z", password)
    assume(address is not None or found is None or not is_address(found[1].decode()))  # that is an address to all
    assert request.password.reveal() == password
    assert request.client == (address or "")


@given(name=names, mode=modes, address=addresses, before=st.booleans())
def test_new_with_everything(name: str, mode: str, address: str | None, before: bool) -> None:
    """The mode on either side of the name."""
    parts = [mode.strip(), name] if before else [name, mode.strip()]
    parts += [f"[{address}]"] if address else []
    request = parse_request(b"9 NEW " + " ".join(part for part in parts if part).encode())
    assert isinstance(request, New)
    assert (request.name, request.mode, request.client) == (name.lower(), mode.strip("() "), address or "")


@given(st.lists(lines, max_size=12), st.lists(st.integers(0, 5000), max_size=12))
def test_any_split_gives_the_same_lines(wanted: list[bytes], cuts: list[int]) -> None:
    """What is read never depends on how the pipe cut it."""
    data = b"".join(line + b"\n" for line in wanted)
    points = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    splitter = LineSplitter()
    found = [line.data for start, end in itertools.pairwise(points) for line in splitter.feed(data[start:end], 0.0)]
    assert found == wanted
    assert splitter.finish(0.0) is None


@given(st.integers(REQUEST_LIMIT - 2, REQUEST_LIMIT * 3), st.integers(500, 70_000))
def test_a_long_line_is_cut_and_the_next_is_whole(length: int, step: int) -> None:
    """Memory stays bounded, and the line after it is not touched."""
    data = b"7 " + b"x" * (length - 2) + b"\n8 QUIT\n"
    splitter = LineSplitter()
    found = [line.data for at in range(0, len(data), step) for line in splitter.feed(data[at : at + step], 0.0)]
    assert len(found) == 2
    assert found[1] == b"8 QUIT"
    assert found[0] == data[: min(length, REQUEST_LIMIT + 1)] or len(found[0]) == length
    assert parse_request(found[0]).number == b"7"


@given(st.text(max_size=5000), st.sampled_from([Refuse, Retry, Routed]))
def test_any_text_makes_one_line(text: str, kind: type[Refuse | Retry | Routed]) -> None:
    """Printable ASCII, one line end, within the limit."""
    line = render_reply(b"1", kind(text))
    assert len(line) <= REPLY_LIMIT
    assert re.fullmatch(rb"1 (ERROR|FAILURE|ROUTED)[ -~]*\n", line)
