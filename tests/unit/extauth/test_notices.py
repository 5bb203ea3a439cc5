"""What is said aloud, and how often."""

from __future__ import annotations

from extauth.notices import Notices


class Ear:
    """Takes what is said and what is logged."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.logged: list[str] = []
        self.now = 0.0

    def info(self, text: str, **_details: object) -> None:
        self.logged.append(text)

    warning = info


def test_a_trouble_is_said_once_in_a_while_and_its_end_once() -> None:
    """The log has every time."""
    ear = Ear()
    notices = Notices(ear.said.append, ear, lambda: ear.now)
    notices.over("server", "never said")
    for ear.now in (0.0, 1.0, 599.0):
        notices.alarm("server", "down")
    assert ear.said == ["down"]
    assert ear.logged == ["down"] * 3
    ear.now = 601.0
    notices.alarm("server", "down")
    notices.alarm("other", "too")
    assert notices.troubled
    notices.over("server", "up")
    notices.over("server", "up")
    notices.over("other", "up too")
    assert ear.said == ["down", "down", "too", "up", "up too"]
    assert not notices.troubled
    notices.announce("changed")
    assert ear.said[-1] == "changed"


def test_memory_of_troubles_is_bounded() -> None:
    """However many there are."""
    ear = Ear()
    notices = Notices(ear.said.append, ear, lambda: ear.now)
    for number in range(5000):
        notices.alarm(f"key {number}", "x")
    assert len(notices._said) <= 1000
