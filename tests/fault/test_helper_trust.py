"""A source that lets everybody in is found and switched off; one that does not is never in its users' way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from extauth.gates import Gates
from extauth.guard import OwnServers, UnderWay
from extauth.notices import Notices
from extauth.trust import Trust
from extauth.verify import Verifier
from migrator.config import load_settings
from migrator.ledger.habits import Habits
from migrator.ledger.store import Store
from migrator.settings import DomainSettings
from tests.end_to_end.helper_child import DOMAIN, add_account, communigate, helper, imap_server, write_config
from tests.servers.script import Play, ScriptServer, Talk, serve
from wire.outcome import Verdict

USER = f"u@{DOMAIN}"
DAY = 86_400.0
YES, NO, LATER = b"OK", b"ERROR ", b"FAILURE "
EVERYBODY = imap_server({b"LOGIN": b"OK in"})


class Side:
    """A Trust over a real verifier, with a clock to be moved and what was said."""

    def __init__(self, directory: Path, old: ScriptServer, login: str = "{user}") -> None:
        self.now = 1_000_000.0
        self.said: list[str] = []
        self.old = old
        config = write_config(directory, imap=old.port, domain=f'login = "{login}"')
        self.domain: DomainSettings = load_settings(config).domains[DOMAIN]
        own = OwnServers()
        self.verifier = Verifier(own, UnderWay(own), Gates({DOMAIN: self.domain}))
        self.store = Store(directory / "state" / "state.db")
        self.trust = self.make()

    def make(self) -> Trust:
        """Another one on the same ledger: the helper after a restart."""
        log: Any = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(50))
        clock = lambda: self.now  # noqa: E731 - one for both
        return Trust(Notices(self.said.append, log, clock), self.verifier, Habits(self.store, clock), clock)

    async def doubt(self, address: str = USER, seconds: float = 20.0) -> Verdict | None:
        """What the trust makes of a yes."""
        answer = await self.trust.doubt(self.domain, address, asyncio.get_running_loop().time() + seconds)
        return None if answer is None else answer.verdict

    @property
    def tries(self) -> int:
        """Logins of nobody that the server saw."""
        return sum(b"nobody" in line for line in self.old.lines)

    async def settle(self) -> None:
        """Let what is under way in the background come to its end."""
        await asyncio.gather(*(s.trial for s in self.trust._sources.values() if s.trial), return_exceptions=True)


def turning(answers: list[bytes]) -> Play:
    """Each login of nobody is answered with the next of `answers`, T standing for its tag; the last one stays."""

    async def play(talk: Talk) -> None:
        await talk.send(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
        tag = (await talk.line()).split(b" ")[0]
        await talk.send((answers.pop(0) if len(answers) > 1 else answers[0]).replace(b"T ", tag + b" "))

    return play


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[list[Side]]:
    """Sides to be closed at the end."""
    sides: list[Side] = []
    yield sides
    for side in sides:
        await side.trust.finish()
        await side.store.close()


async def test_whole_helper_lets_nobody_in_by_a_server_that_accepts_all(tmp_path: Path) -> None:
    """Not even with the right password: FAILURE for everybody, nothing adopted, nothing saved, one line."""
    async with communigate() as server, serve(EVERYBODY, refuses_strangers=False) as old:
        for name in ("u", "v", "w"):
            add_account(server, f"{name}@{DOMAIN}")
        async with helper(write_config(tmp_path, cli=server.cli.port, imap=old.port)) as child:
            await child.send(b"1 VRFY u@d.test secret\n2 VRFY v@d.test secret\n")
            assert (await child.reply(1)).startswith(LATER)
            assert (await child.reply(2)).startswith(LATER)
            before = len(old.talks)
            assert (await child.ask(b"3 VRFY w@d.test secret")).startswith(LATER)
            assert len(old.talks) == before, "no password is sent there any more"
            await child.told(b"nobody has")
            assert await child.end() == 0
            assert sum(b"nobody has" in line for line in child.information) == 1
        assert sum(b"nobody" in line for line in old.lines) == 1, "who came at the same time shared one try"
        assert "updateaccountsettings" not in server.cli.verbs()


async def test_first_users_share_one_try_and_later_ones_cause_none(tmp_path: Path, made: list[Side]) -> None:
    """One refused login in the old server's log, whatever comes."""
    async with serve(imap_server({}), refuses_strangers=False) as old:
        made.append(side := Side(tmp_path, old))
        assert await asyncio.gather(*(side.doubt(f"u{n}@{DOMAIN}") for n in range(50))) == [None] * 50
        assert await side.doubt() is None
        assert side.tries == 1
        assert side.said == []


