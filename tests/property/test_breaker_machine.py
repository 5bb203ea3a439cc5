"""The breaker and the bound under any order of events, with a clock that the test moves."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from extauth.bound import Bound
from extauth.breaker import ACCOUNTS, LONGEST_PAUSE, WINDOW, Breaker

ATTACKER = "attacker"
_USERS = st.sampled_from([f"u{n}" for n in range(8)])


class BreakerMachine(RuleBasedStateMachine):
    """What the breaker promises, checked against a record of all that happened."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.breaker = Breaker()
        self.hard: list[tuple[float, str]] = []  # since the last answer
        self.any: list[tuple[float, str]] = []
        self.answered_in_trial = False
        self.tried_at = 0.0

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 4.0, 6.0, 30.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(user=_USERS, hard=st.booleans())
    def fail(self, user: str, hard: bool) -> None:
        was_closed = self.breaker.closed
        if was_closed:
            self.any.append((self.now, user))
            if hard:
                self.hard.append((self.now, user))
        opened = self.breaker.failed(user, self.now, "why", hard=hard)
        assert opened == (was_closed and not self.breaker.closed)
        witnesses = {who for at, who in self.hard if self.now - at <= WINDOW}
        if was_closed:
            assert opened == (hard and len(witnesses) >= ACCOUNTS)

    @rule()
    def answer(self) -> None:
        was_closed = self.breaker.closed
        assert self.breaker.answered() == (not was_closed)
        assert self.breaker.closed
        assert self.breaker.witnesses == 0
        self._forget()
        self.answered_in_trial = True

    @precondition(lambda self: not self.breaker.trying)
    @rule()
    def begin(self) -> None:
        began = self.breaker.begin_trial(self.now)
        if began and self.breaker.closed:
            assert len({who for at, who in self.any if self.now - at <= WINDOW}) >= ACCOUNTS
        if not began and not self.breaker.closed:
            assert self.now - max(self.tried_at, self.breaker.opened_at) < LONGEST_PAUSE
        self.answered_in_trial = False

    @precondition(lambda self: self.breaker.trying)
    @rule(works=st.booleans(), reached=st.booleans())
    def end(self, works: bool, reached: bool) -> None:
        was_closed = self.breaker.closed
        changed = self.breaker.end_trial(self.now, None if works else "why", reached=reached)
        self.tried_at = self.now
        assert changed == (was_closed != self.breaker.closed)
        if works:
            assert self.breaker.closed
            self._forget()
        elif was_closed:
            assert self.breaker.closed == self.answered_in_trial

    @precondition(lambda self: self.breaker.trying)
    @rule()
    def drop(self) -> None:
        was_closed = self.breaker.closed
        self.breaker.drop_trial(self.now)
        self.tried_at = self.now
        assert self.breaker.closed == was_closed
        if was_closed:
            self._forget()

    @precondition(lambda self: self.breaker.trying)
    @rule()
    def one_trial_at_a_time(self) -> None:
        assert not self.breaker.begin_trial(self.now)

    def _forget(self) -> None:
        self.hard.clear()
        self.any.clear()

    @invariant()
    def bounded(self) -> None:
        assert len(self.breaker._hard) <= ACCOUNTS
        assert len(self.breaker._soft) <= ACCOUNTS
        assert self.breaker.calm == (
            self.breaker.closed and not self.breaker.trying and not self.breaker._hard and not self.breaker._soft
        )


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=40, deadline=None)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 20)), max_size=60))
def test_one_account_opens_nothing(events: list[tuple[bool, float]]) -> None:
    """Whatever goes wrong for it, and however often; nor does a trial begin."""
    breaker, now = Breaker(), 1000.0
    for hard, pause in events:
        now += pause
        assert not breaker.failed(ATTACKER, now, "why", hard=hard)
        assert not breaker.begin_trial(now)
    assert breaker.closed


@given(st.lists(st.tuples(st.integers(0, 1000), st.floats(0, 5)), max_size=60))
def test_what_is_sent_opens_nothing_as_long_as_the_server_answers_us(events: list[tuple[int, float]]) -> None:
    """Any number of names whose logins make the server hang up."""
    breaker, now = Breaker(), 1000.0
    for name, pause in events:
        now += pause
        assert not breaker.failed(f"made up {name}", now, "hung up", hard=False)
        if breaker.begin_trial(now):
            assert not breaker.end_trial(now, None, reached=True)
        assert breaker.closed


@given(
    st.integers(1, 50),
    st.lists(st.tuples(st.sampled_from(["many", "away", "taken", "grow"]), st.floats(0, 30), st.integers(1, 50))),
)
def test_a_bound_stays_between_one_and_the_most_and_comes_back(most: int, events: list[tuple[str, float, int]]) -> None:
    bound, now = Bound(most), 1000.0
    for what, pause, in_use in events:
        now += pause
        before = bound.limit
        if what == "many":
            changed = bound.too_many(now, min(in_use, before), since=now)
            assert changed == (bound.limit < before)
        elif what == "away":
            bound.go_away(now)
            assert bound.closed_until <= now + 8.0
        elif what == "taken":
            bound.welcome()
        else:
            full = bound.grow(now)
            assert bound.limit - before in (0, 1)
            assert full == (bound.limit == most and before < most)
        assert 1 <= bound.limit <= most
    for _ in range(most):
        now += 15.0
        bound.grow(now)
    assert bound.limit == most
    assert bound.closed_until < now or not events


@given(st.integers(2, 100), st.integers(1, 100))
def test_a_bound_finds_the_servers_own_limit(most: int, allowed: int) -> None:
    """Within a few complaints, and never far below it for long."""
    assume(allowed < most)
    bound, now, complaints = Bound(most), 1000.0, 0
    while bound.limit > allowed:
        now += 1.0
        bound.too_many(now, bound.limit, since=now)
        complaints += 1
    assert complaints <= 14
    assert bound.limit >= allowed * 2 // 3 or bound.limit >= allowed - 1
