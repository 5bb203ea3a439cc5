"""What each alias and virtual user becomes, by the migration guide's rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from migrator.alias_file import Entry, parse_aliases
from migrator.alias_plan import item_of_alias, item_of_row, plan_aliases
from migrator.execute import Programs
from migrator.mail_objects import Choice, Form, Item, Site, Undecided
from migrator.table_file import TableKind, TableRow, parse_table

ACCOUNTS = frozenset({"joe@main.test", "ann@main.test", "postmaster@main.test", "bob@second.test"})


def site(
    files: Mapping[str, Sequence[str]] | None = None, *, owner: str = "", forward: bool = False,
    execute: Sequence[str] = (),
) -> Site:  # fmt: skip
    def read(name: str) -> list[str]:
        if name not in (files or {}):
            raise ValueError(f":include: {name} cannot be read")
        return list((files or {})[name])

    return Site(
        domain="main.test",
        local=frozenset({"old.test"}),
        domains=frozenset({"main.test", "second.test"}),
        is_account=ACCOUNTS.__contains__,
        exists=ACCOUNTS.__contains__,
        is_protected=lambda address: address.startswith("postmaster@"),
        read_include=read,
        list_owner=owner,
        forward_missing=forward,
        programs=Programs.read(execute),
    )


def plan(
    text: str, where: Site | None = None, *, rows: str = "", kind: TableKind = TableKind.POSTFIX
) -> dict[str, str]:
    """Outcomes by address: what it becomes and its values; or `?` and the reason."""
    where = where or site()
    items: list[Item] = []
    for row in parse_table(rows.encode(), kind):
        assert isinstance(row, TableRow)
        items.append(item_of_row(row, "virtual", where, row.key))
    for entry in parse_aliases(text.encode()):
        assert isinstance(entry, Entry)
        items.append(item_of_alias(entry, "aliases", where, entry.name))
    shown = {}
    for outcome in plan_aliases(items, where):
        if isinstance(outcome, Choice):
            actions = [" ".join(words) for rule in outcome.rules for words in rule.actions]
            values = ", ".join(actions or outcome.values) + (f" of {outcome.owner}" if outcome.owner else "")
            shown[outcome.address] = f"{outcome.form.name} {values}".strip()
            assert outcome.why
        else:
            assert isinstance(outcome, Undecided)
            shown[outcome.item.address] = f"? {outcome.reason}"
            assert outcome.decide
    return shown


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("x: joe", "ALIAS joe@main.test"),
        ("x: Joe@OLD.test", "ALIAS joe@main.test"),
        (r"x: \joe", "ALIAS joe@main.test"),
        ("x: a@far.test", "FORWARDER a@far.test"),
        ("x: bob@second.test", "FORWARDER bob@second.test"),
        ("x: postmaster", "FORWARDER postmaster@main.test"),  # no further name to log in with
        ("x: joe, ann@main.test, A@far.test", "GROUP joe, ann, A@far.test"),
        ("joe: a@far.test", "RULE Mirror to a@far.test, Discard ---"),
        (r"joe: \joe, a@far.test, ann", "RULE Mirror to a@far.test,ann@main.test"),
        ("joe: joe", "NOTHING"),
        ("x: /dev/null", "ROUTER <x@main.test> = NULL"),
        ("x: nobody", "? nobody@main.test: there is no such account or alias at CommuniGate"),
        ("x: joe, nobody", "? nobody@main.test: there is no such account or alias at CommuniGate"),
        ("x: x, joe", "? it names itself, and there is no such account at CommuniGate"),
        ("x: |/bin/cat", "? mail is given to a program: /bin/cat"),
        ("x: joe, /var/log/mail", "? mail is written to the file /var/log/mail"),
        ("x: joe, /dev/null", "? mail is written to the file /dev/null"),
        ("x: :include:/none", "? :include: /none cannot be read"),
        ("x: |/mailman post x", "? mail is given to a list manager: /mailman post x"),
        ("x+y: joe", "? 'x+y' is a name that no object can have"),
        ("x: a;b@far.test", "? a;b@far.test: no address that is sure to be read right"),
        ("postmaster: postmaster", "NOTHING"),
        ("postmaster: joe", "? postmaster@main.test is a protected name: no rule or object is made for it"),
        ('"x y": joe', "? x y@main.test: no address that is sure to be read right"),
    ],
)  # fmt: skip
def test_one_alias(line: str, becomes: str) -> None:
    """Each by itself."""
    (found,) = plan(line).values()
    assert found == becomes


def test_names_by_way_of_others() -> None:
    """An alias of an alias is one of the account; a name of a group or forwarder is a forwarder to it."""
    assert plan("a: b\nb: c\nc: joe\nteam: joe, ann\nt: team\nout: x@far.test\no: out\nj: joe\njoe: x@far.test") == {
        "a@main.test": "ALIAS joe@main.test",
        "b@main.test": "ALIAS joe@main.test",
        "c@main.test": "ALIAS joe@main.test",
        "team@main.test": "GROUP joe, ann",
        "t@main.test": "FORWARDER team@main.test",
        "out@main.test": "FORWARDER x@far.test",
        "o@main.test": "FORWARDER out@main.test",
        "j@main.test": "ALIAS joe@main.test",
        "joe@main.test": "RULE Mirror to x@far.test, Discard ---",
    }


def test_rings_and_what_leads_into_them() -> None:
    """A ring is nobody's; what leads to it is not decided either, and says so."""
    found = plan("a: b\nb: c, joe\nc: a\nd: a\ne: d\nok: joe")
    assert found["a@main.test"] == "? it leads back to itself: a@main.test -> b@main.test -> c@main.test -> a@main.test"
    assert found["c@main.test"].startswith("? it leads back to itself")
    assert found["d@main.test"] == "? a@main.test: not decided itself"
    assert found["e@main.test"] == "? d@main.test: not decided itself"
    assert found["ok@main.test"] == "ALIAS joe@main.test"


