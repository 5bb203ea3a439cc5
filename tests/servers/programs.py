"""The programs where every user of the system can read them: the checkout may lie in somebody's private home."""

from __future__ import annotations

import atexit
import importlib.metadata
import os
import re
import shutil
import sys
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from tests.servers.process import require, server_directory

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("extauth", "migrator", "cli_client", "wire")


def as_user(uid: int, group: int, *arguments: str) -> list[str]:
    """A command line that runs our Python as `uid`, in `group` too, with no rights left over."""
    setpriv = require("setpriv", "util-linux")
    rights = [f"--reuid={uid}", f"--regid={uid}", f"--groups={group}", "--bounding-set=-all", "--no-new-privs"]
    environment = [
        "/usr/bin/env",
        "--chdir=/",
        "-i",
        f"PYTHONPATH={everybodys_programs()}",
        "HOME=/nonexistent",
        "LANG=C.UTF-8",
    ]
    return [setpriv, *rights, *environment, os.path.realpath(sys.executable), *arguments]


@lru_cache(maxsize=1)
def everybodys_programs() -> Path:
    """A directory for PYTHONPATH with our packages and all they need; made once, removed when the tests end."""
    directory = server_directory()
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    for package in _PACKAGES:
        shutil.copytree(_ROOT / package, directory / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in _requirements():
        for file in importlib.metadata.files(name) or []:
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = directory / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(file.locate()), target)
    return directory


def _requirements() -> set[str]:
    """Every distribution that the programs need to run."""
    found: set[str] = set()
    waiting = ["extauth"]
    while waiting:
        for requirement in importlib.metadata.requires(waiting.pop()) or []:
            word = re.match(r"[A-Za-z0-9._-]+", requirement)
            if word is None or "extra ==" in requirement or word[0] in found:
                continue
            with suppress(importlib.metadata.PackageNotFoundError):  # its marker is of another system
                importlib.metadata.distribution(word[0])
                found.add(word[0])
                waiting.append(word[0])
    return found
