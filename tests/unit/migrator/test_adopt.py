"""Adoption against a CLI that speaks bytes: one update, only while external authentication is on, read back."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cli_client.commands import Cli
from cli_client.pool import CliPool
from extauth.sandbox.accounts import Directory
from extauth.sandbox.cli_commands import Commands
from extauth.sandbox.cli_server import CliServer
from migrator.adopt import AccountLocks, Adopter, AdoptionOutcome, adopt
from migrator.settings import is_protected
from wire.endpoint import Endpoint
from wire.secret import Secret

EXTERNAL = {"UseAppPassword": "NO", "UseExtPassword": "YES"}
WHO = "ann@example.com"
ODD_PASSWORDS = [
    b"plain",
    b" blanks ",
    b'quo"te',
    b"back\\slash",
    b"#1234",
    b'x";UseExtPassword=YES;AccessModes=All;Z="y',
    "pässwörd".encode(),
    b"latin-\xe4\xf6\xfc",
    b"#NULL#",
]


class World:
    """A CLI server with one account on external authentication, and an Adopter that talks to it."""

    def __init__(self) -> None:
        self.directory = Directory("example.com")
        admin = self.directory.create_account("postmaster", {"Password": "admin"})
        admin.rights = ["Master"]
        self.account = self.directory.create_account(WHO, EXTERNAL)
        self.server = CliServer(Commands(self.directory))
        self.pools: list[CliPool] = []

    def cli(self) -> Cli:
        pool = CliPool(Endpoint("cli", "127.0.0.1", self.server.port), "postmaster", Secret(b"admin"), size=2)
        self.pools.append(pool)
        return Cli(pool)

    def adopter(self, locks: AccountLocks | None = None) -> Adopter:
        return Adopter(
            self.cli(), protected=frozenset({"pbx"}), admin_login="postmaster", locks=locks or AccountLocks()
        )

    @property
    def settings(self) -> dict[str, object]:
        return {key: self.account.effective.get(key) for key in ("Password", *EXTERNAL)}

    @property
    def updates(self) -> int:
        return self.server.verbs().count("updateaccountsettings")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.server.start()
    yield world
    for pool in world.pools:
        await pool.close()
    await world.server.close()


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_the_password_is_set_and_external_authentication_ends(world: World) -> None:
    result = await world.adopter().adopt("Ann@Example.com", Secret(b"secret"), deadline=soon())
    assert result.outcome is AdoptionOutcome.ADOPTED
    assert result.confirmed
    assert world.settings == {"Password": "secret", "UseAppPassword": "YES", "UseExtPassword": "NO"}
    assert world.server.verbs() == [
        "getaccounteffectivesettings",
        "getaccountrights",
        "updateaccountsettings",
        "getaccountsettings",
        "verifyaccountpassword",
    ]


@pytest.mark.parametrize("password", ODD_PASSWORDS)
async def test_odd_passwords_arrive_byte_for_byte_and_set_nothing_else(world: World, password: bytes) -> None:
    before = dict(world.account.settings)
    result = await world.adopter().adopt(WHO, Secret(password), deadline=soon())
    assert result.outcome is AdoptionOutcome.ADOPTED
    assert world.account.settings["Password"] == password.decode("utf-8", "surrogateescape")
    assert set(world.account.settings) == {*before, "Password"}


@pytest.mark.parametrize("password", [b"", b"\x02crypted", b"tab\t", b"line\r\n", b"del\x7f", b"nul\0"])
async def test_a_password_that_cannot_be_one_is_never_sent(world: World, password: bytes) -> None:
    result = await world.adopter().adopt(WHO, Secret(password), deadline=soon())
    assert result.outcome is AdoptionOutcome.REFUSED
    assert world.server.verbs() == []


async def test_a_late_repetition_does_not_overwrite_what_the_user_has_set_since(world: World) -> None:
    adopter = world.adopter()
    await adopter.adopt(WHO, Secret(b"first"), deadline=soon())
    world.account.settings["Password"] = "changed by the user"
    result = await adopter.adopt(WHO, Secret(b"first"), deadline=soon())
    assert result.outcome is AdoptionOutcome.ALREADY
    assert result.confirmed
    assert world.settings["Password"] == "changed by the user"
    assert world.updates == 1


async def test_an_account_with_access_rights_is_never_touched(world: World) -> None:
    world.account.rights = ["BasicSettings"]
    result = await world.adopter().adopt(WHO, Secret(b"secret"), deadline=soon())
    assert result.outcome is AdoptionOutcome.PROTECTED
    assert world.updates == 0


async def test_rights_that_the_caller_has_just_asked_for_are_not_asked_again(world: World) -> None:
    result = await world.adopter().adopt(WHO, Secret(b"secret"), deadline=soon(), rights_asked=True)
    assert result.outcome is AdoptionOutcome.ADOPTED
    assert "getaccountrights" not in world.server.verbs()


async def test_a_server_that_does_not_know_access_rights_is_asked_once(world: World) -> None:
    world.server.rights = False
    adopter = world.adopter()
    for name in ("one", "two", "three"):
        world.directory.create_account(f"{name}@example.com", EXTERNAL)
        result = await adopter.adopt(f"{name}@example.com", Secret(b"secret"), deadline=soon())
        assert result.outcome is AdoptionOutcome.ADOPTED
    assert [entry.verb for entry in world.server.executed if entry.code == 500] == ["getaccountrights"]
    assert world.updates == 3


@pytest.mark.parametrize("name", ["pbx@example.com", "PBX@other.com", "postmaster@example.com", "Postmaster"])
async def test_protected_names_are_not_even_asked_about(world: World, name: str) -> None:
    result = await world.adopter().adopt(name, Secret(b"secret"), deadline=soon())
    assert result.outcome is AdoptionOutcome.PROTECTED
    assert world.server.verbs() == []


async def test_a_password_policy_refuses_and_external_authentication_stays_on(world: World) -> None:
    world.directory.password_policy = lambda _password: "the password is too simple"
    result = await world.adopter().adopt(WHO, Secret(b"secret"), deadline=soon())
    assert result.outcome is AdoptionOutcome.REFUSED
    assert "too simple" in result.reason
    assert world.settings == {"Password": None, **EXTERNAL}


async def test_an_account_that_is_gone_is_refused(world: World) -> None:
    result = await world.adopter().adopt("nobody@example.com", Secret(b"secret"), deadline=soon())
    assert result.outcome is AdoptionOutcome.REFUSED
    assert world.updates == 0


async def test_a_cli_that_is_down_means_later(world: World) -> None:
    adopter = world.adopter()
    await world.server.close()
    result = await adopter.adopt(WHO, Secret(b"secret"), deadline=soon(1))
    assert result.outcome is AdoptionOutcome.LATER


async def test_a_refused_cli_login_means_later_and_says_so(world: World) -> None:
    world.directory.account("postmaster").settings["Password"] = "another"
    result = await world.adopter().adopt(WHO, Secret(b"secret"), deadline=soon(1))
    assert result.outcome is AdoptionOutcome.LATER


async def test_a_cli_that_never_answers_ends_at_the_deadline(world: World) -> None:
    world.server.faults.hang("GETACCOUNTEFFECTIVESETTINGS")
    started = asyncio.get_running_loop().time()
    result = await world.adopter().adopt(WHO, Secret(b"secret"), deadline=soon(0.2))
    assert result.outcome is AdoptionOutcome.LATER
    assert asyncio.get_running_loop().time() - started < 2


@pytest.mark.parametrize(
    "verb",
    [
        "GETACCOUNTEFFECTIVESETTINGS",
        "GETACCOUNTRIGHTS",
        "UPDATEACCOUNTSETTINGS",
        "GETACCOUNTSETTINGS",
        "VERIFYACCOUNTPASSWORD",
    ],
)
@pytest.mark.parametrize("executed", [False, True])
async def test_a_connection_lost_at_any_step_is_made_good_by_repeating(world: World, verb: str, executed: bool) -> None:
    world.server.faults.cut(verb, times=2, executed=executed)
    adopter = world.adopter()
    first = await adopter.adopt(WHO, Secret(b"secret"), deadline=soon())
    assert first.outcome in (AdoptionOutcome.LATER, AdoptionOutcome.ADOPTED)
    world.server.faults.clear()
    second = await adopter.adopt(WHO, Secret(b"secret"), deadline=soon())
    assert second.confirmed
    assert world.settings == {"Password": "secret", "UseAppPassword": "YES", "UseExtPassword": "NO"}


async def test_settings_that_do_not_stick_are_not_called_adopted(world: World) -> None:
    world.server.faults.reply("UPDATEACCOUNTSETTINGS", b"200 OK\r\n")
    result = await world.adopter().adopt(WHO, Secret(b"secret"), deadline=soon())
    assert result.outcome is AdoptionOutcome.LATER
    assert world.settings == {"Password": None, **EXTERNAL}


async def test_a_user_is_not_locked_out_by_a_password_that_arrived_as_another(world: World) -> None:
    world.server.faults.reply("VERIFYACCOUNTPASSWORD", b"515 incorrect password\r\n")
    result = await world.adopter().adopt(WHO, Secret(b"secret"), deadline=soon())
    assert result.outcome is AdoptionOutcome.REFUSED
    assert world.settings["UseExtPassword"] == "YES"
    assert world.settings["UseAppPassword"] == "NO"


async def test_the_way_back_survives_a_lost_session(world: World) -> None:
    """Left half way, the account would have a password that nobody knows."""
    world.server.faults.reply("VERIFYACCOUNTPASSWORD", b"515 incorrect password\r\n")
    world.server.faults.cut("UPDATEACCOUNTSETTINGS", skip=1)
    result = await world.adopter().adopt(WHO, Secret(b"secret"), deadline=soon())
    assert result.outcome is AdoptionOutcome.REFUSED
    assert {key: world.settings[key] for key in EXTERNAL} == EXTERNAL


async def test_a_strange_word_on_external_authentication_is_not_off(world: World) -> None:
    """Taken for "adopted", the saved password would be wiped, and the account stay where it is."""
    world.server.faults.reply("GETACCOUNTEFFECTIVESETTINGS", b"201 {UseExtPassword=(YES);}\r\n")
    adopter = world.adopter()
    assert (await adopter.adopt(WHO, Secret(b"secret"), deadline=soon())).outcome is AdoptionOutcome.LATER
    assert (await adopter.adopt(WHO, Secret(b"secret"), deadline=soon())).outcome is AdoptionOutcome.ADOPTED


async def test_a_server_without_verification_is_believed_by_its_settings(world: World) -> None:
    world.server.faults.reply("VERIFYACCOUNTPASSWORD", b"500 unknown command\r\n", times=None)
    adopter = world.adopter()
    assert (await adopter.adopt(WHO, Secret(b"secret"), deadline=soon())).outcome is AdoptionOutcome.ADOPTED


async def test_no_reason_holds_the_password(world: World) -> None:
    def refuse(password: str) -> str:
        return f"the password {password} is too simple"

    world.directory.password_policy = refuse
    result = await world.adopter().adopt(WHO, Secret(b"very secret word"), deadline=soon())
    assert result.outcome is AdoptionOutcome.REFUSED
    assert "very secret word" not in repr(result)


async def test_equal_adoptions_at_once_update_once(world: World) -> None:
    adopter = world.adopter()
    results = await asyncio.gather(*(adopter.adopt(WHO, Secret(b"secret"), deadline=soon()) for _ in range(10)))
    outcomes = [result.outcome for result in results]
    assert outcomes.count(AdoptionOutcome.ADOPTED) == 1
    assert outcomes.count(AdoptionOutcome.ALREADY) == 9
    assert world.updates == 1


async def test_a_single_adoption_without_an_adopter(world: World) -> None:
    result = await adopt(
        world.cli(), WHO, Secret(b"secret"), protected=frozenset(), admin_login="postmaster", deadline=soon()
    )
    assert result.outcome is AdoptionOutcome.ADOPTED


HOLD_LOCK = """
import asyncio, sys
from pathlib import Path
from migrator.adopt import AccountLocks

