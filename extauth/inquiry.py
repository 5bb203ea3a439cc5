"""Does the old server know an address? From what is remembered, else by asking; with what its yes is worth.

Answers are believed in the manner of Postfix's verify(8): a yes for a month, asked about again in the background after
a week; a no for minutes, and longer only while the server cannot be asked; what is unclear never. An address that was
put off (greylisting) is asked about again in the background, so that the sender's next try finds the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final

from extauth.accept_all import AcceptAll, Place
from extauth.brake import Asker, Brake
from extauth.guard import UnderWay
from extauth.notices import Notices
from extauth.probe import Finding, Prober
from migrator.ledger.probes import Probe, Probes
from migrator.settings import DomainSettings
from wire.outcome import Answer, Trouble, Verdict

_GREY: Final = re.compile(r"RCPT: 45[01]\b")  # what greylisting says; 452 and 421 are the server's own strain
_NAMED: Final = re.compile(r"\b(\d{1,5})\s?(s(?:ec\w*)?|m(?:in\w*)?)\b|(?:(\d\d?):)?(\d\d):(\d\d)\b", re.IGNORECASE)
_GREYLIST: Final = 310.0  # seconds until a greylisted address is asked about again: most lists let in after 300
_LONGEST: Final = 3600.0  # seconds of a wait that a greylist names
_PUT_OFF: Final = 1000  # addresses that wait so at once
_REFRESHES: Final = 4  # questions in the background at once
_QUEUED: Final = 1000  # that wait for one of those
_BACKGROUND: Final = 30.0  # seconds for one
_GATHER: Final = 0.05  # seconds: the answers of so long share a commit, and nobody waits for them


@dataclass(frozen=True, slots=True)
class Word:
    """The old server's word. `accepts_all` is None where nobody knows whether a yes is worth anything."""

    answer: Answer
    accepts_all: bool | None = None


