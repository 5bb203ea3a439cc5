"""So many in so long, whatever the order of taking, giving back and waiting."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extauth.allowance import Allowance
from migrator.config_values import parse_quota
from migrator.settings import Quota


def test_it_empties_and_fills_up_again() -> None:
    allowance = Allowance(Quota(3, 30.0), 0.0)
    assert [allowance.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert not allowance.take(9.0)
    assert allowance.take(10.0)
    assert not allowance.take(10.0)
    assert [allowance.take(1000.0) for _ in range(4)] == [True, True, True, False]


def test_what_was_used_before_counts() -> None:
    assert not Allowance(Quota(3, 30.0), 0.0, used=7).take(0.0)


def test_a_clock_that_goes_back_gives_nothing() -> None:
    allowance = Allowance(Quota(1, 10.0), 100.0)
    assert allowance.take(100.0)
    assert not allowance.take(50.0)


def test_none_is_no_limit() -> None:
    allowance = Allowance(Quota(0, 1.0), 0.0)
    assert all(allowance.take(0.0) for _ in range(1000))


@settings(max_examples=60)
@given(
    st.integers(1, 20),
    st.floats(1, 1000),
    st.lists(st.tuples(st.sampled_from(["take", "give"]), st.floats(0, 100)), max_size=60),
)
def test_never_more_than_is_allowed(count: int, seconds: float, steps: list[tuple[str, float]]) -> None:
    """In any stretch: what it holds, and what came back or was given."""
    allowance, now, taken, given_back = Allowance(Quota(count, seconds), 0.0), 0.0, 0, 0
    for step, pause in steps:
        now += pause
        if step == "take":
            taken += allowance.take(now)
        elif taken > given_back:
            allowance.give(now)
            given_back += 1
        assert 0 <= allowance.left(now) <= count
        assert taken - given_back <= count + now * count / seconds + 1e-6


@pytest.mark.parametrize(
    ("text", "quota"),
    [("1000/1h", Quota(1000, 3600.0)), ("5/10s", Quota(5, 10.0)), ("0", Quota(0, 1.0)), (0, Quota(0, 1.0))],
)
def test_limits_in_the_configuration(text: object, quota: Quota) -> None:
    assert parse_quota(text) == quota


@pytest.mark.parametrize(
    "text", ["", "5", "5/", "/1h", "0/1h", "5/0s", "-5/1h", "5/1h/2", "5 / 1h", 5, True, None, "1e3/1h"]
)
def test_other_words_are_no_limits(text: object) -> None:
    with pytest.raises(ValueError, match="1000/1h"):
        parse_quota(text)
