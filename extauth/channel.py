"""The daemon's stdin and stdout: request lines in, reply lines out, by plain read and write calls.

Both may be a pipe, a socket, a file or a terminal, blocking or not, so neither depends on asyncio's pipe support.
Reading goes on in a thread of its own, whatever the rest of the helper does. A reply is one write; a reader that
takes nothing delays replies, never the reading of requests. Memory is bounded on both sides.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from extauth.protocol import REQUEST_LIMIT

_CHUNK: Final = 65536  # one full pipe
_BACKLOG_LIMIT: Final = 16 << 20  # bytes of replies that nobody takes: half a million requests' worth


class Line(NamedTuple):
    """A request line as it came, when it was read (time.monotonic()), and whether its line end came too."""

    data: bytes
    read_at: float
    complete: bool = True


class RequestReader:
    """Reads lines from a descriptor in a thread of its own and hands them over in batches, until the end of input."""

    def __init__(
        self, descriptor: int, deliver: Callable[[list[Line]], None], ended: Callable[[], None], name: str = "stdin"
    ) -> None:
        """`deliver` and `ended` are called in the reader's thread and must not wait."""
        self._descriptor = descriptor
        self._deliver = deliver
        self._ended = ended
        self._thread = threading.Thread(target=self._read_all, name=name, daemon=True)

    def start(self) -> None:
        """Begin to read. There is no stop: the thread ends with its input or with the process."""
        self._thread.start()

    def _read_all(self) -> None:
        try:
            splitter = LineSplitter()
            while chunk := self._read():
                if lines := splitter.feed(chunk, time.monotonic()):
                    self._deliver(lines)
            if rest := splitter.finish(time.monotonic()):
                self._deliver([rest])
        finally:
            self._ended()

    def _read(self) -> bytes:
        """What is there, after waiting for it; b"" at the end, which every error is too."""
        while True:
            try:
                return os.read(self._descriptor, _CHUNK)
            except BlockingIOError:
                select.select([self._descriptor], [], [])
            except (OSError, ValueError):
                return b""


class LineSplitter:
    """Bytes in, lines out. Of a line over REQUEST_LIMIT only the beginning is kept: enough to answer its number."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def feed(self, chunk: bytes, now: float) -> list[Line]:
        """The lines that `chunk` completes, each without its LF."""
        first, *others = chunk.split(b"\n")
        if self._skipping:
            first = b""  # the rest of a line that was too long
        if len(self._rest) + len(first) > REQUEST_LIMIT + 1:  # the one byte more tells the parser
            first = first[: REQUEST_LIMIT + 1 - len(self._rest)]
            self._skipping = True
        joined = self._rest + first
        if not others:
            self._rest = joined
            return []
        self._skipping = False
        pieces = [joined, *others]
        self._rest = pieces.pop()
        return [Line(piece, now) for piece in pieces]

    def finish(self, now: float) -> Line | None:
        """The last line, which has no line end; None where nothing is left."""
        return Line(self._rest, now, complete=False) if self._rest else None


class ReplyWriter:
    """Writes lines to a descriptor, each by one write call and none between the parts of another.

    `send` never waits: what does not fit right now is written by a thread, in order. Any thread may call it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Condition()
        self._backlog: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._thread: threading.Thread | None = None
        self._poll = select.poll()
        self._socket: socket.socket | None = None
        self._own = -1  # the same pipe, opened anew so that its writes never wait
        self.broken = False
        self.dropped = 0
        try:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISSOCK(mode):
                self._socket = socket.socket(fileno=os.dup(descriptor))
            elif stat.S_ISFIFO(mode):
                self._own = _open_anew(descriptor)
            self._poll.register(descriptor, select.POLLOUT)
        except OSError:
            self.broken = True

    def send(self, line: bytes) -> None:
        """Write `line`, now where it fits without waiting. A broken pipe loses it, as the server is gone then."""
        with self._lock:
            if self.broken:
                return
            if not self._backlog and self._thread_idle():
                line = self._write_now(line)
                if not line or self.broken:
                    return
            if self._waiting_bytes + len(line) > _BACKLOG_LIMIT:
                self.dropped += 1  # a server that takes no replies for so long has given these requests up
                return
            self._backlog.append(line)
            self._waiting_bytes += len(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_backlog, name="stdout", daemon=True)
                self._thread.start()
            self._lock.notify_all()

    def finish(self, timeout: float) -> bool:
        """Wait until all is written, at most `timeout` seconds; whether it is."""
        with self._lock:
            return self._lock.wait_for(lambda: self.broken or not self._waiting_bytes, timeout)

    def _thread_idle(self) -> bool:
        return self._waiting_bytes == 0

    def _write_now(self, line: bytes) -> bytes:
        """Write what goes without waiting; what is left comes back."""
        try:
            if self._socket is not None:
                return line[self._socket.send(line, socket.MSG_DONTWAIT) :]
            if self._own >= 0:
                return line[os.write(self._own, line) :]
            # POLLOUT on a pipe promises room for PIPE_BUF bytes, which no reply line exceeds
            if not self._poll.poll(0):
                return line
            return line[os.write(self._descriptor, line) :]
        except BlockingIOError:
            return line
        except OSError:
            self.broken = True
            self._lock.notify_all()
            return b""

    def _write_backlog(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: bool(self._backlog))
                line = self._backlog.popleft()
            self._write_waiting(line)
            with self._lock:
                self._waiting_bytes -= len(line)
                if self.broken:
                    self._backlog.clear()
                    self._waiting_bytes = 0
                if not self._waiting_bytes:
                    self._lock.notify_all()

    def _write_waiting(self, line: bytes) -> None:
        while line and not self.broken:
            try:
                line = line[os.write(self._descriptor, line) :]
            except BlockingIOError:
                with contextlib.suppress(OSError):
                    self._poll.poll(1000)
            except OSError:
                self.broken = True


def _open_anew(descriptor: int) -> int:
    """The pipe behind `descriptor` as a second open file, so that only ours is non-blocking; -1 where that is refused.

    The descriptor itself stays as it was: its flags are shared with whoever gave it to us.
    """
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return -1
