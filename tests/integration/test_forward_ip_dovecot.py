"""`forward_ip` against a Dovecot that trusts us: it logs the user's address, and slows down that one."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from extauth.gates import Gates
from extauth.guard import OwnServers, UnderWay
from extauth.verify import Verifier
from migrator.config import load_settings
from tests.end_to_end.helper_child import DOMAIN, write_config
from tests.servers.dovecot import Dovecot
from wire.outcome import Answer, Verdict
from wire.secret import Secret

TRUSTS = "login_trusted_networks = 127.0.0.0/8\nauth_verbose = yes"
CLIENT, OTHER = "203.0.113.7", "2001:db8::9"


@pytest.fixture(scope="module")
def old() -> Iterator[Dovecot]:
    """With Dovecot's penalty for wrong passwords switched on."""
    with Dovecot({"u": b"right"}, penalty=True, extra=TRUSTS) as server:
        yield server


async def verify(directory: Path, old: Dovecot, kind: str, password: bytes, *, client: str, forward: bool) -> Answer:
    """One password by IMAP or POP, as the helper asks."""
    more = f"forward_ip = {str(forward).lower()}"
    path = write_config(directory, imap=old.imap_port, pop=old.pop3_port, verify=kind, domain=more)
    domain = load_settings(path, {}).domains[DOMAIN]
    own = OwnServers()
    deadline = asyncio.get_running_loop().time() + 30.0
    return await Verifier(own, UnderWay(own), Gates({DOMAIN: domain})).check_password(
        domain, f"u@{DOMAIN}", Secret(password), client=client, turn_by=deadline, deadline=deadline
    )


def logins(old: Dovecot) -> list[str]:
    """The lines of its log about logins that were let in."""
    return [line for line in old.log.read_text().splitlines() if "Login: user=" in line]


@pytest.mark.parametrize("kind", ["imap", "pop"])
@pytest.mark.parametrize(
    ("client", "forward", "logged"),
    [
        (CLIENT, True, CLIENT),
        (OTHER, True, OTHER),
        ("::ffff:203.0.113.8", True, "203.0.113.8"),
        (CLIENT, False, "127.0.0.1"),
        ("127.0.0.9", True, "127.0.0.1"),
        ("", True, "127.0.0.1"),
    ],
)
async def test_dovecot_logs_the_users_address(
    tmp_path: Path, old: Dovecot, kind: str, *, client: str, forward: bool, logged: str
) -> None:
    """Where it is configured, and means something to the old server."""
    before = len(logins(old))
    assert (await verify(tmp_path, old, kind, b"right", client=client, forward=forward)).verdict is Verdict.YES
    async with asyncio.timeout(10):
        while len(logins(old)) == before:  # noqa: ASYNC110 - a file, and no future tells of it
            await asyncio.sleep(0.01)
    assert f"rip={logged}," in logins(old)[-1]


async def test_wrong_passwords_are_held_against_their_own_address(tmp_path: Path, old: Dovecot) -> None:
    """Dovecot's anvil counts the penalty for the address it was told, so that nobody else waits for it."""
    assert (await verify(tmp_path, old, "imap", b"wrong", client=CLIENT, forward=True)).verdict is Verdict.NO
    log = old.log.read_text()
    assert CLIENT in next(line for line in log.splitlines() if "mismatch" in line)
    anvil = await asyncio.to_thread(penalties, old)
    assert CLIENT in anvil
    assert "127.0.0.1" not in anvil


def penalties(old: Dovecot) -> str:
    """`doveadm penalty`: the addresses that Dovecot slows down."""

    return subprocess.run(
        ["doveadm", "-c", str(old.directory / "dovecot.conf"), "penalty"], capture_output=True, text=True, check=True
    ).stdout