async def test_a_restart_asks_nobody(tmp_path: Path, made: list[Side]) -> None:
    """What was found out is in the ledger, and is looked at again after a day."""
    async with serve(turning([b"T NO wrong\r\n"]), refuses_strangers=False) as old:
        made.append(side := Side(tmp_path, old))
        assert await side.doubt() is None
        side.trust = side.make()
        assert await side.doubt() is None
        assert side.tries == 1
        side.now += DAY + 1
        side.trust = side.make()
        assert await side.doubt() is None
        assert side.tries == 2


async def test_a_server_that_begins_to_accept_all_is_switched_off_and_back_on(tmp_path: Path, made: list[Side]) -> None:
    """The daily look is in nobody's way; the source is tried again while it is off."""
    answers = [b"T NO wrong\r\n", b"T OK in\r\n", b"T NO wrong\r\n"]
    async with serve(turning(answers), refuses_strangers=False) as old:
        made.append(side := Side(tmp_path, old))
        assert await side.doubt() is None
        side.now += DAY + 1
        assert await side.doubt(seconds=0.0) is None, "nobody waits for the daily look"
        await side.settle()
        assert await side.doubt() is Verdict.LATER
        off = side.trust.switched_off(side.domain, USER)
        assert off is not None
        assert off.verdict is Verdict.LATER
        assert len(side.said) == 1
        side.now += 301
        assert side.trust.switched_off(side.domain, USER) is not None
        await side.settle()
        assert side.trust.switched_off(side.domain, USER) is None
        assert await side.doubt() is None
        assert "asked again" in side.said[-1]
        assert len(side.said) == 2


async def test_an_accepting_server_is_not_trusted_after_a_restart(tmp_path: Path, made: list[Side]) -> None:
    """Only good news are remembered without looking again."""
    async with serve(turning([b"T OK in\r\n"]), refuses_strangers=False) as old:
        made.append(side := Side(tmp_path, old))
        assert await side.doubt() is Verdict.LATER
        side.trust = side.make()
        assert await side.doubt() is Verdict.LATER
        assert side.tries == 2


@pytest.mark.parametrize(
    "answer",
    [b"T NO [CONTACTADMIN] call us\r\n", b"T BAD what\r\n", b"T NO [INUSE] busy\r\n", b"T NO\r\n", b"T NO wrong\r\n"],
)
async def test_any_refusal_will_do(tmp_path: Path, made: list[Side], answer: bytes) -> None:
    """What counts is that nobody was not let in."""
    async with serve(turning([answer]), refuses_strangers=False) as old:
        made.append(side := Side(tmp_path, old))
        assert await side.doubt() is None


async def test_unclear_tries_are_later_and_lock_nobody_out_for_good(tmp_path: Path, made: list[Side]) -> None:
    """A server that hangs up on strangers has accepted a user all the same; it is looked at again soon."""
    async with serve(turning([b""]), refuses_strangers=False) as old:
        made.append(side := Side(tmp_path, old))
        assert [await side.doubt() for _ in range(4)] == [Verdict.LATER, Verdict.LATER, None, None]
        assert side.tries == 3
        side.now += 601
        assert await side.doubt() is None
        await side.settle()
        assert side.tries == 4


async def test_a_try_that_hangs_holds_each_waiter_to_his_own_deadline(tmp_path: Path, made: list[Side]) -> None:
    """The others go on waiting."""
    go = asyncio.Event()

    async def play(talk: Talk) -> None:
        await talk.send(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
        tag = (await talk.line()).split(b" ")[0]
        await go.wait()
        await talk.send(tag + b" NO wrong\r\n")

    async with serve(play, refuses_strangers=False) as old:
        made.append(side := Side(tmp_path, old))
        patient = asyncio.ensure_future(side.doubt())
        assert await side.doubt(seconds=0.05) is Verdict.LATER
        go.set()
        assert await patient is None
        assert side.tries == 1


async def test_each_domain_is_tried_where_the_login_tells_it(tmp_path: Path, made: list[Side]) -> None:
    """One hosting server may have a domain that lets everybody in."""
    async with serve(turning([b"T NO wrong\r\n", b"T OK in\r\n"]), refuses_strangers=False) as old:
        made.append(side := Side(tmp_path, old, login="{address}"))
        assert await side.doubt("u@one.test") is None
        assert await side.doubt("u@two.test") is Verdict.LATER
        assert await side.doubt("u@one.test") is None
        assert "of two.test" in side.said[0]
