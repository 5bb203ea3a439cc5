"""Who is left, and the tool that fits: one row of the table each."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.config import load_settings
from migrator.left import Facts, Mail, Tool, judge
from migrator.model import Adoption, Phase
from migrator.password_forms import read_password
from migrator.settings import DomainSettings
from tests.end_to_end.helper_child import DOMAIN, write_config

USER = f"u@{DOMAIN}"
TAKEN = read_password("$1$12345678$f8QoJuo0DpBRfQSD0vglc1")
FIRST = read_password("$2y$05$/OK.fbVrR/bpIqNJ5ianF.CE5elHaaO4EbggVDjb8P19RukzXSM3e")
COSTLY = read_password("$2b$31$" + "." * 22 + "a" * 31)
LOCKED, NONE, ODD = read_password("!x"), read_password("*"), read_password("{WHAT}x")


def domain(directory: Path, *, hashes: bool, more: str = "") -> DomainSettings:
    lines = f'hashes = "d.hashes"\n{more}'
    verify = "hashes" if hashes else "imap"
    return load_settings(write_config(directory, verify=verify, domain=lines)).domains[DOMAIN]


@pytest.mark.parametrize(
    ("facts", "verified_by_hashes", "tool"),
    [
        (Facts(USER, Adoption.ADOPTED), False, None),
        (Facts(USER, Adoption.SEEN, external=False), False, None),
        (Facts(USER, exists=True, external=False), False, None),
        (Facts(USER, Adoption.ADOPTED, external=True), False, Tool.LOGIN),
        (Facts(USER, Adoption.ADOPTING), False, Tool.WAIT),
        (Facts(USER, Adoption.REFUSED, "too short"), False, Tool.PERSON),
        (Facts(USER, Adoption.SEEN), False, Tool.LOGIN),
        (Facts(USER, Adoption.SEEN), True, Tool.NEW_PASSWORD),
        (Facts(USER, stored=TAKEN), False, Tool.IMPORT),
        (Facts(USER, stored=TAKEN), True, Tool.IMPORT),
        (Facts(USER, stored=FIRST), False, Tool.HASHES),
        (Facts(USER, stored=FIRST), True, Tool.LOGIN),
        (Facts(USER, stored=COSTLY), True, Tool.NEW_PASSWORD),
        (Facts(USER, stored=ODD), True, Tool.NEW_PASSWORD),
        (Facts(USER, stored=ODD), False, Tool.LOGIN),
        (Facts(USER, stored=LOCKED), True, Tool.LOCKED),
        (Facts(USER, stored=NONE), True, Tool.NEW_PASSWORD),
    ],
)
def test_the_tool_that_fits(tmp_path: Path, facts: Facts, verified_by_hashes: bool, tool: Tool | None) -> None:
    """What CommuniGate takes, then what can be checked, then the old server, then a new password."""
    found = judge(facts, domain(tmp_path, hashes=verified_by_hashes))
    assert (found.tool if found is not None else None) is tool


@pytest.mark.parametrize(
    ("facts", "more", "mail"),
    [
        (Facts(USER, Adoption.SEEN), "", Mail.AT_LOGIN),
        (Facts(USER, Adoption.SEEN, phase=Phase.DONE), "", Mail.NONE),
        (Facts(USER, Adoption.ADOPTING, phase=Phase.PENDING), "", Mail.QUEUED),
        (Facts(USER, Adoption.SEEN), 'after_login = "nothing"', Mail.NONE),
        (Facts(USER, stored=TAKEN), "", Mail.SHADOW),
        (Facts(USER, stored=TAKEN), 'admin_login = "root"\nadmin_password_file = "cli.password"', Mail.ADMIN),
    ],
)
def test_how_the_mail_comes(tmp_path: Path, facts: Facts, more: str, mail: Mail) -> None:
    """Whoever never has to log in at the old server needs another way for the mail."""
    found = judge(facts, domain(tmp_path, hashes=False, more=more))
    assert found is not None
    assert found.mail is mail


def test_a_reason_is_told_and_no_hash(tmp_path: Path) -> None:
    """The kind of the hash, never itself."""
    found = judge(Facts(USER, Adoption.REFUSED, "too short", stored=TAKEN), domain(tmp_path, hashes=False))
    assert found is not None
    assert found.as_json() == {
        "account": USER,
        "standing": "password refused by CommuniGate",
        "hash": "md5-crypt",
        "tool": "person",
        "mail": "at the login",
        "reason": "too short",
    }
