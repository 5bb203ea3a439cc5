"""NEW through the whole helper: the verdict table row by row, in bytes, and what becomes of the names."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.ledger.logins import Logins
from migrator.ledger.store import Store
from migrator.model import Adoption
from tests.end_to_end.helper_child import (
    DOMAIN,
    NOWHERE,
    add_account,
    communigate,
    helper,
    smtp_server,
    write_config,
)
from tests.servers.script import Talk, serve

USER = f"u@{DOMAIN}"
YES, NO, LATER = b"OK", b"ERROR ", b"FAILURE "
HERE = {b"<postmaster@": b"250 here", b"<u@": b"250 here"}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"250 OK", YES),
        (b"250 2.1.5 Ok", YES),
        (b"251 will forward", YES),
        (b"252 cannot verify", LATER),
        (b"550 5.1.1 unknown", NO),
        (b"550 5.1.3 bad syntax", NO),
        (b"551 5.1.6 moved", NO),
        (b"556 5.1.10 null MX", NO),
        (b"552 5.2.2 full", YES),
        (b"550 5.1.0 sender", LATER),
        (b"550 5.1.8 sender", LATER),
        (b"550 5.7.1 relaying denied", LATER),
        (b"554 5.7.1 blocked", LATER),
        (b"554 no", LATER),
        (b"503 order", LATER),
        (b"501 5.5.4 syntax", LATER),
        (b"450 4.2.0 greylisted", LATER),
        (b"451 4.3.0 try later", LATER),
        (b"452 4.3.1 disk", LATER),
        (b"421 4.3.2 closing", LATER),
        (b"550-5.1.1 unknown\r\n550 5.1.1 really", NO),
        (b"550-5.1.1 unknown\r\n551 5.1.1 other", LATER),
        (b"200 what", LATER),
        (b"garbage", LATER),
        (b"", LATER),
    ],
)
async def test_recipient_by_the_table(tmp_path: Path, reply: bytes, expected: bytes) -> None:
    """Only the old server's own "no such user" is ERROR: anything else would bounce mail for its fault."""
    async with communigate() as server, serve(smtp_server({b"<u@": reply})) as old:
        async with helper(write_config(tmp_path, cli=server.cli.port, smtp=old.port)) as child:
            answer = await child.ask(b"1 NEW u@d.test (SMTP) [192.0.2.1]")
            assert answer == expected if expected == YES else answer.startswith(expected)
        account = server.account(USER)
        assert (account is not None) == (expected == YES)
        if account is not None:
            assert account.settings["UseAppPassword"] == "NO"
            assert account.settings["UseExtPassword"] == "YES"


@pytest.mark.parametrize("code", [b"550", b"551", b"553"])
@pytest.mark.parametrize(("known", "expected"), [(b"250 here", NO), (b"550 relaying denied", LATER), (b"451 ?", LATER)])
async def test_bare_refusal_counts_only_beside_an_accepted_user(
    tmp_path: Path, code: bytes, known: bytes, expected: bytes
) -> None:
    """550 without an enhanced code is often "relaying denied": postmaster in the same session decides."""
    play = smtp_server({b"<postmaster@": known, b"<u@": code + b" no such user here"})
    async with communigate() as server, serve(play) as old:
        async with helper(write_config(tmp_path, cli=server.cli.port, smtp=old.port)) as child:
            assert (await child.ask(b"1 NEW u@d.test")).startswith(expected)
        assert len(old.talks) == 1


@pytest.mark.parametrize(
    "answers",
    [
        {b"CONNECT": b"554 go away"},
        {b"CONNECT": b"421 busy"},
        {b"CONNECT": b"220-endless"},
        {b"EHLO": b"550 5.1.1 no", b"HELO": b"550 5.1.1 no"},
        {b"EHLO": b"421 no"},
        {b"MAIL": b"550 5.1.1 no"},
        {b"MAIL": b"451 later"},
        {b"MAIL": b"421 later"},
    ],
)
async def test_refusals_before_the_recipient_are_about_the_server(tmp_path: Path, answers: dict[bytes, bytes]) -> None:
    """Even when they look like "no such user"."""
    async with communigate() as server, serve(smtp_server(answers)) as old:
        config = write_config(tmp_path, cli=server.cli.port, smtp=old.port, helper='deadline = "2s"')
        async with helper(config) as child:
            assert (await child.ask(b"1 NEW u@d.test")).startswith(LATER)
            await child.told(b"cannot ask about addresses now")
        assert server.account(USER) is None


async def test_refused_senders_reply_is_told_once(tmp_path: Path) -> None:
    """The enhanced code is part of the server's text and is not said twice."""
    async with (
        communigate() as server,
        serve(smtp_server({b"MAIL": b"550 5.7.1 go away"})) as old,
        helper(write_config(tmp_path, cli=server.cli.port, smtp=old.port)) as child,
    ):
        assert await child.ask(b"1 NEW u@d.test") == b"FAILURE MAIL FROM refused: 550 5.7.1 go away"


