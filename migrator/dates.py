"""INTERNALDATE as IMAP writes it, and a date for a message that comes without one. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Final

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_INTERNAL: Final = re.compile(
    rb" ?(\d{1,2})-(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)",
    re.IGNORECASE,
)
_EARLIEST: Final = datetime(1970, 1, 2, tzinfo=UTC)  # a server's clock at 0, or a message without a date


def parse_internal_date(raw: bytes | None) -> datetime | None:
    """The moment, or None for a date that no calendar has. A leap second counts as the second before."""
    found = _INTERNAL.fullmatch(raw) if raw else None
    if found is None:
        return None
    day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = found.groups()
    offset = timedelta(hours=int(zone_hours), minutes=int(zone_minutes))
    if int(zone_minutes) > 59 or offset >= timedelta(hours=24):
        return None
    try:
        return datetime(
            int(year),
            _MONTHS.index(month.decode().title()) + 1,
            int(day),
            int(hour),
            int(minute),
            min(int(second), 59) if second == b"60" else int(second),
            tzinfo=timezone(-offset if sign == b"-" else offset),
        )
    except ValueError:
        return None


def render_internal_date(when: datetime) -> bytes:
    """`when` as APPEND takes it (RFC 3501 date-time without its quotes)."""
    offset = when.strftime("%z")[:5] or "+0000"
    return f"{when.day:2d}-{_MONTHS[when.month - 1]}-{when.year:04d} {when:%H:%M:%S} {offset}".encode()


def same_moment(one: bytes | None, other: bytes | None) -> bool:
    """Whether two INTERNALDATEs mean the same second, in whatever zones."""
    first, second = moment(one), moment(other)
    return first is not None and first == second


def moment(raw: bytes | None) -> int | None:
    """Seconds since the epoch, None for an impossible date."""
    when = parse_internal_date(raw)
    try:
        return int(when.timestamp()) if when is not None else None
    except (ValueError, OverflowError):  # year 1 in a zone east of Greenwich
        return None


def header_date(header: bytes, *, now: datetime) -> datetime | None:
    """When a message arrived, by its topmost Received line, else its Date; None if neither can be true.

    `header` has LF or CRLF line ends. A date in the future, by more than a day of clock error, is not believed.
    """
    text = re.sub(rb"\r?\n[ \t]+", b" ", header).decode("latin-1")
    received = date = None
    for line in text.splitlines():
        name, _, value = line.partition(":")
        name = name.strip().lower()
        if name == "received" and received is None and ";" in value:
            received = value.rpartition(";")[2]
        elif name == "date" and date is None:
            date = value
    for stamp in (received, date):
        when = _parse_header_date(stamp) if stamp else None
        if when is not None and _EARLIEST <= when <= now + timedelta(days=1):
            return when
    return None


def _parse_header_date(value: str) -> datetime | None:
    try:
        when = parsedate_to_datetime(value.strip()[:200])
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        when.astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return when.replace(microsecond=0)
