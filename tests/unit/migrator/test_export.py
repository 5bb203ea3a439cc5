"""The export: MoveAccounts files with the bytes as they came, whole or not at all, private, forgotten by purging."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from migrator.export import CannotWrite, export_passwords
from migrator.ledger.exports import Exports
from migrator.ledger.logins import Logins
from migrator.ledger.store import Store
from migrator.model import VerifiedLogin
from migrator.seal import Opener, Sealer, generate_keys
from wire.secret import Secret

SOURCE = "imap+starttls://old.example.com:143"
OTHER = "pop3s://[2001:db8::1]:995"
ODD = [
    b" blanks ",
    b'quo"te',
    b"back\\slash",
    b"#1234",
    "pässwörd".encode(),
    b"latin-\xe4\xf6\xfc",
    b"\x01control",
    b"",
]


@dataclass
class Bench:
    """A ledger with keys."""

    store: Store
    logins: Logins
    exports: Exports
    sealer: Sealer
    opener: Opener

    async def save(self, account: str, password: bytes, source: str = SOURCE, login: bytes = b"") -> None:
        sealed = self.sealer.seal(Secret(password), account)
        name = login or account.partition("@")[0].encode()
        await self.logins.submit(VerifiedLogin(account, "example.com", source, name, sealed, "export"))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    generate_keys(tmp_path / "seal.pub", tmp_path / "seal.key")
    store = Store(tmp_path / "state.db")
    yield Bench(store, Logins(store), Exports(store), Sealer(tmp_path / "seal.pub"), Opener(tmp_path / "seal.key"))
    await store.close()


async def test_one_old_server_is_one_file_in_the_form_of_the_guide(bench: Bench, tmp_path: Path) -> None:
    await bench.save("bob@example.com", b"two", login=b"bob.old")
    await bench.save("ann@example.com", b"one")
    done = await export_passwords(bench.exports, bench.opener, tmp_path / "list.txt")
    assert (tmp_path / "list.txt").read_bytes() == (
        b"Name\tPassword\tNewName\nann\tone\tann@example.com\nbob.old\ttwo\tbob@example.com\n"
    )
    assert [(file.source, file.path, file.rows) for file in done.files] == [(SOURCE, tmp_path / "list.txt", 2)]
    assert done.unfit == []


async def test_the_file_is_its_owners_alone_whatever_the_umask(bench: Bench, tmp_path: Path) -> None:
    await bench.save("ann@example.com", b"one")
    (tmp_path / "list.txt").write_bytes(b"old")
    (tmp_path / "list.txt").chmod(0o644)
    before = os.umask(0)
    try:
        await export_passwords(bench.exports, bench.opener, tmp_path / "list.txt")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "list.txt").stat().st_mode) == 0o600


@pytest.mark.parametrize("password", ODD)
async def test_passwords_are_the_bytes_they_were(bench: Bench, tmp_path: Path, password: bytes) -> None:
    await bench.save("ann@example.com", password)
    await export_passwords(bench.exports, bench.opener, tmp_path / "list.txt")
    assert (tmp_path / "list.txt").read_bytes().splitlines()[1].split(b"\t")[1] == password


@pytest.mark.parametrize("password", [b"tab\there", b"line\nhere", b"line\rhere", b"zero\0here"])
async def test_rows_that_do_not_fit_are_listed_without_the_password(
    bench: Bench, tmp_path: Path, password: bytes
) -> None:
    await bench.save("ann@example.com", password)
    await bench.save("bob@example.com", b"fine")
    done = await export_passwords(bench.exports, bench.opener, tmp_path / "list.txt", purge=True)
    assert [(unfit.account, unfit.source) for unfit in done.unfit] == [("ann@example.com", SOURCE)]
    assert "here" not in repr(done).replace("there", "")
    assert (tmp_path / "list.txt").read_bytes().count(b"\n") == 2
    assert [row.account for row in await bench.exports.rows()] == ["ann@example.com"]


async def test_a_login_with_a_tab_does_not_fit_either(bench: Bench, tmp_path: Path) -> None:
    await bench.save("ann@example.com", b"fine", login=b"ann\told")
    done = await export_passwords(bench.exports, bench.opener, tmp_path / "list.txt")
    assert len(done.unfit) == 1
    assert not (tmp_path / "list.txt").exists()


async def test_several_old_servers_are_several_files_in_a_directory(bench: Bench, tmp_path: Path) -> None:
    await bench.save("ann@example.com", b"one")
    await bench.save("bob@example.com", b"two", source=OTHER)
    done = await export_passwords(bench.exports, bench.opener, tmp_path / "lists")
    assert stat.S_IMODE((tmp_path / "lists").stat().st_mode) == 0o700
    assert {file.source: file.path.name for file in done.files} == {
        SOURCE: "old.example.com-143-imap+starttls.txt",
        OTHER: "_2001_db8__1_-995-pop3s.txt",
    }
    assert sorted(path.name for path in (tmp_path / "lists").iterdir()) == sorted(f.path.name for f in done.files)


async def test_a_directory_that_exists_is_used_for_one_server_too(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    await bench.save("ann@example.com", b"one")
    done = await export_passwords(bench.exports, bench.opener, tmp_path / "lists")
    assert done.files[0].path.parent == tmp_path / "lists"


async def test_exporting_again_gives_the_same_until_it_is_purged(bench: Bench, tmp_path: Path) -> None:
    await bench.save("ann@example.com", b"one")
    await bench.logins.adopted("ann@example.com")
    for _ in range(2):
        await export_passwords(bench.exports, bench.opener, tmp_path / "list.txt")
        assert (tmp_path / "list.txt").read_bytes().count(b"\n") == 2
    done = await export_passwords(bench.exports, bench.opener, tmp_path / "list.txt", purge=True)
    assert done.purged == 1
    login = await bench.logins.login_of("ann@example.com", SOURCE)
    assert login is not None
    assert login.sealed is None
    nothing = await export_passwords(bench.exports, bench.opener, tmp_path / "empty.txt", purge=True)
    assert (nothing.files, nothing.purged) == ([], 0)
    assert not (tmp_path / "empty.txt").exists()


async def test_nothing_is_purged_when_the_file_cannot_be_written(bench: Bench, tmp_path: Path) -> None:
    await bench.save("ann@example.com", b"one")
    with pytest.raises(CannotWrite, match="No such file"):
        await export_passwords(bench.exports, bench.opener, tmp_path / "missing" / "list.txt", purge=True)
    assert len(await bench.exports.rows()) == 1


async def test_a_file_that_cannot_be_replaced_stays_and_no_draft_is_left(bench: Bench, tmp_path: Path) -> None:
    await bench.save("ann@example.com", b"one")
    await bench.save("bob@example.com", b"two", source=OTHER)
    lists = tmp_path / "lists"
    (lists / "old.example.com-143-imap+starttls.txt" / "in the way").mkdir(parents=True)
    with pytest.raises(CannotWrite):
        await export_passwords(bench.exports, bench.opener, lists)
    assert [path.name for path in lists.iterdir()] == ["old.example.com-143-imap+starttls.txt"]


async def test_each_export_and_purge_leaves_a_line_for_the_audit(bench: Bench, tmp_path: Path) -> None:
    await bench.save("ann@example.com", b"secret one")
    await export_passwords(bench.exports, bench.opener, tmp_path / "list.txt", purge=True)
    lines = await bench.exports.audit()
    assert [(line.action, line.detail) for line in lines] == [
        ("export", "1 rows in 1 files, 0 unfit"),
        ("purge", "1 rows"),
    ]
    assert all(f"({os.getuid()})" in line.actor for line in lines)
    assert "secret one" not in repr(lines)


async def test_a_box_of_another_key_is_listed_and_the_others_are_exported(bench: Bench, tmp_path: Path) -> None:
    generate_keys(tmp_path / "other.pub", tmp_path / "other.key")
    sealed = Sealer(tmp_path / "other.pub").seal(Secret(b"x"), "old@example.com")
    await bench.logins.submit(VerifiedLogin("old@example.com", "example.com", SOURCE, b"old", sealed, "export"))
    await bench.save("ann@example.com", b"one")
    done = await export_passwords(bench.exports, bench.opener, tmp_path / "list.txt")
    assert [unfit.account for unfit in done.unfit] == ["old@example.com"]
    assert done.files[0].rows == 1
