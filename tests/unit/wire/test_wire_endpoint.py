"""Server addresses as an administrator writes them, and TLS as one allows it."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tests.servers.certificates import Certificates
from wire.endpoint import Endpoint, Security, TlsPolicy, parse_endpoint, tls_context

PLAIN, STARTTLS, TLS = Security.PLAIN, Security.STARTTLS, Security.TLS


@pytest.mark.parametrize(
    ("text", "protocol", "endpoint"),
    [
        ("old.example.com", "imap", Endpoint("imap", "old.example.com", 143, PLAIN)),
        ("old.example.com:144", "imap", Endpoint("imap", "old.example.com", 144, PLAIN)),
        (" old.example.com:144 ", "imap", Endpoint("imap", "old.example.com", 144, PLAIN)),
        ("imap://old", "imap", Endpoint("imap", "old", 143, PLAIN)),
        ("imaps://old", "imap", Endpoint("imap", "old", 993, TLS)),
        ("IMAPS://old/", "imap", Endpoint("imap", "old", 993, TLS)),
        ("imap+tls://old:1", "imap", Endpoint("imap", "old", 1, TLS)),
        ("imap+starttls://old:143", "imap", Endpoint("imap", "old", 143, STARTTLS)),
        ("pop3://old", "pop3", Endpoint("pop3", "old", 110, PLAIN)),
        ("pop3s://old", "pop3", Endpoint("pop3", "old", 995, TLS)),
        ("pops://old", "pop3", Endpoint("pop3", "old", 995, TLS)),
        ("pop+starttls://old", "pop3", Endpoint("pop3", "old", 110, STARTTLS)),
        ("smtp://old", "smtp", Endpoint("smtp", "old", 25, PLAIN)),
        ("smtps://old", "smtp", Endpoint("smtp", "old", 465, TLS)),
        ("smtp+starttls://old:587", "smtp", Endpoint("smtp", "old", 587, STARTTLS)),
        ("127.0.0.1:106", "cli", Endpoint("cli", "127.0.0.1", 106, PLAIN)),
        ("cli+tls://host", "cli", Endpoint("cli", "host", 106, TLS)),
        ("[2001:db8::1]", "imap", Endpoint("imap", "2001:db8::1", 143, PLAIN)),
        ("imaps://[2001:db8::1]:1993", "imap", Endpoint("imap", "2001:db8::1", 1993, TLS)),
    ],
)
def test_addresses(text: str, protocol: str, endpoint: Endpoint) -> None:
    """Host, port and scheme; what is written out again is read as the same."""
    assert parse_endpoint(text, protocol) == endpoint
    assert parse_endpoint(str(endpoint), protocol) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":143",
        "host:",
        "host:0",
        "host:65536",
        "host:x",
        "host:-1",
        "host:１４３",
        "host:143/x",
        "2001:db8::1",
        "[2001:db8::1",
        "[2001:db8::1]143",
        "a b",
        "user@host",
        "host\r\nx",
        "http://host",
        "pop3://host",
        "imaps+starttls://host",
        "://host",
    ],
)
def test_no_addresses(text: str) -> None:
    """Each with a sentence that names what was written; never a guess, and never another protocol."""
    with pytest.raises(ValueError, match=r"\w"):
        parse_endpoint(text, "imap")


def test_certificates_are_checked_unless_written_otherwise(certificates: Certificates) -> None:
    """Checking is off only by verify=False; the minimum is what was asked for."""
    assert tls_context(TlsPolicy()).verify_mode is ssl.CERT_REQUIRED
    assert tls_context(TlsPolicy()).check_hostname
    assert tls_context(TlsPolicy(verify=False)).verify_mode is ssl.CERT_NONE
    assert tls_context(TlsPolicy()).minimum_version is ssl.TLSVersion.TLSv1_2
    assert tls_context(TlsPolicy(minimum="TLSv1.3")).minimum_version is ssl.TLSVersion.TLSv1_3
    assert tls_context(TlsPolicy(minimum="TLSv1")).minimum_version is ssl.TLSVersion.TLSv1
    policy = TlsPolicy(ca_file=str(certificates.ca_file))
    assert tls_context(policy) is tls_context(policy)


def test_a_ca_file_that_is_replaced_is_read_again(certificates: Certificates, tmp_path: Path) -> None:
    """A helper runs for months; its CA file does not."""
    path = tmp_path / "ca.pem"
    path.write_bytes(certificates.ca_file.read_bytes())
    first = tls_context(TlsPolicy(ca_file=str(path)))
    path.write_bytes(certificates.other_ca_file.read_bytes())
    assert tls_context(TlsPolicy(ca_file=str(path))) is not first
    path.unlink()
    with pytest.raises(OSError, match="No such file"):
        tls_context(TlsPolicy(ca_file=str(path)))
