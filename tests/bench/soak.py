"""What takes minutes: `python -m tests.bench.soak [--only many|boxes|huge] [--messages N] [--mailboxes N] ...`.

many: one mailbox of 100,000 messages, MoveIMAPMail killed at random moments and run again until it is through.
boxes: 10,000 mailboxes with a message each. huge: one message of 200 MB. From Dovecot to Dovecot; every message
must be there once, as it was, with its flags and date, and the memory of every run stays below its bound. The new
one keeps sdbox: in a Maildir its CREATE looks at every mailbox there is, a quarter of a second at 3,500 of them.
"""

from __future__ import annotations

import argparse
import base64
import os
import pwd
import random
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.bench.child import KILLED, Measured, run_child
from tests.bench.copy import verdict
from tests.bench.mailbox import Letter, arrived, expected, write_maildir
from tests.servers.dovecot import Dovecot
from tests.servers.process import server_directory

MANY_PEAK = 150.0  # MB of memory at most, whatever the number of messages and mailboxes
HUGE_ABOVE_IDLE = 64.0  # MB more than a run that has nothing to copy, whatever the size of the message
_COPIED = 60e-6  # seconds for a message on the machine of the last measurement, less than they take together
_PASSWORD = b"secret"
_WHEN = datetime(2009, 2, 13, 23, 31, 30, tzinfo=UTC)


class Account:
    """One account on two Dovecots, and the journal of its copy."""

    def __init__(self, old: Dovecot, new: Dovecot, login: str) -> None:
        self.old, self.new, self.login = old, new, login
        self.directory = server_directory()
        self.password_file = self.directory / "password"
        self.password_file.write_bytes(_PASSWORD + b"\n")
        self.password_file.chmod(0o600)

    def fill(self, letters: Sequence[Letter], mailboxes: Iterable[str]) -> None:
        """Its mail on the old server."""
        mail = pwd.getpwnam("mail")
        write_maildir(self.old.home(self.login), letters, (mail.pw_uid, mail.pw_gid), mailboxes)

    def move(self, kill_when: Callable[[float], bool] | None = None) -> Measured:
        """One run of MoveIMAPMail, to its end or to its kill; SystemExit when it fails."""
        passwords = ("--oldPasswordFile", str(self.password_file), "--newPasswordFile", str(self.password_file))
        servers = (f"127.0.0.1:{self.old.imap_port}", self.login, "*", f"127.0.0.1:{self.new.imap_port}", self.login)
        arguments = [sys.executable, "-m", "migrator.move_imap", "--notimeout", *passwords, *servers, "*"]
        return run_child(arguments, {"EXTAUTH_MOVES": str(self.directory / "moves.db")}, kill_when=kill_when)

    def check(self, letters: Sequence[Letter], mailboxes: Iterable[str]) -> None:
        """SystemExit unless the new server has each message once, as it was."""
        there = arrived(self.new.host, self.new.imap_port, self.login, _PASSWORD, mailboxes=mailboxes)
        wanted = expected(letters)
        print(f"  {verdict(wanted, there)}", flush=True)
        if there != wanted:
            raise SystemExit(f"{self.login}: the copy is not the source")

    def close(self) -> None:
        """Remove the journal and the mail."""
        shutil.rmtree(self.directory)
        for server in (self.old, self.new):
            shutil.rmtree(server.home(self.login), ignore_errors=True)


def small(number: int, mailbox: str = "INBOX") -> Letter:
    """A message of some hundred bytes; every tenth shares its Message-ID, every twentieth has none, some are twins."""
    identity = "" if number % 20 == 3 else f"Message-ID: <{number - number % 10 % 9}@soak.test>\r\n"
    text = number - 1 if number % 50 == 24 else number  # the same bytes as the one before, but for its date
    content = (
        f"From: a@soak.test\r\nSubject: {text}\r\n{identity if text == number else ''}\r\n{'word ' * (text % 60)}\r\n"
    )
    flags = ("F", "S", "FS", "RSa")[number % 4]  # for one without, Dovecot reads the whole directory: seconds each
    return Letter(mailbox, content.encode(), flags, _WHEN + timedelta(seconds=number))


