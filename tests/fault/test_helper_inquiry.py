"""Questions about addresses: what a yes is worth, what is remembered, who is slowed; on scripted old servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from extauth.brake import Asker
from extauth.inquiry import Word, greylist_pause
from tests.servers.asking import Asking
from tests.servers.script import Play, ScriptServer, Talk, serve
from wire.outcome import Verdict

YES, NO, LATER = Verdict.YES, Verdict.NO, Verdict.LATER
USER = "u@old.test"
HOUR, DAY = 3600.0, 86_400.0


class Old:
    """What the old server says to a recipient: by what its address holds, else `other`; `mail` to senders."""

    def __init__(self, known: Mapping[bytes, bytes], other: bytes = b"550 5.1.1 no such user") -> None:
        self.known = dict(known)
        self.other = other
        self.mail: Callable[[bytes], bytes] = lambda line: b"250 fine"

    def play(self) -> Play:
        """The server."""

        async def play(talk: Talk) -> None:
            await talk.send(b"220 old\r\n")
            while True:
                line = await talk.line()
                answer = b"250 fine"
                if line.startswith(b"MAIL"):
                    answer = self.mail(line)
                elif line.startswith(b"RCPT"):
                    answer = next((self.known[key] for key in self.known if key in line), self.other)
                await talk.send(answer + b"\r\n")
                if answer.startswith(b"421"):
                    return

        return play


@asynccontextmanager
async def asking(
    directory: Path, old: Old, more: str = "", *, bound: int = 1000
) -> AsyncIterator[tuple[Asking, ScriptServer]]:
    """The helper's side and the server."""
    async with serve(old.play(), refuses_strangers=False) as server:
        side = Asking(directory, server.port, more=more, bound=bound)
        try:
            yield side, server
        finally:
            await side.end()


def asked(server: ScriptServer, name: bytes) -> int:
    """How often the server was asked about names that begin so."""
    return sum(line.startswith(b"RCPT TO:<" + name) for line in server.lines)


def seen(word: Word) -> tuple[Verdict, bool | None]:
    """The verdict, and what it is worth."""
    return word.answer.verdict, word.accepts_all


# -- servers that accept everything ------------------------------------------------------------------------------------


async def test_strangers_are_asked_about_in_the_session_of_the_first_yes(tmp_path: Path) -> None:
    """And not again within the hour, nor after a restart."""
    async with asking(tmp_path, Old({b"<u": b"250 yes"})) as (side, server):
        assert seen(await side.ask("no@old.test")) == (NO, None)
        assert asked(server, b"nobody") == 0, "a no needs no proof"
        assert seen(await side.ask(USER)) == (YES, False)
        assert len(server.talks) == 1
        assert asked(server, b"nobody") == 2
        assert seen(await side.ask("u2@old.test")) == (YES, False)
        await side.restart()
        assert seen(await side.ask("u3@old.test")) == (YES, False)
        assert asked(server, b"nobody") == 2
        side.now += HOUR + 1
        assert seen(await side.ask("u4@old.test")) == (YES, False)
        assert asked(server, b"nobody") == 4
        assert len({line for line in server.lines if b"nobody" in line}) == 4, "never the same names twice"


async def test_one_accepted_stranger_is_enough(tmp_path: Path) -> None:
    """A server that takes whatever looks like first.last."""
    async with asking(tmp_path, Old({b"<u": b"250 yes", b"<nobody.": b"250 yes"})) as (side, _):
        assert seen(await side.ask(USER)) == (YES, True)
        assert "accepts every address of old.test" in side.said[0]


@pytest.mark.parametrize("refusal", [b"550 5.4.1 access denied", b"554 5.7.1 no", b"550 relaying denied", b"501 what"])
async def test_any_permanent_refusal_of_a_stranger_will_do(tmp_path: Path, refusal: bytes) -> None:
    """It says nothing of a user, but it is no acceptance, and somebody was accepted in the same session."""
    async with asking(tmp_path, Old({b"<u": b"250 yes"}, refusal)) as (side, _):
        assert seen(await side.ask(USER)) == (YES, False)


@pytest.mark.parametrize("answer", [b"450 4.2.0 greylisted", b"451 later", b"421 bye", b"252 perhaps"])
async def test_an_unclear_stranger_is_never_guessed(tmp_path: Path, answer: bytes) -> None:
    """The next question asks about the same names, so that a greylist lets them through."""
    old = Old({b"<u": b"250 yes"}, answer)
    async with asking(tmp_path, old) as (side, server):
        assert seen(await side.ask(USER)) == (YES, None)
        first = {line for line in server.lines if b"nobody" in line}
        old.other = b"550 5.1.1 no"
        side.now += 300
        assert seen(await side.ask(USER)) == (YES, False)
        assert first <= {line for line in server.lines if b"nobody" in line}
        assert len({line for line in server.lines if b"nobody" in line}) == 2


