"""The bars on a terminal: a line for every mailbox at work, with rate and time left, and one for all that was copied.

Drawn on stderr, by rich; imported only where a bar is drawn.
"""

from __future__ import annotations

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft
from rich.text import Text

from migrator import report


class _Rate(ProgressColumn):
    """Messages and bytes a second since the task began."""

    def render(self, task: Task) -> Text:
        seconds = task.elapsed or 0.0
        if seconds <= 0:
            return Text("")
        octets = int(task.fields.get("octets", 0) / seconds)
        return Text(f"{task.completed / seconds:.0f}/s {decimal(octets)}/s", style="progress.data.speed")


class ProgressBar:
    """The bars. `close` takes them off the screen."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeLeft(),
        )
        self._progress = Progress(
            *columns, console=self._console, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._mailboxes: dict[tuple[str, str], TaskID] = {}
        self._told: dict[tuple[str, str], tuple[int, int]] = {}  # messages and bytes, also of those that are through
        self._messages = self._octets = 0
        self._everything = self._progress.add_task("copied", total=None, octets=0)
        self._accounts: TaskID | None = None
        self._progress.start()

    def tell(self, label: str, progress: report.Progress) -> None:
        """How far one mailbox is; it leaves the screen when it is through."""
        key = label, progress.mailbox
        before = self._told.get(key, (0, 0))
        self._told[key] = progress.done, progress.octets
        self._messages += progress.done - before[0]
        self._octets += progress.octets - before[1]
        task = self._mailboxes.get(key)
        if progress.done >= progress.total:
            if task is not None:
                self._progress.remove_task(self._mailboxes.pop(key))
        elif task is None:
            name = f"{label}{progress.mailbox}"
            self._mailboxes[key] = self._progress.add_task(
                name, total=progress.total, completed=progress.done, octets=progress.octets
            )
        else:
            self._progress.update(task, completed=progress.done, octets=progress.octets)
        self._progress.update(self._everything, completed=self._messages, octets=self._octets)

    def count_accounts(self, total: int) -> None:
        """A bar of accounts."""
        self._accounts = self._progress.add_task("accounts", total=total)

    def account_done(self, label: str) -> None:
        """One more is through; nothing of it stays on the screen."""
        for key in [key for key in self._mailboxes if key[0] == label]:
            self._progress.remove_task(self._mailboxes.pop(key))
        for key in [key for key in self._told if key[0] == label]:
            del self._told[key]
        if self._accounts is not None:
            self._progress.advance(self._accounts)

    def print_above(self, text: str) -> None:
        """A line that stays, above the bars."""
        printable = text.encode("utf-8", "backslashreplace").decode()
        self._console.print(printable, markup=False, highlight=False, soft_wrap=True)

    def draw(self) -> None:
        """Draw now, not at the next of ten times a second."""
        self._progress.refresh()

    def close(self) -> None:
        """Off the screen."""
        self._progress.stop()
