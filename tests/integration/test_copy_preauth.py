"""A source that greets PREAUTH (Courier behind a tunnel or inetd): copied from only where a person vouches for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.options import OptionTrouble, parse_copy_options
from tests.servers.corpus import mixed, spread_date
from tests.servers.courier import Courier
from tests.servers.moves import End, move
from tests.servers.place import PASSWORD, Place, target_place
from tests.servers.raw_imap import Stored, internal_date
from wire.endpoint import Endpoint, TlsPolicy
from wire.imap.client import ImapClient
from wire.outcome import Verdict
from wire.secret import Secret

LETTERS = [message.content for message in mixed(5, 11)]


@pytest.fixture(scope="module")
def courier() -> Iterator[Courier]:
    """Greets PREAUTH as `ann`, whose INBOX was filled by logging in to it."""
    with Courier({"ann": PASSWORD}) as server:
        with Place("courier", server.imap_port, b".").open("ann") as raw:
            for content in LETTERS:
                message = Stored(0, frozenset(), internal_date(spread_date(0)), content)
                assert raw.try_append(b"INBOX", message) is None
        server.stop()
        server.preauth = "ann"
        server.start()
        yield server


@pytest.fixture(scope="module")
def target() -> Iterator[Place]:
    with target_place("dovecot", ["ann", "nobody"]) as place:
        yield place


async def run(courier: Courier, target: Place, user: str, path: Path, *flags: str) -> End:
    (path / "password").write_bytes(PASSWORD + b"\n")
    files = ["--oldPasswordFile", str(path / "password"), "--newPasswordFile", str(path / "password")]
    places = [f"127.0.0.1:{courier.imap_port}", "ann", "*", f"127.0.0.1:{target.port}", user, "*"]
    return await move("move_imap", path, *flags, *files, *places)


async def test_it_is_copied_from_as_it_is_with_preauth(courier: Courier, target: Place, tmp_path: Path) -> None:
    end = await run(courier, target, "ann", tmp_path, "--preauth", "--json")
    assert end.code == 0, end.errors
    assert json.loads(end.output)["notes"] == ["the source greeted PREAUTH: whose mail it showed, it did not say"]
    with target.open("ann") as raw:
        assert [one.content for one in raw.messages(b"INBOX")] == LETTERS


async def test_without_it_nothing_is_copied(courier: Courier, target: Place, tmp_path: Path) -> None:
    end = await run(courier, target, "nobody", tmp_path)
    assert end.code == 69
    assert "PREAUTH" in end.errors
    with target.open("nobody") as raw:
        assert raw.messages(b"INBOX") == []


async def test_a_password_is_never_right_there(courier: Courier) -> None:
    client = await ImapClient.connect(Endpoint("imap", "127.0.0.1", courier.imap_port), TlsPolicy())
    try:
        assert await client.adopt()
        assert (await client.login(b"ann", Secret(PASSWORD))).verdict is Verdict.LATER
    finally:
        client.close()


async def test_a_server_that_asks_for_a_login_gets_one_all_the_same(target: Place, tmp_path: Path) -> None:
    with Courier({"ann": PASSWORD}) as asking:
        end = await run(asking, target, "nobody", tmp_path, "--preauth", "--json")
    assert (end.code, json.loads(end.output)["notes"]) == (0, [])


@pytest.mark.parametrize("flags", [["--sourceUser", "bob"], ["--proxyAuth", "bob"]])
async def test_nobody_else_can_be_named(courier: Courier, target: Place, tmp_path: Path, flags: list[str]) -> None:
    end = await run(courier, target, "nobody", tmp_path, "--preauth", *flags)
    assert (end.code, "--preauth" in end.errors) == (64, True)


async def test_it_is_for_one_account(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("ann\tsecret\n")
    end = await move("move_accounts", tmp_path, "--IMAP", str(tmp_path / "list"), "old.test", "new.test", "--preauth")
    assert (end.code, "--preauth" in end.errors) == (64, True)
    with pytest.raises(OptionTrouble, match="--preauth"):
        parse_copy_options(["--preauth"])
