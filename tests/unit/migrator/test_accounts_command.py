"""`migrator accounts`: the linter, the files it writes, and accounts made at the simulated CommuniGate, with faults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extauth.sandbox.communigate import CommuniGate
from migrator.__main__ import main
from migrator.directory.creation_journal import CreationJournal
from tests.servers.communigate_thread import served_cli

HASH = "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="  # of "password"
ROWS = f"""\
Name\tUnixPassword\tRealName\tMaxAccountSize\tAliases
john\t{HASH}\tJohn Doe\t10M\tjd, j.doe
ann\t$1$12345678$f8QoJuo0DpBRfQSD0vglc1\tAnn\t\t
bob\t{HASH}\t\t\tann.b
"""


@pytest.fixture
def communigate() -> Iterator[CommuniGate]:
    with served_cli("example.com") as server:
        yield server


@pytest.fixture
def config(tmp_path: Path, communigate: CommuniGate) -> Path:
    path = tmp_path / "extauth.toml"
    path.write_text(
        f'[communigate]\npassword = "sandbox admin"\ncli = "127.0.0.1:{communigate.cli.port}"\n'
        f'main_domain = "example.com"\nprotected = ["postmaster"]\n[state]\nurl = "sqlite:///{tmp_path}/state.db"\n'
        'public_key_file = "seal.pub"\nkey_file = "seal.key"\n'
        '[domains.default]\nimap = "127.0.0.1:1"\nnew = "refuse"\ncreate = { ServiceClass = "basic" }\n'
    )
    path.chmod(0o600)
    return path


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows"
    path.write_text(ROWS)
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(["accounts", *map(str, arguments)])
    return int(leaving.value.code or 0)


def told(capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, tuple[str, str]], dict[str, Any]]:
    """What --json said: result and reason by name, and the summary."""
    *lines, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {one["name"]: (one["result"], one["reason"]) for one in lines}, last["summary"]


def test_the_linter_names_every_bad_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows"
    path.write_text(
        "Name\tUnixPassword\tAliases\n"
        f"good\t{HASH}\t\n"
        f".dot\t{HASH}\t\n"
        f"two\t{HASH}\t\n"
        f"TWO\t{HASH}\t\n"
        f"owner\t{HASH}\tgood\n"
        "strong\t$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjlO/O817G3uBnIFNjnQJuesI68OTLiBFdcbYEdFCoEOfaS35inz1\t\n"
        "locked\t!$1$12345678$f8QoJuo0DpBRfQSD0vglc1\t\n"
        f"postmaster\t{HASH}\t\n"
        f"far@other.test\t{HASH}\t\n"
        f"plus\t{HASH}\tplus+tag\n"
        "nobody\t\t\n"
    )
    bad = tmp_path / "bad"
    assert run(path, "--format", "tab", "--domain", "example.com", "--bad", bad, "--json") == 1
    found, summary = told(capsys)
    assert summary == {"bad": 11}
    for name, word in (
        ("good@example.com", "line 6"), (".dot@example.com", "letters, digits"), ("two@example.com", "line 4"),
        ("owner@example.com", "the name good@example.com"), ("strong@example.com", "sha512-crypt"),
        ("locked@example.com", "locked"), ("postmaster@example.com", "protected"), ("far@other.test", "other.test"),
        ("plus@example.com", "plus+tag"), ("nobody@example.com", "no password"),
    ):  # fmt: skip
        result, reason = found[name]
        assert result == "bad"
        assert word in reason or (name == "good@example.com" and "further below" in reason), (name, reason)
    assert bad.stat().st_mode & 0o777 == 0o600
    assert sorted(bad.read_text().splitlines()) == sorted(path.read_text().splitlines())  # all of them may be fed back


def test_bad_rows_are_fed_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each kind of file: the bad rows, mended, are a file of the same kind."""
    cases = {
        "passwd": "a.:{h}:1001:1::/:\nok:{h}:1002:1::/:\n",
        "shadow": "a.:{h}:1::::::\nok:{h}:1::::::\n",
        "dovecot": "a.:{h}\nok:{h}\n",
        "ldif": "version: 1\n\ndn: uid=a.\nuid: a.\nuserPassword: {h}\n\ndn: uid=ok\nuid: ok\nuserPassword: {h}\n",
        "csv": "Name,UnixPassword\na.,{h}\nok,{h}\n",
        "tab": "Name\tUnixPassword\na.\t{h}\nok\t{h}\n",
    }
    for kind, text in cases.items():
        path, bad = tmp_path / kind, tmp_path / f"{kind}.bad"
        path.write_text(text.replace("{h}", HASH))
        assert run(path, "--format", kind, "--domain", "example.com", "--bad", bad) == 1
        for _ in range(2):  # feeding it back unchanged changes nothing
            before = bad.read_text()
            again = tmp_path / f"{kind}.again"
            assert run(bad, "--format", kind, "--domain", "example.com", "--bad", again) == 1
            assert [line for line in again.read_text().splitlines() if not line.startswith("#")] == [
                line for line in before.splitlines() if not line.startswith("#")
            ]
        bad.write_text(bad.read_text().replace("a.", "a"))
        capsys.readouterr()
        assert run(bad, "--format", kind, "--domain", "example.com", "--json") == 0
        assert told(capsys)[1] == {"good": 1}
    assert HASH not in str(capsys.readouterr())


