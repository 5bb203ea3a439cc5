"""Verdicts, reasons and exceptions: one clean line, and no secrets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.outcome import (
    Answer,
    MailboxUnavailable,
    MessageRefused,
    Permanent,
    ProtocolTrouble,
    Refused,
    Scope,
    SetupTrouble,
    Temporary,
    Trouble,
    Verdict,
    clean_reason,
)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("plain", "plain"),
        ("  two\r\nlines\tand\n\nmore ", "two lines and more"),
        (b"bytes \xff\x00", "bytes \\xff\\x00"),
        ("bell\x07 escape\x1b[31m", "bell\\x07 escape\\x1b[31m"),
        ("ümlaut 😀", "\\xfcmlaut \\U0001f600"),
        ("half \udc80", "half \\udc80"),
        ("delete\x7f", "delete\\x7f"),
        ("", ""),
    ],
)
def test_outside_text_becomes_one_printable_line(text: str | bytes, clean: str) -> None:
    """No line end, no control and no foreign byte goes on."""
    assert clean_reason(text) == clean


@given(st.text() | st.binary(), st.integers(3, 400))
def test_any_text(text: str | bytes, limit: int) -> None:
    """Whatever comes: printable ASCII, at most the limit, and cleaning twice changes nothing."""
    line = clean_reason(text, limit)
    assert all(" " <= char <= "~" for char in line)
    assert len(line) <= limit
    assert clean_reason(line, limit) == line


def test_an_answer_cleans_its_reason() -> None:
    """However it was made."""
    assert Answer(Verdict.NO, "a\r\nb" * 400).reason.startswith("a ba ba b")
    assert len(Answer(Verdict.NO, "x" * 4000).reason) == 300


@pytest.mark.parametrize(
    ("kind", "base", "scope"),
    [
        (Temporary, Trouble, Scope.SERVER),
        (ProtocolTrouble, Temporary, Scope.SERVER),
        (Permanent, Trouble, Scope.SERVER),
        (SetupTrouble, Permanent, Scope.SETUP),
        (MessageRefused, Permanent, Scope.USER),
        (MailboxUnavailable, Permanent, Scope.USER),
        (Refused, Permanent, Scope.USER),
    ],
)
def test_exceptions_say_whom_they_are_about(kind: type[Trouble], base: type[Trouble], scope: Scope) -> None:
    """Text and code stay two fields; the scope can be told."""
    trouble = kind("text\n", code="CO\0DE")
    assert isinstance(trouble, base)
    assert (trouble.text, trouble.code, trouble.scope) == ("text", "CO\\x00DE", scope)
    assert str(trouble) == "text (CO\\x00DE)"
    assert kind("text", scope=Scope.USER).scope is Scope.USER
    assert kind.scope is scope
