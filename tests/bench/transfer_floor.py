"""The raw floor of a copy: what the two servers give to a client that does nothing but move bytes.

One FETCH of everything, thrown away as it arrives; and MULTIAPPENDs of messages that are ready in memory.
"""

from __future__ import annotations

import base64
import secrets
import socket
import time
from collections.abc import Iterator, Mapping, Sequence

from tests.servers.raw_imap import Stored, quoted

BATCH_MESSAGES, BATCH_OCTETS, IN_FLIGHT = 200, 2_000_000, 8
RANGE = 500  # UIDs in one FETCH


def fetch_everything(host: str, port: int, login: str, password: bytes, mailboxes: Mapping[str, int]) -> float:
    """Seconds for every message of the mailboxes (with their highest UIDs), all commands sent at once."""
    with _session(host, port, login, password) as link:
        began = time.monotonic()
        end = secrets.token_hex(12).encode()  # no message holds it by chance
        commands = bytearray()
        for mailbox, highest in mailboxes.items():
            commands += b"s EXAMINE %b\r\n" % quoted(mailbox.encode())
            for first in range(1, highest + 1, RANGE):
                commands += b"f UID FETCH %d:%d (UID FLAGS INTERNALDATE BODY.PEEK[])\r\n" % (first, first + RANGE - 1)
        link.sendall(commands + end + b" NOOP\r\n")
        _read_until(link, b"\r\n" + end + b" OK")
        return time.monotonic() - began


def append_everything(
    host: str, port: int, login: str, password: bytes, boxes: Mapping[str, Sequence[Stored]]
) -> float:
    """Seconds for the messages in MULTIAPPENDs, IN_FLIGHT of them at most without their answers."""
    with _session(host, port, login, password) as link:
        for mailbox in boxes:
            if mailbox != "INBOX":
                link.sendall(b"c CREATE %b\r\n" % quoted(mailbox.encode()))
                _read_until(link, b"c OK")
        batches = [command for mailbox, messages in boxes.items() for command in _batches(mailbox, messages)]
        answers = link.makefile("rb")
        began = time.monotonic()
        for number, command in enumerate(batches):
            if number >= IN_FLIGHT:
                _answer(answers.readline())
            link.sendall(command)
        for _ in range(min(IN_FLIGHT, len(batches))):
            _answer(answers.readline())
        seconds = time.monotonic() - began
        answers.close()
        return seconds


def _answer(line: bytes) -> None:
    assert line.startswith(b"m OK"), line


def _batches(mailbox: str, messages: Sequence[Stored]) -> Iterator[bytes]:
    """MULTIAPPEND commands (RFC 3502) with LITERAL+ (RFC 7888)."""
    start = b"m APPEND " + quoted(mailbox.encode())
    command, count = bytearray(start), 0
    for message in messages:
        if count == BATCH_MESSAGES or (count and len(command) + len(message.content) > BATCH_OCTETS):
            yield bytes(command + b"\r\n")
            command, count = bytearray(start), 0
        head = b' (%b) "%b" {%d+}\r\n' % (b" ".join(message.flags), message.internal_date, len(message.content))
        command += head + message.content
        count += 1
    if count:
        yield bytes(command + b"\r\n")


def _session(host: str, port: int, login: str, password: bytes) -> socket.socket:
    link = socket.create_connection((host, port), timeout=120)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    response = base64.b64encode(b"\0" + login.encode() + b"\0" + password)
    _read_until(link, b"* OK")
    link.sendall(b"l AUTHENTICATE PLAIN %b\r\n" % response)
    _read_until(link, b"l OK")
    return link


def _read_until(link: socket.socket, mark: bytes) -> None:
    """Read and forget up to the line that begins with `mark`."""
    rest = b""
    while True:
        data = link.recv(1 << 20)
        assert data, f"the server hung up after {rest!r}"
        rest += data
        if (at := rest.find(mark)) >= 0 and rest.endswith(b"\r\n") and b"\r\n" in rest[at + 2 :]:
            return
        rest = rest[-2000:]
