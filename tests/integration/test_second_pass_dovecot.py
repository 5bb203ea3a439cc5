"""A second pass between two Dovecots: quick, with changed flags, and over a source that was rebuilt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.access import Access
from migrator.ledger.marks import LedgerMarks
from migrator.ledger.store import Store
from migrator.mover import copy_account
from migrator.options import CopyOptions
from migrator.report import Report
from migrator.session import Surroundings
from tests.servers.corpus import mixed, spread_date
from tests.servers.dovecot import Dovecot
from tests.servers.raw_imap import RawImap
from wire.endpoint import Endpoint
from wire.secret import Secret

NAMES = ("quick", "flags", "rebuilt", "twins")
BOXES = (b"INBOX", b"Sent", b"a")
SYNC = CopyOptions(timeout=60, sync_flags=True)


@pytest.fixture(scope="module")
def old() -> Iterator[Dovecot]:
    with Dovecot(dict.fromkeys(NAMES, b"old"), separator=".") as server:
        yield server


@pytest.fixture(scope="module")
def new() -> Iterator[Dovecot]:
    with Dovecot(dict.fromkeys(NAMES, b"new"), separator="/", storage="sdbox") as server:
        yield server


class Account:
    """One user at both servers; `steps` are the checkpoints of the last copy."""

    def __init__(self, old: Dovecot, new: Dovecot, name: str, directory: Path) -> None:
        self.old, self.new, self.name = old, new, name
        self.store = Store(directory / "marks.db")
        self.steps: list[str] = []

    def at_old(self) -> RawImap:
        return RawImap(self.old.host, self.old.imap_port, self.name, b"old")

    def at_new(self) -> RawImap:
        return RawImap(self.new.host, self.new.imap_port, self.name, b"new")

    async def copy(self, options: CopyOptions = SYNC) -> Report:
        self.steps.clear()
        return await copy_account(
            Access(Endpoint("imap", self.old.host, self.old.imap_port), self.name.encode(), Secret(b"old")),
            Access(Endpoint("imap", self.new.host, self.new.imap_port), self.name.encode(), Secret(b"new")),
            options,
            LedgerMarks(self.store, self.name),
            Surroundings(checkpoint=self.steps.append),
        )


def fill(account: Account, contents: list[bytes], mailbox: bytes = b"INBOX") -> None:
    with account.at_old() as raw:
        if mailbox != b"INBOX":
            raw.create(mailbox)
        raw.append(mailbox, contents, (b"\\Seen",), [spread_date(number // 3) for number in range(len(contents))])


def flags_at(raw: RawImap, mailbox: bytes = b"INBOX") -> list[frozenset[bytes]]:
    return [message.flags for message in raw.messages(mailbox)]


async def test_nothing_new_opens_nothing(old: Dovecot, new: Dovecot, tmp_path: Path) -> None:
    account = Account(old, new, "quick", tmp_path)
    for box in BOXES:
        fill(account, [message.content for message in mixed(20, 1)], box)
    assert (await account.copy()).total("copied") == 60
    for options in (SYNC, CopyOptions(timeout=60)):
        report = await account.copy(options)
        assert (report.total("already"), report.unexplained) == (60, 0)
        assert "source: opened a mailbox" not in account.steps
    with account.at_old() as raw:
        raw.append(b"Sent", [b"Subject: new\r\n\r\n"])
    report = await account.copy()
    assert (report.total("copied"), account.steps.count("target: opened a mailbox")) == (1, 1)
    await account.store.close()


async def test_flags_changed_at_both_ends(old: Dovecot, new: Dovecot, tmp_path: Path) -> None:
    account = Account(old, new, "flags", tmp_path)
    fill(account, [message.content for message in mixed(6, 2)])
    await account.copy()
    with account.at_new() as raw:
        raw.command(b"SELECT INBOX")
        raw.command(b"UID STORE 1 -FLAGS (\\Seen)")
        raw.command(b"UID STORE 2 +FLAGS (\\Answered Urlaub)")
    with account.at_old() as raw:
        raw.command(b"SELECT INBOX")
        raw.command(b"UID STORE 1 +FLAGS (\\Flagged)")
        raw.command(b"UID STORE 2,3 -FLAGS (\\Seen)")
        raw.command(b"UID STORE 4 +FLAGS ($Forwarded \\Deleted)")
        raw.command(b"UID STORE 6 +FLAGS (\\Deleted)")
        raw.command(b"UID EXPUNGE 6")
    report = await account.copy()
    assert (report.total("flagged"), report.total("expunged"), report.unexplained) == (4, 1, 0)
    with account.at_new() as raw:
        seen = frozenset({b"\\Seen"})
        changed = [{b"\\Flagged"}, {b"\\Answered", b"Urlaub"}, frozenset(), seen | {b"$Forwarded"}]
        assert flags_at(raw) == [*changed, seen, seen]
    assert (await account.copy()).total("flagged") == 0
    assert "source: opened a mailbox" not in account.steps
    await account.store.close()


def rebuild(server: Dovecot, name: str) -> None:
    """What happens to an old server that lost its indexes: every message gets a new uid, in another order."""
    server.stop()
    for path in (server.home(name) / "Maildir").rglob("dovecot*"):
        path.unlink()
    server.start()


@pytest.mark.parametrize("name", ["rebuilt", "twins"])
async def test_a_rebuilt_source_doubles_nothing(old: Dovecot, new: Dovecot, tmp_path: Path, name: str) -> None:
    account = Account(old, new, name, tmp_path)
    if name == "twins":  # without Message-ID, each three times
        contents = [b"Subject: %d\r\n\r\nbody %d\r\n" % (number // 3, number // 6) for number in range(300)]
    else:
        contents = [message.content for message in mixed(300, 3)]
    fill(account, contents)
    fill(account, contents[:30], b"Sent")
    assert (await account.copy()).total("copied") == 330
    before = old.home(name).joinpath("Maildir", "dovecot-uidlist").read_text().split()[1]
    rebuild(old, name)
    fill(account, [b"Subject: new\r\n\r\n"])
    report = await account.copy()
    assert old.home(name).joinpath("Maildir", "dovecot-uidlist").read_text().split()[1] != before
    assert (report.total("copied"), report.total("already"), report.unexplained) == (1, 330, 0)
    with account.at_old() as source, account.at_new() as target:
        for box in (b"INBOX", b"Sent"):
            at_source = Counter(message.content for message in source.messages(box))
            assert Counter(message.content for message in target.messages(box)) == at_source
    assert (await account.copy()).total("copied") == 0
    await account.store.close()
