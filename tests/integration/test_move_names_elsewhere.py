"""Mailbox names and access lists from and to Cyrus and Courier: prefixes, separators, and what they refuse."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from imapclient import IMAPClient

from extauth.sandbox.communigate import CommuniGate
from extauth.sandbox.old_server import OldServer
from tests.servers.courier import Courier
from tests.servers.cyrus import Cyrus
from tests.servers.moves import End, move

LETTER = b"From: a@b.test\r\nDate: Fri, 13 Feb 2009 23:31:30 +0000\r\nSubject: %b\r\n\r\nbody\r\n"
_NAMES = (
    b"INBOX", b"box.mbox", b".hidden", b"~home", b" spaces ", b"number#1", b"back\\slash", b"dots.in/it",
    b"Gr&APwA3w-e", b'say "hi"', b"100%", b"a*b", b"What?",
)  # fmt: skip
USERS = {name: f"{name} pw".encode() for name in ("ann", "bob", "carl", "eve")}


@pytest.fixture(scope="module")
def courier() -> Iterator[Courier]:
    with Courier(USERS) as server:
        yield server


@pytest.fixture(scope="module", params=[True, False], ids=["unix", "netnews"])
def cyrus(request: pytest.FixtureRequest) -> Iterator[Cyrus]:
    """With `/` beside INBOX, and with `.` below it."""
    with Cyrus(USERS, unix=request.param, alternative=request.param) as server:
        yield server


async def between(source: int, target: int, name: str, path: Path, *flags: str) -> End:
    places = [f"127.0.0.1:{source}", name, f"{name} pw", f"127.0.0.1:{target}", name, f"{name} pw"]
    return await move("move_imap", path, "--verbose", *flags, *places)


def open_as(port: int, name: str) -> IMAPClient:
    client = IMAPClient("127.0.0.1", port, ssl=False, timeout=30)
    client.login(name, f"{name} pw")
    return client


def fill(port: int, name: str, *mailboxes: str) -> None:
    client = open_as(port, name)
    for mailbox in mailboxes:
        if mailbox != "INBOX":
            client.create_folder(mailbox)
        client.append(mailbox, LETTER % mailbox.encode("ascii", "replace"))
    client.logout()


def filled(port: int, name: str) -> set[str]:
    """The mailboxes that hold mail."""
    client = open_as(port, name)
    names = [name for flags, _, name in client.list_folders() if b"\\noselect" not in {flag.lower() for flag in flags}]
    found = {name for name in names if client.folder_status(name, ["MESSAGES"])[b"MESSAGES"]}
    client.logout()
    return found


@pytest.fixture
def everything() -> OldServer:
    """An old server that has every name."""
    server = OldServer(separator=b"/")
    for name in USERS:
        user = server.add_user(f"{name}@old.test", f"{name} pw", login=name)
        for box in _NAMES:
            there = user.store.inbox if box == b"INBOX" else user.store.create(box)
            there.add(LETTER % box.replace(b"\\", b""))
    return server


async def test_from_courier_the_prefix_goes_and_the_separator_changes(courier: Courier, tmp_path: Path) -> None:
    names = ("INBOX", "INBOX.Sent", "INBOX.Work.Old mail", "INBOX.number#1", "INBOX.~home", "INBOX.日本語")
    await asyncio.to_thread(fill, courier.imap_port, "ann", *names)
    new = CommuniGate()
    store = new.directory.create_account("ann", {"Password": "ann pw"}).store
    await new.start()
    try:
        end = await between(courier.imap_port, new.imap.port, "ann", tmp_path)
        assert (end.code, end.errors) == (0, "")
        there = {box.name for box in store if box.messages}
        assert there == {b"INBOX", b"Sent", b"Work/Old mail", b"number_1", b"_home", b"&ZeVnLIqe-"}
        assert "access of" not in end.output  # Courier's own entries are nobody's
        end = await between(courier.imap_port, new.imap.port, "ann", tmp_path, "--skipMailbox", "日本語")
        assert (end.code, "0 copied, 5 already there" in end.output) == (0, True)
    finally:
        await new.close()


async def test_to_courier_everything_gets_the_prefix(everything: OldServer, courier: Courier, tmp_path: Path) -> None:
    await everything.start()
    try:
        end = await between(everything.imap.port, courier.imap_port, "bob", tmp_path)
    finally:
        await everything.close()
    assert (end.code, end.errors) == (0, "")
    names = await asyncio.to_thread(filled, courier.imap_port, "bob")
    assert len(names) == 13
    assert {"INBOX", "INBOX.box-mbox", "INBOX._hidden", "INBOX._home", "INBOX._spaces_", "INBOX.number_1"} <= names
    assert {"INBOX.back_slash", "INBOX.dots_in.it", "INBOX.Grüße"} <= names


async def test_to_cyrus_what_it_refuses_gets_a_name_it_takes(
    everything: OldServer, cyrus: Cyrus, tmp_path: Path
) -> None:
    await everything.start()
    try:
        end = await between(everything.imap.port, cyrus.imap_port, "bob", tmp_path)
    finally:
        await everything.close()
    assert (end.code, end.errors) == (0, "")
    names = await asyncio.to_thread(filled, cyrus.imap_port, "bob")
    assert len(names) == 13
    plain = {name.removeprefix("INBOX.") for name in names}
    assert {"INBOX", "box-mbox", "_hidden", "_home", "_spaces_", "number_1", "back_slash", "Grüße", "say _hi_"} <= plain


async def test_from_cyrus_to_courier(cyrus: Cyrus, courier: Courier, tmp_path: Path) -> None:
    separator = (await _separator(cyrus)).decode()
    prefix = "" if separator == "/" else f"INBOX{separator}"
    names = ["INBOX", f"{prefix}Sent", f"{prefix}Work{separator}Old mail"]
    await asyncio.to_thread(fill, cyrus.imap_port, "carl", *names)
    end = await between(cyrus.imap_port, courier.imap_port, "carl", tmp_path)
    assert (end.code, end.errors) == (0, "")
    arrived = await asyncio.to_thread(filled, courier.imap_port, "carl")
    assert {"INBOX", "INBOX.Sent", "INBOX.Work.Old mail"} <= arrived


async def _separator(cyrus: Cyrus) -> bytes:
    def ask() -> bytes:
        client = open_as(cyrus.imap_port, "carl")
        separator: bytes = client.namespace().personal[0][1].encode()
        client.logout()
        return separator

    return await asyncio.to_thread(ask)


async def test_access_lists_from_cyrus_unless_noacl(cyrus: Cyrus, tmp_path: Path) -> None:
    prefix = "" if b"/" in await _separator(cyrus) else "INBOX."
    new = CommuniGate()
    store = new.directory.create_account("eve", {"Password": "eve pw"}).store
    await new.start()

    def share() -> None:
        client = open_as(cyrus.imap_port, "eve")
        client.create_folder(f"{prefix}Shared")
        client.setacl(f"{prefix}Shared", "bob", "lrs")
        client.setacl(f"{prefix}Shared", "anyone", "l")
        client.logout()

    try:
        await asyncio.to_thread(share)
        end = await between(cyrus.imap_port, new.imap.port, "eve", tmp_path, "--noACL")
        assert (end.code, store.get(b"Shared").acl) == (0, {})
        end = await between(cyrus.imap_port, new.imap.port, "eve", tmp_path)
        assert (end.code, end.errors) == (0, "")
        assert {who: set(rights) for who, rights in store.get(b"Shared").acl.items()} == {
            "bob": set("lrs"),
            "anyone": set("l"),
        }
    finally:
        await new.close()
