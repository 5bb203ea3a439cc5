"""MoveIMAPMail as a stranger calls it: odd and wrong passwords, servers that are not there, and each exit code."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from extauth.sandbox.communigate import CommuniGate
from extauth.sandbox.old_server import OldServer, OldUser
from migrator.move_imap import main
from tests.servers.certificates import Certificates
from tests.servers.corpus import mixed
from tests.servers.dovecot import Dovecot
from tests.servers.moves import End, move
from tests.servers.passwords import ODD
from tests.servers.process import free_ports

LETTERS = [message.content for message in mixed(3, 5)]
SHAPES = {
    **{name: password for name, password in ODD.items() if password != ODD["zero"]},
    "dash": b"--delete",
    "dashes": b"--",
    "star": b"*",
    "shell": b"$HOME `id` !x; rm -rf ~",
    "tab": b"a\tb",
    "utf16": "\ufeff\u2028".encode(),
}


class World:
    """The sandbox's two servers with one user each; `ann` has whatever password the test wants."""

    def __init__(self) -> None:
        self.old, self.new = OldServer(), CommuniGate()
        self.user: OldUser = self.old.add_user("ann@old.test", b"old ann")
        self.account = self.new.directory.create_account("ann", {"Password": "new ann"})
        for content in LETTERS:
            self.user.store.inbox.add(content)

    @property
    def source(self) -> str:
        return f"127.0.0.1:{self.old.imap.port}"

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.new.imap.port}"

    @property
    def arrived(self) -> list[bytes]:
        return [message.data for message in self.account.store.inbox.messages]

    async def move(
        self,
        path: Path,
        *flags: str,
        old: str | bytes = "old ann",
        new: str | bytes = "new ann",
        source: str = "",
        target: str = "",
        redirect: str = "",
        **environment: str,
    ) -> End:
        one, other = (source or self.source, "ann@old.test", old), (target or self.target, "ann", new)
        return await move("move_imap", path, *flags, *one, *other, stdin=b"", redirect=redirect, **environment)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    found = World()
    await found.old.start()
    await found.new.start()
    yield found
    await found.new.close()
    await found.old.close()


@pytest.mark.parametrize("name", SHAPES)
async def test_every_password_is_taken_as_it_is(world: World, tmp_path: Path, name: str) -> None:
    """As an argument to the old server, from a file with a DOS line end to the new one, and the other way round."""
    password = SHAPES[name]
    world.user.password = password
    world.account.settings["Password"] = password.decode("utf-8", "surrogateescape")
    file = tmp_path / "password"
    file.write_bytes(password + b"\r\n")
    end = await world.move(tmp_path, "--newPasswordFile", str(file), old=password, new="*")
    assert (end.code, end.errors, world.arrived) == (0, "", LETTERS)
    end = await world.move(tmp_path, "--oldPasswordFile", str(file), old="*", new=password)
    assert (end.code, end.errors, world.arrived) == (0, "", LETTERS)
    if len(password) > 4:
        assert password not in (tmp_path / "moves.db").read_bytes()


@pytest.mark.parametrize("name", ["spaces", "quotes", "backslash", "number", "utf8", "latin1", "literalplus"])
async def test_a_real_server_takes_them_too(dovecot: Dovecot, world: World, tmp_path: Path, name: str) -> None:
    end = await move(
        "move_imap", tmp_path, f"127.0.0.1:{dovecot.imap_port}", name, ODD[name], world.target, "ann", "new ann"
    )
    assert (end.code, end.errors) == (0, "")


@pytest.mark.parametrize("side", ["old", "new"])
async def test_a_wrong_password_is_77_and_never_repeated(world: World, tmp_path: Path, side: str) -> None:
    end = await world.move(tmp_path, **{side: "not this one"})
    assert (end.code, end.output, world.arrived) == (77, "", [])
    assert "login refused" in end.errors
    assert "not this one" not in end.errors
    assert world.old.log_in_attempts["ann@old.test"] == 1


