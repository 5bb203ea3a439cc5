"""The configuration file: defaults, every problem by key and line, and secrets that others may read."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.config import ConfigurationTrouble, Settings, load_settings
from migrator.config_lines import locate_keys
from wire.endpoint import Security

GOOD = """\
[communigate]
cli = "127.0.0.1:8106"
password_file = "cli.password"
imap = "imaps://127.0.0.1:993"
main_domain = "Example.COM"

[state]
url = "sqlite:///state.db"
public_key_file = "seal.pub"
key_file = "seal.key"

[domains."Example.com"]
smtp = "old.example.com:25"
imap = "imap+starttls://old.example.com"
login = "{user}%{domain}"
old_domain = "old.example.com"
create = { ServiceClass = "basic", MaxAccountSize = 10, Forward = true }
"""


class Site:
    """A configuration directory of one test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "extauth.toml"
        self.file("cli.password", "s3cret\n")
        self.file("seal.pub", "key\n")

    def file(self, name: str, text: str, mode: int = 0o600) -> Path:
        path = self.directory / name
        path.write_text(text)
        path.chmod(mode)
        return path

    def load(self, text: str, environ: dict[str, str] | None = None) -> Settings:
        self.path.write_text(text)
        self.path.chmod(0o600)
        return load_settings(self.path, environ or {})

    def problems(self, text: str, environ: dict[str, str] | None = None) -> dict[str, tuple[int, str]]:
        with pytest.raises(ConfigurationTrouble) as caught:
            self.load(text, environ)
        return {p.key: (p.line, p.text) for p in caught.value.problems}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_good_file_is_read_with_defaults(site: Site) -> None:
    settings = site.load(GOOD)
    assert settings.communigate.password.reveal() == b"s3cret"
    assert settings.communigate.imap.security is Security.TLS
    assert settings.communigate.main_domain == "example.com"
    assert settings.communigate.connections == 4
    assert settings.helper.deadline == 15.0
    assert settings.helper.pilot is None
    assert settings.state.path == site.directory / "state.db"
    domain = settings.domain("EXAMPLE.com")
    assert domain is not None
    assert domain.source_login("joe@example.com") == b"joe%old.example.com"
    assert domain.old_address("joe@example.com") == "joe@old.example.com"
    assert domain.create == {"ServiceClass": "basic", "MaxAccountSize": "10", "Forward": "YES"}
    assert (domain.after_login, domain.copy, domain.verify) == ("copy", "imap", "imap")
    assert settings.domain("other.example.com") is None


def test_default_domain_serves_the_rest(site: Site) -> None:
    settings = site.load(GOOD + '[domains.default]\nnew = "refuse"\npop = "127.0.0.1:110"\n')
    domain = settings.domain("other.example.com")
    assert domain is not None
    assert (domain.name, domain.verify, domain.copy) == ("default", "pop", "pop")


def test_every_problem_is_listed_by_key_and_line(site: Site) -> None:
    text = GOOD.replace('"127.0.0.1:8106"', '"imap://127.0.0.1"') + (
        'verify = "pop"\nmax_connections = 0\nlogn = "x"\ntls = { verify = "no", minimun = "x" }\n'
        '[helper]\ndeadline = "15"\nconcurrency = true\n[extra]\n'
    )
    problems = site.problems(text)
    lines = text.splitlines()
    for key, (line, _) in problems.items():
        last = key.split(".")[-1]
        assert line == 0 or last in lines[line - 1] or key == 'domains."Example.com".pop'
    assert set(problems) == {
        "communigate.cli",
        'domains."Example.com".max_connections',
        'domains."Example.com".logn',
        'domains."Example.com".tls.verify',
        'domains."Example.com".tls.minimun',
        'domains."Example.com".pop',
        "helper.deadline",
        "helper.concurrency",
        "extra",
    }
    assert problems['domains."Example.com".pop'][0] == 12  # a missing key is shown at its table
    assert problems["helper.deadline"] == (23, 'a duration is a string such as "15s", "20m" or "3d"')


