"""What is under way: never more than may be in doubt after a crash, and always something."""

from __future__ import annotations

import pytest

from migrator import in_flight
from migrator.in_flight import InFlight
from migrator.outgoing import Outgoing
from wire.imap.append import Letter


def letters(*sizes: int, first: int = 1) -> list[Outgoing]:
    return [Outgoing(first + at, Letter(b"x" * size), frozenset()) for at, size in enumerate(sizes)]


def test_room_for_so_many_messages_and_octets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_flight, "MOST_MESSAGES", 3)
    monkeypatch.setattr(in_flight, "MOST_OCTETS", 100)
    flight = InFlight()
    assert flight.has_room(letters(1000)), "nothing else is under way, so that even this one comes to its turn"
    flight.add(letters(40, 40))
    assert (len(flight), flight.octets, flight.uids) == (1, 80, [1, 2])
    assert flight.has_room(letters(20))
    assert not flight.has_room(letters(21))
    assert not flight.has_room(letters(1, 1))
    flight.add(letters(20, first=3))
    assert not flight.has_room(letters(1))
    assert [message.uid for message in flight.take().messages] == [1, 2]
    assert (len(flight), flight.octets, flight.uids) == (1, 20, [3])
    flight.take()
    assert (bool(flight), flight.octets) == (False, 0)
