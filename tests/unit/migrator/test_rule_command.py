"""`migrator rules` against the simulated CommuniGate: users' files shown, made, run again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from extauth.sandbox.communigate import CommuniGate
from tests.unit.migrator.test_alias_command import communigate, config, run, run_json, write_config

__all__ = ["communigate", "config"]  # fixtures


@pytest.fixture
def homes(tmp_path: Path) -> Path:
    """joe: a redirection that keeps; ann: vacation and procmail; zoe: no account; bob: a program; eve: nothing."""
    root = tmp_path / "home"
    files = {
        "joe/.forward": "\\joe, x@far.test\n",
        "ann/.forward": '\\ann, "|vacation ann", "|/usr/bin/procmail"\n',
        "ann/.vacation.msg": "Subject: Away\n\nI am away.\n",
        "ann/.procmailrc": "MAILDIR=$HOME/mail\n:0:\n* ^Subject:.*list\nLists/first\n:0\n! a@far.test\n",
        "zoe/.forward": "x@far.test\n",
        "postmaster/.forward": "x@far.test\n",
        "eve/.bashrc": "",
        "Bad Name/.forward": "x@far.test\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_rules_are_shown_made_and_found_again(
    communigate: CommuniGate, config: Path, homes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mailboxes that rules store into are made before them; what is left is a file of users."""
    arguments = ("rules", "--config", config, "--homes", homes, "--bad", tmp_path / "left")
    assert run(*arguments) == 1
    out = capsys.readouterr().out
    assert "joe@main.test: 1 account rule #Redirect: Mirror to x@far.test" in out
    accounts = communigate.directory.domains["main.test"].accounts
    assert accounts["joe"].mail_rules == []

    code, told = run_json(capsys, *arguments, "--apply")
    assert code == 1
    assert {choice["address"]: choice["result"] for choice in told["choices"]} == {
        "ann@main.test": "made", "joe@main.test": "made",
    }  # fmt: skip
    assert accounts["joe"].mail_rules == [["1", "#Redirect", [], [["Mirror to", "x@far.test"]]]]
    names = [rule[1] for rule in accounts["ann"].mail_rules]
    assert names == ["#Vacation", "procmail 2", "procmail 5"]
    assert accounts["ann"].store.find(b"Lists/first") is not None
    assert {entry["address"].partition("@")[0] for entry in told["undecided"]} == {"zoe", "postmaster", ""}

    left = (tmp_path / "left" / "users").read_text()
    assert "zoe\n" in left
    communigate.directory.create_account("zoe@main.test")
    code, told = run_json(capsys, *arguments, "--users", tmp_path / "left" / "users", "--apply")
    assert [choice["address"] for choice in told["choices"]] == ["zoe@main.test"]
    code, told = run_json(capsys, *arguments, "--apply")
    assert {choice["result"] for choice in told["choices"]} == {"there already"}


