"""Runs against a plain dictionary, batches against the list they came from."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from migrator.marks import Runs, group

_UIDS = st.integers(1, 60)
_PAIRS = st.lists(st.tuples(_UIDS, st.integers(0, 60)), max_size=80)


@given(_PAIRS)
def test_runs_are_a_dictionary_written_short(pairs: list[tuple[int, int]]) -> None:
    runs, model = Runs(), dict[int, int]()
    for source, target in pairs:
        if model.setdefault(source, target) == target:
            runs.add(source, target)
        assert (len(runs), dict(runs)) == (len(model), model)
    assert [source for source, _ in runs] == sorted(model)
    for uid in range(62):
        assert runs.target_of(uid) == model.get(uid)
        assert (uid in runs) == (uid in model)
    again = Runs.parse(str(runs))
    assert (dict(again), str(again)) == (model, str(runs))
    mergeable = sum(
        1
        for source, target in model.items()
        if source + 1 in model and model[source + 1] == (target + 1 if target else 0)
    )
    assert runs.pieces == len(model) - mergeable, "no two runs stand apart that could be one"


@given(_PAIRS)
def test_the_order_of_adding_does_not_matter(pairs: list[tuple[int, int]]) -> None:
    model = dict(pairs)
    forwards, backwards = Runs(), Runs()
    forwards.add_all(model.items())
    backwards.add_all(reversed(list(model.items())))
    assert str(forwards) == str(backwards)


@given(
    st.lists(_UIDS, unique=True), st.dictionaries(_UIDS, st.integers(0, 300)), st.integers(1, 9), st.integers(1, 500)
)
def test_batches_hold_every_message_once_and_in_order(
    uids: list[int], sizes: dict[int, int], count: int, octets: int
) -> None:
    batches = list(group(uids, sizes, count=count, octets=octets))
    assert [uid for batch in batches for uid in batch] == uids
    for batch in batches:
        assert 0 < len(batch) <= count
        assert len(batch) == 1 or sum(sizes.get(uid, 0) for uid in batch) <= octets
