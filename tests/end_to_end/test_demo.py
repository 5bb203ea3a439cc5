"""`extauth demo` as a person runs it: exit code 0 and a proof of zeros, in seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = [sys.executable, "-m", "extauth.sandbox.demo"]


def test_the_demo_proves_that_every_message_arrived_once(tmp_path: Path) -> None:
    keep = tmp_path / "keep"
    command = [*DEMO, "--json", "--keep", str(keep)]
    result = subprocess.run(command, capture_output=True, timeout=110, check=False, cwd=tmp_path)
    assert result.stderr == b""
    events = [json.loads(line) for line in result.stdout.splitlines()]
    bad = [event["text"] for event in events if event["event"] == "step" and not event["good"]]
    assert bad == []
    assert result.returncode == 0
    total = events[-1]["total"]
    assert total["arrived"] == total["messages"] + total["delivered"] > 4000
    wrong = ("missing", "doubled", "changed", "flags", "dates", "lost_mailboxes", "subscriptions")
    assert {key: total[key] for key in wrong} == dict.fromkeys(wrong, 0)
    assert len(events[-1]["accounts"]) == 20
    assert all(account["proven"] for account in events[-1]["accounts"])
    assert (keep / "log" / "helper.log").stat().st_size > 0


@pytest.mark.parametrize("arguments", [["--users", "2"], ["--nonsense"]])
def test_wrong_flags(arguments: list[str]) -> None:
    result = subprocess.run([*DEMO, *arguments], capture_output=True, timeout=30, check=False)
    assert result.returncode != 0
    assert b"usage: extauth demo" in result.stderr


def test_what_is_on_a_terminal(tmp_path: Path) -> None:
    """The live table in a pseudo terminal, with few users."""
    main, side = os.openpty()
    with subprocess.Popen(
        [*DEMO, "--users", "12"],
        stdin=side,
        stdout=side,
        stderr=side,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "140"},
    ) as process:
        os.close(side)
        shown = b""
        while True:
            try:
                data = os.read(main, 65536)
            except OSError:
                break  # how a pseudo terminal says that the other side is closed
            if not data:
                break
            shown += data
        os.close(main)
        assert process.wait(timeout=60) == 0
    assert b"copies done" in shown
    assert b"Every one of" in shown
