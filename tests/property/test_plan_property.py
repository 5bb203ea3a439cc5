"""A plan loses no mailbox, gives no name twice, and depends on nothing but the names."""

from __future__ import annotations

import random
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from migrator.plan import Naming, PlanOptions, plan_mailboxes, show
from wire.imap.names import encode_mailbox
from wire.imap.results import Listed

_PART = st.text(st.sampled_from("aAbB._~#\\ &/*%\"'äÄ日é\u0301-"), min_size=1, max_size=6)
_SEPARATOR = st.sampled_from([b"/", b".", b"\\"])
_NAMING = st.builds(Naming, st.one_of(_SEPARATOR, st.none()), st.sampled_from([b"", b"INBOX."]))


@st.composite
def _mailboxes(draw: st.DrawFn) -> tuple[Naming, list[Listed]]:
    separator = draw(_SEPARATOR)
    paths = draw(st.lists(st.lists(_PART, min_size=1, max_size=3), max_size=12))
    prefix = b"INBOX" + separator if draw(st.booleans()) else b""
    names = {prefix + separator.join(encode_mailbox(part) for part in path) for path in paths}
    names.add(draw(st.sampled_from([b"INBOX", b"inbox"])))
    return Naming(separator, prefix), [Listed(name, separator, frozenset()) for name in sorted(names)]


def _fold(name: bytes) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", show(name)).casefold())


@given(_mailboxes(), _NAMING, st.integers(), st.lists(_PART, max_size=4))
def test_every_mailbox_gets_a_place_of_its_own(
    mailboxes: tuple[Naming, list[Listed]], target: Naming, seed: int, existing: list[str]
) -> None:
    source, listed = mailboxes
    there = [encode_mailbox(name) for name in existing]
    plan = plan_mailboxes(listed, source, target, PlanOptions(), existing=there)
    assert [pair.source for pair in plan.pairs if pair.source.upper() == b"INBOX"] == [plan.pairs[0].source]
    assert {pair.source for pair in plan.pairs} | {name.encode() for name, _ in plan.skipped} >= {
        entry.name for entry in listed
    }
    assert len({_fold(pair.target) for pair in plan.pairs}) == len(plan.pairs)
    assert plan.pairs[0].target == b"INBOX"

    shuffled = list(listed)
    random.Random(seed).shuffle(shuffled)
    assert plan_mailboxes(shuffled, source, target, PlanOptions(), existing=there) == plan


@given(_mailboxes(), _NAMING)
def test_a_second_run_goes_to_the_same_places(mailboxes: tuple[Naming, list[Listed]], target: Naming) -> None:
    source, listed = mailboxes
    first = {pair.source: pair.target for pair in plan_mailboxes(listed, source, target, PlanOptions()).pairs}
    made = list(first.values())
    half = {name: place for name, place in first.items() if len(name) % 2}
    again = plan_mailboxes(listed, source, target, PlanOptions(), existing=made, known=first)
    assert {pair.source: pair.target for pair in again.pairs} == first
    some = plan_mailboxes(listed, source, target, PlanOptions(), existing=list(half.values()), known=half)
    assert {name: place for name, place in ((pair.source, pair.target) for pair in some.pairs) if name in half} == half
    assert len({_fold(pair.target) for pair in some.pairs}) == len(some.pairs)


@given(_mailboxes())
def test_a_name_in_the_targets_form_stays_as_it_is(mailboxes: tuple[Naming, list[Listed]]) -> None:
    source, listed = mailboxes
    target = Naming(b"/", certain=True)
    once = plan_mailboxes(listed, source, target, PlanOptions())
    there = [Listed(pair.target, b"/", frozenset()) for pair in once.pairs]
    again = plan_mailboxes(there, target, target, PlanOptions())
    assert all(pair.source == pair.target for pair in again.pairs)