def test_broken_toml_names_the_line_and_never_shows_it(site: Site) -> None:
    problems = site.problems('[communigate]\npassword = "hunter2\n')
    assert problems["syntax"][0] == 2
    assert "hunter2" not in problems["syntax"][1]


def test_missing_file_is_one_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationTrouble) as caught:
        load_settings(tmp_path / "none.toml", {})
    assert caught.value.lines() == [f"{tmp_path / 'none.toml'}:0: file: cannot read it: No such file or directory"]


def test_world_readable_password_file_is_a_problem(site: Site) -> None:
    site.file("cli.password", "s3cret\n", 0o644)
    line, text = site.problems(GOOD)["communigate.password_file"]
    assert line == 3
    assert "0644" in text
    assert "s3cret" not in text


def test_password_in_a_readable_file_is_a_problem(site: Site) -> None:
    site.path.write_text(GOOD.replace('password_file = "cli.password"', 'password = "s3cret"'))
    site.path.chmod(0o640)
    with pytest.raises(ConfigurationTrouble, match="chmod 600"):
        load_settings(site.path, {})
    site.path.chmod(0o600)
    assert load_settings(site.path, {}).communigate.password.reveal() == b"s3cret"


def test_private_key_open_to_others_is_a_problem(site: Site) -> None:
    site.file("seal.key", "k", 0o640)
    assert "0640" in site.problems(GOOD)["state.key_file"][1]


def test_missing_public_key_names_the_command_that_makes_it(site: Site) -> None:
    (site.directory / "seal.pub").unlink()
    assert "migrator keygen" in site.problems(GOOD)["state.public_key_file"][1]
    assert load_settings(site.path, {}, check_files=False).state.public_key_file == site.directory / "seal.pub"


def test_missing_public_key_is_no_problem_where_nothing_is_sealed(site: Site) -> None:
    (site.directory / "seal.pub").unlink()
    assert site.load(GOOD + 'after_login = "nothing"\n').domains["example.com"].after_login == "nothing"


def test_environment_overrides_and_unknown_variables_are_named(site: Site) -> None:
    settings = site.load(
        GOOD,
        {"EXTAUTH_HELPER__DEADLINE": "4s", "EXTAUTH_WORKER__EMBEDDED": "false", "EXTAUTH_CONFIG": "x", "HOME": "/"},
    )
    assert (settings.helper.deadline, settings.worker.embedded) == (4.0, False)
    assert "EXTAUTH_HELP__X" in site.problems(GOOD, {"EXTAUTH_HELP__X": "1"})
    assert site.problems(GOOD, {"EXTAUTH_HELPER__X": "1"})["helper.x"][1].startswith("unknown key")


def test_a_problem_of_a_variable_is_not_shown_at_the_line_that_it_overrides(site: Site) -> None:
    variable = {"EXTAUTH_COMMUNIGATE__CLI": "host:x"}
    text = "'host:x': the port is a number from 1 to 65535 (EXTAUTH_COMMUNIGATE__CLI sets it)"
    assert site.problems(GOOD, variable)["communigate.cli"] == (0, text)


def test_what_is_wrong_is_not_called_missing_too(site: Site) -> None:
    text = GOOD.replace("old.example.com:25", "old.example.com:x").replace("imap+starttls://", "http://")
    with pytest.raises(ConfigurationTrouble) as caught:
        site.load(text)
    keys = [problem.key.rpartition(".")[2] for problem in caught.value.problems]
    assert keys == ["smtp", "imap"]


def test_names_that_no_domain_has(site: Site) -> None:
    """Each is a problem, and hides none of the table it names."""
    text = (
        GOOD.replace("Example.COM", "a b")
        .replace('old.example.com"\n', 'a@b"\n')
        .replace("[domains", '[domains.""]\n[domains', 1)
    )
    problems = site.problems(text)
    for key in ("communigate.main_domain", 'domains."Example.com".old_domain', 'domains.""'):
        assert problems[key][1] == "is not the name of a domain, such as example.com"
    assert 'domains."".smtp' in problems


