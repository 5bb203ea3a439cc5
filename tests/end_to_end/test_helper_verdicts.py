"""VRFY through the whole helper: the verdict table row by row, in bytes, by IMAP and by POP."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.helper_child import (
    DOMAIN,
    add_account,
    communigate,
    helper,
    pop_replying,
    write_config,
)
from tests.servers.script import Play, Talk, serve

USER = f"u@{DOMAIN}"

YES, NO, LATER = b"OK", b"ERROR ", b"FAILURE "


def replying(answer: bytes, greeting: bytes = b"* OK [CAPABILITY IMAP4rev1] ready\r\n") -> Play:
    """An IMAP server that answers the login with `answer`, T standing for its tag, and hangs up after it."""

    async def play(talk: Talk) -> None:
        await talk.send(greeting)
        line = await talk.line()
        await talk.send(answer.replace(b"T ", line.split(b" ")[0] + b" "))

    return play


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"T OK welcome\r\n", YES),
        (b"T OK\r\n", YES),
        (b"* CAPABILITY IMAP4rev1 MOVE\r\nT OK [CAPABILITY IMAP4rev1] in\r\n", YES),
        (b"T NO wrong password\r\n", NO),
        (b"T NO\r\n", NO),
        (b"T NO \r\n", NO),
        (b"T NO [AUTHENTICATIONFAILED] wrong\r\n", NO),
        (b"T NO [AUTHORIZATIONFAILED] not you\r\n", NO),
        (b"T NO [EXPIRED] change it\r\n", NO),
        (b"T NO [UNAVAILABLE] backend down\r\n", LATER),
        (b"T NO [CONTACTADMIN] call us\r\n", LATER),
        (b"T NO [INUSE] busy\r\n", LATER),
        (b"T NO [LIMIT] too many\r\n", LATER),
        (b"T NO [PRIVACYREQUIRED] use TLS\r\n", LATER),
        (b"T NO [SOMETHING-NEW] hm\r\n", LATER),
        (b"T NO Maximum number of connections exceeded\r\n", LATER),
        (b"T NO server busy, try again later\r\n", LATER),
        (b"T BAD\r\n", LATER),
        (b"T BAD syntax\r\n", LATER),
        (b"* BYE overloaded\r\n", LATER),
        (b"* BYE\r\nT NO wrong\r\n", LATER),
        (b"x1 OK in\r\n", LATER),
        (b"T OK", LATER),
        (b"T N", LATER),
        (b"", LATER),
        (b"\0\xff garbage\r\n", LATER),
    ],
)
async def test_imap_login_by_the_table(tmp_path: Path, answer: bytes, expected: bytes) -> None:
    """One complete explicit OK is a yes, the server's own refusal of this user a no, all else is not known."""
    async with communigate() as server, serve(replying(answer)) as old:
        add_account(server, USER)
        async with helper(write_config(tmp_path, cli=server.cli.port, imap=old.port)) as child:
            reply = await child.ask(b'1 VRFY (IMAP) u@d.test "secret" [192.0.2.1]')
            assert reply == expected if expected == YES else reply.startswith(expected)
            assert b"secret" not in reply
        adopted = server.account(USER)
        assert adopted is not None
        assert adopted.accepts(b"secret") is (expected == YES)


@pytest.mark.parametrize(
    "greeting",
    [
        b"* PREAUTH welcome\r\n",
        b"* BYE go away\r\n",
        b"* NO not now\r\n",
        b"+OK POP3\r\n",
        b"T OK in\r\n",
        b"",
        b"* OK",
    ],
)
async def test_imap_greeting_is_never_an_answer(tmp_path: Path, greeting: bytes) -> None:
    """Not even PREAUTH, and not a tagged OK that comes before the command."""
    async with serve(replying(b"T OK in\r\n", greeting)) as old, helper(write_config(tmp_path, imap=old.port)) as child:
        assert (await child.ask(b"1 VRFY u@d.test secret")).startswith(LATER)


@pytest.mark.parametrize(
    ("to_user", "to_pass", "expected"),
    [
        (b"+OK\r\n", b"+OK\r\n", YES),
        (b"+OK send PASS\r\n", b"+OK 3 messages\r\n", YES),
        (b"+OK\r\n", b"-ERR\r\n", NO),
        (b"+OK\r\n", b"-ERR wrong password\r\n", NO),
        (b"+OK\r\n", b"-ERR [AUTH] wrong\r\n", NO),
        (b"-ERR no such mailbox\r\n", b"", NO),
        (b"+OK\r\n", b"-ERR [IN-USE] locked\r\n", LATER),
        (b"+OK\r\n", b"-ERR [SYS/TEMP] disk\r\n", LATER),
        (b"+OK\r\n", b"-ERR [LOGIN-DELAY] wait\r\n", LATER),
        (b"+OK\r\n", b"-ERR mailbox is locked by another session\r\n", LATER),
        (b"+OK\r\n", b"-ERR temporary failure, try again later\r\n", LATER),
        (b"+OK\r\n", b"+O", LATER),
        (b"+OK\r\n", b"", LATER),
        (b"+OK\r\n", b"OK\r\n", LATER),
        (b"-ERR [SYS/TEMP] disk\r\n", b"", LATER),
        (b"", b"", LATER),
    ],
)
async def test_pop_login_by_the_table(tmp_path: Path, to_user: bytes, to_pass: bytes, expected: bytes) -> None:
    """The same table for POP."""
    async with communigate() as server, serve(pop_replying(to_user, to_pass)) as old:
        add_account(server, USER)
        async with helper(write_config(tmp_path, cli=server.cli.port, pop=old.port, verify="pop")) as child:
            reply = await child.ask(b"1 VRFY (POP) u@d.test secret")
            assert reply == expected if expected == YES else reply.startswith(expected)
            assert b"secret" not in reply
        account = server.account(USER)
        assert account is not None
        assert account.accepts(b"secret") is (expected == YES)


async def test_old_server_that_is_not_there(tmp_path: Path) -> None:
    """Refused connections: not known, said once in CommuniGate's log."""
    async with helper(write_config(tmp_path)) as child:
        assert (await child.ask(b"1 VRFY u@d.test secret")).startswith(LATER)
        assert (await child.ask(b"2 VRFY v@d.test secret")).startswith(LATER)
        await child.told(b"cannot check passwords now")
        assert len([line for line in child.information if b"cannot check passwords" in line]) == 1


async def test_word_for_later_can_be_error(tmp_path: Path) -> None:
    """For VRFY only: NEW always says FAILURE."""
    async with helper(write_config(tmp_path, helper='temporary = "ERROR"')) as child:
        assert (await child.ask(b"1 VRFY u@d.test secret")).startswith(NO)
        assert (await child.ask(b"2 NEW u@d.test")).startswith(LATER)
