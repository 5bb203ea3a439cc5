"""What the simulated CommuniGate does when somebody logs in or mail arrives, with a program that answers as told."""

from __future__ import annotations

import imaplib
import smtplib
import sys
from asyncio import to_thread
from collections.abc import AsyncIterator

import pytest

from extauth.sandbox.communigate import CommuniGate, LoginResult
from extauth.sandbox.helper_process import HelperProcess, HelperReply
from extauth.sandbox.old_server import OldServer

MAIL = b"Subject: x\r\n\r\nbody\r\n"


class Scripted(HelperProcess):
    """Not a process: answers by a table, and makes the account where the answer to NEW is OK."""

    def __init__(self, communigate: CommuniGate) -> None:
        super().__init__([sys.executable])
        self.communigate = communigate
        self.answers: dict[str, HelperReply] = {}
        self.asked: list[bytes] = []
        self.makes_accounts = True

    async def start(self) -> None:
        return None

    async def stop(self, timeout: float = 10.0) -> int | None:
        return None

    async def request(self, line: bytes) -> HelperReply:
        self.asked.append(line)
        word, _, rest = line.decode("utf-8", "surrogateescape").partition(" ")
        name = rest.removeprefix("(IMAP) ").removeprefix("(SMTP) ").split(" ")[0]
        reply = self.answers.get(f"{word} {name}", HelperReply("ERROR", "no"))
        if word == "NEW" and reply.word == "OK" and self.makes_accounts:
            self.communigate.directory.create_account(name)
        return reply


@pytest.fixture
async def communigate() -> AsyncIterator[CommuniGate]:
    server = CommuniGate("main.test")
    server.add_domain("new.test")
    server.add_domain("closed.test", external=False)
    await server.attach(Scripted(server))
    await server.start()
    yield server
    await server.close()


@pytest.fixture
def script(communigate: CommuniGate) -> Scripted:
    assert isinstance(communigate.helper, Scripted)
    return communigate.helper


async def test_a_login_makes_the_account_and_verifies_the_password(communigate: CommuniGate, script: Scripted) -> None:
    script.answers = {"NEW ann@new.test": HelperReply("OK"), "VRFY ann@new.test": HelperReply("OK")}
    assert await communigate.login("Ann@New.test", b'p "w"') is LoginResult.OK
    assert script.asked == [
        b"NEW ann@new.test (IMAP) [127.0.0.1]",
        b'VRFY (IMAP) ann@new.test "p \\"w\\"" [127.0.0.1]',
    ]
    script.answers["VRFY ann@new.test"] = HelperReply("FAILURE", "down")
    assert await communigate.login("ann@new.test", b"x") is LoginResult.TEMPORARY
    script.answers["VRFY ann@new.test"] = HelperReply("LOST")
    assert await communigate.login("ann@new.test", b"x") is LoginResult.TEMPORARY
    script.answers["VRFY ann@new.test"] = HelperReply("ERROR", "wrong")
    assert await communigate.login("ann@new.test", b"x") is LoginResult.WRONG
    assert [record.asked for record in communigate.logins] == ["OK", "FAILURE", "LOST", "ERROR"]


async def test_an_adopted_account_needs_nobody(communigate: CommuniGate, script: Scripted) -> None:
    settings = {"Password": "known", "UseAppPassword": "YES", "UseExtPassword": "NO"}
    communigate.directory.create_account("ann@new.test", settings)
    assert await communigate.login("ann@new.test", b"known") is LoginResult.OK
    assert await communigate.login("ann@new.test", b"wrong") is LoginResult.WRONG
    assert script.asked == []


@pytest.mark.parametrize(
    ("reply", "login", "code"),
    [
        (HelperReply("ERROR", "no"), LoginResult.WRONG, 550),
        (HelperReply("FAILURE", "later"), LoginResult.TEMPORARY, 450),
        (HelperReply("LOST"), LoginResult.TEMPORARY, 450),
        (HelperReply("ROUTED", ""), LoginResult.TEMPORARY, 450),
        (HelperReply("ROUTED", "loop@new.test"), LoginResult.WRONG, 550),
    ],
)
async def test_answers_to_new(
    communigate: CommuniGate, script: Scripted, reply: HelperReply, login: LoginResult, code: int
) -> None:
    script.answers = {"NEW ann@new.test": reply, "NEW loop@new.test": HelperReply("ROUTED", "loop@new.test")}
    assert await communigate.login("ann@new.test", b"x") is login
    assert (await communigate.mail_arrives("a@b.test", "ann@new.test", MAIL)).code == code
    assert communigate.account("ann@new.test") is None


async def test_an_ok_that_made_nothing_is_a_bounce(communigate: CommuniGate, script: Scripted) -> None:
    script.makes_accounts = False
    script.answers = {"NEW ann@new.test": HelperReply("OK")}
    assert (await communigate.mail_arrives("", "ann@new.test", MAIL)).code == 550


