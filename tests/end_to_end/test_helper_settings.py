"""The helper's configuration and log: wrong, missing, changed while it runs; and nothing ever on stderr."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.helper_child import (
    Child,
    add_account,
    communigate,
    files_with,
    helper,
    imap_server,
    smtp_server,
    write_config,
)
from tests.servers.script import serve

YES, NO, LATER = b"OK", b"ERROR ", b"FAILURE "
NUMBERS = itertools.count(1000)


async def until(child: Child, line: bytes, start: bytes) -> bytes:
    """Ask `line` again and again until the reply begins with `start`: a changed file counts within a second or two."""
    async with asyncio.timeout(20):
        for number in NUMBERS:
            reply = await child.ask(b"%d %b" % (number, line))
            if reply.startswith(start):
                return reply
            await asyncio.sleep(0.05)
    raise AssertionError


async def test_missing_configuration_is_told_and_taken_up_when_it_comes(tmp_path: Path) -> None:
    """FAILURE meanwhile; INTF is answered all the same."""
    async with serve(imap_server({})) as old, helper(tmp_path / "extauth.toml") as child:
        assert await child.ask(b"1 INTF 9") == b"INTF 7"
        assert (await child.ask(b"2 VRFY u@d.test secret")).startswith(LATER)
        assert (await child.ask(b"3 NEW u@d.test")).startswith(LATER)
        await child.told(b"cannot read it")
        write_config(tmp_path, imap=old.port)
        await until(child, b"VRFY u@d.test secret", NO)
        await child.told(b"extauth serves 1 domain(s)")
        assert await child.end() == 0


async def test_every_problem_is_told_by_key_and_line_without_secrets(tmp_path: Path) -> None:
    """And the helper stays up."""
    config = write_config(tmp_path)
    text = (
        config.read_text().replace("[worker]", "[worker]\ncopiez = 3").replace('deadline = "5s"', 'deadline = "soon"')
    )
    config.write_text(text + 'password = "hunter2"\n')
    async with helper(config) as child:
        assert (await child.ask(b"1 VRFY u@d.test secret")).startswith(LATER)
        line = text[: text.index("copiez")].count("\n") + 1
        await child.told(f"{config}:{line}: worker.copiez".encode())
        await child.told(b"helper.deadline")
        await child.told(b"FAILURE until")
        assert all(b"hunter2" not in told for told in child.information)
        write_config(tmp_path)
        await child.told(b"extauth serves")


async def test_broken_while_running_and_mended(tmp_path: Path) -> None:
    """A good configuration that becomes bad is not used any longer."""
    async with serve(imap_server({})) as old:
        config = write_config(tmp_path, imap=old.port)
        async with helper(config) as child:
            assert (await child.ask(b"1 VRFY u@d.test secret")).startswith(NO)
            good = config.read_text()
            config.write_text("[communigate\n")
            await until(child, b"VRFY u@d.test secret", LATER)
            await child.told(b"not valid TOML")
            config.write_text(good)
            await until(child, b"VRFY u@d.test secret", NO)


async def test_a_file_that_the_configuration_names_changes(tmp_path: Path) -> None:
    """The CLI password, a roster, the pilot list: each counts when it changes."""
    async with communigate() as server, serve(imap_server({b"LOGIN": b"OK in"})) as old:
        add_account(server, "u@d.test")
        (tmp_path / "pilot").write_text("other@d.test\n")
        config = write_config(tmp_path, cli=server.cli.port, imap=old.port, helper='pilot = "pilot"')
        async with helper(config) as child:
            assert (await child.ask(b"1 VRFY u@d.test secret")).startswith(LATER)
            (tmp_path / "pilot").write_text("other@d.test\nu@d.test\n")
            assert await until(child, b"VRFY u@d.test secret", YES) == YES
            (tmp_path / "cli.password").unlink()
            await until(child, b"VRFY u@d.test secret", LATER)
            await child.told(b"password_file")


async def test_world_readable_secret_is_a_problem(tmp_path: Path) -> None:
    """Nothing is served with it."""
    config = write_config(tmp_path)
    (tmp_path / "cli.password").chmod(0o644)
    async with helper(config) as child:
        assert (await child.ask(b"1 VRFY u@d.test secret")).startswith(LATER)
        await child.told(b"open to everybody")


async def test_requests_under_way_survive_a_change(tmp_path: Path) -> None:
    """They are answered by the configuration they came under."""
    go, asked = asyncio.Event(), asyncio.Event()

    async def play(talk):  # type: ignore[no-untyped-def]  # a Play
        await talk.send(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
        line = await talk.line()
        asked.set()
        await go.wait()
        await talk.send(line.split(b" ")[0] + b" NO wrong\r\n")

    async with serve(play) as old:
        config = write_config(tmp_path, imap=old.port, helper='deadline = "20s"')
        async with helper(config) as child:
            await child.send(b"1 VRFY u@d.test secret\n")
            await asked.wait()
            write_config(tmp_path, imap=old.port, helper='deadline = "20s"\ninterface = 4')
            await until(child, b"INTF 9", b"INTF 4")
            go.set()
            assert (await child.reply(1)).startswith(NO)


# -- the log -----------------------------------------------------------------------------------------------------------


def log_lines(path: Path) -> list[dict[str, object]]:
    """Each line as what it says."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


