"""The embedded worker: one process of its own that copies mail, started and looked after by the helper.

It lives in its own session and holds none of the helper's pipes, so neither can harm the other, and it goes on when the
helper is started again. A file lock allows one for a state directory; one of another version is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import migrator
from extauth.notices import Notices
from migrator.settings import Settings
from migrator.worker_lock import Holder, program_version, read_holder

_FIRST_LOOK: Final = 0.2  # seconds after the start: the first request comes first
_LOOK: Final = 5.0  # seconds between looks whether it still runs
_PAUSE: Final = 1.0  # seconds before one that died is started again, doubled each time
_LONGEST_PAUSE: Final = 60.0
_STEADY: Final = 60.0  # seconds after which one that dies is counted as the first again


class EmbeddedWorker:
    """Keeps one worker running, as the configuration has it. It is left alone when the helper ends."""

    def __init__(self, notices: Notices) -> None:
        self._notices = notices
        self._config = self._directory = self._log = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._descriptor = -1  # of the process, readable when it has ended
        self._started_at = 0.0
        self._pause = _PAUSE
        self._replaced: Holder | None = None
        self._timer: asyncio.TimerHandle | None = None

    def apply(self, settings: Settings) -> None:
        """Start the worker if none runs, now and whenever it is found dead; or end ours where none is wanted now.

        A worker that runs reads a changed configuration by itself.
        """
        if self._timer is not None:
            self._timer.cancel()
        self._config = settings.path.absolute()
        self._directory = settings.state.directory
        self._log = settings.helper.log.with_name("worker.log")
        if settings.worker.embedded:
            self._look_in(_FIRST_LOOK)
        elif self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def _look_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        now = asyncio.get_running_loop().time()
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                self._look_in(_LOOK)
                return
            self._process = None
            self._unwatch()
            if read_holder(self._directory) is None:
                self._ended(code, now)
                return
        holder = read_holder(self._directory)
        if holder is None:
            self._replaced = None
            self._start(now)
        elif holder.pid and holder.version != program_version() and holder != self._replaced:
            self._replace(holder)
        self._look_in(_LOOK if self._process is not None or holder is not None else self._pause)

    def _watch(self, pid: int) -> None:
        """Look at once when the process ends, where the system can tell; else at the next look."""
        with contextlib.suppress(OSError, AttributeError, NotImplementedError):
            self._descriptor = os.pidfd_open(pid)
            asyncio.get_running_loop().add_reader(self._descriptor, self._look)

    def _unwatch(self) -> None:
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _ended(self, code: int, now: float) -> None:
        if now - self._started_at > _STEADY:
            self._pause = _PAUSE
        self._notices.alarm("worker", f"the worker ended with {code} and is started again; {self._log} may tell why")
        self._look_in(self._pause)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def _replace(self, holder: Holder) -> None:
        """Ask a worker of another version to end; it lets go of its copies, and the next look starts ours."""
        self._replaced = holder
        self._notices.announce(f"the worker of version {holder.version} is replaced by {program_version()}")
        try:
            os.kill(holder.pid, signal.SIGTERM)
        except OSError as error:
            self._notices.alarm("worker", f"the worker {holder.pid} cannot be ended: {error.strerror}")

    def _start(self, now: float) -> None:
        command = [sys.executable, "-m", "migrator", "work", "--config", str(self._config), "--name", "embedded"]
        command.append("--embedded")
        self._started_at = now
        log = -1
        try:
            log = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o600)
        except OSError as error:  # the mail is copied all the same
            self._notices.alarm("worker log", f"the worker logs nothing: cannot open {self._log}: {error.strerror}")
        else:
            command += ["--log", str(self._log)]
        said = log if log >= 0 else subprocess.DEVNULL
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module, no outside words
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=Path(migrator.__file__).parent.parent,  # -m looks there first, never in the server's directory
                close_fds=True,
                start_new_session=True,
            )
        except OSError as error:
            self._notices.alarm("worker", f"the worker cannot be started: {error.strerror}")
        else:
            self._notices.log.info("worker started", pid=self._process.pid)
            self._watch(self._process.pid)
        finally:
            if log >= 0:
                os.close(log)
