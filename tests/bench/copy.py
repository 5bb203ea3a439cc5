"""A whole account from Dovecot to Dovecot: `python -m tests.bench.copy [--rounds N] [--corpus DIR] [--json] ...`.

Ours, mbsync, doveadm backup and a plain imaplib copier in turn, each into a fresh account, side by side in every
round: over loopback, over a proxy that adds 20 ms to each round trip, and once more with nothing new. It says what
arrived, and our CPU and memory. All share this machine's cores, so ratios within one run count, not seconds.
"""

from __future__ import annotations

import argparse
import imaplib
import json
import os
import pwd
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.bench.mailbox import MAILBOXES, Letter, arrived, expected, from_corpus, generated, write_maildir
from tests.servers.delay import delayed
from tests.servers.dovecot import Dovecot
from tests.servers.process import server_directory

_ROOT = Path(__file__).resolve().parents[2]
_LOGIN, _OLD, _NEW = "mover", b"old secret", b"new secret"
_ROUND_TRIP = 20.0  # milliseconds
_WAYS = ("loopback", "20 ms", "again", "again 20 ms")
_EXPECTED = {  # (way, peer): our time by the peer's, at most
    ("loopback", "doveadm"): 1.0,
    ("loopback", "mbsync"): 0.5,
    ("20 ms", "mbsync"): 0.3,
}
_CPU = 0.1  # milliseconds of ours for a message, at most, over loopback


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of one program."""

    seconds: float
    cpu: float  # seconds, user and system, of the program itself
    peak: int  # KiB of memory at most


class Place:
    """Both servers and what the programs need to know of them."""

    def __init__(self, old: Dovecot, new: Dovecot, directory: Path) -> None:
        self.old, self.new, self.directory = old, new, directory
        self.old_port, self.new_port = old.imap_port, new.imap_port

    def reset(self) -> None:
        """An empty target, and programs that know nothing of it."""
        shutil.rmtree(self.new.home(_LOGIN), ignore_errors=True)
        for path in self.directory.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def secret(self, name: str, password: bytes) -> Path:
        """A file with a password."""
        path = self.directory / name
        path.write_bytes(password + b"\n")
        path.chmod(0o600)
        return path


def ours(place: Place) -> Measured:
    """MoveIMAPMail, with its journal."""
    arguments = [
        sys.executable, "-m", "migrator.move_imap", "--json",
        "--oldPasswordFile", str(place.secret("old", _OLD)), "--newPasswordFile", str(place.secret("new", _NEW)),
        f"127.0.0.1:{place.old_port}", _LOGIN, "*", f"127.0.0.1:{place.new_port}", _LOGIN, "*",
    ]  # fmt: skip
    return _run(arguments, {"EXTAUTH_MOVES": str(place.directory / "moves.db")})


def mbsync(place: Place) -> Measured:
    """isync, pulling."""
    config = place.directory / "mbsyncrc"
    stores = "".join(
        f"IMAPAccount {name}\nHost 127.0.0.1\nPort {port}\nUser {_LOGIN}\nPass \"{password.decode()}\"\nSSLType None\n"
        f"AuthMechs LOGIN\n\nIMAPStore {name}\nAccount {name}\n\n"
        for name, port, password in (("old", place.old_port, _OLD), ("new", place.new_port, _NEW))
    )  # fmt: skip
    state = place.directory / "mbsync"
    state.mkdir(exist_ok=True)
    channel = "Channel all\nFar :old:\nNear :new:\nPatterns *\nCreate Near\nSync Pull\nCopyArrivalDate yes\n"
    config.write_text(f"{stores}{channel}SyncState {state}/\n")
    config.chmod(0o600)
    return _run(["mbsync", "-c", str(config), "-q", "all"], {})


def doveadm(place: Place) -> Measured:
    """doveadm backup, from the source by IMAP into the target's own store."""
    settings = {"imapc_host": "127.0.0.1", "imapc_port": place.old_port, "imapc_user": _LOGIN,
                "imapc_password": _OLD.decode(), "imapc_features": "rfc822.size fetch-headers"}  # fmt: skip
    options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    config = str(place.new.directory / "dovecot.conf")
    return _run(["doveadm", "-c", config, *options, "backup", "-R", "-u", _LOGIN, "imapc:"], {}, ok=(0, 2))


