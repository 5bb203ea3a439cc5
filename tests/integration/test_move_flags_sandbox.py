"""Flags of the migration guide that only CommuniGate, Netscape or an ancient server has, each by what it does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from extauth.sandbox.communigate import CommuniGate
from extauth.sandbox.mailstore import Mailbox
from extauth.sandbox.old_server import OldServer, OldUser
from migrator.access import Access
from migrator.ledger.marks import LedgerMarks
from migrator.ledger.store import Store
from migrator.mover import copy_account
from migrator.options import parse_options
from tests.servers.corpus import mixed
from tests.servers.moves import End, move
from wire.endpoint import Endpoint
from wire.outcome import Temporary
from wire.secret import Secret

ADMIN = "sandbox admin"
LETTERS = [message.content for message in mixed(7, 3)]


@pytest.fixture
async def old() -> AsyncIterator[OldServer]:
    server = OldServer(admin_login=b"siteadmin", admin_password=b"site admin")
    await server.start()
    yield server
    await server.close()


@pytest.fixture
async def new() -> AsyncIterator[CommuniGate]:
    async for server in _communigate():
        yield server


@pytest.fixture
async def other() -> AsyncIterator[CommuniGate]:
    async for server in _communigate():
        yield server


async def _communigate() -> AsyncIterator[CommuniGate]:
    server = CommuniGate()
    server.directory.create_account("ann", {"Password": "new ann"})
    await server.start()
    yield server
    await server.close()


def fill_ann(old: OldServer) -> OldUser:
    user = old.add_user("ann@old.test", "old ann")
    fill(user.store.inbox)
    fill(user.store.create(b"Archive.2009"))
    return user


def fill(box: Mailbox) -> None:
    for number, content in enumerate(LETTERS):
        box.add(content, [b"\\Flagged"] if number % 2 else [])


def contents(server: CommuniGate, mailbox: bytes = b"INBOX", name: str = "ann") -> list[bytes]:
    account = server.directory.account(name)
    return [message.data for message in account.store.get(mailbox).messages]


async def from_old(old: OldServer, new: CommuniGate, path: Path, *flags: str, login: str = "ann@old.test") -> End:
    places = [f"127.0.0.1:{old.imap.port}", login, "site admin" if login == "siteadmin" else "old ann"]
    return await move("move_imap", path, *flags, *places, f"127.0.0.1:{new.imap.port}", "ann", "new ann")


async def between(other: CommuniGate, new: CommuniGate, path: Path, *flags: str) -> End:
    places = [f"127.0.0.1:{other.imap.port}", "postmaster", ADMIN, f"127.0.0.1:{new.imap.port}", "postmaster", ADMIN]
    return await move("move_imap", path, *flags, *places)


# --proxyAuth ----------------------------------------------------------------------------------------------------------


async def test_proxyauth_copies_the_mail_of_a_user_whose_password_nobody_knows(
    old: OldServer, new: CommuniGate, tmp_path: Path
) -> None:
    fill_ann(old)
    end = await from_old(old, new, tmp_path, "--proxyAuth", "ann@old.test", login="siteadmin")
    assert (end.code, end.errors) == (0, "")
    assert contents(new) == contents(new, b"Archive/2009") == LETTERS
    assert old.imap.commands.count("PROXYAUTH") == 1
    assert old.imap.commands.index("PROXYAUTH") == old.imap.commands.index("LOGIN") + 1


@pytest.mark.parametrize(("login", "user"), [("ann@old.test", "ann@old.test"), ("siteadmin", "nobody")])
async def test_proxyauth_refused_is_a_refused_login(
    old: OldServer, new: CommuniGate, tmp_path: Path, login: str, user: str
) -> None:
    fill_ann(old)
    end = await from_old(old, new, tmp_path, "--proxyAuth", user, login=login)
    assert (end.code, end.output, contents(new)) == (77, "", [])
    assert "PROXYAUTH refused" in end.errors


# --source and --target with an administrator's login ------------------------------------------------------------------


async def test_an_administrator_copies_from_one_account_into_another(
    other: CommuniGate, new: CommuniGate, tmp_path: Path
) -> None:
    store = other.directory.account("ann").store
    fill(store.inbox)
    fill(store.create(b"Private/Letters"))
    store.subscribe(b"Private/Letters")
    end = await between(other, new, tmp_path, "--source", "~ann/", "--target", "~ann/")
    assert (end.code, end.errors) == (0, "")
    assert contents(new) == contents(new, b"Private/Letters") == LETTERS
    assert [box.name for box in new.admin.store] == [b"INBOX"]
    assert new.admin.store.inbox.messages == []
    assert new.directory.account("ann").store.subscriptions == [b"Private/Letters"]
    assert new.admin.store.subscriptions == []

    end = await between(other, new, tmp_path, "--verbose", "--source", "~ann/", "--target", "~ann/")
    assert (end.code, len(contents(new))) == (0, len(LETTERS))
    assert "14 already there" in end.output


# --copyMailboxClass ---------------------------------------------------------------------------------------------------


def clis(other: CommuniGate, new: CommuniGate) -> list[str]:
    return ["--oldCLI", f"127.0.0.1:{other.cli.port}", "--newCLI", f"127.0.0.1:{new.cli.port}"]


def fill_classes(server: CommuniGate) -> None:
    store = server.directory.account("ann").store
    for name, kind in ((b"Calendar", "IPF.Appointment"), (b"Gr&APwA3w-e", "IPF.Contact"), (b"Calendar/Plain", "")):
        box = store.create(name)
        box.kind = kind
        box.add(LETTERS[0])


async def test_mailbox_classes_are_copied_between_communigates(
    other: CommuniGate, new: CommuniGate, tmp_path: Path
) -> None:
    fill_classes(other)
    there = ["--source", "~ann/", "--target", "~ann/"]
    end = await between(other, new, tmp_path, "--copyMailboxClass", *clis(other, new), *there)
    assert (end.code, end.errors) == (0, "")
    kinds = {box.name: box.kind for box in new.directory.account("ann").store}
    assert kinds == {b"INBOX": "", b"Calendar": "IPF.Appointment", b"Gr&APwA3w-e": "IPF.Contact", b"Calendar/Plain": ""}
    assert new.cli.verbs().count("setmailboxclass") == 2

    end = await between(other, new, tmp_path, "--copyMailboxClass", *clis(other, new), *there)
    assert (end.code, new.cli.verbs().count("setmailboxclass")) == (0, 2)  # what is right is left alone


async def test_without_the_flag_no_class_is_asked_for(other: CommuniGate, new: CommuniGate, tmp_path: Path) -> None:
    fill_classes(other)
    end = await between(other, new, tmp_path, *clis(other, new), "--source", "~ann/", "--target", "~ann/")
    assert (end.code, other.cli.logins, new.cli.logins) == (0, 0, 0)
    assert {box.kind for box in new.directory.account("ann").store} == {""}


async def test_classes_of_another_server_are_a_note_and_its_cli_port_is_left_alone(
    old: OldServer, new: CommuniGate, tmp_path: Path
) -> None:
    fill_ann(old)
    end = await from_old(old, new, tmp_path, "--copyMailboxClass", "--oldCLI", f"127.0.0.1:{new.cli.port}")
    assert (end.code, end.errors, contents(new)) == (0, "", LETTERS)
    assert "mailbox classes are not copied: the source is not CommuniGate Pro" in end.output
    assert new.cli.logins == 0


async def test_a_cli_that_cannot_be_used_is_a_note(other: CommuniGate, new: CommuniGate, tmp_path: Path) -> None:
    fill_classes(other)
    there = ["--source", "~ann/", "--target", "~ann/"]
    await other.cli.close()
    end = await between(other, new, tmp_path, "--copyMailboxClass", *clis(other, new), *there)
    assert (end.code, end.errors) == (0, "")
    assert "mailbox classes were not copied: cli://127.0.0.1" in end.output
    assert contents(new, b"Calendar") == LETTERS[:1]


async def test_a_class_that_is_refused_keeps_no_other(other: CommuniGate, new: CommuniGate, tmp_path: Path) -> None:
    fill_classes(other)
    new.cli.faults.reply("SETMAILBOXCLASS", b"501 incorrect class", having=b"Calendar")
    there = ["--source", "~ann/", "--target", "~ann/"]
    end = await between(other, new, tmp_path, "--copyMailboxClass", *clis(other, new), *there)
    assert end.code == 0
    assert "the class IPF.Appointment of '~ann/Calendar' was not set: incorrect class" in end.output
    assert new.directory.account("ann").store.get(b"Gr&APwA3w-e").kind == "IPF.Contact"


# --fetchRFC822 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [(), ("--delete",)])
@pytest.mark.parametrize("peeks", [True, False])
async def test_an_ancient_server_is_asked_for_rfc822_and_no_message_becomes_read(
    old: OldServer, new: CommuniGate, tmp_path: Path, peeks: bool, flags: tuple[str, ...]
) -> None:
    user = fill_ann(old)
    before = [set(message.flags) for message in user.store.inbox.messages]
    old.imap.offer.be_ancient(peeks=peeks)
    end = await from_old(old, new, tmp_path, "--fetchRFC822", *flags)
    assert (end.code, end.errors) == (0, "")
    assert contents(new) == contents(new, b"Archive/2009") == LETTERS
    assert [set(m.flags) for m in new.directory.account("ann").store.inbox.messages] == before
    items = [
        line.rpartition(b"(UID ")[2] for line in old.imap.fetches if line.endswith((b" RFC822)", b" RFC822.PEEK)"))
    ]
    assert items.count(b"RFC822)") == (0 if peeks else 2)  # a range for each mailbox
    assert items.count(b"RFC822.PEEK)") == (3 if peeks else 1)  # asked once which it is
    if flags:
        assert "14 deleted at the source" in end.output
        assert user.store.inbox.messages == []
    else:
        assert [message.flags for message in user.store.inbox.messages] == before


async def test_without_the_flag_an_ancient_servers_messages_are_refused_and_stay(
    old: OldServer, new: CommuniGate, tmp_path: Path
) -> None:
    user = fill_ann(old)
    old.imap.offer.be_ancient(peeks=True)
    end = await from_old(old, new, tmp_path, "--delete")
    assert (end.code, contents(new), len(user.store.inbox.messages)) == (1, [], 7)
    assert "message 1 (" in end.errors
    assert "unknown fetch item" in end.errors


# Access lists ---------------------------------------------------------------------------------------------------------


async def test_access_lists_go_with_the_mailboxes_but_for_those_of_the_owner(
    other: CommuniGate, new: CommuniGate, tmp_path: Path
) -> None:
    """The owner's name at the old server may be another person's at the new one."""
    new.directory.create_account("bob", {"Password": "new bob"})
    box = other.directory.account("ann").store.create(b"Team")
    box.acl = {"anyone": "lr", "-eve": "lrs", "ann": "lrswip", "carl@company.test": "lrs"}
    flags = ("--source", "~ann/", "--target", "~bob/")
    assert (await between(other, new, tmp_path, "--noACL", *flags)).code == 0
    copied = new.directory.account("bob").store.get(b"Team")
    assert copied.acl == {}
    end = await between(other, new, tmp_path, *flags)
    assert (end.code, end.errors) == (0, "")
    assert copied.acl == {"anyone": "lr", "-eve": "lrs", "carl@company.test": "lrs"}


# --delete -------------------------------------------------------------------------------------------------------------


async def test_delete_leaves_what_the_target_has_not_taken(old: OldServer, new: CommuniGate, tmp_path: Path) -> None:
    user = fill_ann(old)
    big = b"Subject: too big\r\n\r\n" + b"0123456789\r\n" * 20_000
    user.store.inbox.add(big)
    new.imap.offer.message_limit = 200_000
    end = await from_old(old, new, tmp_path, "--delete")
    assert end.code == 1
    assert "14 deleted at the source" in end.output
    assert "message is too big" in end.errors
    assert [message.data for message in user.store.inbox.messages] == [big]
    assert [message.flags for message in user.store.inbox.messages] == [set()]
    assert contents(new) == LETTERS


# --byOne --------------------------------------------------------------------------------------------------------------


async def test_by_one_asks_for_one_message_and_waits_for_it(old: OldServer, new: CommuniGate, tmp_path: Path) -> None:
    fill_ann(old)
    end = await from_old(old, new, tmp_path, "--byOne")
    assert (end.code, contents(new)) == (0, LETTERS)
    asked = [line for line in old.imap.fetches if b"BODY.PEEK[]" in line]
    assert asked == [b"UID FETCH %d (UID BODY.PEEK[])" % uid for uid in (*range(1, 8), *range(1, 8))]


# --notimeout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flags", "copied"), [((), 0), (("--notimeout",), 14)])
async def test_notimeout_waits_for_a_server_that_is_slower_than_the_usual_time(
    old: OldServer, new: CommuniGate, tmp_path: Path, flags: tuple[str, ...], copied: int
) -> None:
    """The usual 20 s are shortened here to the tenth of a second that the server lets everybody wait."""
    fill_ann(old)
    old.imap.faults.slow("EXAMINE", 0.4)
    options, _ = parse_options(flags, timeout=0.1)
    source = Access(Endpoint("imap", "127.0.0.1", old.imap.port), b"ann@old.test", Secret(b"old ann"))
    target = Access(Endpoint("imap", "127.0.0.1", new.imap.port), b"ann", Secret(b"new ann"))
    store = Store(tmp_path / "marks.db")
    copy = copy_account(source, target, options, LedgerMarks(store, "copy"))
    try:
        if copied:
            assert (await copy).total("copied") == copied
        else:
            with pytest.raises(Temporary, match="time"):
                await copy
    finally:
        await store.close()
    assert len(contents(new)) == copied // 2
