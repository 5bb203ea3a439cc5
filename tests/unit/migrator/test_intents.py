"""Which interrupted messages had arrived; knowing content again; dates; flags."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from migrator.content import ContentDigest, digest_header, message_id
from migrator.dates import header_date, moment, parse_internal_date, render_internal_date, same_moment
from migrator.flags import FlagRules
from migrator.intents import Description, match_messages, plausible

NOW = datetime(2009, 10, 22, 12, 0, tzinfo=UTC)


def one(
    uid: int, content: bytes = b"", moment: int | None = 100, size: int = 10, message_id: bytes = b""
) -> Description:
    return Description(uid, moment, size, content, message_id)


def test_the_part_that_arrived_is_found_in_order() -> None:
    sources = [one(1, b"a"), one(2, b"b"), one(3, b"c")]
    assert match_messages(sources, [one(51, b"a"), one(52, b"b")]) == {1: 51, 2: 52}


def test_of_equal_messages_as_many_are_found_as_arrived() -> None:
    sources = [one(1, b"a"), one(2, b"a"), one(3, b"a")]
    assert match_messages(sources, [one(51, b"a"), one(52, b"a")]) == {1: 51, 2: 52}


def test_a_later_equal_message_does_not_take_the_others_places() -> None:
    """The first `a` was refused: taking its twin's place at the end must not hide b and c."""
    sources = [one(1, b"a"), one(2, b"b"), one(3, b"c"), one(4, b"a")]
    found = match_messages(sources, [one(51, b"b"), one(52, b"c"), one(53, b"a")])
    assert (found[2], found[3], len(found)) == (51, 52, 3)


def test_mail_that_others_deliver_meanwhile_is_not_ours() -> None:
    sources = [one(1, b"a", moment=100, size=500)]
    assert match_messages(sources, [one(60, b"x", moment=999, size=500), one(61, b"y", moment=100, size=501)]) == {}


def test_a_date_that_the_target_replaced_does_not_hide_equal_content() -> None:
    assert match_messages([one(1, b"a", moment=10**10)], [one(60, b"a", moment=1)]) == {1: 60}


def test_content_that_the_target_changed_is_known_by_date_with_id_or_size() -> None:
    source = one(1, b"a", moment=5, size=100, message_id=b"<1@x>")
    assert match_messages([source], [one(60, b"changed", moment=5, size=98, message_id=b"<1@x>")]) == {1: 60}
    assert match_messages([one(1, b"a", moment=5, size=100)], [one(60, b"changed", moment=5, size=100)]) == {1: 60}


def test_different_message_ids_are_different_messages() -> None:
    source = one(1, b"a", moment=5, size=100, message_id=b"<1@x>")
    assert match_messages([source], [one(60, b"b", moment=5, size=100, message_id=b"<2@x>")]) == {}


def test_equal_content_with_the_equal_date_goes_before_equal_content() -> None:
    sources = [one(1, b"a", moment=1), one(2, b"a", moment=2)]
    assert match_messages(sources, [one(60, b"a", moment=2), one(61, b"a", moment=1)]) == {1: 61, 2: 60}


def test_a_header_alone_proves_less_than_content() -> None:
    source = one(1, b"h", moment=1, size=100)
    assert match_messages([source], [one(60, b"h", moment=2, size=100)], headers_only=True) == {}
    source = one(1, b"h", moment=1, size=100, message_id=b"<1@x>")
    assert match_messages([source], [one(60, b"h", 2, 100, b"<1@x>")], headers_only=True) == {1: 60}
    assert match_messages([source], [one(60, b"h", 2, 999, b"<1@x>")], headers_only=True) == {}


def test_by_headers_equal_dates_and_sizes_count_only_where_nothing_else_is_known() -> None:
    """Imported mail often has one date for all: two letters of one size are not one letter."""
    assert match_messages([one(1, b"h")], [one(60, b"other")], headers_only=True) == {}
    assert match_messages([one(1)], [one(60)], headers_only=True) == {1: 60}


def test_messages_without_date_or_content_are_never_guessed() -> None:
    assert match_messages([Description(1, None, 10)], [Description(60, None, 10)]) == {}


def test_only_what_may_be_ours_is_fetched_to_look() -> None:
    assert plausible(one(1, moment=5, size=10), one(2, moment=5, size=9000))
    assert plausible(one(1, moment=5, size=1000), one(2, moment=6, size=1050))
    assert not plausible(one(1, moment=5, size=1000), one(2, moment=6, size=5000))


