"""Grace: a password changed at the old server after the move is taken over, one changed at CommuniGate never undone."""

from __future__ import annotations

from pathlib import Path

import pytest

from extauth.protocol import Ok, Refuse, Reply, Retry
from migrator.ledger.graces import Graces
from migrator.workshop import Workshop
from tests.fault.adoption_site import AFTER, BEFORE, USER, Site, be_impatient, site

GRACE = 'after_login = "nothing"\ngrace = "14d"'
IN_GRACE = {**AFTER, "UseExtPassword": "YES"}
NEWER = {**IN_GRACE, "Password": "another-8"}
DAYS_15 = 15 * 86_400.0
OLD, NEW = b"secret-7", b"another-8"


def change_at_old_server(here: Site) -> None:
    """From now on only the newer password is right there."""
    here.passwords[b'"secret-7"'] = b"NO [AUTHENTICATIONFAILED] wrong"


async def log_in(here: Site, password: bytes) -> Reply:
    """As CommuniGate does it: its own password first, then the question to the helper."""
    account = here.server.account(USER)
    assert account is not None
    if account.option("UseAppPassword") and account.accepts(password):
        return Ok()
    if not account.option("UseExtPassword"):
        return Refuse("CommuniGate's own")
    return await here.verify(password)


async def end_grace(here: Site) -> None:
    """Fifteen days go by in the ledger."""
    await here.store.write(lambda c: c.execute("UPDATE graces SET until = until - ?", (DAYS_15,)) and None)


async def test_a_password_changed_at_the_old_server_is_taken_over(tmp_path: Path) -> None:
    """And again, and the older one is right no more."""
    async with site(tmp_path, GRACE) as here:
        assert isinstance(await log_in(here, OLD), Ok)
        assert here.account == IN_GRACE
        change_at_old_server(here)
        assert isinstance(await log_in(here, NEW), Ok)
        assert here.account == NEWER
        assert isinstance(await log_in(here, NEW), Ok)
        assert isinstance(await log_in(here, OLD), Refuse)
        assert here.account == NEWER
        here.passwords[b'"another-8"'] = b"NO [AUTHENTICATIONFAILED] wrong"
        here.passwords[b'"third-9"'] = b"OK in"
        assert isinstance(await log_in(here, b"third-9"), Ok)
        assert here.account == {**IN_GRACE, "Password": "third-9"}


async def test_a_password_changed_at_communigate_counts_alone(tmp_path: Path) -> None:
    """Neither the old server's old one nor its newer one is let in, and neither overwrites it."""
    async with site(tmp_path, GRACE) as here:
        await log_in(here, OLD)
        here.change(Password="changed-9")
        for password in (OLD, NEW, OLD, NEW):
            assert isinstance(await log_in(here, password), Refuse)
        await here.work()
        assert here.account == {**IN_GRACE, "Password": "changed-9"}
        assert isinstance(await log_in(here, b"changed-9"), Ok)


async def test_the_migrated_password_asks_the_old_server_no_more(tmp_path: Path) -> None:
    """Right there, and refused here: it was changed here for a reason."""
    async with site(tmp_path, GRACE + "\n") as here:
        await log_in(here, OLD)
        here.change(Password="changed-9")
        here.passwords.clear()
        assert isinstance(await log_in(here, OLD), Refuse)


async def test_a_login_that_was_on_its_way_during_adoption_is_let_in(tmp_path: Path) -> None:
    """CommuniGate asked before it had the password."""
    async with site(tmp_path, GRACE) as here:
        await log_in(here, OLD)
        assert isinstance(await here.verify(OLD), Ok)
        assert here.account == IN_GRACE


async def test_when_the_grace_is_over_external_authentication_goes_off(tmp_path: Path) -> None:
    """The helper counts the day already; the worker changes the setting."""
    async with site(tmp_path, GRACE) as here:
        await log_in(here, OLD)
        await here.work()
        assert here.account == IN_GRACE
        await end_grace(here)
        assert isinstance(await log_in(here, NEW), Refuse)
        here.change(Password="changed-9")
        await here.work()
        assert here.account == {**AFTER, "Password": "changed-9"}
        assert not await Graces(here.store).any()


