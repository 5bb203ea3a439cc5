"""`migrator shadow-switch` on a copy of a shadow file, with hashes as this system's mkpasswd makes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from migrator.__main__ import cli
from migrator.shadow_file import read_records
from migrator.shadow_switch import Busy, ShadowSwitch, Unsafe

PASSWORD = "open for all"
STEPS = [
    "before the backup", "after the backup", "before the journal", "after the journal", "before the change",
    "after the change", "before cleaning up", "between backup and journal", "after cleaning up",
]  # fmt: skip


def methods() -> list[str]:
    told = subprocess.run(["mkpasswd", "-m", "help"], capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in told.splitlines()[1:]]


def mkpasswd(method: str, password: str) -> bytes:
    arguments = ["mkpasswd", "-m", method, "-s"]
    return subprocess.run(arguments, input=password.encode(), capture_output=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def lines() -> dict[str, bytes]:
    """An account for each method, and those that must be left alone."""
    found = {f"user-{method}": mkpasswd(method, f"secret of {method}") for method in methods()}
    return {"root": mkpasswd("sha512crypt", "toor"), **found, "daemon": b"*", "locked": b"!" + found["user-yescrypt"]}


@pytest.fixture
def shadow(tmp_path: Path, lines: dict[str, bytes]) -> Path:
    path = tmp_path / "shadow"
    path.write_bytes(b"".join(b"%b:%b:19000:0:99999:7:::\n" % (name.encode(), text) for name, text in lines.items()))
    path.chmod(0o640)
    return path


def run(*arguments: object, stdin: str = "") -> Result:
    return CliRunner().invoke(cli, ["shadow-switch", *map(str, arguments)], input=stdin)


def hashes(path: Path) -> dict[str, bytes]:
    return {record.name.decode(): record.hash for record in read_records(path.read_bytes())}


def beside(path: Path) -> set[str]:
    return {entry.name for entry in path.parent.iterdir()} - {path.name}


def test_there_and_back(shadow: Path, lines: dict[str, bytes]) -> None:
    """Everybody who can log in gets a password that opens; afterwards the file is as it was, to the byte."""
    before = shadow.read_bytes()
    accounts = shadow.parent / "accounts.txt"
    assert run("status", shadow).exit_code == 0
    done = run("begin", shadow, "--accounts", accounts)
    assert done.exit_code == 0, done.output
    switched = [name for name in lines if name.startswith("user-")]
    now = hashes(shadow)
    common = {now[name] for name in switched}
    assert len(common) == 1
    assert all(now[name] == lines[name] for name in lines if name not in switched)
    header, *rows = accounts.read_bytes().splitlines()
    assert header == b"Name\tPassword"
    assert [row.split(b"\t")[0].decode() for row in rows] == switched
    password = rows[0].split(b"\t")[1].decode()
    assert password not in done.output
    salt = common.pop().decode()
    check = subprocess.run(
        ["perl", "-e", "print crypt(<STDIN>, $ARGV[0])", salt],
        input=password,
        capture_output=True,
        text=True,
        check=True,
    )
    assert check.stdout == salt  # as this system's own crypt(3) sees it
    assert (accounts.stat().st_mode & 0o777, shadow.stat().st_mode & 0o777) == (0o600, 0o640)
    told = json.loads(run("status", shadow, "--json").stdout)
    assert (told["state"], told["names"], told["changed"]) == ("switched", switched, [])
    assert run("status", shadow).exit_code == 1
    again = run("begin", shadow, "--accounts", shadow.parent / "other.txt")
    assert (again.exit_code, "end` first" in again.output) == (65, True)

    planned = run("end", shadow, "--dry-run")
    assert f"{len(switched)} accounts would have" in planned.stdout
    assert hashes(shadow) == now
    back = run("end", shadow)
    assert back.exit_code == 0, back.output
    assert shadow.read_bytes() == before
    assert beside(shadow) == {"accounts.txt"}
    assert (run("end", shadow).exit_code, run("status", shadow).exit_code) == (0, 0)


def test_the_guides_way(shadow: Path, lines: dict[str, bytes]) -> None:
    """The hash of an account whose password is known."""
    accounts = shadow.parent / "accounts.txt"
    known = ("--known", "user-sha256crypt", "--password-file", "-", "--accounts", accounts)
    wrong = run("begin", shadow, *known, stdin="another\n")
    assert (wrong.exit_code, "not the password" in wrong.output, accounts.exists()) == (65, True, False)
    planned = run("begin", shadow, *known, "--dry-run", "--json", stdin="secret of sha256crypt\n")
    assert json.loads(planned.stdout)["state"] == "would begin"
    assert beside(shadow) == set()
    done = run("begin", shadow, *known, "--keep", "user-yescrypt", stdin="secret of sha256crypt\n")
    assert done.exit_code == 0, done.output
    now = hashes(shadow)
    assert now["user-descrypt"] == now["user-sha256crypt"] == lines["user-sha256crypt"]
    assert now["user-yescrypt"] == lines["user-yescrypt"]
    assert b"\tsecret of sha256crypt\n" in accounts.read_bytes()
    assert run("end", shadow).exit_code == 0
    assert hashes(shadow) == lines


def test_the_known_password_is_checked(shadow: Path) -> None:
    """For every kind of hash: with another password no mailbox would open, and nobody would know why."""
    for method in methods():
        known = ("--known", f"user-{method}", "--password-file", "-", "--dry-run")
        assert run("begin", shadow, *known, stdin="another\n").exit_code == 65
        assert run("begin", shadow, *known, stdin=f"secret of {method}\n").exit_code == 0


def test_what_others_change_meanwhile(shadow: Path, lines: dict[str, bytes]) -> None:
    """A new password stays; a copy of a switched account is named until somebody has dealt with it."""
    run("begin", shadow, "--accounts", shadow.parent / "accounts.txt")
    fresh = mkpasswd("sha512crypt", "chosen meanwhile")
    common = hashes(shadow)["user-descrypt"]
    text = shadow.read_bytes().replace(b"user-descrypt:" + common, b"user-descrypt:" + fresh)
    shadow.write_bytes(text + b"stranger:" + common + b":20000:0:99999:7:::\n")
    told = json.loads(run("status", shadow, "--json").stdout)
    assert (told["changed"], told["strangers"]) == (["user-descrypt"], ["stranger"])
    done = run("end", shadow)
    assert (done.exit_code, "stranger" in done.stdout) == (1, True)
    assert run("status", shadow).exit_code == 1
    expected = {**lines, "user-descrypt": fresh, "stranger": common}
    assert hashes(shadow) == expected
    assert run("end", shadow).exit_code == 1
    shadow.write_bytes(shadow.read_bytes().replace(b"stranger:" + common, b"stranger:!"))
    assert run("end", shadow).exit_code == 0
    assert hashes(shadow) == {**expected, "stranger": b"!"}
    assert beside(shadow) == {"accounts.txt"}


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda path: path.chmod(0o666), "written by others"),
        (lambda path: os.link(path, path.with_name("other")), "hard links"),
        (lambda path: path.rename(path.with_name("real")) and path.symlink_to("real"), "symbolic link"),
        (lambda path: path.write_bytes(path.read_bytes() + b"half a li"), "line"),
        (lambda path: path.write_bytes(path.read_bytes().split(b"\n")[0]), "nobody"),
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.with_name("shadow.shadow-switch-backup").write_bytes(b"else"), "no journal"),
        (lambda path: path.with_name("shadow.shadow-switch").write_bytes(b"{"), "cannot be read"),
    ],
)
def test_refused_when_unsafe(shadow: Path, spoil: Callable[[Path], object], text: str) -> None:
    spoil(shadow)
    before = shadow.read_bytes() if shadow.exists() else b""
    names = beside(shadow)
    refused = run("begin", shadow, "--known", "root")
    assert refused.exit_code == 65
    assert text in refused.output
    assert (shadow.read_bytes() if shadow.exists() else b"") == before
    assert beside(shadow) == names


def test_usage(shadow: Path) -> None:
    assert run("begin", shadow).exit_code == 64
    assert run("begin", shadow, "--known", "a", "--accounts", "b").exit_code == 64
    assert run("begin", shadow, "--accounts", "b", "--password-file", "-").exit_code == 64


def test_a_name_that_was_mistyped(shadow: Path) -> None:
    """Never "no switch is under way": somebody would leave it so."""
    for action in ("status", "end"):
        for path in (shadow.with_name("shadwo"), shadow.parent):
            assert run(action, path).exit_code == 65
        assert run(action, shadow).exit_code == 0


def test_other_programs_locks(shadow: Path) -> None:
    """As useradd and the like have them; one of a process that is no more is stale, for them as for us."""
    lock = shadow.with_name("shadow.lock")
    lock.write_bytes(b"%d\0" % os.getppid())
    with pytest.raises(Busy):
        ShadowSwitch(shadow).end()
    assert run("begin", shadow, "--known", "user-sha512crypt").exit_code == 75
    ended = subprocess.Popen(["true"])
    ended.wait()
    lock.write_bytes(b"%d" % ended.pid)
    assert run("begin", shadow, "--known", "user-sha512crypt").exit_code == 0
    assert not lock.exists()


def test_a_backup_that_is_not_what_was_saved(shadow: Path) -> None:
    run("begin", shadow, "--known", "user-sha512crypt")
    now = shadow.read_bytes()
    backup = shadow.with_name("shadow.shadow-switch-backup")
    saved = backup.read_bytes()
    for spoiled in (saved[:-1], b""):
        backup.write_bytes(spoiled)
        refused = run("end", shadow)
        assert (refused.exit_code, "is not the file as it was saved" in refused.output) == (65, True)
        assert shadow.read_bytes() == now
    backup.write_bytes(saved)
    assert run("end", shadow).exit_code == 0


_KILLED = """
import os, signal, sys
from pathlib import Path
from migrator.shadow_switch import ShadowSwitch
def at(step):
    if step == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)
