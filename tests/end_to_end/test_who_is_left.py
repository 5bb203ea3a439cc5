"""`migrator left` on a simulated CommuniGate, a ledger, a roster and a file of hashes."""

from __future__ import annotations

import asyncio
import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from migrator.ledger.logins import Logins
from migrator.ledger.store import Store
from migrator.model import VerifiedLogin
from tests.end_to_end.helper_child import DOMAIN, add_account, communigate, write_config

BCRYPT = "$2y$05$/OK.fbVrR/bpIqNJ5ianF.CE5elHaaO4EbggVDjb8P19RukzXSM3e"
HASHES = f"taken:$1$12345678$f8QoJuo0DpBRfQSD0vglc1\nfirst@old.test:{BCRYPT}\nfilonly:{BCRYPT}\nbin:*\nsync:!x\n"


async def run(config: Path, *words: str) -> tuple[int, str, str]:
    """The command as a person would start it; its exit code, stdout and stderr."""
    command = [sys.executable, "-m", "migrator", "left", "--config", str(config), *words]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    process._transport.close()  # type: ignore[attr-defined]  # asyncio has no public way
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def fill_ledger(directory: Path) -> None:
    """One that was adopted, one whose password waits to be set."""
    store = Store(directory / "state" / "state.db")
    try:
        logins = Logins(store)
        for name in ("done", "waits"):
            login = VerifiedLogin(f"{name}@{DOMAIN}", DOMAIN, "imap://127.0.0.1:9", name.encode(), b"", "nothing")
            await logins.submit(login)
        await logins.adopted(f"done@{DOMAIN}")
    finally:
        await store.close()


def configure(directory: Path, port: int) -> Path:
    (directory / "d.hashes").write_text(HASHES)
    (directory / "d.hashes").chmod(0o600)
    (directory / "d.roster").write_text(f"listed\ntaken@{DOMAIN}\ndone\n")
    more = 'hashes = "d.hashes"\nroster = "d.roster"\nold_domain = "old.test"\nafter_login = "nothing"'
    return write_config(directory, cli=port, domain=more)


async def test_everybody_who_is_left_is_found_once(tmp_path: Path) -> None:
    """From the ledger, CommuniGate, the roster and the hashes; and nobody who has moved, nor any system user."""
    async with communigate() as server:
        for name in ("taken", "first", "nohash", "done", "postmaster"):
            add_account(server, f"{name}@{DOMAIN}")
        add_account(server, f"own@{DOMAIN}", UseExtPassword="NO", UseAppPassword="YES")
        config = configure(tmp_path, server.cli.port)
        await fill_ledger(tmp_path)
        code, out, err = await run(config, "--json")
        assert (code, err) == (1, "")
        told: dict[str, Any] = json.loads(out)
        found = {one["account"].partition("@")[0]: (one["standing"], one["tool"]) for one in told["accounts"]}
        assert found == {
            "taken": ("never logged in", "import"),
            "first": ("never logged in", "hashes"),
            "nohash": ("never logged in", "login"),
            "filonly": ("no account yet", "hashes"),
            "listed": ("no account yet", "login"),
            "waits": ("password not taken over yet", "wait"),
        }
        assert told["left"] == 6
        code, out, _ = await run(config, "--tool", "hashes", "--list", "--csv", str(tmp_path / "left.csv"))
        assert out.splitlines() == [f"filonly@{DOMAIN}", f"first@{DOMAIN}"]
        assert (tmp_path / "left.csv").stat().st_mode & 0o777 == 0o600
        rows = list(csv.DictReader((tmp_path / "left.csv").read_text().splitlines()))
        assert [row["Name"] for row in rows] == out.splitlines()
        code, out, _ = await run(config)
        assert "import: 1. " in out
        assert BCRYPT not in out


async def test_no_cli_and_nobody_left(tmp_path: Path) -> None:
    """Without CommuniGate the lists are all there is; a CLI that does not answer is 69; nobody left is 0."""
    config = configure(tmp_path, 9)
    await fill_ledger(tmp_path)
    code, out, _ = await run(config, "--no-cli", "--list")
    assert code == 1
    assert out.splitlines() == [f"{n}@{DOMAIN}" for n in ("filonly", "first", "listed", "taken", "waits")]
    code, out, err = await run(config)
    assert (code, out) == (69, "")
    assert "127.0.0.1:9" in err
    assert (await run(config, "--no-cli", "--domain", "e.test"))[0] == 0


async def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    """As of every command."""
    config, rows = configure(tmp_path, 9), tmp_path / "rows.csv"
    assert (await run(config, "--no-cli", "--csv", str(rows), "--dry-run"))[0] == 1
    assert not rows.exists()


async def test_a_login_that_is_refused(tmp_path: Path) -> None:
    """77, as every command that asks CommuniGate says it."""
    async with communigate() as server:
        config = write_config(tmp_path, cli=server.cli.port)
        (tmp_path / "cli.password").write_text("another\n")
        code, _, err = await run(config)
    assert (code, "refuses the login" in err) == (77, True)


async def test_many_pages_of_accounts(tmp_path: Path) -> None:
    """ListDomainObjects comes in pages of a thousand."""
    async with communigate() as server:
        for n in range(2_100):
            add_account(server, f"u{n}@{DOMAIN}")
        config = write_config(tmp_path, cli=server.cli.port)
        code, out, _ = await run(config, "--list")
        assert code == 1
        assert len(set(out.splitlines())) == 2_100


@pytest.mark.parametrize("damage", ["open", "gone"])
async def test_a_file_that_cannot_be_read_is_said(tmp_path: Path, damage: str) -> None:
    """A list without it would be wrong."""
    config = configure(tmp_path, 9)
    if damage == "open":
        (tmp_path / "d.hashes").chmod(0o644)
    else:
        (tmp_path / "d.hashes").unlink()
    code, out, err = await run(config, "--no-cli")
    assert (code, out) == (78, "")
    assert "d.hashes" in err
