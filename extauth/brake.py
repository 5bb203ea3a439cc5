"""Dictionary attacks: who asks about many addresses that the old server does not know is slowed down.

Each question about a new address takes one from an allowance, and a known address gives two back: so it is the ratio
that counts, and the questions in flight are bounded with it. There is one allowance for each old server's domain, apart
for mail and for logins, so that a flood of mail never stands before a user's first login; and one for each client.
Where it is used up, new addresses get FAILURE and mail for them is tried again. What is remembered, listed or has an
account is never asked about, and so never slowed. One line when it begins, and one when it ends.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, NamedTuple

from extauth.accept_all import Place
from extauth.allowance import Allowance
from extauth.notices import Notices
from migrator.settings import DomainSettings, Quota
from wire.outcome import Verdict

_CLIENTS: Final = 20_000  # and domains, remembered apart; the one not heard of for longest goes
_RELEASE: Final = 0.25  # of an allowance that must have come back before the brake is off again


class Asker(NamedTuple):
    """Who is behind a request: the client's address, "" where CommuniGate does not tell it; a login or mail."""

    client: str = ""
    login: bool = False


class Ticket:
    """Leave to ask about one address. `close` tells what came of it."""

    __slots__ = ("_allowances", "_clock")

    def __init__(self, allowances: list[Allowance], clock: Callable[[], float]) -> None:
        self._allowances = allowances
        self._clock = clock

    def close(self, verdict: Verdict) -> None:
        """A yes gives back more than was taken, a no nothing; what is unclear counts for nothing."""
        if verdict is Verdict.NO:
            return
        for allowance in self._allowances:
            allowance.give(self._clock(), 2.0 if verdict is Verdict.YES else 1.0)


class Brake:
    """The allowances of all domains and clients."""

    def __init__(self, notices: Notices, clock: Callable[[], float] = time.monotonic) -> None:
        self._notices = notices
        self._clock = clock
        self._allowances: OrderedDict[Hashable, Allowance] = OrderedDict()
        self._braked: set[Hashable] = set()

    def admit(self, domain: DomainSettings, place: Place, asker: Asker) -> Ticket | None:
        """A ticket for one question about an address that nothing is known of; None while the brake is on."""
        what = "logins" if asker.login else "mail"
        taken: list[Allowance] = []
        wanted: list[tuple[Hashable, Quota, str]] = [
            ((place, what), domain.unknown_limit, f"{what} for unknown addresses of {place.domain}")
        ]
        if asker.client:
            quota = domain.unknown_limit_per_client
            wanted.append(((place.server, asker.client), quota, f"{asker.client}, which asks for unknown addresses"))
        for key, quota, words in wanted:
            if not quota.count:
                continue
            allowance = self._of(key, quota)
            if not allowance.take(self._clock()):
                for other in taken:
                    other.give(self._clock())
                self._hold(key, words)
                return None
            taken.append(allowance)
            if key in self._braked and allowance.left(self._clock()) >= quota.count * _RELEASE:
                self._braked.discard(key)
                self._notices.announce(f"no more brake on {words}")
        return Ticket(taken, self._clock)

    def _of(self, key: Hashable, quota: Quota) -> Allowance:
        allowance = self._allowances.get(key)
        if allowance is None:
            if len(self._allowances) >= _CLIENTS:
                self._braked.discard(self._allowances.popitem(last=False)[0])
            allowance = self._allowances[key] = Allowance(quota, self._clock())
        self._allowances.move_to_end(key)
        return allowance

    def _hold(self, key: Hashable, words: str) -> None:
        if key not in self._braked:
            self._braked.add(key)
            self._notices.announce(f"brake on {words}: too many in a short time; new ones get FAILURE for now")
