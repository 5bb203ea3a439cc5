"""Questions about addresses to real Postfixes: catch-alls, relay domains, verified recipients, greylists, senders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from tests.servers.asking import Asking
from tests.servers.postfix import Postfix
from tests.servers.script import Talk, serve
from wire.outcome import Verdict

YES, NO, LATER = Verdict.YES, Verdict.NO, Verdict.LATER


@asynccontextmanager
async def asking(directory: Path, server: Postfix, domain: str = "old.test", more: str = "") -> AsyncIterator[Asking]:
    """The helper's side."""
    side = Asking(directory, server.port, domain, more)
    try:
        yield side
    finally:
        await side.end()


async def seen(side: Asking, address: str) -> tuple[Verdict, bool | None]:
    """The verdict on an address, and what it is worth."""
    word = await side.ask(address)
    return word.answer.verdict, word.accepts_all


async def test_users_aliases_and_strangers(tmp_path: Path, postfix: Postfix) -> None:
    """A domain whose users are listed, and one with a catch-all."""
    async with asking(tmp_path, postfix) as side:
        assert await seen(side, "known@old.test") == (YES, False)
        assert await seen(side, "alias@old.test") == (YES, False)
        assert await seen(side, "nobody@old.test") == (NO, None)
        assert await seen(side, "someone@elsewhere.test") == (LATER, None)
        assert await seen(side, "any@all.test") == (YES, True)
        assert await seen(side, "other@all.test") == (YES, True)
        assert side.said == [f"smtp://127.0.0.1:{postfix.port} accepts every address of all.test"]


@contextmanager
def relaying(tmp_path: Path, more: str) -> Iterator[Postfix]:
    """A Postfix that relays mail of relay.test; known@relay.test is in its list where `more` names it."""
    listed = tmp_path / "listed"
    listed.write_text("known@relay.test x\n")
    listed.chmod(0o644)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == 0 and parent != parent.parent:
            parent.chmod(parent.stat().st_mode | 0o011)
    extra = f"relay_domains = relay.test\nrelay_transport = discard:\n{more.format(listed=listed)}"
    with Postfix(["known@old.test"], extra=extra) as server:
        yield server


async def test_relay_recipient_maps(tmp_path: Path) -> None:
    """A gateway that knows the recipients behind it."""
    with relaying(tmp_path, "relay_recipient_maps = texthash:{listed}") as server:
        async with asking(tmp_path, server, "relay.test") as side:
            assert await seen(side, "known@relay.test") == (YES, False)
            assert await seen(side, "unknown@relay.test") == (NO, None)


async def test_a_gateway_that_relays_everything(tmp_path: Path) -> None:
    """It knows nobody behind it; and it refuses the null sender, though only once the recipient is named."""
    more = "smtpd_sender_restrictions = check_sender_access inline:{{{{ <> = 550 5.7.1 no null sender here }}}}"
    with relaying(tmp_path, more) as server:
        async with asking(tmp_path, server, "relay.test", 'senders = ["", "probe@old.test"]') as side:
            assert await seen(side, "known@relay.test") == (YES, True)
            assert await seen(side, "known@old.test") == (YES, False)
            assert await seen(side, "unknown@old.test") == (NO, None)


async def test_verified_recipients(tmp_path: Path) -> None:
    """reject_unverified_recipient: a user is put off while he is verified; unknown ones are put off for ever."""

    async def play(talk: Talk) -> None:
        await talk.send(b"220 behind ESMTP\r\n")
        while True:
            line = await talk.line()
            if line.startswith(b"RCPT"):
                await talk.send(b"250 yes\r\n" if b"<known@" in line else b"550 5.1.1 no such user\r\n")
            elif line.startswith(b"QUIT"):
                await talk.send(b"221 bye\r\n")
                return
            else:
                await talk.send(b"250 fine\r\n")

    async with serve(play, refuses_strangers=False) as behind:
        extra = (
            f"relay_domains = relay.test\nrelay_transport = smtp:[127.0.0.1]:{behind.port}\n"
            "smtpd_recipient_restrictions = reject_unauth_destination, reject_unverified_recipient\n"
            "address_verify_poll_delay = 1s\naddress_verify_poll_count = 5\naddress_verify_map =\n"
        )
        with Postfix(["known@old.test"], extra=extra) as server:
            async with asking(tmp_path, server, "relay.test") as side:
                for _ in range(10):
                    verdict = await seen(side, "known@relay.test")
                    if verdict[0] is YES:
                        break
                assert verdict == (YES, None), "450 to the strangers: not clear yet"
                assert await seen(side, "unknown@relay.test") == (LATER, None)
                side.now += 500
                assert await seen(side, "known@relay.test") == (YES, None)
                side.now += 500
                assert await seen(side, "known@relay.test") == (YES, False)


async def test_a_greylist(tmp_path: Path) -> None:
    """Triplets are put off once. The strangers keep their names, so that they come through as the user does."""
    let_in: set[tuple[str, ...]] = set()
    refused = 0

    async def policy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal refused
        try:
            while True:
                asked = (await reader.readuntil(b"\n\n")).decode().split("\n")
                values = dict(line.split("=", 1) for line in asked if "=" in line)
                triplet = (values["client_address"], values["sender"], values["recipient"], values["helo_name"])
                action = "DUNNO" if triplet in let_in else "450 4.2.0 Greylisted, try again in 60 seconds"
                refused += triplet not in let_in
                let_in.add(triplet)
                writer.write(f"action={action}\n\n".encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(policy, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    extra = (
        "smtpd_recipient_restrictions = reject_unauth_destination,"
        f" check_policy_service inet:127.0.0.1:{port}\nsmtpd_reject_unlisted_recipient = yes\n"
    )
    with Postfix(["known@old.test"], extra=extra) as server:
        async with asking(tmp_path, server) as side:
            assert await seen(side, "known@old.test") == (LATER, None)
            assert refused == 3, "the user and two strangers"
            assert list(side.inquiry._put_off) == [("known@old.test", f"smtp://127.0.0.1:{server.port}")]
            assert await seen(side, "known@old.test") == (YES, False)
            assert refused == 3
            assert await seen(side, "other@old.test") == (LATER, None)
            assert await seen(side, "other@old.test") == (NO, None)
    listener.close()
    await listener.wait_closed()


@pytest.mark.parametrize("count", [60])
async def test_many_unknown_names_do_not_wear_postfix_out(tmp_path: Path, postfix: Postfix, count: int) -> None:
    """Sessions are left before Postfix slows them."""
    async with asking(tmp_path, postfix) as side:
        words = await asyncio.gather(*(side.ask(f"x{number}@old.test") for number in range(count)))
        assert {word.answer.verdict for word in words} == {NO}
