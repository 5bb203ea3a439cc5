"""The login path against real servers: `python -m tests.bench.login [--json] [--quick] [--users N] [--profile FILE]`.

With `--guards` it measures only what the guards cost: the same requests with them and without, turn by turn.

VRFY by IMAP, VRFY by POP and NEW at 1, 50 and 200 outstanding, each user's first time: password
check, ledger, adoption (VRFY); probe and CreateAccount (NEW). Beside it, in the same run, what the
servers give a client that does nothing but log in or probe. Dovecot is tuned so that it does not
hide the helper; the CLI is a minimal responder. Everything shares this machine's cores, so the
helper's own CPU a request is the number that carries over to other machines.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migrator.seal import generate_keys
from tests.bench import floor, guards
from tests.bench.load import Helper, Measured
from tests.servers.dovecot import Dovecot
from tests.servers.postfix import Postfix
from tests.servers.process import server_directory

_ROOT = Path(__file__).resolve().parents[2]
_DOMAIN = "old.test"
_LEVELS = (1, 50, 200)
_EXPECT = {"vrfy-imap": (0.8, 700), "vrfy-pop": (0.8, 700), "new": (0.5, 1300)}  # CPU ms at most, requests/s at least
_P99 = 0.4  # seconds at most, at 200 outstanding
_START = 0.2  # seconds at most until the helper has answered its first request
_WARM_UP = 50  # requests before the first that counts: what only a request needs is loaded with the first one

_CONFIGURATION = """\
[communigate]
cli = "127.0.0.1:{cli}"
login = "postmaster"
password_file = "{directory}/cli.password"
imap = "127.0.0.1:9"
smtp = "127.0.0.1:9"
connections = 4
main_domain = "{domain}"

[helper]
deadline = "15s"
concurrency = 400
log = "{directory}/helper.log"

[state]
url = "sqlite:///{directory}/state/state.db"
public_key_file = "{directory}/seal.pub"
key_file = "{directory}/seal.key"

[worker]
embedded = false

[domains.default]
new = "probe"
smtp = "127.0.0.1:{smtp}"
verify = "{verify}"
imap = "imap://127.0.0.1:{imap}"
pop = "pop3://127.0.0.1:{pop}"
login = "{{user}}"
after_login = "copy"
max_connections = {connections}
"""


@dataclass(frozen=True, slots=True)
class World:
    """The servers of one run, and who is on them."""

    directory: Path
    dovecot: Dovecot
    postfix: Postfix
    responder: subprocess.Popen[bytes]
    cli_port: int
    users: Sequence[str]
    connections: int

    def forget_accounts(self) -> int:
        """Let the responder start anew; how many commands it answered since the last time."""
        assert self.responder.stdin is not None
        assert self.responder.stdout is not None
        self.responder.stdin.write(b"forget\n")
        self.responder.stdin.flush()
        return int(self.responder.stdout.readline().split()[0])

    def configuration(self, name: str, verify: str) -> Path:
        """A configuration with an empty ledger of its own."""
        home = self.directory / name
        (home / "state").mkdir(parents=True)
        password = home / "cli.password"
        password.write_text("cli-secret\n")
        password.chmod(0o600)
        path = home / "extauth.toml"
        path.write_text(
            _CONFIGURATION.format(
                directory=home,
                domain=_DOMAIN,
                cli=self.cli_port,
                smtp=self.postfix.port,
                imap=self.dovecot.imap_port,
                pop=self.dovecot.pop3_port,
                verify="pop" if verify == "vrfy-pop" else "imap",
                connections=self.connections,
            )
        )
        path.chmod(0o600)
        generate_keys(home / "seal.pub", home / "seal.key")
        return path


@contextmanager
def build_world(count: int, connections: int) -> Iterator[World]:
    """Dovecot and Postfix with `count` users, and the responder."""
    users = [f"user{number}" for number in range(count)]
    directory = server_directory()
    names = directory / "accounts"
    names.touch()
    with (
        Dovecot({user: password_of(user) for user in users}, tuned=True) as dovecot,
        Postfix([f"{user}@{_DOMAIN}" for user in users]) as postfix,
        subprocess.Popen(
            [sys.executable, "-m", "tests.bench.cli_responder", "--accounts", str(names)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_ROOT,
        ) as responder,
    ):
        assert responder.stdout is not None
        port = int(responder.stdout.readline())
        try:
            yield World(directory, dovecot, postfix, responder, port, users, connections)
        finally:
            assert responder.stdin is not None
            responder.stdin.close()
            subprocess.run(["rm", "-rf", str(directory)], check=True)


def loop_cost() -> float:
    """CPU milliseconds of a million steps of Python, now: on a machine with other work every number here is higher."""
    begun = time.process_time()
    total = 0
    for number in range(1_000_000):
        total += number
    return (time.process_time() - begun) * 1000


def password_of(user: str) -> bytes:
    """Every user's password."""
    return f"secret-{user}".encode()


