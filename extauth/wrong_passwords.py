"""Wrong passwords: the same one is answered from memory, and who tries many different ones is slowed down.

A password that the old server has refused is ERROR for a short time when the same client sends it again: a phone with
an old password never reaches the old server, and never locks its user there. The time is short because the user may
have set exactly this password at the old server meanwhile; it doubles with each further refusal, up to
`remember_refused`. An entry counts for one client only, so that nobody else can learn from a fast answer which
password somebody had.

Each question takes one from the allowance of its account, and any answer but a refusal gives it back. Each refusal
takes one from that of its client; not each question, for a client may be an office whose users all come at nine. Below
half of an allowance questions wait, at most `slow_down`; where it is used up they are FAILURE without a question until
a quarter has come back. FAILURE and not ERROR: nobody has judged this password, and it may be right. An attacked
account is only slowed down for networks that have sent no wrong password for it, as long as the attackers' networks can
be told apart: one attacker locks nobody out. Where CommuniGate tells no address, or one of many users, it is never
refused.

An account and address that were right before pass at once, until as many wrong passwords as one account may have came
from that very pair. A right password forgets everything about its account.

No password is held, only digests under a key that dies with the process. Every table is bounded: who was not heard of
for longest goes first. Pure but for the clock.
"""

from __future__ import annotations

import hashlib
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from extauth.allowance import Allowance
from migrator.settings import LimitSettings
from wire.outcome import Verdict

_FIRST: Final = 60.0  # seconds that a first refusal is remembered
_PER_ACCOUNT: Final = 8  # refused passwords remembered of one account: more devices than that are seldom wrong at once
_ACCOUNTS: Final = 20_000  # a flood of names that nobody has takes about 20 MB at most
_CLIENTS: Final = 20_000
_PAIRS: Final = 200_000  # accounts and addresses that were right: 30 MB at most
_RELEASE: Final = 0.25  # of an allowance that must have come back before the brake is off again


class _Record:
    """What is known of one account: its allowance, the networks of its wrong passwords, and its refused passwords
    (when they are forgotten, for how long)."""

    __slots__ = ("allowance", "held", "networks", "refused")

    def __init__(self, allowance: Allowance) -> None:
        self.allowance = allowance
        self.held = False
        self.networks: set[str] = set()
        self.refused: OrderedDict[tuple[str, bytes], tuple[float, float]] = OrderedDict()


class _Client:
    """What is known of one client's network."""

    __slots__ = ("allowance", "held")

    def __init__(self, allowance: Allowance) -> None:
        self.allowance = allowance
        self.held = False


class Attempt:
    """Leave to ask the old server about one password, after `pause` seconds. To be closed with what it said."""

    __slots__ = ("address", "closed", "network", "pause", "suspects", "taken")

    def __init__(self, address: str, network: str, pause: float, taken: list[Allowance], suspects: set[str]) -> None:
        self.address = address
        self.network = network
        self.pause = pause
        self.taken = taken  # what it is to give back
        self.suspects = suspects  # where its network is noted until it is cleared
        self.closed = False


