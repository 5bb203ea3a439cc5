"""The Move programs as they are called, against real servers; and copies by POP."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.corpus import Message, mixed, spread_date, stored_form
from tests.servers.dovecot import Dovecot
from tests.servers.raw_imap import RawImap

ROOT = Path(__file__).resolve().parents[2]
OLD = {name: f"old {name}".encode() for name in ("imap", "pop", "date", "a", "b", "c")}
NEW = {name: f"new {name}".encode() for name in (*OLD, "b.new")}


@pytest.fixture(scope="module")
def old() -> Iterator[Dovecot]:
    with Dovecot(OLD, separator=".") as server:
        yield server


@pytest.fixture(scope="module")
def new() -> Iterator[Dovecot]:
    with Dovecot(NEW, separator="/", storage="sdbox") as server:
        yield server


async def run(program: str, directory: Path, *arguments: str, stdin: bytes = b"") -> tuple[int | None, str, str]:
    """Run a program to its end: exit code, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"migrator.{program}", *arguments,
        env={**os.environ, "EXTAUTH_MOVES": str(directory / "moves.db"), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate(stdin)
    return process.returncode, output.decode(), errors.decode()


def fill(server: Dovecot, login: str, messages: list[Message], mailbox: bytes = b"INBOX") -> None:
    with RawImap(server.host, server.imap_port, login, server.users[login]) as raw:
        if mailbox != b"INBOX":
            raw.create(mailbox)
        raw.append(mailbox, [one.content for one in messages], (), [spread_date(at) for at in range(len(messages))])


def contents(server: Dovecot, login: str, mailbox: bytes = b"INBOX") -> list[bytes]:
    with RawImap(server.host, server.imap_port, login, server.users[login]) as raw:
        return [one.content for one in raw.messages(mailbox)]


async def test_move_imap_mail(old: Dovecot, new: Dovecot, tmp_path: Path) -> None:
    messages = mixed(30, 1)
    fill(old, "imap", messages)
    fill(old, "imap", messages[:5], b"Sent.old")
    fill(old, "imap", messages[:3], b"Trash")
    plan = ["--dry-run", f"127.0.0.1:{old.imap_port}", "imap", "old imap", f"127.0.0.1:{new.imap_port}", "imap"]
    code, output, errors = await run("move_imap", tmp_path, *plan, "new imap")
    assert (code, errors) == (0, "")
    assert "Sent.old -> Sent/old (to be created): 5 to copy (" in output
    assert contents(new, "imap") == []
    with RawImap(new.host, new.imap_port, "imap", new.users["imap"]) as raw:
        assert set(raw.mailboxes()) == {b"INBOX"}
    places = [f"127.0.0.1:{old.imap_port}", "imap", "*", f"imap://127.0.0.1:{new.imap_port}", "imap", "*"]
    flags = ["--oldPasswordFile", "-", "--newPasswordFile", "-", "--skipMailbox", "Trash"]
    code, output, errors = await run("move_imap", tmp_path, "--verbose", *flags, *places, stdin=b"old imap\nnew imap\n")
    assert (code, errors) == (0, "")
    assert "INBOX: 30 of 30 messages" in output
    assert "Trash: not copied: left out as asked" in output
    assert contents(new, "imap") == [one.content for one in messages]
    assert contents(new, "imap", b"Sent/old") == [one.content for one in messages[:5]]

    code, output, errors = await run("move_imap", tmp_path, "--json", *flags, *places, stdin=b"old imap\nnew imap\n")
    report = json.loads(output)
    assert (code, report["totals"]["copied"], report["totals"]["already"]) == (0, 0, 35)

    code, output, errors = await run("move_imap", tmp_path, *flags, *places, stdin=b"wrong\nnew imap\n")
    assert (code, output) == (77, "")
    assert "wrong" not in errors
    code, output, errors = await run("move_imap", tmp_path, "--json", *flags, *places, stdin=b"wrong\nnew imap\n")
    trouble = json.loads(output)
    assert (code, trouble["exit_code"]) == (77, 77)
    assert "login refused" in trouble["error"]

    code, output, errors = await run("move_imap", tmp_path, "--delete", *flags, *places, stdin=b"old imap\nnew imap\n")
    assert (code, contents(old, "imap"), len(contents(old, "imap", b"Trash"))) == (0, [], 3)
    assert len(contents(new, "imap")) == 30


async def test_passwords_as_arguments_as_the_guide_has_it(old: Dovecot, new: Dovecot, tmp_path: Path) -> None:
    fill(old, "date", mixed(3, 9))
    code, output, errors = await run(
        "move_imap", tmp_path, "--filter", "before", "14-Feb-2009",
        f"127.0.0.1:{old.imap_port}", "date", "old date", f"127.0.0.1:{new.imap_port}", "date", "new date",
    )  # fmt: skip
    assert (code, errors) == (0, "")
    assert "1 copied" in output
    assert "2 left out" in output


async def test_move_pop_mail_appends_every_odd_message(
    old: Dovecot, new: Dovecot, corpus: list[Message], tmp_path: Path
) -> None:
    fill(old, "pop", corpus)
    (tmp_path / "new").write_bytes(b"new pop\n")
    arguments = [
        "--json", "--newPasswordFile", str(tmp_path / "new"),
        f"127.0.0.1:{old.pop3_port}", "pop", "old pop", f"imap://127.0.0.1:{new.imap_port}", "pop",
    ]  # fmt: skip
    code, output, errors = await run("move_pop", tmp_path, "--dry-run", *arguments)
    planned = json.loads(output)
    assert (code, errors, planned["dry_run"], planned["totals"]["to_copy"]) == (0, "", True, len(corpus))
    assert not (tmp_path / "moves.db").exists()
    assert contents(new, "pop") == []

    code, output, errors = await run("move_pop", tmp_path, *arguments)
    assert (code, errors) == (0, "")
    assert json.loads(output)["totals"]["copied"] == len(corpus)
    expected = [stored_form(content) for content in contents(old, "pop")]
    arrived = contents(new, "pop")
    # POP ends every message with a line end (RFC 1939 3); everything else is as it was.
    ended = [content if content.endswith(b"\r\n") else content + b"\r\n" for content in expected]
    assert arrived == ended

    code, output, errors = await run("move_pop", tmp_path, *arguments)
    assert (code, json.loads(output)["totals"]["copied"]) == (0, 0)
    code, output, errors = await run("move_pop", tmp_path, "--dry-run", *arguments)
    assert (json.loads(output)["totals"]["to_copy"], json.loads(output)["totals"]["already"]) == (0, len(corpus))
    code, output, errors = await run("move_pop", tmp_path, "--delete", *arguments)
    assert (code, contents(old, "pop"), len(contents(new, "pop"))) == (0, [], len(corpus))


async def test_move_accounts(old: Dovecot, new: Dovecot, tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b", "c")):
        fill(old, name, mixed(4 + number, number))
    (tmp_path / "list").write_bytes(
        b"Name\tLimit\tPassword\tNewName\tNewPassword\n"
        b"a\t1\told a\t\tnew a\n"
        b"nobody\t1\twrong\t\tx\n"
        b"\t\t\t\t\n"
        b"broken row\n"
        b"b\t1\told b\tb.new\tnew b.new\n"
        b"c\t1\told c\t\tnew c\n"
    )
    places = [f"127.0.0.1:{old.imap_port}", f"127.0.0.1:{new.imap_port}"]
    code, output, errors = await run(
        "move_accounts", tmp_path, "--IMAP", "--jobs", "2", str(tmp_path / "list"), *places
    )
    lines = dict(line.split(": ", 1) for line in output.splitlines())
    assert (code, errors) == (1, "")
    assert "4 copied" in lines["a"]
    assert "5 copied" in lines["b"]
    assert "6 copied" in lines["c"]
    assert "login refused" in lines["nobody"]
    assert "cannot be used" in lines["broken row"]
    assert "wrong" not in output
    assert len(contents(new, "b.new")) == 5

    code, output, errors = await run(
        "move_accounts", tmp_path, "--IMAP", str(tmp_path / "list"), *places, "--nosubscription", "--skipMailbox", "x"
    )
    assert output.count(" 0 copied") == 3
