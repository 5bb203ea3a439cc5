r"""--special-use: \Sent goes to \Sent, whatever the names, and never two into one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.plan import Naming, Plan, PlanOptions, plan_mailboxes, show
from migrator.special_use import USUAL_NAMES, places
from wire.imap.names import encode_mailbox
from wire.imap.results import Listed

SLASH = Naming(b"/", certain=True)


def entry(name: str, *attributes: str) -> Listed:
    return Listed(encode_mailbox(name), b"/", frozenset(attributes))


def plan(
    source: list[Listed],
    target: list[Listed],
    options: PlanOptions | None = None,
    known: dict[bytes, bytes] | None = None,
    naming: Naming = SLASH,
) -> Plan:
    options = options or PlanOptions()
    special = places(target, options.target_prefix or naming.prefix)
    there = [one.name for one in target]
    return plan_mailboxes(source, SLASH, naming, options, existing=there, known=known, special=special)


def mapped(result: Plan) -> dict[str, str]:
    return {pair.source_name: pair.target_name for pair in result.pairs}


GERMAN = [
    entry("INBOX"),
    entry("Gesendet", "\\sent"),
    entry("Gelöscht", "\\trash"),
    entry("Spamverdacht", "\\junk"),
    entry("Entwürfe", "\\drafts"),
    entry("Archiv", "\\archive"),
    entry("Rechnungen"),
]


def test_the_targets_attributes_decide_whatever_the_names() -> None:
    target = [
        entry("INBOX"),
        entry("Sent"),  # a name is not enough where another has the attribute
        entry("Envoyés", "\\sent"),
        entry("Corbeille", "\\trash", "\\hasnochildren"),
        entry("Indésirables", "\\junk"),
        entry("Brouillons", "\\drafts"),
        entry("Archives", "\\archive"),
    ]
    result = plan(GERMAN, target)
    assert mapped(result) == {
        "INBOX": "INBOX",
        "Gesendet": "Envoyés",
        "Gelöscht": "Corbeille",
        "Spamverdacht": "Indésirables",
        "Entwürfe": "Brouillons",
        "Archiv": "Archives",
        "Rechnungen": "Rechnungen",
    }
    notes = {pair.source_name: pair.notes for pair in result.pairs}
    assert notes["Gesendet"] == ("goes to 'Envoyés', the target's mailbox for sent",)
    assert notes["Rechnungen"] == ()


def test_without_the_attribute_a_usual_name_is_taken_and_without_that_the_sources_own() -> None:
    result = plan(GERMAN, [entry("INBOX"), entry("SENT ITEMS"), entry("Deleted Items"), entry("Trash")])
    assert mapped(result) == {
        "INBOX": "INBOX",
        "Gesendet": "SENT ITEMS",
        "Gelöscht": "Trash",
        "Spamverdacht": "Spamverdacht",
        "Entwürfe": "Entwürfe",
        "Archiv": "Archiv",
        "Rechnungen": "Rechnungen",
    }


def test_a_name_at_the_source_is_no_attribute() -> None:
    assert mapped(plan([entry("Sent Items")], [entry("Sent", "\\sent")])) == {"Sent Items": "Sent Items"}


def test_two_never_become_one() -> None:
    source = [entry("Gesendet", "\\sent"), entry("Gesendet alt", "\\sent"), entry("Sent")]
    assert mapped(plan(source, [entry("Sent", "\\sent")])) == {
        "Gesendet": "Sent",
        "Gesendet alt": "Gesendet alt",
        "Sent": "Sent_2",
    }


def test_what_an_earlier_run_decided_stays() -> None:
    target = [entry("Sent", "\\sent"), entry("Gesendet")]
    known = {b"Gesendet": b"Gesendet"}
    assert mapped(plan([entry("Gesendet", "\\sent")], target, known=known)) == {"Gesendet": "Gesendet"}
    other = [entry("Gesendet", "\\sent"), entry("Sent")]
    assert mapped(plan(other, target, known={b"Sent": b"Sent"})) == {"Gesendet": "Gesendet", "Sent": "Sent"}


def test_a_name_that_was_asked_for_comes_first() -> None:
    source = [entry("Gesendet", "\\sent"), entry("Alt")]
    target = [entry("Sent", "\\sent")]
    assert mapped(plan(source, target, PlanOptions(renames={"Gesendet": "Old"})))["Gesendet"] == "Old"
    assert mapped(plan(source, target, PlanOptions(renames={"Alt": "Sent"}))) == {"Gesendet": "Gesendet", "Alt": "Sent"}
    skipped = plan(source, target, PlanOptions(skip=frozenset({"Gesendet"})))
    assert mapped(skipped) == {"Alt": "Alt"}


def test_the_targets_prefix_stands_before_usual_names() -> None:
    courier = Naming(b".", b"INBOX.")
    target = [Listed(b"INBOX.Sent", b".", frozenset()), Listed(b"INBOX.x.Trash", b".", frozenset())]
    result = plan([entry("Gesendet", "\\sent"), entry("Weg", "\\trash")], target, naming=courier)
    assert [pair.target for pair in result.pairs] == [b"INBOX.Sent", b"INBOX.Weg"]
    below = PlanOptions(target_prefix=b"~user/")
    assert plan([entry("Gesendet", "\\sent")], [entry("~user/Sent")], below).pairs[0].target == b"~user/Sent"


@pytest.mark.parametrize(
    "there",
    [
        Listed(b"Sent", b"/", frozenset({"\\sent", "\\noselect"})),
        Listed(b"Sent", b"/", frozenset({"\\nonexistent"})),
    ],
)
def test_what_is_no_mailbox_is_no_place(there: Listed) -> None:
    assert mapped(plan([entry("Gesendet", "\\sent")], [there])) == {"Gesendet": "Gesendet"}


def test_nobody_elses_mailbox_is_a_place() -> None:
    naming = Naming(b"/", foreign=(b"shared/",), certain=True)
    target = [entry("shared/Sent", "\\sent")]
    assert mapped(plan([entry("Gesendet", "\\sent")], target, naming=naming)) == {"Gesendet": "Gesendet"}


_NAME = st.sampled_from(
    ["Sent", "sent", "Sent Items", "Trash", "Junk", "Archive", "Gesendet", "a/Sent", "Drafts", "x", "É"]
)
_LIST = st.dictionaries(
    _NAME, st.sets(st.sampled_from([*USUAL_NAMES, "\\noselect", "\\all", "\\hasnochildren"]), max_size=3), max_size=8
).map(lambda found: [entry("INBOX"), *(entry(name, *attributes) for name, attributes in found.items())])


@given(_LIST, _LIST, st.integers(), st.sets(_NAME), st.dictionaries(_NAME, _NAME, max_size=2))
def test_whatever_both_sides_have(
    source: list[Listed], target: list[Listed], seed: int, skip: set[str], earlier: dict[str, str]
) -> None:
    options = PlanOptions(skip=frozenset(skip))
    places_before = {name.casefold(): (one, name) for one, name in earlier.items()}.values()  # each place once
    known = {encode_mailbox(one): encode_mailbox(name) for one, name in places_before}
    result = plan(source, target, options, known=known)
    targets = [show(pair.target).casefold() for pair in result.pairs]
    assert len(set(targets)) == len(targets), "never two into one"
    named = {pair.source_name for pair in result.pairs} | {name for name, _ in result.skipped}
    assert named >= {show(one.name) for one in source if "\\noselect" not in one.attributes}
    for pair in result.pairs:
        if pair.source in known:
            assert pair.target == known[pair.source], "a mailbox copied in an earlier run stays where it is"

    shuffled, elsewhere = list(source), list(target)
    random.Random(seed).shuffle(shuffled)
    random.Random(seed).shuffle(elsewhere)
    assert plan(shuffled, elsewhere, options, known=known) == result

    again = {pair.source: pair.target for pair in result.pairs}
    there = [
        *target,
        *(Listed(name, b"/", frozenset()) for name in again.values() if name not in {t.name for t in target}),
    ]
    assert {pair.source: pair.target for pair in plan(source, there, options, known=again).pairs} == again
