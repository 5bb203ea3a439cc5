"""A server that a copy comes from or goes to, of any kind: Dovecot, Cyrus, Courier, or one of the sandbox's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from extauth.sandbox.communigate import CommuniGate
from extauth.sandbox.old_server import OldServer
from migrator.access import Access
from tests.servers.courier import Courier
from tests.servers.cyrus import Cyrus
from tests.servers.dovecot import Dovecot
from tests.servers.process import LOOPBACK
from tests.servers.raw_imap import RawImap
from wire.endpoint import Endpoint
from wire.imap.names import encode_mailbox
from wire.secret import Secret

PASSWORD: Final = b"secret 1"
SOURCES: Final = ("dovecot", "cyrus", "courier", "sandbox")
TARGETS: Final = ("dovecot", "cyrus", "courier", "communigate")
_STORE_ACLS: Final = """\
mail_plugins = acl
protocol imap {
  mail_plugins = acl imap_acl
}
plugin {
  acl = vfile
}
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where it is and how it forms names. Every user has the same password."""

    kind: str
    port: int
    separator: bytes
    prefix: bytes = b""

    def open(self, login: str) -> RawImap:
        """A raw session of a user's."""
        return RawImap(LOOPBACK, self.port, login, PASSWORD)

    def access(self, login: str) -> Access:
        """The same for the copier."""
        return Access(Endpoint("imap", LOOPBACK, self.port), login.encode(), Secret(PASSWORD))

    def name(self, levels: Sequence[str]) -> bytes:
        """The name of a mailbox on the wire."""
        return self.prefix + self.separator.join(encode_mailbox(level) for level in levels)


@contextmanager
def source_place(kind: str, users: Sequence[str]) -> Iterator[Place]:
    """An old server of this kind with these users."""
    passwords = dict.fromkeys(users, PASSWORD)
    if kind == "dovecot":
        with Dovecot(passwords, separator=".", extra=_STORE_ACLS, tuned=True) as dovecot:
            yield Place(kind, dovecot.imap_port, b".")
    elif kind == "cyrus":
        with Cyrus(passwords, unix=False, alternative=False) as cyrus:
            yield Place(kind, cyrus.imap_port, b".", b"INBOX.")
    elif kind == "courier":
        with Courier(passwords) as courier:
            yield Place(kind, courier.imap_port, b".", b"INBOX.")
    else:
        with _LoopThread() as loop:
            old = OldServer(separator=b"/")
            for user in users:
                old.add_user(f"{user}@old.test", PASSWORD, login=user)
            loop.run(old.start())
            try:
                yield Place(kind, old.imap.port, b"/")
            finally:
                loop.run(old.close())


@contextmanager
def target_place(kind: str, users: Sequence[str]) -> Iterator[Place]:
    """A new server of this kind with these users."""
    passwords = dict.fromkeys(users, PASSWORD)
    if kind == "dovecot":
        with Dovecot(passwords, separator="/", storage="sdbox", extra=_STORE_ACLS, tuned=True) as dovecot:
            yield Place(kind, dovecot.imap_port, b"/")
    elif kind == "cyrus":
        with Cyrus(passwords) as cyrus:
            yield Place(kind, cyrus.imap_port, b"/")
    elif kind == "courier":
        with Courier(passwords) as courier:
            yield Place(kind, courier.imap_port, b".", b"INBOX.")
    else:
        with _LoopThread() as loop:
            new = CommuniGate()
            for user in users:
                new.directory.create_account(user, {"Password": PASSWORD.decode()})
            loop.run(new.start())
            try:
                yield Place(kind, new.imap.port, b"/")
            finally:
                loop.run(new.close())


class _LoopThread:
    """An event loop of its own: the tests talk to the sandbox's servers by blocking sockets."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in the loop and wait for it."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)