def many(old: Dovecot, new: Dovecot, count: int, kills: Iterable[Callable[[float], bool]]) -> list[Measured]:
    """One mailbox, a run for each kill, one to the end, the proof, and one with nothing new."""
    letters = [small(number) for number in range(count)]
    account = Account(old, new, "many")
    account.fill(letters, ["INBOX"])
    print(f"many: {count} messages in one mailbox", flush=True)
    runs = [_say(account.move(kill_when)) for kill_when in kills]
    killed = sum(run.code == KILLED for run in runs)
    runs.append(_say(account.move()))
    account.check(letters, ["INBOX"])
    print("  and one more run, with nothing new")
    runs.append(_say(account.move()))
    account.check(letters, ["INBOX"])
    account.close()
    if not killed:
        raise SystemExit("many: no kill met the program at work; --longest is too large for so few messages")
    _bound(runs, MANY_PEAK)
    return runs


def after(seconds: float) -> Callable[[float], bool]:
    """A kill so long after the start."""
    return lambda passed: passed >= seconds


def boxes(old: Dovecot, new: Dovecot, count: int) -> list[Measured]:
    """Many mailboxes with one message each, and a run with nothing new."""
    names = ["INBOX", *(f"box{number:05}" for number in range(count))]
    letters = [small(number, name) for number, name in enumerate(names)]
    account = Account(old, new, "boxes")
    account.fill(letters, names)
    print(f"boxes: {len(names)} mailboxes with one message each", flush=True)
    runs = [_say(account.move()), _say(account.move())]
    account.check(letters, names)
    account.close()
    _bound(runs, MANY_PEAK)
    return runs


def huge(old: Dovecot, new: Dovecot, megabytes: int) -> float:
    """One message; MB of memory above a run that has nothing to copy."""
    idle_account = Account(old, new, "empty")
    idle_account.fill([], ["INBOX"])
    print(f"huge: one message of {megabytes} MB", flush=True)
    idle = _say(idle_account.move())
    line = base64.b64encode(random.Random(5).randbytes(57)) + b"\r\n"
    content = b"Subject: huge\r\nContent-Transfer-Encoding: base64\r\n\r\n" + line * (
        megabytes * 1_000_000 // len(line)
    )
    letters = [Letter("INBOX", content, "S", _WHEN)]
    account = Account(old, new, "huge")
    account.fill(letters, ["INBOX"])
    run = _say(account.move())
    account.check(letters, ["INBOX"])
    account.close()
    idle_account.close()
    above = (run.peak - idle.peak) / 1024
    print(f"  {above:.1f} MB above a run with nothing to copy")
    if above >= HUGE_ABOVE_IDLE:
        raise SystemExit(f"huge: {above:.1f} MB above idle are too much; at most {HUGE_ABOVE_IDLE:g}")
    return above


def _say(run: Measured) -> Measured:
    end = "killed" if run.code == KILLED else "through"
    print(f"  {end} after {run.seconds:.1f} s, CPU {run.cpu:.1f} s, peak {run.peak / 1024:.0f} MB", flush=True)
    return run


def _bound(runs: Sequence[Measured], limit: float) -> None:
    if (peak := max(run.peak for run in runs) / 1024) > limit:
        raise SystemExit(f"a run took {peak:.0f} MB of memory; at most {limit:g}")


def main() -> None:
    """The command; its exit code is 0 when all held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=["many", "boxes", "huge"])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--mailboxes", type=int, default=10_000)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--longest", type=float, help="seconds before a kill at most; else by --messages")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="of the moments of the kills")
    given = parser.parse_args()
    longest = given.longest or max(0.5, given.messages * _COPIED)
    wanted = given.only or ["many", "boxes", "huge"]
    if Path("/dev/shm").is_dir():  # for the sake of the disk, and of the time
        os.environ.setdefault("EXTAUTH_TEST_DIR", "/dev/shm")
    users = dict.fromkeys(("many", "boxes", "huge", "empty"), _PASSWORD)
    with Dovecot(users, tuned=True) as old, Dovecot(users, storage="sdbox", tuned=True) as new:
        if "many" in wanted:
            draw = random.Random(given.seed)
            print(f"kills at random: --seed {given.seed}")
            many(old, new, given.messages, [after(draw.uniform(0.2, longest)) for _ in range(given.kills)])
        if "boxes" in wanted:
            boxes(old, new, given.mailboxes)
        if "huge" in wanted:
            huge(old, new, given.megabytes)
    print("all of it held")


if __name__ == "__main__":
    main()
