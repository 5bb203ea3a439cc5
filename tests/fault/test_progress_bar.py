"""The programs on a terminal (a pty) and in a pipe: a bar or lines, and a clean stdout."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.servers.copy_pair import fill
from tests.servers.memory_imap import MemoryImap

ROOT = Path(__file__).resolve().parents[2]
ESCAPE = "\x1b["


@asynccontextmanager
async def servers() -> AsyncIterator[list[str]]:
    async with MemoryImap() as old, MemoryImap() as new:
        new.boxes[b"INBOX"].uidvalidity = 77  # not the same mailbox
        fill(old, 30)
        fill(old, 5, b"Sent")
        old.boxes[b"Sent"].uidvalidity = 78  # both accounts are one at these servers: none may look like its own copy
        yield [f"127.0.0.1:{old.port}", "john", "one", f"127.0.0.1:{new.port}", "john", "two"]


async def run(directory: Path, arguments: list[str], *, terminals: str, program: str = "move_imap") -> tuple[str, str]:
    """Exit code 0; what came to stdout, and what came to stderr. Those named in `terminals` are one pty."""
    own = {"EXTAUTH_MOVES": str(directory / "m.db"), "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "120"}
    environment = {**os.environ, **own}
    master, slave = os.openpty()
    os.set_blocking(master, False)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *([program] if program.endswith(".py") else ["-m", f"migrator.{program}"]), *arguments,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=slave if "stdout" in terminals else asyncio.subprocess.PIPE,
        stderr=slave if "stderr" in terminals else asyncio.subprocess.PIPE,
    )  # fmt: skip
    os.close(slave)
    drawn = bytearray()
    ended = asyncio.Event()

    def read() -> None:
        try:
            piece = os.read(master, 1 << 16)
        except OSError:  # EIO: nobody has the other end any more
            piece = b""
        drawn.extend(piece)
        if not piece:
            asyncio.get_running_loop().remove_reader(master)
            ended.set()

    asyncio.get_running_loop().add_reader(master, read)
    output, errors = await process.communicate()
    await ended.wait()
    os.close(master)
    assert process.returncode == 0, (output, errors, drawn)
    terminal = drawn.decode()
    return (
        terminal if "stdout" in terminals else (output or b"").decode(),
        terminal if "stderr" in terminals else (errors or b"").decode(),
    )


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


async def test_a_bar_on_the_terminal_and_a_clean_pipe(tmp_path: Path) -> None:
    async with servers() as places:
        output, drawn = await run(tmp_path, places, terminals="stderr")
        assert output == "2 mailboxes: 35 messages, 35 copied\n"
        assert ESCAPE in drawn
        assert re.search(r"copied .*35/\?", plain(drawn))


async def test_both_on_one_terminal_end_with_the_report_alone(tmp_path: Path) -> None:
    async with servers() as places:
        shown, _ = await run(tmp_path, ["--verbose", *places], terminals="stdout stderr")
        assert "35/?" in plain(shown)
        assert "messages," not in plain(shown).split("mailbox ")[0], "no lines beside the bar"
        assert shown.splitlines()[-1] == "2 mailboxes: 35 messages, 35 copied"


async def test_json_with_a_bar_beside_it(tmp_path: Path) -> None:
    async with servers() as places:
        output, drawn = await run(tmp_path, ["--json", "--verbose", *places], terminals="stderr")
        value = json.loads(output)
        assert (value["totals"]["copied"], value["exit_code"]) == (35, 0)
        assert ESCAPE in drawn


async def test_json_on_a_terminal_stands_there_alone(tmp_path: Path) -> None:
    async with servers() as places:
        shown, _ = await run(tmp_path, ["--json", *places], terminals="stdout stderr")
        assert ESCAPE not in shown
        assert json.loads(shown)["totals"]["copied"] == 35


async def test_lines_where_there_is_no_terminal(tmp_path: Path) -> None:
    async with servers() as places:
        output, errors = await run(tmp_path, ["--verbose", *places], terminals="")
        assert errors == ""
        assert ESCAPE not in output
        assert re.search(r"(?m)^INBOX: 30 of 30 messages, \d+ bytes$", output)
        assert re.search(r"(?m)^all +35 +35 +0 +0$", output)


async def test_accounts_have_a_bar_of_their_own(tmp_path: Path) -> None:
    async with servers() as places:
        (tmp_path / "list").write_text("Name\tPassword\nanna\tx\nbert\ty\n")
        arguments = ["--IMAP", str(tmp_path / "list"), places[0], places[3]]
        output, drawn = await run(tmp_path, arguments, terminals="stderr", program="move_accounts")
        assert ESCAPE not in output
        assert sorted(line.split(":")[0] for line in output.splitlines()) == ["2 accounts", "anna", "bert"]
        assert "2/2" in plain(drawn)


_DRIVER = """
from migrator.progress_bar import ProgressBar
from migrator.report import Progress
bar = ProgressBar()
bar.count_accounts(3)
bar.tell("anna: ", Progress("INBOX", 10, 40, 5_000_000))
bar.tell("bert: ", Progress("[bold]Sent[/]", 1, 2, 10))
bar.draw()
bar.print_above("anna: a line [with brackets]")
bar.tell("bert: ", Progress("[bold]Sent[/]", 2, 2, 20))
bar.account_done("bert: ")
bar.draw()
bar.close()
"""


async def test_what_the_bar_shows(tmp_path: Path) -> None:
    (tmp_path / "migrator_driver.py").write_text(_DRIVER)
    _, drawn = await run(tmp_path, [], terminals="stderr", program=str(tmp_path / "migrator_driver.py"))
    shown = plain(drawn)
    assert re.search(r"anna: INBOX .*10/40 .*MB/s", shown)
    assert "[bold]Sent[/]" in shown, "a name is no markup"
    assert "anna: a line [with brackets]" in shown
    assert re.search(r"accounts .*1/3", shown)
    last = shown[shown.rindex("copied") :]
    assert "bert" not in last
    assert "12/?" in last
