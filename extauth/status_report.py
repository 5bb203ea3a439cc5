"""`extauth status`: how the migration stands, for a person or as one JSON object."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Final

from extauth.gates import GateState, read_gates
from migrator.exit_codes import CONFIGURATION, TRY_LATER
from migrator.ledger.store import Store
from migrator.settings import Settings
from migrator.status import OpenJob, Status, read_status
from migrator.worker_lock import read_holder
from wire.outcome import SetupTrouble, Temporary, Trouble

_NAMES: Final = 20  # names shown of each list; --json has them all


def print_status(settings: Settings, *, as_json: bool) -> int:
    """Write the status to stdout. A ledger that does not exist yet is an empty one."""
    try:
        status = asyncio.run(_read(settings))
    except Trouble as trouble:
        sys.stderr.write(f"extauth: {trouble}\n")
        return TRY_LATER if isinstance(trouble, Temporary) and not isinstance(trouble, SetupTrouble) else CONFIGURATION
    holder = read_holder(settings.state.directory)
    if as_json:
        worker = None if holder is None else {"pid": holder.pid, "version": holder.version}
        servers = [asdict(gate) for gate in read_gates(settings.state.directory)]
        sys.stdout.write(json.dumps({**status.as_json(), "worker": worker, "old_servers": servers}) + "\n")
        return 0
    for line in describe(status):
        sys.stdout.write(line.encode("utf-8", "backslashreplace").decode() + "\n")
    for line in describe_servers(read_gates(settings.state.directory)):
        sys.stdout.write(line + "\n")
    sys.stdout.write(f"worker    {'does not run' if holder is None else f'runs as process {holder.pid}'}\n")
    return 0


async def _read(settings: Settings) -> Status:
    store = Store(settings.state.path)
    try:
        return await read_status(store, settings.domains, suspect_after=settings.helper.suspect_after)
    finally:
        await store.close()


def describe(status: Status) -> Iterator[str]:
    """The status in lines for a person."""
    accounts, jobs = status.accounts, status.jobs
    yield (
        f"accounts  {accounts['adopted']} moved, {accounts['adopting']} being moved, {accounts['refused']} whose "
        f"password CommuniGate refuses, {accounts['seen']} not logged in yet"
    )
    yield "copies    " + ", ".join(f"{count} {phase}" for phase, count in jobs.items())
    yield (
        f"copied    {status.copied} messages, {_octets(status.bytes)}; while copying "
        f"{status.messages_per_second:.0f} messages/s, {_octets(int(status.bytes_per_second))}/s"
    )
    if status.refused or status.unexplained:
        yield f"trouble   {status.refused} messages refused, {status.unexplained} unexplained"
    if status.graces:
        yield f"grace     {status.graces} accounts whose password, if changed at the old server, is still taken over"
    if status.unproven:
        yield f"unproven  {status.unproven} accounts made where the old server accepts every address, not logged in yet"
    if status.exports:
        yield f"export    {status.exports} passwords are saved; `extauth export` writes them"
    for word, listed in (
        ("running", status.running),
        ("postponed", status.postponed),
        ("waiting for a login", status.waiting),
        ("held", status.held),
    ):
        yield from _list(word, listed)
    for suspect in status.suspects[:_NAMES]:
        days = (status.at - suspect.since) / 86_400
        yield f"suspect   {suspect.account}: mail for {days:.0f} days, never a login; an alias, a list, spam?"
    if status.suspect_count > _NAMES:
        yield f"suspect   and {status.suspect_count - _NAMES} more"
    for account in status.left[:_NAMES]:
        yield f"left      {account.account}: {account.adoption}" + (f", {account.reason}" if account.reason else "")
    if len(status.left) > _NAMES:
        yield f"left      and {len(status.left) - _NAMES} more"
    for domain in status.domains:
        verdict = "; ".join(domain.left) or "nothing is left: its old server can be retired"
        yield f"domain    {domain.domain}: {'nobody has come yet' if domain.untouched else verdict}"


def describe_servers(gates: Iterable[GateState]) -> Iterator[str]:
    """The old servers that the helper leaves alone, or asks over fewer connections than configured."""
    for gate in gates:
        if gate.closed_to_us:
            minutes = (time.time() - gate.since) / 60
            yield (
                f"server    {gate.server} does not work since {minutes:.0f} minutes and is not asked,"
                f" {gate.turned_away} requests so far got FAILURE: {gate.reason}"
            )
        if gate.connections < gate.most:
            yield f"server    {gate.server} gets {gate.connections} connections instead of {gate.most}: it has too many"


def _list(word: str, listed: list[OpenJob]) -> Iterator[str]:
    for job in listed[:_NAMES]:
        hours = (time.time() - job.since) / 3600
        detail = f", {job.copied} messages so far" if job.copied else ""
        reason = f": {job.reason}" if job.reason else ""
        yield f"{word:<9} {job.account} since {hours:.1f} h{detail}{reason}"
    if len(listed) > _NAMES:
        yield f"{word:<9} and {len(listed) - _NAMES} more"


def _octets(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
