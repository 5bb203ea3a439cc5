"""Work that equal requests share."""

from __future__ import annotations

import asyncio

import pytest

from extauth.flight import Flight, Flights


def soon(seconds: float) -> float:
    """A deadline."""
    return asyncio.get_running_loop().time() + seconds


async def test_one_works_and_all_get_the_result() -> None:
    """Once the work is over, the next starts anew."""
    flights: Flights[int] = Flights(lambda error: None)
    calls = 0
    go = asyncio.Event()

    async def work(_flight: Flight[int]) -> int:
        nonlocal calls
        calls += 1
        await go.wait()
        return calls

    first = [asyncio.ensure_future(flights.join("key", work, soon(10))) for _ in range(5)]
    other = asyncio.ensure_future(flights.join("other", work, soon(10)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(flights) == 2
    go.set()
    results = await asyncio.gather(*first)
    assert len(set(results)) == 1
    await other
    assert calls == 2
    assert len(flights) == 0
    assert await flights.join("key", work, soon(10)) == 3


async def test_a_waiter_that_gives_up_cancels_nothing() -> None:
    """By deadline or by being cancelled; `early` is what it gets when that is set."""
    flights: Flights[str] = Flights(lambda error: None)
    go = asyncio.Event()
    ended: list[str] = []

    async def work(flight: Flight[str]) -> str:
        await asyncio.sleep(0)
        flight.early = "early"
        await go.wait()
        ended.append("work")
        return "whole"

    cancelled = asyncio.ensure_future(flights.join("key", work, soon(10)))
    await asyncio.sleep(0)
    assert await flights.join("key", work, soon(-1)) is None
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert await flights.join("key", work, soon(0)) == "early"
    last = asyncio.ensure_future(flights.join("key", work, soon(10)))
    await asyncio.sleep(0)
    go.set()
    assert await last == "whole"
    assert ended == ["work"]


async def test_what_the_work_raises_every_waiter_gets() -> None:
    """And where nobody waits any more, it is still heard."""
    unheard: list[Exception] = []
    flights: Flights[int] = Flights(unheard.append)
    go = asyncio.Event()

    async def work(_flight: Flight[int]) -> int:
        await go.wait()
        raise RuntimeError("bug")

    waiters = [asyncio.ensure_future(flights.join("key", work, soon(10))) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    go.set()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert [type(result) for result in results] == [RuntimeError] * 3
    assert unheard == []
    go.clear()
    assert await flights.join("key", work, soon(-1)) is None
    go.set()
    await flights.finish(10)
    assert [str(error) for error in unheard] == ["bug"]


async def test_finish_waits_and_then_cancels() -> None:
    """Those who wait get what there is."""
    flights: Flights[int] = Flights(lambda error: None)

    async def work(flight: Flight[int]) -> int:
        flight.early = 7
        await asyncio.Event().wait()
        return 0

    waiter = asyncio.ensure_future(flights.join("key", work, soon(10)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await flights.finish(0)
    assert await waiter == 7
    await flights.finish(0)
    assert len(flights) == 0
