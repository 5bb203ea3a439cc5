"""MoveIMAPMail from mbox files and Maildirs, as Dovecot and Python's mailbox module write them, into a real Dovecot."""

from __future__ import annotations

import asyncio
import json
import mailbox
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from tests.servers.corpus import mixed, read_corpus, stored_form
from tests.servers.dovecot import Dovecot
from tests.servers.moves import End, move
from tests.servers.raw_imap import RawImap, Stored

LOGINS = (
    "tree",
    "maildir",
    "killed",
    "single",
    "folders",
    "python",
    "sizes",
    "changed",
    "large",
    "dates",
    "odd",
    "links",
)
USERS = {name: f"new {name}".encode() for name in LOGINS}
OLD = {"user": b"old"}
FLAGS = ((), (b"\\Seen",), (b"\\Flagged", b"\\Answered"), (b"\\Seen", b"$label1", b"Work"), (b"\\Draft",))


@pytest.fixture(scope="module")
def new() -> Iterator[Dovecot]:
    with Dovecot(USERS, separator="/", storage="sdbox") as server:
        yield server


@pytest.fixture(scope="module", params=["mbox", "maildir"])
def old(request: pytest.FixtureRequest) -> Iterator[tuple[str, Dovecot]]:
    kind = str(request.param)
    with Dovecot(OLD, separator="/" if kind == "mbox" else ".", storage=kind) as server:
        yield kind, server


def place(kind: str, server: Dovecot) -> Path:
    return server.home("user") / ("mail" if kind == "mbox" else "Maildir")


def source_of(kind: str, server: Dovecot) -> str:
    inbox = f":INBOX={server.home('user')}/inbox" if kind == "mbox" else ""
    return f"{kind}:{place(kind, server)}{inbox}"


async def copy(new: Dovecot, directory: Path, source: str, login: str, *flags: str) -> End:
    target = f"imap://{new.host}:{new.imap_port}"
    return await move("move_imap", directory, *flags, source, "-", "-", target, login, new.users[login].decode())


def arrived(new: Dovecot, login: str) -> dict[bytes, list[Stored]]:
    with RawImap(new.host, new.imap_port, login, new.users[login]) as raw:
        names = [name for name, attributes in raw.mailboxes().items() if b"\\noselect" not in attributes]
        return {name: found for name in names if (found := raw.messages(name))}


def plain(messages: list[Stored]) -> list[tuple[bytes, frozenset[bytes], str]]:
    """Without uids, and dates as moments."""
    moments = [datetime.strptime(one.internal_date.decode().strip(), "%d-%b-%Y %H:%M:%S %z") for one in messages]
    return [
        (one.content, one.flags, when.astimezone(UTC).isoformat()) for one, when in zip(messages, moments, strict=True)
    ]


