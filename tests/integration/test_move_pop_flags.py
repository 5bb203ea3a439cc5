"""MovePOPMail as it is called: each flag by what it does, from a real Dovecot to a real Postfix and to a sink."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from migrator.access import Access
from migrator.ledger.marks import LedgerUidls
from migrator.ledger.store import Store
from migrator.options import GUIDE_TIMEOUT, PATIENT_TIMEOUT, parse_options
from migrator.pop_smtp import Submission
from migrator.pop_submit import submit_account
from tests.servers.corpus import Message, mixed
from tests.servers.dovecot import Dovecot
from tests.servers.memory_pop import MemoryPop
from tests.servers.memory_smtp import MemorySmtp
from tests.servers.moves import End, move
from tests.servers.postfix import Postfix
from tests.servers.raw_imap import RawImap
from tests.servers.script import Talk, serve
from wire.endpoint import Endpoint, TlsPolicy
from wire.outcome import Temporary
from wire.secret import Secret

LOGINS = dict.fromkeys(("plain", "verbose", "delete", "refuse", "bytes", "archive"), b"secret")
RECIPIENT = "user@new.test"
ODD = [
    b"Subject: long line\r\n\r\n" + b"x" * 300_000 + b"\r\n",
    b"Subject: dots\r\n\r\n.\r\n..\r\n...\r\n.x\r\n\r\n.\r\n",
    b"Subject: eight bit\r\n\r\n" + bytes(range(128, 256)) + b"\r\n",
    b"Subject: nul\r\n\r\na\0b\0\0c\r\n",
    b"Subject: bare\r\n\r\na\rb\nc\n.d\r.e\r\n",
    b"Subject: no final line end\r\n\r\nlast",
    b"Subject: header only\r\n",
    b"Received: x\r\n" * 3000 + b"\r\n\r\n",
]


@pytest.fixture(scope="module")
def old() -> Iterator[Dovecot]:
    with Dovecot(LOGINS, storage="sdbox") as server:
        yield server


@pytest.fixture(scope="module")
def new() -> Iterator[Postfix]:
    with Postfix([RECIPIENT]) as server:
        yield server


@asynccontextmanager
async def sink(*extensions: bytes) -> AsyncIterator[MemorySmtp]:
    async with MemorySmtp(*extensions) as server:
        server.extensions = (*server.extensions[2:], b"8BITMIME", b"SIZE 9000000")
        yield server


def fill(server: Dovecot, login: str, count: int) -> list[bytes]:
    contents = [one.content for one in mixed(count, 5)]
    with RawImap(server.host, server.imap_port, login, server.users[login]) as raw:
        raw.append(b"INBOX", contents)
    return contents


def left(server: Dovecot, login: str) -> int:
    with RawImap(server.host, server.imap_port, login, server.users[login]) as raw:
        return len(raw.messages(b"INBOX"))


async def run(tmp_path: Path, login: str, old_port: int, new_port: int, *flags: str, recipient: str = RECIPIENT) -> End:
    (tmp_path / "old").write_bytes(b"secret\n")
    return await move(
        "move_pop", tmp_path, "--oldPasswordFile", str(tmp_path / "old"), *flags,
        f"127.0.0.1:{old_port}", login, "*", f"127.0.0.1:{new_port}", recipient,
    )  # fmt: skip


def accepted(server: Postfix) -> int:
    return server.log.read_text("utf-8", "replace").count("status=sent (")


async def test_verbose_tells_each_batch_on_stdout(old: Dovecot, new: Postfix, tmp_path: Path) -> None:
    fill(old, "verbose", 30)
    quiet = await run(tmp_path, "verbose", old.pop3_port, new.port, "--verbose")
    lines = quiet.output.splitlines()
    assert (quiet.code, quiet.errors) == (0, "")
    assert any("of 30 messages" in line for line in lines[:-1])
    assert "30 copied" in lines[-1]
    assert any("show 30 messages of INBOX anew" in line for line in lines)
    again = await run(tmp_path, "verbose", old.pop3_port, new.port)
    assert (again.code, "of 30 messages," in again.output) == (0, False)
    assert "30 already there" in again.output


async def test_delete_removes_what_postfix_confirmed_and_says_how_many(
    old: Dovecot, new: Postfix, tmp_path: Path
) -> None:
    fill(old, "delete", 20)
    without = await run(tmp_path, "delete", old.pop3_port, new.port, "--json")
    assert (without.code, left(old, "delete")) == (0, 20)
    end = await run(tmp_path, "delete", old.pop3_port, new.port, "--json", "--delete")
    assert (end.code, end.errors, left(old, "delete")) == (0, "", 0)
    totals = json.loads(end.output)["totals"]
    assert (totals["already"], totals["deleted"]) == (20, 20)


async def test_delete_keeps_what_was_refused(old: Dovecot, tmp_path: Path) -> None:
    fill(old, "refuse", 12)
    async with sink(b"PIPELINING", b"CHUNKING") as server:
        server.answer = lambda count: b"554 5.7.1 no" if count in (3, 9) else b"250 ok"
        end = await run(tmp_path, "refuse", old.pop3_port, server.port, "--delete")
        assert (end.code, left(old, "refuse"), len(server.arrived)) == (1, 2, 10)
        assert "10 deleted at the source" in end.output
        assert end.errors.count("refused: BDAT: 554 5.7.1 no; kept as") == 2


async def test_quit_that_fails_after_dele_is_nothing_deleted(tmp_path: Path) -> None:
    async with MemoryPop() as pop, sink() as server:
        pop.messages = [(b"a", b"Subject: a\r\n\r\na\r\n"), (b"b", b"Subject: b\r\n\r\nb\r\n")]
        pop.on_command = lambda line: b"-ERR [SYS/TEMP] the disk is full\r\n" if line == b"QUIT" else None
        end = await run(tmp_path, "x", pop.port, server.port, "--delete")
        assert (end.code, len(server.arrived)) == (75, 2)
        assert "deleted" not in end.output
        assert "the disk is full" in end.errors


async def test_a_recipient_that_postfix_does_not_know(old: Dovecot, new: Postfix, tmp_path: Path) -> None:
    fill(old, "plain", 10)
    before = accepted(new)
    end = await run(tmp_path, "plain", old.pop3_port, new.port, "--delete", recipient="nobody@new.test")
    assert (end.code, left(old, "plain")) == (1, 10)
    assert "5.1.1" in end.errors
    assert accepted(new) == before


@pytest.mark.parametrize(("flags", "copied"), [((), 0), (("--notimeout",), 1)])
async def test_notimeout_waits_for_a_source_that_is_slower_than_the_usual_time(
    tmp_path: Path, flags: tuple[str, ...], copied: int
) -> None:
    """The guide's 20 s are shortened here to a fifth of a second; the server answers RETR after half a second."""
    assert (GUIDE_TIMEOUT, PATIENT_TIMEOUT) == (20, 3600)

    async def slow(talk: Talk) -> None:
        await talk.send(b"+OK ready\r\n")
        while (line := await talk.line()) != b"QUIT":
            if line == b"RETR 1":
                with suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.get_running_loop().create_future(), 0.5)
                await talk.send(b"+OK\r\nSubject: a\r\n\r\nx\r\n.\r\n")
                continue
            listed = b"+OK\r\n1 9\r\n.\r\n"
            await talk.send({b"LIST": listed, b"UIDL": listed, b"CAPA": b"-ERR\r\n"}.get(line, b"+OK\r\n"))

    options, _ = parse_options(flags, timeout=0.2, pop=True)
    async with serve(slow) as server, sink() as target:
        source = Access(server.endpoint("pop3"), b"x", Secret(b"secret"))
        store = Store(tmp_path / "marks.db")
        submission = Submission(Endpoint("smtp", "127.0.0.1", target.port), RECIPIENT, TlsPolicy())
        copy = submit_account(source, submission, options, LedgerUidls(store, "copy"))
        try:
            if copied:
                assert (await copy).total("copied") == copied
            else:
                with pytest.raises(Temporary, match="no answer in time"):
                    await copy
        finally:
            await store.close()
        assert len(target.arrived) == copied


