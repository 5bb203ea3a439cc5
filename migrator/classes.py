"""Mailbox classes (`IPF.Appointment`, `IPF.Contact`, ...) from one CommuniGate Pro to another (--copyMailboxClass).

The classes are read and set over the CLI, with ListMailboxes (key `Class`) and SetMailboxClass, as the vendor's own
scripts do: no document at hand gives an IMAP command for them. Assumed, and not seen at a real server: the login that
opens the mailbox over IMAP opens the CLI too, on port 106 of the same host and protected as the IMAP connection is,
unless --oldCLI and --newCLI name another place; what rights it needs there, the server says.

It never changes a message, never takes a class away, and never fails a copy: what could not be done is a note.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from cli_client.commands import Cli
from cli_client.connection import CliConnection
from cli_client.format import Value
from migrator.access import Access
from migrator.plan import show
from migrator.session import Session
from wire.endpoint import Endpoint, Security, parse_endpoint
from wire.imap.client import ImapClient
from wire.imap.names import decode_mailbox
from wire.outcome import Permanent, Trouble

_GREETING: Final = "CommuniGate Pro"
_PORT: Final = 106
_FAREWELL: Final = 2.0  # seconds for QUIT


async def copy_classes(session: Session, copied: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """Give the target mailboxes the classes of their sources; what could not be done, a sentence each.

    `copied` are the mailboxes by source and target name, as on the wire.
    """
    for client, where in ((session.source, "the source"), (session.target, "the target")):
        if not _is_communigate(client):
            return [f"mailbox classes are not copied: {where} is not CommuniGate Pro"]
    options = session.options
    try:
        async with _open_cli(session.source_access, options.old_cli, options.timeout) as cli:
            classes = await _classes_of(cli, session.source_access, options.timeout)
        wanted = {new: classes[name] for old, new in copied if (name := _bare(old, session.source_access)) in classes}
        if not wanted:
            return []
        async with _open_cli(session.target_access, options.new_cli, options.timeout) as cli:
            return await _set_classes(cli, session.target_access, wanted, options.timeout)
    except Trouble as trouble:
        return [f"mailbox classes were not copied: {trouble}"]


def _is_communigate(client: ImapClient) -> bool:
    """By the greeting: a password goes to no CLI port of a stranger."""
    return _GREETING in client.greeting


async def _set_classes(cli: Cli, access: Access, wanted: Mapping[bytes, str], timeout: float) -> list[str]:
    there = await _classes_of(cli, access, timeout)
    problems = []
    for name, kind in wanted.items():
        bare = _bare(name, access)
        if there.get(bare) == kind:
            continue
        try:
            await cli.set_mailbox_class(_account(access), bare, kind, deadline=_deadline(timeout))
        except Permanent as refusal:
            problems.append(f"the class {kind} of {show(name)!r} was not set: {refusal}")
    return problems


async def _classes_of(cli: Cli, access: Access, timeout: float) -> dict[str, str]:
    """The classes of those mailboxes of the account that have one."""
    found = {}
    for name, value in (await cli.list_mailboxes(_account(access), deadline=_deadline(timeout))).items():
        kind = _information(value).get("Class")
        if isinstance(kind, str) and kind:
            found[name] = kind
    return found


def _information(value: Value) -> Mapping[str, Value]:
    """What the list says of one mailbox; where others lie below it, that is the first of an array."""
    first = value[0] if isinstance(value, list) and value else value
    return first if isinstance(first, dict) else {}


def _account(access: Access) -> str:
    """The account whose mailboxes are meant: that of a prefix `~account/`, else that of the login."""
    prefix = access.prefix.decode("utf-8", "surrogateescape")
    if prefix.startswith("~"):
        return prefix[1:].partition("/")[0]
    return (access.authzid or access.login).decode("utf-8", "surrogateescape")


def _bare(name: bytes, access: Access) -> str:
    """A mailbox as the CLI calls it: within its account, in Unicode."""
    return decode_mailbox(name.removeprefix(access.prefix) if access.prefix.startswith(b"~") else name)


def _place(access: Access, named: str) -> Endpoint:
    if named:
        return parse_endpoint(named, "cli")
    plain = access.endpoint.security is Security.PLAIN
    return Endpoint("cli", access.endpoint.host, _PORT, Security.PLAIN if plain else Security.TLS)


@asynccontextmanager
async def _open_cli(access: Access, named: str, timeout: float) -> AsyncIterator[Cli]:
    """A session with the IMAP login; Temporary or Permanent when there is none to be had."""
    endpoint = _place(access, named)
    login = access.login.decode("utf-8", "surrogateescape")
    connection = await CliConnection.connect(
        endpoint, login, access.password, tls=access.tls, deadline=_deadline(timeout)
    )
    try:
        yield Cli(connection)
    finally:
        await connection.quit(deadline=_deadline(_FAREWELL))


def _deadline(timeout: float) -> float:
    return asyncio.get_running_loop().time() + timeout
