"""STARTTLS and certificates over IMAP: what is required is done or nothing is sent."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence

import pytest

from tests.fault.imap_script import Script, Step, imap_script
from tests.servers.certificates import Certificates, ServerCertificate
from wire.endpoint import Endpoint, Security, TlsPolicy
from wire.imap.client import ImapClient
from wire.outcome import Permanent, Scope, SetupTrouble, Temporary, Verdict
from wire.secret import Secret

OFFERED = b"* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] ready\r\n"


def server_tls(certificate: ServerCertificate) -> ssl.SSLContext:
    """The server's side."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    return context


async def log_in(endpoint: Endpoint, policy: TlsPolicy) -> Verdict:
    """One login of u1."""
    client = await ImapClient.connect(endpoint, policy, deadline=asyncio.get_running_loop().time() + 10)
    try:
        assert client.stream.secure
        return (await client.login(b"u1", Secret(b"secret"), refresh_capabilities=False)).verdict
    finally:
        client.close()


def password_sent(script: Script) -> bool:
    """Whether the password left in a form that the script saw."""
    return any(b"secret" in line for line in script.lines)


async def test_starttls_then_login(certificates: Certificates) -> None:
    """Capabilities of the clear are dropped and asked again: LOGINDISABLED held for the clear only."""
    steps = [
        Step(None, OFFERED),
        Step(b"STARTTLS", b"TAG OK begin\r\n", tls=server_tls(certificates.good)),
        Step(b"CAPABILITY", b"* CAPABILITY IMAP4rev1\r\nTAG OK done\r\n"),
        Step(b"LOGIN", b"TAG OK done\r\n"),
    ]
    async with imap_script(steps, security=Security.STARTTLS) as script:
        assert await log_in(script.endpoint, TlsPolicy(ca_file=str(certificates.ca_file))) is Verdict.YES


async def test_starttls_without_capabilities_in_the_greeting(certificates: Certificates) -> None:
    """It is tried outright: one round trip less."""
    steps = [
        Step(None, b"* OK ready\r\n"),
        Step(b"STARTTLS", b"TAG OK begin\r\n", tls=server_tls(certificates.good)),
        Step(b"CAPABILITY", b"* CAPABILITY IMAP4rev1\r\nTAG OK done\r\n"),
        Step(b"LOGIN", b"TAG NO no\r\n"),
    ]
    async with imap_script(steps, security=Security.STARTTLS) as script:
        assert await log_in(script.endpoint, TlsPolicy(ca_file=str(certificates.ca_file))) is Verdict.NO


@pytest.mark.parametrize(
    "steps",
    [
        [Step(None, b"* OK [CAPABILITY IMAP4rev1 LITERAL+] ready\r\n")],
        [Step(None, b"* OK ready\r\n"), Step(b"STARTTLS", b"TAG BAD unknown command\r\n")],
        [Step(None, OFFERED), Step(b"STARTTLS", b"TAG NO not today\r\n")],
        [Step(None, b"* PREAUTH ready\r\n")],
        [Step(None, OFFERED), Step(b"STARTTLS", b"TAG OK begin\r\n* CAPABILITY IMAP4rev1\r\n")],
        [Step(None, OFFERED), Step(b"STARTTLS", b"TAG OK begin\r\nx2 OK logged in\r\n")],
    ],
    ids=["not offered", "unknown", "refused", "PREAUTH", "data behind the OK", "a reply behind the OK"],
)
async def test_no_tls_no_password(steps: Sequence[Step]) -> None:
    """TLS was required: a server that does not give it is a matter for the operator, and never sees the password."""
    async with imap_script(steps, security=Security.STARTTLS, hang=True) as script:
        with pytest.raises(SetupTrouble) as caught:
            await log_in(script.endpoint, TlsPolicy())
    assert caught.value.scope is Scope.SETUP
    assert not password_sent(script)


async def test_a_busy_server_is_not_a_set_up_fault() -> None:
    """NO [UNAVAILABLE] to STARTTLS passes by itself."""
    steps = [Step(None, OFFERED), Step(b"STARTTLS", b"TAG NO [UNAVAILABLE] later\r\n")]
    async with imap_script(steps, security=Security.STARTTLS) as script:
        with pytest.raises(Temporary):
            await log_in(script.endpoint, TlsPolicy())


@pytest.mark.parametrize("kind", ["expired", "wrong_host", "unknown authority"])
async def test_bad_certificates(certificates: Certificates, kind: str) -> None:
    """Each is refused before the password is sent, and passes where checking is off in so many words."""
    certificate = {"expired": certificates.expired, "wrong_host": certificates.wrong_host}.get(kind, certificates.good)
    ca_file = str(certificates.other_ca_file if kind == "unknown authority" else certificates.ca_file)
    steps = [
        Step(None, OFFERED),
        Step(b"STARTTLS", b"TAG OK begin\r\n", tls=server_tls(certificate)),
        Step(b"CAPABILITY", b"* CAPABILITY IMAP4rev1\r\nTAG OK done\r\n"),
        Step(b"LOGIN", b"TAG OK done\r\n"),
    ]
    async with imap_script(steps, security=Security.STARTTLS) as script:
        with pytest.raises(SetupTrouble, match="certificate"):
            await log_in(script.endpoint, TlsPolicy(ca_file=ca_file))
        assert not password_sent(script)
    async with imap_script(steps, security=Security.STARTTLS) as script:
        assert await log_in(script.endpoint, TlsPolicy(verify=False)) is Verdict.YES


async def test_hanging_up_instead_of_tls(certificates: Certificates) -> None:
    """The connection lost while TLS starts is Temporary: a server that restarts, not a certificate."""
    steps = [Step(None, OFFERED), Step(b"STARTTLS", b"TAG OK begin\r\n")]
    async with imap_script(steps, security=Security.STARTTLS) as script:
        with pytest.raises(Temporary):
            await log_in(script.endpoint, TlsPolicy(ca_file=str(certificates.ca_file)))


async def test_a_plain_server_on_a_tls_port() -> None:
    """It talks first, in the clear: no TLS, no password."""
    async with imap_script([Step(None, b"* OK ready\r\n")], security=Security.TLS) as script:
        with pytest.raises((SetupTrouble, Temporary)):
            await log_in(script.endpoint, TlsPolicy())
    assert not password_sent(script)


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_ca_file_that_cannot_be_used(tmp_path_factory: pytest.TempPathFactory, content: str | None) -> None:
    """Named as what it is, and not as a fault of the server."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    if content is not None:
        path.write_text(content)
    async with imap_script([Step(None, b"* OK ready\r\n")], security=Security.TLS) as script:
        with pytest.raises(SetupTrouble, match="CA file"):
            await log_in(script.endpoint, TlsPolicy(ca_file=str(path)))


@pytest.mark.parametrize("host", ["a" * 70 + ".example.com", "exa..mple.com"])
async def test_a_host_that_is_no_name(host: str) -> None:
    """IDNA refuses it: the configuration is wrong, and stays so."""
    with pytest.raises(Permanent):
        await log_in(Endpoint("imap", host, 143), TlsPolicy())
