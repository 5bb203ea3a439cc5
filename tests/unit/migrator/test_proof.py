"""The proof at the end: rows that add up, and no more lines than a person must read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from migrator.preview import MailboxPreview, Preview
from migrator.proof import render_preview, render_report, render_table
from migrator.report import LargeMessage, MailboxReport, RefusedMessage, RepairedMessage, Report


def report(*boxes: MailboxReport) -> Report:
    return Report("imap://old john", "imap://new john", list(boxes))


PLAIN = MailboxReport("INBOX", "INBOX", messages=5, copied=3, already=2)


def test_a_mailbox_that_was_simply_copied_needs_no_line_of_its_own() -> None:
    assert render_report(report(PLAIN), everything=False) == ["1 mailboxes: 5 messages, 3 copied, 2 already there"]


def test_whatever_is_not_simply_copied_has_its_line() -> None:
    repaired = RepairedMessage("8", 9, "NUL bytes taken out", "NO [CANNOT]")
    odd = [
        MailboxReport("refused", "a", messages=1, refused=[RefusedMessage("7", 9, "bad header")]),
        MailboxReport("repaired", "r", messages=1, copied=1, repaired=[repaired]),
        MailboxReport("vanished", "b", messages=1, vanished=1),
        MailboxReport("filtered", "c", messages=1, left_out=1),
        MailboxReport("large", "d", messages=1, left_out=1, too_large=[LargeMessage("4", 9_000_000)]),
        MailboxReport("later", "e", messages=2, copied=1, left=1, postponed="the quota is full"),
        MailboxReport("unexplained", "f", messages=1),
        MailboxReport("gone", "g", messages=1, already=1, gone=1),
        MailboxReport("held", "h", held="made anew"),
    ]
    lines = render_report(report(PLAIN, *odd), everything=False)
    assert [line.split(" -> ")[0] for line in lines if " -> " in line] == [box.source for box in odd]
    assert "  message 4 left out: 9000000 bytes" in lines
    assert "1 refused" in lines[0]
    assert "  message 8 repaired: NUL bytes taken out (refused: NO [CANNOT])" in lines
    assert "1 unexplained" in lines[-1]


def test_the_table_has_a_row_for_every_mailbox_and_one_for_all() -> None:
    boxes = [
        PLAIN,
        MailboxReport("日本語", "日本語", messages=12, copied=10, refused=[RefusedMessage("1", 2, "x")] * 2),
        MailboxReport("x" * 60, "x", messages=1, copied=1),
    ]
    lines = render_table(report(*boxes))
    assert lines[0].split() == ["mailbox", "source", "copied", "already", "refused", "unexplained"]
    assert lines[1].split() == ["INBOX", "5", "3", "2", "0", "0"]
    assert lines[2].split() == ["日本語", "12", "10", "0", "2", "0"]
    assert lines[3].startswith("…xxx")
    assert lines[4].split() == ["all", "18", "14", "2", "2", "0"]
    assert len({len(line) for line in lines if line.isascii()}) == 1, "columns stand under one another"


def test_large_messages_beyond_a_few_are_counted_unless_all_are_wanted() -> None:
    box = MailboxReport("a", "a", messages=30, left_out=30, too_large=[LargeMessage(str(n), 9) for n in range(30)])
    assert "  and 10 more (--verbose or --json names them)" in render_report(report(box), everything=False)
    assert sum("left out: 9 bytes" in line for line in render_report(report(box), everything=True)) == 30


def test_a_plan_names_every_mailbox() -> None:
    preview = Preview(
        "old",
        "new",
        [
            MailboxPreview("INBOX", "INBOX", messages=3, to_copy=2, octets=500, already=1),
            MailboxPreview("Old.mbox", "Old-mbox", exists=False, messages=1, to_copy=1, octets=7, notes=["changed"]),
            MailboxPreview("Bad", "Bad", messages=1, held="made anew"),
        ],
        [("Trash", "as asked")],
    )
    assert render_preview(preview, everything=False) == [
        "INBOX -> INBOX: 2 to copy (500 bytes), 1 already there",
        "Old.mbox -> Old-mbox (to be created): 1 to copy (7 bytes)",
        "  changed",
        "Bad -> Bad: 0 to copy (0 bytes); held: made anew",
        "Trash: would not be copied: as asked",
        "3 mailboxes: 5 messages, 3 to copy (507 bytes), 1 already there",
    ]
    assert preview.problems == ["Bad: made anew"]


_NUMBER = st.integers(0, 10**6)
_BOX = st.builds(
    MailboxReport, st.just("a"), st.just("b"), _NUMBER, _NUMBER, _NUMBER, st.just([]), _NUMBER, _NUMBER, left=_NUMBER
)


@given(st.lists(_BOX, max_size=6))
def test_every_row_adds_up(boxes: list[MailboxReport]) -> None:
    for line in render_table(report(*boxes))[1:]:
        source, *rest = (int(cell) for cell in line.split()[1:])
        assert source == sum(rest)
