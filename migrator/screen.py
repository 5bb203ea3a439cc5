"""Where a Move program shows how far it is and what it says on the way: stdout, stderr, and a bar on a terminal.

stdout holds what the guide promises, and with --json one value and nothing else, so that a pipe stays clean: the bar
is drawn on stderr, and only where that is a terminal. Where --verbose asks for lines, no bar is drawn beside them.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from migrator.report import Progress, ProgressListener

if TYPE_CHECKING:
    from migrator.options import CopyOptions
    from migrator.progress_bar import ProgressBar

_EVERY: Final = 2.0  # seconds between lines about one mailbox


class Screen:
    """`with Screen.of(options) as screen`: `listener` for a copy, `say` and `show` for lines meanwhile."""

    def __init__(self, *, lines: bool = False, bar: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.lines = lines
        self.bar = bar
        self._clock = clock
        self._drawn: ProgressBar | None = None

    @classmethod
    def of(cls, options: CopyOptions) -> Screen:
        """As the flags and the terminal have it: a bar on a terminal, else lines with --verbose, never both."""
        draws = sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
        verbose = options.verbose and not options.json
        mixed = options.json and sys.stdout.isatty()  # the value and the bar would stand in one another
        bar = draws and not mixed and (not verbose or sys.stdout.isatty())
        return cls(lines=verbose and not bar, bar=bar)

    def __enter__(self) -> Self:
        if self.bar:
            from migrator.progress_bar import ProgressBar  # noqa: PLC0415 - rich takes 100 ms, and only a bar needs it

            self._drawn = ProgressBar()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn is not None:
            self._drawn.close()
            self._drawn = None

    def listener(self, label: str = "") -> ProgressListener:
        """For one account's copy; `label` stands before its mailboxes."""
        said = dict[str, float]()

        def tell(progress: Progress) -> None:
            if self._drawn is not None:
                self._drawn.tell(label, progress)
            elif self.lines:
                now = self._clock()
                if progress.done < progress.total and now - said.get(progress.mailbox, -_EVERY) < _EVERY:
                    return
                said[progress.mailbox] = now
                name = f"{label}{progress.mailbox}"
                print_line(f"{name}: {progress.done} of {progress.total} messages, {progress.octets} bytes")

        return tell

    def count_accounts(self, total: int) -> None:
        """Show how many of `total` accounts are done."""
        if self._drawn is not None:
            self._drawn.count_accounts(total)

    def account_done(self, label: str) -> None:
        """The account with this label is through."""
        if self._drawn is not None:
            self._drawn.account_done(label)

    def show(self, text: str) -> None:
        """A line of the program's output."""
        if self._drawn is not None and sys.stdout.isatty():
            self._drawn.print_above(text)
        else:
            print_line(text)

    def say(self, text: str) -> None:
        """A line for the person, on stderr."""
        if self._drawn is not None:
            self._drawn.print_above(text)
        else:
            complain(text)


def print_line(text: str) -> None:
    """One line on stdout, at once, in its own encoding.

    A reader that has gone away, or a full disk below stdout, is no reason to stop a copy.
    """
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            complain(f"stdout cannot be written: {error.strerror}; the copy goes on")
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - it stays open in place of stdout


def complain(text: str) -> None:
    """One line on stderr."""
    with suppress(OSError):  # nobody is left to hear it
        sys.stderr.write(text.encode("utf-8", "backslashreplace").decode() + "\n")