def tree_of(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file with its times and content."""
    return {
        str(path.relative_to(directory)): (path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes())
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


async def test_what_dovecot_has_written_arrives_as_it_shows_it(
    old: tuple[str, Dovecot], new: Dovecot, tmp_path: Path
) -> None:
    """Content, flags, keywords and dates of each message in each mailbox, and the files stay as they are."""
    kind, server = old
    login = "tree" if kind == "mbox" else "maildir"
    separator = b"/" if kind == "mbox" else b"."
    names = [b"INBOX", b"Sent", b"Pr&APw-fung", b"Lists" + separator + b"quoted &- more"]
    corpus = [one.content for one in read_corpus() if b"\0" not in one.content]
    with RawImap(server.host, server.imap_port, "user", OLD["user"]) as raw:
        raw.create(*names[1:])
        for at, name in enumerate(names):
            for number, flags in enumerate(FLAGS):
                contents = (
                    corpus[number :: len(FLAGS)] if at == 0 else [one.content for one in mixed(3, at * 10 + number)]
                )
                dates = [
                    datetime(2003, 5, 1 + number, 10, 0, 0, tzinfo=UTC) + timedelta(hours=i)
                    for i in range(len(contents))
                ]
                raw.append(name, contents, flags, dates)
        expected = {
            name: [(stored_form(content), *rest) for content, *rest in plain(raw.messages(name))] for name in names
        }
        raw.command(b"LOGOUT")
    server.stop()
    before = tree_of(server.home("user"))
    end = await copy(new, tmp_path, source_of(kind, server), login)
    assert (end.code, end.errors) == (0, ""), end
    there = {name.replace(b"/", separator): plain(found) for name, found in arrived(new, login).items()}
    assert set(there) == set(names)
    for name in names:
        assert Counter(there[name]) == Counter(expected[name]), name
    assert tree_of(server.home("user")) == before, "nothing is written at the source"
    again = await copy(new, tmp_path, source_of(kind, server), login, "--json")
    totals = json.loads(again.output)["totals"]
    assert (again.code, totals["copied"], totals["already"]) == (0, 0, sum(len(found) for found in expected.values()))
    server.start()


async def test_python_mboxes_grow_shrink_and_are_rewritten_without_doubling(new: Dovecot, tmp_path: Path) -> None:
    box = mailbox.mbox(tmp_path / "inbox")
    for one in mixed(30, 1):
        message = mailbox.mboxMessage(one.content.replace(b"\r\n", b"\n"))
        message.set_from("joe@old.test", (2001, 2, 3, 4, 5, 6, 5, 34, 0))
        message.set_flags("RO")
        box.add(message)
    box.flush()
    source = f"mbox:{tmp_path}/inbox"
    assert (await copy(new, tmp_path, source, "python")).code == 0
    first = arrived(new, "python")[b"INBOX"]
    assert len(first) == 30
    assert {one.flags for one in first} == {frozenset({b"\\Seen"})}
    keys = box.keys()
    for number in (3, 17):
        box.remove(keys[number])
    changed = box[keys[5]]
    changed.set_flags("ROF")
    box[keys[5]] = changed
    box.add(mailbox.mboxMessage(b"Subject: more\n\nFrom here on\n>From there\n"))
    box.flush()
    box.close()
    end = await copy(new, tmp_path, source, "python", "--json", "--syncFlags")
    totals = json.loads(end.output)["totals"]
    assert (totals["messages"], totals["copied"], totals["already"], totals["expunged"]) == (29, 1, 28, 2)
    assert len(arrived(new, "python")[b"INBOX"]) == 31
    shutil.rmtree(tmp_path / "moves.db.files")
    end = await copy(new, tmp_path, source, "python", "--json")
    assert json.loads(end.output)["totals"]["copied"] == 0, "the record of numbers was lost: found again by content"


async def test_a_directory_of_mboxes_with_names_of_every_kind(new: Dovecot, tmp_path: Path) -> None:
    root = tmp_path / "Mail"
    letter = b"From joe@old Thu Jan  2 03:04:05 2003\nSubject: %b\n\nbody\n\n"
    for name in ("inbox", "Sent Items", "Entwürfe", "Projects.sbd/Deep/one", "a.b"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(letter % name.encode())
    (root / "empty").write_bytes(b"")
    (root / "inbox.msf").write_bytes(b"index")
    (root / ".imap").mkdir()
    (root / ".imap" / "x").write_bytes(b"index")
    (root / "notes.txt").write_bytes(b"no mail\n")
    os.mkfifo(root / "fifo")
    end = await copy(new, tmp_path, f"mbox:{root}", "folders", "--renameMailbox", "a.b", "renamed")
    found = arrived(new, "folders")
    expected = {b"Sent Items", b"Entw&APw-rfe", b"Projects/Deep/one", b"renamed", b"INBOX"}
    assert set(found) == expected, end
    end = await copy(new, tmp_path, f"mbox:{root}", "folders", "--verbose", "--renameMailbox", "a.b", "renamed")
    assert re.search(r"notes.txt: .*no mbox", end.output)
    assert re.search(r"fifo: .*no ordinary file", end.output)


async def test_links_below_the_path_are_not_followed(new: Dovecot, tmp_path: Path) -> None:
    letter = b"From joe@old Thu Jan  2 03:04:05 2003\nSubject: secret\n\nbody\n\n"
    (tmp_path / "other").write_bytes(letter)
    (tmp_path / "Mail").mkdir()
    (tmp_path / "Mail" / "mine").symlink_to(tmp_path / "other")
    (tmp_path / "Mail" / "up").symlink_to(tmp_path)
    box = mailbox.Maildir(tmp_path / "md")
    box.add(b"Subject: own\n\nbody\n")
    (tmp_path / "md" / "cur" / "1.link:2,S").symlink_to(tmp_path / "other")
    (tmp_path / "md" / ".Up").symlink_to(tmp_path)
    (tmp_path / "md" / ".Cur").mkdir()
    (tmp_path / "md" / ".Cur" / "cur").symlink_to(tmp_path / "md" / "new")
    end = await copy(new, tmp_path, f"mbox:{tmp_path}/Mail", "links", "--verbose")
    assert "mine: not copied: a symbolic link is not followed" in end.output
    end = await copy(new, tmp_path, f"maildir:{tmp_path}/md", "links", "--verbose")
    assert end.code == 1
    assert "1.link:2,S: a symbolic link is not followed" in end.errors
    found = [one.content for box in arrived(new, "links").values() for one in box]
    assert found == [b"Subject: own\r\n\r\nbody\r\n"]


async def test_sizes_a_dry_run_and_its_json(new: Dovecot, tmp_path: Path) -> None:
    box = mailbox.Maildir(tmp_path / "md")
    box.add(b"Subject: small\n\nx\n")
    box.add(b"Subject: large\n\n" + b"x" * 70 + b"\n" * 20_000)
    source = f"maildir:{tmp_path}/md"
    end = await copy(new, tmp_path, source, "sizes", "--dry-run", "--json", "--max-size", "10KB")
    assert json.loads(end.output)["totals"] | {"octets": 0} == {
        "messages": 2, "to_copy": 1, "octets": 0, "already": 0, "left_out": 1,
    }  # fmt: skip
    assert not (tmp_path / "moves.db.files").exists()
    end = await copy(new, tmp_path, source, "sizes", "--json", "--max-size", "10KB")
    totals = json.loads(end.output)["totals"]
    assert (end.code, totals["copied"], totals["left_out"], totals["unexplained"]) == (0, 1, 1, 0)


async def test_dates_and_odd_messages(new: Dovecot, tmp_path: Path) -> None:
    when = datetime(2005, 6, 7, 8, 9, 10, tzinfo=UTC)
    (tmp_path / "inbox").write_bytes(
        b"From a@old Tue Jun  7 08:09:10 2005 +0000\nSubject: zone\n\nbare\rCR and \x80\n\n"
        b"From nobody\nDate: " + format_datetime(when).encode() + b"\nSubject: header\n\nbody\n\n"
        b"From a@old Tue Jun  7 08:09:10 2005 GMT\r\nSubject: CRLF\r\n"
        b"Content-Length: 8\r\nStatus: O\r\n\r\nbody\r\n\r\n\r\n"
        b"From a@old Tue Jun  7 08:09:10 2005 GMT\nSubject: NUL\n\na\0b\n"
    )
    end = await copy(new, tmp_path, f"mbox:{tmp_path}/inbox", "dates")
    assert end.code == 0, end
    found = plain(arrived(new, "dates")[b"INBOX"])
    assert {date for _, _, date in found} == {when.isoformat()}
    contents = [content for content, _, _ in found]
    assert contents[0] == b"Subject: zone\r\n\r\nbare\rCR and \x80\r\n"
    assert contents[2] == b"Subject: CRLF\r\n\r\nbody\r\n\r\n"
    assert len(contents) == 4


async def test_a_file_that_is_no_mbox_is_said(new: Dovecot, tmp_path: Path) -> None:
    """It is not a mailbox with nothing in it."""
    (tmp_path / "notes").write_bytes(b"some text\n\nFrom joe@old Thu Jan  2 03:04:05 2003\nSubject: a\n\nb\n")
    end = await copy(new, tmp_path, f"mbox:{tmp_path}/notes", "single")
    assert (end.code, arrived(new, "single")) == (1, {})
    assert "no mbox" in end.errors


async def test_the_odd_corpus_in_a_maildir(new: Dovecot, tmp_path: Path) -> None:
    """Every oddity with LF line ends as delivery leaves them, NUL among them."""
    box = mailbox.Maildir(tmp_path / "md")
    corpus = [one.content for one in read_corpus()]
    for at, content in enumerate(corpus):
        (tmp_path / "md" / "cur" / f"{1_000_000_000 + at}.M1P1.host:2,").write_bytes(content.replace(b"\r\n", b"\n"))
    end = await copy(new, tmp_path, f"maildir:{box._path}", "odd")
    found = [one.content for one in arrived(new, "odd")[b"INBOX"]]
    assert end.code == 0, end
    assert len(found) == len(corpus)
    plain_ones = [one for one in corpus if b"\0" not in one and b"\r" not in one.replace(b"\r\n", b"")]
    assert Counter(stored_form(one) for one in plain_ones) <= Counter(found)


async def test_a_large_message_and_a_kill_at_any_moment(new: Dovecot, tmp_path: Path) -> None:
    """A message of 24 MB is streamed, never whole in memory; runs that are leave nothing doubled or missing."""
    contents = [one.content.replace(b"\r\n", b"\n") for one in mixed(300, 7)]
    contents.insert(150, b"Subject: large\n\n" + (b"x" * 75 + b"\n") * 320_000)
    with open(tmp_path / "inbox", "wb") as file:  # noqa: ASYNC230 - a test waits for nobody
        for content in contents:
            file.write(b"From joe@old Thu Jan  2 03:04:05 2003\n" + content + b"\n")
    environment = {**os.environ, "EXTAUTH_MOVES": str(tmp_path / "moves.db")}
    target = f"imap://{new.host}:{new.imap_port}"
    command = [
        sys.executable,
        "-c",
        _MEASURED,
        f"mbox:{tmp_path}/inbox",
        "-",
        "-",
        target,
        "large",
        USERS["large"].decode(),
    ]
    for lines in (1, 40, 200):
        process = await asyncio.create_subprocess_exec(
            *command, env={**environment, "KILL_AT": str(lines)}, stdout=asyncio.subprocess.PIPE
        )
        await process.communicate()
        assert process.returncode == -9
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert int(output.splitlines()[-1]) < 64 << 10, "kilobytes in memory at most"
    found = [one.content for one in arrived(new, "large")[b"INBOX"]]
    assert Counter(found) == Counter(stored_form(content) for content in contents)


_MEASURED = """
import os, signal, sys
from migrator import move_imap, session
limit = int(os.environ.get("KILL_AT", 0))
steps = [0]
touch = session.Session.touch
def counting(self, more=0.0):
    steps[0] += 1
    if steps[0] == limit:
        os.kill(os.getpid(), signal.SIGKILL)
    touch(self, more)
session.Session.touch = counting
code = move_imap.main(sys.argv[1:])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(code)
"""
