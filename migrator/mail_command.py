"""A run of `migrator aliases` or `migrator rules`: ask CommuniGate what it has, plan, make or show, tell."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

import click

from cli_client.errors import UnknownCommand
from cli_client.mail_commands import MailCli
from migrator.alias_file import shown
from migrator.alias_work import InputTrouble, Known
from migrator.cli_pool import open_pool_beside
from migrator.command_line import fail, fail_at_cli, read_configuration
from migrator.exit_codes import BAD_DATA, CANNOT_WRITE, DONE, NEEDS_A_PERSON, TRY_LATER
from migrator.mail_apply import Maker, Result, State
from migrator.mail_objects import Choice, Form, Undecided
from migrator.settings import Settings
from wire.outcome import Trouble

PAGE: Final = 10_000  # names of a domain asked for at once
_QUIET: Final = frozenset({State.MADE, State.THERE, State.NOTHING})
_OTHER_NAMES: Final = ("ALIASES", "FORWARDERS", "GROUPS", "MAILLISTS")


class Work(Protocol):
    """What is read and planned."""

    def read(self, known: Known) -> set[str]:
        """Read the files; the domains whose names are to be asked for."""
        ...

    def plan(self, known: Known) -> tuple[list[Choice], list[Undecided]]:
        """What is to be made, and what a person must decide."""
        ...


class Session:
    """One run of a command. `run` ends the program with the contract's exit codes."""

    def __init__(
        self,
        config: Path,
        *,
        apply: bool,
        router: bool,
        extend_lists: bool,
        bad: Path | None,
        as_json: bool,
        left: str = "",
    ) -> None:
        self._config = config
        self._apply = apply
        self._router = router
        self._extend_lists = extend_lists
        self._bad = bad
        self._as_json = as_json
        self._left = left

    def run(self, work: Work, *, offline: bool) -> NoReturn:
        """Read, plan, make, tell."""
        try:
            settings = read_configuration(self._config, check_files=not offline, check_keys=False)
            choices, undecided, results = asyncio.run(self._run(work, settings, offline))
        except InputTrouble as trouble:
            fail(BAD_DATA, str(trouble))
        except Trouble as trouble:
            fail_at_cli(trouble, otherwise=NEEDS_A_PERSON)
        except OSError as error:
            fail(BAD_DATA, f"{error.filename}: {error.strerror}")
        if self._as_json:
            click.echo(json.dumps(_as_json(choices, undecided, results)))
        else:
            for line in _lines(choices, undecided, results):
                click.echo(shown(line))
        if self._bad is not None:
            try:
                _write_left(self._bad, self._left, undecided, results)
            except OSError as error:
                fail(CANNOT_WRITE, f"{error.filename}: {error.strerror}")
        sys.exit(_exit_code(undecided, results))

    async def _run(
        self, work: Work, settings: Settings, offline: bool
    ) -> tuple[list[Choice], list[Undecided], list[Result]]:
        communigate = settings.communigate
        known = Known(not offline, main_domain=communigate.main_domain, is_protected=communigate.is_protected)
        if offline:
            work.read(known)
            return *work.plan(known), []
        pool = open_pool_beside(settings, communigate.connections)
        cli = MailCli(pool)
        try:
            await pool.reach()
            known.domains = frozenset(name.lower() for name in await cli.list_domains())
            for domain in sorted(work.read(known) & known.domains):
                await _learn(cli, domain, known)
            choices, undecided = work.plan(known)
            results: list[Result] = []
            if self._apply:
                maker = Maker(
                    cli,
                    places=communigate.connections,
                    router=self._router,
                    extend_lists=self._extend_lists,
                    there=known.others,
                )
                progress = _Progress(len(choices))
                await maker.make(choices, lambda result: progress.tell(results, result))
                progress.close()
            return choices, undecided, results
        finally:
            await pool.close()


async def _learn(cli: MailCli, domain: str, known: Known) -> None:
    """All names of a domain. A server that cannot list other objects is asked for accounts alone."""
    known.accounts |= {f"{name.lower()}@{domain}" for name in await cli.list_accounts(domain)}
    cookie: str | None = None
    try:
        while True:
            page = await cli.list_domain_objects(domain, PAGE, kinds=_OTHER_NAMES, cookie=cookie)
            known.others |= {f"{name.lower()}@{domain}" for name in (*page.objects, *page.aliases)}
            if not page.cookie or page.cookie == cookie:
                return
            cookie = page.cookie
    except UnknownCommand:
        return


