"""A migration between real servers: Dovecot and Postfix as the old side, a second Dovecot as CommuniGate's IMAP.

Only CommuniGate's CLI and its way with the External Authentication program are simulated. The helper
and its worker are the real programs.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import shutil
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from extauth.sandbox.communigate import CommuniGate
from extauth.sandbox.helper_process import HelperProcess
from migrator.seal import generate_keys
from migrator.worker_lock import read_holder
from tests.servers.corpus import mixed, spread_date
from tests.servers.dovecot import Dovecot
from tests.servers.passwords import ODD
from tests.servers.postfix import Postfix
from tests.servers.process import server_directory
from tests.servers.raw_imap import RawImap, Stored

CLIENT = "192.0.2.7"  # the address users come from
_ROOT = Path(__file__).resolve().parents[2]

_CONFIGURATION = """\
[communigate]
cli = "127.0.0.1:{cli}"
login = "postmaster"
password_file = "cli.password"
imap = "127.0.0.1:{target}"
smtp = "127.0.0.1:{new_smtp}"
connections = 4
main_domain = "imap.test"
copy_as = "user"

[helper]
deadline = "15s"
log = "log/helper.log"

[state]
url = "sqlite:///{directory}/state/state.db"
public_key_file = "seal.pub"
key_file = "seal.key"

[worker]
embedded = {embedded}
copies = 4

[domains."imap.test"]
new = "probe"
smtp = "127.0.0.1:{smtp}"
verify = "imap"
imap = "127.0.0.1:{imap}"
login = "{{address}}"
after_login = "copy"

[domains."pop.test"]
new = "probe"
smtp = "127.0.0.1:{smtp}"
verify = "pop"
pop = "127.0.0.1:{pop}"
login = "{{address}}"
after_login = "copy"
copy = "pop"
"""


@dataclass(frozen=True, slots=True)
class Mover:
    """A user of the old server. `token` is a word that stands in this user's passwords and nowhere else."""

    address: str
    password: bytes = field(repr=False)
    token: str = field(repr=False)

    @property
    def wrong(self) -> bytes:
        """A password that is not this user's, and as recognizable."""
        return self.password + b"!"

    @property
    def by_pop(self) -> bool:
        """Whether this user moves by POP."""
        return self.address.endswith("@pop.test")


def make_movers(count: int, pop_every: int = 5) -> list[Mover]:
    """`count` users in two domains, each with an odd password."""
    draw = random.Random(count)
    shapes = list(ODD.values())
    movers = []
    for number in range(count):
        token = "tok" + "".join(draw.choices("abcdefghjkmnpqrstuvwxyzABCDEFGHJKMNPQRSTUVWXYZ", k=15))
        domain = "pop.test" if number % pop_every == pop_every - 1 else "imap.test"
        # the shape around the token, so that what is odd about a password is odd at its start and at its end
        password = shapes[number % len(shapes)] + token.encode() + shapes[number % len(shapes)]
        movers.append(Mover(f"user{number}@{domain}", password, token))
    return movers