def test_a_byte_order_mark_is_passed_over(site: Site) -> None:
    assert site.load("\ufeff" + GOOD).domains


def test_a_place_is_looked_for_only_where_one_is_named(site: Site) -> None:
    site.path.write_text(GOOD.replace("sqlite:///state.db", "postgresql://user@host/db"))
    with pytest.raises(ConfigurationTrouble) as caught:
        load_settings(site.path, {}, check_places=True)
    assert [problem.key for problem in caught.value.problems] == ["state.url"]


def test_an_empty_login_is_a_problem(site: Site) -> None:
    empty = GOOD.replace("[communigate]", '[communigate]\nlogin = ""')
    assert site.problems(empty) == {"communigate.login": (2, "must not be empty")}


def test_protected_names_and_the_login_itself(site: Site) -> None:
    communigate = site.load(GOOD.replace("cli =", 'login = "Admin"\ncli =')).communigate
    assert communigate.is_protected("postmaster@any.example.com")
    assert communigate.is_protected("admin@example.com")
    assert not communigate.is_protected("admin@other.example.com")
    assert not communigate.is_protected("joe@example.com")


def test_login_in_a_main_domain_unknown_to_us_is_protected_everywhere(site: Site) -> None:
    text = GOOD.replace('main_domain = "Example.COM"', 'login = "boss"')
    assert site.load(text).communigate.is_protected("boss@elsewhere.example.com")


@pytest.mark.parametrize("login", ["fixed", "{usr}", "{user}{", "{user}\n"])
def test_login_template_that_cannot_be_meant_is_a_problem(site: Site, login: str) -> None:
    text = GOOD.replace('"{user}%{domain}"', "'''" + login + "'''" if "\n" in login else f'"{login}"')
    assert set(site.problems(text)) == {'domains."Example.com".login'}


@pytest.mark.parametrize(
    ("flags", "kind", "said"),
    [
        ('["--bogus"]', "imap", "unknown option --bogus"),
        ('["--skipMailbox"]', "imap", "--skipMailbox needs 1 value"),
        ('["Trash"]', "imap", "'Trash' is not an option"),
        ('["--oldPasswordFile", "x"]', "imap", "password files"),
        ('["--skipMailbox", "Trash"]', "pop", "it is for IMAP copies"),
        ('["--archiveSeen", "Old"]', "imap", "it is for POP copies"),
        ('["--seenOlder", "30d"]', "pop", "--archiveSeen"),
        ('["--archiveSeen", "INBOX"]', "pop", "other than INBOX"),
        ('["--window", "night"]', "pop", "a window is"),
    ],
)
def test_copy_options_that_no_worker_can_use_are_problems(site: Site, flags: str, kind: str, said: str) -> None:
    """Said when the configuration is checked, not when the first user's copy is held for it."""
    text = GOOD + f'pop = "old.example.com"\ncopy = "{kind}"\ncopy_options = {flags}\n'
    problems = site.problems(text)
    assert set(problems) == {'domains."Example.com".copy_options'}
    line, reason = problems['domains."Example.com".copy_options']
    assert said in reason
    assert "copy_options" in text.splitlines()[line - 1]


def test_copy_options_of_a_pop_domain(site: Site) -> None:
    options = '["--archiveSeen", "Old", "--seenOlder", "30d", "--max-size", "8MiB", "--window", "22:00-06:00"]'
    domain = site.load(GOOD + f'pop = "old.example.com"\ncopy = "pop"\ncopy_options = {options}\n').domains[
        "example.com"
    ]
    assert domain.copy_options[:2] == ("--archiveSeen", "Old")


def test_braces_in_a_name_are_never_placeholders(site: Site) -> None:
    domain = site.load(GOOD).domains["example.com"]
    assert domain.source_login("{domain}@example.com") == b"{domain}%old.example.com"


