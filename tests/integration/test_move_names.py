"""The migration guide's rules for mailbox names, from a server that has every name to servers that do not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from extauth.sandbox.communigate import CommuniGate
from extauth.sandbox.old_server import OldServer
from tests.servers.dovecot import Dovecot
from tests.servers.moves import move
from tests.servers.raw_imap import RawImap

NAMES = {  # at the source, at the target
    b"box.mbox": b"box-mbox",
    b"box.mdir": b"box-mdir",
    b"CAPITALS.MBOX": b"CAPITALS-MBOX",
    b"in.mbox.middle": b"in.mbox.middle",
    b".hidden": b"_hidden",
    b"~home": b"_home",
    b" leading": b"_leading",
    b"trailing ": b"trailing_",
    b"back\\slash": b"back_slash",
    b"number#1": b"number_1",
    b"a/.deep/b.mbox": b"a/_deep/b-mbox",
    b"~#\\ ": b"____",
    b"&ZeVnLIqe-.mbox": b"&ZeVnLIqe--mbox",
    b"plain and simple": b"plain and simple",
}
COLLIDING = {b"twin.mbox": b"twin-mbox_2", b"twin-mbox": b"twin-mbox"}


@pytest.fixture
async def old() -> AsyncIterator[OldServer]:
    server = OldServer(separator=b"/")
    user = server.add_user("ann@old.test", "old ann")
    for name in (*NAMES, *COLLIDING):
        user.store.create(name).add(b"Subject: " + name.replace(b"\\", b"") + b"\r\n\r\nx\r\n")
    await server.start()
    yield server
    await server.close()


@pytest.fixture(scope="module")
def dovecot_new() -> Iterator[Dovecot]:
    with Dovecot({"ann": b"new ann"}, separator="/", storage="sdbox") as server:
        yield server


async def test_names_at_communigate(old: OldServer, tmp_path: Path) -> None:
    new = CommuniGate()
    store = new.directory.create_account("ann", {"Password": "new ann"}).store
    await new.start()
    try:
        places = [f"127.0.0.1:{old.imap.port}", "ann@old.test", "old ann"]
        places += [f"127.0.0.1:{new.imap.port}", "ann", "new ann"]
        end = await move("move_imap", tmp_path, "--verbose", *places)
        assert (end.code, end.errors) == (0, "")
        arrived = {box.messages[0].data.partition(b"\r\n")[0]: box.name for box in store if box.messages}
        for name, there in (NAMES | COLLIDING).items():
            assert arrived[b"Subject: " + name.replace(b"\\", b"")] == there
        assert ".hidden -> _hidden" in end.output
        assert "its name was changed" in end.output

        end = await move("move_imap", tmp_path, *places)  # the names stay, nothing is copied again
        assert (end.code, end.output) == (0, "17 mailboxes: 16 messages, 0 copied, 16 already there\n")
    finally:
        await new.close()


async def test_names_at_dovecot(old: OldServer, dovecot_new: Dovecot, tmp_path: Path) -> None:
    places = [f"127.0.0.1:{old.imap.port}", "ann@old.test", "old ann"]
    end = await move("move_imap", tmp_path, *places, f"127.0.0.1:{dovecot_new.imap_port}", "ann", "new ann")
    assert (end.code, end.errors) == (0, "")
    with RawImap(dovecot_new.host, dovecot_new.imap_port, "ann", b"new ann") as raw:
        there = set(raw.mailboxes())
    assert {*NAMES.values(), *COLLIDING.values()} <= there
