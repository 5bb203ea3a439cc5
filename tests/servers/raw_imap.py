"""The tests' own way to put mail into an IMAP server and to read it back: raw bytes, no code of the project.

It trusts the server's framing and is no model of a client.
"""

from __future__ import annotations

import base64
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

_LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")


@dataclass(frozen=True, slots=True)
class Stored:
    """One message as the server gives it back."""

    uid: int
    flags: frozenset[bytes]
    internal_date: bytes
    content: bytes


class RawImap:
    """A logged-in session. Every method raises AssertionError with the server's words when it says no."""

    def __init__(self, host: str, port: int, login: str, password: bytes, *, authzid: str = "") -> None:
        self._socket = socket.create_connection((host, port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")
        self._tag = 0
        try:
            greeting = self._file.readline()
            assert greeting.startswith(b"* OK"), greeting
            response = base64.b64encode(authzid.encode() + b"\0" + login.encode() + b"\0" + password)
            self._authenticate(response)
            self.capabilities = frozenset(b" ".join(self.command(b"CAPABILITY")).upper().split())
        except BaseException:
            self.close()
            raise

    def _authenticate(self, response: bytes) -> None:
        self._socket.sendall(b"t0 AUTHENTICATE PLAIN\r\n")
        answer = self._response()
        assert answer.startswith(b"+"), answer
        self._socket.sendall(response + b"\r\n")
        self._until(b"t0")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()

    def command(self, line: bytes) -> list[bytes]:
        """Send one command; the untagged responses, each with its literals inside."""
        self._tag += 1
        tag = b"t%d" % self._tag
        self._socket.sendall(tag + b" " + line + b"\r\n")
        return self._until(tag)

    def _until(self, tag: bytes) -> list[bytes]:
        responses: list[bytes] = []
        while True:
            response = self._response()
            if response.startswith(tag + b" "):
                assert response.startswith(tag + b" OK"), response
                return responses
            responses.append(response)

    def _response(self) -> bytes:
        parts: list[bytes] = []
        while True:
            line = self._file.readline()
            assert line.endswith(b"\n"), f"connection closed after {parts!r}"
            parts.append(line)
            literal = _LITERAL.search(line)
            if literal is None:
                return b"".join(parts)
            parts.append(self._file.read(int(literal[1])))

    def create(self, *mailboxes: bytes) -> None:
        """Create mailboxes, given as they go on the wire (modified UTF-7, no quotes)."""
        for mailbox in mailboxes:
            self.command(b"CREATE " + quoted(mailbox))

    def append(
        self, mailbox: bytes, messages: Sequence[bytes], flags: Sequence[bytes] = (), dates: Sequence[datetime] = ()
    ) -> None:
        """Append messages, pipelined; all with the same flags, each with its date where dates are given."""
        first = self._tag + 1
        output = bytearray()
        for number, content in enumerate(messages):
            self._tag += 1
            date = b' "' + internal_date(dates[number]) + b'"' if dates else b""
            output += b"t%d APPEND %s (%s)%s {%d+}\r\n" % (
                self._tag,
                quoted(mailbox),
                b" ".join(flags),
                date,
                len(content),
            )
            output += content + b"\r\n"
            if len(output) > 30_000:  # answers are read before the socket's buffers fill both ways
                self._flush(output, first)
                first = self._tag + 1
        self._flush(output, first)

    def try_append(self, mailbox: bytes, message: Stored) -> bytes | None:
        """Append one message with its flags and date; what the server said if it refused it."""
        self._tag += 1
        tag = b"t%d" % self._tag
        flags = b" ".join(sorted(message.flags))
        wait = b"LITERAL+" not in self.capabilities
        size = b"{%d%b}" % (len(message.content), b"" if wait else b"+")
        self._socket.sendall(
            b'%b APPEND %b (%b) "%b" %b\r\n' % (tag, quoted(mailbox), flags, message.internal_date, size)
        )
        if wait:
            answer = self._response()
            if not answer.startswith(b"+"):
                return answer
        self._socket.sendall(message.content + b"\r\n")
        while not (answer := self._response()).startswith(tag + b" "):
            pass
        return None if answer.startswith(tag + b" OK") else answer

    def _flush(self, output: bytearray, first: int) -> None:
        self._socket.sendall(output)
        output.clear()
        for tag in range(first, self._tag + 1):
            self._until(b"t%d" % tag)

    def mailboxes(self, *, subscribed: bool = False) -> dict[bytes, frozenset[bytes]]:
        """Every mailbox with its attributes in lower case."""
        found = {}
        for response in self.command(b'LSUB "" *' if subscribed else b'LIST "" *'):
            match = re.match(rb"\* L(?:IST|SUB) \(([^)]*)\) (?:\"(?:\\.|[^\"])*\"|NIL) (.*)\r\n\Z", response, re.DOTALL)
            if match:
                found[_unquoted(match[2])] = frozenset(match[1].lower().split())
        return found

    def messages(self, mailbox: bytes) -> list[Stored]:
        """Every message of a mailbox by uid; nothing is marked as read."""
        self.command(b"EXAMINE " + quoted(mailbox))
        stored = []
        for response in self.command(b"UID FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])"):
            uid = re.search(rb"UID (\d+)", response)
            flags = re.search(rb"FLAGS \(([^)]*)\)", response)
            date = re.search(rb'INTERNALDATE "([^"]*)"', response)
            body = re.search(rb"BODY\[\] \{(\d+)\}\r\n", response)
            if not (uid and flags and date):
                continue
            start = body.end() if body else 0
            content = response[start : start + int(body[1])] if body else b""
            known = frozenset(flags[1].split()) - {rb"\Recent"}
            stored.append(Stored(int(uid[1]), known, date[1], content))
        return sorted(stored, key=lambda message: message.uid)


def internal_date(when: datetime) -> bytes:
    """`when` as APPEND wants it (RFC 3501 date-time, without the quotes)."""
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    return f"{when.day:2}-{months[when.month - 1]}-{when:%Y %H:%M:%S %z}".encode()


def quoted(name: bytes) -> bytes:
    """A mailbox name as a quoted string."""
    return b'"' + name.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def _unquoted(text: bytes) -> bytes:
    literal = re.match(rb"\{\d+\}\r\n", text)
    if literal:
        return text[literal.end() :]
    if text.startswith(b'"'):
        return re.sub(rb"\\(.)", rb"\1", text[1:-1])
    return text