def test_an_import_file(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, report = tmp_path / "import.txt", tmp_path / "report"
    assert run(rows, "--format", "tab", "--domain", "example.com", "--output", out, "--report", report) == 0
    assert out.read_text() == (
        "Name\tUnixPassword\tRealName\tMaxAccountSize\tAliases\n"
        f"john\t{HASH}\tJohn Doe\t10M\tjd,j.doe\n"
        "ann\t$1$12345678$f8QoJuo0DpBRfQSD0vglc1\tAnn\t\t\n"
        f"bob\t{HASH}\t\t\tann.b\n"
    )
    assert out.stat().st_mode & 0o777 == 0o600
    assert report.read_text().splitlines()[1] == "2\tjohn@example.com\tgood\t"
    assert "$1$" not in str(capsys.readouterr()) + report.read_text()
    secondary = tmp_path / "secondary.txt"
    assert run(rows, "--format", "tab", "--domain", "example.com", "--output", secondary, "--new-name") == 0
    assert secondary.read_text().splitlines()[1].startswith(f"john\tjohn@example.com\t{HASH}\t")


def test_passwords_of_several_kinds_go_to_several_files(tmp_path: Path) -> None:
    """An empty cell of one column must not take away what another column gives."""
    path, out = tmp_path / "users", tmp_path / "out"
    path.write_text(f"a@one.test:{{PLAIN}}secret\nb@one.test:{HASH}\nc@two.test:{HASH}\n")
    out.mkdir()
    assert run(path, "--format", "dovecot", "--output", tmp_path / "file") == 64
    assert run(path, "--format", "dovecot", "--output", out) == 0
    assert sorted(file.name for file in out.iterdir()) == ["one.test.clear.txt", "one.test.txt", "two.test.txt"]
    assert (
        out / "one.test.clear.txt"
    ).read_text() == "Name\tPassword\tRealName\tMaxAccountSize\tAliases\na\tsecret\t\t\t\n"


def test_first_login_and_os_passwords(tmp_path: Path) -> None:
    path, out, hashes = tmp_path / "users", tmp_path / "out", tmp_path / "hashes"
    strong = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"
    path.write_text(f"a@one.test:{strong}\n")
    assert run(path, "--format", "dovecot", "--passwords", "first-login", "--output", out, "--hashes", hashes) == 0
    assert out.read_text().splitlines()[1].startswith("a\tNO\tYES\t")
    assert (hashes.read_text(), hashes.stat().st_mode & 0o777) == (f"a@one.test\t{strong}\n", 0o600)
    assert run(path, "--format", "dovecot", "--passwords", "os", "--output", out) == 0
    assert out.read_text() == "Name\tUseSysPassword\tRealName\tMaxAccountSize\tAliases\na\tYES\t\t\t\n"


def test_ldap_provisioning(rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ldif"
    assert run(rows, "--format", "tab", "--domain", "example.com", "--ldap-output", out) == 0
    assert "dn: uid=john,cn=example.com\nchangetype: add\n" in out.read_text()
    assert f"unixPassword: {HASH}\n" in out.read_text()
    assert out.stat().st_mode & 0o777 == 0o600


def test_virtual_aliases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boxes, virtual, forwards = tmp_path / "boxes", tmp_path / "virtual", tmp_path / "forwards"
    boxes.write_text("ann@example.com a/\nbob@example.com b/\n")
    virtual.write_text(
        "a.lee@example.com ann@example.com\nteam@example.com ann@example.com, bob@example.com\n"
        "ann@other.test ann@example.com\nbob@example.com bob@example.com\n"
        "@old.test @example.com\nann@example.com x@y.test\n"
    )
    arguments = (boxes, "--format", "postfix-mailbox", "--virtual-aliases", virtual, "--passwords", "none")
    out = tmp_path / "out"
    assert run(*arguments, "--output", out, "--forwards", forwards) == 1
    assert out.read_text().splitlines()[1:] == ["ann\t\t\ta.lee", "bob\t\t\t"]
    assert sorted(forwards.read_text().splitlines()) == [
        "ann@example.com\tx@y.test",
        "ann@other.test\tann@example.com",
        "team@example.com\tann@example.com, bob@example.com",
    ]
    assert "virtual:5: bad alias" in capsys.readouterr().err


def test_accounts_are_made_once(
    rows: Path, config: Path, communigate: CommuniGate, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = communigate.directory
    directory.create_account("ann@example.com", {"RealName": "Another Ann", "Password": "hers"})
    arguments = (rows, "--format", "tab", "--domain", "example.com", "--apply", "--config", config, "--json")
    assert run(*arguments, "--dry-run") == 1
    assert told(capsys)[1] == {"exists": 1, "free": 2}
    assert directory.find("john@example.com") is None
    assert not rows.with_name("rows.journal").exists()
    assert run(*arguments) == 1
    found, summary = told(capsys)
    assert summary == {"done": 2, "exists": 1}
    assert "not changed" in found["ann@example.com"][1]
    john, ann = directory.account("john@example.com"), directory.account("ann@example.com")
    assert john.accepts(b"password")
    assert (john.aliases, john.settings["MaxAccountSize"], john.settings["RealName"]) == (
        ["jd", "j.doe"],
        "10M",
        "John Doe",
    )
    assert (john.settings["ServiceClass"], john.settings["UseExtPassword"]) == ("basic", "NO")
    assert ann.settings == {"RealName": "Another Ann", "Password": "hers"}
    assert run(*arguments) == 64  # the journal is there
    capsys.readouterr()
    directory.delete_account(ann)
    assert run(*arguments, "--resume") == 0
    assert told(capsys)[0]["john@example.com"] == ("done", "made by an earlier run")
    assert directory.account("ann@example.com").settings["RealName"] == "Ann"
    assert rows.with_name("rows.journal").stat().st_mode & 0o777 == 0o600
    assert "SHA" not in rows.with_name("rows.journal").read_text()


@pytest.mark.parametrize("executed", [False, True])
def test_a_session_lost_in_the_middle_doubles_nothing(
    rows: Path, config: Path, communigate: CommuniGate, capsys: pytest.CaptureFixture[str], executed: bool
) -> None:
    """CreateAccount was carried out or not, and nobody heard the answer."""
    communigate.cli.faults.cut("CREATEACCOUNT", executed=executed, having=b"john")
    arguments = (rows, "--format", "tab", "--domain", "example.com", "--apply", "--config", config, "--json")
    assert run(*arguments, "--jobs", 1) == (0 if executed else 75)
    results = told(capsys)[0]
    assert results["john@example.com"][0] == ("done" if executed else "later")
    assert run(*arguments, "--resume") == 0
    assert communigate.directory.account("john@example.com").aliases == ["jd", "j.doe"]
    assert told(capsys)[1] == {"done": 3}


def test_a_crash_between_account_and_aliases(
    rows: Path, config: Path, communigate: CommuniGate, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was begun and is there is this program's own; its aliases are given on resuming."""
    communigate.directory.create_account("john@example.com", {"RealName": "John Doe"})
    journal = rows.with_name("rows.journal")
    journal.write_text(
        f"# accounts made at cli://127.0.0.1:{communigate.cli.port}\njohn@example.com\tbegun\t\nann@exam"
    )
    arguments = (rows, "--format", "tab", "--domain", "example.com", "--apply", "--config", config, "--json")
    assert run(*arguments, "--resume") == 0
    assert told(capsys)[1] == {"done": 3}
    assert communigate.directory.account("john@example.com").aliases == ["jd", "j.doe"]


def test_refusals_are_reported_and_fed_back(
    rows: Path, config: Path, communigate: CommuniGate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory, bad = communigate.directory, tmp_path / "bad"
    directory.domain("").groups["jd"] = {}
    communigate.cli.faults.reply("CREATEACCOUNT", b"501 no such service class\r\n", having=b"bob")
    arguments = (rows, "--format", "tab", "--domain", "example.com", "--apply", "--config", config, "--json")
    assert run(*arguments, "--bad", bad) == 1
    found, _ = told(capsys)
    assert found["john@example.com"][0] == "aliases refused"
    assert "jd:" in found["john@example.com"][1]
    assert directory.account("john@example.com").aliases == ["j.doe"]
    assert found["bob@example.com"][0] == "refused"
    assert bad.read_text().splitlines()[1:] == [f"bob\t{HASH}\t\t\tann.b"]
    del directory.domain("").groups["jd"]
    assert run(*arguments, "--resume") == 0
    assert sorted(directory.account("john@example.com").aliases) == ["j.doe", "jd"]


def test_a_server_that_answers_nobody_ends_the_run(
    rows: Path, config: Path, communigate: CommuniGate, capsys: pytest.CaptureFixture[str]
) -> None:
    communigate.cli.faults.cut("GETACCOUNTSETTINGS", times=None)
    arguments = (rows, "--format", "tab", "--domain", "example.com", "--apply", "--config", config, "--json")
    assert run(*arguments) == 75
    assert told(capsys)[1] == {"later": 3}
    communigate.cli.faults.clear()
    assert run(*arguments, "--resume") == 0


def test_the_login_of_the_configuration_is_refused(rows: Path, config: Path) -> None:
    config.write_text(config.read_text().replace("sandbox admin", "wrong"))
    assert run(rows, "--format", "tab", "--domain", "example.com", "--apply", "--config", config) == 77


def test_external_inbox_and_settings(rows: Path, config: Path, communigate: CommuniGate) -> None:
    arguments = (rows, "--format", "tab", "--domain", "example.com", "--apply", "--config", config)
    assert (
        run(*arguments, "--type", "TextMailbox", "--external-inbox", "--set", "ServiceClass=gold", "--passwords", "os")
        == 0
    )
    john = communigate.directory.account("john@example.com")
    assert (john.kind, john.external, john.settings["ServiceClass"]) == ("TextMailbox", True, "gold")
    assert (john.settings["UseSysPassword"], "Password" in john.settings) == ("YES", False)


@pytest.mark.parametrize("executed", [False, True])
def test_the_server_leaves_after_every_command(
    rows: Path, config: Path, communigate: CommuniGate, capsys: pytest.CaptureFixture[str], executed: bool
) -> None:
    """However far a run came, the next one makes the rest, and leaves what somebody else had made as it was."""
    directory, faults = communigate.directory, communigate.cli.faults
    arguments = (rows, "--format", "tab", "--domain", "example.com", "--apply", "--config", config, "--json")
    directory.create_account("bob@example.com", {"RealName": "Another Bob"})
    for commands in range(8):
        faults.clear()
        for verb in ("GETACCOUNTSETTINGS", "CREATEACCOUNT", "SETACCOUNTALIASES"):
            faults.cut(verb, times=None, skip=commands // 2, executed=executed)
        run(*arguments, "--jobs", 1)
        faults.clear()
        capsys.readouterr()
        assert run(*arguments, "--resume") == 1
        assert told(capsys)[1] == {"done": 2, "exists": 1}
        john, bob = directory.account("john@example.com"), directory.account("bob@example.com")
        assert (john.accepts(b"password"), john.aliases) == (True, ["jd", "j.doe"])
        assert (bob.settings, bob.aliases) == ({"RealName": "Another Bob"}, [])
        for name in ("john", "ann"):
            directory.delete_account(directory.account(f"{name}@example.com"))
        rows.with_name("rows.journal").unlink()


def test_two_runs_with_one_journal(rows: Path, config: Path, communigate: CommuniGate) -> None:
    journal = rows.with_name("rows.journal")
    arguments = (rows, "--format", "tab", "--domain", "example.com", "--apply", "--config", config, "--resume")
    with CreationJournal(journal, f"cli://127.0.0.1:{communigate.cli.port}"):
        assert run(*arguments) == 65
    assert communigate.directory.find("john@example.com") is None
    assert run(*arguments) == 0


def test_another_servers_journal(rows: Path, config: Path) -> None:
    rows.with_name("rows.journal").write_text("# accounts made at 192.0.2.1:106\n")
    arguments = (rows, "--format", "tab", "--domain", "example.com", "--apply", "--config", config, "--resume")
    assert run(*arguments) == 65


@pytest.mark.parametrize(
    "wrong",
    [
        ("--resume",), ("--set", "A=b"), ("--new-name",), ("--hashes", "h"), ("--shadow", "s"), ("--delimiter", ",,"),
        ("--domain", "a b"), ("--same-domain", "x.test"), ("--columns", "X=y"), ("--no-header",), ("--output", "ROWS"),
    ],
)  # fmt: skip
def test_usage(rows: Path, wrong: tuple[str, ...]) -> None:
    arguments = [str(rows) if word == "ROWS" else word for word in wrong]
    assert run(rows, "--format", "tab", *arguments) == 64
    assert rows.read_text() == ROWS


def test_files_that_cannot_be_used(tmp_path: Path, rows: Path) -> None:
    assert run(tmp_path / "none", "--format", "csv") == 65
    assert run(rows, "--format", "csv") == 65  # no column Name
    assert run(rows, "--format", "tab", "--domain", "example.com", "--output", tmp_path / "no" / "file") == 73


def test_what_is_to_be_set_beside_the_accounts(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Use OS Password, External INBOX and the password encryption, with the command or page that each takes."""
    arguments = (rows, "--format", "tab", "--domain", "example.com")
    for more, words in {
        ("--output", tmp_path / "a"): ["`clear` or `A-crpt`"],
        ("--ldap-output", tmp_path / "b"): ["`clear` or `A-crpt`"],
        ("--output", tmp_path / "c", "--passwords", "os"): [
            "cgcli 'UpdateAccountTemplate example.com {UseSysPassword = YES; Password = \"\";}'"
        ],
        ("--external-inbox",): ["`clear`", "CreateAccount name@example.com TextMailbox external", "/var/mail/*"],
    }.items():
        run(*arguments, *more)
        out = [line for line in capsys.readouterr().out.splitlines() if line.startswith("to set: ")]
        assert len(out) == len(words)
        assert all(word in line for word, line in zip(words, out, strict=True))
    assert "UseSysPassword" in (tmp_path / "c").read_text().splitlines()[0]
    assert "unixPassword:" in (tmp_path / "b").read_text()
    run(*arguments, "--external-inbox", "--json")
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["to_set"]) == 3