@pytest.mark.parametrize("extensions", [(), (b"PIPELINING",), (b"PIPELINING", b"CHUNKING")])
async def test_every_byte_arrives(old: Dovecot, tmp_path: Path, extensions: tuple[bytes, ...]) -> None:
    """Lines of any length, dots, NUL, 8 bit, bare CR and LF; POP ends each message with a line end (RFC 1939 3).

    A dot behind a bare CR or LF is doubled by DATA, since servers that end lines there would end the message.
    """
    async with MemoryPop() as pop, sink(*extensions) as server:
        pop.messages = [(b"u%d" % at, content) for at, content in enumerate(ODD)]
        end = await run(tmp_path, "x", pop.port, server.port)
        assert (end.code, end.errors) == (0, "")
        ended = [one if one.endswith(b"\r\n") else one + b"\r\n" for one in ODD]
        if b"CHUNKING" not in extensions:
            ended = [one.replace(b"\n.d\r.e", b"\n..d\r..e") for one in ended]
        assert server.arrived == ended


async def test_what_dovecot_shows_by_pop_arrives(old: Dovecot, tmp_path: Path, corpus: list[Message]) -> None:
    with RawImap(old.host, old.imap_port, "bytes", b"secret") as raw:
        raw.append(b"INBOX", [one.content for one in corpus])
        stored = [one.content for one in raw.messages(b"INBOX")]
    async with sink(b"PIPELINING", b"CHUNKING") as server:
        end = await run(tmp_path, "bytes", old.pop3_port, server.port)
        assert (end.code, end.errors) == (0, "")
        assert server.arrived == [one if one.endswith(b"\r\n") else one + b"\r\n" for one in stored]


