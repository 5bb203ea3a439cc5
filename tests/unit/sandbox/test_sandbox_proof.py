"""The proof at the end of the demo finds everything that could be wrong with a copy."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest

from extauth.sandbox.mailstore import MailStore
from extauth.sandbox.proof import Row, compare

DATE = datetime(2020, 5, 6, 7, 8, 9, tzinfo=timezone(timedelta(hours=2)))
DIRECT = b"Subject: direct\r\n\r\n"


@pytest.fixture
def source() -> MailStore:
    store = MailStore(b".", prefix=b"INBOX.", makes_parents=False)
    store.inbox.add(b"one", [b"\\Seen"], DATE)
    store.inbox.add(b"twin", [], DATE)
    store.inbox.add(b"twin", [b"kw"], DATE)
    store.create(b"INBOX.a.b").add(b"deep", [], DATE)
    store.subscribe(b"INBOX.a.b")
    return store


@pytest.fixture
def target() -> MailStore:
    store = MailStore()
    store.inbox.add(DIRECT)
    store.inbox.add(b"twin", [b"KW"], DATE)
    store.inbox.add(b"twin", [], DATE)
    store.inbox.add(b"one", [b"\\Seen"], DATE.astimezone(UTC))
    store.create(b"a/b").add(b"deep", [], DATE)
    store.subscribe(b"a/b")
    return store


def test_an_equal_copy_is_proven(source: MailStore, target: MailStore) -> None:
    row = compare("u", source, target, [DIRECT])
    assert row == Row("u", mailboxes=2, messages=4, delivered=1, arrived=5)
    assert row.proven


@pytest.mark.parametrize(
    ("damage", "column"),
    [
        (lambda t: t.inbox.messages.pop(1), "missing"),
        (lambda t: t.inbox.messages.pop(0), "missing"),
        (lambda t: t.inbox.add(b"one", [b"\\Seen"], DATE), "doubled"),
        (lambda t: t.inbox.add(DIRECT), "doubled"),
        (lambda t: t.inbox.add(b"strange"), "changed"),
        (lambda t: t.create(b"new").add(b"one"), "changed"),
        (lambda t: t.inbox.messages[3].flags.clear(), "flags"),
        (lambda t: t.inbox.messages[1].flags.clear(), "flags"),
        (lambda t: setattr(t.inbox.messages[1], "date", DATE + timedelta(seconds=1)), "dates"),
        (lambda t: t.unsubscribe(b"a/b"), "subscriptions"),
        (lambda t: t.subscribe(b"more"), "subscriptions"),
        (lambda t: t.mailboxes.pop(b"a/b"), "lost_mailboxes"),
    ],
)
def test_every_damage_shows(
    source: MailStore, target: MailStore, damage: Callable[[MailStore], object], column: str
) -> None:
    damage(target)
    row = compare("u", source, target, [DIRECT])
    assert getattr(row, column) == 1
    assert not row.proven


def test_a_changed_message_is_missing_and_changed(source: MailStore, target: MailStore) -> None:
    target.inbox.messages[3].data += b"\r\n"
    row = compare("u", source, target, [DIRECT])
    assert (row.missing, row.changed, row.doubled) == (1, 1, 0)


def test_without_an_account_all_is_missing(source: MailStore) -> None:
    row = compare("u", source, None, [DIRECT])
    assert (row.missing, row.proven) == (5, False)


def test_by_pop_only_inbox_counts(source: MailStore, target: MailStore) -> None:
    for message in target.inbox.messages:
        message.flags.clear()
    del target.mailboxes[b"a/b"], target.mailboxes[b"a"]
    target.subscriptions.clear()
    row = compare("u", source, target, [DIRECT], by_pop=True)
    assert row.proven
    assert (row.mailboxes, row.messages) == (1, 3)


def test_rows_add_up(source: MailStore, target: MailStore) -> None:
    total = Row("all")
    for _ in range(2):
        total += compare("u", source, target, [DIRECT])
    assert (total.name, total.messages, total.arrived, total.proven) == ("all", 8, 10, True)