def digest(content: bytes, piece: int = 7) -> bytes:
    feeding = ContentDigest()
    for start in range(0, len(content), piece):
        feeding.feed(content[start : start + piece])
    assert feeding.size == len(content)
    return feeding.digest()


HEAD = b"From: a@x\r\nSubject: s\r\n"


@pytest.mark.parametrize(
    ("one_form", "other_form"),
    [
        (HEAD + b"\r\none\r\r\ntwo\r\n", HEAD + b"\r\none\r\ntwo\r\n"),  # Dovecot's APPEND
        (HEAD + b"\r\none\ntwo\n", HEAD + b"\r\none\r\ntwo\r\n"),  # bare LF
        (HEAD + b"\r\nbody\r", HEAD + b"\r\nbody"),  # one final CR
        (HEAD + b"\r\nbody\r\n\r\n\r\n", HEAD + b"\r\nbody"),
        (HEAD + b"\r\nnul\0byte\r\n", HEAD + b"\r\nnulbyte\r\n"),
        (HEAD + b"Status: RO\r\nX-UIDL: abc\r\n def\r\n\r\nbody", HEAD + b"\r\nbody"),  # mbox servers
        (b"X-Status: A\r\n" + HEAD + b"\r\nStatus: in the body\r\n", HEAD + b"\r\nStatus: in the body\r\n"),
        (HEAD, HEAD + b"\r\n"),
        (b"no line end at all", b"no line end at all\r\n"),
        (HEAD + b"Status: O", HEAD),
    ],
)
def test_what_servers_change_does_not_change_the_digest(one_form: bytes, other_form: bytes) -> None:
    assert {digest(one_form, piece) for piece in (1, 2, 3, 1000)} == {digest(other_form, 5)}


@pytest.mark.parametrize(
    ("one_form", "other_form"),
    [
        (HEAD + b"\r\nbody", HEAD + b"\r\nbodY"),
        (HEAD + b"\r\nStatus: a\r\n", HEAD + b"\r\nStatus: b\r\n"),
        (HEAD + b"\r\na\r\nb", HEAD + b"\r\na\r\n\r\nb"),
        (HEAD + b"\r\n", HEAD + b"\r\n\r\nx"),
        (b"From: a\r\n\r\n", b"From: b\r\n\r\n"),
        (b"x", b""),
    ],
)
def test_everything_else_changes_the_digest(one_form: bytes, other_form: bytes) -> None:
    assert digest(one_form) != digest(other_form)


def test_the_header_is_kept_for_its_dates_and_its_message_id() -> None:
    feeding = ContentDigest()
    for piece in (b"From: a\r\nMess", b"age-ID:\r\n <1@x>\r\nDate: now\r\n", b"\r\nMessage-ID: <2@y>\r\n"):
        feeding.feed(piece)
    assert feeding.header == b"From: a\nMessage-ID:\n <1@x>\nDate: now\n\n"
    assert message_id(feeding.header) == b"<1@x>"
    assert message_id(b"message-id: <A@b> \r\n") == b"<A@b>"
    assert message_id(b"Subject: none\r\n") == b""


def test_a_header_line_without_end_does_not_grow_in_memory() -> None:
    feeding = ContentDigest()
    for _ in range(100):
        feeding.feed(b"x" * 65536)
    assert len(feeding.header) < 1 << 20
    assert feeding.digest() == digest(b"x" * 6553600, 1 << 20)


def test_header_fields_in_another_order_or_folding_are_the_same() -> None:
    assert digest_header(b"Subject: a\r\n b\r\nDate: x\r\n\r\n") == digest_header(b"DATE:  x\nSubject: a b\n")
    assert digest_header(b"Subject: a\r\n") != digest_header(b"Subject: b\r\n")


@pytest.mark.parametrize(
    ("raw", "when"),
    [
        (b"17-Jul-1996 02:44:25 -0700", "1996-07-17T02:44:25-07:00"),
        (b" 1-Jan-2020 00:00:00 +0000", "2020-01-01T00:00:00+00:00"),
        (b"01-jan-2020 00:00:00 +0530", "2020-01-01T00:00:00+05:30"),
        (b"31-Dec-2016 23:59:60 +0000", "2016-12-31T23:59:59+00:00"),
    ],
)
def test_internal_dates_are_read(raw: bytes, when: str) -> None:
    parsed = parse_internal_date(raw)
    assert parsed == datetime.fromisoformat(when)


