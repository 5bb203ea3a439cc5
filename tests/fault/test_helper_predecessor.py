"""What the published migration script gets wrong, line by line: each test shows the opposite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from migrator.ledger.jobs import LedgerQueue
from migrator.ledger.store import Store
from tests.end_to_end.helper_child import (
    DOMAIN,
    Child,
    add_account,
    communigate,
    files_with,
    helper,
    imap_server,
    smtp_server,
    write_config,
)
from tests.servers.script import Play, Talk, serve

_REQUESTS = int(os.environ.get("EXTAUTH_REQUESTS", "0"))  # `make soak` sends a million: a day of 50,000 users
YES, NO, LATER = b"OK", b"ERROR ", b"FAILURE "


def cpu_seconds(child: Child) -> float:
    """What the helper has used so far."""
    fields = Path(f"/proc/{child.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(child: Child) -> int:
    """Its memory in KiB."""
    status = Path(f"/proc/{child.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def children_of(child: Child) -> int:
    """How many processes it has started that still run."""
    tasks = Path(f"/proc/{child.process.pid}/task/{child.process.pid}/children").read_text()
    return len(tasks.split())


def arguments_of(child: Child) -> bytes:
    """Its command line, as everybody on the machine can see it."""
    return Path(f"/proc/{child.process.pid}/cmdline").read_bytes()


def pop_server(to_user: bytes, to_pass: bytes) -> Play:
    """Answers USER and PASS so; an empty answer hangs up."""

    async def play(talk: Talk) -> None:
        await talk.send(b"+OK\r\n")
        while True:
            word = (await talk.line()).split(b" ")[0].upper()
            answer = {b"USER": to_user, b"PASS": to_pass}.get(word, b"+OK bye\r\n")
            if not answer:
                return
            await talk.send(answer)

    return play


# -- lets strangers in -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [b"NO", b"BAD", b"NO ", b"BAD "])
async def test_imap_refusal_without_text_is_no_right_password(tmp_path: Path, answer: bytes) -> None:
    """Success is one complete OK, never "no error text"."""
    async with communigate() as server, serve(imap_server({b"LOGIN": answer})) as old:
        add_account(server, f"u@{DOMAIN}")
        async with helper(write_config(tmp_path, cli=server.cli.port, imap=old.port)) as child:
            assert not (await child.ask(b"1 VRFY u@d.test stranger")).startswith(YES)
        assert "updateaccountsettings" not in server.cli.verbs()


@pytest.mark.parametrize("to_pass", [b"-ERR\r\n", b"", b"\r\n"])
async def test_pop_refusal_without_text_is_no_right_password(tmp_path: Path, to_pass: bytes) -> None:
    """Nor is a connection closed after PASS."""
    async with communigate() as server, serve(pop_server(b"+OK\r\n", to_pass)) as old:
        add_account(server, f"u@{DOMAIN}")
        async with helper(write_config(tmp_path, cli=server.cli.port, pop=old.port, verify="pop")) as child:
            assert not (await child.ask(b"1 VRFY u@d.test stranger")).startswith(YES)
        assert "updateaccountsettings" not in server.cli.verbs()


# -- injection ---------------------------------------------------------------------------------------------------------


async def test_a_password_sets_nothing_but_the_password(tmp_path: Path) -> None:
    r"""`"` and `\` reach the CLI escaped."""
    password = b'x";UseExtPassword=YES;AccessModes=All;Z="y\\'
    async with communigate() as server, serve(imap_server({b"LOGIN": b"OK in"})) as old:
        add_account(server, f"u@{DOMAIN}")
        async with helper(write_config(tmp_path, cli=server.cli.port, imap=old.port)) as child:
            assert await child.ask(b"1 VRFY u@d.test " + password) == YES
        account = server.account(f"u@{DOMAIN}")
        assert account is not None
        assert account.accepts(password)
        assert set(account.settings) == {"Password", "UseAppPassword", "UseExtPassword"}
        assert account.settings["UseExtPassword"] == "NO"


async def test_a_name_sets_nothing(tmp_path: Path) -> None:
    """Names that could end a quoted string never leave the helper."""
    async with communigate() as server, serve(smtp_server({b"@": b"250 yes"})) as old:
        async with helper(write_config(tmp_path, cli=server.cli.port, smtp=old.port)) as child:
            name = b'x"{Password=y;AccessModes=All}@d.test'
            assert not (await child.ask(b"1 NEW " + name)).startswith(YES)
            assert not (await child.ask(b"2 VRFY " + name + b" secret")).startswith(YES)
        assert server.cli.executed == []
        assert old.talks == []


# -- leaks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to_user", "to_pass"),
    [(b"-ERR hunter2hunter2 no such user\r\n", b""), (b"+OK\r\n", b"-ERR wrong: hunter2hunter2\r\n")],
)
async def test_pop_refusal_never_shows_the_password(tmp_path: Path, to_user: bytes, to_pass: bytes) -> None:
    """Whatever the old server says; nor is it in a log, a file or an argument list."""
    async with (
        serve(pop_server(to_user, to_pass)) as old,
        helper(write_config(tmp_path, pop=old.port, verify="pop")) as child,
    ):
        assert (await child.ask(b"1 VRFY u@d.test hunter2hunter2")).startswith(NO)
        assert b"hunter2hunter2" not in arguments_of(child)
        await child.end()
        assert b"hunter2hunter2" not in child.raw
    assert not files_with(tmp_path, b"hunter2hunter2")


async def test_imap_refusal_never_shows_the_password(tmp_path: Path) -> None:
    """A server may repeat the whole command."""
    async with (
        serve(imap_server({b"LOGIN": b"NO cannot LOGIN u hunter2hunter2"})) as old,
        helper(write_config(tmp_path, imap=old.port)) as child,
    ):
        await child.ask(b"1 VRFY u@d.test hunter2hunter2")
        await child.end()
        assert b"hunter2hunter2" not in child.raw
    assert b"hunter2hunter2" not in (tmp_path / "helper.log").read_bytes()


# -- hangs -------------------------------------------------------------------------------------------------------------


def cutting(parts: list[bytes], cut: list[int]) -> Play:
    """Says the parts, each but the first after a line, and hangs up after `cut[0]` bytes."""

    async def play(talk: Talk) -> None:
        left = cut[0]
        tag = b""
        for number, part in enumerate(parts):
            if number:
                tag = (await talk.line()).split(b" ")[0]
            said = part.replace(b"TAG", tag)
            await talk.send(said[:left])
            left -= len(said)
            if left <= 0:
                return
        await talk.silence()

    return play


async def test_end_of_file_after_every_byte_of_smtp(tmp_path: Path) -> None:
    """An answer each time, FAILURE until the whole reply is there, and no spinning."""
    parts = [b"220 old\r\n", b"250-old\r\n250 SIZE\r\n", b"250 ok\r\n", b"550 5.1.1 no\r\n"]
    whole = sum(map(len, parts))
    cut = [0]
    async with (
        communigate() as server,
        serve(cutting(parts, cut)) as old,
        helper(write_config(tmp_path, cli=server.cli.port, smtp=old.port)) as child,
    ):
        for cut[0] in range(whole):
            assert (await child.ask(b"%d NEW u@d.test" % cut[0])).startswith(LATER), cut[0]
        cut[0] = whole + 1
        assert (await child.ask(b"%d NEW u@d.test" % whole)).startswith(NO)
        assert cpu_seconds(child) < 10


async def test_end_of_file_after_every_byte_of_imap(tmp_path: Path) -> None:
    """OK only after the last byte of the OK, ERROR only after the last byte of the NO."""
    async with communigate() as server:
        add_account(server, f"u@{DOMAIN}")
        number = 0
        for reply, answer in ((b"TAG OK in\r\n", YES), (b"TAG NO no\r\n", NO)):
            parts = [b"* OK [CAPABILITY IMAP4rev1] ready\r\n", reply]
            whole = sum(map(len, parts)) + 4  # the tag is longer than its name here
            cut = [0]
            async with serve(cutting(parts, cut)) as old:
                config = write_config(tmp_path, cli=server.cli.port, imap=old.port)
                async with helper(config) as child:
                    replies = []
                    for cut[0] in range(whole + 8):
                        number += 1
                        replies.append((await child.ask(b"%d VRFY u@d.test secret" % number))[: len(answer)])
                    assert replies[-1] == answer
                    first = replies.index(answer)
                    assert set(replies[first:]) == {answer}
                    assert all(LATER.startswith(early) for early in replies[:first])
                    assert first > len(parts[0]) + len(b"TAG OK in")
                    assert cpu_seconds(child) < 10


async def test_cli_login_that_fails_is_answered(tmp_path: Path) -> None:
    """FAILURE to NEW at once, with a loud line."""
    async with communigate() as server, serve(smtp_server({b"@": b"250 yes"})) as old:
        config = write_config(tmp_path, cli=server.cli.port, smtp=old.port)
        (tmp_path / "cli.password").write_text("wrong\n")
        async with helper(config) as child:
            assert (await child.ask(b"1 NEW u@d.test")).startswith(LATER)
            await child.told(b"CLI")


async def test_a_thousand_logins_against_a_black_hole(tmp_path: Path) -> None:
    """One process, bounded memory and connections, no CLI session, an answer for everybody."""

    async def play(talk: Talk) -> None:
        await talk.silence()

    async with communigate() as server, serve(play) as hole:
        config = write_config(tmp_path, cli=server.cli.port, imap=hole.port, helper='deadline = "2s"')
        async with helper(config) as child:
            await child.ask(b"0 NEW u@d.test")
            before = resident(child)
            await child.send(b"".join(b"%d VRFY u%d@d.test secret\n" % (n, n) for n in range(1, 1001)))
            for number in range(1, 1001):
                assert (await child.reply(number)).startswith(LATER)
            assert children_of(child) == 0
            assert resident(child) - before < 40_000
        assert hole.most <= 10
        assert server.cli.most_sessions <= 4


# -- wrong verdicts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", [b"451 x", b"452 x", b"421 x", b"252 x"])
async def test_smtp_trouble_is_no_bounce(tmp_path: Path, reply: bytes) -> None:
    """The server's fault is FAILURE."""
    async with (
        communigate() as server,
        serve(smtp_server({b"<u@": reply})) as old,
        helper(write_config(tmp_path, cli=server.cli.port, smtp=old.port)) as child,
    ):
        assert (await child.ask(b"1 NEW u@d.test")).startswith(LATER)


async def test_251_is_an_account(tmp_path: Path) -> None:
    """The server takes mail for it."""
    async with (
        communigate() as server,
        serve(smtp_server({b"<u@": b"251 x"})) as old,
        helper(write_config(tmp_path, cli=server.cli.port, smtp=old.port)) as child,
    ):
        assert await child.ask(b"1 NEW u@d.test") == YES


async def test_refused_connections_and_cli_trouble_are_no_bounce(tmp_path: Path) -> None:
    """Neither for the sender nor for the user."""
    async with helper(write_config(tmp_path)) as child:
        assert (await child.ask(b"1 NEW u@d.test")).startswith(LATER)
        assert (await child.ask(b"2 VRFY u@d.test secret")).startswith(LATER)
    async with serve(smtp_server({b"@": b"250 yes"})) as old, helper(write_config(tmp_path, smtp=old.port)) as child:
        assert (await child.ask(b"1 NEW u@d.test")).startswith(LATER)


@pytest.mark.parametrize("code", [b"[UNAVAILABLE]", b"[SYS/TEMP]", b"[IN-USE]"])
async def test_response_codes_about_the_server_refuse_nobody(tmp_path: Path, code: bytes) -> None:
    """By IMAP and by POP."""
    async with (
        serve(imap_server({b"LOGIN": b"NO " + code + b" sorry"})) as imap,
        serve(pop_server(b"+OK\r\n", b"-ERR " + code + b" sorry\r\n")) as pop,
    ):
        async with helper(write_config(tmp_path, imap=imap.port)) as child:
            assert (await child.ask(b"1 VRFY u@d.test secret")).startswith(LATER)
        async with helper(write_config(tmp_path, pop=pop.port, verify="pop")) as child:
            assert (await child.ask(b"1 VRFY u@d.test secret")).startswith(LATER)


async def test_the_second_of_two_equal_news_is_ok(tmp_path: Path) -> None:
    """ "Already exists" is what was wanted."""
    async with communigate() as server, serve(smtp_server({b"@": b"250 yes"})) as old:
        async with helper(write_config(tmp_path, cli=server.cli.port, smtp=old.port)) as child:
            await child.send(b"1 NEW u@d.test\n2 NEW u@d.test\n")
            assert await child.reply(1) == YES
            assert await child.reply(2) == YES
        async with helper(write_config(tmp_path, cli=server.cli.port, smtp=old.port)) as child:
            assert await child.ask(b"3 NEW u@d.test") == YES


async def test_update_that_fails_queues_one_copy_however_often_the_user_logs_in(tmp_path: Path) -> None:
    """The user is let in each time."""
    async with communigate() as server, serve(imap_server({b"LOGIN": b"OK in"})) as old:
        add_account(server, f"u@{DOMAIN}")
        server.faults.reply("UPDATEACCOUNTSETTINGS", b"501 not now", times=None)
        async with helper(write_config(tmp_path, cli=server.cli.port, imap=old.port)) as child:
            for number in range(5):
                assert await child.ask(b"%d VRFY u@d.test secret" % number) == YES
            assert await child.end() == 0
    assert await queued(tmp_path) == [f"u@{DOMAIN}"]


# -- parsing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "login"),
    [
        (b"VRFY u@d.test two words", b'"two words"'),
        (b'VRFY u@d.test "quoted"', b'"quoted"'),
        (b"VRFY u@d.test 0", b'"0"'),
        (b"VRFY u@d.test #123", b'"#123"'),
    ],
)
async def test_passwords_are_read_as_they_were_meant(tmp_path: Path, line: bytes, login: bytes) -> None:
    """A space does not cut, quotes do not stay, `0` is not empty, `#123` no number."""
    async with serve(imap_server({b"LOGIN": b"NO wrong"})) as old:
        async with helper(write_config(tmp_path, imap=old.port)) as child:
            assert (await child.ask(b"1 " + line)).startswith(NO)
        assert any(said.endswith((b" " + login, b" " + login.strip(b'"'))) for said in old.lines)


