"""Adoption with CommuniGate's CLI failing at each command in each way: helper first, then the worker.

After each: the user is in, the account is in one of two states that let its user in, the ledger knows what is owed,
the worker finishes it when the CLI is well, and what the user changed meanwhile stays.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from extauth.protocol import Ok
from extauth.sandbox.faults import Faults
from migrator.model import Adoption
from migrator.status import read_status
from tests.fault.adoption_site import AFTER, BEFORE, USER, be_impatient, site

COMMANDS = [
    "CONNECT",
    "USER",
    "PASS",
    "INLINE",
    "GETACCOUNTRIGHTS",
    "GETACCOUNTEFFECTIVESETTINGS",
    "UPDATEACCOUNTSETTINGS",
    "GETACCOUNTSETTINGS",
    "VERIFYACCOUNTPASSWORD",
]
FAULTS: dict[str, Callable[[Faults, str], object]] = {
    "limit": lambda faults, verb: faults.reply(verb, b"559 too many connections from your address\r\n", times=None),
    "flow control": lambda faults, verb: faults.reply(verb, b"558 flow control\r\n", times=None),
    "executed, then in use": lambda faults, verb: faults.reply(verb, b"555 in use\r\n", times=None, executed=True),
    "refused": lambda faults, verb: faults.reply(verb, b"501 not this one\r\n", times=None),
    "unknown": lambda faults, verb: faults.reply(verb, b"500 unknown command\r\n", times=None),
    "no account": lambda faults, verb: faults.reply(verb, b"513 unknown user account\r\n", times=None),
    "closed before": lambda faults, verb: faults.cut(verb, times=None),
    "closed after": lambda faults, verb: faults.cut(verb, times=None, executed=True),
    "closed within": lambda faults, verb: faults.cut(verb, times=None, executed=True, keep=3),
    "hangs": lambda faults, verb: faults.hang(verb, times=None),
    "executed, then hangs": lambda faults, verb: faults.hang(verb, times=None, executed=True),
    "garbage": lambda faults, verb: faults.garbage(verb, times=None),
    "other data": lambda faults, verb: faults.reply(verb, b"201 {Odd=(1,2);UseExtPassword=(YES);}\r\n", times=None),
    "nothing": lambda faults, verb: faults.reply(verb, b"201 {}\r\n", times=None),
    "done, without data": lambda faults, verb: faults.reply(verb, b"200 OK\r\n", times=None),
}
AT_LOGIN = ["limit", "refused", "closed before", "hangs", "garbage"]


@pytest.mark.parametrize("verb", COMMANDS)
async def test_whatever_the_cli_does_the_user_is_in_and_the_worker_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Each fault at this command, on one account after the other."""
    for number, (name, arm) in enumerate(FAULTS.items()):
        if verb in COMMANDS[:4] and name not in AT_LOGIN:
            continue
        directory = tmp_path / str(number)
        directory.mkdir()
        async with site(directory) as here:
            arm(here.server.faults, verb)
            if "hangs" in name or verb in COMMANDS[:4]:
                be_impatient(monkeypatch)
            assert isinstance(await here.verify(), Ok), name
            assert here.account in (BEFORE, AFTER), name
            adoption = await here.logins.adoption_of(USER)
            assert adoption is not Adoption.ADOPTED or here.account == AFTER, name
            here.server.faults.clear()
            monkeypatch.undo()
            await here.work()
            if await here.logins.adoption_of(USER) is Adoption.REFUSED:  # only a login tries again
                assert (await read_status(here.store)).left[0].reason, name
                assert here.account in (BEFORE, AFTER), name
                assert isinstance(await here.verify(), Ok), name
            assert here.account == AFTER, name
            assert await here.logins.adoption_of(USER) is Adoption.ADOPTED, name


@pytest.mark.parametrize("verb", COMMANDS[6:])
async def test_what_the_user_changed_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Where CommuniGate took the password over before the fault, and the user changed it before the worker came."""
    for number, (name, arm) in enumerate(FAULTS.items()):
        directory = tmp_path / str(number)
        directory.mkdir()
        async with site(directory) as here:
            arm(here.server.faults, verb)
            if "hangs" in name or verb in COMMANDS[:4]:
                be_impatient(monkeypatch)
            await here.verify()
            here.server.faults.clear()
            monkeypatch.undo()
            if here.account != AFTER:
                continue
            here.change(Password="changed-9")
            await here.work()
            assert here.account == {**AFTER, "Password": "changed-9"}, name


@pytest.mark.parametrize(
    ("policy", "password"),
    [
        (lambda _p: "the password is too simple", b"secret-7"),
        (lambda p: "too long" if len(p) > 5 else None, b"secret-7"),
    ],
)
async def test_a_policy_leaves_the_user_in_and_the_operator_reads_why(
    tmp_path: Path, policy: Callable[[str], str | None], password: bytes
) -> None:
    """Each login is let in, and the next password that CommuniGate takes is adopted."""
    async with site(tmp_path) as here:
        here.server.directory.password_policy = policy
        for _ in range(3):
            assert isinstance(await here.verify(password), Ok)
            assert here.account == BEFORE
        await here.work()
        assert here.account == BEFORE
        status = await read_status(here.store)
        assert [(left.account, left.adoption) for left in status.left] == [(USER, "refused")]
        assert "too" in status.left[0].reason
        assert password.decode() not in status.left[0].reason
        here.server.directory.password_policy = lambda _password: None
        assert isinstance(await here.verify(b"another-8"), Ok)
        assert here.account == {**AFTER, "Password": "another-8"}
        assert not (await read_status(here.store)).left
