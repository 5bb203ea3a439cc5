"""One program run to its end as a child: how long it took, its CPU, its memory; or killed on the way."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
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
    kill_when: Callable[[float], bool] | None = None,
) -> Measured:
    """Run a program; SystemExit with its last words when its exit code is not in `ok`.

    It gets SIGKILL once `kill_when`, asked every few milliseconds with the seconds since its start, says so; that is
    then as good an end as another.
    """
    began = time.monotonic()
    log = server_directory() / "output"
    with log.open("wb") as output:
        child = subprocess.Popen(
            arguments,
            cwd=_ROOT,
            env={**os.environ, **(environment or {}), "PYTHONDONTWRITEBYTECODE": ""},  # as it is where it is installed
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            peak, status, usage = _watch(child.pid, kill_when)
        except BaseException:
            child.kill()
            child.wait()
            raise
    seconds = time.monotonic() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    said = log.read_text("utf-8", "replace")
    shutil.rmtree(log.parent)
    if child.returncode not in ok and not (kill_when and child.returncode == KILLED):
        raise SystemExit(f"{arguments[0]} ended with {child.returncode}:\n{said[-2000:]}")
    return Measured(seconds, usage.ru_utime + usage.ru_stime, peak, child.returncode, said)


def _watch(pid: int, kill_when: Callable[[float], bool] | None) -> tuple[int, int, resource.struct_rusage]:
    """Wait for a child: the most memory it was seen with (KiB), its status and its times.

    The maximum in its rusage would not do: it begins with ours, from before the exec.
    """
    peak, began = 0, time.monotonic()
    while True:
        with suppress(OSError):
            found = re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())
            peak = max(peak, int(found[1])) if found else peak  # a child that has ended shows none
        done, code, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return peak, code, usage
        if kill_when is not None and kill_when(time.monotonic() - began):
            os.kill(pid, signal.SIGKILL)
            kill_when = None
        time.sleep(0.005)
