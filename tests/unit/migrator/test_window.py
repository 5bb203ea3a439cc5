"""--window: when it is open, and when it opens next."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from migrator.window import Window


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(hour: int, minute: int = 0, *, day: int = 15, month: int = 7) -> float:
    return datetime(2026, month, day, hour, minute).astimezone().timestamp()


@pytest.mark.parametrize(
    ("text", "hour", "minute", "is_open"),
    [
        ("22:00-06:00", 21, 59, False),
        ("22:00-06:00", 22, 0, True),
        ("22:00-06:00", 0, 0, True),
        ("22:00-06:00", 5, 59, True),
        ("22:00-06:00", 6, 0, False),
        ("9:30-17:00", 9, 29, False),
        ("9:30-17:00", 9, 30, True),
        ("9:30-17:00", 17, 0, False),
        ("18:00-24:00", 23, 59, True),
        ("18:00-24:00", 0, 0, False),
    ],
)
def test_it_is_open_from_the_first_minute_to_before_the_last(text: str, hour: int, minute: int, is_open: bool) -> None:
    assert Window.parse(text).is_open(at(hour, minute)) is is_open


@pytest.mark.parametrize("text", ["", "22-6", "22:00", "25:00-06:00", "22:60-06:00", "24:01-06:00", "6:00-6:00", "x"])
def test_what_is_no_window(text: str) -> None:
    with pytest.raises(ValueError, match="window"):
        Window.parse(text)


def test_it_opens_today_or_tomorrow() -> None:
    night = Window.parse("22:00-06:00")
    assert night.opens_at(at(12)) == at(22)
    assert night.opens_at(at(23)) == at(23)
    assert Window.parse("09:00-10:00").opens_at(at(12)) == at(9, day=16)


def test_it_opens_by_the_clock_on_the_wall_when_the_clocks_change() -> None:
    morning = Window.parse("09:00-10:00")
    assert morning.opens_at(at(12, day=28, month=3)) == at(9, day=29, month=3)
    assert at(9, day=29, month=3) - at(12, day=28, month=3) == 20 * 3600, "an hour is missing in that night"
    skipped = Window.parse("02:30-02:45")  # does not exist in that night
    assert skipped.opens_at(at(12, day=28, month=3)) > at(12, day=28, month=3)


def test_it_is_written_as_it_was_read() -> None:
    assert str(Window.parse("9:05-24:00")) == "09:05-00:00"
