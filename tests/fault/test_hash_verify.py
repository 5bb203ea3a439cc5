"""A file of hashes as the old server: what it says, and that nothing wrong with it is ever a wrong password."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from functools import partial
from operator import add
from pathlib import Path

import pytest

import extauth.hash_verify
from extauth.hash_verify import HashVerifier
from migrator import libcrypt
from migrator.config import load_settings
from migrator.hash_file import HashFile
from migrator.password_check import verify
from migrator.passwords import PasswordHash
from migrator.settings import DomainSettings
from tests.end_to_end.helper_child import write_config
from tests.vectors.password_hashes import VECTORS
from wire.outcome import Answer, Scope, Verdict
from wire.secret import Secret

YES, NO, LATER = Verdict.YES, Verdict.NO, Verdict.LATER
MD5 = "$1$12345678$f8QoJuo0DpBRfQSD0vglc1"  # 12345678


class Site:
    """A domain whose passwords are in a file, and a verifier for it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "d.test.hashes"
        self.said: list[str] = []
        self.verifier = HashVerifier(lambda _key, text: self.said.append(text))

    def write(self, text: str | bytes, mode: int = 0o600) -> None:
        """Put a new file in place, as an administrator should."""
        new = self.file.with_suffix(".new")
        new.write_bytes(text if isinstance(text, bytes) else text.encode())
        new.chmod(mode)
        new.replace(self.file)

    def domain(self, more: str = "", name: str = "d.test") -> DomainSettings:
        lines = f'hashes = "{self.file}"\nafter_login = "nothing"\n{more}'
        config = write_config(self.directory, verify="hashes", domain=lines, name=name)
        return load_settings(config).domains[name]

    async def check(
        self, address: str, password: str | bytes, *, domain: DomainSettings | None = None, seconds: float = 60.0
    ) -> Answer:
        by = asyncio.get_running_loop().time() + seconds
        secret = Secret(password if isinstance(password, bytes) else password.encode())
        return await self.verifier.check_password(
            domain or self.domain(), address, secret, turn_by=by, deadline=by + 15.0
        )

    async def verdict(self, address: str, password: str | bytes, domain: DomainSettings | None = None) -> Verdict:
        return (await self.check(address, password, domain=domain)).verdict


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    found = Site(tmp_path)
    yield found
    found.verifier.close()


async def test_every_kind_is_checked(site: Site) -> None:
    """The published vectors, all in one file: right is YES and wrong is NO."""
    site.write("".join(f"u{n}@d.test\t{vector.text}\n" for n, vector in enumerate(VECTORS)))
    domain = site.domain()
    for n, vector in enumerate(VECTORS):
        assert await site.verdict(f"u{n}@d.test", vector.password, domain) is YES, vector
        assert await site.verdict(f"u{n}@d.test", b"?" + vector.password, domain) is NO, vector
    assert site.said == []


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "x",
        "*",
        "!" + MD5,
        "*LK*" + MD5,
        "secret",
        "{WHAT}secret",
        "{CRAM-MD5}" + "a" * 64,
        "$6$rounds=999999999$saltstring$" + "a" * 86,
        "$2b$31$" + "." * 22 + "a" * 31,
        MD5[:-1],
        "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9",
    ],
)
async def test_what_cannot_be_compared_is_later(site: Site, stored: str) -> None:
    """Whatever the password; and the text of the file never becomes a password, nor comes into a message."""
    site.write(f"joe\t{stored}\nann\t{MD5}\n")
    for password in ("12345678", stored, "x"):
        answer = await site.check("joe@d.test", password or "y")
        assert answer.verdict is LATER
        assert answer.scope is Scope.USER
    for text in [*site.said, answer.reason]:
        assert len(stored) < 10 or stored not in text


async def test_a_name_that_is_not_in_the_file_is_later(site: Site) -> None:
    """Nobody can tell one who never was from one who came after the file was made."""
    site.write(f"ann\t{MD5}\n")
    answer = await site.check("joe@d.test", "12345678")
    assert (answer.verdict, answer.scope) == (LATER, Scope.USER)
    assert site.said == []


async def test_names_are_those_here_or_at_the_old_server(site: Site) -> None:
    """The address, the address with old_domain, or what `login` makes of it; bare names where one domain is served."""
    domain = site.domain('old_domain = "old.test"\nlogin = "{user}"')
    for name in ("joe", "JOE@D.test", "joe@old.test"):
        site.write(f"{name}\t{MD5}\n")
        assert await site.verdict("joe@d.test", "12345678", domain) is YES
    site.write(f"joe@other.test\t{MD5}\n")
    assert await site.verdict("joe@d.test", "12345678", domain) is LATER
    site.write(f"joe-d\t{MD5}\n")
    assert await site.verdict("joe@d.test", "12345678", site.domain('login = "{user}-d"')) is YES
    anybody = site.domain(name="default")
    site.write(f"joe\t{MD5}\nann@e.test\t{MD5}\n")
    assert await site.verdict("joe@d.test", "12345678", anybody) is LATER  # whose joe?
    assert await site.verdict("ann@e.test", "12345678", anybody) is YES


def _missing(site: Site) -> None:
    site.file.unlink()


def _open_to_others(site: Site) -> None:
    site.file.chmod(0o640)


