"""Process tokens: the living are known, the dead are known as dead, and a pid alone fools nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from migrator.processes import is_alive, process_token, this_worker


def test_this_process_is_alive_and_is_itself() -> None:
    worker = this_worker("name")
    assert worker.name == "name"
    assert is_alive(worker.process)
    assert worker.process == process_token(os.getpid())
    assert this_worker("").name == worker.host.partition(":")[0]


def test_a_process_is_alive_until_it_ends_even_as_a_zombie() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    token = process_token(child.pid)
    assert token is not None
    assert is_alive(token)
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, but not yet reaped
    assert not is_alive(token)
    child.communicate()
    assert not is_alive(token)
    assert process_token(child.pid) is None


def test_the_same_pid_at_another_time_is_another_process() -> None:
    pid = os.getpid()
    assert not is_alive(f"{pid}.1")
    assert not is_alive(str(pid))


def test_what_is_no_token_is_not_alive() -> None:
    assert not is_alive("")
    assert not is_alive("x.1")