async def test_log_is_json_private_and_holds_no_password(tmp_path: Path) -> None:
    """One line for each request, 0600, no secret, names of any bytes."""
    config = write_config(tmp_path)
    async with helper(config) as child:
        await child.ask(b"1 VRFY u@d.test hunter2")
        await child.ask(b'2 VRFY \xff\xfe@d.test "hunter2 and more"')
        await child.ask(b"3 hunter2")
        await child.send(b"VRFY u@d.test hunter2\n")
        await child.ask(b"4 NEW \xe4@d.test")
        assert await child.end() == 0
    log = tmp_path / "helper.log"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    lines = log_lines(log)
    assert [line["n"] for line in lines if line["event"] == "Verify"] == ["1", "2"]
    assert b"hunter2" not in log.read_bytes()
    assert all(b"hunter2" not in told for told in child.information)


async def test_log_is_opened_anew_at_hang_up(tmp_path: Path) -> None:
    """After a rotation."""
    config = write_config(tmp_path)
    async with helper(config) as child:
        await child.ask(b"1 NEW u@d.test")
        (tmp_path / "helper.log").rename(tmp_path / "helper.log.1")
        child.process.send_signal(signal.SIGHUP)
        await until(child, b"INTF 3", b"INTF 3")
        async with asyncio.timeout(20):
            while not (tmp_path / "helper.log").exists():  # noqa: ASYNC110 - a signal tells nobody when it has arrived
                await asyncio.sleep(0.01)
        await child.ask(b"2 NEW u@d.test")
        assert await child.end() == 0
    assert any(line.get("n") == "1" for line in log_lines(tmp_path / "helper.log.1"))
    assert any(line.get("n") == "2" for line in log_lines(tmp_path / "helper.log"))


async def test_log_that_cannot_be_opened_stops_nothing(tmp_path: Path) -> None:
    """One information line."""
    config = write_config(tmp_path, helper='log = "no/such/directory/helper.log"')
    config.write_text(config.read_text().replace('log = "helper.log"\n', ""))
    async with helper(config) as child:
        await child.told(b"cannot open the log")
        assert (await child.ask(b"1 DANCE")).startswith(NO)


async def test_log_that_is_a_pipe_nobody_reads_blocks_nothing(tmp_path: Path) -> None:
    """A FIFO is refused, not opened for ever."""
    os.mkfifo(tmp_path / "helper.log")
    async with helper(write_config(tmp_path)) as child:
        assert (await child.ask(b"1 DANCE", timeout=10)).startswith(NO)


# -- what an administrator types ---------------------------------------------------------------------------------------