@pytest.mark.parametrize(
    "raw",
    [
        None, b"", b"32-Jan-2020 00:00:00 +0000", b"30-Feb-2020 00:00:00 +0000", b"01-Foo-2020 00:00:00 +0000",
        b"01-Jan-0000 00:00:00 +0000", b"01-Jan-2020 25:00:00 +0000", b"01-Jan-2020 00:00:61 +0000",
        b"01-Jan-2020 00:00:00 +9999", b"01-Jan-2020 00:00:00", b"Thu, 01 Jan 2020 00:00:00 +0000",
    ],
)  # fmt: skip
def test_impossible_internal_dates_are_none(raw: bytes | None) -> None:
    assert parse_internal_date(raw) is None
    assert moment(raw) is None


def test_dates_are_written_as_append_wants_them_and_read_back() -> None:
    when = datetime.fromisoformat("2009-02-03T04:05:06-03:30")
    assert render_internal_date(when) == b" 3-Feb-2009 04:05:06 -0330"
    assert parse_internal_date(render_internal_date(when)) == when
    assert same_moment(b"03-Feb-2009 04:05:06 -0330", b"03-Feb-2009 07:35:06 +0000")
    assert not same_moment(None, None)


def test_the_year_one_east_of_greenwich_is_before_time_began() -> None:
    began = moment(b"01-Jan-0001 00:00:00 +0000")
    assert began is not None
    assert moment(b"01-Jan-0001 00:00:00 +1200") == began - 12 * 3600


@pytest.mark.parametrize(
    ("header", "when"),
    [
        (b"Received: a; Thu, 22 Oct 2009 10:00 +0200\r\nDate: Mon, 1 Jan 2001\r\n", "2009-10-22T10:00:00+02:00"),
        (b"Received: from a\r\n by b;\r\n\tThu, 22 Oct 2009 10:00:00 +0200 (CEST)\r\n", "2009-10-22T10:00:00+02:00"),
        (b"Received: a; Thu, 22 Oct 2009 10:00 +0000\nReceived: b; Wed, 21 Oct 2009\n", "2009-10-22T10:00:00+00:00"),
        (b"Received: no date\r\nDate: Mon, 1 Jan 2001 00:00:00 +0000\r\n", "2001-01-01T00:00:00+00:00"),
        (b"Received: x; not a date\r\nDate: Mon, 1 Jan 2001 00:00:00 +0000\r\n", "2001-01-01T00:00:00+00:00"),
        (b"Date: Mon, 1 Jan 2001 00:00:00 -0000\r\n", "2001-01-01T00:00:00+00:00"),
    ],
)  # fmt: skip
def test_the_date_of_a_message_without_one(header: bytes, when: str) -> None:
    assert header_date(header, now=NOW) == datetime.fromisoformat(when)


@pytest.mark.parametrize(
    "header",
    [
        b"", b"Subject: x\r\n", b"Date: Mon, 99 Foo 0000 99:99:99 +9999\r\n", b"Date: Fri, 1 Jan 2038 00:00 +0000\n",
        b"Date: Thu, 1 Jan 1970 00:00:00 +0000\r\n", b"Date: \xff\xfe\r\n",
    ],
)  # fmt: skip
def test_a_date_that_cannot_be_true_is_none(header: bytes) -> None:
    assert header_date(header, now=NOW) is None


def test_flags_that_the_target_keeps() -> None:
    rules = FlagRules.of({"\\Seen", "\\Answered", "\\*"})
    kept, lost = rules.split([b"\\seen", b"\\Recent", b"\\Flagged", b"$Forwarded", b"kw", b"KW", b"b(ad", b"b\xe4d"])
    assert kept == [b"\\seen", b"$Forwarded", b"kw"]
    assert lost == [b"\\Flagged", b"b(ad", b"b\xe4d"]


def test_only_the_keywords_that_the_target_names() -> None:
    kept, lost = FlagRules.of({"\\Seen", "Junk"}).split([b"\\Seen", b"junk", b"other"])
    assert (kept, lost) == ([b"\\Seen", b"junk"], [b"other"])


def test_a_target_that_names_no_flags_is_tried_with_all() -> None:
    assert FlagRules.of(frozenset()).split([b"\\Seen", b"kw"]) == ([b"\\Seen", b"kw"], [])


def test_an_unknown_system_flag_is_not_sent() -> None:
    assert FlagRules.of({"\\*", "\\Odd", "\\Seen"}).split([b"\\Odd", b"\\Other"]) == ([], [b"\\Odd", b"\\Other"])
