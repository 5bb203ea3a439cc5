"""`extauth sandbox`: one JSON line, servers that answer where it says, and an end without remains."""

from __future__ import annotations

import base64
import imaplib
import json
import poplib
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from extauth.sandbox.communigate import LoginResult
from extauth.sandbox.helper_process import PasswordForm
from extauth.sandbox.world import ODD_PASSWORDS, DomainPlan, Sandbox
from migrator.config import load_settings

SANDBOX = [sys.executable, "-m", "extauth.sandbox.serve"]


@contextmanager
def running(*flags: str) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """The process and what it printed; ended whatever happens."""
    with subprocess.Popen([*SANDBOX, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.terminate()


def test_manners_of_the_old_server_and_of_communigate() -> None:
    with running("--users", "1", "--old-manner", "netscape", "--no-multiappend") as (_, ready):
        admin = ready["old"]["admin"]
        with imaplib.IMAP4("127.0.0.1", ready["old"]["imap"]["port"]) as imap:
            imap.login(admin["login"], admin["password"])
            assert imap.proxyauth(ready["old"]["users"][0]["login"])[0] == "OK"
            assert imap.select()[1] == [b"20"]
        with imaplib.IMAP4("127.0.0.1", ready["imap"]["port"]) as imap:
            assert {"UIDPLUS", "NAMESPACE", "ACL"} <= set(imap.capabilities)
            assert "MULTIAPPEND" not in imap.capabilities
    with running("--users", "1", "--old-manner", "ancient") as (_, ready):
        with imaplib.IMAP4("127.0.0.1", ready["old"]["imap"]["port"]) as imap:
            assert set(imap.capabilities) == {"IMAP4REV1", "AUTH=PLAIN"}
        with imaplib.IMAP4("127.0.0.1", ready["imap"]["port"]) as imap:
            assert "MULTIAPPEND" in imap.capabilities


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_what_it_prints_until_interrupted(number: signal.Signals) -> None:
    with running("--users", "3") as (process, ready):
        assert set(ready["cli"]) == {"host", "port", "login", "password"}
        user = ready["old"]["users"][1]
        password = base64.b64decode(user["password_base64"]).decode()
        assert password == user["password"] == "two words 2"
        with imaplib.IMAP4(ready["old"]["imap"]["host"], ready["old"]["imap"]["port"]) as imap:
            imap.login(user["login"], password)
            assert imap.select()[1] == [b"20"]
        pop = poplib.POP3(ready["old"]["pop"]["host"], ready["old"]["pop"]["port"])
        pop.user(user["login"])
        pop.pass_(password)
        assert pop.stat()[0] == 20
        pop.quit()
        with smtplib.SMTP(ready["old"]["smtp"]["host"], ready["old"]["smtp"]["port"]) as smtp:
            smtp.ehlo()
            smtp.mail("")
            assert smtp.rcpt(user["address"])[0] == 250
        with smtplib.SMTP(ready["smtp"]["host"], ready["smtp"]["port"]) as smtp:
            smtp.ehlo()
            smtp.mail("")
            assert smtp.rcpt(user["address"])[0] == 550  # no helper runs: nobody can be asked
        with imaplib.IMAP4(ready["imap"]["host"], ready["imap"]["port"]) as imap:
            imap.login(ready["cli"]["login"], ready["cli"]["password"])
        with socket.create_connection((ready["cli"]["host"], ready["cli"]["port"])) as cli:
            assert cli.recv(100).startswith(b"200 ")
        settings = load_settings(Path(ready["config"]))
        assert str(settings.communigate.cli) == f"cli://127.0.0.1:{ready['cli']['port']}"
        process.send_signal(number)
        rest, errors = process.communicate(timeout=20)
        assert (rest, errors, process.returncode) == (b"", b"", 0)
    assert not Path(ready["config"]).parent.exists()


def test_runs_a_helper_when_asked() -> None:
    with running("--users", "1", "--own-helper") as (process, ready):
        user = ready["old"]["users"][0]
        with smtplib.SMTP(ready["smtp"]["host"], ready["smtp"]["port"]) as smtp:
            smtp.sendmail("a@b.test", [user["address"]], b"Subject: x\r\n\r\nhello\r\n")
        with imaplib.IMAP4(ready["imap"]["host"], ready["imap"]["port"]) as imap:
            imap.login(user["address"], user["password"])
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert process.returncode == 0


@pytest.mark.parametrize("form", list(PasswordForm))
async def test_every_odd_password_moves_in_every_form(form: PasswordForm) -> None:
    """Through VRFY, IMAP LOGIN and the CLI, byte for byte; the wrong one is refused."""
    domains = (
        DomainPlan("one.test", after_login="nothing"),
        DomainPlan("two.test", verify="pop", after_login="nothing"),
    )
    async with Sandbox(users=len(ODD_PASSWORDS), domains=domains, inbox=0, mailboxes=0) as sandbox:
        helper = await sandbox.start_helper()
        helper.form = form
        for user in sandbox.users:
            if form is PasswordForm.RAW and user.password == b"ends with [10.0.0.16]":
                continue  # in the old form nobody can tell this from a client's address
            assert await sandbox.communigate.login(user.address, user.password + b"x") is LoginResult.WRONG
            assert await sandbox.communigate.login(user.address, user.password) is LoginResult.OK, user.password
            account = sandbox.communigate.account(user.address)
            assert account is not None
            assert account.settings["Password"] == user.password.decode("utf-8", "surrogateescape")
            assert account.option("UseAppPassword")
            assert not account.option("UseExtPassword")
        assert await helper.stop() == 0
        assert (helper.violations, bytes(helper.stderr)) == ([], b"")
