"""`extauth cutover`: what is shown of the steps, and the exit codes."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Final

from extauth.cutover import Cutover, Ports, Step, as_json
from extauth.cutover_checks import Finding
from migrator.cli_pool import code_of
from migrator.exit_codes import CANNOT_WRITE, CONFIGURATION, NEEDS_A_PERSON, USAGE
from migrator.settings import Settings
from wire.outcome import Trouble

_MARKS: Final = {True: "ok   ", False: "WRONG", None: "     "}


def parse_ports(text: str) -> tuple[int, ...]:
    """SMTP, POP and IMAP as `26,111,144`. ValueError for anything else."""
    ports = tuple(int(port) for port in text.split(","))
    if len(ports) != 3 or not all(0 < port < 65536 for port in ports):
        raise ValueError("three ports: SMTP,POP,IMAP")
    return ports


def cutover(settings: Settings, ports: Ports, name: str, *, action: str, for_program: bool) -> int:
    """All steps, or the one of this name; `action` is look, apply or undo. The exit code."""
    try:
        return asyncio.run(_cutover(settings, ports, name, action=action, for_program=for_program))
    except Trouble as trouble:
        sys.stderr.write(f"extauth: {trouble}\n")
        return code_of(trouble)
    except ValueError as error:
        sys.stderr.write(f"extauth: {error}: move it away to begin anew\n")
        return CONFIGURATION
    except OSError as error:
        sys.stderr.write(f"extauth: {error.filename}: {error.strerror}\n")
        return CANNOT_WRITE


async def _cutover(settings: Settings, ports: Ports, name: str, *, action: str, for_program: bool) -> int:
    async with Cutover(settings, ports) as walk:
        chosen = [step for step in walk.steps if name in ("", step.name)]
        if not chosen:
            sys.stderr.write(f"extauth: no step {name!r}: {', '.join(step.name for step in walk.steps)}\n")
            return USAGE
        if action != "look" and not name:
            sys.stderr.write("extauth: --apply and --undo are said of one step, by its name\n")
            return USAGE
        told = []
        for step in chosen:
            if action == "apply":
                found = await walk.apply(step)
            else:
                found = await (walk.undo(step) if action == "undo" else step.look())
            told.append((step, walk.memory.done.get(step.name), found))
            if not for_program:
                _print(step, walk.memory.done.get(step.name), found, whole=bool(name) and action == "look")
        if for_program:
            steps = [as_json(step, done, found) for step, done, found in told]
            sys.stdout.write(json.dumps({"steps": steps, "next": walk.next}) + "\n")
        elif not name or action != "look":
            where = f"next: extauth cutover {walk.next}" if walk.next else "all steps are done"
            sys.stdout.write(where + "\n")
        wrong = any(finding.good is False for step, done, found in told for finding in found if name or done)
        return NEEDS_A_PERSON if wrong else 0


def _print(step: Step, done: float | None, found: Sequence[Finding], *, whole: bool) -> None:
    state = f"done {time.strftime('%Y-%m-%d %H:%M', time.localtime(done))}" if done else "to do"
    lines = [f"{step.name:<9} {step.title} [{state}]"]
    lines += [f"          {_MARKS[finding.good]} {finding.text}" for finding in found]
    if whole:
        lines += [f"          do:   {step.does}", f"          undo: {step.undo}"]
    sys.stdout.write("".join(line.encode("utf-8", "backslashreplace").decode() + "\n" for line in lines))
    sys.stdout.flush()
