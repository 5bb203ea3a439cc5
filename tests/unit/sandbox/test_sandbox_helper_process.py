"""How the simulated CommuniGate runs an External Authentication program: small programs that behave and misbehave."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from extauth.sandbox.helper_process import HelperProcess, HelperReply, PasswordForm, verify_line

PROGRAM = r"""
import os, sys, time
marks = sys.argv[1]
for line in sys.stdin.buffer:
    number, _, rest = line.decode("latin-1").strip("\n").partition(" ")
    def say(text):
        sys.stdout.buffer.write(text.encode("latin-1") + b"\n")
        sys.stdout.buffer.flush()
    word = rest.split(" ")[0]
    if word == "INTF":
        say(f"{number} INTF 3")
    elif word == "QUIT":
        say(f"{number} OK")
        break
    elif "ignored" in rest:
        pass
    elif "once" in rest and not os.path.exists(marks):
        open(marks, "w").close()
        os._exit(7)
    elif "slow" in rest:
        time.sleep(0.05)
        say(f"{number} FAILURE slow")
    elif "long" in rest:
        say(f"{number} ERROR " + "x" * 5000)
    elif "odd" in rest:
        say(f"{number} WHAT")
        say(f"999 OK")
        say("* a line for the log")
        sys.stderr.write("trouble\n")
        say(f"{number} ERROR odd")
    else:
        say(f"{number} OK {rest}")
"""

Start = Callable[..., Awaitable[HelperProcess]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    started: list[HelperProcess] = []

    async def begin(**options: object) -> HelperProcess:
        command = [sys.executable, "-I", "-S", "-c", PROGRAM, str(tmp_path / "mark")]
        helper = HelperProcess(command, restart_pause=0.01, **options)  # type: ignore[arg-type]  # by name
        started.append(helper)
        await helper.start()
        return helper

    yield begin
    for helper in started:
        await helper.stop()


async def test_learns_the_interface_and_ends_cleanly(start: Start) -> None:
    helper = await start()
    assert helper.spoken_interface == 3
    assert await helper.stop() == 0
    assert (helper.violations, bytes(helper.stderr), helper.starts) == ([], b"", 1)
    assert (await helper.request(b"NEW a@b.test")).word == "LOST"


async def test_matches_replies_by_number(start: Start) -> None:
    helper = await start()
    slow, quick = await asyncio.gather(helper.new("slow@b.test"), helper.new("quick@b.test"))
    assert slow == HelperReply("FAILURE", "slow")
    assert quick == HelperReply("OK", "NEW quick@b.test (SMTP) [127.0.0.1]")
    assert helper.outstanding == 0


async def test_records_what_the_protocol_does_not_allow(start: Start) -> None:
    helper = await start()
    assert await helper.request(b"odd") == HelperReply("ERROR", "odd")
    assert len((await helper.request(b"long")).text) == 5000
    await helper.stop()
    assert helper.log == ["a line for the log"]
    assert bytes(helper.stderr) == b"trouble\n"
    kinds = [violation.split(":")[0] for violation in helper.violations]
    assert kinds == ["not a reply", "an answer to 999, which is not outstanding", "a line of 5009 bytes"]


async def test_sends_pending_requests_again_after_a_crash(start: Start) -> None:
    helper = await start()
    crashed, other = await asyncio.gather(helper.request(b"once"), helper.request(b"other"))
    assert (crashed.word, other.word) == ("OK", "OK")
    assert helper.starts == 2
    assert helper.exit_codes == [7]
    sent = [keyword for _, keyword in helper.requests]
    assert sent.count("once") == 2


async def test_a_time_out_stops_the_program(start: Start) -> None:
    helper = await start(timeout=0.05, most_sends=2)
    assert (await helper.request(b"ignored")).word == "LOST"
    assert helper.timeouts == 2
    assert (await helper.request(b"after")).word == "OK"


async def test_without_auto_restart_pending_requests_are_rejected(start: Start) -> None:
    helper = await start(auto_restart=False)
    pending = asyncio.ensure_future(helper.request(b"ignored"))
    await asyncio.sleep(0)
    helper.kill()
    assert (await pending).word == "LOST"
    assert (await helper.request(b"more")).word == "LOST"


async def test_a_program_that_cannot_be_started() -> None:
    helper = HelperProcess(["/nonexistent/program"])
    await helper.start()
    assert (await helper.request(b"NEW a@b.test")).word == "LOST"
    assert helper.violations[0].startswith("cannot be started")
    await helper.stop()


@pytest.mark.parametrize(
    ("password", "form", "line"),
    [
        (b"word", PasswordForm.QUOTED, b'VRFY (POP) a@b.test "word" [::1]'),
        (b"word", PasswordForm.AUTO, b"VRFY (POP) a@b.test word [::1]"),
        (b'a "b" \\', PasswordForm.AUTO, b'VRFY (POP) a@b.test "a \\"b\\" \\\\" [::1]'),
        (b"\xe4 \t", PasswordForm.QUOTED, b'VRFY (POP) a@b.test "\\228 \\t" [::1]'),
        ("ä".encode(), PasswordForm.QUOTED, 'VRFY (POP) a@b.test "ä" [::1]'.encode()),
        (b'"\xe4" x', PasswordForm.RAW, b'VRFY (POP) a@b.test "\xe4" x [::1]'),
    ],
)
def test_writes_passwords_in_every_form(password: bytes, form: PasswordForm, line: bytes) -> None:
    assert verify_line("a@b.test", password, "POP", "::1", form) == line
