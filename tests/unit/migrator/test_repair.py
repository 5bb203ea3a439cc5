"""The repair ladder: what is odd about a message, what each rung makes of it."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import Message

import pytest

from migrator.repair import Scanner, ladder, oddities, rung

FINE = b"Subject: x\r\nTo: a@b\r\n\r\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (FINE, set()),
        (FINE + b"body", set()),  # no line end at the end is nothing odd
        (b"To: a@b\r\n c@d\r\n\t\r\n e@f\r\n\r\n", set()),  # folded, once with a line of white space
        (b"X:\r\n\r\nno value", set()),
        (FINE + "Grüße\r\n".encode(), set()),
        (b"", {"empty"}),
        (FINE + b"a\0b\r\n", {"NUL"}),
        (FINE + b"a\nb\r\n", {"bare LF"}),
        (FINE + b"a\rb\r\n", {"bare CR"}),
        (FINE + b"a\r\r\n", {"bare CR"}),
        (FINE + b"a\r", {"bare CR"}),
        (FINE.replace(b"\r", b""), {"bare LF"}),  # a header nevertheless
        (FINE.replace(b"\n", b""), {"bare CR"}),
        (FINE + b"a" * 998 + b"\r\n", set()),
        (FINE + b"a" * 999 + b"\r\n", {"long line"}),
        (FINE + b"a" * 998, set()),
        (FINE + b"a" * 999, {"long line"}),
        (FINE + b"a" * 998 + b"\r", {"bare CR", "long line"}),  # no line end, so one byte too many
        (FINE + b"a" * 998 + b"\n", {"bare LF"}),
        (FINE + b"a" * 999 + b"\n", {"bare LF", "long line"}),
        (b"X: " + b"a" * 996 + b"\r\n\r\n", {"long line"}),
        ("Subject: Grüße\r\n\r\n".encode(), {"8-bit header"}),
        ("Größe: x\r\n\r\n".encode(), {"header", "8-bit header"}),
        (b"\r\nbody", {"header"}),
        (b"body", {"header"}),
        (b"Subject: x", {"header"}),
        (b"Subject: x\r\n", {"header"}),
        (b" Subject: x\r\n\r\n", {"header"}),
        (b"Subject : x\r\n\r\n", {"header"}),
        (b"Sub\0ject: x\r\n\r\n", {"header", "NUL"}),
        (b": x\r\n\r\n", {"header"}),
        (b"a" * 257 + b": x\r\n\r\n", {"header"}),
        (b"From a@b Fri Feb 13 23:31:30 2009\r\n" + FINE, {"header"}),
        (b"Subject: x\r\n>From a\r\n\r\n", {"header"}),
        (b"Subject: x\rno field\r\n\r\n", {"header", "bare CR"}),  # what it is once its line ends are mended
        (b"Subject: x\n\rbody", {"bare CR", "bare LF"}),
        (b"Subject: x\r\r\nTo: a@b\r\n\r\n", {"bare CR"}),  # one line end: the header goes on
    ],
)
def test_oddities(content: bytes, expected: set[str]) -> None:
    assert oddities(content) == expected
    scanner = Scanner()
    for octet in content:
        scanner.feed(bytes([octet]))
    assert scanner.finish() == expected


@pytest.mark.parametrize(
    ("found", "codes"),
    [
        (set(), ["wrap"]),
        ({"bare LF"}, ["ends", "wrap64"]),
        ({"bare CR", "bare LF"}, ["ends", "wrap64"]),
        ({"NUL"}, ["nul", "wrap64"]),
        ({"long line"}, ["long", "wrap64"]),
        ({"header"}, ["header", "wrap"]),
        ({"empty"}, ["header", "wrap"]),
        ({"8-bit header"}, ["8bit", "wrap"]),
        (
            {"bare LF", "bare CR", "NUL", "long line", "header", "8-bit header"},
            [
                "ends",
                "ends+nul",
                "ends+nul+header",
                "ends+nul+header+long",
                "ends+nul+header+long+8bit",
                "wrap64",
            ],
        ),
    ],
)
def test_ladder(found: set[str], codes: list[str]) -> None:
    rungs = ladder(frozenset(found))
    assert [step.code for step in rungs] == codes
    assert [rung(code) for code in codes] == list(rungs)
    assert all(step.sentence for step in rungs)


@pytest.mark.parametrize("code", ["", "other", "nul+other", "nul+"])
def test_unknown_code(code: str) -> None:
    with pytest.raises(ValueError, match="no repair"):
        rung(code)


@pytest.mark.parametrize(
    ("code", "content", "expected"),
    [
        ("ends", b"a\nb\rc\r\nd\r\r\ne\r\r\r\nf\n\rg\r", b"a\r\nb\r\nc\r\nd\r\ne\r\n\r\nf\r\n\r\ng\r\n"),
        ("ends", b"\r\r", b"\r\n\r\n"),
        ("nul", b"a\0\0b", b"a  b"),
        ("long", FINE + b"a" * 999, FINE + b"a" * 998 + b"\r\na"),
        ("ends+nul", b"a\n\0", b"a\r\n "),
        # the header
        ("header", b"", b"X-Invalid-Header: none\r\n\r\n"),
        ("header", b"\r\nbody", b"X-Invalid-Header: none\r\n\r\nbody"),
        ("header", b"Hello\r\nBob\r\n\r\nx", b"X-Invalid-Header: none\r\n\r\nHello\r\nBob\r\n\r\nx"),
        ("header", b"Hello\r\n\r\nx", b"X-Invalid-Header: none\r\n\r\nHello\r\n\r\nx"),
        (
            "header",
            b"see\r\nhttp://a.test/\r\nfor it",
            b"X-Invalid-Header: none\r\n\r\nsee\r\nhttp://a.test/\r\nfor it",
        ),
        ("header", b"Subject: x", b"Subject: x\r\n\r\n"),
        ("header", b"Subject: x\r\n", b"Subject: x\r\n\r\n"),
        ("header", b"From a@b\r\n" + FINE + b"y", b"X-Invalid-Header: From a@b\r\n" + FINE + b"y"),
        ("header", b"From a@b\r\n\r\ny", b"X-Invalid-Header: From a@b\r\n\r\ny"),
        ("header", b"From a@b\r\nX: y\r\n\r\n", b"X-Invalid-Header: From a@b\r\nX: y\r\n\r\n"),
        ("header", b"\tby c\r\n" + FINE, b"X-Invalid-Header: \tby c\r\n" + FINE),
        (
            "header",
            b"A: 1\r\njunk\r\n\tmore\r\nB: 2\r\n\r\n",
            b"A: 1\r\nX-Invalid-Header: junk\r\n\tmore\r\nB: 2\r\n\r\n",
        ),
        ("header", b"A: 1\r\njunk\r\n\r\nbody", b"A: 1\r\nX-Invalid-Header: junk\r\n\r\nbody"),
        ("header", b"A: 1\r\nB : 2\r\nC: 3\r\n\r\n", b"A: 1\r\nB: 2\r\nC: 3\r\n\r\n"),
        (
            "header",  # addresses that lost their indentation
            b"To: a,\r\nb,\r\nc\r\nSubject: x\r\n\r\n",
            b"To: a,\r\nX-Invalid-Header: b,\r\nX-Invalid-Header: c\r\nSubject: x\r\n\r\n",
        ),
        ("header", b"A: 1\r\nHello Bob,\r\nthe text\r\n\r\nx", b"A: 1\r\n\r\nHello Bob,\r\nthe text\r\n\r\nx"),
        ("header", b"To \t : a\r\n__\r\nSubject : x\r\n", b"To: a\r\nX-Invalid-Header: __\r\nSubject: x\r\n\r\n"),
        ("header", b"A\r\nB\r\nC : d\r\n", b"X-Invalid-Header: none\r\n\r\nA\r\nB\r\nC : d\r\n"),
        ("header", b"A: 1\r\ntext", b"A: 1\r\n\r\ntext"),
        ("header", b"A: 1\r\n" + b"t" * 5000 + b"\r\nB: 2\r\n", b"A: 1\r\n\r\n" + b"t" * 5000 + b"\r\nB: 2\r\n"),
        ("header", b"A: 1\r\n" + b"t" * 5000, b"A: 1\r\n\r\n" + b"t" * 5000),
        ("header", b"A: " + b"t" * 5000, b"A: " + b"t" * 5000 + b"\r\n\r\n"),
        (
            "header",  # the name would make the line too long
            b"A: 1\r\n" + b"t" * 998 + b"\r\n\r\n",
            b"A: 1\r\nX-Invalid-Header:\r\n " + b"t" * 997 + b"\r\n t\r\n\r\n",
        ),
        # 8-bit bytes in it
        (
            "8bit",
            "Subject: Grüße\r\n\r\nGrüße".encode(),
            b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nGr\xc3\xbc\xc3\x9fe",
        ),
        ("8bit", b"Subject: Gr\xfc\xdfe\r\n\r\n", b"Subject: =?iso-8859-1?q?Gr=FC=DFe?=\r\n\r\n"),
        (
            "8bit",
            'To: "Jörg Müller" <j@a>, b@c\r\n\r\n'.encode(),
            b'To: "=?utf-8?q?J=C3=B6rg_M=C3=BCller?=" <j@a>, b@c\r\n\r\n',
        ),
        ("8bit", b"Subject: plain\r\n", b"Subject: plain\r\n"),
    ],
)
def test_rung(code: str, content: bytes, expected: bytes) -> None:
    assert rung(code).apply(content) == expected


@pytest.mark.parametrize(
    "subject",
    ["Grüße an alle", "eins zwei drei für vier fünf sechs sieben", "日本語" * 40, "ä " * 100 + "ä", "x" + " ü" * 3],
)
def test_encoded_subject_reads_the_same(subject: str) -> None:
    content = rung("8bit").apply(f"Subject: {subject}\r\n\r\n".encode())
    assert oddities(content) == set()
    assert message_from_bytes(content, policy=policy.default)["Subject"] == subject


def test_encoded_words_of_a_folded_line_keep_their_space() -> None:
    content = rung("8bit").apply("Subject: größer\r\n übrig\r\n\r\n".encode())
    assert message_from_bytes(content, policy=policy.default)["Subject"] == "größer übrig"


ODD = (
    b"From: x@y\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= an\r\n alle\r\n"
    b"Date: Fri, 13 Feb 2009 23:31:30 +0100\r\n\r\na\0b\nc"
)


def test_wrapped() -> None:
    """The bytes of a wrapped message stand in journals by their code: they must never change."""
    expected = (
        b"Date: Fri, 13 Feb 2009 23:31:30 +0100\r\n"
        b"From: Mail migration <migration@migration.invalid>\r\n"
        b"Subject: =?utf-8?b?R3LDvMOfZSBhbiBhbGxl?=\r\n"
        b"MIME-Version: 1.0\r\n"
        b"Content-Type: message/rfc822\r\n"
        b"Content-Disposition: attachment; filename=original.eml\r\n"
        b"Content-Transfer-Encoding: "
    )
    assert rung("wrap").apply(ODD) == expected + b"8bit\r\n\r\n" + ODD
    wrapped = rung("wrap64").apply(ODD)
    assert wrapped.startswith(expected + b"base64\r\n\r\n")
    inner = message_from_bytes(wrapped).get_payload(0)
    assert isinstance(inner, Message)
    assert inner.get_payload(decode=True) is not None  # parsers take it


@pytest.mark.parametrize(
    ("header", "subject"),
    [
        (b"", "(a message without a subject)"),
        (b"Subject: \r\n", "(a message without a subject)"),
        (b"X: y\r\nSUBJECT : plain\r\n", "plain"),
        (b"Subject: a\x07b\0c\r\n", "a b c"),
        ("Subject: Grüße\r\n".encode(), "Grüße"),
        ("Subject: Grüße\r\n".encode("latin-1"), "Grüße"),
        (b"Subject: =?no-such-charset?q?x?=\r\n", "=?no-such-charset?q?x?="),
        (b"Subject: =?utf-8?b?x?=\r\n", "=?utf-8?b?x?="),
        (b"Subject: =?utf-8?q?a=0D=0AEvil:_x?=\r\n", "a Evil: x"),
        (b"Subject: " + b"word " * 50 + b"\r\n", "word " * 19 + "word..."),
        (b"Subject:\nfolded not\r\n", "(a message without a subject)"),
    ],
)
def test_subject_of_a_wrapped_message(header: bytes, subject: str) -> None:
    wrapped = rung("wrap64").apply(header + b"\r\nbody")
    assert oddities(wrapped) == set()
    text = wrapped.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    message = message_from_bytes(text, policy=policy.default)
    assert message["Subject"] == subject
    assert "Evil" not in message


def test_wrapped_without_a_date() -> None:
    assert rung("wrap").apply(b"").startswith(b"Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n")


@pytest.mark.parametrize("code", ["ends+nul+header+long+8bit", "wrap", "wrap64"])
@pytest.mark.parametrize("unit", [b"x", b"\r", b"\n", b"X-Y: z\r\n", b"junk\r\n", "ü".encode(), b"\0", b" "])
def test_little_is_held_back(code: str, unit: bytes) -> None:
    """Whatever a message is made of, nearly all of it has been given out when its end comes."""
    transformer = rung(code).transformer()
    piece = unit * (16384 // len(unit))
    for _ in range(32):
        transformer.feed(piece)
    assert len(transformer.finish()) < 8192
