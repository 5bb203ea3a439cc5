"""NEW for names of the aliases file, through the whole helper."""

from __future__ import annotations

from pathlib import Path

from extauth.sandbox.faults import Fault
from tests.end_to_end.helper_child import DOMAIN, add_account, communigate, helper, smtp_server, write_config
from tests.servers.script import serve

YES, NO, LATER = b"OK", b"ERROR ", b"FAILURE "
OLD = {b"<ann@": b"250 yes", b"<info@": b"250 yes", b"<robot@": b"250 yes", b"<sales@": b"250 yes"}


def config_with(directory: Path, aliases: str, cli: int, smtp: int, more: str = "") -> Path:
    """A configuration that names these aliases."""
    (directory / "aliases").write_text(aliases)
    return write_config(directory, cli=cli, smtp=smtp, domain=f'aliases = "aliases"\n{more}')


async def test_an_alias_of_an_account(tmp_path: Path) -> None:
    """The account is made first; aliases that are there stay; asked again, nothing changes."""
    async with communigate() as server, serve(smtp_server(OLD)) as old:
        config = config_with(tmp_path, "info: ann\nsales: ann\n", server.cli.port, old.port)
        async with helper(config) as child:
            assert await child.ask(b"1 NEW info@d.test (SMTP)") == YES
            account = server.account(f"ann@{DOMAIN}")
            assert account is not None
            assert account.settings["UseExtPassword"] == "YES"
            assert server.account(f"info@{DOMAIN}") is account
            server.directory.set_aliases(account, ["info", "by-hand"])
            assert await child.ask(b"2 NEW Sales@d.test (SMTP)") == YES
            assert sorted(account.aliases) == ["by-hand", "info", "sales"]
            assert await child.ask(b"3 NEW sales@d.test (SMTP)") == YES
            assert sorted(account.aliases) == ["by-hand", "info", "sales"]
        assert sorted(server.directory.domain(DOMAIN).accounts) == ["ann"]
        assert server.cli.verbs().count("setaccountaliases") == 2


async def test_many_aliases_at_once_are_all_kept(tmp_path: Path) -> None:
    """Read, changed and written under the account's lock."""
    async with communigate() as server, serve(smtp_server(OLD)) as old:
        aliases = "".join(f"alias{number}: ann\n" for number in range(30))
        async with helper(config_with(tmp_path, aliases, server.cli.port, old.port)) as child:
            await child.send(b"".join(b"%d NEW alias%d@d.test\n" % (number, number) for number in range(30)))
            for number in range(30):
                assert await child.reply(number) == YES
        account = server.account(f"ann@{DOMAIN}")
        assert account is not None
        assert sorted(account.aliases) == sorted(f"alias{number}" for number in range(30))


async def test_an_alias_of_nobody(tmp_path: Path) -> None:
    """The old server has the last word on it: its no is a no, its yes sends the mail on to it."""
    async with communigate() as server, serve(smtp_server(OLD)) as old:
        config = config_with(tmp_path, "info: gone\nold: gone\n", server.cli.port, old.port)
        async with helper(config) as child:
            assert await child.ask(b"1 NEW info@d.test") == b"ROUTED info%%d.test@[127.0.0.1].%d._via" % old.port
            assert (await child.ask(b"2 NEW old@d.test")).startswith(NO)
        assert not server.directory.domain(DOMAIN).accounts


async def test_forwarders_lists_and_what_lives_elsewhere(tmp_path: Path) -> None:
    """Forwarder, group, and mail that goes on to the old server."""
    aliases = 'info: ann@else.test\nsales: ann, bob@else.test\nrobot: "|/usr/bin/robot"\nnone: |/bin/x\n'
    async with communigate() as server, serve(smtp_server(OLD)) as old:
        async with helper(config_with(tmp_path, aliases, server.cli.port, old.port)) as child:
            for number in (1, 2):
                assert await child.ask(b"%d NEW info@d.test" % number) == YES
                assert await child.ask(b"1%d NEW sales@d.test" % number) == YES
            assert await child.ask(b"3 NEW robot@d.test") == b"ROUTED robot%%d.test@[127.0.0.1].%d._via" % old.port
            assert (await child.ask(b"4 NEW none@d.test")).startswith(NO)
        domain = server.directory.domain(DOMAIN)
        assert domain.forwarders == {"info": "ann@else.test"}
        assert domain.groups == {"sales": {"Members": ["ann@d.test", "bob@else.test"]}}
        assert not domain.accounts


async def test_faults_of_the_cli_lose_no_alias(tmp_path: Path) -> None:
    """At every step: FAILURE, and the next try succeeds; a server that refuses aliases gets the mail routed."""
    async with communigate() as server, serve(smtp_server(OLD)) as old:
        config = config_with(tmp_path, "info: ann\nsales: ann\n", server.cli.port, old.port)
        async with helper(config) as child:
            add_account(server, f"ann@{DOMAIN}")
            account = server.account(f"ann@{DOMAIN}")
            assert account is not None
            server.directory.set_aliases(account, ["kept"])
            for number, verb in enumerate(("GETACCOUNTALIASES", "SETACCOUNTALIASES")):
                server.faults.reply(verb, b"555 the account is in use")
                assert (await child.ask(b"%d NEW info@d.test" % number)).startswith(LATER)
                assert account.aliases == ["kept"]
            server.faults.add(Fault("SETACCOUNTALIASES", reply=b"200 OK"))  # and nothing was done
            assert (await child.ask(b"10 NEW info@d.test")).startswith(LATER)
            await child.told(b"does not show info")
            assert await child.ask(b"11 NEW info@d.test") == YES
            assert account.aliases == ["kept", "info"]
            server.faults.reply("SETACCOUNTALIASES", b"501 no aliases here")
            assert await child.ask(b"12 NEW sales@d.test") == b"ROUTED ann@d.test"
            assert account.aliases == ["kept", "info"]


async def test_protected_accounts_get_their_mail_and_no_aliases(tmp_path: Path) -> None:
    """`abuse: postmaster` stands in every aliases file."""
    async with communigate() as server, serve(smtp_server(OLD)) as old:
        async with helper(config_with(tmp_path, "abuse: postmaster\n", server.cli.port, old.port)) as child:
            assert (await child.ask(b"1 NEW abuse@d.test")).startswith(LATER)
            await child.told(b"make it by hand")
            server.directory.create_account(f"postmaster@{DOMAIN}", {})
            assert await child.ask(b"2 NEW abuse@d.test") == b"ROUTED postmaster@d.test"
        assert "setaccountaliases" not in server.cli.verbs()


async def test_aliases_that_cannot_be_read_make_no_accounts(tmp_path: Path) -> None:
    """Each new name may be one of them: FAILURE until the file is there."""
    async with communigate() as server, serve(smtp_server(OLD)) as old:
        config = config_with(tmp_path, "", server.cli.port, old.port)
        (tmp_path / "aliases").unlink()
        async with helper(config) as child:
            assert (await child.ask(b"1 NEW info@d.test")).startswith(LATER)
            await child.told(b"cannot be read")
            (tmp_path / "aliases").write_text("info: ann\n")
            number = 100
            while (await child.ask(b"%d NEW info@d.test" % number)) != YES:
                number += 1
        assert sorted(server.directory.domain(DOMAIN).accounts) == ["ann"]