def test_a_backslash_before_another_alias_is_read_in_two_ways() -> None:
    """sendmail and Postfix differ, so nobody guesses."""
    assert plan("a: \\b\nb: joe")["a@main.test"].startswith("? \\b is the account for sendmail, and the alias b")


def test_a_long_chain_needs_no_recursion() -> None:
    """20,000 aliases in one chain."""
    text = "".join(f"a{n}: a{n + 1}\n" for n in range(20_000)) + "a20000: joe\n"
    assert set(plan(text).values()) == {"ALIAS joe@main.test"}


def test_lists() -> None:
    """A file with an owner is a mailing list; without one a group."""
    files = {"/l": ["joe", "x@far.test"], "/e": []}
    assert plan("l: :include:/l\nowner-l: ann", site(files)) == {
        "l@main.test": "LIST joe@main.test, x@far.test of ann@main.test",
        "owner-l@main.test": "ALIAS ann@main.test",
    }
    assert plan("l: :include:/l", site(files)) == {"l@main.test": "GROUP joe, x@far.test"}
    assert plan("l: :include:/l", site(files, owner="ann"))["l@main.test"].endswith("of ann@main.test")
    assert plan("l: ann, :include:/l", site(files, owner="ann")) == {"l@main.test": "GROUP ann, joe, x@far.test"}
    assert plan("l: :include:/e", site(files))["l@main.test"].startswith("? it leads nowhere")
    assert plan("l: :include:/l\nowner-l: l", site(files))["l@main.test"].startswith("GROUP")


def test_names_that_are_not_there_yet() -> None:
    """By wish, mail is sent on to the name: it finds the account once that is there."""
    where = site(forward=True)
    assert plan("x: nobody\ny: nobody, joe", where) == {
        "x@main.test": "FORWARDER nobody@main.test",
        "y@main.test": "GROUP nobody, joe",
    }


def test_a_name_twice() -> None:
    """The same again is nothing; another target is for a person."""
    items = [
        item_of_alias(entry, "aliases", site(), entry.name)
        for entry in parse_aliases(b"a: joe\nA: JOE@main.test\na: ann\n")
        if isinstance(entry, Entry)
    ]
    first, same, other = plan_aliases(items, site())
    assert isinstance(first, Choice)
    assert first.form is Form.ALIAS
    assert isinstance(same, Choice)
    assert same.form is Form.NOTHING
    assert isinstance(other, Undecided)
    assert "line 1" in other.reason


