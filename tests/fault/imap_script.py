"""A loopback server that plays one side of an IMAP dialogue from a script, cut off after any number of bytes."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from wire.endpoint import Endpoint, Security

_COMMAND = re.compile(rb"([A-Za-z0-9]+) ([A-Za-z]+(?: [A-Z]+)?)")


@dataclass(frozen=True, slots=True)
class Step:
    """Wait for a line that holds `expect` (b"" for any, None for no waiting), then say `reply`.

    `TAG` in a reply is the tag of the last command. Empty replies are waiting only; `read` more bytes are taken after
    the line (a literal), `tls` starts TLS after the reply.
    """

    expect: bytes | None
    reply: bytes = b""
    read: int = 0
    tls: ssl.SSLContext | None = None


@dataclass(slots=True)
class Script:
    """What one connection came to."""

    endpoint: Endpoint
    lines: list[bytes] = field(default_factory=list)  # what the client sent, line by line
    literals: list[bytes] = field(default_factory=list)
    said: int = 0  # bytes sent by the server
    connections: int = 0
    troubles: list[str] = field(default_factory=list)


@asynccontextmanager
async def imap_script(
    steps: Sequence[Step], *, cut: int | None = None, security: Security = Security.PLAIN, hang: bool = False
) -> AsyncIterator[Script]:
    """Play `steps`; hang up after `cut` bytes, or at the end (with `hang`, stay silent instead)."""
    script = Script(Endpoint("imap", "127.0.0.1", 0, security))
    handlers: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        script.connections += 1
        try:
            await _play(script, steps, reader, writer, cut)
            if hang:
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError) as error:
            script.troubles.append(repr(error))
        except AssertionError as error:
            script.troubles.append(str(error))
        finally:
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    script.endpoint = Endpoint("imap", "127.0.0.1", server.sockets[0].getsockname()[1], security)
    try:
        yield script
    finally:
        server.close()
        if handlers:
            done, late = await asyncio.wait(handlers, timeout=5)
            for task in late:
                task.cancel()
            await asyncio.gather(*done, *late, return_exceptions=True)
        await server.wait_closed()


async def _play(
    script: Script,
    steps: Sequence[Step],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    cut: int | None,
) -> None:
    tag = b"*"
    for step in steps:
        if step.expect is not None:
            line = await reader.readline()
            if not line:
                return
            script.lines.append(line)
            assert step.expect in line, f"expected {step.expect!r}, got {line!r}"
            command = _COMMAND.match(line)
            tag = command[1] if command else tag
        if step.read:
            script.literals.append(await reader.readexactly(step.read))
        said = step.reply.replace(b"TAG", tag)
        if cut is not None and script.said + len(said) >= cut:
            writer.write(said[: cut - script.said])
            script.said = cut
            return
        script.said += len(said)
        writer.write(said)
        await writer.drain()
        if step.tls is not None:
            await writer.start_tls(step.tls)
