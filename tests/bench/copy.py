"""A whole account from Dovecot to Dovecot: `python -m tests.bench.copy [--rounds N] [--corpus DIR] [--json] ...`.

Ours, mbsync, doveadm backup and a plain imaplib copier in turn, each into a fresh account, side by side in every
round: over loopback, over a proxy that adds 20 ms to each round trip, and once more with nothing new. It says what
arrived, our CPU and memory, and with --floor what the servers give at most. All share this machine's cores, so
ratios within one run count, not seconds.
"""

from __future__ import annotations

import argparse
import imaplib
import json
import os
import pwd
import re
import shutil
import socket
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from tests.bench import transfer_floor
from tests.bench.child import Measured, run_child
from tests.bench.mailbox import (
    MAILBOXES,
    Letter,
    Seen,
    arrived,
    contents,
    expected,
    from_corpus,
    generated,
    stored,
    write_maildir,
)
from tests.servers.delay import delayed
from tests.servers.dovecot import Dovecot
from tests.servers.process import server_directory

_LOGIN, _OLD, _NEW = "mover", b"old secret", b"new secret"
_WAYS = ("near", "far", "near again", "far again")  # far: over the proxies; again: with nothing new
_EXPECTED = {  # (way, peer): our time by the peer's, at most
    ("near", "doveadm"): 1.0,
    ("near", "mbsync"): 0.5,
    ("far", "mbsync"): 0.3,
}
_AGAIN_SECONDS = 0.3  # with nothing new, at most; and one round trip for each mailbox
_CPU = 0.1  # milliseconds of ours for a message, at most, in a near copy
_ADDED = {"mbsync": b"X-TUID"}  # a header that a program leaves in what it copies


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
    return run_child(arguments, {"EXTAUTH_MOVES": str(place.directory / "moves.db")})


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
    return run_child(["mbsync", "-c", str(config), "-q", "all"], {})


def doveadm(place: Place) -> Measured:
    """doveadm backup, from the source by IMAP into the target's own store."""
    settings = {"imapc_host": "127.0.0.1", "imapc_port": place.old_port, "imapc_user": _LOGIN,
                "imapc_password": _OLD.decode(), "imapc_features": "rfc822.size fetch-headers"}  # fmt: skip
    options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    config = str(place.new.directory / "dovecot.conf")
    return run_child(["doveadm", "-c", config, *options, "backup", "-R", "-u", _LOGIN, "imapc:"], {}, ok=(0, 2))


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


Results = dict[tuple[str, str], list[Measured]]  # (way, program): its runs


def measure(letters: Sequence[Letter], programs: Sequence[str], rounds: int, delay: float, *, floor: bool) -> Results:
    """Every program in every way, as often as there are rounds."""
    results: Results = defaultdict(list)
    mail = pwd.getpwnam("mail")
    with Dovecot({_LOGIN: _OLD}, tuned=True) as old, Dovecot({_LOGIN: _NEW}, tuned=True) as new:
        directory = server_directory()
        write_maildir(old.home(_LOGIN), letters, (mail.pw_uid, mail.pw_gid))
        wanted = expected(letters)
        assert arrived(old.host, old.imap_port, _LOGIN, _OLD) == wanted  # and its index is made before anyone is timed
        place = Place(old, new, directory)
        with delayed(old.imap_port, delay) as far_old, delayed(new.imap_port, delay) as far_new:
            ways = {"near": (old.imap_port, new.imap_port), **({"far": (far_old, far_new)} if delay else {})}
            for number in range(rounds):
                for way, ports in ways.items():
                    place.old_port, place.new_port = ports
                    if floor:
                        _floor(results, place, way)
                    for name in programs:
                        if number and way == "far" and name == "doveadm":
                            continue  # it waits for each message: minutes, and nobody is measured by it
                        if way != "far" or name != "imaplib":  # the same, and worse
                            _one(results, place, name, way, None if number else wanted)
        shutil.rmtree(directory)
    return results


def _one(results: Results, place: Place, name: str, way: str, wanted: Counter[Seen] | None) -> None:
    """One program into a fresh account, and again; what arrived is compared where `wanted` is given."""
    place.reset()
    results[way, name].append(PROGRAMS[name](place))
    if wanted is not None:
        there = arrived(place.new.host, place.new.imap_port, _LOGIN, _NEW, without=_ADDED.get(name, b""))
        print(f"{name}, {way}: {verdict(wanted, there)}", flush=True)
        if name == "ours" and there != wanted:
            raise SystemExit("our own copy is not the source")
    if name in _AGAIN:
        results[f"{way} again", name].append(PROGRAMS[name](place))
        if (
            wanted is not None
            and name == "ours"
            and arrived(place.new.host, place.new.imap_port, _LOGIN, _NEW) != wanted
        ):
            raise SystemExit("our second run changed something")


