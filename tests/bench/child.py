"""One program run to its end as a child: how long it took, its CPU, its memory; or killed on the way."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.servers.process import server_directory

_ROOT = Path(__file__).resolve().parents[2]
KILLED = -signal.SIGKILL


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of one program."""

    seconds: float
    cpu: float  # seconds, user and system, of the program and the children it waited for
    peak: int  # KiB of memory at most
    code: int = 0  # its exit code, KILLED when it was
    said: str = ""  # stdout and stderr


def run_child(
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    ok: Sequence[int] = (0,),
    kill_after: float = 0.0,
) -> Measured:
    """Run a program; SystemExit with its last words when its exit code is not in `ok`.

    With `kill_after` it gets SIGKILL when so many seconds have passed, which is then as good an end as another.
    """
    began = time.monotonic()
    log = server_directory() / "output"
    with log.open("wb") as output:
        child = subprocess.Popen(
            arguments,
            cwd=_ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        peak, status, usage = _watch(child.pid, began + kill_after if kill_after else 0.0)
    seconds = time.monotonic() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    said = log.read_text("utf-8", "replace")
    shutil.rmtree(log.parent)
    if child.returncode not in ok and not (kill_after and child.returncode == KILLED):
        raise SystemExit(f"{arguments[0]} ended with {child.returncode}:\n{said[-2000:]}")
    return Measured(seconds, usage.ru_utime + usage.ru_stime, peak, child.returncode, said)


def _watch(pid: int, kill_at: float) -> tuple[int, int, resource.struct_rusage]:
    """Wait for a child: the most memory it was seen with (KiB), its status and its times.

    The maximum in its rusage would not do: it begins with ours, from before the exec.
    """
    peak = 0
    while True:
        with suppress(OSError):
            found = re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())
            peak = max(peak, int(found[1])) if found else peak  # a child that has ended shows none
        done, code, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return peak, code, usage
        if kill_at and time.monotonic() >= kill_at:
            os.kill(pid, signal.SIGKILL)
            kill_at = 0.0
        time.sleep(0.005)