one = ShadowSwitch(Path(sys.argv[1]), checkpoint=at)
if sys.argv[2] == "end":
    one.end()
else:
    one.begin(common=one.hash_of(b"user-sha512crypt"))
"""


def killed(path: Path, action: str, step: str) -> bool:
    """Whether the process came as far as to be killed there."""
    arguments = [sys.executable, "-c", _KILLED, str(path), action, step]
    return subprocess.run(arguments, check=False).returncode < 0


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_every_step(shadow: Path, step: str) -> None:
    """`end` restores it from wherever it was; `begin` and `end` go on from there."""
    before = shadow.read_bytes()
    found = killed(shadow, "begin", step)
    assert found == (step in STEPS[:6])
    run("end", shadow)
    assert shadow.read_bytes() == before
    assert beside(shadow) == set()

    if found and killed(shadow, "begin", step):  # once more, and now `begin` again
        state = ShadowSwitch(shadow).status().state
        again = run("begin", shadow, "--known", "user-sha512crypt")
        assert again.exit_code == (65 if state == "switched" else 0), again.output
    else:
        run("begin", shadow, "--known", "user-sha512crypt")
    assert shadow.read_bytes() != before
    killed(shadow, "end", step)
    assert run("end", shadow).exit_code == 0
    assert shadow.read_bytes() == before
    assert beside(shadow) == set()
    assert run("status", shadow).exit_code == 0


def test_the_journal_says_since_when(shadow: Path) -> None:
    moment = time.time()
    ShadowSwitch(shadow, now=lambda: 1234.0).begin(common=ShadowSwitch(shadow).hash_of(b"user-descrypt"))
    assert ShadowSwitch(shadow).status().since == 1234.0 < moment
    with pytest.raises(Unsafe, match="since 1970"):
        ShadowSwitch(shadow).begin(common=b"$6$other$" + b"x" * 86)
