"""Which mailbox becomes which, rule by rule."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from migrator.plan import (
    Naming,
    Plan,
    PlanOptions,
    ancestors,
    counterpart,
    plan_mailboxes,
    safer_name,
    show,
)
from wire.imap.names import encode_mailbox
from wire.imap.results import Listed

COMMUNIGATE = Naming(b"/", certain=True)
DOVECOT = Naming(b".")
COURIER = Naming(b".", b"INBOX.", (b"shared.", b"user."))
NOTHING = PlanOptions()


def entry(name: str, *attributes: str, separator: bytes | None = b"/") -> Listed:
    return Listed(encode_mailbox(name), separator, frozenset(attributes))


def plan(
    *names: str,
    source: Naming = COMMUNIGATE,
    target: Naming = COMMUNIGATE,
    options: PlanOptions = NOTHING,
    existing: tuple[bytes, ...] = (),
    known: dict[bytes, bytes] | None = None,
) -> Plan:
    listed = [entry(name, separator=source.separator) for name in names]
    return plan_mailboxes(listed, source, target, options, existing=existing, known=known)


def mapped(result: Plan) -> dict[str, str]:
    return {pair.source_name: pair.target_name for pair in result.pairs}


@pytest.mark.parametrize(
    ("name", "becomes"),
    [
        ("Sent", "Sent"),
        ("archive.mbox", "archive-mbox"),
        ("archive.MDir", "archive-MDir"),
        ("a.mbox/b.mdir", "a-mbox/b-mdir"),
        (".hidden", "_hidden"),
        ("~user", "_user"),
        ("..", "_."),
        ("  both sides ", "__both sides_"),
        ("back\\slash", "back_slash"),
        ("#news", "_news"),
        ("a#b/c\\d", "a_b/c_d"),
        ("   ", "___"),
        ("日本語/受信", "日本語/受信"),
        ("R&D", "R&D"),
        ('with "quotes"', 'with "quotes"'),
    ],
)
def test_the_guides_rules_for_names(name: str, becomes: str) -> None:
    assert mapped(plan(name)) == {name: becomes}


def test_a_changed_name_is_reported_and_an_unchanged_one_is_not() -> None:
    changed, unchanged = plan("#a", "b").pairs
    assert changed.notes
    assert not unchanged.notes


def test_separators_and_prefixes_are_translated() -> None:
    result = plan("INBOX", "INBOX.Sent", "INBOX.a.b", "INBOX.INBOX.c", source=COURIER)
    assert mapped(result) == {
        "INBOX": "INBOX",
        "INBOX.Sent": "Sent",
        "INBOX.a.b": "a/b",
        "INBOX.INBOX.c": "INBOX/c",
    }


def test_a_target_with_a_prefix_gets_it_before_everything_but_the_inbox() -> None:
    result = plan("INBOX", "Sent", "INBOX/below", "a/b", target=COURIER)
    assert {pair.source: pair.target for pair in result.pairs} == {
        b"INBOX": b"INBOX",
        b"Sent": b"INBOX.Sent",
        b"INBOX/below": b"INBOX.INBOX.below",
        b"a/b": b"INBOX.a.b",
    }


def test_a_prefix_is_guessed_where_the_server_knows_no_namespaces() -> None:
    assert mapped(plan("INBOX", "INBOX.Sent", "INBOX.a.b", source=DOVECOT)) == {
        "INBOX": "INBOX",
        "INBOX.Sent": "Sent",
        "INBOX.a.b": "a/b",
    }
    one_outside = plan("INBOX", "INBOX.Sent", "Drafts", source=DOVECOT)
    assert mapped(one_outside)["INBOX.Sent"] == "INBOX/Sent"


def test_the_targets_separator_within_a_name_does_not_make_a_level() -> None:
    result = plan("2009/10", "a.b", source=DOVECOT, target=COMMUNIGATE)
    assert mapped(result) == {"2009/10": "2009_10", "a.b": "a/b"}
    assert plan("a.b/c", source=COMMUNIGATE, target=DOVECOT).pairs[0].target == b"a_b.c"


def test_a_target_without_levels_gets_flat_names() -> None:
    assert mapped(plan("a/b/c", target=Naming(None))) == {"a/b/c": "a-b-c"}


@pytest.mark.parametrize("name", ["INBOX", "inbox", "Inbox"])
def test_the_inbox_in_any_case_is_the_inbox_and_comes_first(name: str) -> None:
    result = plan("Aaa", name, "inbox2")
    assert (result.pairs[0].source_name, result.pairs[0].target) == (name, b"INBOX")


def test_below_the_inbox_in_any_case() -> None:
    assert mapped(plan("inbox/Old")) == {"inbox/Old": "INBOX/Old"}


def test_what_is_not_a_mailbox_of_the_user_is_left_out_and_said() -> None:
    listed = [
        entry("INBOX"),
        entry("dir", "\\noselect", "\\haschildren"),
        entry("ghost", "\\nonexistent"),
        entry("All Mail", "\\all"),
        entry("Starred", "\\flagged"),
        entry("Important", "\\important"),
        entry("Sent", "\\sent"),
        entry("shared.team"),
        entry("user.bob.x"),
        entry("shared"),
    ]
    listed = [replace(one, separator=b".") for one in listed]
    naming = Naming(b".", b"", (b"shared.", b"user."))
    result = plan_mailboxes(listed, naming, COMMUNIGATE, NOTHING)
    assert set(mapped(result)) == {"INBOX", "Sent"}
    assert {name for name, _ in result.skipped} == {
        "ghost", "All Mail", "Starred", "Important", "shared.team", "user.bob.x", "shared",
    }  # fmt: skip
    assert all(reason for _, reason in result.skipped)


def test_a_personal_namespace_within_a_foreign_one_is_personal() -> None:
    naming = Naming(b".", b"user.me.", (b"user.",))
    listed = [entry("user.me.Sent", separator=b"."), entry("user.bob.Sent", separator=b".")]
    result = plan_mailboxes(listed, naming, COMMUNIGATE, NOTHING)
    assert mapped(result) == {"user.me.Sent": "Sent"}


def test_names_that_differ_in_case_stay_apart() -> None:
    result = plan("Work", "work", "WORK")
    names = [pair.target_name for pair in result.pairs]
    assert len({name.lower() for name in names}) == 3
    assert sum(1 for pair in result.pairs if pair.notes) == 2


def test_a_changed_name_never_takes_the_place_of_a_real_one() -> None:
    assert mapped(plan("#a", "_a")) == {"#a": "_a_2", "_a": "_a"}


def test_a_number_is_not_given_twice() -> None:
    result = plan("#a", "_a", "_a_2", "\\a")
    assert len(set(mapped(result).values())) == 4


def test_composed_and_decomposed_accents_are_one_name_to_many_servers() -> None:
    result = plan("Gr\u00fcn", "Gru\u0308n")
    assert len({pair.target for pair in result.pairs}) == 2
    assert any(pair.notes for pair in result.pairs)


def test_a_mailbox_inside_the_prefix_that_is_called_inbox_is_not_the_inbox() -> None:
    result = plan("INBOX", "INBOX.INBOX", "INBOX.x", source=COURIER)
    assert mapped(result) == {"INBOX": "INBOX", "INBOX.INBOX": "INBOX_2", "INBOX.x": "x"}


def test_the_targets_own_spelling_is_used_for_a_mailbox_it_has() -> None:
    result = plan("TRASH", "Sent", existing=(b"Trash", b"Sent", b"SENT"))
    assert mapped(result) == {"TRASH": "Trash", "Sent": "Sent"}
    assert {pair.source_name: bool(pair.notes) for pair in result.pairs} == {"TRASH": True, "Sent": False}


def test_what_an_earlier_run_chose_stays() -> None:
    known = {b"work": b"work_2", b"Work": b"Work"}
    assert mapped(plan("work", "Work", known=known)) == {"work": "work_2", "Work": "Work"}
    assert mapped(plan("work", "new", known=known)) == {"work": "work_2", "new": "new"}


def test_a_rename_after_the_mailbox_was_copied_is_refused_in_words() -> None:
    options = PlanOptions(renames={"Sent": "Sent Items"})
    (pair,) = plan("Sent", options=options, known={b"Sent": b"Sent"}).pairs
    assert pair.target == b"Sent"
    assert "earlier run" in pair.notes[0]


def test_renamed_mailboxes() -> None:
    options = PlanOptions(renames={"Sent Items": "Sent", "INBOX.Gesendet": "Sent", "日本": "Japan/New"})
    result = plan("Sent Items", "日本", "other", options=options)
    assert mapped(result) == {"Sent Items": "Sent", "日本": "Japan/New", "other": "other"}
    result = plan("INBOX", "INBOX.Gesendet", "INBOX.Sent", source=COURIER, options=options)
    assert mapped(result)["INBOX.Gesendet"] == "Sent", "two mailboxes may be sent into one when it was asked for"
    assert mapped(result)["INBOX.Sent"] == "Sent"


def test_a_renamed_inbox_and_a_mailbox_renamed_to_inbox() -> None:
    assert mapped(plan("inbox", options=PlanOptions(renames={"INBOX": "Old"}))) == {"inbox": "Old"}
    options = PlanOptions(renames={"Old": "INBOX"})
    assert plan("Old", target=COURIER, options=options).pairs[0].target == b"INBOX"


def test_skipped_mailboxes_by_any_of_their_names() -> None:
    options = PlanOptions(skip=frozenset({"Trash", "INBOX.Junk", "Entwürfe", "inbox"}))
    names = ("INBOX", "INBOX.Trash", "INBOX.Junk", "INBOX.Entwürfe", "INBOX.Trash.old")
    result = plan(*names, source=COURIER, options=options)
    assert set(mapped(result)) == {"INBOX.Trash.old"}
    assert {name for name, _ in result.skipped} == set(names) - {"INBOX.Trash.old"}


def test_only_subscribed_mailboxes() -> None:
    options = PlanOptions(only=frozenset({b"inbox", b"a"}))
    result = plan("INBOX", "a", "b", options=options)
    assert set(mapped(result)) == {"INBOX", "a"}
    assert result.skipped[0][0] == "b"


def test_source_and_target_prefixes_as_the_guide_has_them() -> None:
    options = PlanOptions(source_prefix=b"abc/", target_prefix=b"~user/")
    result = plan("abc/mail1", "abc/mail2", "abc/INBOX", options=options)
    assert {pair.source: pair.target for pair in result.pairs} == {
        b"abc/mail1": b"~user/mail1",
        b"abc/mail2": b"~user/mail2",
        b"abc/INBOX": b"~user/INBOX",
    }


def test_another_users_mailboxes_are_copied_when_the_prefix_names_them() -> None:
    naming = Naming(b"/", b"", (b"~",))
    options = PlanOptions(source_prefix=b"~bob/")
    listed = [entry("~bob/INBOX"), entry("~bob/Sent")]
    assert mapped(plan_mailboxes(listed, naming, COMMUNIGATE, options)) == {"~bob/INBOX": "INBOX", "~bob/Sent": "Sent"}


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"Gr\xfcn", "Grün"),  # Latin-1 on the wire
        ("Grün".encode(), "Grün"),  # UTF-8 on the wire
        (b"R & D", "R & D"),
        (b"&", "&"),
        (b"&!!!-", "&!!!-"),
    ],
)
def test_names_that_are_no_modified_utf7_become_what_they_mean(raw: bytes, text: str) -> None:
    (pair,) = plan_mailboxes([Listed(raw, b"/", frozenset())], COMMUNIGATE, COMMUNIGATE, NOTHING).pairs
    assert pair.source == raw
    assert pair.target == encode_mailbox(text)
    assert show(raw) == text


def test_very_long_names_are_cut_and_stay_apart() -> None:
    long = "x" * 300
    result = plan(long + "a", long + "b")
    targets = [pair.target for pair in result.pairs]
    assert len(set(targets)) == 2
    assert all(len(target) < 255 for target in targets)


def test_a_safer_name_for_a_target_that_refuses_one() -> None:
    assert safer_name(b'say "hi"/a*b', b"/") == b"say _hi_/a_b"
    assert safer_name(b"plain/name", b"/") == b"plain/name"
    assert safer_name(encode_mailbox("日本語"), b"/") == encode_mailbox("日本語")


def test_the_mailboxes_above() -> None:
    assert ancestors(b"a/b/c", b"/") == [b"a", b"a/b"]
    assert ancestors(b"a", b"/") == []
    assert ancestors(b"a/b", None) == []


def test_the_counterpart_of_a_subscription() -> None:
    targets = {b"Inbox": b"INBOX", b"a.b": b"a/b"}
    assert counterpart(b"a.b", targets) == b"a/b"
    assert counterpart(b"inbox", targets) == b"INBOX"
    assert counterpart(b"gone", targets) is None


def test_ten_thousand_mailboxes_are_planned_in_a_moment() -> None:
    names = [f"Archive/{number % 100}/Folder {number}" for number in range(10_000)]
    started = time.process_time()
    first = plan("INBOX", *names, *(name.upper() for name in names[:500]))
    assert len(first.pairs) == 10_501
    assert time.process_time() - started < 5, "nothing here may be quadratic"


def test_control_characters_never_reach_a_report() -> None:
    assert show(b"a\x1b[31m") == "a\\x1b[31m"
