"""Is an old server's yes to a password worth anything? Only if it refuses a login that nobody has.

A server that lets everybody in (a broken directory behind it, a test set-up, a proxy that says OK to all) would give
every account to whoever comes first. So before the first yes of a source counts, and once a day from then on, a login
with a random name and a random password is tried there: once for all who wait, and never in the way of those who come
later. If it is let in, the source is switched off: LATER for everybody, one loud line, until it refuses such a login
again.

A try that ends unclear is repeated at the next request. After a few of them the source is trusted for a while: it has
accepted a user and no stranger, and a server that only hangs up on strangers must not lock its users out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from extauth.notices import Notices
from extauth.strangers import make_password, make_stranger
from extauth.verify import Verifier
from migrator.ledger.habits import Habits, Kind
from migrator.settings import DomainSettings
from wire.endpoint import Endpoint
from wire.outcome import Answer, Scope, Trouble, Verdict

_LIFETIME: Final = 86_400.0  # seconds that a source is trusted: one refused login a day in the old server's log
_SWITCHED_OFF: Final = 300.0  # seconds until a source that let a stranger in is tried again
_UNCLEAR: Final = 600.0  # seconds until one that could not be found out is tried again
_ATTEMPTS: Final = 3  # unclear ones until the source is trusted for a while
_TRIAL: Final = 30.0  # seconds for one: servers make wrong passwords wait, by 15 s at most
_SOURCES: Final = 10_000  # remembered: more than any server has


class _Key(NamedTuple):
    endpoint: Endpoint
    domain: str  # "" where the login does not tell it


class _Source:
    """What is known of one source, and the attempt under way."""

    __slots__ = ("accepts", "look_at", "trial", "unclear")

    def __init__(self) -> None:
        self.accepts: bool | None = None  # None: not found out yet
        self.look_at = 0.0  # from then on it is tried again
        self.unclear = 0
        self.trial: asyncio.Task[None] | None = None


class Trust:
    """Which sources refuse strangers."""

    def __init__(
        self, notices: Notices, verifier: Verifier, habits: Habits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._notices = notices
        self._verifier = verifier
        self._habits = habits
        self._sources: dict[_Key, _Source] = {}

    def switched_off(self, domain: DomainSettings, address: str) -> Answer | None:
        """LATER if the source of `address` lets strangers in, so that it need not be asked; else None."""
        if domain.verify == "hashes":
            return None  # a file that does not hold a name cannot say yes to it
        key = _key(domain, address)
        source = self._sources.get(key)
        if source is None or not source.accepts:
            return None
        self._look(key, source, domain, address)
        self._alarm(key, domain)
        return _off(key)

    async def doubt(self, domain: DomainSettings, address: str, deadline: float) -> Answer | None:
        """None if the yes that `address` got counts; else LATER, with the reason. Waits for a first trial only."""
        if domain.verify == "hashes":
            return None
        key = _key(domain, address)
        source = self._sources.get(key)
        if source is None:
            if len(self._sources) >= _SOURCES:
                self._sources.clear()
            source = self._sources[key] = _Source()
        trial = self._look(key, source, domain, address)
        if source.accepts is None and trial is not None:
            left = deadline - asyncio.get_running_loop().time()
            await asyncio.wait({trial}, timeout=max(0.0, left))
        if source.accepts is None:
            return Answer(Verdict.LATER, f"not known yet whether {key.endpoint} refuses wrong logins", Scope.USER)
        return _off(key) if source.accepts else None

    async def finish(self) -> None:
        """Give up what is under way."""
        trials = [source.trial for source in self._sources.values() if source.trial is not None]
        for trial in trials:
            trial.cancel()
        await asyncio.gather(*trials, return_exceptions=True)

    def _look(self, key: _Key, source: _Source, domain: DomainSettings, address: str) -> asyncio.Task[None] | None:
        """Start a trial where one is due; the one under way, if any."""
        if source.trial is None and self._clock() >= source.look_at:
            source.trial = asyncio.get_running_loop().create_task(self._try(key, source, domain, address))
        return source.trial

    async def _try(self, key: _Key, source: _Source, domain: DomainSettings, address: str) -> None:
        try:
            if source.accepts is None and await self._remembers(key, source):
                return
            by = asyncio.get_running_loop().time() + _TRIAL
            stranger = f"{make_stranger()}@{address.rpartition('@')[2]}"
            answer = await self._verifier.check_password(domain, stranger, make_password(), turn_by=by, deadline=by)
            if answer.verdict is Verdict.LATER and answer.scope is not Scope.USER:
                self._unclear(key, source, answer)
            else:  # a refusal for any reason is none of the yes that is looked for
                await self._found(key, source, domain, accepts=answer.verdict is Verdict.YES)
        except Exception as bug:  # this task owns the scope: nobody else would hear of it
            self._notices.log.error("bug while a source was tried", exc_info=bug)
            self._unclear(key, source, Answer(Verdict.LATER, "an internal error"))
        finally:
            source.trial = None

    async def _remembers(self, key: _Key, source: _Source) -> bool:
        """Take up what an earlier process found out, if it is young enough and lets people in."""
        try:
            habit = await self._habits.load(Kind.LOGIN, str(key.endpoint), key.domain)
        except Trouble:
            return False
        age = self._habits.clock() - habit.at if habit is not None else -1.0
        if habit is None or habit.accepts or not 0 <= age < _LIFETIME:
            return False
        source.accepts = False
        source.look_at = self._clock() + _LIFETIME - age
        return True

    async def _found(self, key: _Key, source: _Source, domain: DomainSettings, *, accepts: bool) -> None:
        was = source.accepts
        source.accepts, source.unclear = accepts, 0
        source.look_at = self._clock() + (_SWITCHED_OFF if accepts else _LIFETIME)
        if accepts:
            self._alarm(key, domain)
        elif was:
            self._notices.over(_topic(key), f"{key.endpoint} refuses wrong logins again and is asked again")
        try:
            await self._habits.save(Kind.LOGIN, str(key.endpoint), key.domain, accepts=accepts)
        except Trouble as trouble:  # the next process finds it out by itself
            self._notices.log.warning("the ledger does not take a note", server=str(key.endpoint), reason=str(trouble))

    def _unclear(self, key: _Key, source: _Source, answer: Answer) -> None:
        source.unclear += 1
        self._notices.log.info("a source could not be tried", server=str(key.endpoint), reason=answer.reason)
        if source.accepts is None and source.unclear < _ATTEMPTS:
            return
        source.look_at = self._clock() + (_SWITCHED_OFF if source.accepts else _UNCLEAR)
        source.accepts = bool(source.accepts)

    def _alarm(self, key: _Key, domain: DomainSettings) -> None:
        self._notices.alarm(
            _topic(key),
            f"{key.endpoint} let in a login that nobody has, so its yes proves nothing: nobody"
            f"{f' of {key.domain}' if key.domain else ''} is let in by it. Mend its authentication, or name another"
            f' server in [domains."{domain.name}"]; it is tried again every {_SWITCHED_OFF / 60:.0f} minutes',
        )


def _key(domain: DomainSettings, address: str) -> _Key:
    told = "{domain}" in domain.login or "{address}" in domain.login
    return _Key(domain.verify_endpoint, (domain.old_domain or address.rpartition("@")[2]) if told else "")


def _topic(key: _Key) -> str:
    return f"accepts anybody {key.endpoint} {key.domain}"


def _off(key: _Key) -> Answer:
    return Answer(Verdict.LATER, f"{key.endpoint} lets everybody in; its answers do not count", Scope.SETUP)
