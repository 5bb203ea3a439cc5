"""Real servers that allow fewer connections than we are configured for: nobody is refused for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.fault.test_helper_gate import side
from tests.servers.dovecot import Dovecot
from tests.servers.postfix import Postfix
from wire.endpoint import Endpoint
from wire.outcome import Verdict

USERS = [f"u{number}" for number in range(24)]


async def test_postfix_that_counts_connections_of_one_client(tmp_path: Path) -> None:
    """Its anvil refuses the third with 421: everybody is asked about over two."""
    extra = "smtpd_client_connection_count_limit = 2\nsmtpd_client_event_limit_exceptions =\n"
    with Postfix([f"{user}@d.test" for user in USERS], extra=extra) as old:
        async with side(tmp_path, smtp=old.port) as one:
            answers = await asyncio.gather(*(one.probe(user) for user in USERS))
            assert [answer.verdict for answer in answers if answer.verdict is not Verdict.YES] == []
            gate = one.gates.of(Endpoint("smtp", "127.0.0.1", old.port))
            assert not gate.is_open
            assert gate.bound.limit < 10
            assert sum("too many connections" in line for line in one.said) == 1


async def test_a_dovecot_with_few_logins_at_once(tmp_path: Path) -> None:
    """Its login service takes two clients; more wait in the kernel, or push out the oldest."""
    extra = "service imap-login {\n  process_limit = 1\n  client_limit = 2\n}\n"
    with Dovecot(dict.fromkeys(USERS, b"right"), extra=extra) as old:
        async with side(tmp_path, imap=old.imap_port) as one:
            for _ in range(2):
                answers = await asyncio.gather(*(one.log_in(user, b"right") for user in USERS))
                assert Verdict.NO not in [answer.verdict for answer in answers]
            assert not one.gate.is_open
            assert (await one.log_in("u1", b"right")).verdict is Verdict.YES


async def test_a_dovecot_that_counts_the_connections_of_one_user(tmp_path: Path) -> None:
    """That is the user's limit: it is no refusal, and changes nothing for anybody else."""
    with Dovecot(dict.fromkeys(USERS, b"right"), connections_per_user=1) as old:
        async with side(tmp_path, imap=old.imap_port) as one:
            same = await asyncio.gather(*(one.log_in("u0", b"right") for _ in range(12)))
            assert Verdict.NO not in [answer.verdict for answer in same]
            assert Verdict.YES in [answer.verdict for answer in same]
            assert one.gate.bound.limit == 10
            assert not one.gate.is_open
            others = await asyncio.gather(*(one.log_in(user, b"right") for user in USERS[1:]))
            assert all(answer.verdict is Verdict.YES for answer in others)


async def test_a_dovecot_that_goes_and_comes_back(tmp_path: Path) -> None:
    """Left alone after five users; the first who comes after a while gets in, and so does everybody."""
    with Dovecot(dict.fromkeys(USERS, b"right")) as old:
        async with side(tmp_path, imap=old.imap_port) as one:
            old.stop()
            for user in USERS:
                assert (await one.log_in(user, b"right")).verdict is Verdict.LATER
            assert one.gate.is_open
            old.start()
            assert (await one.log_in("u1", b"right")).verdict is Verdict.LATER
            one.now += 6
            for user in USERS:
                assert (await one.log_in(user, b"right")).verdict is Verdict.YES
            assert len(one.said) == 2
