"""`extauth cutover` from the first step to the last, on the simulated CommuniGate and an old server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from extauth.__main__ import main
from extauth.cutover import TEST_NAME
from extauth.cutover_checks import Finding, mail_arrives
from extauth.sandbox.communigate import CommuniGate
from extauth.sandbox.imap_session import LoginRefused
from extauth.sandbox.old_server import OldServer
from extauth.sandbox.pop_server import PopRefused, PopServer, PopUser
from extauth.strangers import make_password
from tests.end_to_end.helper_child import DOMAIN, NOWHERE, communigate, write_config
from tests.servers.memory_smtp import MemorySmtp
from wire.endpoint import Endpoint, TlsPolicy

TEST = f"{TEST_NAME}@{DOMAIN}"
OTHER = f"{TEST_NAME}@second.test"


@dataclass
class World:
    """Both servers, and the command with its configuration and the ports of this CommuniGate."""

    new: CommuniGate
    old: OldServer
    pop: PopServer
    config: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def ports(self) -> str:
        return f"{self.new.smtp.port},{self.pop.port},{self.new.imap.port}"

    async def run(self, *words: str) -> tuple[int, str]:
        """The exit code, and what was printed."""
        arguments = ["cutover", *words, "--config", str(self.config)]
        if "--aside" not in words:
            arguments += ["--aside", self.ports]
        if "--ports" not in words:
            arguments += ["--ports", self.ports]
        code = await asyncio.to_thread(main, arguments)
        out = self.capsys.readouterr()
        return code, out.out + out.err

    async def look(self, *words: str) -> dict[str, Any]:
        """The same as JSON, by step."""
        _, text = await self.run(*words, "--json")
        told = json.loads(text)
        return {step["name"]: step for step in told["steps"]} | {"next": told["next"]}


@asynccontextmanager
async def pop_of(new: CommuniGate) -> AsyncIterator[PopServer]:
    """The POP listener that this CommuniGate has beside its IMAP."""

    async def log_in(login: bytes, password: bytes, ip: str) -> PopUser:
        try:
            user = await new._log_in_imap(login, password, b"", ip)
        except LoginRefused as refusal:
            raise PopRefused(refusal.text, "AUTH") from None
        return PopUser(user.name, password, user.store.inbox)

    pop = PopServer(log_in, lambda _login: None, name="CommuniGate Pro POP3 Server 5.2")
    await pop.start()
    try:
        yield pop
    finally:
        await pop.close()


@pytest.fixture
async def world(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[World]:
    async with communigate() as new, pop_of(new) as pop:
        new.add_domain("second.test")
        old = OldServer()
        await old.start()
        try:
            second = f'[domains."second.test"]\nsmtp = "127.0.0.1:{NOWHERE}"\nimap = "127.0.0.1:{NOWHERE}"\n'
            config = write_config(
                tmp_path, cli=new.cli.port, smtp=old.smtp.port, imap=old.imap.port, pop=old.pop.port, domain=second
            )
            text = config.read_text().replace(f'imap = "127.0.0.1:{NOWHERE}"', f'imap = "127.0.0.1:{new.imap.port}"', 1)
            text = text.replace(f'smtp = "127.0.0.1:{NOWHERE}"', f'smtp = "127.0.0.1:{new.smtp.port}"', 1)
            config.write_text(text)
            yield World(new, old, pop, config, capsys)
        finally:
            await old.close()


def wrong(step: dict[str, Any]) -> list[str]:
    return [finding["text"] for finding in step["findings"] if finding["good"] is False]


async def test_the_whole_chapter(world: World) -> None:
    """Every step looked at, done, and done again; nothing of the test accounts stays."""
    code, text = await world.run()
    assert (code, "next: extauth cutover aside" in text) == (0, True)
    assert world.new.account(TEST) is None  # looking changes nothing
    for step in ("aside", "domains", "try", "accounts", "old"):
        code, text = await world.run(step, "--apply")
        assert (code, "WRONG" in text) == (0, False), text
    assert world.new.account(TEST) is not None
    assert world.new.account(OTHER) is not None
    code, text = await world.run("try", "--apply")  # once more, with a new password
    assert (code, text.count("logs in"), text.count("arrives")) == (0, 4, 2)
    for step in ("delta", "back", "after", "retire"):
        code, text = await world.run(step, "--apply")
        assert code == 0, text
    assert (await world.look())["next"] == ""
    code, text = await world.run("after", "--undo")
    assert (code, text.count("removed")) == (0, 2)
    assert world.new.account(TEST) is None
    assert world.new.account(OTHER) is None
    told = await world.look()
    assert told["next"] == "after"
    assert told["aside"]["done"]


async def test_what_is_wrong_is_said_and_not_noted_as_done(world: World) -> None:
    """Another server on a port, a domain that is missing, an account of that name."""
    del world.new.directory.domains["second.test"]
    world.new.directory.create_account(TEST, {"Password": "theirs"})
    code, text = await world.run("domains", "--apply")
    assert (code, "second.test: CommuniGate does not know it" in text) == (1, True)
    code, text = await world.run("try", "--apply")
    assert (code, "was not made by this program" in text, "does not know the domain" in text) == (1, True, True)
    assert world.new.account(TEST) is not None
    code, _ = await world.run("try", "--undo")
    assert world.new.account(TEST) is not None  # it is not ours to remove
    taken = f"{world.old.smtp.port},{NOWHERE},{world.new.imap.port}"
    code, text = await world.run("back", "--apply", "--ports", taken)
    assert (code, "another server answers" in text, "nobody answers" in text) == (1, True, True)
    told = await world.look()
    assert (told["domains"]["done"], told["back"]["done"], told["next"]) == (None, None, "aside")


async def test_the_guides_own_words(world: World) -> None:
    """What only a person can do is said where the guide has it; an old server that is back on our ports is found."""
    told = await world.look()
    for step, words in {
        "aside": ("Receiving", "Access", "communigate.imap in the configuration"),
        "domains": ("CreateDomain", "Domain Aliases"),
        "try": ("WebUser Interface", "another server"),
        "accounts": ("Account Import", "NewName"),
        "delta": ("MoveAccounts",),
        "retire": ("some hours", "none of the ports"),
    }.items():
        does = told[step]["does"]
        assert [word for word in words if word not in does] == [], step
        assert told[step]["undo"]
    back = f"{world.old.smtp.port},{world.pop.port},{world.new.imap.port}"
    code, text = await world.run("retire", "--apply", "--ports", back)
    assert (code, "another server answers" in text) == (1, True)
    assert (await world.look())["retire"]["done"] is None


async def test_mail_that_does_not_arrive(world: World) -> None:
    """Refused; taken by a server that keeps it; no POP."""
    world.new.smtp.faults.reply("RCPT", b"451 4.3.0 later", times=None)
    code, text = await world.run("try", "--apply", "--aside", f"26,{NOWHERE},144")
    assert (code, text.count("logs in"), text.count("451"), text.count("cannot log in")) == (1, 2, 2, 2)
    password = make_password()
    world.new.directory.create_account(f"a@{DOMAIN}", {"Password": password.reveal().decode(), "UseAppPassword": "YES"})
    imap = Endpoint("imap", "127.0.0.1", world.new.imap.port)
    async with MemorySmtp() as keeper:
        smtp, ends = Endpoint("smtp", "127.0.0.1", keeper.port), (f"a@{DOMAIN}", f"a@{DOMAIN}")
        found = await mail_arrives(smtp, imap, TlsPolicy(), ends, password, patience=0.2)
    assert found == Finding(False, f"{smtp}: mail from {ends[0]} to {ends[1]} was taken, and has not come in 0 s")


async def test_no_cli(world: World) -> None:
    await world.new.cli.close()
    code, text = await world.run("domains")
    assert (code, "127.0.0.1" in text) == (69, True)


async def test_usage(world: World) -> None:
    assert (await world.run("nowhere"))[0] == 64
    assert (await world.run("--apply"))[0] == 64
    assert (await world.run("--ports", "25,110"))[0] == 64
    state = world.config.parent / "state" / "cutover.json"
    state.write_text("[]")
    code, text = await world.run()
    assert (code, "not a record of a cutover" in text) == (78, True)