async def test_a_server_that_always_puts_strangers_off_knows_its_users(tmp_path: Path) -> None:
    """Postfix answers 450 to addresses it could not verify: after a quarter of an hour that is clear enough."""
    async with asking(tmp_path, Old({b"<u": b"250 yes"}, b"450 4.1.1 unverified address")) as (side, _):
        assert seen(await side.ask(USER)) == (YES, None)
        side.now += 600
        assert seen(await side.ask(USER)) == (YES, None)
        side.now += 600
        assert seen(await side.ask(USER)) == (YES, False)


async def test_a_change_to_accepting_everything_must_last(tmp_path: Path) -> None:
    """The old server may have lost its directory: nobody is made, refused or routed by that for an hour."""
    old = Old({b"<u": b"250 yes"})
    async with asking(tmp_path, old) as (side, _):
        assert seen(await side.ask(USER)) == (YES, False)
        old.other = b"250 yes"
        side.now += HOUR + 1
        assert seen(await side.ask("new@old.test")) == (YES, None)
        await side.restart()
        side.now += 60
        assert seen(await side.ask("any@old.test")) == (YES, None)
        side.now += HOUR
        assert seen(await side.ask("some@old.test")) == (YES, True)
        old.other = b"550 5.1.1 no"
        side.now += HOUR + 1
        assert seen(await side.ask("u2@old.test")) == (YES, False)
        assert "apart" in side.said[-1]


async def test_an_old_finding_stands_while_later_ones_are_unclear(tmp_path: Path) -> None:
    """For a day; then nothing is known."""
    old = Old({b"<u": b"250 yes"})
    async with asking(tmp_path, old) as (side, _):
        assert seen(await side.ask(USER)) == (YES, False)
        old.other = b"450 later"
        side.now += 2 * HOUR
        assert seen(await side.ask("u2@old.test")) == (YES, False)
        side.now += 23 * HOUR
        assert seen(await side.ask("u3@old.test")) == (YES, None)
        assert seen(await side.ask(USER)) == (YES, False), "what was proved when it was said stays proved"


async def test_that_everything_is_accepted_is_believed_for_two_hours_only(tmp_path: Path) -> None:
    """Mail is refused by it: it must be seen again."""
    old = Old({}, b"250 yes")
    async with asking(tmp_path, old) as (side, _):
        assert seen(await side.ask(USER)) == (YES, True)
        old.known, old.other = {b"<u": b"250 yes"}, b"450 later"
        side.now += 2 * HOUR + 1
        assert seen(await side.ask(USER)) == (YES, None)


async def test_a_flood_of_greylisted_names_asks_about_strangers_but_rarely(tmp_path: Path) -> None:
    """Once a minute, until somebody is taken."""
    old = Old({}, b"450 4.2.0 greylisted")
    async with asking(tmp_path, old) as (side, server):
        for number in range(20):
            assert seen(await side.ask(f"n{number}@old.test")) == (LATER, None)
        assert asked(server, b"nobody") == 2
        old.known[b"<u"] = b"250 yes"
        assert seen(await side.ask(USER)) == (YES, None)
        assert asked(server, b"nobody") == 4


async def test_who_comes_while_it_is_found_out_waits_for_it(tmp_path: Path) -> None:
    """Twenty first requests: two names asked about."""
    async with asking(tmp_path, Old({b"<u": b"250 yes"})) as (side, server):
        words = await asyncio.gather(*(side.ask(f"u{n}@old.test") for n in range(20)))
        assert [seen(word) for word in words] == [(YES, False)] * 20
        assert asked(server, b"nobody") == 2


# -- senders, greylists, bare refusals ---------------------------------------------------------------------------------


async def test_the_sender_that_a_server_takes_is_remembered(tmp_path: Path) -> None:
    """<> is refused once, not in each transaction: a constant sender lets greylisting mature."""
    old = Old({b"<u": b"250 yes"})
    old.mail = lambda line: b"550 5.7.1 no" if line == b"MAIL FROM:<>" else b"250 fine"
    async with asking(tmp_path, old, more='senders = ["", "probe@new.test"]') as (side, server):
        for number in range(45):
            assert (await side.ask(f"u{number}@old.test")).answer.verdict is YES
        assert server.lines.count(b"MAIL FROM:<>") == 1
        assert server.lines.count(b"MAIL FROM:<probe@new.test>") >= 2


async def test_a_postmaster_put_off_decides_nothing_for_the_session(tmp_path: Path) -> None:
    """A bare 550 counts once somebody is accepted, in the same session too."""
    old = Old({b"<u": b"250 yes", b"<postmaster@": b"450 greylisted"}, b"550 no such user here")
    async with asking(tmp_path, old) as (side, server):
        assert (await side.ask("no@old.test")).answer.verdict is LATER
        old.known[b"<postmaster@"] = b"250 yes"
        assert (await side.ask("no2@old.test")).answer.verdict is NO
        assert len(server.talks) == 1


