"""Messages through DATA, and replies: any split of the bytes gives the same, and nothing in a message is a command."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from wire.outcome import Permanent, ProtocolTrouble, Verdict
from wire.pop3_message import MessageReader
from wire.smtp import check_address
from wire.smtp_message import MessageWriter
from wire.smtp_reply import ReplyParser, SmtpReply, classify_rcpt

pieces = st.lists(
    st.sampled_from(
        [b".", b"\r", b"\n", b"\r\n", b"\r\n.", b"..", b"\r\n.\r", b"\n.\n", b"QUIT", b"a", b"\0", b"\xff"]
    ),
    max_size=20,
)
messages = st.one_of(pieces.map(b"".join), st.binary(max_size=200))


def write(parts: list[bytes]) -> bytes:
    writer = MessageWriter()
    return b"".join(writer.feed(part) for part in parts) + writer.end()


def split(data: st.DataObject, whole: bytes) -> list[bytes]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    return [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


@given(messages, st.data())
def test_any_split_goes_out_the_same(message: bytes, data: st.DataObject) -> None:
    assert write(split(data, message)) == write([message])
    assert write([bytes([byte]) for byte in message]) == write([message])


@given(messages)
def test_no_server_sees_an_end_inside_the_message(message: bytes) -> None:
    """Neither one that goes by the book nor one that takes a bare CR or LF for a line end."""
    sent = write([message])
    ends = [match.end() for match in re.finditer(rb"(?:^|\r\n|\r|\n)\.(?:\r\n|\r|\n)", sent)]
    assert ends == [len(sent)]


@given(messages.filter(lambda message: not re.search(rb"(?<!\r)\n\.|\r(?!\n)\.", message)))
def test_the_receiver_gets_the_message_byte_for_byte(message: bytes) -> None:
    reader = MessageReader()
    received = reader.feed(write([message]))
    assert reader.ended
    assert reader.rest == b""
    assert received == (message if message.endswith(b"\r\n") or not message else message + b"\r\n")


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_lines_are_a_reply_or_trouble(lines: list[bytes]) -> None:
    parser = ReplyParser()
    for line in lines:
        try:
            reply = parser.feed(line)
        except ProtocolTrouble:
            return
        if reply is not None:
            assert 200 <= reply.code < 600


codes = st.integers(200, 599)
enhanced = st.one_of(
    st.just(""), st.builds("{}.{}.{}".format, st.integers(2, 5), st.integers(0, 9), st.integers(0, 30))
)


@given(codes, enhanced, st.text(max_size=30), st.sampled_from([None, True, False]))
def test_only_a_few_replies_are_verdicts(code: int, status: str, text: str, known: bool | None) -> None:
    answer = classify_rcpt(SmtpReply(code, status, (text,)), known_accepted=known)
    if answer.verdict is Verdict.NO:
        assert 500 <= code < 600
        assert status in ("5.1.1", "5.1.3", "5.1.6", "5.1.10") or (known and not status)
    if answer.verdict is Verdict.YES:
        assert code in (250, 251) or status == "5.2.2" or (code == 552 and not status)


@given(st.text(alphabet='ab.@<>"\\ \r\n\0[]:ä-', max_size=20))
def test_an_address_that_passes_is_one_path(address: str) -> None:
    try:
        path = check_address(address)
    except Permanent:
        return
    assert path == address
    assert not re.search(r"[\x00-\x1f\x7f<>]", path)
    outside = re.sub(r'"(?:[^"\\]|\\.)*"', "", path)
    assert " " not in outside
    assert '"' not in outside
    assert outside.count("@") <= 1
