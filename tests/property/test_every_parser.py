"""Whatever comes from a network or from stdin, a parser gives a value or the trouble that it declares, and no other.

A function that reads such bytes is found by its name and its module; one that is not tried here fails a test.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli_client.errors import error_of
from cli_client.format import FormatError, ObjectScanner, parse_data, parse_object, parse_quoted
from cli_client.protocol import Reply, parse_greeting, parse_reply
from extauth.names import read_name
from extauth.protocol import parse_request
from wire.buffer import ReceiveBuffer
from wire.compression import Inflater
from wire.imap import classify, results
from wire.imap.dialogue import Completed
from wire.imap.encoder import parse_uid_set
from wire.imap.header_fields import select_fields
from wire.imap.names import decode_mailbox
from wire.imap.parser import ResponseParser, Status, Untagged, parse_response, parse_status, parse_values
from wire.outcome import Answer, ProtocolTrouble, Trouble, Verdict
from wire.pop3 import classify_login
from wire.pop3_message import MessageReader
from wire.smtp_reply import ReplyParser, classify_rcpt

_ROOT: Final = Path(__file__).resolve().parents[2]
_MODULES: Final = (
    *("wire/*.py", "wire/imap/*.py", "cli_client/errors.py", "cli_client/format.py", "cli_client/protocol.py"),
    *("extauth/protocol.py", "extauth/names.py"),
)
_READS: Final = ("parse_", "read_", "classify_", "decode_", "select_", "error_of")
_OURS: Final = {  # read what we or the operator wrote, not what a peer sends
    "wire/endpoint.py:parse_endpoint",
    "wire/imap/classify.py:classify_unsendable",
}

# pieces that lead deep into the grammars, between bytes of any kind
_WORDS: Final = rb"""
    * a1 OK NO BAD BYE [ ] ( ) " \ { } {3} NIL ~ FETCH( 1 FETCH ( LIST SEARCH ESEARCH ALL STATUS NAMESPACE UID FLAGS
    APPENDUID UIDVALIDITY EXISTS RFC822.SIZE BODY[ 1:* 1:9,7 -1 9999999999999999999999999 250 550-5.1.1 550 421 200 201
    +OK -ERR [AUTH] <1@x> + . .. & &AOk- #T1-1-2009 #I[1.2.3.4]:5 #+7 [AA==] = ; , /* */ // VRFY NEW (IMAP) a@b @ \e
    From: secret later
""".split()
_PIECES: Final = st.sampled_from([*_WORDS, b" ", b" ", b" ", b"\t", b"\r", b"\n", b"\r\n", b"\n x", b"\0", b"\xff"])
_bytes: Final = st.lists(st.one_of(_PIECES, _PIECES, st.binary(max_size=6)), max_size=14).map(b"".join)
_codes: Final = st.sampled_from(
    ["", "AUTHENTICATIONFAILED", "LIMIT", "TRYCREATE", "THROTTLED", "APPENDUID", "X", "\x00"]
)
_values: Final = st.recursive(st.one_of(st.none(), _bytes), lambda more: st.lists(more, max_size=5), max_leaves=12)
_untagged: Final = st.builds(
    Untagged,
    st.sampled_from([b"EXISTS", b"FLAGS", b"SEARCH", b"ESEARCH", b"LIST", b"STATUS", b"FETCH", b"X"]),
    st.one_of(st.none(), st.integers(0, 1 << 66)),
    st.lists(_values, max_size=5),
)
_statuses: Final = st.sampled_from([b"OK", b"NO", b"BAD"])
_completed: Final = st.builds(
    Completed,
    _statuses,
    st.sampled_from(["", "APPENDUID", "UIDVALIDITY", "READ-ONLY"]),
    _bytes,
    st.text(max_size=20),
    st.lists(_untagged, max_size=4),
    st.lists(st.builds(Status, st.just(b""), st.just(b"OK"), _codes, _bytes, _bytes), max_size=4),
)
_texts: Final = _bytes.map(lambda data: data.decode("utf-8", "surrogateescape"))


def _smtp(data: bytes) -> None:
    parser = ReplyParser()
    for line in data.split(b"\n"):
        if (reply := parser.feed(line)) is not None:
            for known in (None, True, False):
                assert classify_rcpt(reply, known_accepted=known).verdict is not Verdict.YES or reply.code // 100 in (
                    2,
                    5,
                )


def _imap(data: bytes) -> None:
    parser = ResponseParser()
    parser.feed(data + b"\r\n")
    while parser.next_response() is not None:
        pass


def _block(data: bytes) -> None:
    scanner = ObjectScanner()
    for line in data.split(b"\n"):
        scanner.feed(line)


def _deflated(data: bytes) -> None:
    inflater = Inflater()
    inflater.feed(data)
    while inflater.pending:
        inflater.take(1000)


def _lines(data: bytes) -> None:
    buffer = ReceiveBuffer()
    buffer.feed(data)
    while buffer.take_line() is not None:
        pass


def _answered(status: bytes, code: str, text: bytes) -> Answer:
    answer = classify.classify_login(status, code, text, hide=[b"secret"])
    assert (answer.verdict is Verdict.YES) == (status == b"OK")
    return answer


def _pop(line: bytes) -> Answer:
    answer = classify_login(line, hide=[b"secret"])
    assert (answer.verdict is Verdict.YES) == (line == b"+OK" or line.startswith(b"+OK "))
    return answer


_Case = tuple[Callable[..., Any], tuple[st.SearchStrategy[Any], ...], tuple[type[Exception], ...]]
_CASES: Final[dict[str, _Case]] = {
    "wire/buffer.py:ReceiveBuffer": (_lines, (_bytes,), (ProtocolTrouble,)),
    "wire/compression.py:Inflater": (_deflated, (st.binary(max_size=200),), (ProtocolTrouble,)),
    "wire/pop3.py:classify_login": (_pop, (_bytes,), ()),
    "wire/pop3_message.py:MessageReader": (lambda data: MessageReader().feed(data), (_bytes,), ()),
    "wire/smtp_reply.py:classify_rcpt": (_smtp, (_bytes,), (ProtocolTrouble,)),
    "wire/imap/classify.py:classify_login": (_answered, (_statuses, _codes, _bytes), ()),
    "wire/imap/classify.py:classify_failure": (
        lambda *said: classify.classify_failure(*said[:3], what="x", about=said[3]),
        (_statuses, _codes, _bytes, _bytes),
        (),
    ),
    "wire/imap/classify.py:classify_bye": (classify.classify_bye, (_codes, _bytes), ()),
    "wire/imap/classify.py:classify_mailbox_failure": (
        lambda *said: classify.classify_mailbox_failure(*said[:3], what="x", mailbox=said[3]),
        (_statuses, _codes, _bytes, _bytes),
        (),
    ),
    "wire/imap/classify.py:classify_append_failure": (
        lambda *said: classify.classify_append_failure(*said, what="x"),
        (_statuses, _codes, _bytes),
        (),
    ),
    "wire/imap/encoder.py:parse_uid_set": (parse_uid_set, (_bytes,), (ValueError,)),
    "wire/imap/header_fields.py:select_fields": (lambda data: select_fields(data, ["from", "x"]), (_bytes,), ()),
    "wire/imap/names.py:decode_mailbox": (decode_mailbox, (_bytes,), ()),
    "wire/imap/parser.py:parse_response": (lambda data: parse_response([data]), (_bytes,), (ProtocolTrouble,)),
    "wire/imap/parser.py:parse_status": (parse_status, (st.sampled_from([b"", b"a1"]), _bytes), (ProtocolTrouble,)),
    "wire/imap/parser.py:parse_values": (lambda data: parse_values([data]), (_bytes,), (ProtocolTrouble,)),
    "wire/imap/parser.py:ResponseParser": (_imap, (_bytes,), (ProtocolTrouble,)),
    "wire/imap/results.py:read_number": (results.read_number, (_values,), (ProtocolTrouble,)),
    "wire/imap/results.py:read_listed": (results.read_listed, (_untagged,), ()),
    "wire/imap/results.py:read_namespaces": (results.read_namespaces, (_untagged,), ()),
    "wire/imap/results.py:read_status": (results.read_status, (_untagged,), (ProtocolTrouble,)),
    "wire/imap/results.py:read_selected": (
        lambda reply: results.read_selected(reply, examined=False),
        (_completed,),
        (Trouble,),
    ),
    "wire/imap/results.py:read_search": (results.read_search, (st.lists(_untagged, max_size=3),), (ProtocolTrouble,)),
    "wire/imap/results.py:read_fetch": (results.read_fetch, (_untagged,), (ProtocolTrouble,)),
    "wire/imap/results.py:read_summary": (
        results.read_summary,
        (st.dictionaries(st.sampled_from(["UID", "RFC822.SIZE", "FLAGS", "INTERNALDATE"]), _values),),
        (ProtocolTrouble,),
    ),
    "wire/imap/results.py:read_all_appended": (results.read_all_appended, (_completed, st.integers(1, 3)), ()),
    "wire/imap/results.py:read_appended": (results.read_appended, (_completed,), ()),
    "cli_client/errors.py:error_of": (
        lambda code, text, secret: error_of(code, text, secrets=[secret]),
        (st.integers(0, 999), _texts, st.text(max_size=6)),
        (),
    ),
    "cli_client/format.py:parse_data": (parse_data, (_bytes,), (FormatError,)),
    "cli_client/format.py:parse_object": (parse_object, (_bytes,), (FormatError,)),
    "cli_client/format.py:parse_quoted": (parse_quoted, (_bytes,), (FormatError,)),
    "cli_client/format.py:ObjectScanner": (_block, (_bytes,), ()),
    "cli_client/protocol.py:parse_greeting": (parse_greeting, (_bytes,), (ProtocolTrouble,)),
    "cli_client/protocol.py:parse_reply": (parse_reply, (_bytes,), (ProtocolTrouble,)),
    "cli_client/protocol.py:Reply.value": (lambda data: Reply(201, "", data).value(), (_bytes,), (ProtocolTrouble,)),
    "extauth/protocol.py:parse_request": (parse_request, (_bytes,), ()),
    "extauth/names.py:read_name": (read_name, (_texts.map(lambda text: f"{text}@d.test"),), ()),
}


@pytest.mark.parametrize("name", _CASES)
def test_any_bytes_are_a_value_or_the_trouble_that_is_declared(name: str) -> None:
    function, strategies, troubles = _CASES[name]

    @given(st.tuples(*strategies))
    def attempt(values: tuple[Any, ...]) -> None:
        try:
            function(*values)
        except troubles:
            return

    attempt()


def test_every_parser_is_tried() -> None:
    """By its name: what parses, reads, classifies or decodes in the modules that a peer's bytes come to."""
    found = set()
    for pattern in _MODULES:
        for path in _ROOT.glob(pattern):
            for node in ast.parse(path.read_text("utf-8")).body:
                if isinstance(node, ast.FunctionDef) and node.name.startswith(_READS):
                    found.add(f"{path.relative_to(_ROOT)}:{node.name}")
    assert len(found) > 25
    assert found - _OURS - set(_CASES) == set()
