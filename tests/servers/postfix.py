"""A private Postfix on loopback that answers RCPT for known users and throws accepted mail away.

Known limits, all Postfix's: it waits after 10 refused recipients of a session and hangs up after 20;
RSET, NOOP, VRFY and a repeated EHLO count as junk, 100 of them slow the session down.
"""

from __future__ import annotations

import pwd
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.servers.certificates import ServerCertificate
from tests.servers.private_server import PrivateServer
from tests.servers.process import LOOPBACK, free_ports, require

_MAIN = """\
compatibility_level = 3.6
queue_directory = {directory}/spool
data_directory = {directory}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {directory}/postfix.log
maillog_file_prefixes = /tmp
myhostname = old.test
mydestination =
mynetworks =
inet_interfaces = {host}
smtp_bind_address = {host}
inet_protocols = ipv4
alias_maps =
local_recipient_maps =
virtual_mailbox_domains = {domains}
virtual_mailbox_maps = texthash:{directory}/users
virtual_alias_maps = texthash:{directory}/aliases
virtual_transport = discard:
smtpd_relay_restrictions = reject_unauth_destination
smtpd_recipient_restrictions = reject_unauth_destination
disable_dns_lookups = yes
smtpd_peername_lookup = no
smtpd_client_connection_rate_limit = 0
smtpd_client_connection_count_limit = 0
smtpd_client_event_limit_exceptions = 127.0.0.0/8
in_flow_delay = 0
default_process_limit = 300
smtputf8_enable = yes
{tls}
{extra}
"""

_MASTER = """\
{host}:{port} inet n - n - 300 smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix(PrivateServer):
    """One instance. `with Postfix(["u1@old.test"]) as old: old.port`.

    Recipients outside `users` and `aliases` get `550 5.1.1`, other domains `554 5.7.1`. A user written
    `@domain` makes the domain accept every address.
    """

    def __init__(
        self,
        users: Iterable[str] = (),
        *,
        aliases: Mapping[str, str] | None = None,
        domains: Iterable[str] = (),
        certificate: ServerCertificate | None = None,
        host: str = LOOPBACK,
        extra: str = "",
    ) -> None:
        super().__init__("postfix.log", host)
        self.port = 0
        self.users = set(users)
        self.aliases = dict(aliases or {})
        self._domains = set(domains)
        self._certificate = certificate
        self._extra = extra

    def _choose_ports(self) -> None:
        (self.port,) = free_ports(1, self.host)

    def _launch(self) -> None:
        program = require("postfix", "postfix")
        self._prepare()
        self._write_configuration()
        pid_file = self.directory / "spool" / "pid" / "master.pid"
        command = [program, "-c", str(self.directory / "etc"), "start-fg"]
        self._server.start(command, self.host, [self.port], pid_file)

    def _prepare(self) -> None:
        for name in ("etc", "spool", "data"):
            (self.directory / name).mkdir(exist_ok=True)
        shutil.chown(self.directory / "data", pwd.getpwnam("postfix").pw_uid)

    def _write_configuration(self) -> None:
        domains = self._domains | {address.rpartition("@")[2] for address in (*self.users, *self.aliases)}
        tls = "smtpd_tls_security_level = none"
        if self._certificate is not None:
            chain, key = self._certificate.chain, self._certificate.key
            tls = f"smtpd_tls_security_level = may\nsmtpd_tls_cert_file = {chain}\nsmtpd_tls_key_file = {key}"
        etc = self.directory / "etc"
        main = _MAIN.format(
            directory=self.directory, host=self.host, domains=" ".join(sorted(domains)), tls=tls, extra=self._extra
        )
        _write(etc / "main.cf", _last_words(main))
        _write(etc / "master.cf", _MASTER.format(host=self.host, port=self.port))
        _write(self.directory / "users", "".join(f"{address} x\n" for address in sorted(self.users)))
        _write(self.directory / "aliases", "".join(f"{a} {b}\n" for a, b in sorted(self.aliases.items())))


def _last_words(main: str) -> str:
    """Each parameter once, as it is set last. Postfix warns of one that is set twice, in every process, and so many
    warnings block the log's own socket for good."""
    found: dict[str, str] = {}
    for line in main.splitlines():
        if line.strip():
            found[line.partition("=")[0].strip()] = line
    return "".join(line + "\n" for line in found.values())


def _write(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
    path.chmod(0o644)
