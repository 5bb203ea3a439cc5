"""A maildrop from Dovecot to Postfix: `python -m tests.bench.pop [--rounds N] [--messages N] [--json] ...`.

Ours, a plain loop of poplib and smtplib, fetchmail, and mpop (which hands each message to msmtp) in turn, over
loopback and over proxies that add 20 ms to each round trip of both connections. Postfix throws away what it takes;
its log says how much that was. "Postfix x1" and "x8" are its own load generator, by one and by eight sessions: nothing
that is sent to it by so many is faster. Ratios within one run count, not seconds.
"""

from __future__ import annotations

import argparse
import json
import poplib
import pwd
import re
import shutil
import smtplib
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from tests.bench.child import Measured, run_child
from tests.bench.copy import reached
from tests.bench.mailbox import Letter, generated, write_maildir
from tests.servers.delay import delayed
from tests.servers.dovecot import Dovecot
from tests.servers.postfix import Postfix
from tests.servers.process import server_directory

_LOGIN, _PASSWORD, _RECIPIENT = "mover", "old-secret", "mover@new.test"
_EXPECTED = {"near": 0.5, "far": 0.1}  # our time by the plain loop's, at most
_QUIET_SECONDS = 3.0  # when Postfix has delivered nothing for so long, its queue is empty


@dataclass(frozen=True, slots=True)
class Place:
    """Where the maildrop is, what it holds, where its mail goes, and a directory for one run."""

    pop: int
    smtp: int
    count: int
    octets: int
    directory: Path

    def file(self, name: str, text: str) -> str:
        """A file that only its owner reads, in the directory."""
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o600)
        return str(path)


def ours(place: Place) -> Measured:
    """MovePOPMail, with its journal."""
    arguments = [
        sys.executable, "-m", "migrator.move_pop", "--json",
        "--oldPasswordFile", place.file("old", f"{_PASSWORD}\n"),
        f"127.0.0.1:{place.pop}", _LOGIN, "*", f"127.0.0.1:{place.smtp}", _RECIPIENT,
    ]  # fmt: skip
    return run_child(arguments, {"EXTAUTH_MOVES": str(place.directory / "moves.db")})


def plain_loop(place: Place) -> Measured:
    """What everybody writes first: RETR, then a whole SMTP transaction, one message after the other."""
    began, before = time.monotonic(), time.process_time()
    poplib._MAXLINE = 1 << 24  # type: ignore[attr-defined]  # else it gives up on a long line
    pop = poplib.POP3("127.0.0.1", place.pop)
    pop.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    pop.user(_LOGIN)
    pop.pass_(_PASSWORD)
    with smtplib.SMTP("127.0.0.1", place.smtp, local_hostname="bench.test") as smtp:
        assert smtp.sock is not None
        smtp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in range(1, pop.stat()[0] + 1):
            smtp.sendmail("", [_RECIPIENT], b"\r\n".join(pop.retr(number)[1]) + b"\r\n")
    pop.quit()
    return Measured(time.monotonic() - began, time.process_time() - before, 0)


def fetchmail(place: Place) -> Measured:
    """One poll that keeps the mail."""
    config = place.file(
        "fetchmailrc",
        f'poll 127.0.0.1 service {place.pop} protocol pop3 auth password\n  username "{_LOGIN}" password "{_PASSWORD}"'
        f' is mover here\n  smtphost 127.0.0.1/{place.smtp} smtpname {_RECIPIENT} sslproto "" keep fetchall\n',
    )
    pid_file = str(place.directory / "fetchmail.pid")
    arguments = ["fetchmail", "-f", config, "--pidfile", pid_file, "--nosyslog", "--silent", "--nodetach"]
    return run_child(arguments, {"FETCHMAILHOME": str(place.directory), "HOME": str(place.directory)})


def mpop(place: Place) -> Measured:
    """It pipelines POP, and has no SMTP of its own."""
    send = f"msmtp --file=/dev/null --host=127.0.0.1 --port={place.smtp} --tls=off --auth=off --from=bench@old.test"
    config = place.file(
        "mpoprc",
        f"account default\nhost 127.0.0.1\nport {place.pop}\nuser {_LOGIN}\npassword {_PASSWORD}\nauth user\ntls off\n"
        f"keep on\nreceived_header off\nuidls_file {place.directory}/uidls\ndelivery mda {send} {_RECIPIENT}\n",
    )
    return run_child(["mpop", "-C", config, "--quiet"])


