"""The helper as CommuniGate runs it: takes requests as they come, answers each before its deadline, ends cleanly.

A request's time starts when its line is read. At most `concurrency` are at work, more wait their turn, each old
server's in a lane of their own, and those that would wait too long, or for which there is no room, get FAILURE.
Equal requests, which share one check, take one place together.
Nothing that a request meets ends the daemon. QUIT, the end of input and SIGTERM end it after what was asked has been
answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import Counter, deque
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Final, Protocol

from extauth.channel import Line, ReplyWriter, RequestReader
from extauth.lanes import Lane, Lanes
from extauth.live_settings import LiveSettings
from extauth.log import LogFile, get_logger
from extauth.notices import Notices
from extauth.protocol import (
    Interface,
    New,
    Ok,
    Quit,
    ReadPlain,
    Refuse,
    Reply,
    Request,
    Retry,
    Routed,
    Sasl,
    Unknown,
    Verify,
    Version,
    parse_request,
    render_information,
    render_reply,
)
from migrator.config import Settings
from wire.descriptors import RESERVE, for_connections

_WAITING_LIMIT: Final = 20_000  # requests that wait; CommuniGate has far fewer threads to ask with
_WAITING_BYTES: Final = 32 << 20  # and their bytes, as one line may have 64 KiB
_BATCH: Final = 200  # lines taken at once before replies that are ready get their turn
_SOFT: Final = 0.95  # of the deadline: the service's share; the rest is for the way back
_SOFT_MOST: Final = 0.25  # seconds of that rest at most
_DEFAULT_INTERFACE: Final = 7  # while there is no configuration
_WARM_UP: Final = 0.3  # seconds after the start: what only NEW and VRFY need is loaded when the first reply is out
_UNUSABLE: Final = "the helper's configuration cannot be used; see the log"
_INTERNAL: Final = "internal error"
_SHOWN: Final = 200  # characters of a name that the log shows: a real one has 128 and its domain
_FAREWELL: Final = 5.0  # seconds at the end for late checks whose users were told to try again
_LOOK: Final = 2.0  # seconds between looks at the configuration's files while nothing is asked
_FILES_EACH: Final = 3  # descriptors for a request at work
_FEWEST_PLACES: Final = 4
_LOG_PAUSE: Final = 0.05  # seconds that ordinary log lines wait for each other: one write for many
_FLUSH: Final = 2.0  # seconds at the end for a reader that takes the last replies slowly


class Answering(Protocol):
    """What answers NEW and VRFY: the service."""

    def lane(self, request: New | Verify) -> Lane:
        """Whose places the request takes."""
        ...

    def work(self, request: New | Verify) -> Hashable:
        """The same for requests that share one check or probe."""
        ...

    async def answer(self, request: New | Verify, deadline: float) -> Reply:
        """The reply, by `deadline` (in the loop's time)."""
        ...

    async def retire(self, timeout: float) -> None:
        """Finish what is under way in that time, then let go of every connection."""
        ...


class ServiceMaker(Protocol):
    """Builds the service for one configuration."""

    def __call__(self, settings: Settings, notices: Notices) -> Answering: ...


class _Item:
    """One NEW or VRFY from its line to its reply."""

    __slots__ = ("answered", "deadline", "lane", "read_at", "request", "task", "timer", "work")

    def __init__(self, request: New | Verify, line: Line, seconds: float, work: Hashable) -> None:
        self.request = request
        self.work = work
        self.lane: Lane | None = None  # None: it takes no place, for an equal one has it
        self.read_at = line.read_at
        self.deadline = line.read_at + seconds
        self.answered = False
        self.timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None


class Daemon:
    """One run of the helper on two descriptors. `run` returns the exit code."""

    def __init__(
        self, config: Path, make_service: ServiceMaker, log_file: LogFile, *, stdin: int = 0, stdout: int = 1
    ) -> None:
        self._writer = ReplyWriter(stdout)
        self._reader = RequestReader(stdin, self._deliver, self._input_ended)
        self._log_file = log_file
        self._log: Any = get_logger()
        self.notices = Notices(self._say, self._log)
        self._live = LiveSettings(config)
        self._make_service = make_service
        self._service: Answering | None = None
        self._warm_up: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._inbox: deque[Line] = deque()
        self._bytes_in = 0  # counted by the reader's thread alone
        self._bytes_out = 0  # counted by the loop alone
        self._wake_due = False
        self._lanes: Lanes[_Item] = Lanes(_WAITING_LIMIT, _WAITING_BYTES)
        self._at_work: Counter[Hashable] = Counter()
        self._places = 1  # requests at work at once
        self._riders = 0  # at work without a place of their own
        self._equal: dict[Hashable, set[_Item]] = {}  # those that wait, by their work
        self._stopping = False
        self._quit: bytes | None = None

    async def run(self) -> int:
        """Serve until the end of input, QUIT or SIGTERM; 0."""
        loop = self._loop = asyncio.get_running_loop()
        self._stopped: asyncio.Future[str] = loop.create_future()
        self._settled: asyncio.Future[None] = loop.create_future()
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):  # not in the main thread: tests
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop, signal.Signals(number).name)
            loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        self._log_file.defer = self._flush_soon
        self._log_file.tell = lambda text: loop.call_soon_threadsafe(self._say, text)
        try:
            self._live.load()
            self._apply_settings()
            self._reader.start()
            self._look_at_files()
            await self._drain(await self._stopped)
        finally:
            if self._looking is not None:
                self._looking.cancel()
            self._log_file.defer = self._log_file.tell = None
            self._log_file.flush()
        return 0

    def _look_at_files(self) -> None:
        """Take up a configuration that changed while nobody asked anything."""
        if self._live.refresh(time.monotonic()):
            self._apply_settings()
        self._looking = self._loop.call_later(_LOOK, self._look_at_files)

    def _flush_soon(self) -> None:
        self._loop.call_later(_LOG_PAUSE, self._log_file.flush)

    # -- input ---------------------------------------------------------------------------------------------------------

    def _deliver(self, lines: list[Line]) -> None:
        """Called in the reader's thread: hand lines to the loop, or refuse them where the loop is too far behind."""
        for line in lines:
            if len(self._inbox) >= _WAITING_LIMIT or self._bytes_in - self._bytes_out > _WAITING_BYTES:
                self._refuse(line, "too many requests at once")
                continue
            self._bytes_in += len(line.data)
            self._inbox.append(line)
        if not self._wake_due:
            self._wake_due = True
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._take_lines)

    def _refuse(self, line: Line, reason: str) -> None:
        number = parse_request(line.data).number
        if number:
            self._writer.send(render_reply(number, Retry(reason)))

    def _input_ended(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop, "end of input")

    def _take_lines(self) -> None:
        self._wake_due = False
        if self._live.refresh(time.monotonic()):
            self._apply_settings()
        for _ in range(min(len(self._inbox), _BATCH)):
            line = self._inbox.popleft()
            self._bytes_out += len(line.data)
            try:
                self._take(line)
            except Exception:  # noqa: BLE001 - this loop owns the scope: a bug costs one request a FAILURE, not those behind it
                self._log.exception("bug while a request was taken")
                self._refuse(line, _INTERNAL)
        if self._inbox and not self._wake_due:
            self._wake_due = True
            self._loop.call_soon(self._take_lines)

    def _take(self, line: Line) -> None:
        """One request: answered here where nobody must be asked, else put to work or in line."""
        if self._stopping:
            return  # left unanswered, so that the server asks whoever runs next
        request = parse_request(line.data)
        if isinstance(request, New | Verify):
            if line.complete:
                self._admit(request, line)
            else:  # acting on half a name or half a password would be wrong either way
                self._reply(request, Retry("the request was cut off"), line.read_at)
            return
        settings = self._live.current
        match request:
            case Interface(_, version):
                known = settings.helper.interface if settings is not None else _DEFAULT_INTERFACE
                self._reply(request, Version(min(version, known)), line.read_at)
            case Sasl():
                self._reply(request, Refuse("only plain-text logins can be checked at the old server"), line.read_at)
            case ReadPlain():
                self._reply(request, Refuse("passwords are never given out"), line.read_at)
            case Quit(number):
                self._quit = number
                self._stop("QUIT")
            case Unknown(number, reason):
                if number:
                    self._reply(request, Refuse(reason), line.read_at)
                else:
                    self._say(f"{reason} ({len(line.data)} bytes) was not answered")

    # -- requests ------------------------------------------------------------------------------------------------------

    def _admit(self, request: New | Verify, line: Line) -> None:
        settings = self._live.current
        if settings is None:
            self._reply(request, Retry(_UNUSABLE), line.read_at)
            return
        service = self._ready()
        if service is None:
            self._reply(request, Retry(_INTERNAL), line.read_at)
            return
        item = _Item(request, line, settings.helper.deadline, service.work(request))
        lane = service.lane(request)
        if item.work in self._at_work and self._riders < _WAITING_LIMIT:
            self._start(item)
        elif self._lanes.begin(item, lane, self._places):
            item.lane = lane
            self._start(item)
        elif self._lanes.wait(item, lane, len(line.data)):
            item.lane = lane
            self._equal.setdefault(item.work, set()).add(item)
        else:
            self._reply(request, Retry("too many requests at once"), line.read_at)
            return
        item.timer = self._loop.call_at(item.deadline, self._expire, item)

    def _start(self, item: _Item) -> None:
        service = self._ready()
        if service is None:
            self._leave_lane(item)
            self._finish(item, Retry(_INTERNAL))
            return
        item.task = self._loop.create_task(self._serve(item, service))
        self._at_work[item.work] += 1
        if item.lane is None:
            self._riders += 1
        for equal in self._equal.pop(item.work, ()):
            if equal is not item:  # what it waits for is under way now
                self._leave_lane(equal)
                self._start(equal)

    def _leave_lane(self, item: _Item) -> None:
        if item.lane is not None:
            self._lanes.leave(item, item.lane)
            item.lane = None
        if item in (equal := self._equal.get(item.work, set())):
            equal.discard(item)
            if not equal:
                del self._equal[item.work]

    def _end_work(self, item: _Item) -> None:
        self._at_work[item.work] -= 1
        if not self._at_work[item.work]:
            del self._at_work[item.work]
        if item.lane is None:
            self._riders -= 1
        self._leave_lane(item)
        self._next()

    async def _serve(self, item: _Item, service: Answering) -> None:
        try:
            seconds = item.deadline - item.read_at
            soft = item.deadline - min(_SOFT_MOST, seconds * (1 - _SOFT))
            self._finish(item, await service.answer(item.request, soft))
        except Exception:  # noqa: BLE001 - this loop owns the scope: a bug costs one request a FAILURE, never the helper
            self._log.exception("bug while answering", n=item.request.number.decode())
            self.notices.alarm("bug", "an internal error; the log has the details")
            self._finish(item, Retry(_INTERNAL))
        finally:
            self._end_work(item)

    def _next(self) -> None:
        """Give free places to those who wait."""
        settings = self._live.current
        while item := self._lanes.next(self._places):
            if settings is None:
                self._leave_lane(item)
                self._finish(item, Retry(_UNUSABLE))
            else:
                self._start(item)
        self._check_settled()

    def _expire(self, item: _Item) -> None:
        """The deadline: whatever is under way, the server gets its answer now."""
        waited = item.task is None
        if waited:
            self._leave_lane(item)
        self._finish(item, Retry("too many requests at once" if waited else "no answer in time"))
        if item.task is not None:
            item.task.cancel()

    def _finish(self, item: _Item, reply: Reply) -> None:
        if item.answered:
            return
        item.answered = True
        if item.timer is not None:
            item.timer.cancel()
        self._reply(item.request, reply, item.read_at)
        self._check_settled()

    def _reply(self, request: Request, reply: Reply, read_at: float) -> None:
        settings = self._live.current
        verify = isinstance(request, Verify)
        failure = settings.helper.temporary if verify and settings is not None else "FAILURE"
        self._writer.send(render_reply(request.number, reply, failure=failure))
        if self._writer.broken:
            self._stop("stdout was closed")
        word = type(reply).__name__
        details = {} if not isinstance(reply, Refuse | Retry) else {"reason": reply.reason}
        if isinstance(reply, Routed):
            details = {"to": reply.address}
        if isinstance(request, New | Verify):
            details |= {"name": request.name[:_SHOWN], "mode": request.mode, "client": request.client}
        self._log.info(
            type(request).__name__,
            n=request.number.decode(),
            reply=word,
            ms=round((time.monotonic() - read_at) * 1000, 1),
            **details,
        )

    # -- settings ------------------------------------------------------------------------------------------------------

    def _apply_settings(self) -> None:
        """Take up the configuration that was just read: a new service; the old one ends when its requests have."""
        before, self._service = self._service, None
        if self._warm_up is not None:
            self._warm_up.cancel()
        settings = self._live.current
        if before is not None:
            task = self._loop.create_task(before.retire(settings.helper.deadline if settings else 5.0))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        if settings is None:
            for problem in self._live.problems:
                self._say(problem)
                self._log.error("configuration problem", problem=problem)
            self._say("every request gets FAILURE until the configuration is mended")
            return
        self._open_log(settings.helper.log)
        self._places = self._count_places(settings.helper.concurrency)
        self._warm_up = self._loop.call_later(_WARM_UP, self._ready)
        self.notices.announce(f"extauth serves {len(settings.domains)} domain(s) by {settings.path}")

    def _count_places(self, wanted: int) -> int:
        """`concurrency`, or what the limit of open files leaves room for: connection, slot, and a share of the CLI."""
        possible = max(_FEWEST_PLACES, for_connections() // _FILES_EACH)
        if possible < wanted:
            self.notices.announce(
                f"{possible} requests at once instead of {wanted}, for this process may open only"
                f" {for_connections() + RESERVE} files; raise its limit (ulimit -n, LimitNOFILE) or lower concurrency"
            )
        return min(wanted, possible)

    def _ready(self) -> Answering | None:
        """The service for the settings in force: made for the first request, or when the start is over.

        None where it cannot be made now, as its modules cannot be read without a descriptor; the next request tries.
        """
        if self._warm_up is not None:
            self._warm_up.cancel()
        if self._service is None:
            assert self._live.current is not None  # who asks has looked
            try:
                self._service = self._make_service(self._live.current, self.notices)
            except Exception:  # noqa: BLE001 - this loop owns the scope: a request is answered whatever happens
                self._log.exception("cannot begin to serve")
                self.notices.alarm("begin", "cannot begin to serve; the log has the details. It is tried again")
        return self._service

    def _open_log(self, path: Path) -> None:
        if path != self._log_file.path and (trouble := self._log_file.open(path)):
            self._say(trouble)

    def _hang_up(self) -> None:
        """SIGHUP: the log was rotated; the configuration may have changed too."""
        if trouble := self._log_file.reopen():
            self._say(trouble)
        if self._live.refresh(time.monotonic(), at_once=True):
            self._apply_settings()

    def _say(self, text: str) -> None:
        self._writer.send(render_information(text))

    # -- the end -------------------------------------------------------------------------------------------------------

    def _stop(self, reason: str) -> None:
        if self._inbox and reason == "end of input":
            self._loop.call_soon(self._stop, reason)  # lines that came before it are still to be taken
            return
        self._stopping = True
        if not self._stopped.done():
            self._stopped.set_result(reason)

    def _check_settled(self) -> None:
        if self._stopping and not self._lanes and not self._riders and not self._settled.done():
            self._settled.set_result(None)

    async def _drain(self, reason: str) -> None:
        """Let everything that was asked be answered (each has its deadline), say goodbye, let go of all connections."""
        self._check_settled()
        settings = self._live.current
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout((settings.helper.deadline if settings else 0.0) + 1.0):
                await self._settled
        self._log.info("stops", reason=reason)
        if self._quit is not None:
            self._writer.send(render_reply(self._quit, Ok()))
        if self._warm_up is not None:
            self._warm_up.cancel()
        if self._service is not None:
            await self._service.retire(_FAREWELL)
        for task in tuple(self._retiring):
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(None, self._writer.finish, _FLUSH)
