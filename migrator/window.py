"""The hours in which a copy may work (--window): local time, over midnight too. Pure: the time is given."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from wire.outcome import Temporary

_FORM: Final = re.compile(r"(\d{1,2}):(\d\d)-(\d{1,2}):(\d\d)")


@dataclass(frozen=True, slots=True)
class Window:
    """Opens and closes at these minutes after midnight, local time; over midnight where it closes first."""

    opens: int
    closes: int

    @classmethod
    def parse(cls, text: str) -> Window:
        """`22:00-06:00`. ValueError with a sentence otherwise."""
        found = _FORM.fullmatch(text)
        hours = [(int(found[at]), int(found[at + 1])) for at in (1, 3)] if found else []
        if not hours or any(hour > 24 or minute > 59 or (hour == 24 and minute) for hour, minute in hours):
            raise ValueError('a window is two times of the day such as "22:00-06:00"')
        opens, closes = (hour * 60 + minute for hour, minute in hours)
        if opens % _DAY == closes % _DAY:
            raise ValueError("a window opens at one time and closes at another")
        return cls(opens % _DAY, closes % _DAY)

    def __str__(self) -> str:
        return "-".join(f"{minutes // 60:02}:{minutes % 60:02}" for minutes in (self.opens, self.closes))

    def is_open(self, now: float) -> bool:
        """Whether it is open at `now`, seconds since the epoch."""
        local = local_time(now)
        minute = local.hour * 60 + local.minute
        if self.opens < self.closes:
            return self.opens <= minute < self.closes
        return minute >= self.opens or minute < self.closes

    def opens_at(self, now: float) -> float:
        """When it opens next: `now` itself where it is open."""
        if self.is_open(now):
            return now
        local = local_time(now)
        opening = local.replace(hour=self.opens // 60, minute=self.opens % 60, second=0, microsecond=0)
        if opening <= local:
            opening += timedelta(days=1)
        # An hour that a change of the clocks skips is passed over by timestamp(); never in the past.
        return max(opening.timestamp(), now + 1.0)


class WindowClosed(Temporary):
    """The window has closed: the copy stands between two batches and goes on when it opens."""

    def __init__(self, window: Window, pause: float) -> None:
        super().__init__(f"outside the window {window}", code="window")
        self.pause = pause  # seconds until it opens


def local_time(now: float) -> datetime:
    """What a clock on the wall shows, without a zone: a day later it shows the same, whatever the hours between."""
    return datetime.fromtimestamp(now, UTC).astimezone().replace(tzinfo=None)


_DAY: Final = 24 * 60