def verdict(wanted: Counter[Seen], there: Counter[Seen]) -> str:
    """What arrived, in words."""
    bodies = contents(wanted) - contents(there), contents(there) - contents(wanted)
    others = (wanted - there).total() - bodies[0].total()
    return (
        f"{there.total()} of {wanted.total()} arrived, {bodies[0].total()} missing or changed, {bodies[1].total()} "
        f"doubled or not as they were, {others} with other flags or dates"
    )


def _floor(results: Results, place: Place, way: str) -> None:
    """What the servers give to a client that only moves bytes."""
    place.reset()
    boxes = stored(place.old.host, place.old.imap_port, _LOGIN, _OLD)
    highest = {name: messages[-1].uid for name, messages in boxes.items() if messages}
    fetch = transfer_floor.fetch_everything("127.0.0.1", place.old_port, _LOGIN, _OLD, highest)
    append = transfer_floor.append_everything("127.0.0.1", place.new_port, _LOGIN, _NEW, boxes)
    results[way, "FETCH"].append(Measured(fetch, 0, 0))
    results[way, "APPEND"].append(Measured(append, 0, 0))


def report(results: Results, messages: int, delay: float) -> list[dict[str, object]]:
    """Print the medians, our ratios and whether they are what is expected."""
    rows: list[dict[str, object]] = []
    print(f"\nfar: {delay:g} ms more for each round trip; again: nothing new; FETCH and APPEND: the servers' own limit")
    print(f"{'':12} {'program':10} {'seconds':>8} {'CPU ms/message':>15} {'peak MB':>8} {'ours / it':>10}")
    for way in _WAYS:
        mine = median(run.seconds for run in results[way, "ours"]) if results.get((way, "ours")) else 0.0
        for name in (*PROGRAMS, "FETCH", "APPEND"):
            runs = results.get((way, name))
            if not runs:
                continue
            seconds = median(run.seconds for run in runs)
            cpu = 1000 * median(run.cpu for run in runs) / messages
            peak = max(run.peak for run in runs) / 1024
            marks = _marks(way, name, seconds=seconds, mine=mine, cpu=cpu, delay=delay)
            print(f"{way:12} {name:10} {seconds:8.2f} {cpu:15.3f} {peak:8.0f} {mine / seconds:10.2f}  {marks}")
            row = {"way": way, "program": name, "seconds": seconds, "cpu_ms": cpu, "ratio": mine / seconds}
            rows.append({**row, "peak_mb": peak, "marks": marks})
    return rows


def _marks(way: str, name: str, *, seconds: float, mine: float, cpu: float, delay: float) -> str:
    """What is expected beside what was measured, where something is."""
    if name != "ours":
        limit = _EXPECTED.get((way, name))
        return reached("ratio", mine / seconds, limit) if limit and mine else ""
    if way == "near":
        return reached("CPU", cpu, _CPU)
    if way.endswith("again"):
        trips = len(MAILBOXES) * delay / 1000 if way.startswith("far") else 0.0
        return reached("seconds", seconds, _AGAIN_SECONDS + trips)
    return ""


def reached(what: str, measured: float, limit: float) -> str:
    """One expectation beside its measurement."""
    return f"{'REACHED' if measured <= limit else 'MISSED'}: {what} {measured:.2f}, at most {limit:g}"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=5500)
    parser.add_argument("--delay", type=float, default=20.0, help="milliseconds of the far way; 0 leaves it out")
    parser.add_argument("--corpus", type=Path, help="a directory of .eml files in place of generated messages")
    parser.add_argument("--only", action="append", choices=[*PROGRAMS], help="may be given more than once")
    parser.add_argument("--floor", action="store_true", help="measure what the servers give at most, too")
    parser.add_argument("--json", action="store_true", help="the rows as one JSON line at the end")
    given = parser.parse_args()
    if Path("/dev/shm").is_dir():  # a disk of this machine would be most of what is measured
        os.environ.setdefault("EXTAUTH_TEST_DIR", "/dev/shm")
    wanted = given.only or [*PROGRAMS]
    programs = [name for name in wanted if name in ("ours", "imaplib") or shutil.which(name)]
    for name in wanted:
        if name not in programs:
            print(f"{name} is not installed and is left out")
    source = from_corpus(given.corpus, given.messages) if given.corpus else generated(given.messages)
    letters = list(source)
    print(f"{len(letters)} messages, {sum(len(letter.content) for letter in letters) / 1e6:.1f} MB")
    results = measure(letters, programs, given.rounds, given.delay, floor=given.floor)
    rows = report(results, len(letters), given.delay)
    if given.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
