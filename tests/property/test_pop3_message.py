"""The end and the dots of a POP3 message: any bytes, split anywhere, come out as they went in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wire.pop3_message import MessageReader

# bytes near the grammar are found more often than by chance
pieces = st.lists(
    st.sampled_from([b".", b"\r", b"\n", b"\r\n", b"\r\n.", b"..", b"\r\n.\r", b"a", b"\0", b"\xff"]), max_size=20
)
messages = st.one_of(pieces.map(b"".join), st.binary(max_size=200)).map(lambda data: data + b"\r\n" if data else data)


def stuff(message: bytes) -> bytes:
    """What a server sends, spelled out line by line (RFC 1939, section 3)."""
    lines = message.split(b"\r\n")[:-1]
    return b"".join((b"." + line if line.startswith(b".") else line) + b"\r\n" for line in lines) + b".\r\n"


def read(parts: list[bytes]) -> tuple[bytes, bytes, bool]:
    reader = MessageReader()
    out = []
    for number, part in enumerate(parts):
        out.append(reader.feed(part))
        if reader.ended:
            return b"".join(out), reader.rest + b"".join(parts[number + 1 :]), True
    return b"".join(out), b"", False


@given(messages, st.binary(max_size=20), st.data())
def test_any_split_gives_the_message_and_the_rest(message: bytes, rest: bytes, data: st.DataObject) -> None:
    sent = stuff(message) + rest
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    parts = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    assert read(parts) == (message, rest, True)


@given(messages)
def test_byte_by_byte_is_the_same(message: bytes) -> None:
    sent = stuff(message)
    assert read([bytes([byte]) for byte in sent]) == (message, b"", True)


@given(messages, st.data())
def test_a_part_never_ends_and_gives_only_a_beginning(message: bytes, data: st.DataObject) -> None:
    sent = stuff(message)
    part = sent[: data.draw(st.integers(0, len(sent) - 1))]
    out, _, ended = read([part])
    assert not ended
    assert message.startswith(out)
