"""The real helper as a child process on pipes, its configuration, and scripted old servers around it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from extauth.sandbox.communigate import CommuniGate
from migrator.seal import generate_keys
from tests.servers.script import Play, Talk

DOMAIN = "d.test"
NOWHERE = 9  # the discard port of loopback, where nothing listens: connections are refused at once


def write_config(
    directory: Path,
    *,
    cli: int = NOWHERE,
    smtp: int = NOWHERE,
    imap: int = NOWHERE,
    pop: int = NOWHERE,
    verify: str = "imap",
    domain: str = "",
    communigate: str = "",
    helper: str = 'deadline = "5s"',
    name: str = DOMAIN,
) -> Path:
    """A configuration in `directory` with one domain; the texts are more lines of their tables."""
    state = directory / "state"
    state.mkdir(mode=0o700, exist_ok=True)
    if not (directory / "seal.pub").exists():
        generate_keys(directory / "seal.pub", directory / "seal.key")
    (directory / "cli.password").write_text("sandbox admin\n")
    (directory / "cli.password").chmod(0o600)
    config = directory / "extauth.toml"
    text = f"""
[communigate]
cli = "127.0.0.1:{cli}"
login = "postmaster"
password_file = "cli.password"
imap = "127.0.0.1:{NOWHERE}"
smtp = "127.0.0.1:{NOWHERE}"
{communigate}
[helper]
log = "helper.log"
{helper}
[state]
url = "sqlite:///{state}/state.db"
public_key_file = "seal.pub"
key_file = "seal.key"
[worker]
embedded = false
[domains."{name}"]
smtp = "127.0.0.1:{smtp}"
imap = "imap://127.0.0.1:{imap}"
pop = "pop3://127.0.0.1:{pop}"
verify = "{verify}"
{domain}
"""
    new = config.with_suffix(".new")
    new.write_text(text)
    new.replace(config)
    return config


class Child:
    """The helper under test. Replies are kept by number until somebody asks for them."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.replies: dict[bytes, bytes] = {}
        self.information: list[bytes] = []
        self.raw = bytearray()
        self._reading = asyncio.get_running_loop().create_task(self._read())
        self._more = asyncio.Event()

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.raw += line
            if line.startswith(b"*"):
                self.information.append(line)
            else:
                number, _, rest = line.partition(b" ")
                assert number not in self.replies, f"two replies to {number!r}"
                self.replies[number] = rest.removesuffix(b"\n")
            self._more.set()
        self._more.set()

    async def send(self, data: bytes) -> None:
        """Write bytes to its stdin as they are."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        await self.process.stdin.drain()

    async def reply(self, number: bytes | int, timeout: float = 30.0) -> bytes:
        """What follows the number in its reply."""
        key = str(number).encode() if isinstance(number, int) else number
        async with asyncio.timeout(timeout):
            while key not in self.replies:
                assert not self._reading.done(), f"the helper ended without a reply to {key!r}"
                self._more.clear()
                await self._more.wait()
        return self.replies[key]

    async def told(self, text: bytes, timeout: float = 30.0) -> bytes:
        """The first information line that holds `text`."""
        async with asyncio.timeout(timeout):
            while True:
                for line in self.information:
                    if text in line:
                        return line
                assert not self._reading.done(), f"the helper ended and never said {text!r}"
                self._more.clear()
                await self._more.wait()

    async def ask(self, line: bytes, timeout: float = 30.0) -> bytes:
        """Send one request line and wait for its reply."""
        await self.send(line + b"\n")
        return await self.reply(line.split()[0], timeout)

    async def end(self, timeout: float = 30.0) -> int:
        """Close its stdin and wait for its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return await self.wait(timeout)

    async def wait(self, timeout: float = 30.0) -> int:
        """Its exit code, and everything it wrote before."""
        async with asyncio.timeout(timeout):
            code = await self.process.wait()
            await self._reading
        return code

    async def kill(self) -> None:
        """End it without a word, if it still runs."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()
        await self._reading


def beginning_with(program: str, directory: Path) -> dict[str, str]:
    """The environment in which every Python begins with `program`: what the machine does to a process, done in it."""
    (directory / "sitecustomize.py").write_text(program)
    return {"PYTHONPATH": os.pathsep.join([str(directory), os.environ.get("PYTHONPATH", "")])}


class WallClock:
    """The wall clock of the processes that have `environ`, as `set` has put it."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "wall-clock"
        self.set(0)
        program = (
            "import time\n"
            "_wall = time.time\n"
            f"time.time = lambda: _wall() + float(open({str(self._file)!r}, 'rb').read())\n"
        )
        self.environ = beginning_with(program, directory)

    def set(self, seconds: float) -> None:
        """So many seconds ahead of the real one."""
        new = self._file.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self._file)