class Inquiry:
    """Asks about addresses, and remembers."""

    def __init__(
        self,
        notices: Notices,
        *,
        prober: Prober,
        probes: Probes,
        accept_all: AcceptAll,
        brake: Brake,
        under_way: UnderWay,
    ) -> None:
        self._notices = notices
        self._prober = prober
        self._probes = probes
        self._accept_all = accept_all
        self._brake = brake
        self._under_way = under_way
        self._background: set[asyncio.Task[None]] = set()
        self._refreshing: set[tuple[str, str]] = set()
        self._places = asyncio.Semaphore(_REFRESHES)
        self._put_off: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self._to_write: dict[tuple[str, str], Probe | None] = {}  # None: to be dropped
        self._writing: asyncio.Task[None] | None = None
        self._closed = False

    async def ask(self, address: str, domain: DomainSettings, asker: Asker, deadline: float) -> Word:
        """The word on `address`, remembered or fresh, by `deadline`. Never raises for what a server does."""
        remembered = await self._recall(domain.old_address(address), domain)
        place = _place(domain, address)
        await self._accept_all.recall(place)
        if remembered is not None:
            age = self._probes.clock() - remembered.at
            accepts_all = self._accept_all.accepts(place)
            if accepts_all is None and self._accept_all.proved(place, remembered.at):
                accepts_all = False
            if remembered.known and accepts_all is not None:
                if age >= domain.cache.refresh:
                    self._refresh(address, domain)
                return Word(_answer(remembered), accepts_all)
            if not remembered.known and age < domain.cache.negative_refresh:
                return Word(_answer(remembered))
        word = await self._ask_braked(address, domain, asker, deadline, known=remembered is not None)
        if word.answer.verdict is not Verdict.LATER or remembered is None:
            return word
        return Word(_answer(remembered), self._accept_all.accepts(place) if remembered.known else None)

    def forget(self, address: str, domain: DomainSettings) -> None:
        """The account of `address` is there: when it is deleted one day, the old server is asked afresh."""
        self._write((domain.old_address(address), str(domain.smtp)), None)

    async def finish(self) -> None:
        """Write down what is known; give up what is asked in the background."""
        self._closed = True
        for timer in self._put_off.values():
            timer.cancel()
        self._put_off.clear()
        for task in tuple(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        if self._writing is not None:
            await asyncio.wait({self._writing})

    # -- asking --------------------------------------------------------------------------------------------------------

    async def _ask_braked(
        self, address: str, domain: DomainSettings, asker: Asker, deadline: float, *, known: bool
    ) -> Word:
        """Ask, unless the brake is on; an address that was heard of before is never held up by it."""
        ticket = None
        if not known:
            ticket = self._brake.admit(domain, _place(domain, address), asker)
            if ticket is None:
                return Word(Answer(Verdict.LATER, "too many unknown addresses are asked about now"))
        verdict = Verdict.LATER
        try:
            word = await self._ask_server(address, domain, deadline)
            verdict = word.answer.verdict
        finally:
            if ticket is not None:
                ticket.close(verdict)
        return word

    async def _ask_server(self, address: str, domain: DomainSettings, deadline: float) -> Word:
        place = _place(domain, address)
        claimed: list[str] = []
        asking = contextlib.ExitStack()  # about strangers too: the old server may ask us about them in turn

        def strangers(user_taken: bool) -> tuple[str, ...]:
            names = self._accept_all.strangers(place, user_taken=user_taken)
            for name in names:
                asking.enter_context(self._under_way.asking(f"{name}@{address.rpartition('@')[2]}"))
            claimed.extend(names)
            return names

        finding = Finding(Answer(Verdict.LATER, "not asked"))
        old = domain.old_address(address)
        try:
            with asking, self._under_way.asking(address):
                finding = await self._prober.check_recipient(domain, old, deadline=deadline, strangers=strangers)
        finally:
            if claimed:
                taken = finding.answer.verdict is Verdict.YES
                await self._accept_all.note(place, finding.accepts_all, user_taken=taken)
        answer = finding.answer
        if answer.verdict is Verdict.LATER:
            if _GREY.match(answer.reason):
                self._ask_again(address, domain, greylist_pause(answer.reason))
            return Word(answer)
        known = answer.verdict is Verdict.YES
        server = str(domain.smtp)
        self._write((old, server), Probe(old, server, known, answer.reason, self._probes.clock()))
        if not known:
            return Word(answer)
        accepts_all = await self._accept_all.settled(place, deadline)
        if accepts_all is None:  # the strangers were put off
            self._ask_again(address, domain, _GREYLIST)
        return Word(answer, accepts_all)

    def _ask_again(self, address: str, domain: DomainSettings, pause: float) -> None:
        """Ask in the background when the greylist's time has come, so that the sender's next try finds the answer."""
        key = (domain.old_address(address), str(domain.smtp))
        if self._closed or key in self._put_off or len(self._put_off) >= _PUT_OFF:
            return

        def again() -> None:
            del self._put_off[key]
            self._refresh(address, domain)

        self._put_off[key] = asyncio.get_running_loop().call_later(pause, again)

    def _refresh(self, address: str, domain: DomainSettings) -> None:
        key = (domain.old_address(address), str(domain.smtp))
        if self._closed or key in self._refreshing or len(self._refreshing) >= _QUEUED:
            return
        self._refreshing.add(key)

        async def refresh() -> None:
            try:
                async with self._places:
                    deadline = asyncio.get_running_loop().time() + _BACKGROUND
                    await self._ask_server(address, domain, deadline)
            finally:
                self._refreshing.discard(key)

        self._aside(refresh())

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._notices.log.error("bug in the background", exc_info=bug)

    # -- remembering ---------------------------------------------------------------------------------------------------

    async def _recall(self, old: str, domain: DomainSettings) -> Probe | None:
        """The last clear answer, if it still counts."""
        server = str(domain.smtp)
        if (old, server) in self._to_write:
            probe = self._to_write[old, server]
        else:
            probe = None
            try:
                probe = await self._probes.load(old, server)
            except Trouble as trouble:
                self._notices.log.warning("answers are not remembered", reason=str(trouble))
        if probe is None:
            return None
        age = self._probes.clock() - probe.at
        return probe if 0 <= age < (domain.cache.positive if probe.known else domain.cache.negative) else None

    def _write(self, key: tuple[str, str], probe: Probe | None) -> None:
        self._to_write[key] = probe
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write_all())

    async def _write_all(self) -> None:
        """Write down what has gathered in a moment. If it is lost, the old server is asked again."""
        while self._to_write:
            await asyncio.sleep(0 if self._closed else _GATHER)
            probes = dict(self._to_write)  # they are found there until they are found in the ledger
            with contextlib.suppress(Trouble):  # said where it matters: when a login cannot be written
                await self._probes.save(
                    [probe for probe in probes.values() if probe is not None],
                    drop=[key for key, probe in probes.items() if probe is None],
                )
            for key, probe in probes.items():
                if self._to_write[key] is probe:
                    del self._to_write[key]
        self._writing = None


def _place(domain: DomainSettings, address: str) -> Place:
    return Place(str(domain.smtp), domain.old_address(address).rpartition("@")[2])


def _answer(probe: Probe) -> Answer:
    return Answer(Verdict.YES if probe.known else Verdict.NO, probe.reason)


def greylist_pause(reason: str) -> float:
    """Seconds to wait: what the server names (`300 seconds`, `5 min`, `05:00`) and a little more, else five minutes."""
    named = _NAMED.search(reason.partition("RCPT: ")[2][4:])
    if named is None:
        return _GREYLIST
    if named[5]:
        seconds = int(named[3] or 0) * 3600.0 + int(named[4]) * 60.0 + int(named[5])
    else:
        seconds = float(named[1]) * (60.0 if named[2][0] in "mM" else 1.0)
    return min(seconds, _LONGEST) + 10.0