async def test_a_greylisted_address_is_asked_about_in_the_background(tmp_path: Path) -> None:
    """The sender's next try finds the answer, and so does the question about strangers."""
    old = Old({}, b"450 4.2.0 Greylisted, see http://x/y.html; try again in 0 seconds")
    async with asking(tmp_path, old) as (side, server):
        assert seen(await side.ask(USER)) == (LATER, None)
        assert asked(server, b"nobody") == 2
        assert len(side.inquiry._put_off) == 1
        old.known, old.other = {b"<u": b"250 yes"}, b"550 5.1.1 no"
        side.inquiry._refresh(USER, side.domain)  # its time has come
        await side.settle()
        before = len(server.lines)
        assert seen(await side.ask(USER)) == (YES, False)
        assert len(server.lines) == before


@pytest.mark.parametrize(
    ("reason", "seconds"),
    [
        ("RCPT: 450 4.2.0 Greylisted", 310.0),
        ("RCPT: 450 4.2.0 greylisted for 120 seconds", 130.0),
        ("RCPT: 451 4.7.1 try again in 5 min", 310.0),
        ("RCPT: 451 please come back in 00:10:00", 610.0),
        ("RCPT: 451 retry in 05:00", 310.0),
        ("RCPT: 451 wait 99999 minutes", 3610.0),
    ],
)
def test_the_wait_that_a_greylist_names(reason: str, seconds: float) -> None:
    """Never less than it says where it can be read."""
    assert greylist_pause(reason) == seconds


# -- what is remembered ------------------------------------------------------------------------------------------------


async def test_a_no_is_believed_for_minutes_and_longer_only_while_nobody_can_be_asked(tmp_path: Path) -> None:
    """A user made today is not refused for long."""
    old = Old({})
    async with asking(tmp_path, old) as (side, server):
        assert seen(await side.ask(USER)) == (NO, None)
        await side.settle()
        old.known[b"<u"] = b"250 yes"
        side.now += 299
        assert seen(await side.ask(USER)) == (NO, None)
        assert asked(server, b"u@") == 1
        old.known[b"<u"] = b"421 closing"
        side.now += 2
        assert seen(await side.ask(USER)) == (NO, None)
        assert asked(server, b"u@") == 2, "asked, and not to be had"
        side.now += 1500
        assert seen(await side.ask(USER)) == (LATER, None)
        old.known[b"<u"] = b"250 yes"
        assert seen(await side.ask(USER)) == (YES, False)


async def test_a_yes_is_believed_for_a_month_and_refreshed_after_a_week(tmp_path: Path) -> None:
    """In the background; a refresh that fails changes nothing, a clear one does."""
    old = Old({b"<u": b"250 yes"})
    async with asking(tmp_path, old) as (side, server):
        assert seen(await side.ask(USER)) == (YES, False)
        await side.restart()
        assert seen(await side.ask(USER)) == (YES, False)
        assert asked(server, b"u@") == 1
        old.known[b"<u"] = b"451 later"
        side.now += 23 * HOUR
        assert seen(await side.ask("u2@old.test")) == (LATER, None)
        for _ in range(8):  # a day each: what is known of strangers stays known
            old.known[b"<v"] = b"250 yes"
            assert (await side.ask(f"v{side.now}@old.test")).answer.verdict is YES
            side.now += 23 * HOUR
        assert seen(await side.ask(USER)) == (YES, False)
        await side.settle()
        assert asked(server, b"u@") == 2, "refreshed in the background"
        assert seen(await side.ask(USER)) == (YES, False)
        await side.settle()
        old.known[b"<u"] = b"550 5.1.1 gone"
        assert seen(await side.ask(USER)) == (YES, False)
        await side.settle()
        assert seen(await side.ask(USER)) == (NO, None)


async def test_a_server_that_is_down_answers_from_what_is_remembered(tmp_path: Path) -> None:
    """Also after a restart."""
    async with serve(Old({b"<u": b"250 yes"}).play(), refuses_strangers=False) as server:
        side = Asking(tmp_path, server.port)
        assert seen(await side.ask(USER)) == (YES, False)
        assert seen(await side.ask("no@old.test")) == (NO, None)
    side.now += 400
    await side.restart()
    assert seen(await side.ask(USER)) == (YES, False)
    assert seen(await side.ask("no@old.test")) == (NO, None)
    assert seen(await side.ask("other@old.test")) == (LATER, None)
    await side.end()


