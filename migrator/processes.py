"""Which process this is, and whether another one still lives, without being fooled by a pid that is used again."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from migrator.model import Worker

_PROC = Path("/proc")
_STATE, _START = 0, 19  # fields of /proc/PID/stat after the name in parentheses (proc(5): fields 3 and 22)


def process_token(pid: int) -> str | None:
    """A name that this process has for itself alone; None when no such process runs.

    Without /proc it is the pid: then a lease of a dead process whose pid lives again runs until its end.
    """
    try:
        fields = (_PROC / str(pid) / "stat").read_text("latin-1").rpartition(")")[2].split()
    except OSError:
        if _PROC.joinpath("self").exists():
            return None
        return str(pid) if process_exists(pid) else None
    return None if fields[_STATE] in "ZX" else f"{pid}.{fields[_START]}"


def is_alive(token: str) -> bool:
    """Whether the process of this host that once had `token` still runs."""
    pid = token.partition(".")[0]
    return pid.isdigit() and process_token(int(pid)) == token


def this_worker(name: str) -> Worker:
    """This process as a worker called `name`, or like the machine."""
    host = socket.gethostname()
    with contextlib.suppress(OSError):
        host += f":{os.stat('/proc/self/ns/pid').st_ino}"  # pids of two containers say nothing about each other
    return Worker(name or socket.gethostname(), host, process_token(os.getpid()) or str(os.getpid()))


def process_exists(pid: int) -> bool:
    """Whether there is a process of this number now, whosever it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
