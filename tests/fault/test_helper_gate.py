"""Old servers that fail, say that they have too many connections, or are made to fail by what users send."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from extauth.gate import Visit
from extauth.gates import Gates, GateState, read_gates
from extauth.guard import OwnServers, UnderWay
from extauth.notices import Notices
from extauth.probe import Prober
from extauth.verify import Verifier
from migrator.config import load_settings
from migrator.server_slots import DIRECTORY
from tests.end_to_end.helper_child import DOMAIN, NOWHERE, imap_server, pop_replying, smtp_server, write_config
from tests.servers.script import Play, ScriptServer, Talk, serve, until
from wire.endpoint import Endpoint
from wire.outcome import Answer, Verdict
from wire.secret import Secret

SECONDS = 20.0
ALL_WRONG = imap_server({b"LOGIN": b"NO [AUTHENTICATIONFAILED] wrong"})


class Side:
    """Verifier and prober behind their gates, with a clock to be moved and what was said."""

    def __init__(
        self,
        directory: Path,
        *,
        verify: str = "imap",
        most: int = 10,
        smtp: int = NOWHERE,
        imap: int = NOWHERE,
        pop: int = NOWHERE,
    ) -> None:
        self.now = 0.0  # ahead of the real clock, by which sockets go
        self.said: list[str] = []
        more = f"max_connections = {most}"
        config = write_config(directory, verify=verify, domain=more, smtp=smtp, imap=imap, pop=pop)
        settings = load_settings(config)
        self.domain = settings.domains[DOMAIN]
        self.state = settings.state.directory
        log: Any = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(50))
        self.notices = Notices(self.said.append, log, self.clock)
        self.gates = Gates(settings.domains, state=self.state, notices=self.notices, clock=self.clock)
        own = OwnServers()
        self.verifier = Verifier(own, UnderWay(own), self.gates)
        self.prober = Prober(own, UnderWay(own), self.gates)

    def clock(self) -> float:
        """The time that the gates go by."""
        return time.monotonic() + self.now

    async def log_in(self, user: str, password: bytes = b"secret", seconds: float = SECONDS) -> Answer:
        """What a login of `user` comes to."""
        by = asyncio.get_running_loop().time() + seconds
        return await self.verifier.check_password(
            self.domain, f"{user}@{DOMAIN}", Secret(password), turn_by=by, deadline=by + SECONDS
        )

    async def probe(self, user: str) -> Answer:
        """What asking about the address of `user` comes to."""
        by = asyncio.get_running_loop().time() + SECONDS
        return (await self.prober.check_recipient(self.domain, f"{user}@{DOMAIN}", deadline=by)).answer

    @property
    def gate(self) -> Any:
        """The gate to the server that is asked about passwords."""
        return self.gates.of(self.domain.verify_endpoint)

    def learnt(self) -> list[int]:
        """The limits that other processes are told of."""
        return [int(file.read_text()) for file in self.state.glob(f"{DIRECTORY}/*/limit")]

    def states(self) -> list[GateState]:
        """What `extauth status` would show."""
        return read_gates(self.state)


@asynccontextmanager
async def side(directory: Path, **kinds: Any) -> AsyncIterator[Side]:
    """A Side that is taken apart at the end."""
    one = Side(directory, **kinds)
    try:
        yield one
    finally:
        await one.prober.close()
        await one.gates.close()
        assert one.states() == []


class Old:
    """An IMAP server whose manner can be changed while it runs."""

    def __init__(self, play: Play) -> None:
        self.play = play

    async def __call__(self, talk: Talk) -> None:
        await self.play(talk)


async def hang_up(_talk: Talk) -> None:
    """Close without a word."""


async def test_a_server_that_refuses_connections_is_left_alone(tmp_path: Path) -> None:
    """After five accounts; one line when it opens and one when it closes; a single trial in between."""
    async with side(tmp_path, imap=NOWHERE) as one:
        for number in range(5):
            assert one.gate.is_open is False
            assert "cannot connect" in (await one.log_in(f"u{number}")).reason
        assert one.gate.is_open
        for number in range(200):
            answer = await one.log_in(f"u{number}")
            assert answer.verdict is Verdict.LATER
            assert "not asked for now" in answer.reason
        assert len(one.said) == 1
        assert "does not work (cannot connect" in one.said[0]
        (state,) = one.states()
        assert state.closed_to_us
        one.now += 6
        assert (await one.log_in("u1")).verdict is Verdict.LATER  # the trial
        assert len(one.said) == 1
        (state,) = one.states()
        assert state.turned_away >= 200


async def test_it_is_asked_again_once_it_is_back_and_who_tried_gets_in(tmp_path: Path) -> None:
    old = Old(hang_up)
    async with serve(old, refuses_strangers=False) as server, side(tmp_path, imap=server.port) as one:
        for number in range(6):
            await one.log_in(f"u{number}")
        await until(lambda: one.gate.is_open)
        before = len(server.talks)
        assert (await one.log_in("u1")).verdict is Verdict.LATER
        assert len(server.talks) == before
        old.play = imap_server({b"u1": b"OK in"})
        one.now += 6
        seen: list[list[bytes]] = server.talks
        seen.clear()
        assert (await one.log_in("u1")).verdict is Verdict.YES
        assert not any(b"nobody" in line for line in server.lines)  # being greeted was enough: no wrong login there
        assert [line for line in one.said if "works again after 6 seconds" in line]
        assert len(one.said) == 2
        assert one.states() == []


async def test_one_account_opens_nothing(tmp_path: Path) -> None:
    async with serve(ALL_WRONG) as other, side(tmp_path, imap=NOWHERE) as one:
        for _ in range(30):
            assert (await one.log_in("u")).verdict is Verdict.LATER
        assert not one.gate.is_open
        assert other.talks == []


@pytest.mark.parametrize("protocol", ["imap", "pop"])
async def test_nothing_that_is_sent_opens_it(tmp_path: Path, protocol: str) -> None:
    """A login at which the server hangs up, under any number of names, with nobody else about."""

    async def imap(talk: Talk) -> None:
        await talk.send(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
        line = await talk.line()
        if b"poison" not in line:
            await talk.send(line.split(b" ")[0] + b" NO wrong\r\n")

    async def pop(talk: Talk) -> None:
        await talk.send(b"+OK ready\r\n")
        await talk.line()
        await talk.send(b"+OK\r\n")
        if b"poison" not in await talk.line():
            await talk.send(b"-ERR wrong\r\n")

    play = imap if protocol == "imap" else pop
    async with serve(play) as server, side(tmp_path, verify=protocol, **{protocol: server.port}) as one:
        for number in range(40):
            assert (await one.log_in(f"made-up-{number}", b"poison")).verdict is Verdict.LATER
            one.now += 1
            assert not one.gate.is_open
        assert (await one.log_in("healthy")).verdict is Verdict.NO
        assert one.said == []


async def test_nothing_that_is_sent_keeps_it_open(tmp_path: Path) -> None:
    """Once the server works again, the trial does not depend on who comes."""
    old = Old(imap_server({b"LOGIN": b"NO [UNAVAILABLE] directory down"}))
    async with serve(old, refuses_strangers=False) as server, side(tmp_path, imap=server.port) as one:
        for number in range(6):
            await one.log_in(f"u{number}")
        await until(lambda: one.gate.is_open)
        assert "UNAVAILABLE" in one.said[0]
        old.play = imap_server(
            {b"poison": b"NO [UNAVAILABLE] cannot parse", b"LOGIN": b"NO [AUTHENTICATIONFAILED] wrong"}
        )
        one.now += 6
        assert (await one.log_in("a", b"poison")).verdict is Verdict.LATER
        assert not one.gate.is_open
        assert (await one.log_in("b")).verdict is Verdict.NO


async def test_only_one_request_is_the_trial(tmp_path: Path) -> None:
    """The others get their answer at once."""
    asked = asyncio.Event()
    answer = asyncio.Event()

    async def slow(talk: Talk) -> None:
        asked.set()
        await answer.wait()
        await ALL_WRONG(talk)

    old = Old(hang_up)
    async with serve(old) as server, side(tmp_path, imap=server.port) as one:
        for number in range(6):
            await one.log_in(f"u{number}")
        await until(lambda: one.gate.is_open)
        old.play = slow
        one.now += 6
        first = asyncio.create_task(one.log_in("first"))
        await asked.wait()
        for number in range(50):
            assert "not asked for now" in (await one.log_in(f"u{number}")).reason
        answer.set()
        assert (await first).verdict is Verdict.NO
        assert (await one.log_in("u")).verdict is Verdict.NO


async def test_a_trial_that_ends_well_closes_what_opened_meanwhile(tmp_path: Path) -> None:
    """The lines say what is the case, whichever came first."""
    go_on = asyncio.Event()

    async def question(visit: Visit) -> Answer:
        visit.reached = True
        await go_on.wait()
        return Answer(Verdict.NO, "wrong")

    async with side(tmp_path, imap=NOWHERE) as one:
        for number in range(5):
            one.gate._note(f"u{number}", "hung up", question, hard=False)
        assert one.gate.breaker.trying
        for number in range(5):
            one.gate._note(f"v{number}", "connection refused", question, hard=True)
        assert one.gate.is_open
        go_on.set()
        await until(lambda: not one.gate.is_open)
        assert ["does not work" in line for line in one.said] == [True, False]
        assert "works again" in one.said[1]


async def test_who_waits_for_a_connection_is_answered_when_it_opens(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def hold(_talk: Talk) -> None:
        await go_on.wait()

    async with serve(hold) as server, side(tmp_path, imap=server.port, most=5) as one:
        waiting = [asyncio.create_task(one.log_in(f"u{n}")) for n in range(300)]
        await until(lambda: server.open == 5)
        go_on.set()
        answers = await asyncio.gather(*waiting)
        assert all(answer.verdict is Verdict.LATER for answer in answers)
        assert len(server.talks) < 60
        assert one.gate.is_open
        assert len(one.said) == 1


def full_beyond(allowed: int, server: list[ScriptServer], refusal: bytes, others: Play) -> Play:
    """A server that takes `allowed` connections at once; all others get `refusal` and are closed."""

    async def play(talk: Talk) -> None:
        if server[0].open > allowed:
            if refusal:
                await talk.send(refusal)
            return
        await asyncio.sleep(0)
        await others(talk)

    return play


@pytest.mark.parametrize(
    "refusal",
    [b"* BYE Too many open connections\r\n", b"* BYE [LIMIT] Maximum number of connections exceeded\r\n", b""],
)
async def test_a_server_with_fewer_places_than_configured_refuses_nobody(tmp_path: Path, refusal: bytes) -> None:
    """Connections refused before a word was said are made again in a while; the bound goes down, and comes back."""
    box: list[ScriptServer] = []
    async with serve(full_beyond(3, box, refusal, ALL_WRONG)) as server, side(tmp_path, imap=server.port) as one:
        box.append(server)
        answers = await asyncio.gather(*(one.log_in(f"u{n}", seconds=60) for n in range(60)))
        assert sum(answer.verdict is Verdict.NO for answer in answers) >= 55
        assert not one.gate.is_open
        assert one.gate.bound.limit <= 6
        assert any("too many connections" in line for line in one.said)
        assert one.states()[0].connections < 10
        assert one.learnt() == [one.gate.bound.limit], "the worker hears of it"
        for _ in range(12):
            one.now += 20
            assert (await one.log_in("u")).verdict is Verdict.NO
        assert one.gate.bound.limit == 10
        assert one.learnt() == []
        assert "takes 10 connections again" in one.said[-1]
        assert len(one.said) == 2


async def test_an_smtp_server_at_its_limit_is_asked_over_fewer_connections(tmp_path: Path) -> None:
    box: list[ScriptServer] = []
    play = full_beyond(2, box, b"421 4.7.0 old Error: too many connections from 192.0.2.1\r\n", smtp_server({}))
    async with serve(play) as server, side(tmp_path, smtp=server.port) as one:
        box.append(server)
        answers = await asyncio.gather(*(one.probe(f"u{n}") for n in range(30)))
        assert sum(answer.verdict is Verdict.NO for answer in answers) >= 25
        assert not one.gates.of(Endpoint("smtp", "127.0.0.1", server.port)).is_open


@pytest.mark.parametrize(
    ("greeting", "well"),
    [
        (b"* BYE [UNAVAILABLE] not now\r\n", ALL_WRONG),
        (b"421 4.3.2 not now\r\n", smtp_server({})),
    ],
)
async def test_a_server_that_wants_nobody_now_is_left_alone_for_a_moment(
    tmp_path: Path, greeting: bytes, well: Play
) -> None:
    """421 and [UNAVAILABLE] before anything was said: nothing is opened until a second is over."""
    opened: list[float] = []

    async def away_at_first(talk: Talk) -> None:
        opened.append(time.monotonic())
        if len(opened) > 1:
            await well(talk)
        await talk.send(greeting)

    async with serve(away_at_first) as server, side(tmp_path, imap=server.port, smtp=server.port) as one:
        ask = one.log_in if well is ALL_WRONG else one.probe
        assert (await ask("u")).verdict is Verdict.LATER
        answers = await asyncio.gather(*[ask(f"u{number}") for number in range(3)])
        assert {answer.verdict for answer in answers} == {Verdict.NO}
        assert opened[1] - opened[0] >= 1.0
        assert one.said == []


async def test_one_users_own_limit_lowers_nothing(tmp_path: Path) -> None:
    """Dovecot counts the connections of one user; so do others, in other words."""
    text = b"NO [UNAVAILABLE] Maximum number of connections from user+IP exceeded (mail_max_userip_connections=1)"
    async with serve(imap_server({b"busy": text})) as server, side(tmp_path, imap=server.port) as one:
        for _ in range(20):
            assert (await one.log_in("busy")).verdict is Verdict.LATER
        assert one.gate.bound.limit == 10
        assert not one.gate.is_open
        assert one.said == []


async def test_services_of_a_host_have_breakers_of_their_own(tmp_path: Path) -> None:
    async with serve(smtp_server({})) as smtp, side(tmp_path, imap=NOWHERE, smtp=smtp.port) as one:
        for number in range(6):
            await one.log_in(f"u{number}")
        assert one.gate.is_open
        assert (await one.probe("u")).verdict is Verdict.NO


async def test_a_probe_that_had_no_time_says_nothing_of_the_server(tmp_path: Path) -> None:
    """The deadline was near when its turn came."""

    async def silent(talk: Talk) -> None:
        await talk.silence()

    async with serve(silent) as server, side(tmp_path, smtp=server.port) as one:
        by = asyncio.get_running_loop().time() + 0.05
        asking = (one.prober.check_recipient(one.domain, f"u{n}@{DOMAIN}", deadline=by) for n in range(9))
        for finding in await asyncio.gather(*asking):
            assert finding.answer.verdict is Verdict.LATER
        assert not one.gates.of(Endpoint("smtp", "127.0.0.1", server.port)).is_open


async def test_a_pop_server_at_its_limit_and_back(tmp_path: Path) -> None:
    play = pop_replying(b"+OK\r\n", b"-ERR [SYS/TEMP] too many sessions\r\n")
    async with serve(play) as server, side(tmp_path, verify="pop", pop=server.port) as one:
        for number in range(6):
            assert (await one.log_in(f"u{number}")).verdict is Verdict.LATER
        assert one.gate.bound.limit < 10
        assert not one.gate.is_open
