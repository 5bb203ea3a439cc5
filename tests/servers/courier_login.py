"""The login before Courier's imapd, a process of its own: `courier_login.py SETTINGS.json`, see `courier.py`.

Every connection is one process: it reads commands byte by byte until the login is done, so that nothing of what a
client pipelined behind it is lost, and then becomes imapd.
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

_LOGIN = re.compile(rb'LOGIN (?:"((?:\\.|[^"\\])*)"|(\S+)) (?:"((?:\\.|[^"\\])*)"|(\S+))\Z', re.IGNORECASE)
_LITERAL = re.compile(rb"\{(\d+)\}\Z")


def main(settings: dict[str, Any]) -> None:
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))  # the sessions go with their server
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    if not os.fork():
        _watch_files(settings)
    with socket.create_server(("127.0.0.1", settings["port"]), backlog=64) as listener:
        while True:
            connection, _ = listener.accept()
            if os.fork():
                connection.close()
                continue
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            with suppress(OSError, EOFError):
                _session(connection, settings)
            os._exit(0)


def _watch_files(settings: dict[str, Any]) -> None:
    """Become the file monitor that imapd would start for itself, and wait a second for, at every login."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _drop_rights(settings)
    name = settings["environment"]["GAM_CLIENT_ID"]
    os.execve(settings["monitor"], ["gam_server", "--notimeout", name], settings["environment"])


def _drop_rights(settings: dict[str, Any]) -> None:
    os.setgroups([])
    os.setgid(settings["gid"])
    os.setuid(settings["uid"])


def _session(connection: socket.socket, settings: dict[str, Any]) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if settings["preauth"]:
        _become(connection, settings, settings["preauth"], b"")
    offered = settings["environment"]["IMAP_CAPABILITY"].encode() + b" AUTH=PLAIN"
    connection.sendall(b"* OK [CAPABILITY " + offered + b"] Courier-IMAP ready.\r\n")
    while True:
        tag, _, command = _line(connection).partition(b" ")
        word = command.partition(b" ")[0].upper()
        if word == b"CAPABILITY":
            connection.sendall(b"* CAPABILITY " + offered + b"\r\n" + tag + b" OK CAPABILITY completed\r\n")
        elif word == b"NOOP":
            connection.sendall(tag + b" OK NOOP completed\r\n")
        elif word == b"LOGOUT":
            connection.sendall(b"* BYE Courier-IMAP server shutting down\r\n" + tag + b" OK LOGOUT completed\r\n")
            return
        elif word in (b"LOGIN", b"AUTHENTICATE"):
            login, password = _credentials(connection, command)
            if settings["users"].get(login) == base64.b64encode(password).decode():
                _become(connection, settings, login, tag)
            connection.sendall(tag + b" NO Login failed.\r\n")
        else:
            connection.sendall(tag + b" NO Error in IMAP command received by server.\r\n")


def _credentials(connection: socket.socket, command: bytes) -> tuple[str, bytes]:
    if command.upper().startswith(b"AUTHENTICATE PLAIN"):
        response = command[len(b"AUTHENTICATE PLAIN ") :]
        if not response:
            connection.sendall(b"+ \r\n")
            response = _line(connection)
        _, login, password = base64.b64decode(response).split(b"\0")
        return login.decode("utf-8", "replace"), password
    found = _LOGIN.match(command)
    if found is None:
        return "", b""
    words = [re.sub(rb"\\(.)", rb"\1", text) for text in (found[1] or found[2], found[3] or found[4] or b"")]
    return words[0].decode("utf-8", "replace"), words[1]


def _line(connection: socket.socket) -> bytes:
    """A command's line; its literals as quoted strings."""
    line = bytearray()
    while True:
        while not line.endswith(b"\r\n"):
            line += _exactly(connection, 1)
        del line[-2:]
        literal = _LITERAL.search(line)
        if literal is None:
            return bytes(line)
        connection.sendall(b"+ OK\r\n")
        content = _exactly(connection, int(literal[1]))
        line[literal.start() :] = b'"' + content.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def _exactly(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        piece = connection.recv(count - len(received))
        if not piece:
            raise EOFError
        received += piece
    return received


def _become(connection: socket.socket, settings: dict[str, Any], login: str, tag: bytes) -> None:
    home = os.path.join(settings["mail"], login)
    around = {
        **settings["environment"],
        "AUTHENTICATED": login,
        "HOME": home,
        "MAILDIR": "./Maildir",
        "TCPREMOTEIP": "127.0.0.1",
        "TCPREMOTEPORT": "1",
        "PROTOCOL": "IMAP",
    }
    if tag:
        around["IMAPLOGINTAG"] = tag.decode()
    os.dup2(connection.fileno(), 0)
    os.dup2(connection.fileno(), 1)
    _drop_rights(settings)
    os.chdir(home)
    os.execve(settings["imapd"], ["imapd", "Maildir"], around)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text("utf-8")))
