"""`extauth demo`: a whole migration on the sandbox, with the real helper process and its real worker, and the proof.

Twenty users in three domains move at their first logins while mail comes in, strangers and wrong passwords are turned
away, and the old server fails in the middle. Exit code 0 only when every message is proven to have arrived once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from extauth.sandbox.communigate import LoginResult
from extauth.sandbox.demo_display import Display, DomainCount, Picture, choose
from extauth.sandbox.old_server import OldUser
from extauth.sandbox.proof import Row, compare
from extauth.sandbox.world import DomainPlan, Sandbox, passwords_of
from migrator.ledger.store import Store
from migrator.status import Status, read_status

DOMAINS = (
    DomainPlan("north.test"),
    DomainPlan("south.test", login="{user}"),
    DomainPlan("west.test", verify="pop", copy="pop"),
)
_RETRY_AFTER = 2.0  # seconds that a postponed copy is left to itself
_PATIENCE = 45.0  # seconds a step may take before the demo says that it failed
_FEWEST = 9  # three in each third
_LOOKS = 0.12  # seconds between two pictures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `extauth demo`."""
    parser.add_argument("--users", type=_users, default=20, metavar="N", help="users to move; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for programs")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="a new directory for configuration, state and logs")
    parser.add_argument("--plain", action="store_true", help="lines instead of a live table")


