"""The helper as CommuniGate runs it: a process, bytes on its stdin, lines on its stdout."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.end_to_end.helper_child import communigate, helper, imap_server, write_config
from tests.servers.script import Talk, serve


async def test_every_kind_of_request_gets_one_reply(tmp_path: Path) -> None:
    """INTF, SASL, READPLAIN, nonsense and QUIT; a line without a number gets an information line only."""
    async with helper(write_config(tmp_path)) as child:
        assert await child.ask(b"1 INTF 9") == b"INTF 7"
        assert await child.ask(b"2 intf 3") == b"INTF 3"
        assert (await child.ask(b"3 SASL(CRAM-MD5) (IMAP) u@d.test aa bb [192.0.2.1]")).startswith(b"ERROR ")
        assert (await child.ask(b"4 READPLAIN u@d.test")).startswith(b"ERROR ")
        assert (await child.ask(b"5 DANCE")).startswith(b"ERROR ")
        assert (await child.ask(b"6")).startswith(b"ERROR ")
        assert (await child.ask(b"7 VRFY u@d.test " + b"x" * 100_000)).startswith(b"ERROR ")
        await child.send(b"no number here\n\xff\xfe\0\n")
        await child.told(b"without a request number")
        assert await child.ask(b"8 INTF 2") == b"INTF 2"
        assert await child.ask(b"9 QUIT") == b"OK"
        assert await child.wait() == 0
        assert all(line.startswith(b"* ") and line.endswith(b"\n") for line in child.information)


async def test_cr_lf_and_every_split(tmp_path: Path) -> None:
    """Lines that end in CR LF, and come a byte at a time, or all at once."""
    async with helper(write_config(tmp_path)) as child:
        for byte in b"1 INTF 7\r\n":
            await child.send(bytes((byte,)))
        assert await child.reply(1) == b"INTF 7"
        await child.send(b"".join(b"%d INTF 4\r\n" % number for number in range(2, 500)))
        for number in range(2, 500):
            assert await child.reply(number) == b"INTF 4"
        assert await child.ask(b"500 QUIT\r") == b"OK"
        assert await child.wait() == 0


async def test_quit_and_end_of_input_answer_what_is_in_flight(tmp_path: Path) -> None:
    """The check is under way when the end comes; its answer still goes out, before QUIT's."""
    for way in ("quit", "end"):
        go = asyncio.Event()
        asked = asyncio.Event()

        async def play(talk: Talk, go: asyncio.Event = go, asked: asyncio.Event = asked) -> None:
            await talk.send(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
            tag = (await talk.line()).split(b" ")[0]
            asked.set()
            await go.wait()
            await talk.send(tag + b" NO wrong\r\n")
            await talk.silence()

        async with serve(play) as old, helper(write_config(tmp_path, imap=old.port)) as child:
            await child.send(b"1 VRFY u@d.test secret\n")
            await asked.wait()
            if way == "quit":
                await child.send(b"2 QUIT\n3 INTF 7\n")
            else:
                assert child.process.stdin is not None
                child.process.stdin.close()
            go.set()
            assert await child.wait() == 0
            assert (child.replies[b"1"]).startswith(b"ERROR ")
            assert child.replies.get(b"2") == (b"OK" if way == "quit" else None)
            assert b"3" not in child.replies


async def test_sigterm_ends_like_the_end_of_input(tmp_path: Path) -> None:
    """Exit 0, with everything answered."""
    async with helper(write_config(tmp_path)) as child:
        assert await child.ask(b"1 INTF 7") == b"INTF 7"
        child.process.send_signal(signal.SIGTERM)
        assert await child.wait() == 0


async def test_a_request_cut_off_at_the_end_is_not_acted_on(tmp_path: Path) -> None:
    """Half a password is not a password; the number still gets its reply."""
    async with serve(imap_server({b"LOGIN": b"OK in"})) as old:
        async with helper(write_config(tmp_path, imap=old.port)) as child:
            await child.send(b"1 INTF 7\n2 VRFY u@d.test secr")
            assert await child.end() == 0
            assert child.replies[b"1"] == b"INTF 7"
            assert child.replies[b"2"].startswith(b"FAILURE ")
        assert old.talks == []


@pytest.mark.parametrize("kind", ["file", "socket", "socket-nonblocking", "pipe-nonblocking"])
async def test_stdin_may_be_anything(tmp_path: Path, kind: str) -> None:
    """A file, a socket, a pipe, blocking or not: asyncio's pipe support has no say in it."""
    requests = b"1 INTF 7\n2 DANCE\n3 NEW nobody@unknown.test\n4 QUIT\n"
    config = write_config(tmp_path)
    ours: socket.socket | int | None = None
    if kind == "file":
        (tmp_path / "requests").write_bytes(requests)
        stdin = os.open(tmp_path / "requests", os.O_RDONLY)
    elif kind.startswith("socket"):
        ours, theirs = socket.socketpair()
        theirs.setblocking(kind == "socket")
        stdin = theirs.detach()
        ours.sendall(requests)
    else:
        stdin, ours = os.pipe()
        os.set_blocking(stdin, False)
        os.write(ours, requests)
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "extauth",
            "serve",
            "--config",
            str(config),
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 30)
    finally:
        os.close(stdin)
        if isinstance(ours, socket.socket):
            ours.close()
        elif ours is not None:
            os.close(ours)
    lines = [line for line in out.splitlines() if not line.startswith(b"*")]
    assert process.returncode == 0
    assert err == b""
    assert lines[0] == b"1 INTF 7"
    assert lines[-1] == b"4 OK"
    assert sorted(line[:4] for line in lines[1:3]) == [b"2 ER", b"3 FA"]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
