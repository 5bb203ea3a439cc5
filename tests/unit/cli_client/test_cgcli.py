"""`cgcli` as a program: a server that is scripted, the real arguments, the real exit codes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers.script import Play, Talk, serve

ACCOUNT = b'201 {RealName="A \\"B\\"";Rules=((a,b),c);Quota=#1;Odd="\xc2\x9b2J";}\r\n'


async def obey(talk: Talk) -> None:
    await talk.send(b"200 ready <1.2@new.test>\r\n")
    if (await talk.line()).split()[:2] != [b"APOP", b"postmaster"]:
        await talk.send(b"515 incorrect password\r\n")
        return
    await talk.send(b"200 OK\r\n")
    await talk.line()
    await talk.send(b"200 OK\r\n")
    replies = {
        b"GetAccountSettings a@b": ACCOUNT,
        b"Noop": b"200 done\r\n",
        b"Bad": b"201 {a=\r\n",
        b"Odd": b"what\r\n",
    }
    while True:
        await talk.send(replies.get(await talk.line(), b"513 unknown user account\r\n"))


async def cgcli(*arguments: str, typed: bytes = b"", **environ: str) -> tuple[int, bytes, bytes]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cli_client",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", **environ},
    )
    out, err = await process.communicate(typed)
    assert process.returncode is not None
    return process.returncode, out, err


async def test_one_command_from_the_configuration(tmp_path: Path) -> None:
    async with serve(obey) as server:
        (tmp_path / "password").write_bytes(b"s3cret\nnot this\n")
        (tmp_path / "password").chmod(0o600)
        config = tmp_path / "extauth.toml"
        config.write_text(f'[communigate]\ncli = "127.0.0.1:{server.port}"\npassword_file = "password"\n')
        code, out, err = await cgcli("--config", str(config), "GetAccountSettings", "a@b")
        assert (code, err) == (0, b"")
        assert out.decode() == (
            '{\n  RealName = "A \\"B\\"";\n  Rules    = (\n    (\n      a,\n      b\n    ),\n    c\n  );\n'
            '  Quota    = #1;\n  Odd      = "\\194\\1552J";\n}\n'
        )
        assert (await cgcli("Noop", EXTAUTH_CONFIG=str(config)))[:2] == (0, b"done\n")
        assert (await cgcli("--config", str(config), "Noop", EXTAUTH_COMMUNIGATE__LOGIN="nobody"))[0] == 77


async def test_a_password_from_standard_input_and_many_commands() -> None:
    async with serve(obey) as server:
        arguments = ("--host", "127.0.0.1", "--port", str(server.port), "--login", "postmaster")
        code, out, err = await cgcli(*arguments, typed=b"s3cret\nNoop\n\nMissing\nNoop\nQUIT\nNoop\n")
        assert (code, out, err) == (1, b"done\ndone\n", b"cgcli: 513 unknown user account\n")
        assert len(server.talks) == 1
        assert not any(b"s3cret" in line for line in server.lines)
        code, out, err = await cgcli(*arguments, "--password-file", "-", "Noop", typed=b"s3cret\n")
        assert (code, out, err) == (0, b"done\n", b"")


async def play_nothing(talk: Talk) -> None:
    """Hangs up at once."""


@pytest.mark.parametrize(
    ("play", "login", "command", "code"),
    [
        (obey, "postmaster", "Missing", 1),
        (obey, "postmaster", "a\nb", 64),
        (obey, "postmaster", "Odd", 76),
        (obey, "postmaster", "Bad", 76),
        (obey, "nobody", "Noop", 77),
        (play_nothing, "postmaster", "Noop", 69),
    ],
)
async def test_exit_codes(play: Play, login: str, command: str, code: int) -> None:
    async with serve(play) as server:
        arguments = ("--host", f"127.0.0.1:{server.port}", "--login", login)
        result, out, err = await cgcli(*arguments, command, typed=b"s3cret\n")
        assert (result, out) == (code, b"")
        assert err.startswith(b"cgcli: ")
        assert err.count(b"\n") == 1
        assert b"s3cret" not in err


def config_without_password(path: Path) -> None:
    path.write_text("[communigate]\npassword_file = 'none'\n")


def config_open_to_all(path: Path) -> None:
    path.write_text("[communigate]\npassword = 'x'\n")
    path.chmod(0o644)


def config_with_a_wrong_address(path: Path) -> None:
    path.write_text("[communigate]\npassword = 'x'\ncli = 'imap://x'\n")
    path.chmod(0o600)


def config_that_is_no_toml(path: Path) -> None:
    path.write_text("communigate = [")


def config_that_is_missing(path: Path) -> None:
    path.unlink(missing_ok=True)


def config_with_an_open_password_file(path: Path) -> None:
    path.with_name("pw").write_text("x\n")
    path.with_name("pw").chmod(0o644)
    path.write_text("[communigate]\npassword_file = 'pw'\n")


@pytest.mark.parametrize(
    "write",
    [
        config_without_password,
        config_open_to_all,
        config_with_a_wrong_address,
        config_that_is_no_toml,
        config_that_is_missing,
        config_with_an_open_password_file,
    ],
)
async def test_a_configuration_that_cannot_be_used(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "extauth.toml"
    write(path)
    code, out, err = await cgcli("--config", str(path), "Noop")
    assert (code, out) == (78, b"")
    assert str(tmp_path).encode() in err


@pytest.mark.parametrize(
    "arguments", [("--config", "x", "--host", "y", "Noop"), ("--port", "1", "Noop"), ("--unknown",), ("--port", "x")]
)
async def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    code, _, err = await cgcli(*arguments)
    assert code == 64
    assert b"cgcli: " in err


# makes its standard input its controlling terminal, which getpass opens by name
ON_TERMINAL = "import os, sys; os.login_tty(0); from cli_client.__main__ import main; sys.exit(main())"


def start_on_terminal(*arguments: str) -> tuple[subprocess.Popen[bytes], int]:
    """`cgcli` with a terminal of its own; the process, and the other end of the terminal."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ON_TERMINAL, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={"PATH": "/usr/bin:/bin", "TERM": "dumb"},
    )
    os.close(theirs)
    return process, ours


def read_until(terminal: int, ending: bytes) -> bytes:
    shown = b""
    while not shown.endswith(ending):
        shown += os.read(terminal, 1024)
    return shown


async def test_a_person_is_asked_for_the_password_without_echo() -> None:
    async with serve(obey) as server:
        process, terminal = start_on_terminal("--host", f"127.0.0.1:{server.port}", "--login", "postmaster")

        def type_in(prompt: bytes, text: bytes) -> bytes:
            shown = read_until(terminal, prompt)
            os.write(terminal, text)
            return shown

        shown = await asyncio.to_thread(type_in, b"Password of postmaster: ", b"s3cret\n")
        shown += await asyncio.to_thread(type_in, b"cgcli> ", b"Noop\n")
        shown += await asyncio.to_thread(type_in, b"cgcli> ", b"Missing\n")
        shown += await asyncio.to_thread(type_in, b"cgcli> ", b"QUIT\n")
        assert await asyncio.to_thread(process.wait) == 1
        os.close(terminal)
    assert b"s3cret" not in shown
    assert b"done\r\n" in shown
    assert b"513 unknown user account\r\n" in shown