def _users(text: str) -> int:
    if not text.isdigit() or int(text) < _FEWEST:
        raise argparse.ArgumentTypeError(f"a number of at least {_FEWEST}, so that each part of the story has some")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 when all is proven, else 1. `arguments` are those behind `extauth demo`."""
    parser = argparse.ArgumentParser(prog="extauth demo", description="A whole migration on the sandbox.")
    add_arguments(parser)
    return run(parser.parse_args([] if arguments is None else list(arguments)))


def run(options: argparse.Namespace) -> int:
    """The same with parsed flags."""
    if options.keep:
        options.keep.mkdir(mode=0o700, parents=True)
    display = choose(as_json=options.json, plain=options.plain)
    with display:
        try:
            return asyncio.run(_run(display, options.users, options.keep))
        except asyncio.CancelledError:
            return 1  # ended by SIGTERM, with everything taken down


async def _run(display: Display, users: int, keep: Path | None = None) -> int:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with Sandbox(
        users=users, directory=keep, domains=DOMAINS, inbox=90, mailboxes=9, each=22, big=60_000
    ) as sandbox:
        return 0 if await Demo(sandbox, display).play() else 1


class Failed(Exception):
    """A step did not come out as it must."""


@dataclass(slots=True)
class Demo:
    """The story, step by step. Every step either holds or is shown as BAD and the run ends with 1."""

    sandbox: Sandbox
    display: Display
    good: bool = True
    doing: str = ""
    started: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    delivered: dict[str, list[bytes]] = field(default_factory=dict)
    moved: set[str] = field(default_factory=set)
    status: Status | None = None
    store: Store | None = None

    @property
    def seconds(self) -> float:
        """Since the demo began."""
        return asyncio.get_running_loop().time() - self.started

    async def play(self) -> bool:
        """All steps, then the proof."""
        self.store = Store(self.sandbox.state_path)
        watching = asyncio.create_task(self._watch())
        steps: tuple[tuple[str, Callable[[], Awaitable[str]]], ...] = (
            ("the servers and the helper are up", self._start),
            ("mail to addresses not yet known makes the accounts and is delivered", self._mail_arrives),
            ("mail to unknown addresses bounces (550), a +detail goes to its owner", self._bounces),
            ("wrong passwords are refused", self._wrong_passwords),
            ("a third of the users log in: OK at once, copies begin", lambda: self._log_in(self._part(0))),
            ("OUTAGE of the old server: 450, temporary failures, moved users notice nothing", self._outage),
            ("the old server is back: the same logins and mail go through", self._recovery),
            ("kill -9 of the helper while the others log in: started again, asked again", self._kill_helper),
            ("all copies are done", self._wait_for_copies),
            ("second logins need no old server: it is switched off", self._independence),
            ("the helper ends cleanly, having kept to its protocol", self._end_helper),
            ("no password is in any log or file", self._search_logs),
        )
        try:
            for text, action in steps:
                await self._step(text, action)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await self.store.close()
        return self._prove()

    async def _step(self, text: str, action: Callable[[], Awaitable[str]]) -> None:
        self.doing = text + " …"
        self.display.look(self._picture())
        try:
            async with asyncio.timeout(_PATIENCE):
                more = await action()
        except (Failed, TimeoutError) as error:
            self.good = False
            self.display.step(f"{text}: {error or 'not in time'}", self.seconds, good=False)
        else:
            self.display.step(f"{text} ({more})", self.seconds, good=True)
        self.doing = ""

    # -- steps ---------------------------------------------------------------------------------------------------------

    async def _start(self) -> str:
        helper = await self.sandbox.start_helper(restart_pause=0.5)
        _expect(helper.spoken_interface is not None, "the helper does not speak its protocol")
        users, domains = len(self.sandbox.users), len(self.sandbox.domains)
        return f"{self.sandbox.messages} messages of {users} users in {domains} domains wait at the old server"

    async def _mail_arrives(self) -> str:
        users = self.sandbox.users[::4]
        codes = await asyncio.gather(*(self._send(user.address, "welcome") for user in users))
        _expect(all(code == 250 for code in codes), f"replies {sorted(set(codes))}")
        return f"{len(codes)} times 250"

    async def _send(self, address: str, subject: str, owner: str | None = None) -> int:
        """A message from outside to `address`; remembered as delivered to its owner."""
        message = (
            f"From: <friend@outside.test>\r\nTo: <{address}>\r\nSubject: {subject}\r\n\r\nHello {address}\r\n".encode()
        )
        reply = await self.sandbox.communigate.mail_arrives("friend@outside.test", address, message)
        if reply.code == 250:
            self.delivered.setdefault(owner or address, []).append(message)
        return reply.code

    async def _bounces(self) -> str:
        first = self.sandbox.users[0].address
        name, _, domain = first.partition("@")
        strangers = [f"nobody{number}@{d.name}" for number, d in enumerate(self.sandbox.domains)]
        codes = await asyncio.gather(*(self._send(address, "spam") for address in strangers))
        _expect(all(code == 550 for code in codes), f"replies {sorted(set(codes))}")
        made = [a for a in strangers if self.sandbox.communigate.account(a) is not None]
        _expect(not made, f"accounts were made: {made}")
        code = await self._send(f"{name}+shop@{domain}", "receipt", first)
        _expect(code == 250, f"mail to +detail: {code}")
        return f"{len(codes)} bounces"

    async def _wrong_passwords(self) -> str:
        users = self.sandbox.users[1:5]
        wrong = [user.password[:-1] + b"?" for user in users]
        results = await asyncio.gather(
            *(self.sandbox.communigate.login(u.address, password) for u, password in zip(users, wrong, strict=True))
        )
        _expect(all(result is LoginResult.WRONG for result in results), f"results {results}")
        stranger = await self.sandbox.communigate.login("nobody@" + self.sandbox.domains[0].name, b"anything")
        _expect(stranger is LoginResult.WRONG, f"a stranger: {stranger}")
        return f"{len(results) + 1} refused"

    async def _log_in(self, users: Sequence[OldUser]) -> str:
        results = await asyncio.gather(*(self._first_login(user) for user in users))
        bad = [user.address for user, result in zip(users, results, strict=True) if result is not LoginResult.OK]
        _expect(not bad, f"not let in: {', '.join(bad)}")
        return f"{len(users)} logins"

    async def _first_login(self, user: OldUser) -> LoginResult:
        result = await self.sandbox.communigate.login(user.address, user.password)
        if result is LoginResult.OK:
            self.moved.add(user.address)
        return result

    def _part(self, number: int) -> list[OldUser]:
        """The users who log in before the outage (0), during it (1), and after it (2)."""
        return [user for place, user in enumerate(self.sandbox.users) if place // 3 % 3 == number]

    async def _outage(self) -> str:
        """Copies are under way when it begins."""
        communigate = self.sandbox.communigate
        await _until(self._arriving)
        await self.sandbox.old.go_down()
        results = await asyncio.gather(*(communigate.login(u.address, u.password) for u in self._part(1)))
        _expect(all(r is LoginResult.TEMPORARY for r in results), f"logins: {sorted({r.value for r in results})}")
        unknown = [u for u in self.sandbox.users if communigate.account(u.address) is None][:3]
        codes = await asyncio.gather(*(self._send(u.address, "during the outage") for u in unknown))
        _expect(all(code == 450 for code in codes), f"mail to new addresses: {codes}")
        settled = [u for u in self.sandbox.users if u.address in self.moved and self._is_adopted(u)]
        again = await asyncio.gather(*(communigate.login(u.address, u.password) for u in settled))
        _expect(all(r is LoginResult.OK for r in again), "a user who had moved was not let in")
        return f"{await self._interrupted()} copies cut off, {len(results)} logins and {len(codes)} messages put off"

    def _arriving(self) -> bool:
        """Whether a copy has brought its first messages."""
        accounts = (self.sandbox.communigate.account(address) for address in self.moved)
        return any(len(list(account.store)) > 1 for account in accounts if account is not None)

    async def _interrupted(self) -> int:
        """How many copies it met: those put off, and those that try to connect again."""
        while True:
            status = self.status
            if status is not None and (met := len(status.postponed) + status.jobs["running"]):
                return met
            await asyncio.sleep(_LOOKS)

    def _is_adopted(self, user: OldUser) -> bool:
        account = self.sandbox.communigate.account(user.address)
        return account is not None and account.option("UseAppPassword")

    async def _recovery(self) -> str:
        await self.sandbox.old.come_back()
        waiting = self._part(1)
        tries = 0
        while any(user.address not in self.moved for user in waiting):
            tries += 1
            await asyncio.gather(*(self._first_login(u) for u in waiting if u.address not in self.moved))
            await asyncio.sleep(0.2)
        codes = await asyncio.gather(*(self._send(user.address, "tried again") for user in waiting[:3]))
        _expect(all(code == 250 for code in codes), f"mail tried again: {codes}")
        await self._retry_copies()
        return f"{len(waiting)} logins after {tries} {'try' if tries == 1 else 'tries'}"

    async def _kill_helper(self) -> str:
        """Requests are outstanding; CommuniGate starts the program again and repeats them."""
        helper = self.sandbox.helper
        assert helper is not None
        logins = asyncio.create_task(self._log_in(self._part(2)))
        await _until(lambda: bool(helper.outstanding) or logins.done())
        outstanding = helper.outstanding
        helper.kill()
        said = await logins
        _expect(helper.starts == 2, f"started {helper.starts} times")
        return f"{said}, {outstanding} requests outstanding"

    async def _retry_copies(self) -> None:
        """What an administrator types who does not want to wait for the postponed copies."""
        command = ("-m", "migrator", "retry", "--all", "--config", str(self.sandbox.config_path))
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        _expect(await process.wait() == 0, "migrator retry failed")

    async def _wait_for_copies(self) -> str:
        again = self.seconds + _RETRY_AFTER
        while True:
            status = self.status
            if status is not None:
                stuck = [*status.held, *status.waiting]
                _expect(not stuck, "; ".join(f"{job.account}: {job.reason}" for job in stuck))
                if status.jobs["done"] >= len(self.sandbox.users):
                    return f"{status.jobs['done']} copies, {status.copied} messages"
                if status.postponed and self.seconds >= again:
                    await self._retry_copies()  # one that gave up just as the old server came back
                    again = self.seconds + _RETRY_AFTER
            await asyncio.sleep(_LOOKS)

    async def _independence(self) -> str:
        await self.sandbox.old.go_down()
        users = self.sandbox.users
        results = await asyncio.gather(*(self.sandbox.communigate.login(u.address, u.password) for u in users))
        bad = [user.address for user, result in zip(users, results, strict=True) if result is not LoginResult.OK]
        _expect(not bad, f"not let in: {', '.join(bad)}")
        return f"{len(results)} logins"

    async def _end_helper(self) -> str:
        helper = self.sandbox.helper
        _expect(helper is not None, "it never ran")
        assert helper is not None
        code = await helper.stop()
        _expect(code == 0, f"exit code {code}")
        _expect(not helper.violations, "; ".join(helper.violations[:3]))
        _expect(not helper.stderr, "it wrote to stderr")
        return f"{helper.answered} requests answered"

    async def _search_logs(self) -> str:
        await self.sandbox.stop_worker()
        assert self.sandbox.helper is not None
        texts = {path.name: path.read_bytes() for path in self.sandbox.written_files()}
        texts["information lines"] = "\n".join(self.sandbox.helper.log).encode("utf-8", "surrogateescape")
        texts["WriteLog"] = "\n".join(line for _, line in self.sandbox.communigate.log).encode(
            "utf-8", "surrogateescape"
        )
        found = [name for name, text in texts.items() for secret in passwords_of(self.sandbox.users) if secret in text]
        _expect(not found, f"found in {', '.join(sorted(set(found)))}")
        return f"{len(texts)} places, {sum(map(len, texts.values()))} bytes"

    # -- looking -------------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        async for _ in _ticks():
            if self.sandbox.state_path.exists() and self.store is not None:
                with contextlib.suppress(OSError):
                    self.status = await read_status(self.store)
            self.display.look(self._picture())

    def _picture(self) -> Picture:
        lines = {d.name: DomainCount(d.name, 0) for d in self.sandbox.domains}
        by_pop = {d.name for d in self.sandbox.domains if d.copy == "pop"}
        for user in self.sandbox.users:
            line = lines[user.address.rpartition("@")[2]]
            account = self.sandbox.communigate.account(user.address)
            boxes = [user.store.inbox] if line.domain in by_pop else list(user.store)
            line.users += 1
            line.of += sum(len(box.messages) for box in boxes) + len(self.delivered.get(user.address, ()))
            line.logged_in += user.address in self.moved
            if account is not None:
                line.accounts += 1
                line.messages += sum(len(box.messages) for box in account.store)
        for standing in self.status.domains if self.status is not None else ():
            if standing.domain in lines:
                lines[standing.domain].copies = standing.jobs.get("done", 0)
        return Picture(self.seconds, list(lines.values()), self.doing)

    # -- the proof -----------------------------------------------------------------------------------------------------

    def _prove(self) -> bool:
        by_pop = {d.name for d in self.sandbox.domains if d.copy == "pop"}
        rows = []
        for user in self.sandbox.users:
            account = self.sandbox.communigate.account(user.address)
            target = account.store if account is not None else None
            direct = self.delivered.get(user.address, ())
            is_pop = user.address.rpartition("@")[2] in by_pop
            rows.append(compare(user.address, user.store, target, direct, by_pop=is_pop))
        total = Row("all")
        for row in rows:
            total += row
        good = self.good and total.proven and all(row.proven for row in rows)
        self.display.proof(rows, total, self.seconds, good=good)
        return good


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Failed(otherwise)


async def _until(holds: Callable[[], bool]) -> None:
    """Come back as soon as `holds()`; a step's own time limit ends a wait that never does."""
    while True:
        if holds():
            return
        await asyncio.sleep(0.005)


async def _ticks() -> AsyncIterator[None]:
    while True:
        yield
        await asyncio.sleep(_LOOKS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
