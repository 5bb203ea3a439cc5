"""Programs of Debian packages that cannot be installed beside Dovecot: unpacked by `make packages` into a directory."""

from __future__ import annotations

import os
from pathlib import Path

from tests.servers.process import ServerTrouble

ROOT = Path("/usr/local/lib/extauth-servers")  # also in .ci/packages
LIBRARIES = f"{ROOT}/usr/lib/x86_64-linux-gnu:{ROOT}/usr/lib/aarch64-linux-gnu:{ROOT}/usr/lib"


def unpacked(path: str) -> str:
    """Path of an unpacked program. Its absence fails the run: a test that needs a real server is never skipped."""
    program = ROOT / path
    if not program.exists():
        raise ServerTrouble(f"{program} is not there: make packages unpacks it")
    if os.geteuid() != 0:
        raise ServerTrouble(f"{program} needs root for a private instance: run the tests as root")
    return str(program)


def environment(**more: str) -> dict[str, str]:
    """What an unpacked program needs around it."""
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LD_LIBRARY_PATH": LIBRARIES, **more}
