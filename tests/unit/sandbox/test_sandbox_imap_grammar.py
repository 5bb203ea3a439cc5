"""Properties of what the IMAP server reads and renders."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extauth.sandbox.imap_grammar import (
    Assembly,
    BadCommand,
    Cursor,
    LiteralWanted,
    Numbers,
    parse_date_time,
    quoted,
    render_date_time,
    uid_set,
)
from extauth.sandbox.imap_listing import MailUser
from extauth.sandbox.imap_message import parse_message, section
from extauth.sandbox.imap_offer import Offer
from extauth.sandbox.imap_session import ImapSession
from extauth.sandbox.mailstore import MailStore

zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=zones)  # noqa: DTZ001 - bounds


@given(moments)
def test_dates_come_back(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    back = parse_date_time(render_date_time(moment)[1:-1])
    assert (back, back.utcoffset()) == (moment, moment.utcoffset())


@given(st.sets(st.integers(1, 60)), st.lists(st.tuples(st.integers(1, 70), st.integers(1, 70)), min_size=1, max_size=5))
def test_sets_hold_what_their_ranges_hold(known: set[int], ranges: list[tuple[int, int]]) -> None:
    text = b",".join(b"%d:%d" % pair for pair in ranges)
    wanted = {n for low, high in ranges for n in range(min(low, high), max(low, high) + 1)}
    assert Numbers(text).of(sorted(known)) == sorted(known & wanted)


@given(st.sets(st.integers(1, 200), min_size=1))
def test_uid_sets_come_back(uids: set[int]) -> None:
    assert Numbers(uid_set(sorted(uids))).of(range(1, 300)) == sorted(uids)


def test_star_is_the_last() -> None:
    assert Numbers(b"9:*").of([1, 5]) == [5]
    assert Numbers(b"*:2").of([1, 3, 5]) == [3, 5]
    assert Numbers(b"*").of([]) == []


@given(st.binary(max_size=60).filter(lambda data: b"\0" not in data))
def test_strings_come_back(data: bytes) -> None:
    rendered = quoted(data)
    if rendered.startswith(b"{"):
        head, _, body = rendered.partition(b"\r\n")
        assert Cursor(head + b"\r\n", [body]).string() == data
    else:
        assert Cursor(rendered).string() == data


def test_literals_are_asked_for() -> None:
    assembly = Assembly()
    assert assembly.add_line(b"a APPEND x {3}") == LiteralWanted(3, True)
    assert assembly.add_line(b" {0+}") == LiteralWanted(0, False)
    assert assembly.add_line(b"") is None
    assert assembly.tag == b"a"


@pytest.mark.parametrize(
    "date", [b"31-Feb-2020 00:00:00 +0000", b"01-Foo-2020 00:00:00 +0000", b"01-Jan-2020 25:00:00 +0000"]
)
def test_impossible_dates(date: bytes) -> None:
    with pytest.raises(BadCommand):
        parse_date_time(date)


@given(st.binary(max_size=300))
def test_no_message_is_beyond_the_mime_reader(data: bytes) -> None:
    parse_message(data)
    assert section(data, (), b"") == data
    assert (section(data, (), b"HEADER") or b"") + (section(data, (), b"TEXT") or b"") == data


def session() -> ImapSession:
    store = MailStore()
    for number in range(3):
        store.inbox.add(b"Subject: %d\r\n\r\nbody\r\n" % number)

    async def log_in(login: bytes, password: bytes, authzid: bytes, ip: str) -> MailUser:
        raise AssertionError

    found = ImapSession(Offer(), log_in, lambda: None)
    found.user = MailUser("user", store)
    return found


words = st.sampled_from(
    [
        b"FETCH",
        b"UID",
        b"STORE",
        b"SEARCH",
        b"1:*",
        b"(",
        b")",
        b"FLAGS",
        b"BODY[",
        b"]",
        b'"',
        b"LIST",
        b"*",
        b"%",
        b"a",
        b"APPEND",
        b"INBOX",
        b"SELECT",
        b"COPY",
        b"STATUS",
        b"{3+}\r\n",
        b"\\Seen",
        b"NOT",
        b"OR",
        b"<0.5>",
        b"HEADER",
        b"\xff",
    ]
)


@settings(deadline=None)
@given(st.lists(words, max_size=8))
def test_any_command_gets_exactly_one_tagged_answer(parts: list[bytes]) -> None:
    """What a client says never raises, and is always answered."""
    text = b"t " + b" ".join(parts)

    async def run() -> list[bytes]:
        found = session()
        await found.execute(Assembly(bytearray(b"s SELECT INBOX")))
        return await found.execute(Assembly(bytearray(text), [b"abc"] * text.count(b"{")))

    said = b"".join(asyncio.run(run()))
    assert said.endswith(b"\r\n")
    tagged = [line for line in said.split(b"\r\n") if line.startswith((b"t OK", b"t NO", b"t BAD"))]
    assert len(tagged) == 1
