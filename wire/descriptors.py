"""File descriptors: the standard three, as many as the system gives, and a few kept back from connections.

A process that has used up all of them on connections can neither open its log after a rotation nor its ledger.
"""

from __future__ import annotations

import os
import resource
import sys
from typing import Final

RESERVE: Final = 32  # the ledger's six, the log, files of the configuration, name lookups, locks
_MOST: Final = 65_536  # more than any helper uses
_SMALL: Final = 2 * RESERVE  # a limit below leaves nothing to keep back


def raise_limit() -> None:
    """Use what the system allows. Many start programs with 1024 of half a million."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def for_connections() -> int:
    """How many descriptors connections may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST
    return soft - RESERVE if soft > _SMALL else soft


def is_short() -> bool:
    """Whether the next descriptor would be one of those that are kept back."""
    try:
        lowest = os.dup(0)  # the kernel gives the lowest that is free: so many, at least, are in use
    except OSError:
        return False  # whoever opens something now hears why
    os.close(lowest)
    return lowest >= for_connections()


def keep_standard_streams() -> None:
    """Lay /dev/null where stdin, stdout or stderr is missing, before anything else is opened.

    Else a file or socket of ours takes its number and gets the output; and libuv aborts when it closes such a one.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
    if sys.stdin is None:
        sys.stdin = open(os.devnull)  # noqa: SIM115 - it stays open in place of stdin
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the same
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - the same
