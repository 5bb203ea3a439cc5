"""The one place that opens sockets: a byte stream with a buffer, a deadline and TLS.

Every wait ends at the stream's deadline with Temporary. After any Temporary the stream is closed:
a dialogue that lost its place is never taken up again. Below the buffer, what comes may be unpacked
(COMPRESS) and kept from coming too fast (RateLimit).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from typing import Final

from wire.buffer import LINE_LIMIT, ReceiveBuffer
from wire.compression import Deflater, Inflater
from wire.descriptors import is_short
from wire.endpoint import Endpoint, Security, TlsPolicy, tls_context
from wire.outcome import HungUp, OutOfFiles, ProtocolTrouble, SetupTrouble, Temporary, Unreachable
from wire.rate import RateLimit
from wire.resolver import resolver

_HIGH_WATER = 1 << 20  # bytes read ahead before reading pauses: one pipelined batch, not a mailbox
_LOW_WATER = 1 << 18
_NEXT: Final = 2.0  # seconds for each address of a name but the last: most names with several have one that answers
_SMALLEST_WINDOW: Final = 1 << 14  # of the kernel's receive buffer under a RateLimit
_USUAL_WINDOW: Final = 1 << 17  # from here on the kernel chooses better itself
_QUICK: Final = getattr(socket, "TCP_QUICKACK", 0)  # Linux only
_OUR_LIMITS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_TICK: Final = 0.002  # seconds that a loop's timer may come early: uvloop counts whole milliseconds


class _Protocol(asyncio.Protocol):
    """Feeds the buffer and wakes the one reader; pauses reading when the buffer is full."""

    def __init__(self) -> None:
        self.buffer = ReceiveBuffer()
        self.transport: asyncio.Transport | None = None
        self.ended = False
        self.error: Exception | None = None
        self._reader: asyncio.Future[bool] | None = None
        self._deadline: float | None = None  # of the reader that waits
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._drain: asyncio.Future[None] | None = None
        self._full = False  # the buffer; or more would come out of the inflater
        self._held = False  # by the limit
        self._held_until = 0.0
        self._release_timer: asyncio.TimerHandle | None = None
        self._reading_paused = False
        self._writing_paused = False
        self.inflater: Inflater | None = None
        self.limit: RateLimit | None = None
        self.prompt: socket.socket | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # asyncio hands a Transport to a stream protocol

    def data_received(self, data: bytes) -> None:
        if self.prompt is not None:
            self.prompt.setsockopt(socket.IPPROTO_TCP, _QUICK, 1)  # the kernel forgets it again
        if self.limit is not None:
            self._hold(self.limit.take(len(data)))
        if self.inflater is not None:
            self.inflater.feed(data)
            self.inflate()
        else:
            self.buffer.feed(data)
            if len(self.buffer) > _HIGH_WATER:
                self._full = True
        if self._full or self._held:
            self._regulate()
        self._wake()

    def inflate(self) -> bool:
        """Unpack a portion of what came; False if all of it is in the buffer."""
        if self.inflater is None or not self.inflater.pending:
            return False
        try:
            self.buffer.feed(self.inflater.take(max(_LOW_WATER, _HIGH_WATER - len(self.buffer))))
        except ProtocolTrouble as trouble:
            self.inflater = None
            self.error, self.ended = trouble, True
            if self.transport is not None:
                self.transport.abort()
            return True
        self._full = self.inflater.pending or len(self.buffer) > _HIGH_WATER
        return True

    def _hold(self, seconds: float) -> None:
        """Take nothing more for so long; a reader that waits meanwhile has that much more time."""
        if seconds <= 0:
            return
        loop = asyncio.get_running_loop()
        self._held, self._held_until = True, loop.time() + seconds
        if self._release_timer is not None:
            self._release_timer.cancel()
        self._release_timer = loop.call_at(self._held_until, self._release)

    def _release(self) -> None:
        self._release_timer = None
        more = self.limit.take(0) if self.limit is not None else 0.0
        if more > _TICK:  # other connections have used it up
            if self._deadline is not None:
                self._deadline += more
            self._hold(more)
            return
        self._held = False
        self._regulate()

    def _regulate(self) -> None:
        """Pause or resume reading, as things are now."""
        pause = self._full or self._held
        if pause != self._reading_paused and self.transport is not None and not self.ended:
            self._reading_paused = pause
            if pause:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def eof_received(self) -> bool:
        self.ended = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self.error = self.error or exc
        self._wake()
        if self._timer is not None:
            self._timer.cancel()  # it would keep all of this until a deadline that nobody waits for
            self._timer = None
        if self._release_timer is not None:
            self._release_timer.cancel()
            self._release_timer = None
        if self._drain is not None and not self._drain.done():
            self._drain.set_result(None)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        if self._drain is not None and not self._drain.done():
            self._drain.set_result(None)

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(True)

    def resume_if_low(self) -> None:
        if self._full and len(self.buffer) < _LOW_WATER:
            if not self.inflate():
                self._full = False
            self._regulate()

    async def wait_data(self, deadline: float | None) -> bool:
        """Wait for news; False when `deadline` came first."""
        if self._reading_paused:
            self._full = False  # a block longer than the mark is being awaited
            self._regulate()
        loop = asyncio.get_running_loop()
        self._reader = loop.create_future()
        if self._held and deadline is not None:
            deadline += max(0.0, self._held_until - loop.time())
        self._deadline = deadline
        if deadline is not None and (self._timer is None or self._timer_at > deadline):
            self._set_timer(loop, deadline)
        try:
            return await self._reader
        finally:
            self._reader = None

    def _set_timer(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        """One timer for many waits: it is only set anew when it comes too late, and looks again when it comes early."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = loop.call_at(at, self._look, loop), at

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._reader is None or self._reader.done() or self._deadline is None:
            return
        if loop.time() >= self._deadline - _TICK:
            self._reader.set_result(False)
        else:
            self._set_timer(loop, self._deadline)

    async def wait_drain(self) -> None:
        while self._writing_paused and not self.ended:
            self._drain = asyncio.get_running_loop().create_future()
            try:
                await self._drain
            finally:
                self._drain = None


