"""What a copy came to, as lines for a person. Pure: a Report or a Preview in, text out.

Every message of the source stands in one column, so that a row adds up to nothing unexplained.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from migrator.preview import MailboxPreview, Preview
from migrator.report import LargeMessage, MailboxReport, RepairedMessage, Report

_LISTED: Final = 20  # large messages of a mailbox that are named unless all are asked for
_WIDEST: Final = 40  # columns of a mailbox name in the table
_COLUMNS: Final = (  # counter, heading, whether it stands there even where it is 0 everywhere
    ("messages", "source", True),
    ("copied", "copied", True),
    ("already", "already", True),
    ("left_out", "left out", False),
    ("vanished", "vanished", False),
    ("refused", "refused", False),
    ("left", "later", False),
    ("unexplained", "unexplained", True),
)


def summary(end: Report | Preview) -> str:
    """One line about a copy, or about one that would be made."""
    if isinstance(end, Preview):
        return f"{len(end.mailboxes)} mailboxes: {end.total('messages')} messages, {_planned(end)}"
    return f"{len(end.mailboxes)} mailboxes: {_counts(end)}"


def render_report(report: Report, *, everything: bool) -> list[str]:
    """The proof: with `everything` a table of all mailboxes, else a line for each that is not simply copied; totals."""
    lines = render_table(report) if everything else []
    for box in report.mailboxes:
        told = [f"  {text}" for text in box.notes] if everything else []
        told += _repaired(box.repaired, everything=everything)
        told += _large(box.too_large, everything=everything)
        renamed = everything and box.target != box.source
        if told or renamed or (not everything and not _is_plain(box)):
            counts = "" if everything else f": {_counts(replace(report, mailboxes=[box]))}"
            lines.append(f"{box.source} -> {box.target}{counts}")
            lines += told
    if everything:
        lines += [f"{name}: not copied: {reason}" for name, reason in report.skipped]
    return [*lines, *report.notes, summary(report)]


def render_preview(preview: Preview, *, everything: bool) -> list[str]:
    """Every mailbox with what would become of it, and totals."""
    lines = []
    for box in preview.mailboxes:
        made = "" if box.exists else " (to be created)"
        lines.append(f"{box.source} -> {box.target}{made}: {_planned(replace(preview, mailboxes=[box]))}")
        lines += [f"  {text}" for text in box.notes]
        lines += _large(box.too_large, everything=everything)
    lines += [f"{name}: would not be copied: {reason}" for name, reason in preview.skipped]
    return [*lines, summary(preview)]


def render_table(report: Report) -> list[str]:
    """A row for each mailbox, and one for all of them."""
    columns = [column for column in _COLUMNS if column[2] or report.total(column[0])]
    rows = [("mailbox", [heading for _, heading, _ in columns])]
    rows += [(box.source, _numbers(replace(report, mailboxes=[box]), columns)) for box in report.mailboxes]
    rows.append(("all", _numbers(report, columns)))
    names = [_fit(name) for name, _ in rows]
    widest = max(_width(name) for name in names)
    widths = [max(len(cells[at]) for _, cells in rows) for at in range(len(columns))]
    return [
        name
        + " " * (widest - _width(name))
        + "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        for name, (_, cells) in zip(names, rows, strict=True)
    ]


def _numbers(report: Report, columns: Sequence[tuple[str, str, bool]]) -> list[str]:
    return [str(report.total(counter)) for counter, _, _ in columns]


def _is_plain(box: MailboxReport) -> bool:
    """Everything in it was copied, now or before, and is there."""
    odd = (
        box.repaired,
        box.refused,
        box.vanished,
        box.left_out,
        box.left,
        box.doubled,
        box.gone,
        box.missing,
        box.held,
        box.postponed,
    )
    return not any(odd) and not box.unexplained


def _counts(report: Report) -> str:
    words = [f"{report.total('messages')} messages", f"{report.total('copied')} copied"]
    for name, word in (
        ("already", "already there"), ("repaired", "repaired"),
        ("refused", "refused"), ("vanished", "vanished"), ("left_out", "left out"),
        ("left", "left for later"), ("deleted", "deleted at the source"), ("flagged", "flags brought over"),
        ("expunged", "no longer at the source"), ("gone", "no longer at the target"),
        ("missing", "confirmed and not there"),
        ("doubled", "perhaps doubled"), ("unexplained", "unexplained"),
    ):  # fmt: skip
        if report.total(name):
            words.append(f"{report.total(name)} {word}")
    return ", ".join(words)


def _planned(preview: Preview) -> str:
    words = [f"{preview.total('to_copy')} to copy ({preview.total('octets')} bytes)"]
    for name, word in (("already", "already there"), ("left_out", "left out")):
        if preview.total(name):
            words.append(f"{preview.total(name)} {word}")
    held: list[MailboxPreview] = [box for box in preview.mailboxes if box.held]
    return ", ".join(words) + ("".join(f"; held: {box.held}" for box in held) if len(preview.mailboxes) == 1 else "")


def _repaired(messages: Sequence[RepairedMessage], *, everything: bool) -> list[str]:
    named = messages if everything else messages[:_LISTED]
    lines = [f"  message {one.uid} repaired: {one.form} (refused: {one.reason})" for one in named]
    if len(named) < len(messages):
        lines.append(f"  and {len(messages) - len(named)} more (--verbose or --json names them)")
    return lines


def _large(messages: Sequence[LargeMessage], *, everything: bool) -> list[str]:
    named = messages if everything else messages[:_LISTED]
    lines = [f"  message {message.uid} left out: {message.size} bytes" for message in named]
    if len(named) < len(messages):
        lines.append(f"  and {len(messages) - len(named)} more (--verbose or --json names them)")
    return lines


def _fit(name: str) -> str:
    """A name in at most `_WIDEST` columns: its end, which tells it from its neighbours."""
    if _width(name) <= _WIDEST:
        return name
    while _width(name) >= _WIDEST:
        name = name[1:]
    return "…" + name


def _width(text: str) -> int:
    """Columns on a terminal: East Asian characters take two, combining ones none."""
    return sum(_columns(text))


def _columns(text: str) -> Iterable[int]:
    for c in text:
        yield 0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