async def test_a_worker_that_began_before_the_first_grace_ends_it(tmp_path: Path) -> None:
    """It runs for weeks, and one account that CommuniGate refuses to change stands before nobody."""
    async with site(tmp_path, GRACE) as here:
        workshop = Workshop(here.settings, here.store)
        adopter = workshop.runner().adopter
        try:
            assert await adopter.end_due(timeout=20.0) == 0
            await log_in(here, OLD)
            await here.store.write(
                lambda c: c.execute("INSERT INTO graces VALUES ('gone@d.test', x'01', x'02', 5.0)") and None
            )
            await end_grace(here)
            here.server.faults.reply("UPDATEACCOUNTSETTINGS", b"501 not now\r\n")
            assert await adopter.end_due(timeout=20.0) == 1, "the account that is gone"
            assert here.account == IN_GRACE
            assert await adopter.end_due(timeout=20.0) == 1
            assert here.account == AFTER
        finally:
            await workshop.close()


async def test_without_grace_nothing_is_noted_and_external_authentication_goes_off(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await log_in(here, OLD)
        assert here.account == AFTER
        assert not await Graces(here.store).any()


async def test_a_server_that_shows_no_password_gives_no_grace(tmp_path: Path) -> None:
    """Nobody could tell whether it was changed."""
    async with site(tmp_path, GRACE) as here:
        shown = b"201 {UseAppPassword=YES;UseExtPassword=YES;}\r\n"
        here.server.faults.reply("GETACCOUNTSETTINGS", shown, times=None)
        assert isinstance(await log_in(here, OLD), Ok)
        assert here.account == AFTER
        assert not await Graces(here.store).any()


async def test_a_server_that_cannot_verify_gives_no_grace(tmp_path: Path) -> None:
    async with site(tmp_path, GRACE) as here:
        here.server.faults.reply("VERIFYACCOUNTPASSWORD", b"500 unknown command\r\n", times=None)
        assert isinstance(await log_in(here, OLD), Ok)
        assert here.account == AFTER
        assert not await Graces(here.store).any()


async def test_a_policy_that_refuses_the_newer_password_lets_the_user_in(tmp_path: Path) -> None:
    async with site(tmp_path, GRACE) as here:
        await log_in(here, OLD)
        change_at_old_server(here)
        here.server.directory.password_policy = lambda _password: "too simple"
        for _ in range(2):
            assert isinstance(await log_in(here, NEW), Ok)
            assert here.account == IN_GRACE
        here.server.directory.password_policy = lambda _password: None
        assert isinstance(await log_in(here, NEW), Ok)
        assert here.account == NEWER


@pytest.mark.parametrize("refused", [False, True])
async def test_an_account_with_both_passwords_on_from_the_start(tmp_path: Path, refused: bool) -> None:
    """It is moved for good; a policy that refuses the password keeps nobody out."""
    async with site(tmp_path, GRACE) as here:
        here.change(UseAppPassword="YES", Password="somebody else's")
        before = here.account
        if refused:
            here.server.directory.password_policy = lambda _password: "too simple"
        for _ in range(3):
            assert isinstance(await log_in(here, OLD), Ok)
        assert here.account == (before if refused else AFTER)
        assert not await Graces(here.store).any()


async def test_a_wrong_password_and_an_old_server_that_is_away(tmp_path: Path) -> None:
    async with site(tmp_path, GRACE) as here:
        await log_in(here, OLD)
        assert isinstance(await log_in(here, b"wrong"), Refuse)
        here.passwords[b'"unwell"'] = b"NO [UNAVAILABLE] later"
        assert isinstance(await log_in(here, b"unwell"), Retry)
        assert here.account == IN_GRACE


async def test_an_administrators_account_is_not_taken_over(tmp_path: Path) -> None:
    async with site(tmp_path, GRACE) as here:
        await log_in(here, OLD)
        account = here.server.account(USER)
        assert account is not None
        account.rights = ["Master"]
        assert isinstance(await log_in(here, NEW), Refuse)
        assert here.account == IN_GRACE


@pytest.mark.parametrize(
    "verb", ["GETACCOUNTEFFECTIVESETTINGS", "UPDATEACCOUNTSETTINGS", "GETACCOUNTSETTINGS", "VERIFYACCOUNTPASSWORD"]
)
@pytest.mark.parametrize(
    ("executed", "hang", "changed"),
    [(False, False, False), (True, False, False), (True, False, True), (True, True, True)],
)
async def test_a_fault_in_the_first_adoption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, verb: str, executed: bool, hang: bool, changed: bool
) -> None:
    """The user is in; the worker finishes; what was changed at CommuniGate before that stays."""
    async with site(tmp_path, GRACE) as here:
        faults = here.server.faults
        arm = faults.hang if hang else faults.cut
        if hang:
            be_impatient(monkeypatch)
        arm(verb, times=None, executed=executed)
        assert isinstance(await here.verify(OLD), Ok)
        assert here.account in (BEFORE, IN_GRACE)
        faults.clear()
        stays = changed and here.account == IN_GRACE
        if stays:
            here.change(Password="changed-9")
        await here.work()
        assert here.account == ({**IN_GRACE, "Password": "changed-9"} if stays else IN_GRACE)
        assert isinstance(await log_in(here, NEW), Refuse if stays else Ok)
        assert here.account == ({**IN_GRACE, "Password": "changed-9"} if stays else NEWER)