class WrongPasswords:
    """The memory of one process. Addresses are lower case; `client` is what CommuniGate sends, "" where it does not."""

    def __init__(self, limits: LimitSettings, key: bytes, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._key = key
        self._clock = clock
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._clients: OrderedDict[str, _Client] = OrderedDict()
        self._pairs: OrderedDict[bytes, int] = OrderedDict()  # with the wrong passwords since the last right one

    def is_refused(self, address: str, client: str, digest: bytes) -> bool:
        """Whether the old server has just refused this password, sent by this client."""
        record = self._records.get(address)
        if record is None or not record.refused:
            return False
        entry = record.refused.get((self.network(client), digest))
        return entry is not None and self._clock() < entry[0]

    def admit(self, address: str, client: str, *, shared: bool = False) -> Attempt | None:
        """Leave to ask; None while this account or client is refused. `shared`: the client's address is no user's."""
        network = "" if shared else self.network(client)
        now, limits = self._clock(), self._limits
        record = self._record(address, now)
        own = self._client(network, now) if network else None
        short = _share_left(record.allowance, limits.wrong_per_account.count, now)
        if own is not None:
            short = min(short, _share_left(own.allowance, limits.wrong_per_client.count, now))
        pause, stranger = 0.0, False
        if record.networks and record.allowance.left(now) >= limits.wrong_per_account.count:
            record.networks.clear()
        if short < 0.5 and not self._is_known(address, network):
            if own is not None:
                if self._holds_client(own) or self._holds_account(record, network):
                    return None
                stranger = record.held
                if stranger:
                    record.networks.add(network)  # one question at a time, until it proves to be no attack
            pause = limits.slow_down * min(1.0, 1.0 - 2.0 * short)
        taken = [record.allowance] if record.allowance.take(now) else []
        return Attempt(address, network, pause, taken, record.networks if stranger else set())

    def close(self, attempt: Attempt, verdict: Verdict, client: str, digest: bytes) -> None:
        """What the old server said. A second time is of no account."""
        if attempt.closed:
            return
        attempt.closed = True
        now = self._clock()
        if verdict is Verdict.NO:
            if (own := self._clients.get(attempt.network)) is not None:
                own.allowance.take(now)
            self._remember(attempt, client, digest, now)
            return
        for allowance in attempt.taken:
            allowance.give(now)
        attempt.suspects.discard(attempt.network)
        if verdict is Verdict.YES:
            self._records.pop(attempt.address, None)
            self._make_known(attempt)

    def forget(self, name: str) -> None:
        """Drop everything about an account, or about a client's address."""
        self._records.pop(name, None)
        if network := self.network(name):
            self._clients.pop(network, None)

    def network(self, client: str) -> str:
        """The network that counts as one client; "" for an address of many users, or none."""
        return _network(client, self._limits.shared)

    # -- tables --------------------------------------------------------------------------------------------------------

    def _record(self, address: str, now: float) -> _Record:
        record = self._records.get(address)
        if record is None:
            if len(self._records) >= _ACCOUNTS:
                self._records.popitem(last=False)
            record = self._records[address] = _Record(Allowance(self._limits.wrong_per_account, now))
        else:
            self._records.move_to_end(address)
        return record

    def _client(self, network: str, now: float) -> _Client:
        client = self._clients.get(network)
        if client is None:
            if len(self._clients) >= _CLIENTS:
                self._clients.popitem(last=False)
            client = self._clients[network] = _Client(Allowance(self._limits.wrong_per_client, now))
        else:
            self._clients.move_to_end(network)
        return client

    def _holds_client(self, client: _Client) -> bool:
        return _holds(client, self._limits.wrong_per_client.count, self._clock())

    def _holds_account(self, record: _Record, network: str) -> bool:
        """Whether `network` must leave this account alone: it is one of those that attack it, or they are too many to
        be told apart."""
        most = self._limits.wrong_per_account.count
        held = _holds(record, most, self._clock())
        return held and (network in record.networks or len(record.networks) >= most)

    def _remember(self, attempt: Attempt, client: str, digest: bytes, now: float) -> None:
        longest = self._limits.remember_refused
        pair = self._pair(attempt.address, attempt.network)
        if pair in self._pairs:
            self._pairs[pair] += 1
            if self._pairs[pair] >= (self._limits.wrong_per_account.count or self._pairs[pair] + 1):
                del self._pairs[pair]
        record = self._record(attempt.address, now)
        if attempt.network and len(record.networks) < self._limits.wrong_per_account.count:
            record.networks.add(attempt.network)
        if not longest:
            return
        refused, entry = record.refused, (self.network(client), digest)
        until, last = refused.pop(entry, (now, 0.0))
        seconds = max(_FIRST, 2.0 * last) if now - until < longest else _FIRST
        if _share_left(record.allowance, self._limits.wrong_per_account.count, now) < 0.5:
            seconds = _FIRST  # under attack the old server may refuse a right one for a while
        seconds = min(longest, seconds)
        refused[entry] = (now + seconds, seconds)
        if len(refused) > _PER_ACCOUNT:
            refused.popitem(last=False)

    def _pair(self, address: str, network: str) -> bytes:
        text = f"{network} {address}".encode("utf-8", "surrogateescape")
        return hashlib.blake2b(text, key=self._key, digest_size=16).digest()

    def _is_known(self, address: str, network: str) -> bool:
        return bool(network) and self._pair(address, network) in self._pairs

    def _make_known(self, attempt: Attempt) -> None:
        if attempt.network:
            pair = self._pair(attempt.address, attempt.network)
            self._pairs[pair] = 0
            self._pairs.move_to_end(pair)
            if len(self._pairs) > _PAIRS:
                self._pairs.popitem(last=False)


def _share_left(allowance: Allowance, count: int, now: float) -> float:
    return allowance.left(now) / count if count else 1.0


def _holds(held: _Record | _Client, count: int, now: float) -> bool:
    """Whether the allowance is used up, or was and has not come back far enough."""
    if not count:
        return False
    left = held.allowance.left(now)
    held.held = left < 1.0 or (held.held and left < max(1.0, count * _RELEASE))
    return held.held


@lru_cache(maxsize=4096)  # users have few addresses; parsing one costs as much as a dozen lines of ours
def _network(client: str, shared: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]) -> str:
    """`client` as one word: IPv6 by /64, which is what one customer gets, IPv4 whole, also where it is inside IPv6."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    if address.is_loopback or address.is_unspecified or any(address in network for network in shared):
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Address(int(address) >> 64 << 64))
    return str(address)