def imaplib_copier(place: Place) -> Measured:
    """What everybody writes first: one message after the other."""
    began, before = time.monotonic(), time.process_time()
    with imaplib.IMAP4("127.0.0.1", place.old_port) as old, imaplib.IMAP4("127.0.0.1", place.new_port) as new:
        for client in (old, new):  # else it waits 40 ms for each message, which would say nothing of the rest
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        old.login(_LOGIN, _OLD.decode())
        new.login(_LOGIN, _NEW.decode())
        for mailbox in MAILBOXES:
            if mailbox != "INBOX":
                new.create(mailbox)
            old.select(mailbox, readonly=True)
            for uid in old.uid("SEARCH", "ALL")[1][0].split():
                found = old.uid("FETCH", uid.decode(), "(FLAGS INTERNALDATE BODY.PEEK[])")[1][0]
                flags = b" ".join(flag for flag in imaplib.ParseFlags(found[0]) if flag != rb"\Recent").decode()
                date = re.search(rb'INTERNALDATE ("[^"]*")', found[0])
                assert date is not None
                new.append(mailbox, flags, date[1].decode(), found[1])
    return Measured(time.monotonic() - began, time.process_time() - before, 0)


PROGRAMS: dict[str, Callable[[Place], Measured]] = {
    "ours": ours, "mbsync": mbsync, "doveadm": doveadm, "imaplib": imaplib_copier
}  # fmt: skip
_AGAIN = ("ours", "mbsync", "doveadm")  # imaplib would double everything


def _run(arguments: Sequence[str], environment: dict[str, str], *, ok: Sequence[int] = (0,)) -> Measured:
    began = time.monotonic()
    log = server_directory() / "output"
    with log.open("wb") as output:
        child = subprocess.Popen(
            arguments,
            cwd=_ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        peak, status, usage = _watch(child.pid)
    seconds = time.monotonic() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    said = log.read_text("utf-8", "replace")
    shutil.rmtree(log.parent)
    if child.returncode not in ok:
        raise SystemExit(f"{arguments[0]} ended with {child.returncode}:\n{said[-2000:]}")
    return Measured(seconds, usage.ru_utime + usage.ru_stime, peak)


def _watch(pid: int) -> tuple[int, int, resource.struct_rusage]:
    """Wait for a child: the most memory it was seen with (KiB), its status and its times.

    The maximum in its rusage would not do: it begins with ours, from before the exec.
    """
    peak = 0
    while True:
        with suppress(OSError):
            found = re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())
            peak = max(peak, int(found[1])) if found else peak  # a child that has ended shows none
        done, code, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return peak, code, usage
        time.sleep(0.005)


def measure(letters: Sequence[Letter], programs: Sequence[str], rounds: int) -> dict[tuple[str, str], list[Measured]]:
    """(way, program): its runs."""
    results: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    mail = pwd.getpwnam("mail")
    with Dovecot({_LOGIN: _OLD}, tuned=True) as old, Dovecot({_LOGIN: _NEW}, tuned=True) as new:
        directory = server_directory()
        write_maildir(old.home(_LOGIN), letters, (mail.pw_uid, mail.pw_gid))
        wanted = expected(letters)
        assert arrived(old.host, old.imap_port, _LOGIN, _OLD) == wanted  # and its index is made before anyone is timed
        place = Place(old, new, directory)
        with delayed(old.imap_port, _ROUND_TRIP) as far_old, delayed(new.imap_port, _ROUND_TRIP) as far_new:
            for number in range(rounds):
                for name in programs:
                    _one_round(results, place, name, (far_old, far_new), wanted if not number else None)
        shutil.rmtree(directory)
    return results


