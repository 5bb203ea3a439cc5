"""Wrong passwords in memory: what is answered from it, who is slowed down, who passes, and what is forgotten."""

from __future__ import annotations

import ipaddress
import sys

import pytest

from extauth.wrong_passwords import WrongPasswords
from migrator.settings import LimitSettings, Quota
from wire.outcome import Verdict

USER = "ann@d.test"
HERE, THERE = "192.0.2.1", "198.51.100.1"
YES, NO, LATER = Verdict.YES, Verdict.NO, Verdict.LATER


class Memory:
    """The tables under a clock to be moved; passwords are small numbers."""

    def __init__(self, **limits: object) -> None:
        self.now = 1000.0
        self.tries = 0
        given = {"wrong_per_account": Quota(4, 400.0), "wrong_per_client": Quota(8, 800.0), **limits}
        self.wrong = WrongPasswords(LimitSettings(**given), b"key", lambda: self.now)  # type: ignore[arg-type]  # by name

    def ask(self, verdict: Verdict = NO, user: str = USER, client: str = HERE, password: int = 0) -> float | None:
        """One question; the pause before it, or None where it is not allowed. 0 is a password never used before."""
        self.tries += 1
        attempt = self.wrong.admit(user, client)
        if attempt is None:
            return None
        self.wrong.close(attempt, verdict, client, digest(password or 1000 + self.tries))
        return attempt.pause

    def refused(self, password: int, client: str = HERE, user: str = USER) -> bool:
        return self.wrong.is_refused(user, client, digest(password))


def digest(password: int) -> bytes:
    return password.to_bytes(32)


def test_a_refused_password_is_remembered_for_a_minute_then_twice_as_long() -> None:
    memory = Memory(wrong_per_account=Quota(0, 1.0), remember_refused=200.0)
    for seconds in (60, 120, 200, 200):
        memory.ask(password=1)
        memory.now += seconds - 1
        assert memory.refused(1)
        memory.now += 2
        assert not memory.refused(1), "the user may have set just this password meanwhile"
    memory.now += 1000
    memory.ask(password=1)
    memory.now += 61
    assert not memory.refused(1), "after a while it begins anew"


def test_a_refusal_counts_for_its_client_only() -> None:
    """Nobody learns from a fast answer what somebody else's phone sends."""
    memory = Memory()
    memory.ask(password=1, client="2001:db8:1:2::1")
    assert memory.refused(1, "2001:db8:1:2:ffff::9"), "one customer has a /64"
    assert not memory.refused(1, "2001:db8:1:3::1")
    assert not memory.refused(1, "")
    assert not memory.refused(1, user="bob@d.test", client="2001:db8:1:2::1")
    assert not memory.refused(2, "2001:db8:1:2::1")


@pytest.mark.parametrize("verdict", [YES, LATER])
def test_only_a_refusal_is_remembered(verdict: Verdict) -> None:
    memory = Memory()
    for _ in range(50):
        assert memory.ask(verdict, password=1) == 0
    assert not memory.refused(1)


def test_nothing_is_remembered_where_the_operator_does_not_want_it() -> None:
    memory = Memory(remember_refused=0.0)
    memory.ask(password=1)
    assert not memory.refused(1)


def test_different_wrong_passwords_slow_down_and_are_then_refused() -> None:
    memory = Memory()
    assert [memory.ask() for _ in range(6)] == [0, 0, 0, 1.0, None, None]
    memory.now += 90  # less than a quarter has come back
    assert memory.ask() is None
    memory.now += 20
    assert memory.ask() is not None


def test_questions_at_once_are_counted_before_they_are_answered() -> None:
    memory = Memory()
    attempts = [attempt for _ in range(4) if (attempt := memory.wrong.admit(USER, HERE)) is not None]
    assert len(attempts) == 4
    memory.wrong.close(attempts[0], NO, HERE, digest(1))
    assert memory.wrong.admit(USER, HERE) is None
    for attempt in attempts[1:]:
        memory.wrong.close(attempt, LATER, HERE, digest(2))
    assert memory.wrong.admit(USER, HERE) is not None, "what stayed unclear is given back"


def test_one_attacker_does_not_lock_a_user_out_who_comes_from_elsewhere() -> None:
    memory = Memory()
    while memory.ask() is not None:
        pass
    assert memory.ask(LATER, client=THERE) == 2.0, "slowed down, but asked"
    assert memory.ask(YES, client=THERE) == 2.0


