"""The end-to-end run looks for passwords by their traces; here is what a trace finds."""

from __future__ import annotations

import base64
import json

import pytest

from tests.servers.migration import Mover, make_movers, traces


@pytest.mark.parametrize("mover", make_movers(22), ids=lambda mover: mover.address)
def test_traces_show_a_password_in_every_usual_writing(mover: Mover) -> None:
    """Bare, in JSON, in hex, and in base64 at any offset, as AUTHENTICATE PLAIN has it."""
    password = mover.password
    plain = b"\0" + mover.address.encode() + b"\0" + password
    writings = [
        password,
        json.dumps(password.decode("latin-1")).encode(),
        repr(password).encode(),
        password.hex().encode(),
        *(base64.b64encode(text) for text in (password, b"x" + password, b"xy" + password, plain)),
    ]
    for writing in writings:
        assert any(trace in writing for trace in traces(mover.token)), writing


def test_traces_are_of_one_user_only() -> None:
    """No user's trace is found in another user's password."""
    movers = make_movers(50)
    for mover in movers:
        others = b"\n".join(other.password for other in movers if other is not mover)
        assert not any(trace in others for trace in traces(mover.token))
