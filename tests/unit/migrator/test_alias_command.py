"""`migrator aliases` against the simulated CommuniGate: shown, made, run again, stopped by what is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extauth.sandbox.communigate import CommuniGate
from migrator.__main__ import main
from tests.servers.communigate_thread import served_cli


@pytest.fixture
def communigate() -> Iterator[CommuniGate]:
    with served_cli("main.test") as server:
        server.add_domain("second.test")
        for name in ("joe@main.test", "ann@main.test", "bob@second.test"):
            server.directory.create_account(name)
        yield server


def write_config(directory: Path, cli: int, password: str = "sandbox admin") -> Path:
    path = directory / "extauth.toml"
    path.write_text(
        f'[communigate]\npassword = "{password}"\ncli = "127.0.0.1:{cli}"\nmain_domain = "main.test"\n'
        f'protected = ["postmaster"]\n[state]\nurl = "sqlite:///{directory}/state.db"\n'
        'public_key_file = "seal.pub"\nkey_file = "seal.key"\n'
        '[domains.default]\nimap = "127.0.0.1:1"\nnew = "refuse"\n'
    )
    path.chmod(0o600)
    return path


@pytest.fixture
def config(tmp_path: Path, communigate: CommuniGate) -> Path:
    return write_config(tmp_path, communigate.cli.port)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code is None or isinstance(ended.value.code, int)
    return ended.value.code or 0


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = run(*arguments, "--json")
    return code, json.loads(capsys.readouterr().out)


ALIASES = """\
# everything that can be made
j.smith: joe
js: j.smith
sales: shop@far.test
team: joe, ann, x@far.test
ann: \\ann, a@far.test
news: :include:/etc/mail/news
owner-news: joe
trash: /dev/null
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    root = tmp_path / "old"
    (root / "etc" / "mail").mkdir(parents=True)
    (root / "etc" / "aliases").write_text(ALIASES)
    (root / "etc" / "mail" / "news").write_text("joe\nReader <r@far.test>\n# none\n")
    return root


