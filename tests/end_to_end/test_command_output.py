"""What the operator's commands do where their output can go nowhere."""

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
