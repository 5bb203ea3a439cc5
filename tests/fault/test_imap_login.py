"""The IMAP login on real sockets: every dialogue whole, and cut after every byte of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.fault.imap_script import Script, Step, imap_script
from tests.vectors.imap_dialogues import CAPABILITY, CAPABLE, LOGINS, Login
from wire.endpoint import TlsPolicy
from wire.imap.client import ImapClient
from wire.imap.encoder import Unsendable
from wire.outcome import Answer, ProtocolTrouble, Scope, Temporary, Trouble, Verdict
from wire.secret import Secret

SECONDS = 10.0  # far more than loopback needs; a test that waits for it shows a bug


async def attempt(script: Script, password: bytes, *, seconds: float = SECONDS, tag_prefix: bytes = b"") -> Verdict:
    """The verdict on one login; Temporary counts as LATER, anything else is a bug."""
    try:
        return (await answer(script, password, seconds=seconds, tag_prefix=tag_prefix)).verdict
    except Temporary:
        return Verdict.LATER


async def answer(script: Script, password: bytes, *, seconds: float = SECONDS, tag_prefix: bytes = b"") -> Answer:
    """The answer to one login of u1."""
    deadline = asyncio.get_running_loop().time() + seconds
    client = await ImapClient.connect(script.endpoint, TlsPolicy(), deadline=deadline, tag_prefix=tag_prefix)
    try:
        return await client.login(b"u1", Secret(password), refresh_capabilities=False)
    finally:
        client.close()


@pytest.mark.parametrize("name", LOGINS)
async def test_whole(name: str) -> None:
    """The verdict table, spoken in bytes; and never more than one attempt."""
    login = LOGINS[name]
    async with imap_script(login.steps) as script:
        assert await attempt(script, login.password) is login.verdict
    assert script.connections == 1
    assert not [trouble for trouble in script.troubles if trouble.startswith("expected")]
    attempts = [line for line in script.lines if b" LOGIN " in line or b" AUTHENTICATE " in line]
    assert len(attempts) <= 1


@pytest.mark.parametrize("name", LOGINS)
async def test_cut_after_every_byte(name: str) -> None:
    """Never YES without the last byte, and NO only with the last byte."""
    login = LOGINS[name]
    whole = await said_by(login)
    for cut in range(whole):
        async with imap_script(login.steps, cut=cut) as script:
            assert await attempt(script, login.password) is Verdict.LATER, f"cut after {cut} bytes"


async def said_by(login: Login) -> int:
    """How many bytes the server says in the whole dialogue."""
    async with imap_script(login.steps) as script:
        await attempt(script, login.password)
    return script.said


@pytest.mark.parametrize("steps", [(), (Step(None, CAPABLE),), (Step(None, CAPABLE), Step(b"LOGIN", b"TAG O"))])
async def test_silence_ends_at_the_deadline(steps: Sequence[Step]) -> None:
    """A server that says nothing more costs the deadline and no more, and proves nothing."""
    async with imap_script(steps, hang=True) as script:
        began = asyncio.get_running_loop().time()
        assert await attempt(script, b"secret", seconds=0.2) is Verdict.LATER
        assert asyncio.get_running_loop().time() - began < 5


async def test_a_flood_before_the_answer_ends() -> None:
    """Endless untagged replies stop at the limit."""
    flood = b"* OK still working\r\n" * 200_000
    async with imap_script([Step(None, CAPABLE), Step(b"LOGIN", flood)], hang=True) as script:
        with pytest.raises(ProtocolTrouble):
            await answer(script, b"secret")


async def test_a_line_without_end_is_cut() -> None:
    """A greeting of megabytes is refused when the limit is passed."""
    async with imap_script([Step(None, b"* OK " + b"x" * 1_000_000)], hang=True) as script:
        assert await attempt(script, b"secret") is Verdict.LATER


@pytest.mark.parametrize("reply", [b"a1 OK done\r\n", b"a1 NO no\r\n", b"+ go on\r\n", b"a1 O"])
async def test_a_reply_before_the_command(reply: bytes) -> None:
    """A reply that was there before the command is none, whatever its tag."""
    async with imap_script([Step(None, CAPABLE + reply), Step(b"", b"")], hang=True) as script:
        assert await attempt(script, b"secret", tag_prefix=b"a", seconds=0.5) is Verdict.LATER


async def test_untagged_data_before_the_command_is_no_reply() -> None:
    """Capabilities right behind the greeting are taken; a BYE there is the end."""
    capabilities = b"* CAPABILITY IMAP4rev1\r\n* OK [ALERT] news\r\n"
    async with imap_script([Step(None, CAPABLE + capabilities), Step(b"LOGIN", b"TAG OK done\r\n")]) as script:
        assert await attempt(script, b"secret") is Verdict.YES
    async with imap_script([Step(None, CAPABLE + b"* BYE\r\n"), Step(b"LOGIN", b"TAG OK done\r\n")]) as script:
        assert await attempt(script, b"secret") is Verdict.LATER


async def test_tags_cannot_be_foreseen() -> None:
    """Two connections never use the same tag, so that no reply can be prepared."""
    tags = set()
    for _ in range(5):
        async with imap_script([Step(None, CAPABLE), Step(b"LOGIN", b"TAG OK\r\n")]) as script:
            assert await attempt(script, b"secret") is Verdict.YES
        tags.add(script.lines[0].split()[0])
    assert len(tags) == 5


async def test_a_password_with_nul_is_wrong_without_asking() -> None:
    """Nothing is sent; a login name that cannot be sent is an error."""
    async with imap_script([Step(None, CAPABLE)], hang=True) as script:
        assert (await answer(script, b"a\0b")).verdict is Verdict.NO
        client = await ImapClient.connect(script.endpoint, TlsPolicy())
        for name in (b"u\r\n1", b"u\n1", b"u\x001"):
            with pytest.raises(Unsendable):
                await client.login(name, Secret(b"x"))
        client.close()
    assert script.lines == []


async def test_an_authzid_is_sent_by_sasl() -> None:
    """An administrator opens the mailbox of a user."""
    steps = [Step(None, CAPABLE), Step(b"AUTHENTICATE PLAIN dTEAYWRtaW4AeA==\r\n", b"TAG OK done\r\n")]
    async with imap_script(steps) as script:
        client = await ImapClient.connect(script.endpoint, TlsPolicy())
        verdict = (await client.login(b"admin", Secret(b"x"), authzid=b"u1", refresh_capabilities=False)).verdict
        client.close()
    assert verdict is Verdict.YES


async def test_capabilities_are_asked_again_after_login() -> None:
    """Those of the greeting are a stranger's; the round trip is saved where only the verdict matters."""
    steps = [
        Step(None, CAPABLE),
        Step(b"LOGIN", b"TAG OK done\r\n"),
        Step(b"CAPABILITY", b"* CAPABILITY IMAP4rev1 uidplus\r\nTAG OK done\r\n"),
        Step(b"LOGOUT", b"* BYE\r\nTAG OK\r\n"),
    ]
    async with imap_script(steps) as script:
        client = await ImapClient.connect(script.endpoint, TlsPolicy())
        await client.login(b"u1", Secret(b"x"))
        assert client.capabilities == {"IMAP4REV1", "UIDPLUS"}
        await client.logout(wait=True)
    assert script.troubles == []


