"""The worker's log: JSON lines on stderr or in a file. Nothing that was not logged on purpose is in it.

A line that cannot be written (a full disk) is lost; the worker goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any, Final

import structlog

from migrator.ledger.store import share_file
from wire.outcome import Scope, Temporary

_STDERR: Final = 2


class _LineLogger:
    """What structlog hands finished lines to. One line is one write, so that lines of threads do not mix."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file = _STDERR if path is None else _open(path)

    def msg(self, line: str) -> None:
        with contextlib.suppress(OSError):
            self._follow_rotation()
            os.write(self._file, line.encode("utf-8", "backslashreplace") + b"\n")

    def _follow_rotation(self) -> None:
        """Open the file anew when its name means another one now, or none."""
        if self._path is None:
            return
        try:
            same = os.path.samestat(os.stat(self._path), os.fstat(self._file))
        except FileNotFoundError:
            same = False
        if not same:
            before, self._file = self._file, _open(self._path)
            os.close(before)

    debug = info = warning = error = critical = exception = fatal = msg


def _open(path: Path) -> int:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o600)
    share_file(path)
    return file


def configure_log(path: Path | None) -> None:
    """Log to `path`, or to stderr, from now on. Temporary when the file cannot be opened."""
    try:
        logger = _LineLogger(path)
    except OSError as error:
        raise Temporary(f"cannot open the log {path}: {error.strerror}", scope=Scope.SETUP) from None
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=30)
            ),
            structlog.processors.JSONRenderer(serializer=_dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=lambda *_: logger,
        cache_logger_on_first_use=False,
    )


def _dumps(value: Any, **_options: Any) -> str:
    return json.dumps(value, ensure_ascii=True, default=repr)  # a Secret's repr is Secret(***)