def floors(world: World) -> dict[str, float]:
    """What the bare servers give, a second. Every account is warmed before: its first login makes its directory."""
    imap = [floor.imap_login(user, password_of(user).decode()) for user in world.users]
    pop = [floor.pop_login(user, password_of(user).decode()) for user in world.users]
    addresses = [f"{user}@{_DOMAIN}" for user in world.users]
    batches = [addresses[start : start + 30] for start in range(0, len(addresses), 30)]
    old = world.dovecot
    floor.rate(old.host, old.imap_port, imap, 50)
    floor.rate(old.host, old.pop3_port, pop, 50)
    return {
        "vrfy-imap": floor.rate(old.host, old.imap_port, imap, 50),
        "vrfy-pop": floor.rate(old.host, old.pop3_port, pop, 50),
        "new": floor.rate(old.host, world.postfix.port, [floor.smtp_probe([a]) for a in addresses], 50),
        "new-reused": 30
        * floor.rate(old.host, world.postfix.port, [floor.smtp_probe(batch) for batch in batches[:-1]], 10),
    }


def measure(world: World, scenario: str, profile: str) -> tuple[list[Measured], float, float]:
    """One scenario at every level; start time of the helper; CLI commands a request."""
    path = world.configuration(scenario, scenario)
    command = [sys.executable, "-m", "extauth", "serve", "--config", str(path)]
    if profile:
        command = [sys.executable, "-m", "cProfile", "-o", f"{profile}.{scenario}", *command[1:]]
    known = [] if scenario == "new" else world.users  # every NEW makes its account
    (world.directory / "accounts").write_text("".join(f"{user}@{_DOMAIN}\n" for user in known))
    world.forget_accounts()
    helper = Helper(command)
    results = []
    start = _WARM_UP
    helper.run([_request(scenario, user) for user in world.users[:start]], _LEVELS[1])  # loads what is loaded late
    shares = {1: 0.06, 50: 0.34, 200: 0.60}
    for level in _LEVELS:
        users = world.users[start : start + int((len(world.users) - _WARM_UP) * shares[level])]
        start += len(users)
        results.append(helper.run([_request(scenario, user) for user in users], level))
    total = sum(result.requests for result in results) + _WARM_UP
    commands = world.forget_accounts() / total
    for note in helper.notes[:5]:
        print(f"  * {note}", file=sys.stderr)
    if code := helper.close():
        print(f"  the helper ended with {code}", file=sys.stderr)
    return results, helper.start_seconds, commands


def _request(scenario: str, user: str) -> bytes:
    if scenario == "new":
        return f"NEW {user}@{_DOMAIN} (SMTP) [192.0.2.7]".encode()
    return b"VRFY (IMAP) %s@%s %s [192.0.2.7]" % (user.encode(), _DOMAIN.encode(), password_of(user))


