"""The token bucket, and what a stream does with it, on a clock that only the test moves."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.endpoint import Endpoint
from wire.outcome import Temporary
from wire.rate import RateLimit
from wire.stream import Stream, _Protocol


class Clock:
    """Seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Wire(asyncio.Transport):
    """A transport that goes nowhere and remembers whether it is to read."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = True

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def abort(self) -> None: ...


def test_what_is_overdrawn_is_waited_for() -> None:
    clock = Clock()
    limit = RateLimit(100, clock=clock)
    assert limit.take(100) == 0.0  # a second's worth after a rest
    assert limit.take(50) == 0.5
    clock.now += 0.25
    assert limit.take(0) == 0.25
    clock.now += 0.25
    assert limit.take(0) == 0.0
    assert limit.take(1) == 0.01
    clock.now += 3600
    assert limit.take(200) == 1.0  # a long rest saves up no more than that


def test_no_rate() -> None:
    with pytest.raises(ValueError, match="above 0"):
        RateLimit(0)


@given(st.integers(1, 10**7), st.lists(st.integers(0, 1 << 18), min_size=1))
def test_mean_rate(rate: int, counts: list[int]) -> None:
    """Who waits as told never takes more than a second's worth above the rate."""
    clock = Clock()
    limit = RateLimit(rate, clock=clock)
    for number, count in enumerate(counts):
        clock.now += limit.take(count)
        assert sum(counts[: number + 1]) <= rate * (clock.now - 1000.0 + 1.0) * 1.000001 + 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The running loop's own, too: its timers fire when the test has moved it."""
    clock = Clock()
    monkeypatch.setattr(asyncio.SelectorEventLoop, "time", lambda _loop: clock.now, raising=False)
    return clock


def limited(limit: RateLimit) -> tuple[Stream, _Protocol, Wire]:
    """A stream over nothing."""
    protocol, transport = _Protocol(), Wire()
    protocol.connection_made(transport)
    stream = Stream(Endpoint("imap", "test", 143), protocol, transport)
    stream.keep_to(limit)
    return stream, protocol, transport


async def turn(clock: Clock, seconds: float = 0.0) -> None:
    """Time goes by, and what is due happens."""
    clock.now += seconds
    for _ in range(4):
        await asyncio.sleep(0)


async def test_reading_pauses_until_the_rate_is_kept(clock: Clock) -> None:
    stream, protocol, transport = limited(RateLimit(100, clock=clock))
    protocol.data_received(b"a" * 100)
    assert transport.reading
    protocol.data_received(b"b" * 300)
    assert not transport.reading
    assert await stream.read_exact(400) == b"a" * 100 + b"b" * 300  # what has come can be had
    await turn(clock, 2.9)
    assert not transport.reading
    await turn(clock, 0.2)
    assert transport.reading


async def test_connections_share_a_limit(clock: Clock) -> None:
    """One waits on for what another has taken meanwhile."""
    limit = RateLimit(100, clock=clock)
    _, one, first = limited(limit)
    _, other, second = limited(limit)
    one.data_received(b"a" * 300)  # made up for at 2 s
    await turn(clock, 1.0)
    other.data_received(b"b" * 100)  # and now at 3 s
    await turn(clock, 1.0)
    assert (first.reading, second.reading) == (False, False)
    await turn(clock, 1.1)
    assert (first.reading, second.reading) == (True, True)


async def test_no_time_out_while_it_is_we_who_wait(clock: Clock) -> None:
    """The deadline is for a silent server: our own pause does not count, silence after it does."""
    limit = RateLimit(100, clock=clock)
    stream, protocol, transport = limited(limit)
    protocol.data_received(b"a" * 6100)  # a pause of 60 s
    await stream.read_exact(6100)
    stream.deadline = clock.now + 20
    reading = asyncio.ensure_future(stream.read_line())
    await turn(clock)
    await turn(clock, 30)
    limit.take(1000)  # by another connection: 10 s more
    await turn(clock, 30)
    await turn(clock, 9)
    assert not transport.reading
    assert not reading.done()
    await turn(clock, 2)
    assert transport.reading
    assert not reading.done()
    protocol.data_received(b"here\n")
    assert await reading == b"here"
    stream.deadline = clock.now + 20
    reading = asyncio.ensure_future(stream.read_line())
    await turn(clock)
    await turn(clock, 19)
    assert not reading.done()
    await turn(clock, 2)
    with pytest.raises(Temporary, match="no answer in time"):
        await reading


async def test_a_lost_connection_leaves_no_timer(clock: Clock) -> None:
    stream, protocol, transport = limited(RateLimit(100, clock=clock))
    protocol.data_received(b"a" * 300)
    protocol.connection_lost(None)
    await turn(clock, 10)
    assert not transport.reading  # never touched again
    assert await stream.read_exact(300) == b"a" * 300
    with pytest.raises(Temporary, match="closed by the server"):
        await stream.read_exact(1)