@pytest.mark.parametrize(
    "verb", ["GETACCOUNTEFFECTIVESETTINGS", "UPDATEACCOUNTSETTINGS", "GETACCOUNTSETTINGS", "VERIFYACCOUNTPASSWORD"]
)
@pytest.mark.parametrize("executed", [False, True])
async def test_a_fault_in_the_second(tmp_path: Path, *, verb: str, executed: bool) -> None:
    """Each step of taking over a newer password: never ERROR for it, and in the end it is right."""
    for skip in range(2):
        directory = tmp_path / str(skip)
        directory.mkdir()
        async with site(directory, GRACE) as here:
            await log_in(here, OLD)
            change_at_old_server(here)
            here.server.faults.cut(verb, times=2, executed=executed, skip=skip)
            assert not isinstance(await log_in(here, NEW), Refuse)
            assert here.account in (IN_GRACE, NEWER)
            here.server.faults.clear()
            assert isinstance(await log_in(here, NEW), Ok)
            assert here.account == NEWER
            await here.work()
            assert here.account == NEWER
            assert isinstance(await log_in(here, OLD), Refuse)


async def test_grace_that_is_switched_off_leaves_no_way_around(tmp_path: Path) -> None:
    """Whoever changed the password at CommuniGate is not overwritten by an account that is left in between."""
    async with site(tmp_path, GRACE) as here:
        await log_in(here, OLD)
        here.change(Password="changed-9")
        await here.service.retire(5.0)
        config = here.settings.path
        config.write_text(config.read_text().replace('grace = "14d"', ""))
        here.reload()
        assert isinstance(await log_in(here, OLD), Refuse)
        assert here.account == {**IN_GRACE, "Password": "changed-9"}


async def test_no_password_can_be_guessed_from_the_state_directory(tmp_path: Path) -> None:
    """The digests differ for equal passwords of two accounts, and their key is elsewhere."""
    async with site(tmp_path, GRACE) as here:
        await log_in(here, OLD)
        grace = await Graces(here.store).load(USER)
        assert grace is not None
        assert grace.stored is not None
        key = bytes.fromhex((tmp_path / "digest.key").read_text().split()[1])
        assert len({grace.migrated, grace.stored}) == 2
    for file in (tmp_path / "state").iterdir():
        content = file.read_bytes() if file.is_file() else b""
        assert key not in content
        assert key.hex().encode() not in content
        assert OLD not in content
