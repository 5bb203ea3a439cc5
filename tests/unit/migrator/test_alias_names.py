"""The aliases file of a domain: whatever its lines say, an alias is never taken for an account."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.alias_names import AliasNames, Lead, Leads, broken, parse_alias_names

DOMAIN = "d.test"


def names(text: str, domain: str = DOMAIN) -> AliasNames:
    """What the file comes to, without a problem."""
    found = parse_alias_names(text.encode(), domain)
    assert found.problem == ""
    return found


@pytest.mark.parametrize(
    ("line", "kind", "targets"),
    [
        ("info: ann", Leads.ACCOUNT, ("ann@d.test",)),
        ("Info:\tAnn@D.Test", Leads.ACCOUNT, ("ann@d.test",)),
        ("info: \\ann", Leads.ACCOUNT, ("ann@d.test",)),
        ("info@d.test ann@d.test", Leads.ACCOUNT, ("ann@d.test",)),
        ("INFO@D.test   ann", Leads.ACCOUNT, ("ann@d.test",)),
        ("info@d.test: ann", Leads.ACCOUNT, ("ann@d.test",)),
        ("info ann", Leads.ACCOUNT, ("ann@d.test",)),
        ("info: ann@Else.Test", Leads.AWAY, ("ann@else.test",)),
        ("info: Ann@else.test", Leads.AWAY, ("Ann@else.test",)),
        ("info: ann, bob", Leads.SEVERAL, ("ann@d.test", "bob@d.test")),
        ("info: ann,\n  bob@else.test", Leads.SEVERAL, ("ann@d.test", "bob@else.test")),
        ("info: sales\nsales: ann", Leads.ACCOUNT, ("ann@d.test",)),
        ("info: sales\nsales: ann, bob", Leads.SEVERAL, ("ann@d.test", "bob@d.test")),
        ('info: "|/usr/bin/vacation ann"', Leads.ELSEWHERE, ()),
        ("info: /var/mail/archive", Leads.ELSEWHERE, ()),
        ("info: :include:/etc/list", Leads.ELSEWHERE, ()),
        ("info: ann, |/bin/x", Leads.ELSEWHERE, ()),
        ("info: info2\ninfo2: info", Leads.ELSEWHERE, ()),
        ("info: o'hara", Leads.ELSEWHERE, ()),
        ("info: keeps\nkeeps: \\keeps, bob@else.test", Leads.ACCOUNT, ("keeps@d.test",)),
    ],
)
def test_what_a_name_is(line: str, kind: Leads, targets: tuple[str, ...]) -> None:
    assert names(f"# aliases\n\n{line}\n").lead("info@d.test") == Lead(kind, targets)


@pytest.mark.parametrize("line", ["info: \\info, bob@else.test", "info: info", "other: info", "info@else.test ann"])
def test_accounts_stay_accounts(line: str) -> None:
    """An account that sends copies elsewhere, a target, and the same name in another domain."""
    assert names(line).lead("info@d.test") is None


@pytest.mark.parametrize(
    "line", ["info: two words here", "info:", "info: <ann", "info@d.test: a b c", '"info": "x', "info: a\nINFO: b"]
)
def test_a_line_that_makes_no_sense_still_makes_no_account(line: str) -> None:
    """The problem names its line, and the other lines count."""
    found = parse_alias_names(f"ok: ann\n{line}\n".encode(), DOMAIN)
    assert "line" in found.problem
    assert found.lead("info@d.test") is not None
    assert found.lead("ok@d.test") == Lead(Leads.ACCOUNT, ("ann@d.test",))


def test_domains_default_needs_full_names() -> None:
    found = parse_alias_names(b"info: ann\nsales@e.test ann@e.test\n", "default")
    assert "domains.default" in found.problem
    assert found.lead("sales@e.test") == Lead(Leads.ACCOUNT, ("ann@e.test",))


def test_an_unreadable_file_knows_no_name() -> None:
    assert broken("cannot be read").unread


def test_long_chains_and_large_files() -> None:
    text = "".join(f"a{number}: a{number + 1}\n" for number in range(50_000))
    found = names(text)
    assert found.lead("a49990@d.test") == Lead(Leads.ACCOUNT, ("a50000@d.test",))
    assert found.lead("a0@d.test") == Lead(Leads.ELSEWHERE)


@given(st.binary(max_size=300))
def test_no_bytes_raise(content: bytes) -> None:
    found = parse_alias_names(content, DOMAIN)
    for address in found.entries:
        lead = found.lead(address)
        assert lead is None or lead.targets or lead.kind is Leads.ELSEWHERE
