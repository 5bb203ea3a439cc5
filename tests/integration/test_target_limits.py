"""A Dovecot that takes no large message: it is refused with a reason, and keeps no other from arriving."""

from __future__ import annotations

from pathlib import Path

from migrator.access import Access
from migrator.ledger.marks import LedgerMarks
from migrator.ledger.store import Store
from migrator.mover import copy_account
from migrator.options import CopyOptions
from tests.servers.dovecot import Dovecot
from tests.servers.raw_imap import RawImap
from wire.endpoint import Endpoint
from wire.secret import Secret

_LIMITED = """
mail_plugins = $mail_plugins quota
plugin {
  quota = count:User quota
  quota_vsizes = yes
  quota_rule = *:storage=100M
  quota_max_mail_size = 20K
}
"""
SMALL = b"Subject: small\r\n\r\nx\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"x" * 70 + b"\r\n" + b"A line of some length.\r\n" * 2000


async def test_larger_than_the_target_takes(tmp_path: Path) -> None:
    """Dovecot says [LIMIT] to it, which others say of themselves."""
    with Dovecot({"old": b"x"}) as old, Dovecot({"new": b"x"}, extra=_LIMITED) as new:
        with RawImap(old.host, old.imap_port, "old", b"x") as raw:
            raw.append(b"INBOX", [SMALL, LARGE, SMALL])
        store = Store(tmp_path / "marks.db")
        report = await copy_account(
            Access(Endpoint("imap", old.host, old.imap_port), b"old", Secret(b"x")),
            Access(Endpoint("imap", new.host, new.imap_port), b"new", Secret(b"x")),
            CopyOptions(timeout=60),
            LedgerMarks(store, "new"),
        )
        await store.close()
    box = next(box for box in report.mailboxes if box.source == "INBOX")
    assert (box.copied, len(box.refused), report.postponed) == (2, 1, [])
    assert "Mail size is larger" in box.refused[0].reason
