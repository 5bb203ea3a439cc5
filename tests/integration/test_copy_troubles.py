"""What befalls a copy between two real Dovecots: a full quota, a mailbox that changes meanwhile, few connections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from migrator.access import Access
from migrator.ledger.marks import LedgerMarks
from migrator.ledger.store import Store
from migrator.mover import copy_account
from migrator.options import CopyOptions
from migrator.report import CopyInterrupted, Report
from migrator.session import Surroundings
from tests.servers.corpus import mixed, stored_form
from tests.servers.dovecot import Dovecot
from tests.servers.raw_imap import RawImap
from wire.endpoint import Endpoint
from wire.secret import Secret

NAMES = ("full", "changing", "several")
OPTIONS = CopyOptions(timeout=60)
_QUOTA = """
mail_plugins = $mail_plugins quota
plugin {{
  quota = count:User quota
  quota_vsizes = yes
  quota_rule = *:storage={kilobytes}K
}}
"""
_SPECIAL = """
namespace inbox {
  mailbox Gesendet {
    special_use = \\Sent
  }
  mailbox Papierkorb {
    special_use = \\Trash
  }
}
protocol imap {
  mail_max_userip_connections = 2
}
"""


@pytest.fixture(scope="module")
def old() -> Iterator[Dovecot]:
    with Dovecot(dict.fromkeys(NAMES, b"old"), separator=".") as server:
        yield server


def at(server: Dovecot, name: str) -> RawImap:
    return RawImap(server.host, server.imap_port, name, server.users[name])


def contents(server: Dovecot, name: str, mailbox: bytes = b"INBOX") -> Counter[bytes]:
    with at(server, name) as raw:
        return Counter(message.content for message in raw.messages(mailbox))


async def copy(
    old: Dovecot,
    new: Dovecot,
    name: str,
    path: Path,
    *,
    options: CopyOptions = OPTIONS,
    checkpoint: Callable[[str], None] = lambda _step: None,
) -> Report:
    store = Store(path / "marks.db")
    try:
        return await copy_account(
            Access(Endpoint("imap", old.host, old.imap_port), name.encode(), Secret(b"old")),
            Access(Endpoint("imap", new.host, new.imap_port), name.encode(), Secret(b"new")),
            options,
            LedgerMarks(store, name),
            Surroundings(checkpoint=checkpoint),
        )
    finally:
        await store.close()


async def test_a_quota_that_is_too_small_takes_what_fits_and_the_rest_later(old: Dovecot, tmp_path: Path) -> None:
    messages = [message.content[:4000] for message in mixed(60, seed=5)]
    with at(old, "full") as raw:
        raw.append(b"INBOX", messages)
    room = sum(map(len, messages)) // 2048
    with Dovecot({"full": b"new"}, extra=_QUOTA.format(kilobytes=room)) as new:
        with pytest.raises(CopyInterrupted) as stopped:
            await copy(old, new, "full", tmp_path)
        assert stopped.value.code == "OVERQUOTA"
        assert stopped.value.report.unexplained == 0
        there = contents(new, "full")
        assert 10 < there.total() < 60, "what fits is there already"
        with pytest.raises(CopyInterrupted):
            await copy(old, new, "full", tmp_path)
        assert contents(new, "full") == there
        new._extra = _QUOTA.format(kilobytes=10 * room)  # the operator gives more
        new.stop()
        new.start()
        report = await copy(old, new, "full", tmp_path)
        assert (report.problems, report.postponed, report.unexplained) == ([], [], 0)
        assert contents(new, "full") == Counter(stored_form(content) for content in messages)


async def test_a_mailbox_that_changes_while_it_is_copied(old: Dovecot, tmp_path: Path) -> None:
    """Another program deletes, flags and delivers: nothing is lost or doubled, and what came late comes next time."""
    messages = [message.content for message in mixed(700, seed=6)]
    late = [message.content for message in mixed(5, seed=7)]
    with at(old, "changing") as raw:
        raw.append(b"INBOX", messages)
    seen = Counter[str]()

    def meddle(step: str) -> None:
        seen[step] += 1
        if step == "target: before APPEND" and seen[step] == 1:
            with at(old, "changing") as other:
                other.command(b"SELECT INBOX")
                other.command(b"UID STORE 3,600:610,700 +FLAGS (\\Deleted)")
                other.command(b"UID STORE 400:450 +FLAGS (\\Flagged)")
                other.command(b"EXPUNGE")
                other.append(b"INBOX", late)

    with Dovecot({"changing": b"new"}, separator="/", storage="sdbox") as new:
        report = await copy(old, new, "changing", tmp_path, checkpoint=meddle)
        box = next(box for box in report.mailboxes if box.source == "INBOX")
        assert (report.problems, report.postponed, report.unexplained) == ([], [], 0)
        assert box.copied + box.vanished == 700
        again = await copy(old, new, "changing", tmp_path)
        assert (again.total("copied"), again.unexplained, again.problems) == (5, 0, [])
        found, kept = contents(new, "changing"), contents(old, "changing")
        assert kept - found == Counter(), "everything that is still at the source is at the target, once"
        assert (found - kept).total() <= 13, "besides, only what was fetched before it was deleted"
        assert found - Counter(stored_form(content) for content in messages + late) == Counter()


async def test_several_connections_special_mailboxes_and_a_server_that_allows_two(old: Dovecot, tmp_path: Path) -> None:
    with at(old, "several") as raw:
        for number, mailbox in enumerate((b"Sent", b"Trash", b"Work", b"Work.2009", b"Lists", b"More")):
            raw.create(mailbox)
            raw.append(mailbox, [message.content for message in mixed(40, seed=10 + number)])
        raw.append(b"INBOX", [message.content for message in mixed(40, seed=9)])
    with Dovecot({"several": b"new"}, separator="/", extra=_SPECIAL) as new:
        with at(new, "several") as raw:
            raw.create(b"Gesendet", b"Papierkorb")
        options = replace(OPTIONS, connections=4, special_use=True)
        report = await copy(old, new, "several", tmp_path, options=options)
        assert (report.problems, report.postponed, report.unexplained) == ([], [], 0)
        targets = {box.source: box.target for box in report.mailboxes}
        assert (targets["Work.2009"], len(set(targets.values()))) == ("Work/2009", len(targets))
        for source, target in targets.items():
            wanted = contents(old, "several", source.encode())
            assert contents(new, "several", target.encode()) == wanted, source
        again = await copy(old, new, "several", tmp_path, options=options)
        assert (again.total("copied"), again.total("already"), again.problems) == (0, 280, [])
