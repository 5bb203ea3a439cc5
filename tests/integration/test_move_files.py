"""MoveIMAPMail from mailbox files into a real Dovecot: everything once, whatever happens in between."""

from __future__ import annotations

import json
import mailbox
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.bench.child import run_child
from tests.servers.corpus import mixed, read_corpus
from tests.servers.dovecot import Dovecot
from tests.servers.raw_imap import RawImap, Stored, quoted

PASSWORD = b"secret"


@pytest.fixture(scope="module")
def target() -> Iterator[Dovecot]:
    with Dovecot({f"u{number}": PASSWORD for number in range(12)}) as server:
        yield server


@pytest.fixture
def user(target: Dovecot, request: pytest.FixtureRequest) -> str:
    """A fresh account for each test."""
    used = request.config.stash.setdefault(_USED, [])
    used.append(request.node.name)
    return f"u{len(used) - 1}"


_USED = pytest.StashKey[list[str]]()


class Program:
    """MoveIMAPMail with its journal in `directory`."""

    def __init__(self, directory: Path, target: Dovecot, user: str) -> None:
        self.directory, self._target, self._user = directory, target, user

    def arguments(self, source: str, *flags: str) -> list[str]:
        server = f"127.0.0.1:{self._target.imap_port}"
        return [sys.executable, "-m", "migrator.move_imap", *flags, source, "-", "-", server, self._user, "secret"]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "EXTAUTH_MOVES": str(self.directory / "moves.db")}

    def run(self, source: str, *flags: str) -> tuple[int, dict[str, Any], str]:
        """The exit code, the JSON and what was said on stderr."""
        done = subprocess.run(
            self.arguments(source, "--json", *flags), env=self.environment, capture_output=True, text=True, check=False
        )
        return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr

    def there(self, name: bytes = b"INBOX") -> list[Stored]:
        with RawImap(self._target.host, self._target.imap_port, self._user, PASSWORD) as raw:
            raw.command(b"SELECT " + quoted(name))
            return raw.messages(name)


@pytest.fixture
def program(tmp_path: Path, target: Dovecot, user: str) -> Program:
    return Program(tmp_path, target, user)


def bodies(stored: list[Stored]) -> Counter[bytes]:
    return Counter(one.content for one in stored)


def write_mbox(path: Path, contents: list[bytes]) -> None:
    """Write it, or add to it."""
    with closing(mailbox.mbox(path)) as box:
        for content in contents:
            box.add(content.replace(b"\r\n", b"\n"))
        box.flush()


def letters(count: int, start: int = 0) -> list[bytes]:
    return [b"Message-ID: <%d@x>\r\nSubject: %d\r\n\r\nbody %d\r\n" % (n, n, n) for n in range(start, start + count)]


def test_a_maildir_with_folders(program: Program, tmp_path: Path) -> None:
    """Content, flags, keywords, dates, folders; and once more: nothing."""
    root = tmp_path / "Maildir"
    box = mailbox.Maildir(root)
    odd = [message.content for message in read_corpus()]
    for number, content in enumerate(odd):
        message = mailbox.MaildirMessage(content.replace(b"\r\n", b"\n"))
        message.set_subdir("cur")
        message.set_flags("FS" if number % 2 else "")
        message.set_date(1_000_000_000 + number)
        box.add(message)
    folder = box.add_folder("Sent.2009")
    folder.add(b"Subject: sent\n\nbody\n")
    (root / "subscriptions").write_text("Sent.2009\n")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    code, planned, _ = program.run(f"maildir:{root}", "--dry-run")
    assert (code, planned["totals"]["to_copy"]) == (0, len(odd) + 1)
    assert not (tmp_path / "moves.db.files").exists()
    code, report, said = program.run(f"maildir:{root}")
    assert (code, report["totals"]["copied"], report["totals"]["unexplained"]) == (0, len(odd) + 1, 0), said
    stored = program.there()
    assert len(stored) == len(odd)
    assert {one.flags - {b"\\Recent"} for one in stored} == {frozenset(), frozenset({b"\\Seen", b"\\Flagged"})}
    assert b"09-Sep-2001 01:46:40 +0000" in {one.internal_date for one in stored}
    assert [one.content for one in program.there(b"Sent.2009")] == [b"Subject: sent\r\n\r\nbody\r\n"]
    code, report, _ = program.run(f"maildir:{root}")
    assert (code, report["totals"]["copied"], report["totals"]["already"]) == (0, 0, len(odd) + 1)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before  # it was only read


