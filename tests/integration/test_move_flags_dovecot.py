"""Each flag of the migration guide by what it does, the program called as a person calls it, between two Dovecots."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from pathlib import Path

import pytest

from tests.servers.corpus import mixed
from tests.servers.dovecot import Dovecot
from tests.servers.moves import End, move
from tests.servers.raw_imap import RawImap

LETTERS = [message.content for message in mixed(6, 11)]
ACL = """
mail_plugins = acl
protocol imap {
  mail_plugins = acl imap_acl
}
plugin {
  acl = vfile
}
"""
_USERS = [f"u{number}" for number in range(40)]
_free = count()


@pytest.fixture(scope="module")
def old() -> Iterator[Dovecot]:
    with Dovecot(dict.fromkeys(_USERS, b"old pw"), separator=".", extra=ACL) as server:
        yield server


@pytest.fixture(scope="module")
def new() -> Iterator[Dovecot]:
    with Dovecot(dict.fromkeys(_USERS, b"new pw"), separator="/", storage="sdbox", extra=ACL) as server:
        yield server


class Account:
    """One user's two accounts, used by one test only."""

    def __init__(self, old: Dovecot, new: Dovecot, path: Path) -> None:
        self.old, self.new, self.path = old, new, path
        self.name = _USERS[next(_free)]

    def at_old(self) -> RawImap:
        return RawImap(self.old.host, self.old.imap_port, self.name, b"old pw")

    def at_new(self) -> RawImap:
        return RawImap(self.new.host, self.new.imap_port, self.name, b"new pw")

    def fill(self, *names: bytes, letters: list[bytes] | None = None) -> None:
        with self.at_old() as raw:
            for name in names:
                if name != b"INBOX":
                    raw.create(name)
                own = [b"Subject: in %b\r\n" % name + letter for letter in LETTERS]  # no two mailboxes are alike
                raw.append(name, own if letters is None else letters)

    async def move(self, *flags: str) -> End:
        places = [f"127.0.0.1:{self.old.imap_port}", self.name, "old pw"]
        return await move(
            "move_imap", self.path, *flags, *places, f"127.0.0.1:{self.new.imap_port}", self.name, "new pw"
        )

    async def well(self, *flags: str) -> str:
        end = await self.move(*flags)
        assert (end.code, end.errors) == (0, "")
        return end.output

    def arrived(self) -> dict[bytes, int]:
        """The mailboxes with mail at the target, and how many messages each holds."""
        with self.at_new() as raw:
            found = {name: len(raw.messages(name)) for name, a in raw.mailboxes().items() if b"\\noselect" not in a}
        return {name: number for name, number in found.items() if number}


@pytest.fixture
def account(old: Dovecot, new: Dovecot, tmp_path: Path) -> Account:
    return Account(old, new, tmp_path)


async def test_verbose_tells_of_the_progress_on_stdout(account: Account) -> None:
    account.fill(b"INBOX", b"Work")
    output = await account.well()
    assert output == "2 mailboxes: 12 messages, 12 copied\n"
    account.fill(b"Later")
    output = await account.well("--verbose")
    assert "Later: 6 of 6 messages" in output
    assert re.search(r"(?m)^Later +6 +6 +0 +0$", output), "the table of the proof"
    assert re.search(r"(?m)^INBOX +6 +0 +6 +0$", output)


async def test_list_copies_only_what_the_search_string_finds(account: Account) -> None:
    account.fill(b"INBOX", b"Mail.a", b"Mail.b", b"News.a")
    await account.well("--list", "Mail.*")
    assert account.arrived() == {b"Mail/a": 6, b"Mail/b": 6}


async def test_source_takes_its_prefix_off_the_names(account: Account) -> None:
    account.fill(b"INBOX", b"abc.mail1", b"abc.mail2.deep", b"other")
    await account.well("--source", "abc.")
    assert account.arrived() == {b"mail1": 6, b"mail2/deep": 6}


async def test_target_puts_its_prefix_before_the_names(account: Account) -> None:
    account.fill(b"INBOX", b"Work")
    await account.well("--target", "Old/")
    assert account.arrived() == {b"Old/INBOX": 6, b"Old/Work": 6}