async def test_a_server_that_is_not_there_is_69(world: World, tmp_path: Path) -> None:
    (port,) = free_ports(1, "127.0.0.1")
    for place in ("source", "target"):
        end = await world.move(tmp_path, **{place: f"127.0.0.1:{port}"})
        assert (end.code, end.output) == (69, "")
        assert f"127.0.0.1:{port}: cannot connect" in end.errors
    end = await world.move(tmp_path, source="nowhere.invalid")
    assert end.code == 69


async def test_what_speaks_something_else_is_76_and_named(world: World, tmp_path: Path) -> None:
    for port in (world.old.pop.port, world.new.smtp.port, world.new.cli.port):
        end = await world.move(tmp_path, source=f"127.0.0.1:{port}")
        assert (end.code, end.output) == (76, "")
        assert f"imap://127.0.0.1:{port}" in end.errors
    end = await move("move_pop", tmp_path, world.source, "ann@old.test", "old ann", "127.0.0.1", "ann")
    assert (end.code, end.output) == (76, "")
    assert f"pop3://{world.source}: the greeting is not POP3" in end.errors
    assert world.old.log_in_attempts.total() == 0


async def test_a_login_or_a_quota_that_must_wait_is_75(world: World, tmp_path: Path) -> None:
    world.user.locked = True  # [UNAVAILABLE] speaks of the server
    assert (await world.move(tmp_path)).code == 69
    world.user.locked = False
    world.old.imap.faults.reply("LOGIN", b"NO [LIMIT] too many sessions")
    end = await world.move(tmp_path)
    assert (end.code, world.arrived) == (75, [])
    assert "too many sessions" in end.errors
    world.account.store.quota = len(LETTERS[0])
    end = await world.move(tmp_path)
    assert (end.code, len(world.arrived) < len(LETTERS)) == (75, True)
    assert "Quota exceeded" in end.errors
    world.account.store.quota = None
    end = await world.move(tmp_path)
    assert (end.code, world.arrived) == (0, LETTERS)


async def test_a_message_that_no_server_takes_is_1_every_time(world: World, tmp_path: Path) -> None:
    world.new.imap.offer.message_limit = len(max(LETTERS, key=len)) - 1
    for _ in range(2):
        end = await world.move(tmp_path)
        assert end.code == 1
        assert "too big" in end.errors
    end = await world.move(tmp_path, "--json")
    assert (end.code, json.loads(end.output)["totals"]["copied"]) == (1, 0)


async def test_the_same_account_twice_is_65(world: World, tmp_path: Path) -> None:
    end = await move(
        "move_imap", tmp_path, world.source, "ann@old.test", "old ann", world.source, "ann@old.test", "old ann"
    )
    assert (end.code, len(world.user.store.inbox.messages)) == (65, len(LETTERS))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--delete"],
        ["a", "b\nc", "d", "e", "f", "g"],
        ["a", "b", "c", "d", "e"],
        ["--oldPasswordFile", "/nonexistent", "a", "b", "*", "d", "e", "f"],
    ],
)
async def test_a_call_that_cannot_be_meant_is_64_with_the_usage(tmp_path: Path, arguments: list[str]) -> None:
    end = await move("move_imap", tmp_path, *arguments)
    assert (end.code, end.output) == (64, "")
    assert "usage: MoveIMAPMail" in end.errors


async def test_flags_may_hold_bytes_that_are_no_utf8(world: World, tmp_path: Path) -> None:
    """What an old script in Latin-1 passes on: taken as the bytes it is, and never a traceback."""
    world.old.admin = (b"siteadmin", b"site admin")
    names = (world.target, "ann", "new ann")
    as_admin = (world.source, "siteadmin", "site admin", *names)
    end = await move("move_imap", tmp_path, "--proxyAuth", b"caf\xe9", *as_admin)
    assert (end.code, "PROXYAUTH refused" in end.errors) == (77, True)
    world.user.login = b"caf\xe9"
    end = await move("move_imap", tmp_path, "--proxyAuth", b"caf\xe9", "--target", b"\xe9/", *as_admin)
    assert (end.code, end.errors) == (0, "")
    (box,) = [box for box in world.account.store if box.messages]
    assert [message.data for message in box.messages] == LETTERS
    end = await move(
        "move_imap",
        tmp_path,
        "--source",
        b"\xe9/",
        "--skipMailbox",
        b"\xe9",
        world.source,
        b"caf\xe9",
        "old ann",
        *names,
    )
    assert (end.code, end.errors) == (0, "")


