"""Where a server is, and how its TLS is checked.

`host`, `host:port`, `[v6]:port`, or with a scheme: `imap://`, `imaps://`, `imap+starttls://`, and
likewise pop3, smtp and cli (`cli+tls://` is implicit TLS on the CLI's port).
"""

from __future__ import annotations

import os
import ssl
import warnings
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final


class Security(Enum):
    """How a connection is protected."""

    PLAIN = "plain"
    STARTTLS = "starttls"
    TLS = "tls"  # implicit, from the first byte


_PORTS: Final = {"imap": (143, 993), "pop3": (110, 995), "smtp": (25, 465), "cli": (106, 106)}
_ALIASES: Final = {"pop": "pop3", "pops": "pop3s", "pwd": "cli", "submission": "smtp"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One listener: protocol `imap`, `pop3`, `smtp` or `cli`, its host and port, and its security."""

    protocol: str
    host: str
    port: int
    security: Security = Security.PLAIN

    def __str__(self) -> str:
        scheme = {
            Security.PLAIN: self.protocol,
            Security.STARTTLS: f"{self.protocol}+starttls",
            Security.TLS: f"{self.protocol}s" if self.protocol != "cli" else "cli+tls",
        }[self.security]
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"


def parse_endpoint(text: str, protocol: str) -> Endpoint:
    """Read `host`, `host:port` or `scheme://host:port`; `protocol` is meant where no scheme stands.

    Raises ValueError with a sentence for a person. A scheme of another protocol is an error: a
    password must not be sent to a server that speaks something else.
    """
    rest = text.strip()
    scheme = protocol
    if "://" in rest:
        scheme, rest = rest.split("://", 1)
        scheme = scheme.lower()
        rest = rest.rstrip("/")
    scheme = _ALIASES.get(scheme, scheme)
    security = Security.PLAIN
    for ending, kind in (("+starttls", Security.STARTTLS), ("+tls", Security.TLS), ("s", Security.TLS)):
        base = _ALIASES.get(scheme.removesuffix(ending), scheme.removesuffix(ending))
        if scheme.endswith(ending) and base in _PORTS:
            scheme, security = base, kind
            break
    if scheme not in _PORTS:
        raise ValueError(f"unknown scheme in {text!r}; known are {', '.join(sorted(_PORTS))}, each with s or +starttls")
    if scheme != protocol:
        raise ValueError(f"{text!r} is a {scheme} address where a {protocol} address is needed")
    host, port = _split_port(rest, text)
    return Endpoint(scheme, host, port or _PORTS[scheme][security is Security.TLS], security)


def _split_port(rest: str, text: str) -> tuple[str, int | None]:
    if rest.startswith("["):
        host, bracket, tail = rest[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise ValueError(f"{text!r}: an IPv6 address is written [address]:port")
        port_text = tail[1:] if tail else None
    elif rest.count(":") > 1:
        raise ValueError(f"{text!r}: an IPv6 address is written [address]:port")
    else:
        host, colon, tail = rest.partition(":")
        port_text = tail if colon else None
    if not host or any(c in host for c in " /@\r\n\0"):
        raise ValueError(f"{text!r} names no host")
    if port_text is None:
        return host, None
    if not (port_text.isascii() and port_text.isdigit() and 0 < int(port_text) < 65536):
        raise ValueError(f"{text!r}: the port is a number from 1 to 65535")
    return host, int(port_text)


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """How certificates are checked. Checking is off only where `verify=False` is written down."""

    verify: bool = True
    ca_file: str = ""
    minimum: str = "TLSv1.2"


_MINIMA: Final = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}
TLS_MINIMA: Final = tuple(_MINIMA)


def tls_context(policy: TlsPolicy) -> ssl.SSLContext:
    """The SSLContext of `policy`, made anew when its CA file changed. OSError (or ssl.SSLError) when that is bad."""
    changed = os.stat(policy.ca_file).st_mtime_ns if policy.ca_file else 0
    return _make_context(policy, changed)


@lru_cache(maxsize=64)  # one for each policy: building one reads the CA store, which takes 5 ms
def _make_context(policy: TlsPolicy, _changed: int) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=policy.ca_file or None)
    if not policy.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    minimum = _MINIMA[policy.minimum]
    if minimum < ssl.TLSVersion.TLSv1_2:
        context.set_ciphers("DEFAULT@SECLEVEL=0")  # OpenSSL 3 offers TLS 1.0 and 1.1 at level 0 only
    if context.minimum_version != minimum:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # an old server's TLSv1 was asked for by name
            context.minimum_version = minimum
    return context
