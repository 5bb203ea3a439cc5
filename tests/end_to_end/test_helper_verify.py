"""VRFY through the whole helper: what is asked, by whom it is shared, and what follows from a right password."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from migrator.ledger.jobs import LedgerQueue
from migrator.ledger.logins import Logins
from migrator.ledger.store import Store
from migrator.model import Adoption
from migrator.seal import Opener
from tests.end_to_end.helper_child import (
    DOMAIN,
    NOWHERE,
    add_account,
    communigate,
    helper,
    imap_server,
    pop_replying,
    smtp_server,
    write_config,
)
from tests.servers.script import Talk, serve

USER = f"u@{DOMAIN}"


def everything_below(directory: Path) -> list[bytes]:
    """The content of every file."""
    return [file.read_bytes() for file in directory.rglob("*") if file.is_file()]


YES, NO, LATER = b"OK", b"ERROR ", b"FAILURE "


PASSWORDS = [
    b"two words",
    b' leading and "quotes" and \\backslash',
    b"#1234",
    b"0",
    "пароль Grüße".encode(),
    b"latin \xe4\xff",
    b'x";UseExtPassword=YES;AccessModes=All;Z="y',
    b"[192.0.2.1]",
    b"(IMAP)",
]


@pytest.mark.parametrize("password", PASSWORDS)
async def test_passwords_arrive_byte_for_byte(tmp_path: Path, password: bytes) -> None:
    """At the old server, at CommuniGate, and in the sealed box; and set nothing but the password."""
    said: list[bytes] = []

    async def play(talk: Talk) -> None:
        await talk.send(b"* OK [CAPABILITY IMAP4rev1 LITERAL+] ready\r\n")
        line = await talk.line()
        said.append(line)
        while line.endswith(b"+}"):
            line = await talk.line()
            said.append(line)
        await talk.send(said[0].split(b" ")[0] + b" OK in\r\n")
        await talk.silence()

    async with communigate() as server, serve(play) as old:
        add_account(server, USER)
        async with helper(write_config(tmp_path, cli=server.cli.port, imap=old.port)) as child:
            escaped = password.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
            assert await child.ask(b'1 VRFY u@d.test "%b"' % escaped) == YES
            assert await child.end() == 0
        account = server.account(USER)
        assert account is not None
        assert account.accepts(password)
        assert account.settings["UseAppPassword"] == "YES"
        assert account.settings["UseExtPassword"] == "NO"
        assert "AccessModes" not in account.settings
    wire = b"\n".join(said)
    assert password in wire or escaped in wire
    store = Store(tmp_path / "state" / "state.db")
    login = await Logins(store).login_of(USER, f"imap://127.0.0.1:{old.port}")
    jobs = await LedgerQueue(store).jobs()
    await store.close()
    assert login is not None
    assert login.sealed is not None
    assert login.adoption is Adoption.ADOPTED
    assert Opener(tmp_path / "seal.key").open(login.sealed, USER).reveal() == password
    assert len(jobs) == 1
    if len(password) > 5:
        assert all(password not in content for content in everything_below(tmp_path))


async def test_empty_password_is_refused_without_asking(tmp_path: Path) -> None:
    """Some servers accept it."""
    async with serve(imap_server({b"LOGIN": b"OK in"})) as old:
        async with helper(write_config(tmp_path, imap=old.port)) as child:
            for number, line in enumerate((b"u@d.test", b'u@d.test ""', b"u@d.test [192.0.2.1]", b'u@d.test "" [::1]')):
                assert (await child.ask(b"%d VRFY %b" % (number, line))).startswith(NO)
        assert old.talks == []


async def test_protected_names_are_refused_without_asking(tmp_path: Path) -> None:
    """`postmaster` at the old server is not the administrator here."""
    async with communigate() as server, serve(imap_server({b"LOGIN": b"OK in"})) as old:
        config = write_config(
            tmp_path, cli=server.cli.port, imap=old.port, communigate='protected = ["pbx", "boss@d.test"]'
        )
        async with helper(config) as child:
            assert (await child.ask(b"1 VRFY postmaster@d.test secret")).startswith(NO)  # the CLI's login
            assert (await child.ask(b"2 VRFY PBX@d.test secret")).startswith(NO)
            assert (await child.ask(b"3 VRFY Boss@d.test secret")).startswith(NO)
            await child.told(b"protected")
        assert old.talks == []


async def test_accounts_with_access_rights_are_never_let_in_or_changed(tmp_path: Path) -> None:
    """Nothing is saved either."""
    async with communigate() as server, serve(imap_server({b"LOGIN": b"OK in"})) as old:
        add_account(server, USER)
        account = server.account(USER)
        assert account is not None
        account.rights = ["Domain"]
        async with helper(write_config(tmp_path, cli=server.cli.port, imap=old.port)) as child:
            assert (await child.ask(b"1 VRFY u@d.test secret")).startswith(NO)
            await child.told(b"access rights")
        assert not account.accepts(b"secret")
        assert "updateaccountsettings" not in server.cli.verbs()
    store = Store(tmp_path / "state" / "state.db")
    assert await LedgerQueue(store).jobs() == []
    await store.close()


@pytest.mark.parametrize("name", [b"user*admin@d.test", b"a+b@d.test", b"a%b@d.test", b"a\x00b@d.test", b".a@d.test"])
async def test_names_that_no_account_has_are_refused_without_asking(tmp_path: Path, name: bytes) -> None:
    """`user*admin` would be a master login on a Dovecot."""
    async with serve(imap_server({b"LOGIN": b"OK in"})) as old:
        async with helper(write_config(tmp_path, imap=old.port)) as child:
            assert (await child.ask(b"1 VRFY %b secret" % name)).startswith(NO)
        assert old.talks == []


async def test_equal_requests_share_one_check(tmp_path: Path) -> None:
    """Same account, source and password: one login at the old server. Another password is another check."""
    go = asyncio.Event()

    async def play(talk: Talk) -> None:
        await talk.send(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
        line = await talk.line()
        await go.wait()
        await talk.send(line.split(b" ")[0] + (b" OK in\r\n" if b"right" in line else b" NO wrong\r\n"))
        await talk.silence()

    async with communigate() as server, serve(play) as old:
        add_account(server, USER)
        async with helper(write_config(tmp_path, cli=server.cli.port, imap=old.port)) as child:
            await child.send(b"".join(b"%d VRFY u@d.test right [192.0.2.%d]\n" % (n, n) for n in range(1, 51)))
            await child.send(b"51 VRFY U@D.TEST right\n52 VRFY u@d.test wrong\n53 INTF 7\n")
            await child.reply(53)
            go.set()
            for number in range(1, 52):
                assert await child.reply(number) == YES
            assert (await child.reply(52)).startswith(NO)
        assert len(old.talks) == 2
        assert server.cli.verbs().count("updateaccountsettings") == 1


async def test_equal_requests_that_wait_their_turn_share_one_check_too(tmp_path: Path) -> None:
    """One place, taken by another user; then twenty equal requests, which take it together."""
    go, asked = asyncio.Event(), asyncio.Event()

    async def play(talk: Talk) -> None:
        await talk.send(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
        line = await talk.line()
        asked.set()
        await go.wait()
        await talk.send(line.split(b" ")[0] + b" NO wrong\r\n")
        await talk.silence()

    async with serve(play) as old:
        config = write_config(tmp_path, imap=old.port, helper='deadline = "20s"\nconcurrency = 1')
        async with helper(config) as child:
            await child.send(b"1 VRFY other@d.test secret\n")
            await asked.wait()
            await child.send(b"".join(b"%d VRFY u@d.test secret\n" % number for number in range(2, 22)))
            await child.ask(b"30 INTF 7")
            go.set()
            for number in range(1, 22):
                assert (await child.reply(number)).startswith(NO)
        assert len(old.talks) == 2


async def test_each_waiter_has_its_own_deadline(tmp_path: Path) -> None:
    """The first gives up; the check goes on, and the second gets its answer."""
    go = asyncio.Event()
    asked = asyncio.Event()

    async def play(talk: Talk) -> None:
        await talk.send(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
        line = await talk.line()
        asked.set()
        await go.wait()
        await talk.send(line.split(b" ")[0] + b" OK in\r\n")
        await talk.silence()

    async with communigate() as server, serve(play) as old:
        add_account(server, USER)
        config = write_config(tmp_path, cli=server.cli.port, imap=old.port, helper='deadline = "2s"')
        async with helper(config) as child:
            await child.send(b"1 VRFY u@d.test secret\n")
            await asked.wait()
            assert (await child.reply(1)).startswith(LATER)
            await child.send(b"2 VRFY u@d.test secret\n")
            await child.ask(b"3 INTF 7")
            go.set()
            assert await child.reply(2) == YES
        assert len(old.talks) == 1


async def test_late_yes_still_counts(tmp_path: Path) -> None:
    """It comes after the deadline: the user was told to wait, but the password is saved and taken over."""
    go = asyncio.Event()

    async def play(talk: Talk) -> None:
        await talk.send(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
        line = await talk.line()
        await go.wait()
        await talk.send(line.split(b" ")[0] + b" OK in\r\n")
        await talk.silence()

    async with communigate() as server, serve(play) as old:
        add_account(server, USER)
        config = write_config(tmp_path, cli=server.cli.port, imap=old.port, helper='deadline = "400ms"')
        async with helper(config) as child:
            assert (await child.ask(b"1 VRFY u@d.test secret")).startswith(LATER)
            go.set()
            account = server.account(USER)
            assert account is not None
            await child.end()  # waits for what is under way
            assert account.accepts(b"secret")
    store = Store(tmp_path / "state" / "state.db")
    assert [job.account for job in await LedgerQueue(store).jobs()] == [USER]
    await store.close()


async def test_a_late_repetition_never_overwrites_a_changed_password(tmp_path: Path) -> None:
    """The user has moved and chosen another password; the old VRFY comes once more."""
    async with communigate() as server, serve(imap_server({b"LOGIN": b"OK in"})) as old:
        add_account(server, USER)
        async with helper(write_config(tmp_path, cli=server.cli.port, imap=old.port)) as child:
            assert await child.ask(b"1 VRFY u@d.test secret") == YES
            account = server.account(USER)
            assert account is not None
            account.settings["Password"] = "another"
            assert await child.ask(b"2 VRFY u@d.test secret") == YES
            assert account.accepts(b"another")
            await child.end()
    store = Store(tmp_path / "state" / "state.db")
    assert len(await LedgerQueue(store).jobs()) == 1
    await store.close()


async def test_cli_that_is_down_lets_the_user_in(tmp_path: Path) -> None:
    """The old server said yes and the ledger has it: the worker takes the password over later."""
    play = imap_server({b"LOGIN": b"OK in"})
    async with serve(play) as old, helper(write_config(tmp_path, imap=old.port)) as child:
        assert await child.ask(b"1 VRFY u@d.test secret") == YES
        await child.told(b"not taken over now")
        await child.end()
    store = Store(tmp_path / "state" / "state.db")
    assert await Logins(store).adoption_of(USER) is Adoption.ADOPTING
    assert len(await LedgerQueue(store).jobs()) == 1
    await store.close()


async def test_cli_that_hangs_never_costs_the_answer(tmp_path: Path) -> None:
    """OK by the deadline, whatever the CLI does."""

    async def hang(talk: Talk) -> None:
        await talk.silence()

    async with serve(imap_server({b"LOGIN": b"OK in"})) as old, serve(hang) as cli:
        config = write_config(tmp_path, cli=cli.port, imap=old.port, helper='deadline = "2s"')
        async with helper(config) as child:
            assert await child.ask(b"1 VRFY u@d.test secret") == YES


async def test_ledger_that_takes_nothing_lets_the_user_in_and_changes_nothing(tmp_path: Path) -> None:
    """Nothing is set at CommuniGate before the ledger has the login; the next login tries again."""
    async with communigate() as server, serve(imap_server({b"LOGIN": b"OK in"})) as old:
        add_account(server, USER)
        config = write_config(tmp_path, cli=server.cli.port, imap=old.port)
        (tmp_path / "state").rmdir()
        async with helper(config) as child:
            assert await child.ask(b"1 VRFY u@d.test secret") == YES
            await child.told(b"could not be saved")
            account = server.account(USER)
            assert account is not None
            assert not account.accepts(b"secret")
            assert account.settings["UseExtPassword"] == "YES"
            (tmp_path / "state").mkdir(mode=0o700)
            assert await child.ask(b"2 VRFY u@d.test secret") == YES
            assert account.accepts(b"secret")


async def test_password_policy_keeps_external_authentication(tmp_path: Path) -> None:
    """CommuniGate refuses the password: the user still gets in, and the operator sees why."""
    async with communigate() as server, serve(imap_server({b"LOGIN": b"OK in"})) as old:
        add_account(server, USER)
        server.directory.password_policy = lambda password: "the password is too simple"
        async with helper(write_config(tmp_path, cli=server.cli.port, imap=old.port)) as child:
            assert await child.ask(b"1 VRFY u@d.test secret") == YES
            assert await child.end() == 0
        account = server.account(USER)
        assert account is not None
        assert account.settings["UseExtPassword"] == "YES"
    store = Store(tmp_path / "state" / "state.db")
    assert await Logins(store).adoption_of(USER) is Adoption.REFUSED
    await store.close()


@pytest.mark.parametrize(
    ("after_login", "jobs", "exports"), [("copy", 1, 0), ("export", 0, 1), ("copy+export", 1, 1), ("nothing", 0, 0)]
)
async def test_what_follows_is_as_configured(tmp_path: Path, after_login: str, jobs: int, exports: int) -> None:
    """The copy job, the export row, both or neither; the password is taken over in any case."""
    async with communigate() as server, serve(imap_server({b"LOGIN": b"OK in"})) as old:
        add_account(server, USER)
        config = write_config(tmp_path, cli=server.cli.port, imap=old.port, domain=f'after_login = "{after_login}"')
        async with helper(config) as child:
            assert await child.ask(b"1 VRFY u@d.test secret") == YES
            assert await child.end() == 0
        account = server.account(USER)
        assert account is not None
        assert account.accepts(b"secret")
    store = Store(tmp_path / "state" / "state.db")
    assert len(await LedgerQueue(store).jobs()) == jobs
    count = await store.read(lambda connection: connection.execute("SELECT total(exporting) FROM logins").fetchone()[0])
    await store.close()
    assert count == exports


async def test_login_template_domains_and_default(tmp_path: Path) -> None:
    """{user}, {domain}, {address} and old_domain; the default table; an unknown domain is a loud FAILURE."""
    async with serve(imap_server({b"LOGIN": b"NO wrong"})) as old:
        config = write_config(tmp_path, imap=old.port, domain='login = "{user}.{domain}"\nold_domain = "old.test"')
        with config.open("a") as file:
            file.write(f'[domains."e.test"]\nnew = "refuse"\nimap = "127.0.0.1:{old.port}"\nlogin = "{{address}}"\n')
        async with helper(config) as child:
            assert (await child.ask(b"1 VRFY (IMAP) Me@D.test secret")).startswith(NO)
            assert (await child.ask(b"2 VRFY me@e.test secret")).startswith(NO)
            assert (await child.ask(b"3 VRFY me@f.test secret")).startswith(LATER)
            await child.told(b"f.test")
            assert (await child.ask(b"4 VRFY me secret")).startswith(LATER)
            await child.told(b"main_domain")
        logins = [line for line in old.lines if b"LOGIN" in line]
        assert b"me.old.test" in logins[0]
        assert b"me@e.test" in logins[1]
        assert len(logins) == 2


async def test_name_without_a_domain_is_of_the_main_domain(tmp_path: Path) -> None:
    """Where one is configured."""
    async with serve(imap_server({b"LOGIN": b"NO wrong"})) as old:
        config = write_config(
            tmp_path, imap=old.port, domain='login = "{address}"', communigate=f'main_domain = "{DOMAIN}"'
        )
        async with helper(config) as child:
            assert (await child.ask(b"1 VRFY me secret")).startswith(NO)
        assert any(b"me@d.test" in line for line in old.lines)


async def test_pilot_serves_only_those_listed(tmp_path: Path) -> None:
    """All others get FAILURE and nobody is asked."""
    (tmp_path / "pilot").write_text("in@d.test\n")
    async with serve(imap_server({b"LOGIN": b"NO wrong"})) as old, serve(smtp_server({})) as smtp:
        config = write_config(tmp_path, imap=old.port, smtp=smtp.port, helper='pilot = "pilot"')
        async with helper(config) as child:
            assert (await child.ask(b"1 VRFY out@d.test secret")).startswith(LATER)
            assert (await child.ask(b"2 NEW out@d.test")).startswith(LATER)
            assert old.talks == []
            assert smtp.talks == []
            assert (await child.ask(b"3 VRFY In@d.test secret")).startswith(NO)
            assert (await child.ask(b"4 NEW in+list@d.test")).startswith(NO)


async def test_connections_to_an_old_server_are_bounded(tmp_path: Path) -> None:
    """However many users log in at once."""
    async with serve(imap_server({b"LOGIN": b"NO wrong"})) as old:
        async with helper(write_config(tmp_path, imap=old.port, domain="max_connections = 3")) as child:
            await child.send(b"".join(b"%d VRFY u%d@d.test secret\n" % (n, n) for n in range(100)))
            for number in range(100):
                assert (await child.reply(number)).startswith(NO)
        assert old.most <= 3
        assert len(old.talks) == 100


async def test_old_server_that_is_communigate_itself(tmp_path: Path) -> None:
    """Host and port are those of CommuniGate's own listener: a loop, found before the password is sent."""
    async with serve(imap_server({b"LOGIN": b"OK in"})) as old:
        config = write_config(tmp_path, imap=old.port)
        text = config.read_text().replace(f'imap = "127.0.0.1:{NOWHERE}"', f'imap = "127.0.0.1:{old.port}"')
        config.write_text(text)
        async with helper(config) as child:
            assert (await child.ask(b"1 VRFY u@d.test secret")).startswith(LATER)
            await child.told(b"CommuniGate itself")
        assert all(b"LOGIN" not in line for line in old.lines)


async def test_forward_ip_tells_a_trusting_server_where_the_user_is(tmp_path: Path) -> None:
    """By IMAP ID and POP XCLIENT, before the login, and only where it is configured."""
    imap = imap_server(
        {b"LOGIN": b"NO wrong", b"ID ": b"OK noted"}, greeting=b"* OK [CAPABILITY IMAP4rev1 ID] ready\r\n"
    )
    pop = pop_replying(b"+OK\r\n", b"-ERR wrong\r\n", b"+OK [XCLIENT] ready\r\n")
    line = b"1 VRFY (IMAP) u@d.test secret [192.0.2.77]"
    async with serve(imap) as by_imap, serve(pop) as by_pop:
        for forward in ("true", "false"):
            for verify in ("imap", "pop"):
                config = write_config(
                    tmp_path, imap=by_imap.port, pop=by_pop.port, verify=verify, domain=f"forward_ip = {forward}"
                )
                async with helper(config) as child:
                    assert (await child.ask(line)).startswith(NO)
        assert [[b"192.0.2.77" in said for said in talk] for talk in by_imap.talks] == [[True, False], [False]]
        assert [[b"192.0.2.77" in said for said in talk] for talk in by_pop.talks] == [
            [True, False, False],
            [False, False],
        ]