async def test_lifetimes_are_the_configurations(tmp_path: Path) -> None:
    """Each of them."""
    more = 'cache = { positive = "10s", refresh = "5s", negative = "10s", negative_refresh = "5s" }'
    async with asking(tmp_path, Old({b"<u": b"250 yes"}), more) as (side, server):
        for expected in (1, 1, 2):
            assert (await side.ask(USER)).answer.verdict is YES
            assert (await side.ask("no@old.test")).answer.verdict is NO
            assert (asked(server, b"u@"), asked(server, b"no@")) == (expected, expected)
            side.now += 4 if expected == 1 else 11
            if asked(server, b"u@") == 1 and side.now > 1_000_007:
                side.now += 7


async def test_the_ledger_keeps_a_bounded_number(tmp_path: Path) -> None:
    """The oldest go first."""
    async with asking(tmp_path, Old({}), 'unknown_limit = "0"', bound=100) as (side, _):
        for number in range(700):
            await side.ask(f"n{number}@old.test")
            side.now += 0.01
        await side.settle()
        rows = await side.store.read(
            lambda db: [row[0] for row in db.execute("SELECT address FROM probes ORDER BY at")]
        )
        assert len(rows) <= 100 + 500
        assert rows[-1] == "n699@old.test"


async def test_an_answer_is_found_while_it_is_being_written(tmp_path: Path) -> None:
    """At every moment between the answer and the ledger's commit."""
    async with asking(tmp_path, Old({})) as (side, server):
        assert (await side.ask(USER)).answer.verdict is NO
        while side.inquiry._writing:
            await asyncio.sleep(0)  # a turn of the loop
            assert (await side.ask(USER)).answer.verdict is NO
        assert (await side.ask(USER)).answer.verdict is NO
        assert asked(server, b"u@") == 1


async def test_what_is_forgotten_is_asked_afresh(tmp_path: Path) -> None:
    """An account that was made, and one that a person names."""
    async with asking(tmp_path, Old({b"<u": b"250 yes"})) as (side, server):
        assert (await side.ask(USER)).answer.verdict is YES
        await side.settle()
        side.inquiry.forget(USER, side.domain)
        await side.settle()
        assert (await side.ask(USER)).answer.verdict is YES
        assert asked(server, b"u@") == 2


# -- the brake ---------------------------------------------------------------------------------------------------------


async def test_a_dictionary_is_braked_and_known_users_are_not(tmp_path: Path) -> None:
    """One line when it begins, one when it is over; whoever was heard of before passes."""
    more = 'unknown_limit = "20/100s"\nunknown_limit_per_client = "0"'
    async with asking(tmp_path, Old({b"<u": b"250 yes"}), more) as (side, server):
        assert (await side.ask(USER)).answer.verdict is YES
        verdicts = [(await side.ask(f"n{number}@old.test")).answer.verdict for number in range(100)]
        assert verdicts == [NO] * 20 + [LATER] * 80
        assert asked(server, b"n") == 20 + 2  # and two strangers
        assert (await side.ask(USER)).answer.verdict is YES
        assert (await side.ask("n0@old.test")).answer.verdict is NO
        assert (await side.ask("u9@old.test")).answer.verdict is LATER, "new ones wait"
        assert (await side.ask("u9@old.test", Asker(login=True))).answer.verdict is YES, "logins do not"
        assert len(side.said) == 1
        side.now += 50
        assert (await side.ask("u8@old.test")).answer.verdict is YES
        assert len(side.said) == 2
        assert "no more brake" in side.said[1]


async def test_many_known_addresses_are_never_braked(tmp_path: Path) -> None:
    """The first mail to everybody: it is the unknown ones that count."""
    more = 'unknown_limit = "20/100s"'
    async with asking(tmp_path, Old({b"<u": b"250 yes"}), more) as (side, _):
        for number in range(200):
            assert (await side.ask(f"u{number}@old.test")).answer.verdict is YES
            if number % 2:
                assert (await side.ask(f"n{number}@old.test")).answer.verdict is NO
        assert side.said == []


async def test_one_client_is_braked_alone(tmp_path: Path) -> None:
    """The others go on."""
    more = 'unknown_limit_per_client = "5/100s"'
    async with asking(tmp_path, Old({b"<u": b"250 yes"}), more) as (side, _):
        bad, good = Asker("192.0.2.1"), Asker("192.0.2.2")
        verdicts = [(await side.ask(f"n{number}@old.test", bad)).answer.verdict for number in range(10)]
        assert verdicts == [NO] * 5 + [LATER] * 5
        assert (await side.ask("n99@old.test", good)).answer.verdict is NO


async def test_a_server_in_trouble_brakes_nobody(tmp_path: Path) -> None:
    """Only its clear no counts against those who ask."""
    more = 'unknown_limit = "5/100s"'
    async with asking(tmp_path, Old({}, b"451 4.3.0 trouble"), more) as (side, server):
        for number in range(20):
            assert (await side.ask(f"u{number}@old.test")).answer.verdict is LATER
        assert asked(server, b"u") == 20
