"""Arguments, password files, account lists and exit codes of the three Move programs; no server is asked."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from types import ModuleType

import pytest

from migrator import move_accounts, move_imap, move_pop
from migrator.access import Access
from migrator.account_list import BadFile, parse_accounts
from migrator.move_imap import copy_key
from migrator.move_program import (
    UsageTrouble,
    exit_code,
    moves_path,
    only_once,
    read_passwords,
    read_server,
)
from migrator.options import CopyOptions, flags
from migrator.report import (
    CopyInterrupted,
    MailboxReport,
    RefusedMessage,
    Report,
    SameMailbox,
    SourceRefused,
    TargetRefused,
)
from wire.outcome import MailboxUnavailable, ProtocolTrouble, SetupTrouble, Temporary, Trouble
from wire.secret import Secret


@pytest.fixture(autouse=True)
def own_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the marks of whoever runs it."""
    monkeypatch.setenv("EXTAUTH_MOVES", str(tmp_path / "state" / "moves.db"))


IMAP = ["127.0.0.1:1", "john", "secret1", "127.0.0.1:1", "johnNew", "secret2"]
POP = ["127.0.0.1:1", "john", "secret1", "127.0.0.1:1", "john"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        IMAP[:5],
        [*IMAP, "more"],
        ["--nosuch", *IMAP],
        ["--newCLI", "imap://new", *IMAP],
        ["--fixLongLines", "1", *IMAP],
        ["--filter", "sometimes", "x", *IMAP],
        ["pop3://old", *IMAP[1:]],
        ["old:0", *IMAP[1:]],
        ["", *IMAP[1:]],
        ["old", "john", "", *IMAP[3:]],
        ["--oldPasswordFile", "/nonexistent", *IMAP],
        ["--sourceUser", "a", "--proxyAuth", "b", *IMAP],
    ],
)
def test_move_imap_refuses_what_it_cannot_use(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert move_imap.main(arguments) == 64
    said = capsys.readouterr().err
    assert "usage: MoveIMAPMail" in said
    assert "secret1" not in said


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        POP[:4],
        ["--byOne", *POP],
        ["--skipMailbox", "x", *POP],
        ["imap://old", *POP[1:]],
        [*POP[:3], "imap://new", "john"],  # without a password for it
    ],
)
def test_move_pop_refuses_what_it_cannot_use(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert move_pop.main(arguments) == 64
    assert "usage: MovePOPMail" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_69(capsys: pytest.CaptureFixture[str]) -> None:
    assert move_imap.main(IMAP) == 69
    assert move_pop.main(POP) == 69
    assert "secret1" not in capsys.readouterr().err


def test_marks_that_cannot_be_written_are_73(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("not a directory")
    monkeypatch.setenv("EXTAUTH_MOVES", str(tmp_path / "file" / "moves.db"))
    assert move_imap.main(IMAP) == 73
    said = capsys.readouterr().err
    assert said.count("moves.db") == 1
    assert "$EXTAUTH_MOVES" in said


def test_the_marks_are_for_their_owner_alone(tmp_path: Path) -> None:
    move_imap.main(IMAP)
    path = tmp_path / "state" / "moves.db"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_where_the_marks_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXTAUTH_MOVES")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert moves_path() == tmp_path / "extauth" / "moves.db"
    monkeypatch.delenv("XDG_STATE_HOME")
    assert moves_path().name == "moves.db"


def test_one_copy_runs_once_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with only_once("a -> b"):
        with pytest.raises(Temporary, match="another process"), only_once("a -> b"):
            raise AssertionError("both inside")
        with only_once("a -> c"):
            pass
    with only_once("a -> b"):
        pass


def test_passwords_are_the_arguments_byte_for_byte() -> None:
    odd = os.fsdecode(b'p\xe4ss "x" ')
    old, new = read_passwords(odd, "-n", CopyOptions())
    assert (old.reveal(), new.reveal()) == (b'p\xe4ss "x" ', b"-n")


def test_passwords_from_files_and_stdin(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b" sp\xfcce \r\nignored\n")
    options = CopyOptions(old_password_file=str(file), new_password_file="-")
    old, new = read_passwords("*", "*", options, io.BytesIO(b"second\nthird\n"))
    assert (old.reveal(), new.reveal()) == (b" sp\xfcce ", b"second")
    both = CopyOptions(old_password_file="-", new_password_file="-")
    old, new = read_passwords("*", "*", both, io.BytesIO(b"first\r\nsecond"))
    assert (old.reveal(), new.reveal()) == (b"first", b"second")
    with pytest.raises(UsageTrouble, match="empty"):
        read_passwords("*", "*", both, io.BytesIO(b"only one\n"))


def _report(**changes: object) -> Report:
    box = MailboxReport("INBOX", "INBOX")
    for name, value in changes.items():
        setattr(box, name, value)
    return Report("a", "b", [box])


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (_report(), 0),
        (_report(messages=1, copied=1), 0),
        (_report(messages=1, refused=[RefusedMessage("1", 5, "bad")]), 1),
        (_report(held="made anew"), 1),
        (_report(doubled=1), 1),
        (_report(messages=3, copied=2), 1),  # one that nobody can explain
        (_report(postponed="later"), 75),
        (_report(postponed="later", held="too"), 1),
        (CopyInterrupted(Temporary("x"), _report()), 75),
        (Temporary("cannot connect"), 69),
        (Temporary("busy", code="UNAVAILABLE"), 75),
        (ProtocolTrouble("nonsense"), 76),
        (SourceRefused("no"), 77),
        (TargetRefused("no"), 77),
        (SetupTrouble("certificate"), 78),
        (SameMailbox("one"), 65),
        (MailboxUnavailable("no such recipient"), 1),
    ],
)
def test_exit_codes(end: Report | Trouble, code: int) -> None:
    assert exit_code(end) == code


