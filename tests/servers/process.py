"""What every private server needs: ports, a directory its processes may enter, readiness, and an end.

A server never outlives the test process: a shell waits on a pipe that only the test process holds
open, and when that closes - a crash and kill -9 included - it stops the server by its pid and
removes the directory.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

LOOPBACK = "127.0.0.1"
_START_SECONDS = 20.0  # a server is up in 0.1 s; a machine full of tests may take a hundred times as long
_STOP_SECONDS = 10.0

_WATCH = """
trap '' INT TERM HUP
pid=
while read -r line; do pid=$line; done
[ -z "$pid" ] || kill -TERM "$pid" 2>/dev/null
exec rm -rf -- "$1"
"""


class ServerTrouble(Exception):
    """A server did not start or stop. The text holds the end of its log."""


def require(program: str, package: str) -> str:
    """Path of `program`. Its absence fails the run: a test that needs a real server is never skipped."""
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if path is None:
        raise ServerTrouble(f"{program} is not installed: apt-get install {package} (make test does it)")
    if os.geteuid() != 0:
        raise ServerTrouble(f"{program} needs root for a private instance: run the tests as root")
    return path


def free_ports(count: int, host: str = LOOPBACK) -> list[int]:
    """Ports nobody listens on, below the range that outgoing connections draw from."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def server_directory() -> Path:
    """A new directory that unprivileged server processes may enter, with a path short enough for sockets.

    Below /tmp, or below $EXTAUTH_TEST_DIR: measurements of programs should not wait for a disk.
    """
    path = Path(tempfile.mkdtemp(prefix="xa-", dir=os.environ.get("EXTAUTH_TEST_DIR", "/tmp")))
    path.chmod(0o755)
    return path


def tail(path: Path, lines: int = 15) -> str:
    """The end of a log, for the text of a failure."""
    try:
        return "\n".join(path.read_text("utf-8", "replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"


class Watched:
    """One server process: started, waited for until its ports greet, stopped by its pid."""

    def __init__(self, directory: Path, log: Path) -> None:
        self.directory = directory
        self.log = log
        self.pid = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None

    def start(
        self,
        command: Sequence[str],
        host: str,
        ports: Sequence[int],
        pid_file: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Run `command` and return when every port greets. ServerTrouble when it ends or stays silent."""
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, "watch", str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        with self.log.with_name("console.log").open("ab") as console:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
                env=environment,
            )
        self._tell_watch(str(self._process.pid))
        until = time.monotonic() + _START_SECONDS
        for port in ports:
            self._wait_greeting(host, port, until)
        self.pid = int(pid_file.read_text()) if pid_file is not None else self._process.pid
        self._tell_watch(str(self.pid))

    def _tell_watch(self, line: str) -> None:
        assert self._watch is not None
        assert self._watch.stdin is not None
        with suppress(BrokenPipeError):
            self._watch.stdin.write(line.encode() + b"\n")
            self._watch.stdin.flush()

    def _wait_greeting(self, host: str, port: int, until: float) -> None:
        assert self._process is not None
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection((host, port), timeout=5) as connection:
                if connection.recv(1):
                    return
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(timeout=0.02)
                raise ServerTrouble(f"{self._process.args!r} ended with {code}:\n{self._logs()}")
        raise ServerTrouble(f"{self._process.args!r} does not greet on port {port}:\n{self._logs()}")

    def _logs(self) -> str:
        return tail(self.log.with_name("console.log")) + "\n" + tail(self.log)

    def stop(self) -> None:
        """Stop the server; its directory stays until `remove`."""
        process = self._process
        if process is None:
            return
        self._end_watch()
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid or process.pid, signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(_STOP_SECONDS)
        self._process = None
        self.pid = 0

    def _end_watch(self) -> None:
        watch = self._watch
        if watch is None or watch.stdin is None:
            return
        with suppress(ProcessLookupError):
            watch.kill()  # it would remove the directory, which a server started again still needs
        watch.wait(_STOP_SECONDS)
        with suppress(OSError):
            watch.stdin.close()
        self._watch = None

    def remove(self) -> None:
        """Remove the directory of a stopped server."""
        shutil.rmtree(self.directory, ignore_errors=True)