class Stream:
    """A connection to `endpoint`. Not for two readers at once; one reader beside one writer is fine."""

    def __init__(self, endpoint: Endpoint, protocol: _Protocol, transport: asyncio.Transport) -> None:
        self.endpoint = endpoint
        self.deadline: float | None = None  # absolute, in the running loop's time(); None waits for ever
        self.secure = False
        self._protocol = protocol
        self._transport = transport
        self._beneath: asyncio.Transport | None = None  # what TLS runs over
        self._closed = False
        self._deflater: Deflater | None = None

    @classmethod
    async def open(cls, endpoint: Endpoint, tls: TlsPolicy, *, deadline: float | None = None) -> Stream:
        """Connect, with TLS from the first byte where the endpoint says so.

        Unreachable when nobody answers in time; SetupTrouble for a certificate or TLS version that is not accepted.
        """
        protocol = _Protocol()
        implicit = endpoint.security is Security.TLS
        if implicit:
            _context(endpoint, tls)  # what is wrong with it is said before anybody is asked
        try:
            async with asyncio.timeout_at(deadline):
                transport = await _connect(endpoint, protocol)
        except TimeoutError:
            raise Unreachable(f"{endpoint}: no connection in time") from None
        except OSError as error:
            if error.errno in _OUR_LIMITS:
                hint = " (see ulimit -n)" if error.errno == errno.EMFILE else ""
                raise OutOfFiles(f"{endpoint}: not asked: {error.strerror} here{hint}") from None
            raise Unreachable(f"{endpoint}: cannot connect: {str(error) or type(error).__name__}") from None
        except ValueError as error:  # UnicodeError among them: a host that IDNA cannot name
            raise SetupTrouble(f"{endpoint}: not a host name: {error}") from None
        stream = cls(endpoint, protocol, transport)
        stream.deadline = deadline
        if implicit:
            await stream.start_tls(tls)
        return stream

    async def start_tls(self, tls: TlsPolicy) -> None:
        """Upgrade after the server agreed. Bytes that came in the clear behind its agreement end the dialogue."""
        if self._protocol.buffer.clear():
            self.abort()
            if self.endpoint.security is Security.TLS:
                raise SetupTrouble(f"{self.endpoint}: the server does not begin with TLS on this port")
            raise SetupTrouble(f"{self.endpoint}: bytes came in the clear behind the answer to STARTTLS")
        if self._protocol.ended:  # asyncio would wait for a handshake with nobody
            self.abort()
            raise Temporary(f"{self.endpoint}: connection closed by the server while TLS started")
        loop = asyncio.get_running_loop()
        try:
            context = _context(self.endpoint, tls)
            async with asyncio.timeout_at(self.deadline):
                transport = await loop.start_tls(
                    self._transport, self._protocol, context, server_hostname=self.endpoint.host
                )
        except (SetupTrouble, asyncio.CancelledError):
            self.abort()
            raise
        except TimeoutError:
            self.abort()
            raise Temporary(f"{self.endpoint}: TLS not ready in time") from None
        except ssl.SSLCertVerificationError as error:
            self.abort()
            raise SetupTrouble(f"{self.endpoint}: certificate not accepted: {error.verify_message}") from None
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            self.abort()
            raise Temporary(f"{self.endpoint}: connection closed by the server while TLS started") from None
        except ssl.SSLError as error:
            self.abort()
            raise SetupTrouble(f"{self.endpoint}: TLS failed: {error.reason or error}") from None
        except OSError as error:
            self.abort()
            raise Temporary(
                f"{self.endpoint}: connection lost while TLS started: {str(error) or type(error).__name__}"
            ) from None
        if transport is None:
            self.abort()
            raise Temporary(f"{self.endpoint}: connection lost while TLS started")
        self._transport, self._beneath = transport, self._transport
        self._protocol.transport = transport
        self.secure = True

    def start_compression(self) -> None:
        """Deflate both ways from now on (RFC 4978 3), what has come behind the server's agreement included."""
        protocol = self._protocol
        self._deflater, protocol.inflater = Deflater(), Inflater()
        protocol.inflater.feed(protocol.buffer.take_some(len(protocol.buffer)))
        protocol.inflate()

    @property
    def compressed(self) -> bool:
        """Whether both directions are deflated."""
        return self._deflater is not None

    def keep_to(self, limit: RateLimit) -> None:
        """Receive no faster than `limit` allows all who share it, counted as bytes come over the wire."""
        self._protocol.limit = limit
        window = max(_SMALLEST_WINDOW, limit.rate // 4)
        sock = self._transport.get_extra_info("socket")
        if sock is not None and window < _USUAL_WINDOW:  # else whole megabytes come first, and long pauses after
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)

    def acknowledge_at_once(self) -> None:
        """Acknowledge what comes without delay. A server that writes two small replies in a row, as Postfix does
        around BDAT, holds the second back until then (RFC 896), and kernels let it wait for 40 ms."""
        if _QUICK and self.peer is not None:
            self._protocol.prompt = self._transport.get_extra_info("socket")

    @property
    def peer(self) -> tuple[str, int] | None:
        """Numeric address and port of the other side, while connected."""
        name = self._transport.get_extra_info("peername")
        return (name[0], name[1]) if name else None

    @property
    def usable(self) -> bool:
        """Open, and the peer has neither hung up nor said anything unasked: fit to be reused from a pool."""
        return not self._closed and not self._protocol.ended and not len(self._protocol.buffer)

    @property
    def buffered(self) -> int:
        """Bytes received and not yet taken."""
        return len(self._protocol.buffer)

    async def read_line(self, limit: int = LINE_LIMIT) -> bytes:
        """The next line, without its line end. A line cut off by end of file is never given."""
        protocol = self._protocol
        while (line := protocol.buffer.take_line(limit)) is None:
            await self._wait()
        protocol.resume_if_low()
        return line

    async def read_exact(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        protocol = self._protocol
        while (block := protocol.buffer.take_exact(count)) is None:
            await self._wait()
        protocol.resume_if_low()
        return block

    async def read_some(self, most: int = 65536) -> bytes:
        """Between 1 and `most` bytes: what is here, after waiting for the first."""
        protocol = self._protocol
        while not (block := protocol.buffer.take_some(most)):
            await self._wait()
        protocol.resume_if_low()
        return block

    def unread(self, data: bytes) -> None:
        """Put back what was read last and belongs to what comes next."""
        self._protocol.buffer.unread(data)

    async def write(self, data: bytes) -> None:
        """Send `data` as one write; waits only while the peer takes nothing."""
        self.write_soon(data)
        if self._protocol._writing_paused:
            await self.drain()

    def write_soon(self, data: bytes) -> None:
        """Queue `data` without waiting; `drain` later where much is queued."""
        if self._closed or self._protocol.ended:
            raise self._lost()
        self._transport.write(data if self._deflater is None else self._deflater.pack(data))

    async def drain(self) -> None:
        """Wait until the peer took enough of what was written."""
        try:
            async with asyncio.timeout_at(self.deadline):
                await self._protocol.wait_drain()
        except TimeoutError:
            self.abort()
            raise Temporary(f"{self.endpoint}: the server takes no data") from None
        if self._protocol.ended:
            raise self._lost()

    async def _wait(self) -> None:
        if self._protocol.inflate():
            return
        if self._closed or self._protocol.ended:
            raise self._lost()
        if not await self._protocol.wait_data(self.deadline):
            self.abort()
            raise Temporary(f"{self.endpoint}: no answer in time")

    def _lost(self) -> Temporary:
        error = self._protocol.error
        self.abort()
        if isinstance(error, ProtocolTrouble):
            return error
        return HungUp(f"{self.endpoint}: connection closed by the server" + (f": {error}" if error else ""))

    def close(self) -> None:
        """Close after what is queued was sent; never waits, not for the peer's end of TLS either (RFC 8446 6.1)."""
        self._closed = True
        if not self._transport.is_closing():  # asyncio's TLS breaks when it is closed twice
            self._transport.close()
        if self._beneath is not None and not self._transport.get_write_buffer_size():
            self._beneath.close()

    def abort(self) -> None:
        """Drop the connection at once; nothing more is sent (a half-sent literal stays half-sent, never padded)."""
        self._closed = True
        self._transport.abort()


async def _connect(endpoint: Endpoint, protocol: _Protocol) -> asyncio.Transport:
    """Connect to the first address that answers. OSError of the last one if none does; the caller has the deadline.

    Both loops set TCP_NODELAY, without which a late small segment would cost 40 ms.
    """
    if is_short():
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    loop, host = asyncio.get_running_loop(), endpoint.host
    *others, last = addresses = await resolver().addresses(host)
    for address in others:
        with contextlib.suppress(OSError, TimeoutError):  # the next one may answer
            async with asyncio.timeout(_NEXT):
                transport, _ = await loop.create_connection(lambda: protocol, address, endpoint.port)
                if address != addresses[0]:
                    resolver().prefer(host, address)
                return transport
    transport, _ = await loop.create_connection(lambda: protocol, last, endpoint.port)
    if others:
        resolver().prefer(host, last)
    return transport


def _context(endpoint: Endpoint, tls: TlsPolicy) -> ssl.SSLContext:
    """The TLS context; a CA file that cannot be read is the operator's trouble, not the server's."""
    try:
        return tls_context(tls)
    except OSError as error:  # ssl.SSLError among them
        raise SetupTrouble(f"{endpoint}: CA file {tls.ca_file!r} cannot be used: {error.strerror or error}") from None