def extauth(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run `extauth` with these arguments."""
    return subprocess.run([sys.executable, "-m", "extauth", *arguments], input=given, capture_output=True, check=False)


def test_check_config(tmp_path: Path) -> None:
    """0, or 78 with `FILE:LINE: key: text` for each problem."""
    config = write_config(tmp_path)
    assert extauth("check-config", "--config", str(config)).returncode == 0
    config.write_text(config.read_text() + "smptp = 1\n")
    done = extauth("check-config", "--config", str(config))
    line = config.read_text().count("\n")
    assert done.returncode == 78
    assert f'{config}:{line}: domains."d.test".smptp: unknown key'.encode() in done.stdout + done.stderr
    assert extauth("check-config", "--config", str(tmp_path / "none")).returncode == 78


def test_usage_errors_are_64() -> None:
    """As sysexits has it."""
    assert extauth().returncode == 64
    assert extauth("dance").returncode == 64
    assert extauth("try").returncode == 64
    assert extauth("--help").returncode == 0


def test_helper_takes_its_configuration_from_the_environment(tmp_path: Path) -> None:
    """CommuniGate gives no arguments."""
    config = write_config(tmp_path, helper="interface = 3")
    code = "import sys; from extauth.__main__ import helper_main; sys.exit(helper_main())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=b"1 INTF 9\n",
        capture_output=True,
        check=False,
        env={**os.environ, "EXTAUTH_CONFIG": str(config)},
    )
    assert done.returncode == 0
    assert b"1 INTF 3\n" in done.stdout
    assert done.stderr == b""


def test_forget_and_status_and_export_on_an_empty_ledger(tmp_path: Path) -> None:
    """Nothing is there, and that is no error."""
    config = str(write_config(tmp_path))
    assert extauth("forget", "u@d.test", "--config", config).returncode == 0
    done = extauth("status", "--json", "--config", config)
    assert done.returncode == 0
    assert json.loads(done.stdout)["accounts"]["adopted"] == 0
    assert b"accounts" in extauth("status", "--config", config).stdout
    done = extauth("export", "--config", config, "--output", str(tmp_path / "out"))
    assert (done.returncode, done.stderr) == (0, b"")


async def test_an_export_warns_of_the_passwords_that_it_has_written(tmp_path: Path) -> None:
    """It is written only where it is asked for, and a line says what it is; no password is shown."""
    async with communigate() as server, serve(imap_server({b"right-7": b"OK in"})) as old:
        add_account(server, "u@d.test")
        config = write_config(tmp_path, cli=server.cli.port, imap=old.port, domain='after_login = "export"')
        async with helper(config) as child:
            assert await child.ask(b"1 VRFY u@d.test right-7") == YES
            assert await child.end() == 0
    assert files_with(tmp_path, b"right-7") == []
    done = await asyncio.to_thread(extauth, "export", "--config", str(config), "--output", str(tmp_path / "list"))
    assert done.returncode == 0
    assert b"warning: these files hold passwords in clear text" in done.stderr
    assert b"right-7" not in done.stdout + done.stderr
    assert files_with(tmp_path, b"right-7") == [tmp_path / "list"]
    assert stat.S_IMODE((tmp_path / "list").stat().st_mode) == 0o600


async def test_try_says_what_would_happen_and_changes_nothing(tmp_path: Path) -> None:
    """Step by step; the password comes on stdin and is never shown."""
    async with (
        communigate() as server,
        serve(imap_server({b"hunter2": b"OK in"})) as imap,
        serve(smtp_server({b"<u@": b"250 yes"})) as smtp,
    ):
        config = str(write_config(tmp_path, cli=server.cli.port, imap=imap.port, smtp=smtp.port))

        async def attempt(address: str, password: bytes) -> subprocess.CompletedProcess[bytes]:
            return await asyncio.to_thread(extauth, "try", address, "--config", config, given=password)

        right = await attempt("u@d.test", b"hunter2\n")
        assert right.returncode == 0
        assert right.stdout.count(b": OK") == 2
        wrong = await attempt("u@d.test", b"other\n")
        assert wrong.returncode == 77
        assert b"ERROR" in wrong.stdout
        assert (await attempt("nobody@d.test", b"\n")).returncode == 77
        assert (await attempt("u@unknown.test", b"\n")).returncode == 78
        assert (await attempt("postmaster@d.test", b"hunter2\n")).returncode == 77
        changed = {"createaccount", "updateaccountsettings", "setaccountpassword"}
        assert not changed & set(server.cli.verbs())
        assert not (tmp_path / "state" / "state.db").exists()
        for done in (right, wrong):
            assert b"hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize("command", ["serve", "check-config", "try", "status", "export", "forget", "sandbox", "demo"])
def test_every_command_has_its_help(command: str) -> None:
    """And nothing else is needed for it."""
    assert extauth(command, "--help").returncode == 0