def _pipe(site: Site) -> None:
    site.file.unlink()
    os.mkfifo(site.file, 0o600)


def _directory(site: Site) -> None:
    site.file.unlink()
    site.file.mkdir(0o700)


def _binary(site: Site) -> None:
    site.write(b"\x1f\x8b\x08\0\0\0" + b"joe\t" + MD5.encode() + b"\n")


def _empty(site: Site) -> None:
    site.write("# all gone\n\n")


def _prose(site: Site) -> None:
    site.write("no such file\n" * 10)


@pytest.mark.parametrize("damage", [_missing, _open_to_others, _pipe, _directory, _binary, _empty, _prose])
async def test_a_broken_file_is_never_a_wrong_password(site: Site, damage: object) -> None:
    """LATER for everybody, with a reason about the file; and all is well again when the file is."""
    assert callable(damage)
    site.write(f"joe\t{MD5}\n")
    assert await site.verdict("joe@d.test", "12345678") is YES
    damage(site)
    for password in ("12345678", "wrong"):
        answer = await site.check("joe@d.test", password)
        assert (answer.verdict, answer.scope) == (LATER, Scope.SETUP)
        assert str(site.file) in answer.reason
    if site.file.is_dir():
        site.file.rmdir()
    site.write(f"joe\t{MD5}\n")
    assert await site.verdict("joe@d.test", "12345678") is YES
    assert await site.verdict("joe@d.test", "wrong") is NO


async def test_a_changed_file_is_read_again(site: Site) -> None:
    """Also when it is changed in place, and when its length and time stay what they were."""
    site.write("joe\t{PLAIN}one\n")
    domain = site.domain()
    assert await site.verdict("joe@d.test", "one", domain) is YES
    before = site.file.stat()
    site.file.write_text("joe\t{PLAIN}two\n")
    os.utime(site.file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert await site.verdict("joe@d.test", "two", domain) is YES
    assert await site.verdict("joe@d.test", "one", domain) is NO
    site.write("ann\t{PLAIN}one\n")
    assert await site.verdict("joe@d.test", "two", domain) is LATER


async def test_an_unchanged_file_is_read_once(site: Site) -> None:
    """A request costs one look at its date, unless the file is so young that it could change unseen."""
    site.write("joe\t{PLAIN}one\n")
    now = site.file.stat().st_ctime_ns
    for seconds, once in ((60, True), (0, False), (-60, True)):  # a clock that is behind is no reason to read on and on
        file = HashFile(site.file, domain="d.test", clock=partial(add, now, seconds * 1_000_000_000))
        assert (await file.table() is await file.table()) is once


async def test_a_flood_of_slow_hashes_holds_nobody_else_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """While every thread of one domain computes, quick hashes and other domains are answered, and the loop lives."""
    slow_at_work, go_on = threading.Semaphore(0), threading.Event()

    def computing(stored: PasswordHash, password: Secret) -> bool:
        if password.reveal() == b"flood":
            slow_at_work.release()
            assert go_on.wait(60)
            return False
        return verify(stored, password)

    monkeypatch.setattr(extauth.hash_verify, "verify", computing)
    site.write(f"joe\t{MD5}\nann\t{{SHA}}5en6G6MezRroT3XKqkdPOmY/BfQ=\nbob\t{MD5}\n")
    other = site.domain(name="e.test")
    domain = site.domain()
    flood = [asyncio.create_task(site.check("joe@d.test", "flood", domain=domain)) for _ in range(200)]
    try:
        await asyncio.to_thread(slow_at_work.acquire)
        assert await site.verdict("ann@d.test", "secret", domain) is YES
        assert await site.verdict("bob@e.test", "12345678", other) is YES
        late = await site.check("bob@d.test", "12345678", domain=domain, seconds=0.0)
        assert (late.verdict, late.scope) == (LATER, Scope.SERVER)
    finally:
        go_on.set()
        answers = await asyncio.gather(*flood)
    assert {answer.verdict for answer in answers} == {NO}


async def test_threads_compute_beside_the_loop(site: Site) -> None:
    """libcrypt lets other threads run: the loop turns many times while one hash is computed."""
    site.write(f"joe\t{libcrypt.crypt(b'secret', '$6$rounds=200000$saltstring')}\n")
    domain = site.domain()
    check = asyncio.create_task(site.check("joe@d.test", "secret", domain=domain))
    turns = 0
    while not check.done():
        await asyncio.sleep(0)
        turns += 1
    assert (await check).verdict is YES
    assert turns > 20  # a loop that stands still turns a few times only


async def test_fifty_thousand_lines(site: Site) -> None:
    """The first and the last are found; a reload in the middle of requests answers them all."""
    lines = "".join(f"user{n}@d.test\t{{PLAIN}}password{n}\n" for n in range(50_000))
    site.write(lines)
    domain = site.domain()
    names = [0, 1, 25_000, 49_999]
    answers = await asyncio.gather(*(site.verdict(f"user{n}@d.test", f"password{n}", domain) for n in names))
    assert answers == [YES] * len(names)
    site.write(lines.replace("}password", "}changed"))
    answers = await asyncio.gather(*(site.verdict(f"user{n}@d.test", f"password{n}", domain) for n in names))
    assert answers == [NO] * len(names)
