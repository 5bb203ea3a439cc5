"""The worker: claims copies, runs several at once, keeps their leases, writes down how they ended.

It also repeats the adoptions that the helper could not get confirmed. Dies at any moment without harm:
its leases run out (those of a dead process of this machine at once), marks and intents say how far each
copy was. SIGTERM lets go of everything and ends with 0.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from migrator.adopt import AdoptionOutcome, AdoptionResult
from migrator.copy_job import ADOPTION_TIMEOUT, Ending, JobRunner, Outcome, note_adoption
from migrator.ledger.jobs import Queue
from migrator.model import Claim, Outlook, StoredLogin, Worker
from migrator.processes import is_alive
from migrator.report import InboxIdentity, Progress
from wire.outcome import SetupTrouble, Temporary

LEASE: Final = 60.0  # seconds: a lost machine's copies go on elsewhere after this; renewed three times before
_TELL: Final = 2.0  # seconds between looks at how far a copy is
_POLL: Final = 0.5  # seconds between looks for work, when there is none
_ADOPTIONS: Final = 5.0  # seconds between looks for adoptions that are owed
_PAUSE: Final = 10.0  # seconds before the first repetition of a copy, doubled with each
_LONGEST_PAUSE: Final = 1800.0
_STORE_PAUSE: Final = 30.0  # seconds at most between tries when the ledger cannot be used


@dataclass(slots=True)
class _Running:
    """A copy at work: how far its mailboxes are."""

    claim: Claim
    runner: JobRunner
    mailboxes: dict[str, Progress] = field(default_factory=dict)

    def note(self, progress: Progress) -> None:
        self.mailboxes[progress.mailbox] = progress

    @property
    def so_far(self) -> tuple[int, int]:
        """Messages and bytes of this attempt."""
        told = self.mailboxes.values()
        return sum(progress.done for progress in told), sum(progress.octets for progress in told)


def pause_before(attempts: int, spread: float) -> float:
    """Seconds until a copy that failed `attempts` times before is tried again; `spread` is from 0 to 1."""
    return float(min(_PAUSE * 2 ** min(attempts, 20), _LONGEST_PAUSE) * (0.8 + 0.4 * spread))


class CopyWorker:
    """One worker process' loop. `runner` gives the JobRunner of the configuration as it is now."""

    def __init__(
        self,
        worker: Worker,
        queue: Queue,
        runner: Callable[[], JobRunner],
        *,
        lease: float = LEASE,
        poll: float = _POLL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker = worker
        self._queue = queue
        self._runner = runner
        self._lease = lease
        self._poll = poll
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._adopting: asyncio.Task[None] | None = None
        self._next_adoptions = 0.0
        self._wiped = False  # a password was forgotten since the queue was tidied
        self._log: Any = structlog.get_logger()

    def stop(self) -> None:
        """Let go of all copies and end. May be called from a signal handler of the loop."""
        self._stopping.set()

    async def work(self, *, until_idle: bool = False) -> Outlook:
        """Run copies until `stop`, or until nothing is left that could run now. Returns how the queue stands."""
        self._log.info("worker started", worker=self._worker.name, process=self._worker.process)
        pause = self._poll
        try:
            while not self._stopping.is_set():
                try:
                    idle = await self._turn()
                    if until_idle and idle and (outlook := await self._queue.outlook()).fresh == 0:
                        return outlook
                    pause = self._poll
                except Temporary as trouble:
                    self._log.error("ledger unusable", reason=str(trouble))
                    if until_idle and not self._tasks:
                        raise
                    pause = min(pause * 2, _STORE_PAUSE)
                await self._rest(pause)
        finally:
            await self._let_go()
            self._log.info("worker stopped", worker=self._worker.name)
        return await self._queue.outlook()

    async def _turn(self) -> bool:
        """Start what there is room for; whether nothing is to be done now."""
        runner = self._runner()
        freed = await self._queue.take_back(self._worker, is_alive)
        if freed:
            self._log.warning("leases of dead workers taken back", copies=freed)
        if self._clock() >= self._next_adoptions and self._adopting is None:
            self._adopting = asyncio.create_task(self._repeat_adoptions(runner), name="adoptions")
            self._next_adoptions = self._clock() + _ADOPTIONS
        limits = limits_of(runner)
        while len(self._tasks) < runner.settings.worker.copies:
            claim = await self._queue.claim(self._worker, lease=self._lease, limits=limits)
            if claim is None:
                break
            task = asyncio.create_task(self._run(_Running(claim, runner)), name=f"copy {claim.job.account}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._adopting is not None and self._adopting.done():
            adopting, self._adopting = self._adopting, None
            await adopting  # a bug in it ends the worker, and is seen
        idle = not self._tasks and self._adopting is None
        if idle and self._wiped:
            self._wiped = False
            await self._queue.tidy()
        return idle

    async def _rest(self, seconds: float) -> None:
        """Until a copy or the adoptions end, `stop` is called, or the time is over."""
        stopping = asyncio.create_task(self._stopping.wait())
        adopting = () if self._adopting is None else (self._adopting,)
        try:
            await asyncio.wait(
                {stopping, *self._tasks, *adopting}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            stopping.cancel()

    async def _let_go(self) -> None:
        tasks = list(self._tasks)
        if self._adopting is not None:
            tasks.append(self._adopting)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _repeat_adoptions(self, runner: JobRunner) -> None:
        """Adopt whom the helper could not: its process died, or CommuniGate's CLI was away. Stops while it is away."""
        try:
            for login in await runner.logins.due_adoptions():
                if not await self._repeat_adoption(runner, login):
                    return
            if ended := await runner.adopter.end_due(timeout=ADOPTION_TIMEOUT):
                self._log.info("grace is over", accounts=ended)
        except Temporary as trouble:
            self._log.error("ledger or CommuniGate unusable", reason=str(trouble))

    async def _repeat_adoption(self, runner: JobRunner, login: StoredLogin) -> bool:
        """One adoption; False when CommuniGate could not be asked."""
        assert login.sealed is not None  # due_adoptions lists no others
        pause = pause_before(login.attempts, random.random())  # noqa: S311 - spreads load, guards nothing
        try:
            password = runner.opener.open(login.sealed, login.account)
        except SetupTrouble as trouble:
            result = AdoptionResult(AdoptionOutcome.LATER, trouble.text)
            await note_adoption(runner.logins, login.account, result, retry_after=pause)
            return True
        deadline = asyncio.get_running_loop().time() + ADOPTION_TIMEOUT
        result = await runner.adopter.adopt(login.account, password, deadline=deadline)
        await note_adoption(runner.logins, login.account, result, retry_after=pause)
        self._log.info("adoption repeated", account=login.account, outcome=result.outcome.value, reason=result.reason)
        return result.outcome is not AdoptionOutcome.LATER

    async def _run(self, running: _Running) -> None:
        """One copy, from claim to outcome. Never raises but CancelledError, when the worker stops."""
        job, claim = running.claim.job, running.claim
        log = self._log.bind(account=job.account, source=job.source, job=job.id)
        log.info("copy started", attempt=job.attempts + 1)
        started = self._clock()
        copying = asyncio.create_task(self._copy(running))
        keeping = asyncio.create_task(self._keep(running, log))
        try:
            await asyncio.wait({copying, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if not copying.done():
                keeping.result()  # a bug there is one of this copy
                log.warning("copy given up: its lease was lost")
            elif copying.cancelled():  # not by us: something within the copy cancelled itself
                log.error("bug", reason="cancelled from within")
                await self._note_bug(claim, "cancelled from within", log)
            else:
                await self._settle(running, copying.result(), log, self._clock() - started)
        except asyncio.CancelledError:
            await _end(copying)
            await self._release(claim, log)
            raise
        except Temporary as trouble:  # the ledger: the lease runs out, and the copy goes on where the marks say
            log.error("outcome not written", reason=str(trouble))
        except Exception as error:  # this loop owns the job: a bug holds one copy, not the worker
            log.error("bug", exc_info=error)
            await _end(copying)
            await self._note_bug(claim, type(error).__name__, log)
        finally:
            await asyncio.gather(_end(copying), _end(keeping))

    async def _copy(self, running: _Running) -> Outcome:
        async def claimed(identity: InboxIdentity) -> str:
            other = await self._queue.identify(running.claim, identity)
            return other.account if other else ""

        return await running.runner.run(running.claim.job, progress=running.note, claimed=claimed)

    async def _keep(self, running: _Running, log: Any) -> None:
        """Renew the lease and tell the progress; returns when the lease is lost."""
        told = (0, 0)
        renewed = self._clock()
        while True:
            await asyncio.sleep(min(_TELL, self._lease / 6))
            so_far = running.so_far
            if so_far == told and self._clock() - renewed < self._lease / 3:
                continue
            try:
                kept = await self._queue.renew(running.claim, lease=self._lease, copied=so_far[0], bytes=so_far[1])
            except Temporary as trouble:
                log.warning("lease not renewed", reason=str(trouble))
                kept = self._clock() - renewed < self._lease  # until then nobody else may have it
            else:
                renewed = self._clock() if kept else renewed
                if so_far != told:
                    log.info("progress", copied=so_far[0], bytes=so_far[1], mailboxes=len(running.mailboxes))
                told = so_far
            if not kept:
                return

    async def _settle(self, running: _Running, outcome: Outcome, log: Any, seconds: float) -> None:
        claim, counts = running.claim, outcome.counts
        if outcome.ending is Ending.DONE:
            ours = await self._queue.finish(claim, counts, outcome.report)
            self._wiped = True
        elif outcome.ending is Ending.WAIT:
            ours = await self._queue.wait_for_login(claim, outcome.reason)
        elif outcome.ending is Ending.HOLD:
            ours = await self._queue.hold(claim, outcome.reason, counts, outcome.report)
        else:
            pause = pause_before(claim.job.attempts, random.random())  # noqa: S311 - spreads load, guards nothing
            pause = max(pause, outcome.pause)
            ours = await self._queue.postpone(claim, pause, outcome.reason, counts, outcome.report)
        numbers = {"copied": counts.copied, "bytes": counts.bytes, "already": counts.already, "refused": counts.refused}
        say = log.info if outcome.ending is Ending.DONE else log.warning
        say(
            f"copy {_WORDS[outcome.ending]}" if ours else "copy ended, but its lease was lost",
            reason=outcome.reason,
            seconds=round(seconds, 3),
            **numbers,
        )

    async def _release(self, claim: Claim, log: Any) -> None:
        try:
            await self._queue.release(claim)
            log.info("copy let go")
        except Temporary as trouble:
            log.warning("lease not given back; it runs out", reason=str(trouble))

    async def _note_bug(self, claim: Claim, what: str, log: Any) -> None:
        pause = pause_before(claim.job.attempts, random.random())  # noqa: S311 - spreads load, guards nothing
        try:
            await self._queue.fail(claim, pause, f"a fault of this program: {what}; see the log")
        except Temporary as trouble:
            log.error("outcome not written", reason=str(trouble))


async def _end(task: asyncio.Task[Any]) -> None:
    """Cancel `task` and wait until it is over, however it ends."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


_WORDS: Final = {
    Ending.DONE: "done",
    Ending.POSTPONE: "postponed",
    Ending.WAIT: "waits for the next login",
    Ending.HOLD: "held",
}


def limits_of(runner: JobRunner) -> Callable[[str], int]:
    """Copies at once from one old server: half of the connections it allows, so that logins find room."""
    limits: dict[str, int] = {}
    default = 1
    for domain in runner.settings.domains.values():
        share = max(1, domain.max_connections // 2)
        if domain.name == "default":
            default = share
        for endpoint in (domain.imap, domain.pop):
            if endpoint is not None:
                host = endpoint.host.lower()
                limits[host] = min(share, limits.get(host, share))
    return lambda server: limits.get(server, default)