async def test_an_unanswered_logout_does_no_harm() -> None:
    """The server may be gone already."""
    async with imap_script([Step(None, CAPABLE), Step(b"LOGIN", b"TAG OK\r\n")]) as script:
        client = await ImapClient.connect(script.endpoint, TlsPolicy())
        await client.login(b"u1", Secret(b"x"), refresh_capabilities=False)
        await client.logout(wait=True)


@pytest.mark.parametrize(
    "reply", [b"* BYE bad: hunter2 twice\r\n", b"what is LOGIN u1 hunter2\r\n", b'TAG NO [X "hunter2" oops\r\n']
)
async def test_a_repeated_password_is_in_no_exception(reply: bytes) -> None:
    """Whatever the server says back."""
    async with imap_script([Step(None, CAPABLE), Step(b"LOGIN", reply)]) as script:
        with pytest.raises(Trouble) as caught:
            await answer(script, b"hunter2")
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value)


async def test_a_refused_connection_is_about_the_server() -> None:
    """Nobody listens."""
    async with imap_script([]) as script:
        pass
    with pytest.raises(Temporary) as caught:
        await answer(script, b"secret")
    assert caught.value.scope is Scope.SERVER


async def test_a_desynchronised_dialogue_is_never_taken_up_again() -> None:
    """The reply to a command that was given up does not answer the next one."""
    steps = [Step(None, CAPABLE), CAPABILITY, Step(b"NOOP", b""), Step(b"NOOP", b"zzz1 OK late\r\nTAG OK done\r\n")]
    async with imap_script(steps, hang=True) as script:
        client = await ImapClient.connect(script.endpoint, TlsPolicy())
        await client.command(b"CAPABILITY")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.noop()
        with pytest.raises(ProtocolTrouble):
            await client.noop()
        assert not client.stream.usable


@pytest.mark.parametrize(
    "name", ["exchange, right", "literal password, right", "LOGIN disabled, no initial response, right"]
)
async def test_cancelled_at_every_step(name: str) -> None:
    """A check that is given up at any moment says so, and leaves no connection behind."""
    login = LOGINS[name]
    for turns in range(40):
        async with imap_script(login.steps, hang=True) as script:
            task = asyncio.ensure_future(attempt(script, login.password))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            [outcome] = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(outcome, asyncio.CancelledError) or (turns > 5 and outcome is login.verdict)