async def test_quit_with_cr_lf_and_line_ends_on_every_reply(tmp_path: Path) -> None:
    """CR LF ends a request; LF ends every reply."""
    async with helper(write_config(tmp_path)) as child:
        await child.send(b"1 INTF 7\r\n2 READPLAIN u@d.test\r\n3 SASL(X) u@d.test a b\r\n4 QUIT\r\n")
        assert await child.wait() == 0
        assert bytes(child.raw).endswith(b"\n")
        assert child.replies[b"4"] == b"OK"
        assert len(child.replies) == 4


# -- loses jobs --------------------------------------------------------------------------------------------------------


async def queued(directory: Path) -> list[str]:
    """The accounts of the queued copies."""
    store = Store(directory / "state" / "state.db")
    jobs = await LedgerQueue(store).jobs()
    await store.close()
    return sorted(job.account for job in jobs)


async def test_four_logins_are_four_copies(tmp_path: Path) -> None:
    """All at once, the CLI slow, the helper killed after the last answer."""
    names = [f"u{number}@{DOMAIN}" for number in range(4)]
    async with communigate() as server, serve(imap_server({b"LOGIN": b"OK in"})) as old:
        for name in names:
            add_account(server, name)
        async with helper(write_config(tmp_path, cli=server.cli.port, imap=old.port)) as child:
            await child.send(b"".join(b"%d VRFY %b secret\n" % (n, name.encode()) for n, name in enumerate(names)))
            for number in range(4):
                assert await child.reply(number) == YES
            await child.kill()
    assert await queued(tmp_path) == names


