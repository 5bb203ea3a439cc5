"""The External Authentication program as CommuniGate runs it: a child process on pipes.

Numbered lines out, numbered lines in, in any order. A request not answered within the Time-out stops the program; with
auto-restart it is started again after a pause and the pending requests are sent again. Everything that the protocol
does not allow (a long line, an unknown reply, a number never asked, bytes on stderr) is recorded, not hidden.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from cli_client.format import quote

REPLY_LIMIT = 4096  # bytes of a reply line, line end included
_STOP_SECONDS = 5.0  # between SIGTERM and SIGKILL


class PasswordForm(Enum):
    """How a server version writes the password into VRFY."""

    QUOTED = "quoted"  # always a quoted data-format string
    AUTO = "auto"  # bare where it is one plain word, else quoted
    RAW = "raw"  # older versions: just the bytes


@dataclass(frozen=True, slots=True)
class HelperReply:
    """`word` is OK, ERROR, FAILURE, ROUTED, PLAIN, INTF; or LOST when no answer came. `text` is the rest."""

    word: str
    text: str = ""


@dataclass(slots=True)
class _Pending:
    number: int
    line: bytes  # without the number
    reply: asyncio.Future[HelperReply]
    sent: int = 0
    due: float = 0.0


_WORDS = frozenset({"OK", "ERROR", "FAILURE", "ROUTED", "PLAIN", "INTF"})


@dataclass(slots=True)
class HelperProcess:
    """Runs `command`. `start` before the first request, `stop` at the end."""

    command: Sequence[str]
    env: Mapping[str, str] | None = None  # more environment variables
    cwd: Path | None = None
    timeout: float = 20.0  # the Time-out setting
    restart_pause: float = 1.0
    auto_restart: bool = True
    interface: int = 7
    form: PasswordForm = PasswordForm.QUOTED
    most_sends: int = 3  # a request that never gets an answer is given up after so many starts
    log: list[str] = field(default_factory=list)  # information lines
    violations: list[str] = field(default_factory=list)
    stderr: bytearray = field(default_factory=bytearray)
    starts: int = 0
    timeouts: int = 0
    answered: int = 0
    spoken_interface: int | None = None
    exit_codes: list[int] = field(default_factory=list)
    requests: list[tuple[int, str]] = field(default_factory=list)  # number and keyword, in the order sent
    _process: asyncio.subprocess.Process | None = None
    _pending: dict[int, _Pending] = field(default_factory=dict)
    _given_up: set[int] = field(default_factory=set)
    _next: int = 1
    _stopping: bool = False
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _runner: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The running program's process id."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def outstanding(self) -> int:
        """Requests without an answer."""
        return len(self._pending)

    # -- requests ------------------------------------------------------------------------------------------------------

    async def verify(self, address: str, password: bytes, mode: str = "IMAP", ip: str = "127.0.0.1") -> HelperReply:
        """VRFY: is this the password?"""
        return await self.request(verify_line(address, password, mode, ip, self.form))

    async def new(self, address: str, mode: str = "SMTP", ip: str = "127.0.0.1") -> HelperReply:
        """NEW: should there be such an account?"""
        return await self.request(b"NEW " + address.encode() + _tail(mode, ip))

    async def request(self, line: bytes) -> HelperReply:
        """Send any request (without its number) and wait for the reply, across restarts."""
        if self._stopping:
            return HelperReply("LOST", "the program was stopped")
        number = self._next
        self._next += 1
        pending = _Pending(number, line, asyncio.get_running_loop().create_future())
        self._pending[number] = pending
        self._send(pending)
        try:
            return await pending.reply
        finally:
            self._pending.pop(number, None)

    async def write_raw(self, data: bytes) -> None:
        """Put bytes on the program's stdin as they are."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    # -- the process ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the program, learn its interface version, and keep it running."""
        self._stopping = False
        started = asyncio.Event()
        self._runner = asyncio.create_task(self._run(started))
        await started.wait()
        if self._process is not None:
            await self._introduce()

    async def stop(self, timeout: float = 10.0) -> int | None:
        """QUIT, end of input, and wait; a program that lives on is stopped and recorded. Its exit code."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            await self._say_quit(process, timeout)
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._lose_all("the program was stopped")
        return self.exit_codes[-1] if self.exit_codes else None

    def kill(self) -> None:
        """kill -9, as a test or an operator would."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _say_quit(self, process: asyncio.subprocess.Process, timeout: float) -> None:
        assert process.stdin is not None
        number, self._next = self._next, self._next + 1
        self._given_up.add(number)
        with contextlib.suppress(ConnectionError, RuntimeError):
            process.stdin.write(b"%d QUIT\n" % number)
            process.stdin.close()
        try:
            async with asyncio.timeout(timeout):
                await process.wait()
        except TimeoutError:
            self.violations.append(f"still running {timeout:g} s after QUIT")
            await _end(process)
        await self._drained(process)
        self.exit_codes.append(process.returncode if process.returncode is not None else -1)

    async def _drained(self, process: asyncio.subprocess.Process) -> None:
        """Wait until all that the program said was read."""
        tasks = [task for task in self._tasks if task.get_name() == f"read-{process.pid}"]
        if tasks:
            await asyncio.wait(tasks, timeout=2)

    async def _run(self, started: asyncio.Event) -> None:
        """Start; when the program ends or must be stopped, pause and start again with what is pending."""
        while not self._stopping:
            try:
                process = await self._spawn()
            except OSError as error:
                self.violations.append(f"cannot be started: {error}")
                started.set()
                self._lose_all("the program cannot be started")
                return
            for pending in list(self._pending.values()):
                self._resend(pending)
            started.set()
            await self._watch(process)
            if self._stopping:
                return
            await self._drained(process)
            self.exit_codes.append(process.returncode if process.returncode is not None else -1)
            if not self.auto_restart:
                self._lose_all("the program ended")
                return
            await asyncio.sleep(self.restart_pause)

    async def _spawn(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.cwd,
            env={**os.environ, **(self.env or {})},
            limit=1 << 20,
            start_new_session=True,  # Ctrl-C at a terminal is for the sandbox, which then ends the program
        )
        self.starts += 1
        self._process = process
        for reading in (self._read_replies(process), self._read_errors(process)):
            task = asyncio.create_task(reading, name=f"read-{process.pid}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return process

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Until the program ends; stops it when a request is not answered in time."""
        loop = asyncio.get_running_loop()
        ended = asyncio.create_task(process.wait())
        try:
            while not ended.done():
                dues = [p.due for p in self._pending.values() if p.sent]
                wait = max(0.0, min(dues) - loop.time()) if dues else 0.2
                await asyncio.wait([ended], timeout=min(wait, 0.2) + 0.001)
                late = [p for p in self._pending.values() if p.sent and loop.time() >= p.due]
                if late and not ended.done():
                    self.timeouts += 1
                    await _end(process)
        finally:
            ended.cancel()

    async def _introduce(self) -> None:
        reply = await self.request(b"INTF %d" % self.interface)
        if reply.word == "INTF" and reply.text.isdigit():
            self.spoken_interface = int(reply.text)
            if self.spoken_interface > self.interface:
                self.violations.append(f"answers interface {reply.text} where at most {self.interface} was asked")

    def _send(self, pending: _Pending) -> None:
        process = self._process
        if process is None or process.returncode is not None or process.stdin is None or process.stdin.is_closing():
            if self._runner is None or self._runner.done():
                self._answer(pending, HelperReply("LOST", "the program does not run"))
            return  # sent at the next start
        pending.sent += 1
        pending.due = asyncio.get_running_loop().time() + self.timeout
        self.requests.append((pending.number, pending.line.split(b" ", 1)[0].decode("ascii", "replace")))
        with contextlib.suppress(ConnectionError, RuntimeError):  # it has just ended: the next start sends it again
            process.stdin.write(b"%d %s\n" % (pending.number, pending.line))

    def _resend(self, pending: _Pending) -> None:
        if pending.sent >= self.most_sends:
            self._answer(pending, HelperReply("LOST", f"no answer after {pending.sent} tries"))
        else:
            self._send(pending)

    # -- what it says --------------------------------------------------------------------------------------------------

    async def _read_replies(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                self.violations.append("a line of more than 1 MiB")
                continue
            if not line:
                return
            self._take_line(line)

    async def _read_errors(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while data := await process.stderr.read(65536):
            self.stderr += data

    def _take_line(self, line: bytes) -> None:
        if not line.endswith(b"\n"):
            self.violations.append(f"the last line has no end: {line[:80]!r}")
        if len(line) > REPLY_LIMIT:
            self.violations.append(f"a line of {len(line)} bytes")
        text = line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
        if text.startswith("*"):
            self.log.append(text[1:].strip())
            return
        number_text, _, rest = text.partition(" ")
        word, _, detail = rest.partition(" ")
        if not number_text.isdigit() or word not in _WORDS:
            self.violations.append(f"not a reply: {text[:80]!r}")
            return
        number = int(number_text)
        pending = self._pending.get(number)
        if pending is None or pending.reply.done():
            if number not in self._given_up:
                self.violations.append(f"an answer to {number}, which is not outstanding")
            self._given_up.discard(number)
            return
        self.answered += 1
        self._answer(pending, HelperReply(word, detail))

    def _answer(self, pending: _Pending, reply: HelperReply) -> None:
        if not pending.reply.done():
            pending.reply.set_result(reply)

    def _lose_all(self, reason: str) -> None:
        for pending in list(self._pending.values()):
            self._answer(pending, HelperReply("LOST", reason))


def verify_line(address: str, password: bytes, mode: str, ip: str, form: PasswordForm) -> bytes:
    """A VRFY request without its number; the password is written in the given form, byte for byte."""
    if form is PasswordForm.RAW or (form is PasswordForm.AUTO and password.isalnum()):
        written = password
    else:
        written = quote(password.decode("utf-8", "surrogateescape"))
    prefix = b"VRFY " + (b"(" + mode.encode() + b") " if mode else b"")
    return prefix + address.encode() + b" " + written + (b" [" + ip.encode() + b"]" if ip else b"")


def _tail(mode: str, ip: str) -> bytes:
    return (b" (" + mode.encode() + b")" if mode else b"") + (b" [" + ip.encode() + b"]" if ip else b"")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Stop a process of ours: SIGTERM, and SIGKILL when it does not listen."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
