"""Places are shared between old servers, lanes take turns, and what waits is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauth.lanes import Lane, Lanes

SLOW, QUICK = Lane("slow", 10), Lane("quick", 10)


def test_a_lane_never_holds_more_than_half_the_places() -> None:
    lanes: Lanes[str] = Lanes(100, 1000)
    begun = [lanes.begin(f"s{n}", SLOW, 20) for n in range(15)]
    assert begun == [True] * 10 + [False] * 5
    assert lanes.begin("q", QUICK, 20)


@pytest.mark.parametrize(("dead", "places"), [(1, 200), (2, 200), (3, 200), (5, 200), (3, 20), (2, 5)])
def test_dead_servers_together_leave_places_for_others(dead: int, places: int) -> None:
    """However many connections they allow, and whatever order their requests came in."""
    for turns in (True, False):
        lanes: Lanes[tuple[int, int]] = Lanes(20_000, 1 << 20)
        lost = [Lane(f"dead {n}", 100) for n in range(dead)]
        numbers = [(n, m) for m in range(1000) for n in range(dead)]
        for n, m in numbers if turns else sorted(numbers):
            assert lanes.begin((n, m), lost[n], places) or lanes.wait((n, m), lost[n], 10)
        assert lanes.begin((99, 0), QUICK, places)


def test_those_who_wait_for_dead_servers_leave_room_to_wait() -> None:
    lanes: Lanes[tuple[int, int]] = Lanes(1000, 10_000)
    lost = [Lane(f"dead {n}", 100) for n in range(3)]
    for n, lane in enumerate(lost):
        lanes.begin((n, 0), lane, 1)
        while lanes.wait((n, len(lanes._waiting.get(lane.key, ())) + 1), lane, 10):
            pass
    assert lanes.wait((99, 0), QUICK, 10)


def test_one_place_serves_every_lane_in_turn() -> None:
    lanes: Lanes[str] = Lanes(100, 1000)
    assert lanes.begin("s0", SLOW, 1)
    for item, lane in (("s1", SLOW), ("s2", SLOW), ("q1", QUICK), ("q2", QUICK)):
        assert not lanes.begin(item, lane, 1)
        assert lanes.wait(item, lane, 1)
    order = []
    last, lane = "s0", SLOW
    while last:
        lanes.leave(last, lane)
        last = lanes.next(1) or ""
        lane = SLOW if last.startswith("s") else QUICK
        order.append(last)
    assert order == ["s1", "q1", "s2", "q2", ""]
    assert not lanes


def test_nobody_overtakes_within_a_lane() -> None:
    lanes: Lanes[str] = Lanes(100, 1000)
    assert lanes.begin("a", SLOW, 2)
    assert not lanes.begin("b", SLOW, 2)
    assert lanes.wait("b", SLOW, 1)
    lanes.leave("a", SLOW)
    assert not lanes.begin("c", SLOW, 2)
    assert lanes.next(2) == "b"


def test_who_gave_up_leaves_room() -> None:
    lanes: Lanes[int] = Lanes(4, 1000)
    assert lanes.begin(0, SLOW, 1)
    assert lanes.wait(1, SLOW, 1)
    assert lanes.wait(2, SLOW, 1)
    assert not lanes.wait(3, SLOW, 1)  # no more than is left free
    lanes.leave(1, SLOW)
    assert lanes.wait(3, SLOW, 1)
    assert not lanes.wait(4, QUICK, 600)  # nor of the bytes
    assert lanes.wait(4, QUICK, 499)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=60), st.integers(1, 8))
def test_every_item_begins_once_or_is_turned_away(steps: list[tuple[int, int]], places: int) -> None:
    lanes: Lanes[int] = Lanes(20, 1000)
    kinds = [Lane(n, n) for n in range(3)]
    lane_of: dict[int, Lane] = {}
    working: list[int] = []
    waiting: list[int] = []
    begun: list[int] = []

    def start(item: int) -> None:
        working.append(item)
        begun.append(item)

    for item, (kind, done) in enumerate(steps):
        lane = lane_of[item] = kinds[kind]
        if lanes.begin(item, lane, places):
            start(item)
        elif lanes.wait(item, lane, 1):
            waiting.append(item)
        for _ in range(min(done, len(working))):
            ended = working.pop(0)
            lanes.leave(ended, lane_of[ended])
            while (following := lanes.next(places)) is not None:
                waiting.remove(following)
                start(following)
        assert len(working) <= places
        for one in kinds:
            assert sum(lane_of[n] is one for n in working) <= one.share(places)
    while working:
        ended = working.pop()
        lanes.leave(ended, lane_of[ended])
        while (following := lanes.next(places)) is not None:
            waiting.remove(following)
            start(following)
    assert waiting == []
    assert len(begun) == len(set(begun))
    assert not lanes