async def test_a_descriptor_may_be_missing(tmp_path: Path, closed: str) -> None:
    """Started without stdin, stdout or stderr, the helper serves or ends; it never dies of what took their numbers."""
    command = f'exec "{sys.executable}" -m extauth serve --config "{write_config(tmp_path)}" {closed}'
    process = await asyncio.create_subprocess_shell(
        command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(b"1 INTF 7\n"), 30)
    assert process.returncode == 0
    assert err == b""
    assert (b"1 INTF 7" in out.splitlines()) == (closed == "2>&-")


async def test_stdout_may_be_a_socket(tmp_path: Path) -> None:
    """Stdin and stdout the same socket, as some starters have it."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    loop = asyncio.get_running_loop()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "extauth",
        "serve",
        "--config",
        str(write_config(tmp_path)),
        stdin=theirs.fileno(),
        stdout=theirs.fileno(),
    )
    theirs.close()
    await loop.sock_sendall(ours, b"1 INTF 7\n2 QUIT\n")
    received = b""
    while data := await loop.sock_recv(ours, 4096):
        received += data
    ours.close()
    assert await process.wait() == 0
    assert received.endswith(b"1 INTF 7\n2 OK\n")


async def test_replies_that_nobody_takes_do_not_stop_the_reading(tmp_path: Path) -> None:
    """Stdout is full; requests are still read, and every reply comes whole once somebody reads."""
    read_end, write_end = os.pipe()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "extauth",
        "serve",
        "--config",
        str(write_config(tmp_path)),
        stdin=asyncio.subprocess.PIPE,
        stdout=write_end,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(write_end)
    assert process.stdin is not None
    count = 20_000
    try:
        for start in range(0, count, 1000):
            process.stdin.write(b"".join(b"%d DANCE\n" % number for number in range(start, start + 1000)))
            async with asyncio.timeout(30):
                await process.stdin.drain()
        process.stdin.close()
        received = await asyncio.to_thread(_read_all, read_end)
    finally:
        os.close(read_end)
    assert process.stderr is not None
    assert await process.stderr.read() == b""
    assert await process.wait() == 0
    lines = [line for line in received.splitlines(keepends=True) if not line.startswith(b"*")]
    assert lines == [b"%d ERROR unknown request\n" % number for number in range(count)]


def _read_all(descriptor: int) -> bytes:
    parts = []
    while data := os.read(descriptor, 65536):
        parts.append(data)
    return b"".join(parts)


async def test_deadline_starts_when_the_line_is_read(tmp_path: Path) -> None:
    """A black hole: every request is answered by its deadline, those that wait their turn too."""

    async def play(talk: Talk) -> None:
        await talk.silence()

    async with serve(play) as hole:
        config = write_config(tmp_path, imap=hole.port, helper='deadline = "1s"\nconcurrency = 5')
        async with helper(config) as child:
            await child.ask(b"0 INTF 7")
            loop = asyncio.get_running_loop()
            start = loop.time()
            await child.send(b"".join(b"%d VRFY u%d@d.test secret\n" % (n, n) for n in range(1, 1001)))
            replies = [await child.reply(number) for number in range(1, 1001)]
            assert loop.time() - start < 4
            assert all(reply.startswith(b"FAILURE ") for reply in replies)
            assert await child.ask(b"1001 INTF 7") == b"INTF 7"
        assert hole.most <= 10


async def test_a_black_hole_holds_up_its_own_users_only(tmp_path: Path) -> None:
    """A thousand logins wait for a dead server; a user of a healthy one is answered while none of them is."""

    async def silence(talk: Talk) -> None:
        await talk.silence()

    async with serve(silence) as hole, serve(imap_server({b"secret": b"OK in"})) as good:
        healthy = f'[domains."good.test"]\nnew = "refuse"\nimap = "127.0.0.1:{good.port}"'
        config = write_config(tmp_path, imap=hole.port, domain=healthy, helper='deadline = "30s"\nconcurrency = 50')
        async with helper(config) as child:
            await child.send(b"".join(b"%d VRFY u%d@d.test secret\n" % (n, n) for n in range(1, 1001)))
            assert await child.ask(b"1001 VRFY u@good.test wrong") == b"ERROR NO [AUTHENTICATIONFAILED] ***"
            assert set(child.replies) == {b"1001"}
            await child.kill()


async def test_replies_come_in_any_order(tmp_path: Path) -> None:
    """One slow request holds up nobody."""
    go = asyncio.Event()

    async def play(talk: Talk) -> None:
        await talk.send(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
        line = await talk.line()
        if b"slow" in line:
            await go.wait()
        await talk.send(line.split(b" ")[0] + b" NO wrong\r\n")

    async with serve(play) as old, helper(write_config(tmp_path, imap=old.port)) as child:
        await child.send(b"1 VRFY slow@d.test secret\n2 VRFY quick@d.test secret\n")
        assert (await child.reply(2)).startswith(b"ERROR ")
        assert b"1" not in child.replies
        go.set()
        assert (await child.reply(1)).startswith(b"ERROR ")


async def test_start_and_stop_leave_stdout_clean(tmp_path: Path) -> None:
    """Every byte on stdout is a reply or an information line."""
    async with communigate() as server, helper(write_config(tmp_path, cli=server.cli.port)) as child:
        assert await child.ask(b"1 INTF 7") == b"INTF 7"
        assert await child.end() == 0
        assert all(line[:2] == b"* " or line[:1].isdigit() for line in bytes(child.raw).splitlines())
