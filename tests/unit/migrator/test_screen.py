"""Where a program shows how far it is: a bar, lines or nothing, and never both."""

from __future__ import annotations

import pytest

from migrator.options import CopyOptions
from migrator.report import Progress
from migrator.screen import Screen


class Terminal:
    def __init__(self, real: bool) -> None:
        self.real = real

    def isatty(self) -> bool:
        return self.real


@pytest.mark.parametrize(
    ("flags", "terminals", "lines", "bar"),
    [
        ({}, "none", False, False),
        ({}, "both", False, True),
        ({}, "stderr", False, True),
        ({}, "stdout", False, False),
        ({"verbose": True}, "none", True, False),
        ({"verbose": True}, "both", False, True),
        ({"verbose": True}, "stderr", True, False),  # the guide has these lines on stdout, for whoever reads it
        ({"verbose": True}, "stdout", True, False),
        ({"json": True}, "none", False, False),
        ({"json": True}, "both", False, False),
        ({"json": True}, "stderr", False, True),
        ({"json": True, "verbose": True}, "none", False, False),
    ],
)
def test_a_bar_or_lines_or_nothing(
    monkeypatch: pytest.MonkeyPatch, flags: dict[str, bool], terminals: str, lines: bool, bar: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout", Terminal(terminals in ("both", "stdout")))
    monkeypatch.setattr("sys.stderr", Terminal(terminals in ("both", "stderr")))
    screen = Screen.of(CopyOptions(**flags))  # type: ignore[arg-type]  # only booleans are given here
    assert (screen.lines, screen.bar) == (lines, bar)


@pytest.mark.parametrize("term", ["dumb", ""])
def test_no_bar_on_a_terminal_that_cannot_draw_one(monkeypatch: pytest.MonkeyPatch, term: str) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr("sys.stderr", Terminal(True))
    assert not Screen.of(CopyOptions()).bar


def test_lines_come_now_and_then_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    with Screen(lines=True, clock=lambda: now) as screen:
        tell = screen.listener("john: ")
        for done in range(1, 11):
            tell(Progress("INBOX", done, 10, done * 100))
            now += 0.5
    assert [line.split(" of ")[0] for line in capsys.readouterr().out.splitlines()] == [
        "john: INBOX: 1",
        "john: INBOX: 5",
        "john: INBOX: 9",
        "john: INBOX: 10",
    ]


def test_without_lines_and_bar_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen() as screen:
        screen.listener()(Progress("INBOX", 1, 1, 100))
        screen.count_accounts(3)
        screen.account_done("john: ")
        screen.say("for the person")
        screen.show("for the pipe")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("for the pipe\n", "for the person\n")
