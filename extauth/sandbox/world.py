"""A whole world to migrate in: the simulated CommuniGate, an old server with users and mail, keys and a configuration.

    async with Sandbox(users=5) as sandbox:
        await sandbox.start_helper()
        result = await sandbox.communigate.login(user.address, user.password)

Everything is on loopback and in one temporary directory of mode 0700, gone at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from extauth.sandbox.communigate import CommuniGate
from extauth.sandbox.helper_process import HelperProcess
from extauth.sandbox.letters import LetterBox, fill
from extauth.sandbox.old_server import OldServer, OldUser

ODD_PASSWORDS: tuple[bytes, ...] = (  # each is a complaint of somebody whose tool could not carry it
    b"plain-word1",
    b"two words 2",
    b'quo"te"3',
    b"back\\slash\\4",
    b"#1234",
    "pässwörd-Ω-6".encode(),
    b"latin-\xe4\xf6\xfc-7",
    b'x";UseExtPassword=YES;AccessModes=All;Z="y',
    b" blanks around 9 ",
    b"{braces};(10,)",
    b"0",
    b"percent%d&amp;12",
    b"[192.0.2.13]",
    b"'single' $HOME `id` 14",
    b"*",
    b"ends with [10.0.0.16]",
    b"tab-less but long " + b"x" * 180,
    b"=equals;semi18",
    b"#NULL#",
    "密码-пароль-20".encode(),
)
_NAMES = (
    "anna", "bert", "clara", "dov", "emma.stone", "finn", "grete", "hans_p", "ida", "jan-erik",
    "kaya", "lars", "mila", "nils", "olga.v", "pavel", "quinn", "rosa", "sven", "tess",
)  # fmt: skip
_WORKER_STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class DomainPlan:
    """How one domain moves; `settings` are more keys of its configuration table, as TOML values."""

    name: str
    verify: str = "imap"
    copy: str = "imap"
    login: str = "{address}"
    after_login: str = "copy"
    settings: Mapping[str, str] = field(default_factory=dict)

    def login_of(self, address: str) -> str:
        """The login name of an address on the old server."""
        user, _, domain = address.partition("@")
        return self.login.format(user=user, domain=domain, address=address)


class Sandbox:
    """Both servers, started by `async with`. `settings` are more lines for the configuration's tables."""

    def __init__(
        self,
        *,
        users: int = 3,
        domains: Sequence[DomainPlan | str] = ("one.test", "two.test", "three.test"),
        inbox: int = 20,
        mailboxes: int = 5,
        each: int = 6,
        seed: int = 1,
        big: int = 200_000,
        directory: Path | None = None,
        separator: bytes = b".",
        prefix: bytes = b"",
        settings: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.domains = tuple(DomainPlan(d) if isinstance(d, str) else d for d in domains)
        self.communigate = CommuniGate(self.domains[0].name)
        self.old = OldServer((d.name for d in self.domains), separator=separator, prefix=prefix)
        self.helper: HelperProcess | None = None
        self.messages = 0  # put into the old server
        self._made_directory = directory is None
        self._directory = directory
        self._settings = settings or {}
        for domain in self.domains:
            self.communigate.add_domain(domain.name)
        for number in range(users):
            self.add_user(number)
        by_pop = {domain.name for domain in self.domains if domain.copy == "pop"}
        for user in self.old.users.values():
            letters = LetterBox(user.address, seed, big=big)
            shown = 0 if user.address.partition("@")[2] in by_pop else mailboxes  # POP shows the INBOX only
            self.messages += fill(user.store, letters, inbox=inbox, mailboxes=shown, each=each)

    def add_user(self, number: int, password: bytes | None = None) -> OldUser:
        """The old server's user of this number; the same number gives the same name and password."""
        domain = self.domains[number % len(self.domains)]
        name = _NAMES[number % len(_NAMES)] + (str(number // len(_NAMES)) if number >= len(_NAMES) else "")
        address = f"{name}@{domain.name}"
        chosen = password if password is not None else ODD_PASSWORDS[number % len(ODD_PASSWORDS)]
        if password is None and number >= len(ODD_PASSWORDS):
            chosen += b"+%d" % number
        return self.old.add_user(address, chosen, login=domain.login_of(address))

    def fix_ports(self, first: int) -> None:
        """Six ports from `first` on: CLI, IMAP, SMTP, then the old SMTP, IMAP, POP. To be called before `start`."""
        new, old = self.communigate, self.old
        here = (new.cli.listener, new.imap.listener, new.smtp.listener)
        for number, listener in enumerate((*here, old.smtp.listener, old.imap.listener, old.pop.listener)):
            listener.port = first + number

    @property
    def users(self) -> list[OldUser]:
        """The old server's users."""
        return list(self.old.users.values())

    # -- files ---------------------------------------------------------------------------------------------------------

    @property
    def directory(self) -> Path:
        """Where configuration, keys, state and logs lie."""
        assert self._directory is not None
        return self._directory

    @property
    def config_path(self) -> Path:
        """The configuration file."""
        return self.directory / "extauth.toml"

    @property
    def state_path(self) -> Path:
        """The ledger."""
        return self.directory / "state" / "state.db"

    def written_files(self) -> list[Path]:
        """Every file there is: logs, the ledger, configuration and keys. No user's password may be in one."""
        return sorted(path for path in self.directory.rglob("*") if path.is_file())

    def config_text(self) -> str:
        """The configuration of this world as TOML."""
        tables: dict[str, dict[str, str]] = {
            "communigate": {
                "cli": f'"127.0.0.1:{self.communigate.cli.port}"',
                "login": '"postmaster"',
                "password_file": '"cli.password"',
                "imap": f'"127.0.0.1:{self.communigate.imap.port}"',
                "smtp": f'"127.0.0.1:{self.communigate.smtp.port}"',
                "connections": "4",
                "main_domain": f'"{self.domains[0].name}"',
            },
            "helper": {"deadline": '"12s"', "log": '"log/helper.log"'},
            "state": {
                "url": f'"sqlite:///{self.state_path}"',
                "public_key_file": '"seal.pub"',
                "key_file": '"seal.key"',
            },
            "worker": {"embedded": "true", "copies": "4"},
        }
        for domain in self.domains:
            tables[f'domains."{domain.name}"'] = self._domain_table(domain)
        for name, more in self._settings.items():
            tables.setdefault(name, {}).update(more)
        return "\n".join(_table(name, values) for name, values in tables.items())

    def _domain_table(self, domain: DomainPlan) -> dict[str, str]:
        return {
            "smtp": f'"127.0.0.1:{self.old.smtp.port}"',
            "imap": f'"127.0.0.1:{self.old.imap.port}"',
            "pop": f'"127.0.0.1:{self.old.pop.port}"',
            "verify": f'"{domain.verify}"',
            "copy": f'"{domain.copy}"',
            "login": f'"{domain.login}"',
            "after_login": f'"{domain.after_login}"',
            **domain.settings,
        }

    def write_config(self) -> Path:
        """Write the configuration as it is now; its path."""
        _write_secret(self.config_path, self.config_text().encode())
        return self.config_path

    # -- running -------------------------------------------------------------------------------------------------------

    @property
    def helper_command(self) -> list[str]:
        """The External Authentication program of this world (a site sets `extauth-helper`)."""
        return [sys.executable, "-m", "extauth", "serve", "--config", str(self.config_path)]

    async def start(self) -> None:
        """Make the directory, open every listener, write keys and configuration."""
        if self._made_directory:
            self._directory = Path(tempfile.mkdtemp(prefix="extauth-sandbox-"))
        for name in ("state", "log"):
            (self.directory / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        await self.old.start()
        await self.communigate.start()
        await asyncio.to_thread(self._write_keys)
        password = str(self.communigate.admin.settings["Password"])
        _write_secret(self.directory / "cli.password", password.encode() + b"\n")
        self.write_config()

    def _write_keys(self) -> None:
        from migrator.seal import generate_keys  # noqa: PLC0415 - libsodium is needed only here

        if not (self.directory / "seal.key").exists():
            generate_keys(self.directory / "seal.pub", self.directory / "seal.key")

    async def start_helper(
        self, command: Sequence[str] = (), *, env: Mapping[str, str] | None = None, restart_pause: float = 1.0
    ) -> HelperProcess:
        """Run the External Authentication program and let CommuniGate ask it."""
        self.helper = HelperProcess(list(command) or self.helper_command, env, restart_pause=restart_pause)
        await self.communigate.attach(self.helper)
        return self.helper

    async def close(self) -> None:
        """Stop the program, its worker and the listeners, and remove the directory."""
        await self.communigate.close()
        await self.stop_worker()
        await self.old.close()
        if self._made_directory and self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    async def stop_worker(self) -> None:
        """Stop the worker that the program started for this state directory, if one runs."""
        if self.state_path.parent.joinpath("worker.lock").exists():
            from migrator.worker_lock import read_holder  # noqa: PLC0415 - only where there was a worker

            holder = read_holder(self.state_path.parent)
            if holder is not None and holder.pid:
                await _stop(holder.pid)

    async def __aenter__(self) -> Sandbox:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _table(name: str, values: Mapping[str, str]) -> str:
    return f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())


def _write_secret(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read, in one step."""
    fresh = path.with_name(path.name + ".new")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    fresh.replace(path)


async def _stop(pid: int) -> None:
    """SIGTERM, and SIGKILL when it does not listen. It is our program's child, not ours: there is no waiting on it."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        until = loop.time() + _WORKER_STOP_SECONDS
        while loop.time() < until:
            os.kill(pid, 0)
            await asyncio.sleep(0.02)
        os.kill(pid, signal.SIGKILL)


def passwords_of(users: Iterable[OldUser]) -> list[bytes]:
    """The passwords long enough to be looked for in logs without finding chance matches."""
    return [user.password for user in users if len(user.password) >= 5]
