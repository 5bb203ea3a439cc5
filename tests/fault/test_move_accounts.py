"""MoveAccounts over servers in memory: a thousand rows, a report that is always whole, resuming, stopping."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from migrator import move_accounts
from migrator.account_list import Row
from migrator.account_results import ResultsFile, RowResult
from tests.servers.copy_pair import fill
from tests.servers.memory_imap import MemoryImap

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def own_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXTAUTH_MOVES", str(tmp_path / "state" / "moves.db"))


@asynccontextmanager
async def servers() -> AsyncIterator[tuple[MemoryImap, MemoryImap, list[str]]]:
    """An old and a new server, whatever the login, and the arguments that name them."""
    async with MemoryImap() as old, MemoryImap() as new:
        fill(old, 1)
        new.boxes[b"INBOX"].uidvalidity = 77  # not the same mailbox
        yield old, new, [f"127.0.0.1:{old.port}", f"127.0.0.1:{new.port}"]


def make_list(directory: Path, names: list[str]) -> Path:
    path = directory / "list"
    path.write_text("Name\tPassword\n" + "".join(f"{name}\tsecret of {name}\n" for name in names))
    return path


async def run(*arguments: str) -> int:
    """The program in a thread of its own, beside the servers."""
    return await asyncio.to_thread(move_accounts.main, ["--IMAP", *arguments])


def report(path: Path) -> dict[str, dict[str, str]]:
    header, *lines = path.read_text().splitlines()
    rows = [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]
    return {row["Name"]: row for row in rows}


async def test_a_thousand_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with servers() as (_, new, places):
        names = [f"user{number}" for number in range(1000)]
        path = make_list(tmp_path, names)
        assert await run("--jobs", "8", str(path), *places) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1] == "1000 accounts: 1000 done, 0 not"
        assert sorted(line.split(":")[0] for line in lines[:-1]) == sorted(names)
        assert len(new.boxes[b"INBOX"].messages) == 1000
        found = report(tmp_path / "list.report")
        assert set(found) == set(names)
        assert {(row["Result"], row["ExitCode"], row["Copied"], row["Unexplained"]) for row in found.values()} == {
            ("done", "0", "1", "0")
        }
        assert stat.S_IMODE((tmp_path / "list.report").stat().st_mode) == 0o600
        assert "secret" not in (tmp_path / "list.report").read_text()


async def test_resume_tries_what_is_not_done_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with servers() as (old, new, places):
        path = make_list(tmp_path, ["a", "b", "c"])
        answers = iter([b"OK in", b"NO [UNAVAILABLE] the mailbox is locked", b"NO [AUTHENTICATIONFAILED] wrong"])
        old.accepts_login = lambda: next(answers)
        arguments = ["--jobs", "1", "--report", str(tmp_path / "done.txt"), str(path), *places]
        assert await run(*arguments) == 1
        found = report(tmp_path / "done.txt")
        assert [(found[name]["Result"], found[name]["ExitCode"]) for name in "abc"] == [
            ("done", "0"),
            ("later", "75"),
            ("not copied", "77"),
        ]
        assert "locked" in found["b"]["Reason"]

        logins: list[int] = []

        def accepts_login() -> bytes:
            logins.append(1)
            return b"OK in"

        old.accepts_login = accepts_login
        assert await run("--resume", *arguments) == 0
        assert len(logins) == 2
        assert {row["Result"] for row in report(tmp_path / "done.txt").values()} == {"done"}
        assert "3 accounts: 3 done" in capsys.readouterr().out
        assert len(new.boxes[b"INBOX"].messages) == 3

        assert await run(*arguments) == 0  # everything is looked at again, and nothing is doubled
        assert len(logins) == 5
        assert len(new.boxes[b"INBOX"].messages) == 3


async def test_what_is_done_between_other_servers_is_not_done(tmp_path: Path) -> None:
    async with servers() as (_, first, places), MemoryImap() as second:
        second.boxes[b"INBOX"].uidvalidity = 78
        path = make_list(tmp_path, ["a"])
        assert await run(str(path), *places) == 0
        assert await run(str(path), places[0], f"127.0.0.1:{second.port}", "--resume") == 0
        assert [len(server.boxes[b"INBOX"].messages) for server in (first, second)] == [1, 1]


async def test_json_is_one_object_with_every_account(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with servers() as (old, _, places):
        path = tmp_path / "list"
        path.write_bytes(b"Name\tPassword\tNewName\na\tx\ta2\n\tx\nb\tx\n")
        answers = iter([b"OK in", b"NO [AUTHENTICATIONFAILED] wrong"])
        old.accepts_login = lambda: next(answers)
        assert await run(str(path), *places, "--json", "--jobs", "1", "--verbose") == 1
        value = json.loads(capsys.readouterr().out)
        assert value["exit_code"] == 1
        assert [(one["name"], one["new_name"], one["line"], one["exit_code"]) for one in value["accounts"]] == [
            ("a", "a2", 2, 0),
            ("", "", 3, 65),
            ("b", "b", 4, 77),
        ]
        assert value["accounts"][0]["report"]["totals"]["copied"] == 1
        assert value["accounts"][2]["report"] is None


async def test_a_dry_run_leaves_no_file_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with servers() as (_, new, places):
        path = make_list(tmp_path, ["a", "b"])
        assert await run(str(path), *places, "--dry-run") == 0
        assert "1 to copy" in capsys.readouterr().out
        assert sorted(os.listdir(tmp_path)) == ["list"]
        assert new.boxes[b"INBOX"].messages == []


async def test_nothing_begins_where_the_report_cannot_be_written_or_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with servers() as (old, _, places):
        path = make_list(tmp_path, ["a"])
        assert await run("--report", str(tmp_path / "missing" / "report"), str(path), *places) == 73
        assert await run("--resume", "--report", str(path), str(path), *places) == 73
        assert "not a report" in capsys.readouterr().err
        assert "secret of a" in path.read_text(), "the list itself is not overwritten"
        assert old.log == []


async def test_an_interrupted_run_leaves_a_whole_report(tmp_path: Path) -> None:
    async with servers() as (old, _, places):
        path = make_list(tmp_path, ["a", "b", "c", "d"])
        waiting = asyncio.Event()
        ready = asyncio.Event()

        async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ready.set()
            await waiting.wait()
            writer.close()

        silent = await asyncio.start_server(hold, "127.0.0.1", 0)
        port = silent.sockets[0].getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "migrator.move_accounts", "--IMAP", "--jobs", "2",
            str(path), f"127.0.0.1:{port}", places[1], "--json", "--notimeout",
            env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=-1, stderr=-1,
        )  # fmt: skip
        await ready.wait()
        process.send_signal(signal.SIGINT)
        output, errors = await process.communicate()
        assert process.returncode == 130
        assert b"Traceback" not in errors
        assert json.loads(output)["exit_code"] == 130
        assert {row["Result"] for row in report(tmp_path / "list.report").values()} == {"interrupted"}
        assert await run("--resume", str(path), *places) == 0
        waiting.set()
        silent.close()
        assert len(old.log) > 0


def test_a_full_disk_stops_no_copy_and_is_said_in_the_end(tmp_path: Path) -> None:
    directory = tmp_path / "reports"
    directory.mkdir()
    results = ResultsFile(directory / "r", "old -> new", clock=iter(range(0, 1000, 10)).__next__)
    results.write()
    (directory / "r").unlink()
    directory.rmdir()
    row = Row(2, b"a")
    results.note(RowResult(row, "done", 0, "", "a\treason\nin lines"))
    with pytest.raises(OSError, match="reports"):
        results.close()
    directory.mkdir()
    results.close()
    assert report(directory / "r")["a"]["Reason"] == "a reason in lines"
    assert os.listdir(directory) == ["r"]
