"""The helper's log: JSON lines in one file, which is also where file descriptor 2 leads.

Stdout is the protocol and CommuniGate does not read stderr while the helper runs, so both stay untouched:
structlog is configured here before anything logs, and descriptor 2 is laid over the log file (or /dev/null), so
that not even a crash of the interpreter can fill the pipe. Tracebacks are written without local variables.
A log that cannot be opened never stops the helper.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_NO_MODULE: Final[Any] = None
if "rich" not in sys.modules:  # structlog.dev imports rich where it is installed: 40 ms that JSON never needs
    sys.modules["rich"] = _NO_MODULE
    try:
        import structlog
    finally:
        del sys.modules["rich"]
else:
    import structlog

import msgspec  # noqa: E402  # after the guarded import above

STDERR: Final = 2
_WELL: Final = 5  # whole writes in a row until a log that lost lines counts as well: a full disk has room for a line


class LogFile:
    """One file, opened for appending. `reopen` after a rotation; `write` never raises."""

    def __init__(self) -> None:
        self._descriptor = -1
        self._gathered: list[bytes] = []
        self._whole = _WELL  # writes since the last that failed
        self._torn = False  # what was written last has no line end
        self.path: Path | None = None
        self.tell: Callable[[str], object] | None = None  # hears when it cannot be written any more, and when it can
        self.defer: Callable[[], object] | None = None  # calls `flush` in a moment; without it every line is a write

    @property
    def descriptor(self) -> int:
        """Of the open file, or -1."""
        return self._descriptor

    def open(self, path: Path) -> str:
        """Log to `path` from now on, mode 0600 (0640 where its directory is open to its group).

        Returns "" or why it cannot be opened; then what was open before stays.
        """
        try:
            shared = stat.S_IMODE(os.stat(path.parent).st_mode) & 0o020
            descriptor = os.open(
                path,
                os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK,
                0o640 if shared else 0o600,
            )
        except OSError as error:
            return f"cannot open the log {path}: {error.strerror}"
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) and not stat.S_ISCHR(os.fstat(descriptor).st_mode):
            os.close(descriptor)  # a FIFO nobody reads would block the helper
            return f"cannot open the log {path}: not a file"
        self.flush()
        before, self._descriptor, self.path = self._descriptor, descriptor, path
        if before >= 0:
            os.close(before)
        self._cover_stderr()
        return ""

    def reopen(self) -> str:
        """Open the same path again (after a rotation); "" or why not."""
        return self.open(self.path) if self.path is not None else ""

    def close_stderr(self) -> None:
        """Lay /dev/null over descriptor 2, as long as there is no log file."""
        descriptor = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(descriptor, STDERR)
        os.close(descriptor)

    def _cover_stderr(self) -> None:
        os.dup2(self._descriptor, STDERR)

    def write(self, line: bytes, *, at_once: bool = True) -> None:
        """Write a whole line, with those gathered before it. Others than `at_once` wait a moment for more."""
        self._gathered.append(line)
        if at_once or self.defer is None:
            self.flush()
        elif len(self._gathered) == 1:
            self.defer()

    def flush(self) -> None:
        """Write what was gathered; a full disk loses lines, not the helper, and is told of once."""
        gathered, self._gathered = self._gathered, []
        if not gathered or self._descriptor < 0:
            return
        data = (b"\n" if self._torn else b"") + b"".join(gathered)
        trouble, written = "No space left on device", 0
        try:
            written = os.write(self._descriptor, data)
        except OSError as error:
            trouble = str(error.strerror)
        if written:
            self._torn = data[written - 1] != ord("\n")
        self._note(trouble if written < len(data) else "")

    def _note(self, trouble: str) -> None:
        """Say it aloud when lines begin to be lost, and when that is over."""
        was_well = self._whole >= _WELL
        self._whole = 0 if trouble else min(self._whole + 1, _WELL)
        if self.tell is None or was_well is (self._whole >= _WELL):
            return
        if trouble:
            self.tell(f"cannot write to the log {self.path}: {trouble}; requests are answered all the same")
        else:
            self.tell(f"the log {self.path} is written again; what was to be said meanwhile is lost")


class _LineLogger:
    """What structlog hands finished lines to."""

    def __init__(self, file: LogFile) -> None:
        self._file = file

    def msg(self, line: bytes) -> None:
        self._file.write(line + b"\n")

    def info(self, line: bytes) -> None:
        self._file.write(line + b"\n", at_once=False)

    warning = error = critical = exception = fatal = warn = log = msg


_encoder: Final = msgspec.json.Encoder(enc_hook=repr)  # a Secret's repr is Secret(***)


def _render(_logger: object, _name: str, event: structlog.typing.EventDict) -> bytes:
    for key, value in event.items():
        if isinstance(value, str) and not value.isascii():
            event[key] = value.encode("utf-8", "backslashreplace").decode()  # surrogates of odd bytes
    return _encoder.encode(event)


def configure(file: LogFile) -> None:
    """Send everything that structlog's loggers say to `file`, from this call on."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=30)
            ),
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=lambda *_: _LineLogger(file),
        cache_logger_on_first_use=True,
    )


def get_logger() -> Any:
    """The logger of the helper; lines go where `configure` said."""
    return structlog.get_logger()