def main() -> int:
    """Run, print the table; 1 when a request did not get OK."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    parser.add_argument("--quick", action="store_true", help="a tenth of the users")
    parser.add_argument("--users", type=int, default=4000)
    parser.add_argument("--connections", type=int, default=30, help="max_connections to the old server")
    parser.add_argument("--only", choices=sorted(_EXPECT), action="append")
    parser.add_argument("--profile", default="", help="write cProfile data of the helper to FILE.<scenario>")
    parser.add_argument("--guards", action="store_true", help="what the guards cost, and nothing else")
    options = parser.parse_args()
    count = options.users // 10 if options.quick else options.users
    report: dict[str, Any] = {"users": count, "connections": options.connections, "cores": os.cpu_count()}
    wrong = 0
    if options.guards:
        return _guards(count, options)
    report["loop_ms"] = loop_cost()
    with build_world(count, options.connections) as world:
        report["floor"] = floors(world)
        for scenario in options.only or _EXPECT:
            results, start, commands = measure(world, scenario, options.profile)
            report[scenario] = {
                "start_seconds": start,
                "cli_commands": commands,
                "loop_ms": loop_cost(),
                "levels": [_row(scenario, result, report["floor"][scenario]) for result in results],
            }
            wrong += sum(result.requests - result.words["OK"] for result in results)
    print(json.dumps(report, indent=1) if options.json else _table(report))
    return 1 if wrong else 0


def _guards(count: int, options: argparse.Namespace) -> int:
    """1 when the guards cost more than they may."""
    report = {}
    with build_world(count, options.connections) as world:
        for scenario in options.only or _EXPECT:
            known = [] if scenario == "new" else world.users
            (world.directory / "accounts").write_text("".join(f"{user}@{_DOMAIN}\n" for user in known))
            report[scenario] = guards.compare(world, scenario, [_request(scenario, user) for user in world.users])
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        for scenario, row in report.items():
            print(
                f"{scenario:10} CPU {row['on_ms']:.3f} ms with guards, {row['off_ms']:.3f} without:"
                f" {row['ratio']:.3f} times"
                f"{'' if row['ratio'] <= guards.MOST else '  misses the mark'}"
            )
    return int(any(row["ratio"] > guards.MOST for row in report.values()))


def _row(scenario: str, result: Measured, bare: float) -> dict[str, Any]:
    return {
        "outstanding": result.outstanding,
        "requests": result.requests,
        "rate": round(result.rate, 1),
        "of_floor": round(result.rate / bare, 3),
        "p50_ms": round(result.p50 * 1000, 1),
        "p99_ms": round(result.p99 * 1000, 1),
        "cpu_ms": round(result.cpu_ms, 3),
        "rss_kib": [result.rss_before, result.rss_after],
        "replies": dict(result.words),
        "missed": [] if result.outstanding == 1 else _missed(scenario, result),
    }


def _missed(scenario: str, result: Measured) -> list[str]:
    """The marks that a busy helper misses."""
    cpu, rate = _EXPECT[scenario]
    missed = []
    if result.cpu_ms > cpu:
        missed.append("CPU")
    if result.rate < rate:
        missed.append("rate")
    if result.outstanding >= 200 and result.p99 > _P99:
        missed.append("p99")
    return missed


def _table(report: dict[str, Any]) -> str:
    bare = report["floor"]
    lines = [
        f"{report['users']} users, {report['cores']} cores, {report['connections']} connections to the old server",
        f"floor: {bare['vrfy-imap']:.0f} IMAP logins/s, {bare['vrfy-pop']:.0f} POP logins/s, "
        f"{bare['new']:.0f} RCPT/s on fresh connections, {bare['new-reused']:.0f} on reused ones",
        "",
        "           at once requests/s of floor   p50 ms   p99 ms  CPU ms       RSS MiB",
    ]
    for scenario, (cpu, rate) in _EXPECT.items():
        if scenario not in report:
            continue
        for row in report[scenario]["levels"]:
            before, after = (kib / 1024 for kib in row["rss_kib"])
            lines.append(
                f"{scenario:10} {row['outstanding']:7} {row['rate']:10.0f} {row['of_floor']:8.2f} {row['p50_ms']:8.1f} "
                f"{row['p99_ms']:8.1f} {row['cpu_ms']:7.2f} {before:6.1f}>{after:6.1f}"
                f"  {_verdict(row)} {_others(row['replies'])}"
            )
        start = report[scenario]["start_seconds"]
        lines.append(
            f"{'':10} marks: {rate} a second and more, p99 of {_P99 * 1000:.0f} ms at 200, {cpu} ms CPU at most; "
            f"helper up in {start * 1000:.0f} ms ({'met' if start <= _START else 'missed'}: {_START * 1000:.0f}), "
            f"{report[scenario]['cli_commands']:.1f} CLI commands a request; "
            f"a million steps of Python cost {report[scenario]['loop_ms']:.0f} ms"
        )
    return "\n".join(lines)


def _verdict(row: dict[str, Any]) -> str:
    if row["outstanding"] == 1:
        return ""  # what a busy helper does is what counts
    return f"missed: {', '.join(row['missed'])}" if row["missed"] else "met"


def _others(replies: dict[str, int]) -> str:
    return ", ".join(f"{count} {word}" for word, count in replies.items() if word != "OK")


if __name__ == "__main__":
    sys.exit(main())