def traces(token: str) -> list[bytes]:
    """How `token` would look in a file or argument list: as it is, in hex, and inside any base64 text."""
    word = token.encode()
    found = [word, word.hex().encode(), word.hex().upper().encode()]
    for shift in range(3):
        encoded = base64.b64encode(b"x" * shift + word)
        start = -(-shift * 8 // 6)
        found.append(encoded[start : len(encoded.rstrip(b"=")) - 2])
    return found


class Migration:
    """`async with Migration(make_movers(50)) as world:` and everything runs; `communigate.login` moves a user."""

    def __init__(self, movers: Sequence[Mover], *, messages: int = 12, embedded: bool = True) -> None:
        self.movers = list(movers)
        self.directory = server_directory()
        users = {mover.address: mover.password for mover in movers}
        self.old = Dovecot(users, separator=".", tuned=True)
        self.target = Dovecot(users, separator="/", storage="sdbox", tuned=True)
        self.smtp = Postfix([mover.address for mover in movers], domains=["imap.test", "pop.test"])
        self.communigate = CommuniGate("imap.test")
        self.communigate.add_domain("imap.test")
        self.communigate.add_domain("pop.test")
        self.helper = HelperProcess(self.command, restart_pause=0.05)
        self._messages = messages
        self._embedded = embedded

    @property
    def configuration(self) -> Path:
        """The configuration file."""
        return self.directory / "extauth.toml"

    @property
    def command(self) -> list[str]:
        """The program that CommuniGate starts."""
        return [sys.executable, "-m", "extauth", "serve", "--config", str(self.configuration)]

    @property
    def ledger(self) -> Path:
        """The ledger's database."""
        return self.directory / "state" / "state.db"

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _start(self) -> None:
        for server in (self.old, self.target, self.smtp):
            await asyncio.to_thread(server.start)
        await asyncio.to_thread(self._fill)
        await self.communigate.start()
        for name in ("state", "log"):
            (self.directory / name).mkdir(mode=0o700)
        generate_keys(self.directory / "seal.pub", self.directory / "seal.key")
        _write_private(self.directory / "cli.password", str(self.communigate.admin.settings["Password"]) + "\n")
        text = _CONFIGURATION.format(
            cli=self.communigate.cli.port,
            new_smtp=self.communigate.smtp.port,
            target=self.target.imap_port,
            imap=self.old.imap_port,
            pop=self.old.pop3_port,
            smtp=self.smtp.port,
            directory=self.directory,
            embedded=str(self._embedded).lower(),
        )
        _write_private(self.configuration, text)
        await self.communigate.attach(self.helper)

    def _fill(self) -> None:
        """Mail for everybody: odd dates, flags and keywords, nested mailboxes with names that need encoding."""
        for number, mover in enumerate(self.movers):
            messages = [message.content for message in mixed(self._messages, number)]
            dates = [spread_date(number + index) for index in range(len(messages))]
            with self.open(self.old, mover) as session:
                third = len(messages) // 3
                session.append(b"INBOX", messages, dates=dates)
                if mover.by_pop:
                    continue
                session.create(b"Archive.2009", b"Gr&APwA3w-e", b"Empty")
                session.append(b"Archive.2009", messages[:third], [rb"\Seen", rb"\Answered"], dates)
                session.append(b"Gr&APwA3w-e", messages[third:], [rb"\Flagged", b"$Forwarded"], dates[third:])
                session.command(b'SUBSCRIBE "Archive.2009"')

    def open(self, server: Dovecot, mover: Mover) -> RawImap:
        """A raw session of this user's at the old server or at the target."""
        return RawImap(server.host, server.imap_port, mover.address, mover.password)

    def mail(self, server: Dovecot, mover: Mover) -> dict[bytes, Counter[tuple[object, ...]]]:
        """All mail of a user: for each mailbox, how often each message is there, with separators as `/`."""
        separator = b"." if server is self.old else b"/"
        found = {}
        with self.open(server, mover) as session:
            for name, attributes in session.mailboxes().items():
                if rb"\noselect" not in attributes and rb"\nonexistent" not in attributes:
                    stored = session.messages(name)
                    found[name.replace(separator, b"/")] = Counter(_key(message, mover.by_pop) for message in stored)
        return found

    def jobs(self) -> Counter[str]:
        """How many copies are in which phase, and how many there are of one account and old server at most."""
        if not self.ledger.exists():
            return Counter()
        with closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True, timeout=10)) as database:
            return Counter(phase for (phase,) in database.execute("SELECT phase FROM jobs"))

    def worker_pid(self) -> int:
        """The running worker, or 0."""
        if not (self.ledger.parent / "worker.lock").exists():
            return 0
        holder = read_holder(self.ledger.parent)
        return holder.pid if holder is not None else 0

    async def close(self) -> None:
        """Stop the helper, its worker and the servers, and remove everything."""
        await self.communigate.close()
        await self.stop_worker()
        for server in (self.old, self.target, self.smtp):
            await asyncio.to_thread(server.close)
        shutil.rmtree(self.directory, ignore_errors=True)

    async def stop_worker(self) -> None:
        """SIGTERM to the worker, and wait until it is gone."""
        pid = self.worker_pid()
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            await until(lambda: not alive(pid), 15)


def _key(message: Stored, by_pop: bool) -> tuple[object, ...]:
    """What makes a message the same: its bytes, and over IMAP also flags and date."""
    return (message.content,) if by_pop else (message.content, message.flags, message.internal_date)


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, "utf-8")


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until(condition: Callable[[], bool], seconds: float = 60.0, what: str = "") -> None:
    """Wait for another process: until `condition`, or fail after `seconds`."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not condition():
        assert loop.time() < end, f"waited {seconds:g} s in vain{': ' if what else ''}{what}"
        await asyncio.sleep(0.02)  # another process has no event to wait for