def test_an_mbox_that_goes_on_living(program: Program, tmp_path: Path) -> None:
    """Mail is added, flagged and removed between the runs: each message arrives once."""
    path = tmp_path / "mbox"
    write_mbox(path, letters(20))
    assert program.run(f"mbox:{path}")[1]["totals"]["copied"] == 20
    with closing(mailbox.mbox(path)) as box:
        keys = box.keys()
        box.remove(keys[3])
        flagged = box[keys[10]]
        flagged.set_flags("RO")
        box[keys[10]] = flagged
        box.flush()
    write_mbox(path, letters(1, 20))
    code, report, _ = program.run(f"mbox:{path}")
    assert (code, report["totals"]["copied"], report["totals"]["already"]) == (0, 1, 19)
    assert bodies(program.there()) == Counter(letters(21))


def test_a_directory_of_mboxes(program: Program, tmp_path: Path) -> None:
    """One is left out by a flag, one is renamed, one is none."""
    root = tmp_path / "mail"
    root.mkdir()
    for name, start in (("Sent", 0), ("Trash", 5), ("old", 9)):
        write_mbox(root / name, letters(2, start))
    (root / "notes.txt").write_text("no mail")
    write_mbox(tmp_path / "spool", letters(3, 100))
    source = f"mbox:{root}:INBOX={tmp_path / 'spool'}"
    code, report, _ = program.run(source, "--skipMailbox", "Trash", "--renameMailbox", "old", "Archive")
    assert (code, report["totals"]["copied"]) == (0, 7)
    assert "notes.txt" in json.dumps(report["skipped"])
    assert bodies(program.there()) == Counter(letters(3, 100))
    assert bodies(program.there(b"Archive")) == Counter(letters(2, 9))


def test_killed_on_the_way(program: Program, tmp_path: Path) -> None:
    """At random moments, and the file grows meanwhile; nothing is missing or doubled in the end."""
    path = tmp_path / "mbox"
    contents = [message.content for message in mixed(400, 7)]
    contents = [content for content in contents if b"\nFrom " not in content and not content.startswith(b"From ")]
    write_mbox(path, contents)
    for attempt in range(4):
        child = subprocess.Popen(
            program.arguments(f"mbox:{path}"),
            env=program.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        time.sleep(0.25 + 0.1 * attempt)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        extra = letters(1, 1000 + attempt)
        contents += extra
        write_mbox(path, extra)
    code, _, said = program.run(f"mbox:{path}")
    assert code == 0, said
    assert bodies(program.there()) == Counter(contents)
    code, report, _ = program.run(f"mbox:{path}")
    assert report["totals"]["copied"] == 0
    assert len(program.there()) == len(contents)


def test_the_target_serves_these_very_files(program: Program, target: Dovecot, user: str) -> None:
    """Nothing is appended to itself; nor where the record of an earlier copy was lost."""
    with RawImap(target.host, target.imap_port, user, PASSWORD) as raw:
        raw.append(b"INBOX", letters(30))
    code, _, said = program.run(f"maildir:{target.home(user)}/Maildir")
    assert (code, "already" in said) == (65, True)
    assert len(program.there()) == 30


def test_large_messages_take_little_memory(program: Program, tmp_path: Path) -> None:
    """60 MB in one line, in either form."""
    path = tmp_path / "mbox"
    with path.open("wb") as file:
        file.write(b"From a Sun Feb 29 23:59:59 2004\nSubject: large\n\n")
        for _ in range(60):
            file.write(b"x" * (1 << 20))
        file.write(b"\n\n")
    root = tmp_path / "Maildir"
    mailbox.Maildir(root).close()
    (root / "cur" / "1.P1.host:2,S").write_bytes(b"Subject: too\n\n" + b"line\n" * (12 << 20))
    for source, size in ((f"mbox:{path}", 60 << 20), (f"maildir:{root}", 6 * (12 << 20))):
        measured = run_child(program.arguments(source), program.environment)
        assert measured.peak < 110 << 10  # KiB; without the message it is half of that
        assert max(len(one.content) for one in program.there()) > size


def test_usage(program: Program, tmp_path: Path) -> None:
    write_mbox(tmp_path / "mbox", letters(1))
    source = f"mbox:{tmp_path / 'mbox'}"
    for flags in (("--delete",), ("--proxyAuth", "x"), ("--sourceUser", "x"), ("--preauth",)):
        code, _, said = program.run(source, *flags)
        assert (code, flags[0] in said) == (64, True)
    for place, word in (("/nowhere", "no such"), (tmp_path / "mbox", "not a directory"), (tmp_path, "no Maildir")):
        code, _, said = program.run(f"maildir:{place}")
        assert (code, word in said, "Traceback" in said) == (64, True, False)