async def test_domains_that_consult_nobody(communigate: CommuniGate, script: Scripted) -> None:
    for address in ("ann@closed.test", "ann@unknown.test"):
        assert (await communigate.mail_arrives("", address, MAIL)).code == 550
        assert await communigate.login(address, b"x") is LoginResult.WRONG
    assert script.asked == []


async def test_mail_follows_routes_and_forwarders(communigate: CommuniGate, script: Scripted) -> None:
    script.answers = {
        "NEW ann+x@new.test": HelperReply("ROUTED", "ann@new.test"),
        "NEW ann@new.test": HelperReply("OK"),
    }
    reply = await communigate.mail_arrives("", "ann+x@new.test", MAIL)
    assert (reply.code, reply.routed) == (250, "ann@new.test")
    communigate.directory.domain("new.test").forwarders["fwd"] = "ann@new.test"
    assert (await communigate.mail_arrives("", "fwd@new.test", MAIL)).code == 250
    account = communigate.account("ann@new.test")
    assert account is not None
    assert [m.data for m in account.store.inbox.messages] == [MAIL, MAIL]


async def test_mail_is_relayed_by_via(communigate: CommuniGate, script: Scripted) -> None:
    old = OldServer(("old.test",))
    user = old.add_user("ann@old.test", "x")
    await old.start()
    route = f"ann%old.test@[127.0.0.1].{old.smtp.port}._via"
    script.answers = {"NEW ann@new.test": HelperReply("ROUTED", route)}
    assert (await communigate.mail_arrives("", "ann@new.test", MAIL)).code == 250
    assert [m.data for m in user.store.inbox.messages] == [MAIL]
    script.answers = {"NEW ann@new.test": HelperReply("ROUTED", route.replace("ann%", "bob%"))}
    assert (await communigate.mail_arrives("", "ann@new.test", MAIL)).code == 550
    await old.close()
    assert (await communigate.mail_arrives("", "ann@new.test", MAIL)).code == 450


async def test_smtp_says_what_the_program_says(communigate: CommuniGate, script: Scripted) -> None:
    script.answers = {"NEW ann@new.test": HelperReply("OK"), "NEW bob@new.test": HelperReply("FAILURE", "later")}

    def run() -> list[int]:
        with smtplib.SMTP("127.0.0.1", communigate.smtp.port, timeout=10) as client:
            client.ehlo()
            client.mail("a@b.test")
            codes = [client.rcpt(f"{name}@new.test")[0] for name in ("ann", "bob", "nobody")]
            codes.append(client.data(MAIL)[0])
            return codes

    assert await to_thread(run) == [250, 450, 550, 250]
    account = communigate.account("ann@new.test")
    assert account is not None
    assert [m.data for m in account.store.inbox.messages] == [MAIL]


async def test_imap_logins_obey_the_settings_and_the_admin_opens_all(
    communigate: CommuniGate, script: Scripted
) -> None:
    communigate.directory.create_account("ann@new.test")
    communigate.directory.create_account("plain@main.test", {"Password": "pw"})
    script.answers = {"VRFY ann@new.test": HelperReply("FAILURE")}

    def run() -> None:
        port = communigate.imap.port
        with imaplib.IMAP4("127.0.0.1", port) as client:
            with pytest.raises(imaplib.IMAP4.error, match="UNAVAILABLE"):
                client.login("ann@new.test", "x")
            with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
                client.login("plain", "wrong")
            client.login("plain", "pw")
            assert client.select('"~ann@new.test/INBOX"')[0] == "NO"
        with imaplib.IMAP4("127.0.0.1", port) as admin:
            admin.login("postmaster", '"sandbox admin"'.strip('"'))
            assert admin.create('"~ann@new.test/Sent Items"')[0] == "OK"
            assert admin.append('"~ann@new.test/Sent Items"', None, None, MAIL)[0] == "OK"
            assert admin.list('"~ann@new.test/"', "*")[1] == [
                b'(\\HasNoChildren) "/" "~ann@new.test/INBOX"',
                b'(\\HasNoChildren) "/" "~ann@new.test/Sent Items"',
            ]
            assert admin.list('"~plain/"', "*")[1] == [b'(\\HasNoChildren) "/" ~plain/INBOX']
            assert admin.create('"~ann@new.test/.hidden"')[0] == "NO"
            assert admin.namespace()[1] == [b'(("" "/")) (("~" "/")) NIL']

    await to_thread(run)
    account = communigate.account("ann@new.test")
    assert account is not None
    assert [m.data for m in account.store.get(b"Sent Items").messages] == [MAIL]


async def test_kill_account_sessions(communigate: CommuniGate) -> None:
    communigate.directory.create_account("plain@main.test", {"Password": "pw"})

    def log_in() -> imaplib.IMAP4:
        client = imaplib.IMAP4("127.0.0.1", communigate.imap.port)
        client.login("plain", "pw")
        return client

    client = await to_thread(log_in)
    communigate.commands.run(b"KillAccountSessions plain")
    with pytest.raises((imaplib.IMAP4.abort, OSError)):
        await to_thread(client.noop)
    client.shutdown()
