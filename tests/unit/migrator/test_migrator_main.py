"""The `migrator` commands as a person runs them: output, exit codes, and what they leave behind."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest
import structlog

from migrator.__main__ import exit_code, main
from migrator.ledger.jobs import LedgerQueue
from migrator.ledger.store import Store
from migrator.model import Outlook, Phase, Worker
from migrator.worker_log import configure_log
from wire.secret import Secret

WORKER = Worker("w", "here", "1.1")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "extauth.toml"
    path.write_text(
        f'[communigate]\npassword = "x"\ncli = "127.0.0.1:1"\n[state]\nurl = "sqlite:///{tmp_path}/state.db"\n'
        'public_key_file = "keys/seal.pub"\nkey_file = "keys/seal.key"\n'
        '[domains.default]\nimap = "127.0.0.1:1"\nnew = "refuse"\n'
    )
    path.chmod(0o600)
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code is None or isinstance(ended.value.code, int)
    return ended.value.code or 0


def with_keys(config: Path) -> Path:
    assert run("keygen", "--config", config) == 0
    return config


async def fill(path: Path) -> None:
    """One job of each phase: a is done, b held, c waiting, d pending."""
    store = Store(path)
    queue = LedgerQueue(store)
    for name in "abcd":
        await queue.add(f"{name}@example.com", "example.com", "imap://old:143")
    claims = [await queue.claim(WORKER, lease=60, limits=lambda _server: 9) for _ in range(3)]
    done, held, waiting = (claim for claim in claims if claim)
    from migrator.model import Counts

    await queue.finish(done, Counts(copied=3), '{"totals":{"copied":3}}')
    await queue.hold(held, "certificate")
    await queue.wait_for_login(waiting, "refused since")
    await store.close()


@pytest.fixture
def filled(config: Path) -> Path:
    with_keys(config)
    asyncio.run(fill(config.parent / "state.db"))
    return config


def phases(config: Path) -> dict[str, Phase]:
    async def read() -> dict[str, Phase]:
        store = Store(config.parent / "state.db")
        try:
            return {job.account[0]: job.phase for job in await LedgerQueue(store).jobs()}
        finally:
            await store.close()

    return asyncio.run(read())


def test_keygen_makes_both_files_and_never_twice(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("keygen", "--config", config) == 0
    keys = config.parent / "keys"
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()} == {
        "seal.pub": 0o644,
        "seal.key": 0o600,
    }
    before = (keys / "seal.key").read_bytes()
    assert before.split()[1].decode() not in capsys.readouterr().out
    assert run("keygen", "--config", config) == 73
    assert "exists" in capsys.readouterr().err
    assert (keys / "seal.key").read_bytes() == before
    assert run("keygen", "--config", config, "--force") == 0
    assert (keys / "seal.key.old").read_bytes() == before


def test_a_configuration_fault_names_file_line_and_key(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_keys(config)
    config.write_text(config.read_text() + "nonsense = 1\n")
    assert run("jobs", "--config", config) == 78
    assert f"{config}:11:" in capsys.readouterr().err


def test_a_key_file_open_to_others_stops_the_worker(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_keys(config)
    (config.parent / "keys" / "seal.key").chmod(0o644)
    assert run("work", "--config", config, "--until-idle") == 78
    assert "chmod 600" in capsys.readouterr().err


def test_jobs_are_listed_for_people_and_programs(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("jobs", "--config", filled) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["a@example.com", "done"],
        ["b@example.com", "held"],
        ["c@example.com", "waiting"],
        ["d@example.com", "pending"],
    ]
    assert "certificate" in lines[1]
    assert run("jobs", "--config", filled, "--json", "--phase", "done") == 0
    (job,) = json.loads(capsys.readouterr().out)
    assert (job["account"], job["phase"], job["counts"]["copied"]) == ("a@example.com", "done", 3)
    assert job["report"] == {"totals": {"copied": 3}}


def test_retry_of_some_or_of_all(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("retry", "--config", filled, "B@example.com") == 0
    assert phases(filled) == {"a": Phase.DONE, "b": Phase.PENDING, "c": Phase.WAITING, "d": Phase.PENDING}
    assert run("retry", "--config", filled, "--all") == 0
    assert phases(filled)["c"] is Phase.PENDING
    assert "1 copy run again now" in capsys.readouterr().out
    assert run("retry", "--config", filled, "nobody@example.com") == 1


def test_retry_takes_copies_along_when_the_old_server_has_another_name(
    filled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("retry", "--config", filled, "--moved", "b@example.com") == 0
    assert "1 copy moved" in capsys.readouterr().out
    assert run("jobs", "--config", filled, "--json", "--phase", "pending") == 0
    sources = {job["account"]: job["source"] for job in json.loads(capsys.readouterr().out)}
    assert sources == {"b@example.com": "imap://127.0.0.1:1", "d@example.com": "imap://old:143"}


@pytest.mark.parametrize("arguments", [[], ["--all", "a@example.com"]])
def test_retry_wants_names_or_all(filled: Path, arguments: list[str]) -> None:
    assert run("retry", "--config", filled, *arguments) == 64


def test_hold_and_retry(filled: Path) -> None:
    assert run("hold", "--config", filled, "d@example.com", "--reason", "not today") == 0
    assert phases(filled)["d"] is Phase.HELD
    assert run("hold", "--config", filled, "a@example.com") == 1


def test_a_bare_name_is_of_the_main_domain(filled: Path) -> None:
    filled.write_text(filled.read_text().replace("[communigate]", '[communigate]\nmain_domain = "example.com"'))
    assert run("hold", "--config", filled, "D") == 0
    assert phases(filled)["d"] is Phase.HELD
    assert run("retry", "--config", filled, "d") == 0
    assert phases(filled)["d"] is Phase.PENDING
    assert run("hold", "--config", filled, "d@other.test") == 1


@pytest.mark.parametrize("arguments", [["nonsense"], ["jobs", "--nonsense"], ["hold"]])
def test_usage_errors_end_with_64(arguments: list[str]) -> None:
    assert run(*arguments) == 64


def test_a_fault_of_this_program_ends_with_70(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_keys(config)
    config.write_text(config.read_text().replace("/state.db", "/zero\\u0000byte"))
    assert run("jobs", "--config", config) == 70  # nothing of ours expects a zero byte there
    assert "Traceback" in capsys.readouterr().err


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    assert "keygen" in capsys.readouterr().out


def test_a_worker_with_nothing_to_do_ends_with_zero(config: Path, tmp_path: Path) -> None:
    with_keys(config)
    assert run("work", "--config", config, "--until-idle", "--log", tmp_path / "worker.log") == 0
    lines = [json.loads(line) for line in (tmp_path / "worker.log").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["worker started", "worker stopped"]
    assert stat.S_IMODE((tmp_path / "worker.log").stat().st_mode) == 0o600


def test_the_log_follows_its_rotation_and_keeps_secrets(tmp_path: Path) -> None:
    path = tmp_path / "worker.log"
    configure_log(path)
    logger = structlog.get_logger()
    logger.info("one", password=Secret(b"hush"))
    path.rename(tmp_path / "worker.log.1")
    try:
        raise KeyError("here")
    except KeyError as error:
        logger.error("two", exc_info=error)
    first, second = (json.loads(p.read_text()) for p in (tmp_path / "worker.log.1", path))
    assert (first["event"], first["password"]) == ("one", "Secret(***)")
    assert (second["event"], second["exception"][0]["exc_type"]) == ("two", "KeyError")
    assert "locals" not in second["exception"][0]["frames"][0]


def test_a_worker_whose_ledger_cannot_be_opened_says_try_later(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_keys(config)
    config.write_text(config.read_text().replace("state.db", "missing/state.db"))
    assert run("work", "--config", config, "--until-idle", "--log", config.parent / "worker.log") == 75
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("outlook", "code"),
    [
        (Outlook(done=3), 0),
        (Outlook(done=3, held=1), 1),
        (Outlook(waiting=1), 1),
        (Outlook(done=3, flawed=1), 1),
        (Outlook(postponed=1, held=1), 75),
        (Outlook(fresh=1), 75),
    ],
)
def test_exit_codes_tell_what_is_left(outlook: Outlook, code: int) -> None:
    assert exit_code(outlook) == code


@pytest.mark.parametrize("arguments", [["--all"], []])
def test_delta_queues_what_is_done_and_says_what_is_missing(
    filled: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("delta", "--config", filled, *arguments) == 1
    said = capsys.readouterr()
    assert said.out == "0 final passes queued, 1 under way already\n"
    assert [line.partition(":")[0] for line in said.err.splitlines()] == [f"{name}@example.com" for name in "bca"]
    assert "migrator retry b@example.com" in said.err
    assert "admin_login" in said.err
    assert phases(filled)["a"] is Phase.DONE


def with_administrator(config: Path) -> None:
    secret = config.with_name("admin.password")
    secret.write_text("x")
    secret.chmod(0o600)
    config.write_text(config.read_text() + 'admin_login = "root"\nadmin_password_file = "admin.password"\n')


def test_delta_with_an_administrator(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_administrator(filled)
    assert run("delta", "--config", filled, "A@example.com") == 0
    assert capsys.readouterr().out == "1 final passes queued, 0 under way already\n"
    assert phases(filled)["a"] is Phase.PENDING
    assert run("jobs", "--config", filled) == 0
    assert "final pass" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize("arguments", [["--all", "a@example.com"], ["--domain", "example.com", "a@example.com"]])
def test_delta_wants_names_or_all_or_a_domain(filled: Path, arguments: list[str]) -> None:
    assert run("delta", "--config", filled, *arguments) == 64


def test_what_a_last_pass_has_brought_is_listed(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_administrator(filled)
    assert run("delta", "--config", filled, "--domain", "example.com") == 1

    async def work() -> None:
        from migrator.model import Counts

        store = Store(filled.parent / "state.db")
        queue = LedgerQueue(store)
        claim = await queue.claim(WORKER, lease=60, limits=lambda _server: 9)
        assert claim is not None
        await queue.finish(claim, Counts(copied=2), '{"totals":{"copied":2,"flagged":5}}')
        await store.close()

    asyncio.run(work())
    capsys.readouterr()
    assert run("jobs", "--config", filled, "--phase", "done") == 0
    assert "last pass: 2 new, 5 with other flags" in capsys.readouterr().out


def test_recopy_is_said_of_accounts_by_name(filled: Path) -> None:
    assert run("retry", "--config", filled, "--recopy", "--all") == 64
    assert run("retry", "--config", filled, "--recopy", "b@example.com") == 0
    assert phases(filled)["b"] is Phase.PENDING


def test_whether_a_file_can_be_read_is_told_by_who_reads_it(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never "usage": an unreadable configuration is 78, an unreadable file 65. Here access(2) says no, and open yes."""
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("os.access", lambda *_args, **_flags: False)
    for words in (
        ("hashes", tmp_path / "file"),
        ("accounts", tmp_path / "file", "--format", "passwd", "--domain", "d.test"),
        ("aliases", "--config", config, "--offline", "--domain", "d.test", "--aliases", tmp_path / "file"),
        ("rules", "--config", config, "--offline", "--domain", "d.test", "--homes", tmp_path),
        ("shadow-switch", "status", tmp_path / "file"),
    ):
        assert run(*words) in (0, 1), words