def rows(data: bytes) -> list[tuple[bytes, bytes, bytes, bytes]]:
    parsed = parse_accounts(data)
    assert not any(row.trouble for row in parsed)
    return [(row.name, row.password.reveal(), row.new_name, row.new_password.reveal()) for row in parsed]


def test_the_guides_own_example() -> None:
    data = b"Name\tLimit\tPassword\njohn\t10K\tj27ss#45\njim\t120K\tdud-ee\ngeorge\t31M\tmia#hj!\n"
    assert rows(data)[0] == (b"john", b"j27ss#45", b"john", b"j27ss#45")
    assert [row[0] for row in rows(data)] == [b"john", b"jim", b"george"]


def test_new_names_and_new_passwords() -> None:
    data = b"\xef\xbb\xbfNewName\tName\tPassword\tNewPassword\r\nj@new\tj\t old \tn\xfcw\r\n\tk\tx\t\r\n\r\n"
    assert rows(data) == [
        (b"j", b" old ", b"j@new", b"n\xfcw"),
        (b"k", b"x", b"k", b"x"),
    ]


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"name\n", b"Name\tPass\nx\ty\n", b"Name\tName\tPassword\n", b"john\tx\n"]
)
def test_a_file_without_the_two_fields(data: bytes) -> None:
    with pytest.raises(BadFile):
        parse_accounts(data)


def test_bad_rows_are_told_apart_and_keep_the_others() -> None:
    data = b"Name\tPassword\n\tx\njohn\nok\tsecret\ntwice\ta\ntwice\tb\n"
    parsed = parse_accounts(data)
    assert [(row.line, bool(row.trouble)) for row in parsed] == [(2, True), (3, True), (4, False), (5, True), (6, True)]
    assert not any("secret" in repr(row) for row in parsed)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["file", "old"],
        ["--POP", "--IMAP", "file", "old", "new"],
        ["--jobs", "0", "file", "old", "new"],
        ["--jobs", "file", "old", "new"],
        ["--verbose", "file", "old", "new"],
        ["file", "old", "new", "--byOne"],  # a flag of IMAP
        ["--IMAP", "file", "old", "new", "stray"],
        ["--IMAP", "file", "old", "new", "--newCLI", "x:y"],
        ["--IMAP", "file", "old", "new", "--oldPasswordFile", "x"],
        ["--IMAP", "file", "old", "new", "--sourceUser", "x"],
        ["--IMAP", "file", "old", "new", "--targetUser", "x"],
        ["--IMAP", "file", "old", "new", "--proxyAuth", "x"],
        ["--report", "", "file", "old", "new"],
        ["--IMAP", "file", "smtp://old", "new"],
    ],
)
def test_move_accounts_refuses_what_it_cannot_use(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert move_accounts.main(arguments) == 64
    assert "usage: MoveAccounts" in capsys.readouterr().err


def test_a_list_that_cannot_be_read_is_65(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert move_accounts.main([str(tmp_path / "missing"), "old", "new"]) == 65
    (tmp_path / "list").write_bytes(b"no header\n")
    assert move_accounts.main([str(tmp_path / "list"), "old", "new"]) == 65
    assert "first line" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["--POP", "--IMAP"])
def test_a_line_for_every_account_and_no_password_anywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    (tmp_path / "list").write_bytes(b"Name\tPassword\na\tsecret1\n\tsecret2\nb\tsecret3\n")
    assert move_accounts.main([kind, "--jobs", "2", str(tmp_path / "list"), "127.0.0.1:1", "127.0.0.1:1"]) == 1
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert sorted(line.split(":")[0] for line in lines) == ["3 accounts", "a", "b", "line 3"]
    assert "secret" not in said.out + said.err
    (tmp_path / "list").write_bytes(b"Name\tPassword\na\tsecret1\n")
    assert move_accounts.main([kind, str(tmp_path / "list"), "127.0.0.1:1", "127.0.0.1:2"]) == 75


@pytest.mark.parametrize("program", [move_imap, move_pop, move_accounts])
def test_help_is_the_usage(program: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: ")


def test_help_names_every_flag() -> None:
    assert [flag for flag in flags() if flag not in move_imap.USAGE_TEXT.split()] == []
    assert [flag for flag in flags(pop=True) if flag not in move_pop.USAGE_TEXT.split()] == []


def test_a_copy_is_the_same_however_its_servers_are_written() -> None:
    def key(old: str, new: str) -> str:
        source, target = (Access(read_server(end, "imap"), b"john", Secret(b"x")) for end in (old, new))
        return copy_key(source, target, CopyOptions())

    assert key("old.test", "new.test") == key("OLD.test:143", "imap+starttls://New.Test")
    assert key("old.test", "new.test") != key("old.test:144", "new.test")


def test_an_account_list_of_a_macintosh() -> None:
    rows = parse_accounts(b"Name\tPassword\rjohn\tx\r\rjim\ty\r")
    assert [(row.line, row.name, row.password.reveal()) for row in rows] == [(2, b"john", b"x"), (4, b"jim", b"y")]