async def test_old_server_that_is_not_there(tmp_path: Path) -> None:
    """Refused connections: FAILURE, so that mail waits."""
    async with communigate() as server, helper(write_config(tmp_path, cli=server.cli.port)) as child:
        assert (await child.ask(b"1 NEW u@d.test")).startswith(LATER)
        await child.told(b"cannot connect")


async def test_helo_where_ehlo_is_unknown_and_another_sender_where_the_null_sender_is_refused(tmp_path: Path) -> None:
    """EHLO then HELO; MAIL FROM:<> then the configured sender."""

    async def play(talk: Talk) -> None:
        await talk.send(b"220 old\r\n")
        while True:
            line = await talk.line()
            refused = line.startswith(b"EHLO") or line == b"MAIL FROM:<>"
            await talk.send(b"550 5.7.1 no\r\n" if refused else b"250 fine\r\n")

    async with communigate() as server, serve(play) as old:
        config = write_config(
            tmp_path,
            cli=server.cli.port,
            smtp=old.port,
            domain='senders = ["", "probe@main.test"]\nhelo = "new.test"\naccept_all = "create"',
        )
        async with helper(config) as child:
            assert await child.ask(b"1 NEW u@d.test") == YES
        assert old.lines[:5] == [
            b"EHLO new.test",
            b"HELO new.test",
            b"MAIL FROM:<>",
            b"MAIL FROM:<probe@main.test>",
            b"RCPT TO:<u@d.test>",
        ]


async def test_connections_are_kept_and_left_before_the_server_minds(tmp_path: Path) -> None:
    """One connection for many probes; a new one after 9 refusals and after 90 commands."""
    async with communigate() as server, serve(smtp_server({b"<no": b"550 5.1.1 no", b"@": b"250 yes"})) as old:
        config = write_config(tmp_path, cli=server.cli.port, smtp=old.port, domain="max_connections = 1")
        async with helper(config) as child:
            for number in range(30):
                assert (await child.ask(b"%d NEW no%d@d.test" % (number, number))).startswith(NO)
            assert len(old.talks) == 4
            for talk in old.talks:
                assert sum(line.startswith(b"RCPT TO:<no") for line in talk) <= 9
            for number in range(100, 300):
                assert await child.ask(b"%d NEW yes%d@d.test" % (number, number)) == YES
        assert old.most == 1
        assert all(len(talk) <= 93 for talk in old.talks)
        assert 5 <= len(old.talks) <= 8


async def test_a_kept_connection_that_was_dropped_is_replaced(tmp_path: Path) -> None:
    """The server hung up while it was idle: that says nothing about the user or the server."""

    async def play(talk: Talk) -> None:
        await talk.send(b"220 old\r\n")
        while not (await talk.line()).startswith(b"RCPT"):
            await talk.send(b"250 fine\r\n")
        await talk.send(b"550 5.1.1 no\r\n")

    async with communigate() as server, serve(play) as old:
        async with helper(write_config(tmp_path, cli=server.cli.port, smtp=old.port)) as child:
            for number in range(5):
                assert (await child.ask(b"%d NEW u%d@d.test" % (number, number))).startswith(NO)
        assert len(old.talks) == 5


async def test_account_that_exists_is_ok(tmp_path: Path) -> None:
    """Two equal NEWs, one after the other; an account that only CommuniGate knows; whatever the code for "exists"."""
    async with communigate() as server, serve(smtp_server(HERE)) as old:
        add_account(server, f"only-here@{DOMAIN}")
        server.directory.exists_code = 501
        async with helper(write_config(tmp_path, cli=server.cli.port, smtp=old.port)) as child:
            assert await child.ask(b"1 NEW u@d.test") == YES
            assert await child.ask(b"2 NEW u@d.test") == YES
            assert await child.ask(b"3 NEW only-here@d.test") == YES
            assert (await child.ask(b"4 NEW nobody@d.test")).startswith(NO)


async def test_equal_requests_share_one_probe(tmp_path: Path) -> None:
    """A hundred NEWs for one name: one question, one CreateAccount."""
    async with communigate() as server, serve(smtp_server(HERE)) as old:
        async with helper(write_config(tmp_path, cli=server.cli.port, smtp=old.port)) as child:
            await child.send(b"".join(b"%d NEW U@d.test (SMTP) [127.0.0.1]\n" % number for number in range(100)))
            for number in range(100):
                assert await child.reply(number) == YES
        assert sum(b"RCPT TO:<u@" in line for line in old.lines) == 1
        assert server.cli.verbs().count("createaccount") == 1