def test_rosters_and_pilot_lists_are_read_in_lower_case(site: Site) -> None:
    site.file("list", "# who\nJoe\nann@Example.com # boss\n\n")
    settings = site.load(GOOD + 'new = "roster"\nroster = "list"\n[helper]\npilot = "list"\n')
    roster = settings.domains["example.com"].roster
    assert roster is not None
    assert roster.read().names == {"joe@example.com", "ann@example.com"}
    assert settings.helper.pilot == frozenset({"joe", "ann@example.com"})
    assert site.directory / "list" in settings.files


@pytest.mark.parametrize("key", ["Password", "useextpassword"])
def test_create_settings_cannot_open_the_account(site: Site, key: str) -> None:
    assert 'domains."Example.com".create' in site.problems(GOOD.replace("ServiceClass", key))


def test_lines_are_found_in_awkward_toml() -> None:
    text = """\
a = "x # [no]" # b = 1
'q.k' = 1
c = [
  { d = 1 },
]
long = \"\"\"
e = 5
\"\"\"
[t."x.y"] # comment
f.g = 2
h = { i = "}", j = [1,
 2] }
k = 3
"""
    lines = locate_keys(text)
    assert lines == {
        ("a",): 1,
        ("q.k",): 2,
        ("c",): 3,
        ("c", "d"): 4,
        ("long",): 6,
        ("t", "x.y"): 9,
        ("t", "x.y", "f", "g"): 10,
        ("t", "x.y", "h"): 11,
        ("t", "x.y", "h", "i"): 11,
        ("t", "x.y", "h", "j"): 11,
        ("t", "x.y", "k"): 13,
    }


def test_missing_directories_are_told_to_the_operator_only(site: Site) -> None:
    text = GOOD.replace("sqlite:///state.db", "sqlite:///state/state.db") + '[helper]\nlog = "log/helper.log"\n'
    assert site.load(text).state.path == site.directory / "state" / "state.db"
    with pytest.raises(ConfigurationTrouble) as caught:
        load_settings(site.path, {}, check_places=True)
    assert [(p.key, p.line) for p in caught.value.problems] == [("state.url", 8), ("helper.log", 19)]
    for name in ("state", "log"):
        (site.directory / name).mkdir()
    load_settings(site.path, {}, check_places=True)


def test_limits_on_wrong_passwords(site: Site) -> None:
    text = (
        GOOD + '[limits]\nremember_refused = "0s"\nwrong_per_account = "0"\nshared = ["192.0.2.10", "2001:db8::/48"]\n'
    )
    limits = site.load(text).limits
    assert (limits.remember_refused, limits.wrong_per_account.count, limits.wrong_per_client.count) == (0.0, 0, 100)
    assert [str(network) for network in limits.shared] == ["192.0.2.10/32", "2001:db8::/48"]
    problems = site.problems(GOOD + '[limits]\nslow_down = "3s"\nshared = ["192.0.2.1/24"]\nodd = 1\n')
    assert set(problems) == {"limits.slow_down", "limits.shared", "limits.odd"}
    assert site.load(GOOD, {"EXTAUTH_LIMITS__SLOW_DOWN": "1s"}).limits.slow_down == 1.0


def test_grace_needs_its_key(site: Site) -> None:
    text = GOOD.replace("[domains", 'digest_key_file = "digest.key"\n[domains', 1)
    assert site.load(text).domains["example.com"].grace == 0.0
    assert "migrator keygen" in site.problems(text + 'grace = "14d"\n')["state.digest_key_file"][1]
    site.file("digest.key", "extauth-digest-1 " + "ab" * 32 + "\n", 0o644)
    assert "open to everybody" in site.problems(text + 'grace = "14d"\n')["state.digest_key_file"][1]
    site.file("digest.key", "extauth-digest-1 " + "ab" * 32 + "\n")
    assert site.load(text + 'grace = "14d"\n').grace_of("joe@Example.com") == 14 * 86_400.0
    site.file("digest.key", "something else\n")
    assert "no digest key" in site.problems(text + 'grace = "14d"\n')["state.digest_key_file"][1]
