"""A private Cyrus IMAP server on loopback, with an administrator and as many users as a test wants.

Known manners, all Cyrus's: it refuses messages with NUL, a bad header line or an impossible name of a mailbox, and an
administrator may act as any user (SASL PLAIN with an authorization identity).
"""

from __future__ import annotations

import os
import pwd
import socket
import struct
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.servers.private_server import PrivateServer
from tests.servers.process import ServerTrouble, free_ports
from tests.servers.raw_imap import RawImap
from tests.servers.unpacked import environment, unpacked

_MAIL_USER = "mail"
ADMIN, ADMIN_PASSWORD = "cyrus", b"admin secret"

_IMAPD = """\
configdirectory: {directory}/conf
partition-default: {directory}/spool
defaultpartition: default
cyrus_user: {user}
admins: {admin}
allowplaintext: yes
sasl_pwcheck_method: saslauthd
sasl_saslauthd_path: {directory}/mux
sasl_mech_list: PLAIN LOGIN
unixhierarchysep: {unix}
altnamespace: {alternative}
virtdomains: off
delete_mode: immediate
skiplist_unsafe: yes
popminpoll: 0
lmtpsocket: {directory}/lmtp
idlesocket: {directory}/idle
notifysocket: {directory}/notify
tls_server_cert: disabled
tls_server_key: disabled
{extra}
"""

_SERVICES = """\
START {{
}}
SERVICES {{
  imap cmd="{imapd} -C {directory}/imapd.conf -U 500" listen="{host}:{port}" prefork=2 maxchild=60
}}
EVENTS {{
}}
"""


class Cyrus(PrivateServer):
    """One instance. `with Cyrus({"u1": b"secret"}) as old: old.imap_port`.

    `unix` chooses `/` or `.` as the separator,
    `alternative` whether a user's mailboxes stand beside INBOX or under it.
    """

    def __init__(
        self,
        users: Mapping[str, bytes] | None = None,
        *,
        unix: bool = True,
        alternative: bool = True,
        extra: str = "",
    ) -> None:
        super().__init__("cyrus.log")
        self.users = dict(users or {})
        self.imap_port = 0
        self.separator = b"/" if unix else b"."
        self._options = {"unix": _yes(unix), "alternative": _yes(alternative), "extra": extra}
        self._passwords = _Passwords(self.directory / "mux", self.users)
        account = pwd.getpwnam(_MAIL_USER)
        self._uid, self._gid = account.pw_uid, account.pw_gid

    def start(self) -> None:
        """Start, or start again on the same port; the users' INBOXes are made the first time."""
        first = not self._has_ports
        if first:
            self._prepare()
        self._passwords.open()
        super().start()
        if first:
            self.add_users(self.users)

    def stop(self) -> None:
        """Stop the server and keep its mail; connections to its port are refused from now on."""
        super().stop()
        self._passwords.close()

    def admin(self) -> RawImap:
        """A session of the administrator's, in whose eyes a user's INBOX is `user/NAME`."""
        return RawImap(self.host, self.imap_port, ADMIN, ADMIN_PASSWORD)

    def open(self, login: str) -> RawImap:
        """A session of a user's."""
        return RawImap(self.host, self.imap_port, login, self.users[login])

    def add_users(self, users: Mapping[str, bytes]) -> None:
        """More users, each with an INBOX."""
        self.users.update(users)
        with self.admin() as session:
            for login in users:
                session.create(b"user" + self.separator + login.encode())

    def _prepare(self) -> None:
        for name in ("conf", "spool", "conf/db", "conf/proc", "conf/lock", "conf/socket"):
            path = self.directory / name
            path.mkdir(exist_ok=True)
            os.chown(path, self._uid, self._gid)
        os.chown(self.directory, self._uid, self._gid)

    def _choose_ports(self) -> None:
        (self.imap_port,) = free_ports(1)

    def _was_taken(self, trouble: ServerTrouble) -> bool:
        return True  # its log goes to syslog, where nobody of the tests reads it

    def _write_configuration(self) -> None:
        text = _IMAPD.format(directory=self.directory, user=_MAIL_USER, admin=ADMIN, **self._options)
        (self.directory / "imapd.conf").write_text(text, "utf-8")
        imapd = unpacked("usr/lib/cyrus/bin/imapd")
        services = _SERVICES.format(imapd=imapd, directory=self.directory, host=self.host, port=self.imap_port)
        (self.directory / "cyrus.conf").write_text(services, "utf-8")

    def _launch(self) -> None:
        self._write_configuration()
        configuration = str(self.directory / "imapd.conf")
        subprocess.run(
            [unpacked("usr/lib/cyrus/bin/ctl_cyrusdb"), "-C", configuration, "-r"],
            env=environment(),
            check=True,
            capture_output=True,
        )
        master = [unpacked("usr/lib/cyrus/bin/master"), "-C", configuration, "-M", str(self.directory / "cyrus.conf")]
        command = [*master, "-p", str(self.directory / "master.pid")]
        self._server.start(command, self.host, [self.imap_port], environment=environment())


def _yes(value: bool) -> str:
    return "yes" if value else "no"


class _Passwords:
    """What Cyrus asks about passwords, as saslauthd would answer it: four counted strings in, `OK` or `NO` out."""

    def __init__(self, path: Path, users: Mapping[str, bytes]) -> None:
        self._path = path
        self._users = users
        self._listener: socket.socket | None = None

    def open(self) -> None:
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._path.chmod(0o777)
        self._listener.listen(128)
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # ends accept() in the thread
            self._listener.close()
            self._listener = None

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError, EOFError):
                connection.settimeout(10)
                login, password, _service, _realm = (_counted(connection) for _ in range(4))
                good = password == {ADMIN: ADMIN_PASSWORD, **self._users}.get(login.decode("utf-8", "replace"))
                answer = b"OK" if good else b"NO"
                connection.sendall(struct.pack("!H", len(answer)) + answer)


def _counted(connection: socket.socket) -> bytes:
    (length,) = struct.unpack("!H", _exactly(connection, 2))
    return _exactly(connection, length)


def _exactly(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        piece = connection.recv(count - len(received))
        if not piece:
            raise EOFError
        received += piece
    return received
