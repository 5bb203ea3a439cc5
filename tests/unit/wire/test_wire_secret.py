"""A password shows nowhere but where it is revealed."""

from __future__ import annotations

import copy
import pickle
import traceback

import pytest

from wire.secret import Secret


def test_no_way_of_writing_shows_it() -> None:
    """repr, str, format, f-strings, containers."""
    secret = Secret(b"hunter2")
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r:>20}", f"{secret:>9}", str([secret])]
    assert not any("hunter2" in text for text in shown)
    assert secret.reveal() == b"hunter2"


@pytest.mark.parametrize("leave", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_is_never_copied_out(leave: object) -> None:
    """Not into a pickle, and so not into another process."""
    with pytest.raises(TypeError):
        leave(Secret(b"hunter2"))  # type: ignore[operator]  # each takes one argument


def test_it_is_not_in_a_traceback() -> None:
    """Even one that prints locals."""
    secret = Secret(b"hunter2")
    try:
        raise ValueError(secret)
    except ValueError as error:
        text = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "Secret(***)" in text
    assert "hunter2" not in text.replace('Secret(b"hunter2")', "")


def test_equality_and_digest() -> None:
    """Equal bytes are equal, under a key; nothing hashes it by accident."""
    assert Secret(b"a") == Secret(b"a")
    assert Secret(b"a") != Secret(b"b")
    assert Secret(b"a") != b"a"
    assert Secret(b"a").digest(b"k") == Secret(b"a").digest(b"k")
    assert Secret(b"a").digest(b"k") != Secret(b"a").digest(b"l")
    with pytest.raises(TypeError):
        hash(Secret(b"a"))


def test_length_and_emptiness() -> None:
    """An empty password is seen without revealing any."""
    assert not Secret(b"")
    assert len(Secret(b"a\0b")) == 3