def _one_round(
    results: dict[tuple[str, str], list[Measured]],
    place: Place,
    name: str,
    far: tuple[int, int],
    wanted: Counter[tuple[str, str]] | None,
) -> None:
    near = (place.old.imap_port, place.new.imap_port)
    for way, ports in (("loopback", near), ("20 ms", far)):
        if name == "imaplib" and way != "loopback":
            continue  # minutes, and nothing new
        place.reset()
        place.old_port, place.new_port = ports
        results[way, name].append(PROGRAMS[name](place))
        if wanted is not None:
            _check(name, way, wanted, arrived(place.new.host, place.new.imap_port, _LOGIN, _NEW))
        if name in _AGAIN:
            results["again" if way == "loopback" else "again 20 ms", name].append(PROGRAMS[name](place))


def _check(name: str, way: str, wanted: Counter[tuple[str, str]], found: Counter[tuple[str, str]]) -> None:
    missing, surplus = (wanted - found).total(), (found - wanted).total()
    print(
        f"{name}, {way}: {found.total()} arrived, {missing} missing or changed, {surplus} not as they were", flush=True
    )
    if name == "ours" and found != wanted:
        raise SystemExit("our own copy is not the source")


def report(results: dict[tuple[str, str], list[Measured]], messages: int) -> list[dict[str, object]]:
    """Print the medians, our ratios and whether they are what is expected."""
    rows: list[dict[str, object]] = []
    print(f"\n{'':12} {'program':10} {'seconds':>8} {'CPU ms/message':>15} {'peak MB':>8} {'ours / it':>10}")
    for way in _WAYS:
        mine = median(run.seconds for run in results[way, "ours"]) if results.get((way, "ours")) else 0.0
        for name in PROGRAMS:
            runs = results.get((way, name))
            if not runs:
                continue
            seconds = median(run.seconds for run in runs)
            cpu = 1000 * median(run.cpu for run in runs) / messages
            limit = _EXPECTED.get((way, name))
            ratio = mine / seconds
            verdict = "" if limit is None else f"{'REACHED' if ratio <= limit else 'MISSED'} (at most {limit})"
            if name == "ours" and way == "loopback":
                verdict = f"CPU {'REACHED' if cpu <= _CPU else 'MISSED'} (at most {_CPU})"
            peak = max(run.peak for run in runs) / 1024
            print(f"{way:12} {name:10} {seconds:8.2f} {cpu:15.3f} {peak:8.0f} {ratio:10.2f}  {verdict}")
            rows.append(
                {"way": way, "program": name, "seconds": seconds, "cpu_ms": cpu, "ratio": ratio, "peak_mb": peak}
            )
    return rows


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=5500)
    parser.add_argument("--corpus", type=Path, help="a directory of .eml files in place of generated messages")
    parser.add_argument("--only", action="append", choices=[*PROGRAMS], help="may be given more than once")
    parser.add_argument("--json", action="store_true", help="the rows as one JSON line at the end")
    given = parser.parse_args()
    if Path("/dev/shm").is_dir():  # a disk of this machine would be most of what is measured
        os.environ.setdefault("EXTAUTH_TEST_DIR", "/dev/shm")
    wanted = given.only or [*PROGRAMS]
    programs = [name for name in wanted if name in ("ours", "imaplib") or shutil.which(name)]
    for name in set(wanted) - set(programs):
        print(f"{name} is not installed and is left out")
    source = from_corpus(given.corpus, given.messages) if given.corpus else generated(given.messages)
    letters = list(source)
    print(f"{len(letters)} messages, {sum(len(letter.content) for letter in letters) / 1e6:.1f} MB")
    rows = report(measure(letters, programs, given.rounds), len(letters))
    if given.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
