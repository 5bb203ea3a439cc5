"""Messages and folders of a Maildir."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from migrator.file_uids import UidRecord
from migrator.mail_files import list_mailboxes, list_subscribed, parse_place
from migrator.maildir import MaildirGone, date_of, read_folder, read_message, stated_size


def make(path: Path, **messages: str) -> Path:
    for part in ("cur", "new", "tmp"):
        (path / part).mkdir(parents=True, exist_ok=True)
    for name, part in messages.items():
        (path / part / name).write_bytes(b"Subject: x\n\nbody\n")
    return path


def test_messages(tmp_path: Path) -> None:
    """In the order in which they came; flags of `cur` only; what is being written is nobody's yet."""
    box = make(tmp_path)
    for name in (
        "cur/1000.M9P1.host,W=20:2,FRSad",
        "cur/1000.M10P1.host:2,",
        "new/999.P1.host:2,S",
        "tmp/1.x",
        "cur/.hidden",
    ):
        (box / name).write_bytes(b"Subject: x\n\nbody\n")
    (box / "dovecot-keywords").write_text("0 $Label1\n3 Urlaub\n")
    found = read_folder(box)
    assert [message.identity for message in found] == ["999.P1.host", "1000.M9P1.host,W=20", "1000.M10P1.host"]
    assert found[0].flags == ()
    assert set(found[1].flags) == {b"\\Flagged", b"\\Answered", b"\\Seen", b"$Label1", b"Urlaub"}
    assert [stated_size(message) for message in found] == [17, 20, 17]
    assert b"".join(read_message(found[1])) == b"Subject: x\r\n\r\nbody\r\n"


def test_a_message_that_was_renamed_or_removed(tmp_path: Path) -> None:
    box = make(tmp_path)
    path = box / "new" / "5.P1.host"
    path.write_bytes(b"x\n")
    os.utime(path, (86400, 86400))
    (message,) = read_folder(box)
    path.rename(box / "cur" / "5.P1.host:2,S")
    assert b"".join(read_message(message)) == b"x\r\n"
    assert date_of(message) == b" 2-Jan-1970 00:00:00 +0000"
    (box / "cur" / "5.P1.host:2,S").unlink()
    with pytest.raises(MaildirGone):
        list(read_message(message))


def test_folders(tmp_path: Path) -> None:
    """Maildir++, or directories in directories; names in modified UTF-7 or UTF-8."""
    plus, nested = make(tmp_path / "plus"), tmp_path / "nested"
    make(plus / ".Sent.2009")
    make(plus / ".Entw&APw-rfe")
    make(plus / "other")
    make(nested / "INBOX")
    make(nested / "Entwürfe" / "alt")
    place = parse_place(f"maildir:{plus}")
    assert place is not None
    found = list_mailboxes(place)
    assert (found.separator, list(found.paths)) == (b".", [b"INBOX", b"Entw&APw-rfe", b"Sent.2009"])
    assert [Path(path).name for path, _ in found.skipped] == ["other"]
    place = parse_place(f"maildir:{nested}:INBOX={plus}")
    assert place is not None
    found = list_mailboxes(place)
    assert (found.separator, list(found.paths)) == (b"/", [b"INBOX", b"Entw&APw-rfe/alt"])
    assert found.paths[b"INBOX"] == plus


def test_mboxes(tmp_path: Path) -> None:
    for name, text in (
        ("Sent", "From a"),
        ("a/INBOX", ""),
        ("inbox", "From "),
        ("notes", "else"),
        (".hidden", "From "),
        ("x.lock", ""),
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (tmp_path / "subscriptions").write_text("V\t2\n\nSent\n")
    place = parse_place(f"mbox:{tmp_path}")
    assert place is not None
    found = list_mailboxes(place)
    assert list(found.paths) == [b"INBOX", b"Sent", b"a/INBOX"]
    assert [(Path(path).name, "no mbox" in reason) for path, reason in found.skipped] == [("notes", True)]
    assert list_subscribed(place) == [b"Sent"]


def test_places(tmp_path: Path) -> None:
    assert parse_place("imap.example.com:143") is None
    assert parse_place("maildir://host") is None
    for text in ("mbox:", f"mbox:{tmp_path}/none", f"maildir:{tmp_path}"):
        with pytest.raises(ValueError, match=r"mbox|no such|no Maildir"):
            parse_place(text)


def test_numbers_are_for_ever(tmp_path: Path) -> None:
    """What is gone keeps its number; a lost record is another UIDVALIDITY; a dry run writes nothing."""
    record = UidRecord(tmp_path / "files", "maildir:/x")
    first = record.uids(b"INBOX", ["a", "b"])
    assert first.numbers == {"a": 1, "b": 2}
    again = UidRecord(tmp_path / "files", "maildir:/x").uids(b"INBOX", ["c", "b"])
    assert (again.numbers, again.uidvalidity, again.next) == ({"a": 1, "b": 2, "c": 3}, first.uidvalidity, 4)
    (path,) = (tmp_path / "files").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("{")
    assert UidRecord(tmp_path / "files", "maildir:/x").uids(b"INBOX", ["a"]).uidvalidity != first.uidvalidity
    UidRecord(tmp_path / "dry", "maildir:/x", writing=False).uids(b"INBOX", ["a"])
    assert not (tmp_path / "dry").exists()


@pytest.mark.parametrize("text", [b"Sent\nLists.Deep\n", b"V\t2\n\nSent\nLists\tDeep\n"])
def test_subscriptions_in_both_forms_of_dovecot(tmp_path: Path, text: bytes) -> None:
    for name in ("cur", ".Sent/cur", ".Lists.Deep/cur"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "subscriptions").write_bytes(text)
    place = parse_place(f"maildir:{tmp_path}")
    assert place is not None
    assert list_subscribed(place) == [b"Sent", b"Lists.Deep"]