def test_what_is_shown_is_made_and_a_second_run_adds_nothing(
    communigate: CommuniGate, config: Path, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The dry run changes nothing; applying makes everything and reads it back; again, all is there already."""
    arguments = ("aliases", "--config", config, "--aliases", files / "etc" / "aliases", "--root", files)
    domain = communigate.directory.domains["main.test"]
    assert run(*arguments) == 0
    shown = capsys.readouterr().out
    assert "sales@main.test: forwarder shop@far.test (one address elsewhere: shop@far.test)" in shown
    assert "8 entries: " in shown
    assert not domain.forwarders
    assert not domain.aliases

    code, told = run_json(capsys, *arguments, "--apply", "--router")
    assert code == 0
    assert {choice["result"] for choice in told["choices"]} == {"made"}
    assert domain.forwarders == {"sales": "shop@far.test"}
    assert domain.groups["team"]["Members"] == ["joe", "ann", "x@far.test"]
    assert sorted(domain.accounts["joe"].aliases) == ["j.smith", "js", "owner-news"]
    assert domain.lists["news"]["Owner"] == "joe"
    assert list(domain.subscribers["news"]) == ["joe@main.test", "r@far.test"]
    assert domain.accounts["ann"].mail_rules == [["1", "#Redirect", [], [["Mirror to", "a@far.test"]]]]
    assert communigate.directory.router_table == "<trash@main.test> = NULL\n"

    code, told = run_json(capsys, *arguments, "--apply", "--router")
    assert code == 0
    assert {choice["result"] for choice in told["choices"]} == {"there already"}


def test_what_is_there_is_never_changed(
    communigate: CommuniGate, config: Path, files: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Other objects under the names, other rules, another Router line: told as different, exit 1, and left."""
    directory = communigate.directory
    domain = directory.domains["main.test"]
    domain.forwarders |= {"sales": "other@far.test", "team": "x@far.test", "js": "y@far.test"}
    domain.lists["news"] = {"Owner": "joe"}
    domain.subscribers["news"] = {"stranger@far.test": "subscribe"}
    domain.accounts["ann"].mail_rules = [["1", "#Redirect", [], [["Mirror to", "mine@far.test"]]]]
    directory.router_table = "<Trash@main.test> = joe ; mine\n"
    arguments = ("aliases", "--config", config, "--aliases", files / "etc" / "aliases", "--root", files)
    left = tmp_path / "left"
    code, told = run_json(capsys, *arguments, "--apply", "--router", "--bad", left)
    assert code == 1
    results = {choice["address"].partition("@")[0]: choice["result"] for choice in told["choices"]}
    assert results == {
        "j.smith": "made", "owner-news": "made", "js": "different", "sales": "different", "team": "different",
        "news": "different", "ann": "different", "trash": "different",
    }  # fmt: skip
    assert domain.forwarders == {"sales": "other@far.test", "team": "x@far.test", "js": "y@far.test"}
    assert sorted(domain.accounts["joe"].aliases) == ["j.smith", "owner-news"]
    assert list(domain.subscribers["news"]) == ["stranger@far.test"]
    assert directory.router_table == "<Trash@main.test> = joe ; mine\n"
    domain.forwarders.clear()
    again = ("aliases", "--config", config, "--aliases", left / "aliases", "--root", files, "--apply")
    code, told = run_json(capsys, *again)
    results = {choice["address"].partition("@")[0]: choice["result"] for choice in told["choices"]}
    assert results == {
        "js": "made", "sales": "made", "team": "made", "news": "different", "ann": "different", "trash": "by hand",
    }  # fmt: skip


def test_a_list_that_a_crash_left_half_full_is_filled(
    communigate: CommuniGate, config: Path, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its owner is ours and none of its subscribers is a stranger."""
    domain = communigate.directory.domains["main.test"]
    domain.lists["news"] = {"Owner": "joe"}
    domain.subscribers["news"] = {"joe@main.test": "subscribe"}
    arguments = ("aliases", "--config", config, "--aliases", files / "etc" / "aliases", "--root", files, "--apply")
    code, _ = run_json(capsys, *arguments)
    assert code == 1  # the Router line is for a person
    assert list(domain.subscribers["news"]) == ["joe@main.test", "r@far.test"]


def test_bad_lines_and_undecided_entries_are_fed_back(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with its line and what to do; the file of what is left is an aliases file again."""
    path = tmp_path / "aliases"
    path.write_text("ok: joe\nbroken\nprog: |/bin/x -a\nring: ring2\nring2: ring\nnobody: nowhere\n")
    left = tmp_path / "left"
    code, told = run_json(capsys, "aliases", "--config", config, "--aliases", path, "--bad", left)
    assert code == 1
    assert [entry["line"] for entry in told["undecided"]] == [2, 3, 4, 5, 6]
    assert all(entry["decide"] for entry in told["undecided"])
    text = (left / "aliases").read_text()
    assert 'prog: "|/bin/x -a"\n' in text
    assert f"# {path}:2: there is no colon behind the name. To do: " in text
    code, again = run_json(capsys, "aliases", "--config", config, "--aliases", left / "aliases")
    assert code == 1
    assert len(again["undecided"]) == 5


def test_all_kinds_of_files_at_once(
    communigate: CommuniGate, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """virtual, virtusertable, genericstable and subscribers; the list takes its helper aliases with it."""
    (tmp_path / "aliases").write_text("l: |mailman post l\nl-request: |mailman request l\nowner-l: joe\n")
    (tmp_path / "virtual").write_text("b2@second.test bob@second.test\n")
    (tmp_path / "virtuser").write_text("x@far.test joe\n")
    (tmp_path / "generics").write_text("joe joe.smith@main.test\nann ann@elsewhere.test\n")
    (tmp_path / "members").write_text("a@far.test\nb@far.test (B)\nno address\n")
    code, told = run_json(
        capsys, "aliases", "--config", config, "--aliases", tmp_path / "aliases", "--virtual", tmp_path / "virtual",
        "--virtusertable", tmp_path / "virtuser", "--genericstable", tmp_path / "generics",
        "--list", f"l={tmp_path / 'members'}", "--apply", "--router",
    )  # fmt: skip
    assert code == 1
    lists = [choice["becomes"] for choice in told["choices"] if choice["address"] == "l@main.test"]
    assert sorted(lists) == ["mailing list", "nothing to do"]
    becomes = {choice["address"]: (choice["becomes"], choice["result"]) for choice in told["choices"]}
    assert becomes["l-request@main.test"] == ("nothing to do", "nothing to do")
    assert becomes["b2@second.test"] == ("account alias", "made")
    assert becomes["x@far.test"] == ("router line", "made")
    assert becomes["joe.smith@main.test"] == ("account alias", "made")
    assert sorted(communigate.directory.domains["main.test"].subscribers["l"]) == ["a@far.test", "b@far.test"]
    assert {entry["reason"] for entry in told["undecided"]} == {
        "CommuniGate does not rewrite senders by a table",
        "'no address' is no address, command, file or :include:",
    }


def test_a_list_in_a_column(
    communigate: CommuniGate, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tab-delimited export; its bad rows are named by their lines, and a wrong column by what there is."""
    path = tmp_path / "export"
    path.write_text("Name\tAddress\tMode\nA, B\ta@far.test\tdigest\nC\nD\tno address\tx\nE\tE <e@far.test>\t\n")
    arguments = ("aliases", "--config", config, "--list", f"news={path}", "--list-owner", "joe", "--apply")
    code, told = run_json(capsys, *arguments, "--list-column", "address")
    assert code == 1
    assert list(communigate.directory.domains["main.test"].subscribers["news"]) == ["a@far.test", "e@far.test"]
    assert [entry["line"] for entry in told["undecided"]] == [4]
    code, told = run_json(capsys, *arguments, "--list-column", "2")
    assert [choice["result"] for choice in told["choices"]] == ["there already"]
    more = tmp_path / "more"
    more.write_text("d@far.test\n")
    again = ("aliases", "--config", config, "--list", f"news={more}", "--list-owner", "joe", "--apply")
    assert run(*again) == 1  # others are on it, so it may be another list
    assert run(*again, "--extend-lists") == 0
    assert len(communigate.directory.domains["main.test"].subscribers["news"]) == 3
    capsys.readouterr()
    assert run(*arguments, "--list-column", "Mail") == 65
    assert "the first line has: name, address, mode" in capsys.readouterr().err


def test_offline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody is asked: a name that no file defines is taken for an account."""
    config = write_config(tmp_path, 1)
    (tmp_path / "aliases").write_text("a: joe\nb: a\njoe: \\joe, x@far.test\nc: x@far.test\nd: c\n")
    code, told = run_json(capsys, "aliases", "--config", config, "--aliases", tmp_path / "aliases", "--offline")
    assert code == 0
    assert [choice["becomes"] for choice in told["choices"]] == [
        "account alias", "account alias", "account rule", "forwarder", "forwarder",
    ]  # fmt: skip
    assert run("aliases", "--config", config, "--aliases", tmp_path / "aliases", "--offline", "--apply") == 64


def test_exit_codes(communigate: CommuniGate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No server, a wrong login, a domain that is not there, no file: each its own code and a line that says why."""
    path = tmp_path / "aliases"
    path.write_text("a: joe\n")
    assert run("aliases", "--config", write_config(tmp_path, 1), "--aliases", path) == 69
    assert run("aliases", "--config", write_config(tmp_path, communigate.cli.port, "wrong"), "--aliases", path) == 77
    config = write_config(tmp_path, communigate.cli.port)
    assert run("aliases", "--config", config, "--aliases", path, "--domain", "none.test") == 65
    assert run("aliases", "--config", config) == 64
    assert run("aliases", "--config", config, "--aliases", tmp_path / "none") == 65
    assert run("aliases", "--config", config, "--list", "x") == 64
    assert "no domain none.test" in capsys.readouterr().err


def test_a_session_lost_while_making_is_later(
    communigate: CommuniGate, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was made is found by reading; what is unknown is told as LATER, and the next run ends it."""
    path = tmp_path / "aliases"
    path.write_text("".join(f"f{n}: x{n}@far.test\n" for n in range(40)))
    communigate.cli.faults.cut("CREATEFORWARDER", skip=10)
    communigate.cli.faults.cut("CREATEFORWARDER", skip=20, executed=True)
    communigate.cli.faults.cut("GETFORWARDER", skip=30)
    communigate.cli.faults.reply("CREATEFORWARDER", b"558 flow control", skip=35, times=2)
    arguments = ("aliases", "--config", config, "--aliases", path, "--apply")
    code, _ = run_json(capsys, *arguments)
    assert code == 75
    code, _ = run_json(capsys, *arguments)
    assert code == 0
    assert len(communigate.directory.domains["main.test"].forwarders) == 40


def test_a_bad_configuration_is_told_as_every_command_tells_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """FILE:LINE: key: text, as a compiler would, with nothing before it."""
    path = tmp_path / "extauth.toml"
    path.write_text("[communigate]\nlogon = 'x'\n")
    (tmp_path / "aliases").write_text("a: b\n")
    for words in (["aliases", "--aliases", str(tmp_path / "aliases")], ["left"], ["rules", "--homes", str(tmp_path)]):
        assert run(*words, "--config", path) == 78
        assert f"{path}:2: communigate.logon: unknown key\n" in [*capsys.readouterr().err.splitlines(keepends=True)]


def test_what_is_left_can_be_fed_back_as_it_is(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Byte for byte: a line that nobody mended is as bad as before, and never another name."""
    bad = b"J\xe9: joe\nx\x0b\xc2\x85y: joe\nz\x00: joe\n"
    for option, text in (
        ("--aliases", bad),
        ("--virtual", bad.replace(b":", b"@main.test")),
        ("--virtusertable", b"\xe9 j\n"),
    ):
        file, left = tmp_path / "file", tmp_path / "left"
        file.write_bytes(b"\xef\xbb\xbf# from Windows\r\n" + text)
        arguments = ("aliases", "--config", config, "--offline", "--bad", left, option)
        code, told = run_json(capsys, *arguments, file)
        assert (code, told["choices"]) == (1, [])
        assert b"".join(line + b"\n" for line in (left / "file").read_bytes().split(b"\n")[1::2]) == text
        code, again = run_json(capsys, *arguments, left / "file")
        assert [one["reason"] for one in again["undecided"]] == [one["reason"] for one in told["undecided"]]
        assert again["choices"] == []


def test_a_mark_before_the_first_entry(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As editors on Windows put it; it is no part of the name."""
    for option, text in (("--aliases", b"sales: joe\r\n"), ("--virtual", b"sales@main.test joe\r\n")):
        (tmp_path / "file").write_bytes(b"\xef\xbb\xbf" + text)
        _, told = run_json(capsys, "aliases", "--config", config, "--offline", option, tmp_path / "file")
        assert [choice["address"] for choice in told["choices"]] == ["sales@main.test"]


def test_files_that_cannot_be_read(config: Path, tmp_path: Path) -> None:
    """65: bad data, whichever file it is."""
    for option in ("--aliases", "--virtual", "--virtusertable", "--genericstable"):
        for path in (tmp_path / "none", tmp_path):
            assert run("aliases", "--config", config, "--offline", option, path) == 65
    assert run("aliases", "--config", config, "--offline", "--list", f"a={tmp_path / 'none'}") == 65
    assert run("aliases", "--config", config, "--offline", "--list", "a=") == 64


def test_a_line_for_the_pipe_module(
    communigate: CommuniGate, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its quotes reach the Router table as they are, and it is found again."""
    path = tmp_path / "aliases"
    path.write_text('fax: "|/opt/fax -q 1"\n')
    arguments = ("aliases", "--config", config, "--aliases", path, "--execute", "/opt/fax", "--router", "--apply")
    for result in ("made", "there already"):
        code, told = run_json(capsys, *arguments)
        assert (code, [choice["result"] for choice in told["choices"]]) == (0, [result])
        assert told["choices"][0]["values"] == ['<fax@main.test> = "fax -q 1"@pipe']
