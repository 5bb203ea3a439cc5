"""Whole accounts between two Dovecots: maildir with `.` on one side, dbox with `/` on the other."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from migrator.access import Access
from migrator.ledger.marks import LedgerMarks
from migrator.ledger.store import Store
from migrator.mover import copy_account
from migrator.options import CopyOptions
from migrator.report import Report
from tests.servers.corpus import Message, mixed, spread_date, stored_form
from tests.servers.dovecot import Dovecot
from tests.servers.raw_imap import RawImap, Stored
from wire.endpoint import Endpoint
from wire.imap.names import encode_mailbox
from wire.secret import Secret

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = b' "old\\ #1234 \xfc\xc3\xbc '  # what people choose
NAMES = ("odd", "boxes", "big", "killed0", "killed1")
FLAGS = [(b"\\Seen",), (), (b"\\Answered", b"$Forwarded"), (b"\\Flagged", b"Urlaub2009"), (b"\\Draft", b"\\Deleted")]


@pytest.fixture(scope="module")
def old() -> Iterator[Dovecot]:
    with Dovecot(dict.fromkeys(NAMES, PASSWORD), separator=".") as server:
        yield server


@pytest.fixture(scope="module")
def new() -> Iterator[Dovecot]:
    with Dovecot(dict.fromkeys(NAMES, b"new"), separator="/", storage="sdbox") as server:
        yield server


class Account:
    """One user at both servers, with names of the test's own."""

    def __init__(self, old: Dovecot, new: Dovecot, name: str, directory: Path) -> None:
        self.old, self.new, self.name = old, new, name
        self.database = directory / "marks.db"

    def at_old(self) -> RawImap:
        return RawImap(self.old.host, self.old.imap_port, self.name, PASSWORD)

    def at_new(self) -> RawImap:
        return RawImap(self.new.host, self.new.imap_port, self.name, b"new")

    async def copy(self, options: CopyOptions | None = None) -> Report:
        store = Store(self.database)
        try:
            return await copy_account(
                Access(Endpoint("imap", self.old.host, self.old.imap_port), self.name.encode(), Secret(PASSWORD)),
                Access(Endpoint("imap", self.new.host, self.new.imap_port), self.name.encode(), Secret(b"new")),
                options or CopyOptions(timeout=60),
                LedgerMarks(store, self.name),
            )
        finally:
            await store.close()


def fill(account: Account, messages: list[Message], mailbox: bytes = b"INBOX") -> None:
    with account.at_old() as raw:
        if mailbox != b"INBOX":
            raw.create(mailbox)
        for start in range(len(FLAGS)):
            part = range(start, len(messages), len(FLAGS))
            raw.append(
                mailbox,
                [messages[number].content for number in part],
                FLAGS[start],
                [spread_date(number) for number in part],
            )


def seen(stored: list[Stored]) -> Counter[tuple[bytes, frozenset[bytes], datetime]]:
    """Content, flags and moment of each message."""
    return Counter(
        (one.content, one.flags, datetime.strptime(one.internal_date.decode().strip(), "%d-%b-%Y %H:%M:%S %z"))
        for one in stored
    )


async def test_every_odd_message_arrives_as_the_targets_own_append_stores_it(
    old: Dovecot, new: Dovecot, corpus: list[Message], tmp_path: Path
) -> None:
    account = Account(old, new, "odd", tmp_path)
    fill(account, corpus)
    report = await account.copy()
    assert (report.problems, report.unexplained) == ([], 0)
    assert report.total("copied") == len(corpus)
    with account.at_old() as raw:
        before = raw.messages(b"INBOX")
    with account.at_new() as raw:
        after = raw.messages(b"INBOX")
        raw.create(b"by hand")  # the same bytes, appended by the test itself: what this server makes of them
        for message in before:
            raw.append(b"by hand", [message.content])
        by_hand = raw.messages(b"by hand")
    assert [one.content for one in after] == [one.content for one in by_hand]
    assert [stored_form(one.content) for one in before] == [one.content for one in after]
    assert [(one.flags, one.internal_date) for one in before] == [(one.flags, one.internal_date) for one in after]

    again = await account.copy()
    assert (again.total("copied"), again.total("already")) == (0, len(corpus))
    with account.at_new() as raw:
        assert len(raw.messages(b"INBOX")) == len(corpus)