async def test_more_settings_for_the_account(tmp_path: Path) -> None:
    """`create` goes along; the two options of the migration cannot be overridden."""
    async with communigate() as server, serve(smtp_server(HERE)) as old:
        config = write_config(
            tmp_path, cli=server.cli.port, smtp=old.port, domain='create = { ServiceClass = "a;b}\\"", MaxSize = "1G" }'
        )
        async with helper(config) as child:
            assert await child.ask(b"1 NEW u@d.test") == YES
        account = server.account(USER)
        assert account is not None
        assert account.settings["ServiceClass"] == 'a;b}"'
        assert account.settings["UseExtPassword"] == "YES"
    store = Store(tmp_path / "state" / "state.db")
    assert await Logins(store).adoption_of(USER) is Adoption.SEEN
    await store.close()


async def test_cli_in_trouble_is_failure(tmp_path: Path) -> None:
    """Down, full, refusing: mail waits."""
    async with serve(smtp_server(HERE)) as old:
        async with helper(write_config(tmp_path, smtp=old.port)) as child:
            assert (await child.ask(b"1 NEW u@d.test")).startswith(LATER)
            await child.told(b"CLI")
        async with communigate() as server:
            server.faults.reply("CREATEACCOUNT", b"538 too many accounts")
            server.faults.reply("CREATEACCOUNT", b"500 strange")
            async with helper(write_config(tmp_path, cli=server.cli.port, smtp=old.port)) as child:
                assert (await child.ask(b"1 NEW u@d.test")).startswith(LATER)
                assert (await child.ask(b"2 NEW u@d.test")).startswith(LATER)
                assert await child.ask(b"3 NEW u@d.test") == YES


async def test_create_whose_reply_was_lost_is_read_back(tmp_path: Path) -> None:
    """The session broke after CreateAccount went out; the account is there."""
    async with communigate() as server, serve(smtp_server(HERE)) as old:
        server.faults.cut("CREATEACCOUNT", executed=True)
        async with helper(write_config(tmp_path, cli=server.cli.port, smtp=old.port)) as child:
            assert await child.ask(b"1 NEW u@d.test") == YES


async def test_exists_is_not_believed_where_the_account_cannot_be_read(tmp_path: Path) -> None:
    """After OK the server looks once more, and bounces what it does not find: "exists" alone is FAILURE."""
    async with communigate() as server, serve(smtp_server(HERE)) as old:
        server.faults.reply("CREATEACCOUNT", b"520 account exists")
        server.faults.reply("CREATEACCOUNT", b"522 a mailing list has this name")
        async with helper(write_config(tmp_path, cli=server.cli.port, smtp=old.port)) as child:
            assert (await child.ask(b"1 NEW u@d.test")).startswith(LATER)
            assert await child.ask(b"2 NEW u@d.test") == YES  # a list is no account to be read


async def test_unknown_domain_of_communigate(tmp_path: Path) -> None:
    """Configured here, unknown there: an operator's mistake, FAILURE."""
    async with (
        communigate(name="other.test") as server,
        serve(smtp_server(HERE)) as old,
        helper(write_config(tmp_path, cli=server.cli.port, smtp=old.port)) as child,
    ):
        assert (await child.ask(b"1 NEW u@d.test")).startswith(LATER)
        await child.told(b"refuses to make")


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"u+list@d.test", b"prvs=0123abcdef=u@d.test", b"U+A+B@d.test"])
async def test_carriers_are_routed_to_their_base(tmp_path: Path, name: bytes) -> None:
    """The base is asked about instead, made an account, and mail goes there."""
    async with communigate() as server, serve(smtp_server(HERE)) as old:
        async with helper(write_config(tmp_path, cli=server.cli.port, smtp=old.port)) as child:
            assert await child.ask(b"1 NEW %b (SMTP)" % name) == b"ROUTED u@d.test"
            assert await child.ask(b"2 NEW %b (SMTP)" % name) == b"ROUTED u@d.test"
        assert sum(b"RCPT TO:<u@" in line for line in old.lines) == 1
        assert sorted(server.directory.domain(DOMAIN).accounts) == ["u"]


async def test_carrier_of_nobody_is_error(tmp_path: Path) -> None:
    """The base does not exist either."""
    async with (
        communigate() as server,
        serve(smtp_server({})) as old,
        helper(write_config(tmp_path, cli=server.cli.port, smtp=old.port)) as child,
    ):
        assert (await child.ask(b"1 NEW nobody+list@d.test")).startswith(NO)