def test_attackers_that_cannot_be_told_apart_are_refused_as_one() -> None:
    memory = Memory()
    for number in range(4):
        memory.ask(client=f"198.51.100.{number}")
    assert memory.ask(client="203.0.113.1") is None


def test_who_was_right_before_passes_at_once_during_an_attack() -> None:
    memory = Memory()
    memory.ask(YES, client=THERE)
    for number in range(10):
        memory.ask(client=f"198.51.100.{100 + number}")
    assert memory.ask(client=HERE) is None
    assert memory.ask(LATER, client=THERE) == 0
    assert memory.ask(LATER, user="bob@d.test", client=THERE) == 0


def test_an_attacker_beside_the_user_loses_his_privilege() -> None:
    """Behind one address; four wrong passwords, and the pair counts like any other."""
    memory = Memory(wrong_per_client=Quota(0, 1.0))
    memory.ask(YES)
    assert [memory.ask() for _ in range(6)] == [0, 0, 0, 0, None, None]


def test_a_client_that_tries_many_accounts_is_refused() -> None:
    memory = Memory()
    answers = [memory.ask(user=f"u{number}@d.test") for number in range(10)]
    assert answers[:5] == [0] * 5
    assert answers[-2:] == [None, None]
    assert memory.ask(client=THERE) == 0


def test_an_office_whose_users_all_come_at_once_is_no_attack() -> None:
    memory = Memory()
    attempts = [memory.wrong.admit(f"u{number}@d.test", HERE) for number in range(200)]
    for attempt in attempts:
        assert attempt is not None
        assert not attempt.pause
        memory.wrong.close(attempt, YES, HERE, digest(1))
    assert memory.ask() == 0


@pytest.mark.parametrize("client", ["", "127.0.0.1", "::1", "::ffff:127.0.0.1", "10.1.2.3", "2001:db8::77", "rubbish"])
def test_an_address_of_many_users_is_slowed_down_and_never_refused(client: str) -> None:
    """A webmail host with thousands of users: each account alone is braked, by two seconds at most."""
    shared = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/64"))
    memory = Memory(shared=shared)
    assert [memory.ask(client=client) for _ in range(20)][-1] == 2.0
    assert max(memory.ask(client=client) or 0.0 for _ in range(20)) == 2.0
    assert [memory.ask(user=f"u{number}@d.test", client=client) for number in range(50)] == [0.0] * 50


def test_a_right_password_forgets_all_of_its_account() -> None:
    memory = Memory()
    memory.ask(password=1)
    memory.ask()
    memory.ask()
    memory.ask(YES, client=THERE)
    assert not memory.refused(1)
    assert memory.ask() == 0


def test_what_a_person_says_is_forgotten() -> None:
    memory = Memory(wrong_per_client=Quota(4, 400.0))
    memory.ask(password=1)
    while memory.ask() is not None:
        pass
    memory.wrong.forget(USER)
    assert not memory.refused(1)
    assert memory.ask() is None, "the client has tried too many"
    memory.wrong.forget(HERE)
    assert memory.ask() == 0


def test_no_limit_is_none() -> None:
    memory = Memory(wrong_per_client=Quota(0, 1.0), wrong_per_account=Quota(0, 1.0))
    assert {memory.ask() for _ in range(200)} == {0.0}


def test_a_flood_of_names_and_addresses_stays_bounded() -> None:
    memory = Memory()
    memory.ask(YES, client=THERE)
    for number in range(45_000):
        client = str(ipaddress.IPv4Address(0x0B000000 + number))
        memory.ask(user=f"u{number}@d.test", client=client)
    wrong = memory.wrong
    assert len(wrong._records) == 20_000
    assert len(wrong._clients) == 20_000
    assert len(wrong._pairs) == 1
    sample = next(iter(wrong._records.values()))
    assert sum(sys.getsizeof(part) for part in (sample, sample.allowance, sample.refused, sample.networks)) < 2000


def test_many_refused_passwords_of_one_account_stay_bounded() -> None:
    memory = Memory(wrong_per_account=Quota(0, 1.0), wrong_per_client=Quota(0, 1.0))
    for number in range(1, 100):
        memory.ask(password=number)
    assert len(memory.wrong._records[USER].refused) == 8
    assert memory.refused(99)