# -- makes accounts of everything --------------------------------------------------------------------------------------


async def test_not_everything_accepted_becomes_an_account(tmp_path: Path) -> None:
    """Details, catch-alls and dictionary spam do not, where the operator says so."""
    async with communigate() as server, serve(smtp_server({b"@": b"250 yes"}), refuses_strangers=False) as old:
        config = write_config(tmp_path, cli=server.cli.port, smtp=old.port, domain='accept_all = "refuse"')
        async with helper(config) as child:
            await child.send(b"".join(b"%d NEW spam%d+x@d.test\n" % (n, n) for n in range(50)))
            await child.send(b"".join(b"%d NEW spam%d@d.test\n" % (n, n) for n in range(50, 100)))
            for number in range(100):
                assert (await child.reply(number)).startswith(NO)
        assert not server.directory.domain(DOMAIN).accounts


@pytest.mark.timeout(300 + _REQUESTS // 500)
async def test_memory_does_not_grow_with_requests(tmp_path: Path) -> None:
    """Requests of every kind: the later half of them costs no memory and no descriptor more."""
    rounds = max(4, _REQUESTS // 2000)
    async with communigate() as server, serve(imap_server({})) as imap, serve(smtp_server({})) as smtp:
        config = write_config(tmp_path, cli=server.cli.port, imap=imap.port, smtp=smtp.port)
        async with helper(config) as child:

            async def ask_many(start: int) -> tuple[int, int]:
                lines = []
                for number in range(start, start + 2000, 4):
                    lines.append(b"%d VRFY u%d@d.test secret%d\n" % (number, number, number))
                    lines.append(b"%d NEW u%d@d.test (SMTP) [192.0.2.1]\n" % (number + 1, number))
                    lines.append(b"%d NEW u%d+x@other%d.test\n" % (number + 2, number, number))
                    lines.append(b"%d DANCE %d\n" % (number + 3, number))
                await child.send(b"".join(lines))
                for number in range(start, start + 2000):
                    await child.reply(number)
                child.replies.clear()
                return resident(child), len(os.listdir(f"/proc/{child.process.pid}/fd"))

            seen = [await ask_many(2000 * number) for number in range(rounds)]
            memory, files = zip(*seen, strict=True)
            half = rounds // 2
            if _REQUESTS:
                print(f"{2000 * rounds} requests: {memory[0]}, {memory[half]}, {memory[-1]} KiB; {files[-1]} files")
            assert max(memory[half:]) - max(memory[:half]) < 3000, memory
            assert max(files[half:]) <= max(files[:half]) + 8, files