async def main():
    async with AccountLocks(Path(sys.argv[1])).hold(sys.argv[2]):
        print("held", flush=True)
        sys.stdin.read()

asyncio.run(main())
"""


@contextlib.contextmanager
def another_process_holds(path: Path, address: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, str(path), address], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
    finally:
        process.communicate()


async def test_the_lock_of_another_process_keeps_this_one_waiting(world: World, tmp_path: Path) -> None:
    locks = AccountLocks(tmp_path / "adoption.lock")
    adopter = world.adopter(locks)
    world.directory.create_account("bob@example.com", EXTERNAL)
    with another_process_holds(tmp_path / "adoption.lock", WHO) as other:
        late = await adopter.adopt(WHO, Secret(b"secret"), deadline=soon(0.2))
        assert late.outcome is AdoptionOutcome.LATER
        assert (await adopter.adopt("bob@example.com", Secret(b"x1"), deadline=soon())).confirmed
        other.kill()
        assert (await adopter.adopt(WHO, Secret(b"secret"), deadline=soon())).confirmed
    locks.close()


async def test_a_lock_file_that_cannot_be_opened_does_not_stop_adoption(world: World, tmp_path: Path) -> None:
    adopter = world.adopter(AccountLocks(tmp_path / "missing" / "adoption.lock"))
    assert (await adopter.adopt(WHO, Secret(b"secret"), deadline=soon())).confirmed


async def test_a_waiter_that_gives_up_does_not_keep_the_lock(tmp_path: Path) -> None:
    locks = AccountLocks(tmp_path / "adoption.lock")

    async def hold() -> None:
        async with locks.hold("a"):
            pass

    async with locks.hold("a"), locks.hold("b"):
        waiting = asyncio.create_task(hold())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled()
    await asyncio.wait_for(hold(), 5)
    assert (tmp_path / "adoption.lock").read_bytes() == b""
    locks.close()


@pytest.mark.parametrize(
    ("address", "main_domain", "protected"),
    [
        ("postmaster@any.domain", "", True),
        ("pbx@any.domain", "", True),
        ("special@one.domain", "", True),
        ("special@two.domain", "", False),
        ("admin@any.domain", "", True),
        ("admin@main.domain", "main.domain", True),
        ("admin@other.domain", "main.domain", False),
        ("admin", "main.domain", True),
        ("ann@any.domain", "", False),
    ],
)
def test_names_that_are_protected(address: str, main_domain: str, protected: bool) -> None:
    names = frozenset({"postmaster", "pbx", "special@one.domain"})
    assert is_protected(address, protected=names, admin_login="Admin", main_domain=main_domain) is protected


@pytest.mark.parametrize("inherited", [False, True])
async def test_a_server_without_effective_settings_is_read_from_account_and_template(
    world: World, inherited: bool
) -> None:
    world.server.faults.reply("GETACCOUNTEFFECTIVESETTINGS", b"500 unknown command", times=None)
    if inherited:
        world.directory.domains["example.com"].account_template.update(EXTERNAL)
        for key in EXTERNAL:
            del world.account.settings[key]
    adopter = world.adopter()
    assert (await adopter.adopt(WHO, Secret(b"secret"), deadline=soon())).outcome is AdoptionOutcome.ADOPTED
    assert (await adopter.adopt(WHO, Secret(b"other"), deadline=soon())).outcome is AdoptionOutcome.ALREADY
    assert world.settings["Password"] == "secret"
