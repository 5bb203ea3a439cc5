"""The Move programs as child processes, as a person calls them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class End:
    """How a program ended."""

    code: int | None
    output: str
    errors: str


async def move(
    program: str, directory: Path, *arguments: str | bytes, stdin: bytes = b"", redirect: str = "", **environment: str
) -> End:
    """Run `move_imap`, `move_pop` or `move_accounts` to its end; its marks lie in `directory`.

    `redirect` is put behind the call as in a shell.
    """
    shell = ["sh", "-c", f'exec "$@" {redirect}', "sh"] if redirect else []
    process = await asyncio.create_subprocess_exec(
        *shell, sys.executable, "-m", f"migrator.{program}", *arguments,
        env={**os.environ, "EXTAUTH_MOVES": str(directory / "moves.db"), "PYTHONPATH": str(_ROOT), **environment},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    output, errors = await process.communicate(stdin)
    return End(process.returncode, output.decode(), errors.decode())
