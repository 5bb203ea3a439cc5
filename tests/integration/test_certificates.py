"""Real servers whose certificates are not good, and one that takes no password in the clear."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.servers.certificates import Certificates
from tests.servers.dovecot import Dovecot
from tests.servers.postfix import Postfix
from wire.endpoint import Endpoint, Security, TlsPolicy
from wire.imap.client import ImapClient
from wire.outcome import Scope, SetupTrouble, Verdict
from wire.pop3 import Pop3Client
from wire.secret import Secret
from wire.smtp import SmtpClient

_SECONDS = 30.0
_PASSWORD = Secret(b"secret1")


def _deadline() -> float:
    return asyncio.get_running_loop().time() + _SECONDS


@pytest.fixture(scope="module", params=["expired", "wrong_host"])
def dovecot_in_disorder(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Dovecot]:
    """A Dovecot with each bad certificate."""
    with Dovecot({"u1": _PASSWORD.reveal()}, certificate=getattr(certificates, request.param)) as server:
        yield server


async def _imap(endpoint: Endpoint, policy: TlsPolicy) -> None:
    client = await ImapClient.connect(endpoint, policy, deadline=_deadline())
    client.stream.abort()


async def _pop3(endpoint: Endpoint, policy: TlsPolicy) -> None:
    client = await Pop3Client.connect(endpoint, policy, deadline=_deadline())
    client.stream.abort()


@pytest.mark.parametrize("security", [Security.TLS, Security.STARTTLS])
@pytest.mark.parametrize(("protocol", "connect"), [("imap", _imap), ("pop3", _pop3)])
async def test_bad_certificate_is_setup_trouble(
    dovecot_in_disorder: Dovecot,
    certificates: Certificates,
    protocol: str,
    connect: Callable[[Endpoint, TlsPolicy], Awaitable[None]],
    security: Security,
) -> None:
    """Expired or of another host: about the setup, though the CA is right; accepted where checking is off."""
    server = dovecot_in_disorder
    ports = {
        ("imap", Security.TLS): server.imaps_port,
        ("imap", Security.STARTTLS): server.imap_port,
        ("pop3", Security.TLS): server.pop3s_port,
        ("pop3", Security.STARTTLS): server.pop3_port,
    }
    endpoint = Endpoint(protocol, server.host, ports[protocol, security], security)
    with pytest.raises(SetupTrouble, match="certificate"):
        await connect(endpoint, TlsPolicy(ca_file=str(certificates.ca_file)))
    await connect(endpoint, TlsPolicy(verify=False))


async def test_bad_certificate_at_smtp_is_setup_trouble(certificates: Certificates) -> None:
    """The same for the probe."""
    with Postfix(["known@old.test"], certificate=certificates.expired) as server:
        endpoint = Endpoint("smtp", server.host, server.port, Security.STARTTLS)
        policy = TlsPolicy(ca_file=str(certificates.ca_file))
        with pytest.raises(SetupTrouble, match="certificate"):
            await SmtpClient.connect(endpoint, policy, helo="probe.test", deadline=_deadline())


async def test_no_password_in_the_clear_where_the_server_forbids_it(certificates: Certificates) -> None:
    """LOGINDISABLED is honoured: no verdict over the plain connection, YES once TLS has started."""
    # for Dovecot a connection is safe without TLS where both ends have one address
    with Dovecot(
        {"u1": _PASSWORD.reveal()}, certificate=certificates.good, plaintext=False, host="127.0.0.2"
    ) as server:
        plain = await ImapClient.connect(
            Endpoint("imap", server.host, server.imap_port), TlsPolicy(), deadline=_deadline()
        )
        answer = await plain.login(b"u1", _PASSWORD)
        plain.close()
        assert (answer.verdict, answer.scope) == (Verdict.LATER, Scope.SETUP)
        endpoint = Endpoint("imap", server.host, server.imap_port, Security.STARTTLS)
        safe = await ImapClient.connect(endpoint, TlsPolicy(verify=False), deadline=_deadline())
        assert (await safe.login(b"u1", _PASSWORD)).verdict is Verdict.YES
        safe.stream.abort()
        assert "Login: user=<u1>" in server.log_tail()