async def test_a_list_that_is_refused_says_where(world: World, tmp_path: Path) -> None:
    end = await world.move(tmp_path, "--target", "~nobody/")
    assert (end.code, world.arrived) == (1, [])
    assert f"imap://{world.target} below '~nobody/': LIST: NO access to this account is denied" in end.errors


async def test_marks_that_cannot_be_kept_are_73(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    end = await move(
        "move_imap", tmp_path, world.source, "ann@old.test", "old ann", world.target, "ann", "new ann",
        EXTAUTH_MOVES=str(tmp_path / "file" / "moves.db"),
    )  # fmt: skip
    assert (end.code, world.arrived) == (73, [])


async def test_certificates(dovecot: Dovecot, certificates: Certificates, world: World, tmp_path: Path) -> None:
    """An unknown CA is 78, and the password is not sent; with the CA, or unchecked by request, the copy goes well."""
    names = ("plain", ODD["plain"], world.target, "ann", "new ann")
    for place in (f"imaps://127.0.0.1:{dovecot.imaps_port}", f"imap+starttls://127.0.0.1:{dovecot.imap_port}"):
        end = await move("move_imap", tmp_path, place, *names)
        assert (end.code, end.output) == (78, "")
        assert "certificate" in end.errors.lower()
        end = await move("move_imap", tmp_path, "--caFile", str(certificates.other_ca_file), place, *names)
        assert end.code == 78
        end = await move("move_imap", tmp_path, "--caFile", str(certificates.ca_file), place, *names)
        assert (end.code, end.errors) == (0, "")
        end = await move("move_imap", tmp_path, "--noCertificateCheck", place, *names)
        assert (end.code, end.errors) == (0, "")
    end = await world.move(tmp_path, source=f"imap+starttls://{world.source}")
    assert (end.code, world.old.log_in_attempts.total()) == (78, 0)


@pytest.mark.parametrize("redirect", [">&-", "<&-", "2>&-", ">&- 2>&- <&-", ">/dev/full", "2>/dev/full"])
async def test_output_that_cannot_be_written_stops_no_copy(world: World, tmp_path: Path, redirect: str) -> None:
    """Nor does a file of the program's own ever take the place of a descriptor that was closed."""
    end = await world.move(tmp_path, "--verbose", redirect=redirect)
    assert (end.code, world.arrived) == (0, LETTERS)
    assert ("No space left" in end.errors) == (redirect == ">/dev/full")
    assert (tmp_path / "moves.db").read_bytes().startswith(b"SQLite format 3")
    assert b"INBOX ->" not in (tmp_path / "moves.db").read_bytes()


async def test_names_that_stdout_cannot_show_are_escaped(world: World, tmp_path: Path) -> None:
    world.user.store.create(b"&ZeVnLIqe-").add(LETTERS[0])
    end = await world.move(tmp_path, "--verbose", PYTHONIOENCODING="latin-1")
    assert (end.code, end.errors) == (0, "")
    assert "\\u65e5\\u672c\\u8a9e: 1 of 1 messages" in end.output


async def test_without_a_home_directory_the_marks_have_no_place(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A user id without an entry, as containers give them; there is no other way to have one here."""
    for name in ("EXTAUTH_MOVES", "XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_000)
    code = await asyncio.to_thread(main, [world.source, "ann@old.test", "old ann", world.target, "ann", "new ann"])
    assert (code, world.arrived) == (73, [])
    assert "$EXTAUTH_MOVES" in capsys.readouterr().err