async def test_old_mail_to_an_archive_at_a_real_server(old: Dovecot, tmp_path: Path) -> None:
    contents = [b"Date: Fri, 13 Feb 2009 23:31:30 +0000\r\nSubject: old\r\n\r\nx\r\n", b"Subject: undated\r\n\r\nx\r\n"]
    with RawImap(old.host, old.imap_port, "archive", b"secret") as raw:
        raw.append(b"INBOX", contents)
    with Dovecot({"archive": b"new"}) as new:
        (tmp_path / "old").write_bytes(b"secret\n")
        (tmp_path / "new").write_bytes(b"new\n")
        arguments = [
            "--oldPasswordFile", str(tmp_path / "old"), "--newPasswordFile", str(tmp_path / "new"),
            "--archiveSeen", "Alte Post äöü", "--seenOlder", "30d", "--delete",
            f"127.0.0.1:{old.pop3_port}", "archive", "*", f"imap://127.0.0.1:{new.imap_port}", "archive",
        ]  # fmt: skip
        end = await move("move_pop", tmp_path, *arguments)
        assert (end.code, end.errors) == (0, "")
        assert "2 deleted at the source" in end.output
        with RawImap(new.host, new.imap_port, "archive", b"new") as raw:
            archived = raw.messages(b"Alte Post &AOQA9gD8-")
            assert [one.content for one in archived] == contents[:1]
            assert [one.content for one in raw.messages(b"INBOX")] == contents[1:]


async def test_an_archive_needs_an_imap_target(tmp_path: Path) -> None:
    end = await run(tmp_path, "x", 1, 1, "--archiveSeen", "Old")
    assert (end.code, "--archiveSeen needs an imap:// target" in end.errors) == (64, True)
    end = await run(tmp_path, "x", 1, 1, "--seenOlder", "30d")
    assert (end.code, "--archiveSeen puts aside" in end.errors) == (64, True)


async def test_slow_answers_are_waited_for(tmp_path: Path) -> None:
    """Flow control that answers late: nothing is sent twice, and the next messages wait behind it."""
    go = asyncio.Event()

    async def slow(talk: Talk) -> None:
        await talk.send(b"220 ready\r\n")
        await talk.line()
        await talk.send(b"250 here\r\n")
        for _ in range(2):
            await talk.line()
            await talk.send(b"250 ok\r\n")
            await talk.line()
            await go.wait()
            await talk.send(b"250 ok\r\n")
            await talk.line()
            await talk.send(b"354 go\r\n")
            while await talk.line() != b".":
                pass
            await talk.send(b"250 ok\r\n")
        await talk.line()
        await talk.send(b"221 bye\r\n")

    async with MemoryPop() as pop, serve(slow) as server:
        pop.messages = [(b"a", b"Subject: a\r\n\r\na\r\n"), (b"b", b"Subject: b\r\n\r\nb\r\n")]
        asyncio.get_running_loop().call_later(1.0, go.set)
        end = await run(tmp_path, "x", pop.port, server.port, "--json")
        assert (end.code, json.loads(end.output)["totals"]["copied"]) == (0, 2)
        assert server.lines.count(b"DATA") == 2
