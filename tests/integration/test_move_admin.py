"""Administrators' logins: Dovecot's master user, by SASL and within the login name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.dovecot import Dovecot
from tests.servers.moves import End, move
from tests.servers.raw_imap import RawImap

LETTERS = [b"Subject: %d\r\n\r\nletter\r\n" % number for number in range(7)]
USERS = ("anna", "bert", "carl")


@pytest.fixture(scope="module")
def old() -> Iterator[Dovecot]:
    users = {name: f"old {name}".encode() for name in USERS}
    with Dovecot(users, separator=".", masters={"admin": b"master pw"}) as server:
        for name, password in users.items():
            with RawImap(server.host, server.imap_port, name, password) as raw:
                raw.append(b"INBOX", [b"To: %b\r\n" % name.encode() + letter for letter in LETTERS])
        yield server


@pytest.fixture(scope="module")
def new() -> Iterator[Dovecot]:
    with Dovecot({name: f"new {name}".encode() for name in USERS}, masters={"boss": b"boss pw"}) as server:
        yield server


async def between(old: Dovecot, new: Dovecot, path: Path, flags: list[str], logins: list[str]) -> End:
    old_name, old_password, new_name, new_password = logins
    return await move(
        "move_imap", path, "--json", *flags,
        f"127.0.0.1:{old.imap_port}", old_name, old_password, f"127.0.0.1:{new.imap_port}", new_name, new_password,
    )  # fmt: skip


def arrived(new: Dovecot, name: str) -> list[bytes]:
    with RawImap(new.host, new.imap_port, name, new.users[name]) as raw:
        return [message.content for message in raw.messages(b"INBOX")]


async def test_an_administrator_at_both_ends_goes_on_with_the_users_own_copy(
    old: Dovecot, new: Dovecot, tmp_path: Path
) -> None:
    flags = ["--sourceUser", "anna", "--targetUser", "anna"]
    end = await between(old, new, tmp_path, flags, ["admin", "master pw", "boss", "boss pw"])
    assert (end.code, end.errors) == (0, "")
    assert arrived(new, "anna") == [b"To: anna\r\n" + letter for letter in LETTERS]
    assert json.loads(end.output)["totals"]["copied"] == 7

    own = await between(old, new, tmp_path, [], ["anna", "old anna", "anna", "new anna"])
    assert json.loads(own.output)["totals"] | {"copied": 0, "already": 7} == json.loads(own.output)["totals"]


async def test_the_administrator_is_refused_as_any_login_is(old: Dovecot, new: Dovecot, tmp_path: Path) -> None:
    end = await between(old, new, tmp_path, ["--sourceUser", "bert"], ["admin", "wrong", "bert", "new bert"])
    assert end.code == 77
    end = await between(old, new, tmp_path, ["--targetUser", "bert"], ["bert", "old bert", "anna", "new anna"])
    assert end.code == 77, "anna is nobody's administrator"
    assert arrived(new, "bert") == []


async def test_a_master_user_within_the_login_name(old: Dovecot, new: Dovecot, tmp_path: Path) -> None:
    end = await between(old, new, tmp_path, [], ["bert*admin", "master pw", "bert", "new bert"])
    assert (end.code, end.errors) == (0, "")
    assert len(arrived(new, "bert")) == 7


async def test_master_users_in_an_account_list(old: Dovecot, new: Dovecot, tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("Name\tPassword\tNewName\tNewPassword\ncarl*admin\tmaster pw\tcarl*boss\tboss pw\n")
    places = [f"127.0.0.1:{old.imap_port}", f"127.0.0.1:{new.imap_port}"]
    end = await move("move_accounts", tmp_path, "--IMAP", str(path), *places)
    assert (end.code, end.errors) == (0, "")
    assert len(arrived(new, "carl")) == 7
