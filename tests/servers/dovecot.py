"""A private Dovecot (IMAP and POP, plain and TLS) on loopback: the old server, or CommuniGate's IMAP.

Known limits, all Dovecot's: APPEND is not byte exact (`\\r\\r\\n` becomes `\\r\\n`, one final lone CR
goes), a refused login costs half a second, a line over about 1 KB before login closes the connection.
"""

from __future__ import annotations

import base64
import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from tests.servers.certificates import ServerCertificate
from tests.servers.private_server import PrivateServer
from tests.servers.process import LOOPBACK, free_ports, require

_MAIL_USER = "mail"  # Debian's; Dovecot refuses uid 0

_GENERAL = """\
protocols = imap pop3
listen = {host}
base_dir = {directory}/run
state_dir = {directory}/run
log_path = {directory}/dovecot.log
{tls}
disable_plaintext_auth = {secure_only}
auth_mechanisms = {mechanisms}
auth_username_format = {username_format}
auth_failure_delay = 0
first_valid_uid = 1
mail_location = {mail_location}
mail_fsync = never
maildir_very_dirty_syncs = yes
namespace inbox {{
  inbox = yes
  separator = {separator}
  prefix = {prefix}
  mailbox Sent {{
    special_use = \\Sent
  }}
  mailbox Trash {{
    special_use = \\Trash
  }}
}}
{masters}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {directory}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {directory}/users
}}
"""

_MASTERS = """\
auth_master_user_separator = *
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {directory}/masters
  master = yes
  result_success = continue
}}
"""

_STORAGE = {
    "maildir": "maildir:~/Maildir",
    "mbox": "mbox:~/mail:INBOX=~/inbox",
    "sdbox": "sdbox:~/dbox",
    "mdbox": "mdbox:~/mdbox",
}

_SERVICES = """\
protocol imap {{
  mail_max_userip_connections = {userip}
}}
protocol pop3 {{
  mail_max_userip_connections = {userip}
}}
service anvil {{
  client_limit = 8000
  unix_listener anvil-auth-penalty {{
    mode = {penalty_mode}
  }}
}}
service auth {{
  client_limit = 8000
  idle_kill = 1 days
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
  }}
  service_count = 0
  process_min_avail = {logins}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = {pop3s}
  }}
  service_count = 0
  process_min_avail = {logins}
}}
service imap {{
  process_limit = 1024
  service_count = {reuse}
  process_min_avail = {spare}
}}
service pop3 {{
  process_limit = 1024
  service_count = {reuse}
  process_min_avail = {spare}
}}
"""


class Dovecot(PrivateServer):
    """One instance. `with Dovecot({"u1": b"secret"}) as old: old.imap_port`.

    `stop()` and `start()` make an outage: the same ports, the same mail. Passwords may hold any bytes
    but CR, LF and NUL. Logins are compared in lower case, as Dovecot does.
    """

    def __init__(
        self,
        users: Mapping[str, bytes] | None = None,
        *,
        separator: str = ".",
        prefix: str = "",
        storage: str = "maildir",
        certificate: ServerCertificate | None = None,
        plaintext: bool = True,
        mechanisms: str = "plain login",
        username_format: str = "%Lu",
        penalty: bool = False,
        tuned: bool = False,
        masters: Mapping[str, bytes] | None = None,
        connections_per_user: int = 0,
        host: str = LOOPBACK,
        extra: str = "",
    ) -> None:
        super().__init__("dovecot.log", host)
        self.users = dict(users or {})
        self.masters = dict(masters or {})
        self.mail_dir = self.directory / "mail"
        self.imap_port = self.imaps_port = self.pop3_port = self.pop3s_port = 0
        self._storage = _STORAGE[storage]
        self._options = {
            "separator": separator,
            "prefix": prefix,
            "secure_only": "no" if plaintext else "yes",
            "mechanisms": mechanisms,
            "username_format": username_format,
            "penalty_mode": "0600" if penalty else "0",
            "userip": str(connections_per_user),
            "logins": "2" if tuned else "1",
            "reuse": "1000" if tuned else "1",
            "spare": "4" if tuned else "0",
        }
        self._certificate = certificate
        self._extra = extra
        account = pwd.getpwnam(_MAIL_USER)
        self._uid, self._gid = account.pw_uid, account.pw_gid

    def _launch(self) -> None:
        program = require("dovecot", "dovecot-imapd dovecot-pop3d")
        self.mail_dir.mkdir(exist_ok=True)
        os.chown(self.mail_dir, self._uid, self._gid)
        self._write_users()
        self._write_configuration()
        command = [program, "-F", "-c", str(self.directory / "dovecot.conf")]
        self._server.start(command, self.host, [self.imap_port, self.pop3_port])

    def add_user(self, login: str, password: bytes) -> None:
        """Add a user or change a password. Dovecot looks at the file again within a second."""
        self.users[login] = password
        self._write_users()

    def home(self, login: str) -> Path:
        """Where the mail of `login` lives."""
        return self.mail_dir / login.lower()

    def _choose_ports(self) -> None:
        self.imap_port, self.pop3_port, tls_imap, tls_pop = free_ports(4, self.host)
        if self._certificate is not None:
            self.imaps_port, self.pop3s_port = tls_imap, tls_pop

    def _write_users(self) -> None:
        lines = [
            f"{login.lower()}:{_plain(password)}:{self._uid}:{self._gid}::{self.home(login)}::"
            for login, password in self.users.items()
        ]
        self._replace("users", lines)
        self._replace("masters", [f"{login}:{_plain(password)}::::::" for login, password in self.masters.items()])

    def _replace(self, name: str, lines: list[str]) -> None:
        draft = self.directory / f"{name}.new"
        draft.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        draft.replace(self.directory / name)

    def _write_configuration(self) -> None:
        tls = "ssl = no"
        if self._certificate is not None:
            tls = f"ssl = yes\nssl_cert = <{self._certificate.chain}\nssl_key = <{self._certificate.key}"
        masters = _MASTERS.format(directory=self.directory) if self.masters else ""
        text = _GENERAL.format(
            host=self.host,
            directory=self.directory,
            tls=tls,
            masters=masters,
            mail_location=self._storage,
            **self._options,
        ) + _SERVICES.format(
            imap=self.imap_port,
            imaps=self.imaps_port,
            pop3=self.pop3_port,
            pop3s=self.pop3s_port,
            **self._options,
        )
        (self.directory / "dovecot.conf").write_text(text + self._extra + "\n", "utf-8")


def _plain(password: bytes) -> str:
    return "{PLAIN.b64}" + base64.b64encode(password).decode()