def test_virtual_tables() -> None:
    """Domains of CommuniGate get objects, others Router lines."""
    rows = (
        "a@main.test joe\nb@second.test bob@second.test\nc@second.test joe\nd@second.test bob@second.test, joe\n"
        "plain joe\ne@far.test joe\nf@far.test joe, ann\n@far.test x@else.test\n@away.test @main.test\n"
        "@second.test bob@second.test\ng@main.test @second.test\nann ann@main.test\n"
    )
    found = plan("", rows=rows)
    assert found == {
        "a@main.test": "ALIAS joe@main.test",
        "b@second.test": "ALIAS bob@second.test",
        "c@second.test": "FORWARDER joe@main.test",
        "d@second.test": "GROUP bob, joe@main.test",
        "plain@main.test": "ALIAS joe@main.test",
        "e@far.test": "ROUTER <e@far.test> = joe@main.test",
        "f@far.test": "? far.test is no domain of CommuniGate, and a Router line has one target",
        "@far.test": "ROUTER <*@far.test> = x@else.test",
        "@away.test": "ROUTER <*@away.test> = *@main.test",
        "@second.test": "? it catches all names of second.test, also those of users who are not moved yet",
        "g@main.test": "? g@second.test: there is no such account or alias at CommuniGate",
        "ann@main.test": "NOTHING",
    }


def test_virtusertable() -> None:
    """%1, refusals and whole domains of sendmail."""
    rows = (
        "x@main.test error:nouser No such user\njoe@main.test error:5.7.0:550 gone\n@far.test %1@main.test\n"
        "@away.test %1-old@else.test\n@third.test error:nouser gone\n@fourth.test %1-%2@x.test\n"
        "y@second.test error:nouser x\n@second.test bob@second.test\nz@far.test %1@else.test\n"
    )
    found = plan("", rows=rows, kind=TableKind.SENDMAIL)
    assert found == {
        "x@main.test": "NOTHING",
        "joe@main.test": "ROUTER <joe@main.test> = ERROR",
        "@far.test": "ROUTER <*@far.test> = *@main.test",
        "@away.test": "ROUTER <*@away.test> = *-old@else.test",
        "@third.test": "NOTHING",
        "@fourth.test": "? no Router line says that",
        "y@second.test": "ROUTER <y@second.test> = ERROR",
        "@second.test": "? it catches all names of second.test, also those of users who are not moved yet",
        "z@far.test": "ROUTER <z@far.test> = z@else.test",
    }


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ('x: "|/opt/fax -q 1"', 'ROUTER <x@main.test> = "fax-new -q 1"@pipe'),
        ('joe: "|/opt/fax"', "RULE Execute /usr/bin/fax-new, Discard ---"),
        ('joe: \\joe, "|/opt/fax"', "RULE Execute /usr/bin/fax-new"),
        ('joe: y@far.test, "|/opt/fax"', "RULE Execute /usr/bin/fax-new, Mirror to y@far.test, Discard ---"),
        ('x: y@far.test, "|/opt/fax"', "? it leads to /usr/bin/fax-new and to more"),
        ('postmaster: "|/opt/fax"', "? postmaster@main.test is a protected name"),
        ('x: "|/opt/other"', "? mail is given to a program: /opt/other"),
        ('x: "|/opt/fax; id"', "? mail is given to a shell's command"),
        ('x: "|/opt/mailman/mail/mailman post x"', "? mail is given to a list manager"),
    ],
)
def test_programs_that_were_allowed(text: str, outcome: str) -> None:
    """An account has an Execute rule, a name without one a line for the PIPE module; nothing else runs."""
    found = plan(text, site(execute=["/opt/fax=/usr/bin/fax-new", "/opt/mailman/mail/mailman"]))
    ((_, told),) = found.items()
    assert told.startswith(outcome)


def test_what_a_program_would_become_is_said() -> None:
    """With the option that makes it."""
    where = site()
    items = [
        item_of_alias(entry, "aliases", where, entry.name)
        for entry in parse_aliases(b'x: "|/opt/fax -q"\njoe: \\joe, "|/opt/fax -q"')
        if isinstance(entry, Entry)
    ]
    one, other = plan_aliases(items, where)
    assert isinstance(one, Undecided)
    assert isinstance(other, Undecided)
    assert "--execute /opt/fax " in one.decide
    assert '<x@main.test> = "fax -q"@pipe' in one.decide
    assert "the rule Execute /opt/fax -q;" in other.decide
