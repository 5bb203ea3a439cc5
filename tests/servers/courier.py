"""A private Courier IMAP server on loopback: Debian's imapd behind a small login of the tests, or greeting PREAUTH.

Courier's own login asks a daemon at a fixed path of the machine, which private instances cannot share; so
`courier_login.py` reads LOGIN or AUTHENTICATE and hands the connection to imapd the way Courier's imaplogin does (the
tag and the user's name in the environment). Everything behind the login is Courier: no LITERAL+, no MULTIAPPEND, all
mailboxes under `INBOX.`, separator `.`.
"""

from __future__ import annotations

import base64
import json
import os
import pwd
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.servers.private_server import PrivateServer
from tests.servers.process import free_ports
from tests.servers.unpacked import environment, unpacked

_MAIL_USER = "mail"
_CAPABILITY = "IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT THREAD=REFERENCES SORT QUOTA IDLE ACL"
_SETTINGS = {
    "IMAP_CAPABILITY": _CAPABILITY,
    "IMAP_KEYWORDS": "1",
    "IMAP_ACL": "1",
    "IMAP_IDLE_TIMEOUT": "60",
    "IMAP_MAILBOX_SANITY_CHECK": "0",
    "IMAP_UMASK": "022",
    "IMAP_USELOCKS": "1",
    "IMAP_TRASHFOLDERNAME": "Trash",
    "IMAP_SHAREDINDEXFILE": "/nonexistent",
}


class Courier(PrivateServer):
    """One instance. `with Courier({"u1": b"secret"}) as old: old.imap_port`.

    With `preauth`, every connection is that user's.
    """

    def __init__(self, users: Mapping[str, bytes], *, preauth: str = "", quota: str = "") -> None:
        super().__init__("courier.log")
        self.users = dict(users)
        self.mail_dir = self.directory / "mail"
        self.imap_port = 0
        self.preauth = preauth
        self._settings = {**_SETTINGS, **({"MAILDIRQUOTA": quota} if quota else {})}
        account = pwd.getpwnam(_MAIL_USER)
        self._uid, self._gid = account.pw_uid, account.pw_gid

    def _choose_ports(self) -> None:
        (self.imap_port,) = free_ports(1)

    def _launch(self) -> None:
        for login in self.users:
            self._make_home(login)
        settings = {
            "port": self.imap_port,
            "imapd": unpacked("usr/bin/imapd"),
            "uid": self._uid,
            "gid": self._gid,
            "preauth": self.preauth,
            "users": {login: base64.b64encode(word).decode() for login, word in self.users.items()},
            "mail": str(self.mail_dir),
            "monitor": unpacked("usr/libexec/gam_server"),
            "environment": environment(GAM_CLIENT_ID=self.directory.name, **self._settings),
        }
        path = self.directory / "login.json"
        path.write_text(json.dumps(settings), "utf-8")
        command = [sys.executable, str(Path(__file__).with_name("courier_login.py")), str(path)]
        self._server.start(command, self.host, [self.imap_port])

    def home(self, login: str) -> Path:
        """Where the mail of `login` lives."""
        return self.mail_dir / login

    def _make_home(self, login: str) -> None:
        maildir = self.home(login) / "Maildir"
        for path in (self.mail_dir, self.home(login), maildir, *(maildir / name for name in ("tmp", "new", "cur"))):
            path.mkdir(exist_ok=True)
            os.chown(path, self._uid, self._gid)
