"""What servers do to a copy: refuse messages and names, change their numbers, be the same server twice."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from migrator.access import Access
from migrator.ledger.marks import LedgerMarks
from migrator.mover import copy_account
from migrator.options import CopyOptions
from migrator.report import (
    InboxIdentity,
    MailboxReport,
    Progress,
    Report,
    SameMailbox,
    SourceRefused,
    TargetRefused,
)
from migrator.session import Surroundings
from tests.servers.copy_pair import copy_pair
from tests.servers.memory_imap import MemoryImap
from wire.outcome import Permanent, Temporary
from wire.secret import Secret

OPTIONS = CopyOptions(timeout=10)


def fill(server: MemoryImap, count: int, name: bytes = b"INBOX") -> None:
    for number in range(count):
        server.box(name).store(b"Message-ID: <%d@x>\r\nSubject: %d\r\n\r\nbody\r\n" % (number, number))


def only(report: Report) -> MailboxReport:
    assert len(report.mailboxes) == 1
    return report.mailboxes[0]


async def test_a_refused_message_is_tried_once_more_reported_and_keeps_nobody_else(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 5)
        tries: list[bytes] = []

        def refuse(content: bytes) -> bytes | None:
            if b"<2@x>" in content:
                tries.append(content)
                return b"NO [CANNOT] Message contains invalid header"
            return None

        it.new.on_append = refuse
        report = await it.copy()
        assert len(tries) == 3
        assert tries[0] == tries[1]
        assert b"Content-Type: message/rfc822" in tries[2], "nothing in it could be mended: it was wrapped, in vain"
        box = only(report)
        assert (box.copied, box.unexplained, [message.uid for message in box.refused]) == (4, 0, ["3"])
        assert "invalid header" in box.refused[0].reason
        assert report.problems
        again = await it.copy()
        assert (only(again).copied, only(again).already, len(only(again).refused)) == (0, 4, 1)

        it.new.on_append = lambda _content: None
        mended = await it.copy()
        assert (only(mended).copied, mended.problems) == (1, [])
        assert Counter(it.new.boxes[b"INBOX"].contents) == Counter(it.old.boxes[b"INBOX"].contents)


async def test_a_message_that_the_target_takes_at_the_second_try_is_copied_once(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 3)
        answers = iter([None, b"NO [SERVERBUG]"])
        it.new.on_append = lambda _content: next(answers, None)
        report = await it.copy()  # a code that speaks of the server, not of the message
        assert (only(report).copied, only(report).left, len(report.postponed)) == (2, 1, 1)
        answers = iter([b"NO not this one"])
        assert only(await it.copy()).copied == 1
        assert len(it.new.boxes[b"INBOX"].messages) == 3


@pytest.mark.parametrize("capabilities", [b"IMAP4rev1", b"IMAP4rev1 LITERAL+ UIDPLUS NAMESPACE"])
async def test_every_message_arrives_as_it_is(tmp_path: Path, capabilities: bytes) -> None:
    contents = [b"x", b"\r\n", b"a\r\rb\n\nc", bytes(range(1, 256)), b")\r\n* BYE\r\nA1 OK {3}\r\n", b"y" * 200_000]
    async with copy_pair(tmp_path, source=capabilities, target=capabilities) as it:
        for content in contents:
            it.old.box(b"INBOX").store(content, [b"\\Seen", b"$Label1"], b" 1-Jan-1999 23:59:59 -1130")
        report = await it.copy()
        assert report.problems == []
        kept = it.new.boxes[b"INBOX"].messages
        assert [message.content for message in kept] == contents
        assert {message.date for message in kept} == {b" 1-Jan-1999 23:59:59 -1130"}, "byte for byte"
        assert all(message.flags == {b"\\Seen", b"$Label1"} for message in kept)


async def test_flags_that_the_target_cannot_keep_are_left_out_and_reported(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        it.old.box(b"INBOX").store(b"x", [b"\\Seen", b"\\Recent", b"\\Flagged", b"kw"])
        it.new.permanent_flags = b"\\Seen \\Answered"
        report = await it.copy()
        assert it.new.boxes[b"INBOX"].messages[0].flags == {b"\\Seen"}
        notes = " ".join(only(report).notes)
        assert "Flagged" in notes
        assert "kw" in notes
        assert "Recent" not in notes


async def test_impossible_dates_are_replaced_and_reported(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        box = it.old.box(b"INBOX")
        box.store(b"Date: Mon, 1 Jan 2001 12:00:00 +0100\r\nSubject: a\r\n\r\nx", date=b"99-Foo-0000 10:00:00 +0000")
        box.store(b"Subject: b\r\n\r\nx", date=b"31-Feb-2001 10:00:00 +0000")
        report = await it.copy()
        assert [kept.date for kept in it.new.boxes[b"INBOX"].messages] == [
            b" 1-Jan-2001 12:00:00 +0100",
            b"13-Feb-2009 23:31:30 +0000",  # the server's own clock: no date was sent
        ]
        assert len(only(report).notes) == 2


async def test_many_impossible_dates_are_counted(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        for number in range(50):
            it.old.boxes[b"INBOX"].store(b"Subject: %d\r\n\r\n" % number, (), b"31-Feb-2003 00:00:00 +0000")
        report = await it.copy()
        assert only(report).copied == 50
        assert len(only(report).notes) == 21
        assert "30 more, from 21 on" in only(report).notes[-1]


async def test_one_mailbox_that_cannot_be_had_does_not_keep_the_others(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        for name in (b"INBOX", b"A", b"B", b"C", b"D"):
            fill(it.old, 2, name)
        it.new.refuses_name = lambda name: name == b"B"

        def command(line: bytes) -> bytes | None:
            if line.startswith((b"EXAMINE", b"SELECT")) and b"C" in line.split()[1]:
                return b"NO [NOPERM] not for you"
            if line.startswith((b"EXAMINE", b"SELECT")) and b"D" in line.split()[1]:
                return b"NO [UNAVAILABLE] later"
            return None

        it.old.on_command = command
        report = await it.copy()
        states = {box.source: (box.copied, bool(box.held), bool(box.postponed)) for box in report.mailboxes}
        assert states == {
            "INBOX": (2, False, False),
            "A": (2, False, False),
            "B": (0, True, False),
            "C": (0, True, False),
            "D": (0, False, True),
        }
        assert len(report.problems) == 2
        assert len(report.postponed) == 1
        assert report.unexplained == 0


async def test_a_mailbox_that_is_broken_on_the_servers_disk_does_not_keep_the_others(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        for name in (b"A", b"B"):
            fill(it.old, 2, name)
        opened = [b""]

        def command(line: bytes) -> bytes | None:
            if line.startswith(b"EXAMINE"):
                opened.append(line)
            return b"NO index is corrupt" if line.startswith(b"UID") and opened[-1] == b'EXAMINE "A"' else None

        it.old.on_command = command
        report = await it.copy()
        states = {box.source: (box.copied, "corrupt" in box.held) for box in report.mailboxes}
        assert states == {"INBOX": (0, False), "A": (0, True), "B": (2, False)}


async def test_a_name_that_the_target_refuses_is_changed_and_stays_so(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 2, b'say "hi"')
        it.new.refuses_name = lambda name: b'"' in name
        report = await it.copy()
        assert len(it.new.boxes[b"say _hi_"].messages) == 2
        assert any("refused its name" in note for box in report.mailboxes for note in box.notes)
        again = await it.copy()
        assert again.total("copied") == 0
        assert [box.target for box in again.mailboxes] == ["INBOX", "say _hi_"]


async def test_parents_that_must_be_made_first(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 1, b"a/b/c")
        it.new.refuses_name = lambda name: b"/" in name and name.rpartition(b"/")[0] not in it.new.boxes
        report = await it.copy()
        assert (report.problems, len(it.new.boxes[b"a/b/c"].messages)) == ([], 1)


async def test_the_sources_uidvalidity_changed(tmp_path: Path) -> None:
    """Every message has a new number: what we appended is found again, and only what is new is copied."""
    async with copy_pair(tmp_path) as it:
        fill(it.old, 6)
        for _ in range(3):
            it.old.box(b"INBOX").store(b"Subject: twin\r\n\r\nbody\r\n")
        it.old.box(b"INBOX").store(b"no header", date=b"01-Mar-2009 10:00:00 +0000")
        await it.copy()
        it.new.box(b"INBOX").store(b"Message-ID: <theirs@x>\r\n\r\nnot ours\r\n")
        before = Counter(it.new.boxes[b"INBOX"].contents)

        box = it.old.boxes[b"INBOX"]
        box.uidvalidity += 7
        for number, message in enumerate(reversed(box.messages)):
            message.uid = 100 + 3 * number
        box.messages.sort(key=lambda message: message.uid)
        box.uidnext = 1000
        box.store(b"Message-ID: <new@x>\r\nSubject: new\r\n\r\nbody\r\n")
        box.store(b"Subject: twin\r\n\r\nbody\r\n")

        report = await it.copy()
        assert (only(report).copied, only(report).already, report.unexplained) == (2, 10, 0)
        assert any("new uids" in note for note in only(report).notes)
        after = Counter(it.new.boxes[b"INBOX"].contents)
        assert sum((after - before).values()) == 2
        assert (await it.copy()).total("copied") == 0


async def test_the_sources_uidvalidity_changed_while_intents_were_open(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 6)
        stop = iter([*[False] * 3, True])

        def cut(_content: bytes) -> bytes | None:
            if next(stop, False):
                raise ConnectionError("cut")
            return None

        it.new.on_append = cut
        it.around = replace(it.around, sleep=_give_up)
        with pytest.raises(Temporary):
            await it.copy()
        it.around = Surroundings(sleep=lambda _seconds: asyncio.sleep(0))
        box = it.old.boxes[b"INBOX"]
        box.uidvalidity += 1
        for message in box.messages:
            message.uid += 50
        box.uidnext += 50
        report = await it.copy()
        assert (only(report).copied, only(report).already) == (3, 3)
        assert Counter(it.new.boxes[b"INBOX"].contents) == Counter(box.contents)


async def _give_up(_seconds: float) -> None:
    raise Temporary("no second try in this test")


async def test_a_target_made_anew_is_held_and_never_doubled(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 3)
        fill(it.old, 2, b"A")
        await it.copy()
        it.new.boxes[b"A"].uidvalidity += 1
        fill(it.old, 1)
        report = await it.copy()
        held = {box.source: box.held for box in report.mailboxes if box.held}
        assert set(held) == {"A"}
        assert "made anew" in held["A"]
        assert len(it.new.boxes[b"A"].messages) == 2
        assert (report.total("copied"), report.unexplained) == (1, 0), "the others go on"


async def test_source_and_target_that_are_one_login(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        with pytest.raises(SameMailbox):
            await copy_account(it.source(), it.source(), OPTIONS, LedgerMarks(it.store, "x"), it.around)
        assert it.old.log == []


@pytest.mark.parametrize("where", [b"INBOX", b"Sent"])
async def test_source_and_target_that_are_one_mailbox_by_other_names(tmp_path: Path, where: bytes) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 4, where)
        other = Access(it.source().endpoint, b"alias", Secret(b"x"))
        with pytest.raises(SameMailbox):
            await copy_account(it.source(), other, OPTIONS, LedgerMarks(it.store, "x"), it.around)
        assert len(it.old.boxes[where].messages) == 4
        assert it.old.appends == 0


async def test_equal_numbers_alone_do_not_make_mailboxes_one(tmp_path: Path) -> None:
    """Small servers give every mailbox UIDVALIDITY 1 and count from 1; a second run must not be refused either."""
    async with copy_pair(tmp_path) as it:
        for server in (it.old, it.new):
            server.boxes[b"INBOX"].uidvalidity = 1
        fill(it.old, 3)
        it.new.box(b"INBOX").store(b"Subject: one\r\n\r\nx")
        it.new.box(b"INBOX").store(b"Subject: two\r\n\r\nx")
        it.new.box(b"INBOX").store(b"Subject: three\r\n\r\nx")
        assert (await it.copy()).total("copied") == 3
        assert (await it.copy()).total("copied") == 0
    (tmp_path / "empty").mkdir()
    async with copy_pair(tmp_path / "empty") as it:
        for server in (it.old, it.new):
            server.boxes[b"INBOX"].uidvalidity = 1
        fill(it.old, 3)
        assert (await it.copy()).total("copied") == 3
        assert (await it.copy()).total("copied") == 0, "now both hold the same messages under the same numbers"


async def test_the_old_name_leads_to_the_new_server_after_the_switch(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 3)
        await it.copy()
        it.old.port = it.new.port  # the name of the old server is the new one's now
        fill(it.new, 1)
        with pytest.raises(SameMailbox):
            await it.copy()
        assert len(it.new.boxes[b"INBOX"].messages) == 4


async def test_the_inbox_shows_who_it_is_before_anything_is_written(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 30)
        seen: list[InboxIdentity] = []

        async def hold(identity: InboxIdentity) -> None:
            seen.append(identity)
            raise Permanent("another account copies this mailbox")

        marks = LedgerMarks(it.store, "copy")
        with pytest.raises(Permanent, match="another account"):
            await copy_account(it.source(), it.target(), OPTIONS, marks, it.around, before_copy=hold)
        assert it.new.appends == 0
        assert await marks.targets() == {}
        (before,) = seen
        assert before == InboxIdentity.parse(str(before))

        fill(it.old, 5)
        del it.old.boxes[b"INBOX"].messages[2:5]
        now = await it.identity()
        assert now.same_as(before), "mail that comes and goes does not hide it"
        other = InboxIdentity(before.uidvalidity, tuple(text + "1" for text in before.oldest))
        assert not other.same_as(before)
        assert not InboxIdentity(1).same_as(InboxIdentity(1))


async def test_two_welcomes_of_one_second_are_two_mailboxes(tmp_path: Path) -> None:
    """Accounts made together: equal UIDVALIDITY, and one message of equal size and date; only its address differs."""
    found = []
    for name in (b"ann", b"bob"):
        (tmp_path / name.decode()).mkdir()
        async with copy_pair(tmp_path / name.decode()) as it:
            it.old.box(b"INBOX").store(b"To: %b@old.test\r\nSubject: Welcome\r\n\r\nhello\r\n" % name)
            found.append(await it.identity())
    ann, bob = found
    assert (ann.uidvalidity, ann.same_as(bob)) == (bob.uidvalidity, False)
    assert ann.same_as(ann)


@pytest.mark.parametrize(
    ("reply", "source_error", "target_error"),
    [
        (b"NO [AUTHENTICATIONFAILED] wrong", SourceRefused, TargetRefused),
        (b"NO [UNAVAILABLE] later", Temporary, Temporary),
    ],
)
async def test_logins(
    tmp_path: Path, reply: bytes, source_error: type[Exception], target_error: type[Exception]
) -> None:
    async with copy_pair(tmp_path) as it:
        it.new.accepts_login = lambda: reply
        with pytest.raises(target_error):
            await it.copy()
        it.old.accepts_login = lambda: reply
        with pytest.raises(source_error):
            await it.copy()


async def test_delete_removes_only_what_the_target_confirmed_and_shows(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 6)
        it.new.on_append = lambda content: b"NO bad" if b"<2@x>" in content else None
        await it.copy()
        it.new.boxes[b"INBOX"].messages.pop(0)
        report = await it.copy("--delete")
        left = [content.split(b"\r\n")[0] for content in it.old.boxes[b"INBOX"].contents]
        assert left == [b"Message-ID: <0@x>", b"Message-ID: <2@x>"]
        assert only(report).deleted == 4
        assert any("stay at the source" in note for note in only(report).notes)


@pytest.mark.parametrize("others", [False, True])
async def test_delete_at_a_server_that_cannot_remove_single_messages(tmp_path: Path, others: bool) -> None:
    async with copy_pair(tmp_path, source=b"IMAP4rev1") as it:
        fill(it.old, 3)
        it.new.on_append = lambda content: b"NO bad" if b"<1@x>" in content else None
        if others:
            it.old.boxes[b"INBOX"].messages[1].flags.add(b"\\Deleted")  # by its owner, who may change his mind
        report = await it.copy("--delete")
        assert len(it.old.boxes[b"INBOX"].messages) == (3 if others else 1)
        assert only(report).deleted == (0 if others else 2)


async def test_without_delete_the_source_is_only_read(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 3)
        await it.copy()
        words = {line.split()[0] for line in it.old.log}
        assert words <= {
            b"LOGIN",
            b"CAPABILITY",
            b"NAMESPACE",
            b"LIST",
            b"LSUB",
            b"EXAMINE",
            b"UID",
            b"NOOP",
            b"LOGOUT",
        }
        assert all(kept.flags == set() for kept in it.old.boxes[b"INBOX"].messages)


async def test_the_flags_of_the_guide_and_what_they_do(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        for name in (b"INBOX", b"Mail/a", b"Mail/b", b"Trash"):
            fill(it.old, 2, name)
        it.old.subscribed = {b"Mail/a"}
        report = await it.copy("--list", "Mail/*", "--nosubscription", "--renameMailbox", "Mail/b", "Kept/B")
        assert {box.target for box in report.mailboxes} == {"Mail/a", "Kept/B"}
        assert it.new.subscribed == set()

        report = await it.copy("--subscribed")
        assert [box.source for box in report.mailboxes] == ["Mail/a"]
        assert it.new.subscribed == {b"Mail/a"}

        report = await it.copy("--skipMailbox", "Trash", "--byOne", "--fetchRFC822")
        assert {box.source for box in report.mailboxes} == {"INBOX", "Mail/a", "Mail/b"}
        assert ("Trash", "left out as asked (--skipMailbox)") in report.skipped
        assert b"UID FETCH 1 (UID RFC822.PEEK)" in it.old.log


async def test_prefixes_of_source_and_target(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 2, b"abc/mail1")
        fill(it.old, 1, b"abc/INBOX")
        fill(it.old, 1, b"other")
        await it.copy("--source", "abc/", "--target", "~user/")
        assert {name: len(box.messages) for name, box in it.new.boxes.items()} == {
            b"INBOX": 0, b"~user/mail1": 2, b"~user/INBOX": 1,
        }  # fmt: skip


async def test_an_administrator_goes_on_where_the_users_login_began(tmp_path: Path) -> None:
    """The same marks, now below ~user/: what is there is known."""
    async with copy_pair(tmp_path) as it:
        fill(it.old, 3)
        fill(it.old, 2, b"A")
        await it.copy()
        it.new.boxes.update({b"~user/" + name: box for name, box in it.new.boxes.items()})
        fill(it.old, 1, b"A")
        administrator = replace(it.target(), login=b"postmaster", prefix=b"~user/")
        report = await copy_account(it.source(), administrator, OPTIONS, LedgerMarks(it.store, "copy"), it.around)
        assert (report.total("copied"), report.total("already")) == (1, 5)
        assert len(it.new.boxes[b"A"].messages) == 3


async def test_a_filter_by_date(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        for day in range(1, 6):
            it.old.box(b"INBOX").store(b"%d" % day, date=b"%02d-Mar-2009 10:00:00 +0000" % day)
        report = await it.copy("--filter", "before", "03-Mar-2009 10:00:00")
        assert it.new.boxes[b"INBOX"].contents == [b"1", b"2"]
        assert (only(report).left_out, report.unexplained) == (3, 0)
        await it.copy("--filter", "after", "04-Mar-2009")
        assert it.new.boxes[b"INBOX"].contents == [b"1", b"2", b"4", b"5"]


async def test_two_mailboxes_into_one_on_purpose(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 2, b"Sent")
        fill(it.old, 2, b"Sent Items")  # the same messages: both are kept
        flags = ("--renameMailbox", "Sent Items", "Sent")
        report = await it.copy(*flags)
        assert (report.total("copied"), len(it.new.boxes[b"Sent"].messages)) == (4, 4)
        assert (await it.copy(*flags)).total("copied") == 0


async def test_proxyauth_becomes_the_user(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 1)
        it.old.on_command = lambda line: b"OK you are" if line == b'PROXYAUTH "bob"' else None
        asked = ("--proxyAuth", "bob")
        report = await it.copy(*asked)
        assert (report.total("copied"), report.source.endswith(" bob")) == (1, True)
        it.old.on_command = lambda line: b"NO no" if line.startswith(b"PROXYAUTH") else None
        with pytest.raises(SourceRefused):
            await it.copy(*asked)


async def test_progress_is_told_and_the_report_is_json(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 3)
        heard: list[Progress] = []
        it.around = replace(it.around, progress=heard.append)
        report = await it.copy()
        assert (heard[-1].mailbox, heard[-1].done, heard[-1].total) == ("INBOX", 3, 3)
        told = json.loads(json.dumps(report.as_json()))
        assert told["totals"]["copied"] == 3
        assert told["totals"]["unexplained"] == 0
        assert told["mailboxes"][0]["source"] == "INBOX"


async def test_a_message_that_vanishes_between_listing_and_fetching(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 4)
        box = it.old.boxes[b"INBOX"]

        def vanish(line: bytes) -> None:
            if line == b"UID FETCH 1:4 (UID BODY.PEEK[])":
                del box.messages[2]

        it.old.on_command = vanish
        report = await it.copy()
        assert (only(report).copied, only(report).vanished, report.unexplained) == (3, 1, 0)


async def test_a_message_that_the_source_does_not_give_is_refused_and_reported(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 3)
        refused = (b"UID FETCH 1:3 (UID BODY.PEEK[])", b"UID FETCH 2 (UID BODY.PEEK[])")  # NO to a group names nobody
        it.old.on_command = lambda line: b"NO broken on disk" if line in refused else None
        report = await it.copy()
        assert (only(report).copied, len(only(report).refused), report.unexplained) == (2, 1, 0)
        assert "broken on disk" in only(report).refused[0].reason


async def test_access_lists_are_copied_but_for_the_owners_and_reported_where_they_cannot_be(tmp_path: Path) -> None:
    capabilities = b"IMAP4rev1 LITERAL+ UIDPLUS NAMESPACE ACL"
    async with copy_pair(tmp_path, source=capabilities, target=capabilities) as it:
        fill(it.old, 1, b"Team")

        def source(line: bytes) -> bytes | None:
            if line == b'GETACL "Team"':
                return b"OK done"
            return b"NO [NOPERM] no" if line.startswith(b"GETACL") else None

        it.old.on_command = source
        it.old.before_reply = lambda line: (
            b'* ACL Team user lrswipkxtea "bob smith" lrs eve lr owner lrs\r\n' if line == b'GETACL "Team"' else b""
        )
        it.new.on_command = lambda line: (
            (b"NO who is that" if b"eve" in line else b"OK set") if line.startswith(b"SETACL") else None
        )
        report = await it.copy()
        asked = [line for line in it.new.log if line.startswith(b"SETACL")]
        assert asked == [b'SETACL "Team" "bob smith" "lrs"', b'SETACL "Team" "eve" "lr"']
        (team,) = [box for box in report.mailboxes if box.source == "Team"]
        assert any("eve" in note for note in team.notes)
        it.new.log.clear()
        await it.copy("--noACL")
        assert not any(line.startswith(b"SETACL") for line in it.new.log)


async def test_a_renamed_mailbox_is_subscribed_under_the_name_it_got(tmp_path: Path) -> None:
    async with copy_pair(tmp_path) as it:
        fill(it.old, 1, b'say "hi"')
        it.old.subscribed = {b'say "hi"'}
        it.new.refuses_name = lambda name: b'"' in name
        await it.copy()
        assert it.new.subscribed == {b"say _hi_"}