async def test_skip_mailbox_may_be_given_often_and_by_any_spelling(account: Account) -> None:
    account.fill(b"INBOX", b"Gr&APwA3w-e", b"&ZeVnLIqe-", b"Trash", b"Kept")
    skip = ("--skipMailbox", "INBOX", "--skipMailbox", "Grüße", "--skipMailbox", "&ZeVnLIqe-", "--skipMailbox", "Trash")
    output = await account.well("--verbose", *skip)
    assert account.arrived() == {b"Kept": 6}
    assert output.count("not copied: left out as asked (--skipMailbox)") == 4


async def test_delete_removes_what_arrived_and_says_how_many(account: Account) -> None:
    account.fill(b"INBOX", b"Work", b"Trash")
    output = await account.well("--delete", "--skipMailbox", "Trash")
    assert "12 deleted at the source" in output
    with account.at_old() as raw:
        assert [len(raw.messages(name)) for name in (b"INBOX", b"Work", b"Trash")] == [0, 0, 6]
    assert account.arrived() == {b"INBOX": 6, b"Work": 6}
    account.fill(b"INBOX")
    assert "6 deleted at the source" in await account.well("--delete", "--skipMailbox", "Trash")


async def test_subscriptions_are_copied_unless_nosubscription(account: Account) -> None:
    account.fill(b"Work.a", b"Work.b")
    with account.at_old() as raw:
        raw.command(b"SUBSCRIBE Work.a")
    await account.well("--nosubscription")
    with account.at_new() as raw:
        assert raw.mailboxes(subscribed=True) == {}
    await account.well()
    with account.at_new() as raw:
        assert set(raw.mailboxes(subscribed=True)) == {b"Work/a"}


async def test_subscribed_copies_the_subscribed_mailboxes_only(account: Account) -> None:
    account.fill(b"INBOX", b"Work", b"Play")
    with account.at_old() as raw:
        raw.command(b"SUBSCRIBE Work")
    output = await account.well("--verbose", "--subscribed")
    assert account.arrived() == {b"Work": 6}
    assert "Play: not copied: it is not subscribed (--subscribed)" in output


async def test_access_lists_are_copied_unless_noacl(account: Account) -> None:
    account.fill(b"Shared")
    with account.at_old() as raw:
        raw.command(b"SETACL Shared u39 lrs")
        raw.command(b"SETACL Shared u38 lr")

    def at_target() -> bytes:
        with account.at_new() as raw:
            return raw.command(b"GETACL Shared")[0]

    await account.well("--noACL")
    assert b"u39" not in at_target()
    await account.well()
    assert re.search(rb'"?u39"? "?lrs"?', at_target())
    assert re.search(rb'"?u38"? "?lr\b', at_target())


async def test_fix_long_lines_leaves_no_longer_line_at_the_target(account: Account) -> None:
    long = b"Subject: long\r\n\r\nshort\r\n" + b"word " * 1000 + b"\r\nafter\r\n"
    account.fill(b"INBOX", letters=[LETTERS[0], long])
    output = await account.well("--verbose", "--fixLongLines", "100")
    with account.at_new() as raw:
        arrived = [message.content for message in raw.messages(b"INBOX")]
    assert max(len(line) for line in arrived[1].split(b"\r\n")) <= 100
    assert arrived[1].replace(b"\r\n", b"") == long.replace(b"\r\n", b"")
    assert "had lines longer than 100 bytes" in output


async def test_rename_mailbox_may_be_given_often_two_into_one_and_the_inbox(account: Account) -> None:
    account.fill(b"INBOX", b"Gesendet", b"Gesendet.alt", b"Entw&APw-rfe")
    await account.well(
        "--renameMailbox", "INBOX", "Old/Inbox", "--renameMailbox", "Gesendet", "Sent",
        "--renameMailbox", "Gesendet.alt", "Sent", "--renameMailbox", "Entwürfe", "Entwürfe (alt)",
    )  # fmt: skip
    assert account.arrived() == {b"Old/Inbox": 6, b"Sent": 12, b"Entw&APw-rfe (alt)": 6}
    output = await account.well(
        "--renameMailbox", "INBOX", "Old/Inbox", "--renameMailbox", "Gesendet", "Sent",
        "--renameMailbox", "Gesendet.alt", "Sent", "--renameMailbox", "Entwürfe", "Entwürfe (alt)",
    )  # fmt: skip
    assert "0 copied, 24 already there" in output


