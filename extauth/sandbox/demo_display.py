"""How `extauth demo` shows itself: a live table on a terminal, plain lines elsewhere, JSON lines where asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Protocol

from extauth.sandbox.proof import Row


@dataclass(slots=True)
class DomainCount:
    """One line of the live table."""

    domain: str
    users: int
    accounts: int = 0
    logged_in: int = 0
    copies: int = 0
    messages: int = 0
    of: int = 0


@dataclass(slots=True)
class Picture:
    """What there is to see at one moment."""

    seconds: float
    domains: list[DomainCount]
    doing: str = ""
    done: list[str] = field(default_factory=list)


class Display(Protocol):
    """Shows a run. `step` is called when a step is over, `look` a few times a second, `proof` at the end."""

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def step(self, text: str, seconds: float, *, good: bool) -> None:
        """One step is over."""

    def look(self, picture: Picture) -> None:
        """The counts now."""

    def proof(self, rows: Sequence[Row], total: Row, seconds: float, *, good: bool) -> None:
        """The final table."""


class _Quiet:
    def __enter__(self) -> object:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.stdout.flush()


class JsonDisplay(_Quiet):
    """One JSON object a line."""

    def step(self, text: str, seconds: float, *, good: bool) -> None:
        self._say({"event": "step", "text": text, "seconds": round(seconds, 2), "good": good})

    def look(self, picture: Picture) -> None:
        """Nothing: programs want results."""

    def proof(self, rows: Sequence[Row], total: Row, seconds: float, *, good: bool) -> None:
        accounts = [{**asdict(row), "proven": row.proven} for row in rows]
        value = {"event": "proof", "accounts": accounts, "total": asdict(total), "seconds": round(seconds, 2)}
        self._say({**value, "good": good})

    def _say(self, value: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()


class PlainDisplay(_Quiet):
    """Lines: each step, the counts every two seconds, the table."""

    def __init__(self) -> None:
        self._next = 2.0

    def step(self, text: str, seconds: float, *, good: bool) -> None:
        self._say(f"{seconds:5.1f} s  {'ok  ' if good else 'BAD '} {text}")

    def look(self, picture: Picture) -> None:
        if picture.seconds >= self._next:
            self._next = picture.seconds + 2.0
            for line in picture.domains:
                self._say(
                    f"{picture.seconds:5.1f} s       {line.domain}: {line.accounts} of {line.users} accounts, "
                    f"{line.logged_in} moved, {line.copies} copies done, {line.messages} of {line.of} messages"
                )

    def proof(self, rows: Sequence[Row], total: Row, seconds: float, *, good: bool) -> None:
        width = max(len(row.name) for row in [*rows, total])
        self._say(f"{'account':{width}}" + "".join(f"{title:>10}" for title, _ in _COLUMNS))
        for row in [*rows, total]:
            values = "".join(f"{getattr(row, key):>10}" for _, key in _COLUMNS)
            self._say(f"{row.name:{width}}{values}")
        self._say(_verdict(total, seconds, good=good))

    def _say(self, line: str) -> None:
        sys.stdout.write(line.encode("utf-8", "backslashreplace").decode() + "\n")
        sys.stdout.flush()


_COLUMNS = (
    ("mailboxes", "mailboxes"),
    ("old mail", "messages"),
    ("new mail", "delivered"),
    ("arrived", "arrived"),
    ("missing", "missing"),
    ("doubled", "doubled"),
    ("changed", "changed"),
    ("flags", "flags"),
    ("dates", "dates"),
    ("subscr.", "subscriptions"),
)


def _verdict(total: Row, seconds: float, *, good: bool) -> str:
    if good:
        count = total.messages + total.delivered
        return f"Every one of {count} messages arrived once, byte for byte, in {seconds:.1f} s."
    return f"NOT PROVEN after {seconds:.1f} s: see the lines marked BAD and the columns that are not zero."


class LiveDisplay:
    """A table that changes in place, with rich."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - 60 ms that plain output need not pay
        from rich.live import Live  # noqa: PLC0415 - the same

        self._console = Console()
        self._live = Live(console=self._console, refresh_per_second=8, transient=True)

    def __enter__(self) -> object:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def step(self, text: str, seconds: float, *, good: bool) -> None:
        from rich.text import Text  # noqa: PLC0415 - loaded already

        mark = ("✔ ", "green") if good else ("✘ ", "bold red")
        self._live.console.print(Text.assemble((f"{seconds:5.1f} s ", "dim"), mark, text))

    def look(self, picture: Picture) -> None:
        from rich.console import Group  # noqa: PLC0415 - loaded already
        from rich.table import Table  # noqa: PLC0415 - the same
        from rich.text import Text  # noqa: PLC0415 - the same

        table = Table(title=f"{picture.seconds:.1f} s   {picture.doing}", title_justify="left", title_style="bold cyan")
        for title in ("domain", "users", "accounts", "moved", "copies done", "messages", ""):
            table.add_column(title, justify="left" if title in ("domain", "") else "right")
        for line in picture.domains:
            table.add_row(
                line.domain,
                str(line.users),
                str(line.accounts),
                str(line.logged_in),
                str(line.copies),
                f"{line.messages} of {line.of}",
                _bar(line.messages, line.of),
            )
        self._live.update(Group(Text(""), table))

    def proof(self, rows: Sequence[Row], total: Row, seconds: float, *, good: bool) -> None:
        from rich.table import Table  # noqa: PLC0415 - loaded already

        self._live.stop()
        table = Table(title="Old server against new, by digest", title_justify="left", show_footer=True)
        table.add_column("account", footer="all")
        for title, key in _COLUMNS:
            table.add_column(title, footer=str(getattr(total, key)), justify="right")
        for row in rows:
            values = [str(getattr(row, key)) for _, key in _COLUMNS]
            table.add_row(row.name, *values, style="" if row.proven else "bold red")
        self._console.print(table)
        self._console.print(_verdict(total, seconds, good=good), style="bold green" if good else "bold red")


def _bar(done: int, whole: int, width: int = 20) -> str:
    filled = width * done // whole if whole else width
    return "█" * min(filled, width) + "░" * max(0, width - filled)


def choose(*, as_json: bool = False, plain: bool = False) -> Display:
    """JSON where asked, a live table on a terminal, else plain lines."""
    if as_json:
        return JsonDisplay()
    if plain or not sys.stdout.isatty():
        return PlainDisplay()
    return LiveDisplay()
