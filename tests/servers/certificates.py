"""A certificate authority of the tests' own, and server certificates good and bad."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """A certificate chain and its key, as PEM files."""

    chain: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Certificates:
    """`ca_file` vouches for `good`, `expired` and `wrong_host`; `other_ca_file` for none of them."""

    ca_file: Path
    other_ca_file: Path
    good: ServerCertificate
    expired: ServerCertificate
    wrong_host: ServerCertificate


def make_certificates(directory: Path) -> Certificates:
    """Make them all in `directory`. The keys are for loopback tests and live only there."""
    authority = trustme.CA()
    names = ("localhost", "127.0.0.1", "::1")
    ca_file, other = directory / "ca.pem", directory / "other-ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    trustme.CA().cert_pem.write_to_path(other)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    return Certificates(
        ca_file,
        other,
        _write(authority.issue_cert(*names), directory / "good"),
        _write(authority.issue_cert(*names, not_after=yesterday), directory / "expired"),
        _write(authority.issue_cert("mail.elsewhere.test"), directory / "wrong-host"),
    )


def _write(certificate: trustme.LeafCert, stem: Path) -> ServerCertificate:
    chain, key = stem.with_suffix(".crt"), stem.with_suffix(".key")
    chain.write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    key.touch(mode=0o600)
    certificate.private_key_pem.write_to_path(key)
    return ServerCertificate(chain, key)