def postfix_alone(sessions: int) -> Callable[[Place], Measured]:
    """As many messages of the mean size from Postfix's own load generator: what the target takes, whoever sends."""

    def run(place: Place) -> Measured:
        sizes = ["-s", str(sessions), "-m", str(place.count), "-l", str(place.octets // place.count)]
        return run_child(["smtp-source", *sizes, "-f", "<>", "-t", _RECIPIENT, f"127.0.0.1:{place.smtp}"])

    return run


_FLOOR = {f"Postfix x{sessions}": postfix_alone(sessions) for sessions in (1, 8)}  # by sessions at a time
PROGRAMS: dict[str, Callable[[Place], Measured]] = {
    "ours": ours, "plain loop": plain_loop, "fetchmail": fetchmail, "mpop": mpop, **_FLOOR
}  # fmt: skip
_NEEDS = {"fetchmail": ("fetchmail",), "mpop": ("mpop", "msmtp"), **dict.fromkeys(_FLOOR, ("smtp-source",))}
_SLOW = ("plain loop", "fetchmail", "mpop")  # on the far way: once is enough

Results = dict[tuple[str, str], list[Measured]]  # (way, program): its runs


def measure(letters: Sequence[Letter], programs: Sequence[str], rounds: int, delay: float) -> Results:
    """Every program in every way, as often as there are rounds; SystemExit when ours did not submit each once."""
    results: Results = defaultdict(list)
    mail = pwd.getpwnam("mail")
    with Dovecot({_LOGIN: _PASSWORD.encode()}, tuned=True) as old, Postfix([_RECIPIENT]) as new:
        write_maildir(old.home(_LOGIN), letters, (mail.pw_uid, mail.pw_gid))
        _warm(old.pop3_port)
        with delayed(old.pop3_port, delay) as far_old, delayed(new.port, delay) as far_new:
            ways = {"near": (old.pop3_port, new.port), **({"far": (far_old, far_new)} if delay else {})}
            for number in range(rounds):
                for way, ports in ways.items():
                    for name in programs:
                        if way == "near" or (name not in _FLOOR and (name not in _SLOW or not number)):
                            run = _one(name, ports, new, letters)
                            results[way, name].append(run)
    return results


def _one(name: str, ports: tuple[int, int], new: Postfix, letters: Sequence[Letter]) -> Measured:
    directory = server_directory()
    before, count = _taken(new), len(letters)
    run = PROGRAMS[name](Place(*ports, count, sum(len(letter.content) for letter in letters), directory))
    shutil.rmtree(directory)
    taken, since = 0, time.monotonic()
    while taken < count and time.monotonic() - since < _QUIET_SECONDS:
        time.sleep(0.05)
        if (now := _taken(new) - before) != taken:
            taken, since = now, time.monotonic()
    if taken != count:
        print(f"{name}: {taken} of {count} messages were taken", flush=True)
        if name == "ours":
            raise SystemExit("our own copy is not the source")
    return run


def _taken(new: Postfix) -> int:
    """How many messages Postfix has delivered, to nowhere."""
    return len(re.findall(rb"discard\[\d+\]: \w+: to=", new.log.read_bytes()))


def _warm(port: int) -> None:
    """Dovecot makes its index at the first login."""
    pop = poplib.POP3("127.0.0.1", port)
    pop.user(_LOGIN)
    pop.pass_(_PASSWORD)
    pop.uidl()
    pop.quit()


def report(results: Results, messages: int, delay: float) -> list[dict[str, object]]:
    """Print the medians, our ratios and whether they are what is expected."""
    rows: list[dict[str, object]] = []
    print(f"\nfar: {delay:g} ms more for each round trip")
    print(f"{'':6} {'program':10} {'seconds':>8} {'CPU ms/message':>15} {'peak MB':>8} {'ours / it':>10}")
    for way, limit in _EXPECTED.items():
        mine = median(run.seconds for run in results[way, "ours"]) if results.get((way, "ours")) else 0.0
        for name in PROGRAMS:
            runs = results.get((way, name))
            if not runs:
                continue
            seconds = median(run.seconds for run in runs)
            cpu = 1000 * median(run.cpu for run in runs) / messages
            peak = max(run.peak for run in runs) / 1024
            marks = reached("ratio", mine / seconds, limit) if name == "plain loop" and mine else ""
            print(f"{way:6} {name:10} {seconds:8.2f} {cpu:15.3f} {peak:8.0f} {mine / seconds:10.2f}  {marks}")
            row = {"way": way, "program": name, "seconds": seconds, "cpu_ms": cpu, "ratio": mine / seconds}
            rows.append({**row, "peak_mb": peak, "marks": marks})
    return rows


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--messages", type=int, default=500)
    parser.add_argument("--delay", type=float, default=20.0, help="milliseconds of the far way; 0 leaves it out")
    parser.add_argument("--only", action="append", choices=[*PROGRAMS], help="may be given more than once")
    parser.add_argument("--json", action="store_true", help="the rows as one JSON line at the end")
    given = parser.parse_args()
    wanted = given.only or [*PROGRAMS]
    programs = [name for name in wanted if all(map(shutil.which, _NEEDS.get(name, ())))]
    for name in wanted:
        if name not in programs:
            print(f"{name} is left out: {' and '.join(_NEEDS[name])} must be installed")
    letters = [replace(letter, mailbox="INBOX") for letter in generated(given.messages)]
    print(f"{len(letters)} messages, {sum(len(letter.content) for letter in letters) / 1e6:.1f} MB")
    rows = report(measure(letters, programs, given.rounds, given.delay), len(letters), given.delay)
    if given.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