class _Progress:
    """How far it is, on a terminal; nothing where stderr is none."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._shown = sys.stderr.isatty()
        self._step = max(1, total // 200)

    def tell(self, results: list[Result], result: Result) -> None:
        results.append(result)
        if self._shown and len(results) % self._step == 0:
            click.echo(f"\r{len(results)} of {self._total}", nl=False, err=True)

    def close(self) -> None:
        if self._shown:
            click.echo(f"\r{' ' * 30}\r", nl=False, err=True)


def _lines(choices: Sequence[Choice], undecided: Sequence[Undecided], results: Sequence[Result]) -> Iterator[str]:
    """What a person reads: every choice with its reason, then what is left to decide, then the counts."""
    if not results:
        yield from (f"{_where(choice.item.source, choice.item.line)}: {_shown(choice)}" for choice in choices)
    for result in sorted(results, key=lambda result: (result.choice.item.source, result.choice.item.line)):
        said = result.state.value + (f": {result.text}" if result.text else "")
        yield f"{_where(result.choice.item.source, result.choice.item.line)}: {_shown(result.choice)} [{said}]"
    for left in undecided:
        name = left.item.address if left.item.domain else left.item.text
        yield f"{_where(left.item.source, left.item.line)}: UNDECIDED {name}: {left.reason}. To do: {left.decide}"
    forms = Counter(choice.form.value for choice in choices)
    counts = [f"{count} {name}" for name, count in forms.items()] + [f"{len(undecided)} undecided"]
    yield f"{len(choices) + len(undecided)} entries: " + ", ".join(counts)
    if results:
        states = Counter(result.state.value for result in results)
        yield "applied: " + ", ".join(f"{count} {name}" for name, count in states.items())


def _where(source: str, line: int) -> str:
    return f"{source}:{line}" if line else source


def _shown(choice: Choice) -> str:
    values = ", ".join(choice.values[:5]) + (f", ... ({len(choice.values)})" if len(choice.values) > 5 else "")
    told = choice.form.value if choice.form is not Form.RULE else f"{len(choice.rules)} account rule"
    owner = f", owner {choice.owner}" if choice.owner else ""
    return f"{choice.address}: {told}{' ' + values if values else ''}{owner} ({choice.why})"


def _as_json(choices: Sequence[Choice], undecided: Sequence[Undecided], results: Sequence[Result]) -> dict[str, Any]:
    return {
        "applied": bool(results),
        "choices": [result.as_json() for result in results] or [choice.as_json() for choice in choices],
        "undecided": [left.as_json() for left in undecided],
        "counts": {
            **Counter(choice.form.value for choice in choices),
            "undecided": len(undecided),
            **{f"result: {name}": n for name, n in Counter(result.state.value for result in results).items()},
        },
    }


def _write_left(directory: Path, name: str, undecided: Sequence[Undecided], results: Sequence[Result]) -> None:
    """What is left of each file, in its own form and with the reason above each entry, to be fed back.

    With `name` all goes into one file of that name.
    """
    left: dict[str, list[str]] = {}
    for entry in undecided:
        item = entry.item
        reason = shown(f"# {_where(item.source, item.line)}: {entry.reason}. To do: {entry.decide}")
        left.setdefault(name or item.source, []).extend((reason, item.text))
    for result in results:
        if result.state not in _QUIET and result.state is not State.BY_HAND:
            item = result.choice.item
            reason = shown(f"# {_where(item.source, item.line)}: {result.state.value}: {result.text}")
            left.setdefault(name or item.source, []).extend((reason, item.text))
    directory.mkdir(exist_ok=True)
    used: Counter[str] = Counter()
    for source, lines in left.items():
        base = Path(source).name
        used[base] += 1
        target = directory / (base if used[base] == 1 else f"{base}.{used[base]}")
        with target.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            file.writelines(line.replace("\n", " ") + "\n" for line in lines if line)


def _exit_code(undecided: Sequence[Undecided], results: Sequence[Result]) -> int:
    if any(result.state is State.LATER for result in results):
        return TRY_LATER
    return NEEDS_A_PERSON if undecided or any(result.state not in _QUIET for result in results) else DONE
