"""How programs of this package end: the codes of sysexits(3), and 1 for "finished, but somebody must look"."""

from __future__ import annotations

from typing import Final

DONE: Final = 0
NEEDS_A_PERSON: Final = 1
USAGE: Final = 64
BAD_DATA: Final = 65
UNAVAILABLE: Final = 69
OUR_FAULT: Final = 70
CANNOT_WRITE: Final = 73
TRY_LATER: Final = 75
PROTOCOL: Final = 76
LOGIN_REFUSED: Final = 77
CONFIGURATION: Final = 78
INTERRUPTED: Final = 130  # as shells say it for SIGINT