@asynccontextmanager
async def helper(
    config: Path, *, environ: Mapping[str, str] | None = None, python: Sequence[str] = (sys.executable,)
) -> AsyncIterator[Child]:
    """Run the helper on `config`; at the end it must not have said a word on stderr."""
    process = await asyncio.create_subprocess_exec(
        *python,
        "-m",
        "extauth",
        "serve",
        "--config",
        str(config),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(environ or {})},
        limit=1 << 20,
    )
    child = Child(process)
    try:
        yield child
    finally:
        await child.kill()
        assert process.stderr is not None
        said = await process.stderr.read()
        # asyncio's transport of a child that has ended is closed by hand, or -W error finds it open later
        process._transport.close()  # type: ignore[attr-defined]  # asyncio has no public way
        assert said == b""


@asynccontextmanager
async def communigate(*, name: str = DOMAIN) -> AsyncIterator[CommuniGate]:
    """A simulated CommuniGate that serves `name` as an external domain, without a helper of its own."""
    server = CommuniGate("main.test")
    server.add_domain(name)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


def files_with(directory: Path, text: bytes) -> list[Path]:
    """The files below `directory` that hold `text`."""
    return [file for file in directory.rglob("*") if file.is_file() and text in file.read_bytes()]


def add_account(server: CommuniGate, address: str, **settings: str) -> None:
    """An account on external authentication, as NEW would have made it."""
    server.directory.create_account(address, {"UseAppPassword": "NO", "UseExtPassword": "YES", **settings})


def imap_server(answers: Mapping[bytes, bytes], *, greeting: bytes = b"* OK ready\r\n") -> Play:
    """An IMAP server that answers LOGIN by what the line holds; the texts follow the tag."""

    async def play(talk: Talk) -> None:
        await talk.send(greeting)
        while True:
            line = await talk.line()
            tag, _, command = line.partition(b" ")
            word = command.split(b" ")[0].upper()
            if word == b"CAPABILITY":
                await talk.send(b"* CAPABILITY IMAP4rev1\r\n" + tag + b" OK done\r\n")
            elif word == b"LOGOUT":
                await talk.send(b"* BYE\r\n" + tag + b" OK bye\r\n")
                return
            else:
                answer = next((answers[key] for key in answers if key in command), b"NO [AUTHENTICATIONFAILED] wrong")
                await talk.send(tag + b" " + answer + b"\r\n")

    return play


def smtp_server(answers: Mapping[bytes, bytes], *, default: bytes = b"550 5.1.1 no such user") -> Play:
    """An SMTP server that answers RCPT by what the line holds, and other commands by their first word if listed."""

    async def play(talk: Talk) -> None:
        await talk.send(answers.get(b"CONNECT", b"220 old.test ESMTP") + b"\r\n")
        while True:
            line = await talk.line()
            word = line.split(b" ")[0].upper()
            if word == b"RCPT":
                answer = next((answers[key] for key in answers if key in line), default)
            else:
                answer = answers.get(word, b"221 bye" if word == b"QUIT" else b"250 fine")
            await talk.send(answer + b"\r\n")
            if word == b"QUIT" or answer.startswith(b"421"):
                return

    return play


def pop_replying(to_user: bytes, to_pass: bytes, greeting: bytes = b"+OK ready\r\n") -> Play:
    """A POP server that answers USER and PASS so, and hangs up after it."""

    async def play(talk: Talk) -> None:
        await talk.send(greeting)
        while True:
            line = await talk.line()
            word = line.split(b" ")[0].upper()
            if word == b"USER":
                await talk.send(to_user)
            elif word == b"PASS":
                await talk.send(to_pass)
                if not to_pass.startswith(b"+OK"):
                    return
            elif word == b"QUIT":
                await talk.send(b"+OK bye\r\n")
                return
            else:
                await talk.send(b"-ERR what?\r\n")

    return play
