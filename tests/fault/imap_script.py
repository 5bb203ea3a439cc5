"""A loopback server that plays one side of an IMAP dialogue from a script, cut off after any number of bytes."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from wire.endpoint import Endpoint, Security, TlsPolicy
from wire.imap.client import ImapClient
from wire.secret import Secret

_COMMAND = re.compile(rb"([A-Za-z0-9]+) ([A-Za-z]+(?: [A-Z]+)?)")
_NTH = re.compile(rb"TAG@(\d+)")


@dataclass(frozen=True, slots=True)
class Step:
    """Wait for a line that holds `expect` (b"" for any, None for no waiting), then say `reply`.

    `TAG` in a reply is the tag of the last command, `TAG@0` that of the first one. Empty replies are waiting only;
    `read` more bytes are taken after the line (a literal), `tls` starts TLS after the reply.
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


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """The port of a loopback server; every connection is closed at the end."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        for _ in range(5):  # a connection made a moment ago has its handler only some turns of the loop later
            await asyncio.sleep(0)
        server.close()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=5)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


@asynccontextmanager
async def imap_script(
    steps: Sequence[Step], *, cut: int | None = None, security: Security = Security.PLAIN, hang: bool = False
) -> AsyncIterator[Script]:
    """Play `steps`; hang up after `cut` bytes, or at the end (with `hang`, stay silent instead)."""
    script = Script(Endpoint("imap", "127.0.0.1", 0, security))

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script.connections += 1
        try:
            await _play(script, steps, reader, writer, cut)
            if hang:
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError) as error:
            script.troubles.append(repr(error))
        except AssertionError as error:
            script.troubles.append(str(error))

    async with serving(handle) as port:
        script.endpoint = Endpoint("imap", "127.0.0.1", port, security)
        yield script


@asynccontextmanager
async def logged_in(capabilities: bytes, *steps: Step) -> AsyncIterator[tuple[ImapClient, Script]]:
    """A client past its login at a server with `capabilities`."""
    said = b"[CAPABILITY %b]" % capabilities
    greeting = [Step(None, b"* OK %b ready\r\n" % said), Step(b"LOGIN", b"TAG OK %b done\r\n" % said)]
    async with imap_script([*greeting, *steps], hang=True) as script:
        deadline = asyncio.get_running_loop().time() + 20
        client = await ImapClient.connect(script.endpoint, TlsPolicy(), deadline=deadline)
        try:
            await client.login(b"u1", Secret(b"x"))
            yield client, script
        finally:
            client.close()
    assert not [trouble for trouble in script.troubles if trouble.startswith("expected")]


async def _play(
    script: Script,
    steps: Sequence[Step],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    cut: int | None,
) -> None:
    tags = [b"*"]
    for step in steps:
        if step.expect is not None:
            line = await reader.readline()
            if not line:
                return
            script.lines.append(line)
            assert step.expect in line, f"expected {step.expect!r}, got {line!r}"
            command = _COMMAND.match(line)
            if command:
                tags.append(command[1])
        if step.read:
            script.literals.append(await reader.readexactly(step.read))
        said = _NTH.sub(lambda match: tags[1 + int(match[1])], step.reply).replace(b"TAG", tags[-1])
        if cut is not None and script.said + len(said) >= cut:
            writer.write(said[: cut - script.said])
            script.said = cut
            return
        script.said += len(said)
        writer.write(said)
        await writer.drain()
        if step.tls is not None:
            await writer.start_tls(step.tls)