async def test_mailboxes_of_every_kind(old: Dovecot, new: Dovecot, tmp_path: Path) -> None:
    account = Account(old, new, "boxes", tmp_path)
    names = {
        "Sent": "Sent",
        "a.b.c": "a/b/c",
        "日本語.受信": "日本語/受信",
        "R&D": "R&D",
        "back\\slash": "back_slash",
        "#news": "_news",
        " spaces ": "_spaces_",
        "old.mbox": "old/mbox",
        "work": "work",
        "Work": "Work",
        "WORK": "WORK",
        "INBOX.below": "INBOX/below",
        'with "quotes"': 'with "quotes"',
    }
    messages = mixed(2 * len(names), 7)
    for number, name in enumerate(names):
        fill(account, messages[2 * number : 2 * number + 2], encode_mailbox(name))
    with account.at_old() as raw:
        for name in ("Sent", "日本語.受信", "INBOX"):
            raw.command(b'SUBSCRIBE "' + encode_mailbox(name) + b'"')
    report = await account.copy()
    assert (report.problems, report.unexplained, report.total("copied")) == ([], 0, len(messages))
    places = {box.source: box.target for box in report.mailboxes}
    for name, becomes in names.items():
        if name.lower() != "work":
            assert places[name] == becomes
    assert len({places[name].lower() for name in ("work", "Work", "WORK")}) == 3
    with account.at_new() as raw:
        for number, name in enumerate(names):
            stored = raw.messages(encode_mailbox(places[name]))
            assert {one.content for one in stored} == {one.content for one in messages[2 * number : 2 * number + 2]}
        assert set(raw.mailboxes(subscribed=True)) == {b"Sent", encode_mailbox("日本語/受信"), b"INBOX"}
    assert (await account.copy()).total("copied") == 0


async def test_a_big_message_is_streamed(old: Dovecot, new: Dovecot, tmp_path: Path) -> None:
    """Peak memory is what one piece takes, not what the message takes: checked in a process of its own."""
    account = Account(old, new, "big", tmp_path)
    big = b"Subject: big\r\n\r\n" + b"0123456789abcdef" * 4096 * 40 * 16 + b"\r\n"  # 40 MB
    with account.at_old() as raw:
        raw.append(b"INBOX", [big])
    code = (
        "import resource, sys; from migrator.move_imap import main; before = resource.getrusage(resource.RUSAGE_SELF)"
        ".ru_maxrss; code = main(sys.argv[1:]); after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        " print('grown', after - before); sys.exit(code)"
    )
    returncode, output, errors = await _run([sys.executable, "-c", code, *_arguments(account)], tmp_path)
    assert returncode == 0, errors
    grown = int(output.split()[-1])
    assert grown < 24 * 1024, f"{grown} KiB more than before for a message of {len(big) >> 20} MiB"
    with account.at_new() as raw:
        (stored,) = raw.messages(b"INBOX")
    assert stored.content == big


def _arguments(account: Account) -> list[str]:
    return [
        "--oldPasswordFile", str(account.database.with_name("old")),
        "--newPasswordFile", str(account.database.with_name("new")),
        f"{account.old.host}:{account.old.imap_port}", account.name, "*",
        f"{account.new.host}:{account.new.imap_port}", account.name, "*",
    ]  # fmt: skip


def _environment(directory: Path) -> dict[str, str]:
    (directory / "old").write_bytes(PASSWORD + b"\n")
    (directory / "new").write_bytes(b"new\n")
    return {**os.environ, "EXTAUTH_MOVES": str(directory / "moves.db"), "PYTHONPATH": str(ROOT)}


async def _run(command: list[str], directory: Path) -> tuple[int | None, bytes, bytes]:
    process = await asyncio.create_subprocess_exec(
        *command, env=_environment(directory), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    output, errors = await process.communicate()
    return process.returncode, output, errors


@pytest.mark.parametrize("seed", range(2))
async def test_killed_at_random_and_run_again(old: Dovecot, new: Dovecot, tmp_path: Path, seed: int) -> None:
    """kill -9 again and again: in the end every message is there once, and another run adds nothing."""
    draw = random.Random(seed)
    account = Account(old, new, f"killed{seed}", tmp_path)
    messages = mixed(700, seed)
    messages += messages[:20]  # equal ones are distinct messages all the same
    fill(account, messages[:600])
    fill(account, messages[600:], b"Archive.2009")
    command = [sys.executable, "-m", "migrator.move_imap", *_arguments(account)]
    environment = _environment(tmp_path)
    kills = 0
    for _ in range(4):
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        await _until_it_has_copied_some(account, process, draw)
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        await process.wait()
    assert kills > 0
    returncode, output, errors = await _run(command, tmp_path)
    assert (returncode, b"unexplained" in output) == (0, False), errors
    with account.at_old() as before, account.at_new() as after:
        for source, target in ((b"INBOX", b"INBOX"), (b"Archive.2009", b"Archive/2009")):
            assert seen(after.messages(target)) == seen(before.messages(source))
    returncode, output, errors = await _run(command, tmp_path)
    assert (returncode, b" 0 copied" in output) == (0, True), output


async def _until_it_has_copied_some(account: Account, process: asyncio.subprocess.Process, draw: random.Random) -> None:
    """Wait until the target holds a random number of messages more, or the copy has ended."""
    more = draw.randrange(0, 150)
    with account.at_new() as raw:
        first = None
        while process.returncode is None:
            (reply,) = raw.command(b"STATUS INBOX (MESSAGES)")
            now = int(reply.rpartition(b"MESSAGES ")[2].split(b")")[0])
            first = now if first is None else first
            if now >= first + more and now < 600:
                return
            await asyncio.wait([asyncio.ensure_future(process.wait())], timeout=0.002)
            if now >= 600:
                return