async def test_carrier_of_an_account_that_has_moved(tmp_path: Path) -> None:
    """CommuniGate knows the base: the old server need not be asked, it may be gone. So may postmaster's details."""
    async with communigate() as server:
        add_account(server, USER)
        server.directory.create_account(f"postmaster@{DOMAIN}", {})
        async with helper(write_config(tmp_path, cli=server.cli.port)) as child:
            assert await child.ask(b"1 NEW u+list@d.test") == b"ROUTED u@d.test"
            assert await child.ask(b"2 NEW postmaster+x@d.test") == b"ROUTED postmaster@d.test"


async def test_srs_of_a_stranger_is_never_routed(tmp_path: Path) -> None:
    """Anybody can write one: only domains that are ours by name are routed to."""
    async with communigate() as server, serve(smtp_server({b"known": b"250 yes", **HERE})) as old:
        config = write_config(tmp_path, cli=server.cli.port, smtp=old.port)
        with config.open("a") as file:
            file.write(f'[domains.default]\nsmtp = "127.0.0.1:{old.port}"\nimap = "127.0.0.1:{NOWHERE}"\n')
        async with helper(config) as child:
            assert await child.ask(b"1 NEW SRS0=ab12=x7=d.test=u@d.test") == b"ROUTED u@d.test"
            assert (await child.ask(b"2 NEW SRS0=ab12=x7=evil.test=u@d.test")).startswith(NO)
            assert (await child.ask(b"3 NEW SRS0=ab12=x7=evil.test=known@d.test")).startswith(LATER)


@pytest.mark.parametrize(
    ("name", "reply", "expected"),
    [
        (b"o'brien@d.test", b"550 5.1.1 no", NO),
        (b"o'brien@d.test", b"250 yes", LATER),
        (b"a&b@d.test", b"450 later", LATER),
        (b"u.@d.test", b"250 yes", LATER),
    ],
)
async def test_names_that_cannot_be_accounts(tmp_path: Path, name: bytes, reply: bytes, expected: bytes) -> None:
    """No account is made; "no" is still only the old server's own."""
    async with communigate() as server, serve(smtp_server({name: reply})) as old:
        async with helper(write_config(tmp_path, cli=server.cli.port, smtp=old.port)) as child:
            assert (await child.ask(b"1 NEW " + name)).startswith(expected)
        assert not server.directory.domain(DOMAIN).accounts
        assert "createaccount" not in server.cli.verbs()


@pytest.mark.parametrize(
    "name",
    [
        b'"a b"@d.test',
        b"a b@d.test",
        b"\xff@d.test",
        b"x" * 129 + b"@d.test",
        b"a>@d.test",
        b'a";X=YES@d.test',
        b"@d.test",
    ],
)
async def test_names_that_no_line_can_hold_are_refused_without_asking(tmp_path: Path, name: bytes) -> None:
    """Nothing of them ever reaches SMTP or the CLI."""
    async with communigate() as server, serve(smtp_server({b"@": b"250 yes"})) as old:
        async with helper(write_config(tmp_path, cli=server.cli.port, smtp=old.port)) as child:
            assert (await child.ask(b"1 NEW " + name)).startswith(NO)
        assert old.talks == []
        assert server.cli.executed == []


async def test_protected_names_are_never_made(tmp_path: Path) -> None:
    """FAILURE and a loud line, whatever the old server has."""
    async with communigate() as server, serve(smtp_server({b"@": b"250 yes"})) as old:
        async with helper(write_config(tmp_path, cli=server.cli.port, smtp=old.port)) as child:
            assert (await child.ask(b"1 NEW postmaster@d.test")).startswith(LATER)
            assert (await child.ask(b"2 NEW pbx@d.test")).startswith(LATER)
            await child.told(b"pbx@d.test")
        assert not server.directory.domain(DOMAIN).accounts
        assert old.talks == []


async def test_old_domain_is_asked_about(tmp_path: Path) -> None:
    """The account is in the new domain, the question about the old one."""
    async with communigate() as server, serve(smtp_server({b"<u@old.test>": b"250 yes"})) as old:
        config = write_config(tmp_path, cli=server.cli.port, smtp=old.port, domain='old_domain = "old.test"')
        async with helper(config) as child:
            assert await child.ask(b"1 NEW u@d.test") == YES
        assert server.account(USER) is not None


async def test_main_domain(tmp_path: Path) -> None:
    """A bare name is of the main domain, where one is configured."""
    async with communigate() as server, serve(smtp_server(HERE)) as old:
        config = write_config(tmp_path, cli=server.cli.port, smtp=old.port)
        async with helper(config) as child:
            assert (await child.ask(b"1 NEW u")).startswith(LATER)
            assert (await child.ask(b"2 NEW u@elsewhere.test")).startswith(LATER)
        config = write_config(tmp_path, cli=server.cli.port, smtp=old.port, communigate=f'main_domain = "{DOMAIN}"')
        async with helper(config) as child:
            assert await child.ask(b"1 NEW u") == YES
        assert server.account(USER) is not None