async def test_rename_mailbox_list_reads_pairs_with_a_tabulation(account: Account) -> None:
    account.fill(b"INBOX", b"Alt", b"Gr&APwA3w-e", b"Same")
    names = account.path / "file.txt"
    names.write_text("Alt\tNew/Name\r\nGrüße\tGreetings\n\nNot there\tx\n", "utf-8")
    await account.well("--renameMailboxList", str(names))
    assert account.arrived() == {b"INBOX": 6, b"New/Name": 6, b"Greetings": 6, b"Same": 6}


_MOMENT = datetime(2009, 2, 13, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("side", "text", "subjects"),
    [
        ("before", "13-Feb-2009 12:00:00", {b"second before"}),
        ("after", "13-Feb-2009 12:00:00", {b"that second", b"second after", b"next day"}),
        ("after", "13-Feb-2009 12:00:01", {b"second after", b"next day"}),
        ("before", "14-Feb-2009", {b"second before", b"that second", b"second after"}),
        ("after", "14-Feb-2009", {b"next day"}),
        ("after", "14-feb-2009 00:00:00", {b"next day"}),
    ],
)
async def test_filter_by_the_internal_date_to_the_second(
    account: Account, side: str, text: str, subjects: set[bytes]
) -> None:
    dates = {
        b"second before": _MOMENT - timedelta(seconds=1),
        b"that second": _MOMENT,
        b"second after": _MOMENT + timedelta(seconds=1),
        b"next day": datetime(2009, 2, 14, tzinfo=UTC),
    }
    with account.at_old() as raw:
        raw.append(b"INBOX", [b"Subject: %b\r\n\r\nx\r\n" % name for name in dates], (), list(dates.values()))
    output = await account.well("--filter", side, text)
    with account.at_new() as raw:
        arrived = {message.content.partition(b"\r\n")[0].partition(b": ")[2] for message in raw.messages(b"INBOX")}
    assert arrived == subjects
    assert f"{4 - len(subjects)} left out" in output


async def test_filter_and_delete_leave_what_was_filtered_out(account: Account) -> None:
    dates = [_MOMENT + timedelta(days=number) for number in range(6)]
    with account.at_old() as raw:
        raw.append(b"INBOX", LETTERS, (), dates)
    await account.well("--delete", "--filter", "before", "16-Feb-2009")
    with account.at_old() as raw:
        assert [message.content for message in raw.messages(b"INBOX")] == LETTERS[3:]


async def test_filter_takes_the_date_as_the_server_writes_it(account: Account) -> None:
    """No zone stands in the guide's form: what the server shows is compared, whatever zone it shows it in."""
    zone = timezone(timedelta(hours=9))
    with account.at_old() as raw:
        raw.append(b"INBOX", [LETTERS[0]], (), [datetime(2009, 2, 14, 3, 0, 0, tzinfo=zone)])
        shown = raw.messages(b"INBOX")[0].internal_date
    assert shown.startswith(b"13-Feb-2009 18:00:00 +0000")  # this server keeps the moment, not the zone
    assert "1 left out" in await account.well("--filter", "after", "14-Feb-2009")
    assert "1 copied" in await account.well("--filter", "after", "13-Feb-2009 18:00:00")


@pytest.mark.parametrize("flags", [(), ("--delete",)])
async def test_fetchrfc822_marks_nothing_as_read_where_there_is_no_peek(
    account: Account, flags: tuple[str, ...]
) -> None:
    """Dovecot knows RFC822 and no RFC822.PEEK, so this is the fall-back, on a real server."""
    account.fill(b"INBOX", b"Work")
    with account.at_old() as raw:
        raw.command(b"EXAMINE INBOX")
        with pytest.raises(AssertionError, match="BAD"):
            raw.command(b"UID FETCH 1 (UID RFC822.PEEK)")
    await account.well("--fetchRFC822", "--skipMailbox", "Work", *flags)
    with account.at_new() as raw:
        arrived = raw.messages(b"INBOX")
    assert [message.content.partition(b"\r\n")[2] for message in arrived] == LETTERS
    assert {message.flags for message in arrived} == {frozenset()}
    with account.at_old() as raw:
        assert [message.flags for message in raw.messages(b"INBOX")] == ([] if flags else [frozenset()] * 6)
        assert {message.flags for message in raw.messages(b"Work")} == {frozenset()}
