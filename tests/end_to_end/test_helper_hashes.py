"""verify = "hashes" through the whole helper: the first login sets the real password, with no old server left."""

from __future__ import annotations

from pathlib import Path

import pytest

from extauth.__main__ import main
from migrator.config import ConfigurationTrouble, load_settings
from migrator.ledger.logins import Logins
from migrator.ledger.store import Store
from migrator.seal import Opener
from tests.end_to_end.helper_child import DOMAIN, add_account, communigate, helper, imap_server, write_config
from tests.servers.script import serve

YES, NO, LATER = b"OK", b"ERROR ", b"FAILURE "
USER = f"u@{DOMAIN}"
SECRET = "{SSHA}DkMTwBl+a/3DQTxCYEApdUtNXGgdUac3"
HASHES = f"u:{SECRET}\nslow:$2y$05$/OK.fbVrR/bpIqNJ5ianF.CE5elHaaO4EbggVDjb8P19RukzXSM3e\nodd:{{WHAT}}x\nlocked:!x\n"


def configure(directory: Path, *, cli: int = 9, more: str = 'after_login = "nothing"', text: str = HASHES) -> Path:
    """A domain that is checked by a file alone."""
    file = directory / "d.hashes"
    file.write_text(text)
    file.chmod(0o600)
    return write_config(directory, cli=cli, verify="hashes", domain=f'hashes = "d.hashes"\n{more}')


def holds_the_hash(directory: Path) -> list[Path]:
    """Files, logs and ledgers among them, into which a hash has come."""
    files = [file for file in directory.rglob("*") if file.is_file() and file.name != "d.hashes"]
    return [file for file in files if SECRET.encode() in file.read_bytes()]


async def test_a_right_password_is_set_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    """Bytes as they come; what is not in the file or of an unknown kind is FAILURE, and one line names it."""
    async with communigate() as server:
        for name in ("u", "slow", "odd", "locked", "stranger"):
            add_account(server, f"{name}@{DOMAIN}")
        async with helper(configure(tmp_path, cli=server.cli.port)) as child:
            assert (await child.ask(b"1 VRFY u@d.test wrong")).startswith(NO)
            assert await child.ask(b"2 VRFY u@d.test secret") == YES
            assert await child.ask(b"3 VRFY slow@d.test \xff\xff\xa3") == YES
            for number, user in enumerate((b"odd", b"locked", b"stranger"), 4):
                assert (await child.ask(b"%d VRFY %b@d.test secret" % (number, user))).startswith(LATER)
            line = await child.told(b"cannot be checked")
            assert b"d.hashes:3" in line
            assert b"WHAT" in line
            assert await child.end() == 0
        moved = server.account(USER)
        assert moved is not None
        assert moved.accepts(b"secret")
        assert (moved.settings["UseAppPassword"], moved.settings["UseExtPassword"]) == ("YES", "NO")
        stays = server.account(f"odd@{DOMAIN}")
        assert stays is not None
        assert stays.settings["UseExtPassword"] == "YES"
    assert not holds_the_hash(tmp_path)


async def test_a_file_that_is_gone_is_failure_for_its_own_domain_only(tmp_path: Path) -> None:
    """It is said aloud, other domains go on, and so does this one as soon as the file is back."""
    async with communigate() as server, serve(imap_server({b"LOGIN": b"NO [AUTHENTICATIONFAILED] wrong"})) as old:
        add_account(server, USER)
        more = f'after_login = "nothing"\n[domains."e.test"]\nnew = "refuse"\nimap = "imap://127.0.0.1:{old.port}"\n'
        config = configure(tmp_path, cli=server.cli.port, more=more)
        (tmp_path / "d.hashes").chmod(0o644)
        async with helper(config) as child:
            assert (await child.ask(b"1 VRFY u@d.test secret")).startswith(LATER)
            assert (await child.ask(b"2 VRFY u@d.test wrong")).startswith(LATER)
            assert b"chmod 600" in await child.told(b"d.hashes")
            assert (await child.ask(b"3 VRFY u@e.test wrong")).startswith(NO)
            (tmp_path / "d.hashes").chmod(0o600)
            assert (await child.ask(b"4 VRFY u@d.test wrong")).startswith(NO)
            assert await child.ask(b"5 VRFY u@d.test secret") == YES
            assert await child.end() == 0


async def test_the_password_can_be_exported(tmp_path: Path) -> None:
    """after_login = "export" saves the pair, under a name for the file instead of a server."""
    async with communigate() as server:
        add_account(server, USER)
        config = configure(tmp_path, cli=server.cli.port, more='after_login = "export"')
        async with helper(config) as child:
            assert await child.ask(b"1 VRFY u@d.test secret") == YES
            assert await child.end() == 0
    store = Store(tmp_path / "state" / "state.db")
    try:
        stored = await Logins(store).login_of(USER, f"hashes://{DOMAIN}")
    finally:
        await store.close()
    assert stored is not None
    assert stored.sealed is not None
    assert Opener(tmp_path / "seal.key").open(stored.sealed, USER).reveal() == b"secret"


def test_check_config_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file by its key and line; that a copy needs a server to copy from; and a file that others may read."""
    config = configure(tmp_path)
    assert main(["check-config", "--config", str(config)]) == 0
    (tmp_path / "d.hashes").chmod(0o640)
    assert main(["check-config", "--config", str(config)]) == 78
    said = capsys.readouterr().err
    assert "hashes: " in said
    assert "chmod 600" in said
    text = config.read_text()
    config.write_text(
        "\n".join(line for line in text.splitlines() if not line.startswith(("hashes", 'imap = "imap:', "pop =")))
    )
    config.write_text(config.read_text().replace('after_login = "nothing"', 'after_login = "copy"'))
    with pytest.raises(ConfigurationTrouble) as caught:
        load_settings(config)
    problems = {problem.key.rpartition(".")[2]: problem.text for problem in caught.value.problems}
    assert set(problems) == {"hashes", "imap"}
    assert 'after_login = "nothing"' in problems["imap"]
