"""What the operator's commands do where their output can go nowhere, and where a question gets no answer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.helper_child import write_config


@pytest.mark.parametrize(
    ("output", "code", "said"),
    [
        ("", 73, b""),
        (">/dev/full", 73, b"extauth: stdout cannot be written: No space left on device\n"),
        (">&-", 0, b""),
        ("2>&- >/dev/null", 0, b""),
    ],
)
@pytest.mark.parametrize("command", ["check-config", "status"])
def test_output_that_nobody_takes(tmp_path: Path, command: str, output: str, code: int, said: bytes) -> None:
    """One line and a code of the contract at most, never a traceback. Not redirected, it is a pipe without a reader."""
    line = f'"{sys.executable}" -m extauth {command} --config "{write_config(tmp_path)}"'
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            f"{line} {output}", check=False, shell=True, stdout=write, stderr=subprocess.PIPE, timeout=30
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["extauth", "try", "joe@d.test"], 69, b"not tried"),  # no server of this configuration is there
        (["cli_client", "--host", "127.0.0.1", "--login", "postmaster", "ListDomains"], 64, b"no password was typed"),
    ],
)
def test_end_of_input_where_a_password_is_asked_for(tmp_path: Path, words: list[str], code: int, said: bytes) -> None:
    """Ctrl-D on a terminal is no password."""
    config = write_config(tmp_path)
    command = [sys.executable, "-m", *words, *(["--config", str(config)] if words[0] == "extauth" else [])]
    ours, theirs = os.openpty()
    pipe, both = subprocess.PIPE, subprocess.STDOUT
    try:
        with subprocess.Popen(command, stdin=theirs, stdout=pipe, stderr=both, start_new_session=True) as process:
            assert process.stdout is not None
            asked = b""
            while not asked.endswith(b": "):  # before its question, getpass throws away what was typed
                asked += process.stdout.read(1) or b": the end: "
            os.write(ours, b"\x04")
            rest = process.stdout.read()
    finally:
        os.close(ours)
        os.close(theirs)
    assert b"Traceback" not in rest
    assert (process.returncode, said in rest) == (code, True)