def test_a_rule_of_the_users_own_is_left(
    communigate: CommuniGate, config: Path, homes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same name with other words: nothing of this user is made."""
    ann = communigate.directory.domains["main.test"].accounts["ann"]
    ann.mail_rules = [["5", "procmail 5", [], [["Mirror to", "other@far.test"]]]]
    code, told = run_json(capsys, "rules", "--config", config, "--homes", homes, "--apply")
    assert code == 1
    results = {choice["address"]: choice["result"] for choice in told["choices"]}
    assert results["ann@main.test"] == "different"
    assert len(ann.mail_rules) == 1
    assert ann.store.find(b"Lists/first") is None


def test_links_pipes_and_large_files_are_not_read(
    communigate: CommuniGate, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A user must not make the administrator's program read another's file, or wait for ever."""
    homes = tmp_path / "home"
    secret = tmp_path / "secret"
    secret.write_text("a secret line\n")
    for name in ("joe", "ann", "zoe", "max"):
        (homes / name).mkdir(parents=True)
    (homes / "joe" / ".forward").symlink_to(secret)
    os.mkfifo(homes / "ann" / ".forward")
    (homes / "zoe" / ".forward").mkdir()
    (homes / "max" / ".forward").write_bytes(b"x" * (2 << 20))
    (homes / "link").symlink_to(tmp_path)
    code, told = run_json(capsys, "rules", "--config", config, "--homes", homes)
    assert code == 1
    reasons = [entry["reason"].rpartition(": ")[2] for entry in told["undecided"]]
    assert reasons == ["it is no plain file", "it is a link", "it is larger than 1048576 bytes", "it is no plain file"]
    assert "secret line" not in str(told)


def test_offline(tmp_path: Path, homes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody is asked, so every user is taken for an account."""
    config = write_config(tmp_path, 1)
    code, told = run_json(capsys, "rules", "--config", config, "--homes", homes, "--offline")
    assert code == 1
    assert {choice["address"] for choice in told["choices"]} == {"ann@main.test", "joe@main.test", "zoe@main.test"}
    assert run("rules", "--config", config, "--homes", homes, "--offline", "--apply") == 64


def test_programs_are_run_only_when_named(
    communigate: CommuniGate, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --execute the rule is only shown; with it, it is made, for the program as CommuniGate has it."""
    homes = tmp_path / "home"
    (homes / "joe").mkdir(parents=True)
    (homes / "joe" / ".forward").write_text('\\joe, "|/opt/tidy -u joe"\n')
    arguments = ("rules", "--config", config, "--homes", homes, "--apply")
    code, told = run_json(capsys, *arguments)
    joe = communigate.directory.domains["main.test"].accounts["joe"]
    assert (code, joe.mail_rules) == (1, [])
    assert "--execute /opt/tidy" in told["undecided"][0]["decide"]
    code, told = run_json(capsys, *arguments, "--execute", "/opt/tidy=/usr/local/bin/tidy")
    assert code == 0
    assert "runs as CommuniGate's user" in told["choices"][0]["why"]
    assert joe.mail_rules == [["3", "Execute", [], [["Execute", "/usr/local/bin/tidy -u joe"]]]]
    assert run(*arguments, "--execute", "tidy") == 64


def test_names_and_marks_of_other_systems(
    communigate: CommuniGate, config: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Latin-1 names, an editor's mark before the first line, names that differ in case, a line feed in a name."""
    homes = tmp_path / "home"
    for name, text in {
        b"J\xe9": b"x@far.test\n",
        b"a\nb": b"x@far.test\n",
        b"joe": b"\xef\xbb\xbfx@far.test\r\n",
        b"Ann": b"x@far.test\n",
        b"ann": b"y@far.test\n",
    }.items():
        directory = os.fsencode(homes) + b"/" + name
        os.makedirs(directory)
        with open(directory + b"/.forward", "wb") as file:
            file.write(text)
    left = tmp_path / "left"
    assert run("rules", "--config", config, "--homes", homes, "--apply", "--bad", left) == 1
    out = capsysbinary.readouterr().out
    assert b"J\\xe9" in out
    assert b"a\\x0ab" in out
    accounts = communigate.directory.domains["main.test"].accounts
    assert accounts["joe"].mail_rules == [["1", "#Redirect", [], [["Mirror to", "x@far.test"], ["Discard", "---"]]]]
    assert accounts["ann"].mail_rules == []
    users = [line for line in (left / "users").read_bytes().split(b"\n") if not line.startswith(b"#")]
    assert {b"J\xe9", b"Ann", b"ann"} < set(users)


def test_files_that_are_not_there(config: Path, tmp_path: Path) -> None:
    """65, and nothing is taken for an empty one."""
    assert run("rules", "--config", config, "--homes", tmp_path / "none", "--offline") == 65
    assert run("rules", "--config", config, "--homes", config, "--offline") == 65
    assert run("rules", "--config", config, "--homes", tmp_path, "--users", tmp_path / "no", "--offline") == 65


def test_names_that_have_no_directory_are_told(
    communigate: CommuniGate, config: Path, homes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of users with an editor's mark and Windows' line ends; a misspelt name is not passed over."""
    users = tmp_path / "users"
    users.write_bytes(b"\xef\xbb\xbfjoe\r\njoey\r\n")
    code, told = run_json(capsys, "rules", "--config", config, "--homes", homes, "--users", users)
    assert (code, [choice["address"] for choice in told["choices"]]) == (1, ["joe@main.test"])
    assert [(entry["address"], "no directory" in entry["reason"]) for entry in told["undecided"]] == [("joey", True)]
    assert run("rules", "--config", config, "--homes", homes, "--users", users) == 1
    assert "UNDECIDED joey: " in capsys.readouterr().out
