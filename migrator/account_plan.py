"""Asks both servers what they have, and makes the plan of one account's copy from it."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

from migrator.access import Access
from migrator.identity import refuse_same_login
from migrator.options import CopyOptions
from migrator.plan import Naming, Plan, PlanOptions, is_inbox, plan_mailboxes, show
from migrator.session import Session
from migrator.side_by_side import side_by_side
from migrator.special_use import places
from wire.imap.client import ImapClient
from wire.imap.listing import Survey
from wire.imap.names import encode_mailbox
from wire.imap.results import Listed
from wire.outcome import Permanent


def ends_of(source: Access, target: Access, options: CopyOptions) -> tuple[Access, Access]:
    """Both ends as the flags have them. SameMailbox when they are one login in one place."""
    if options.proxy_user:
        source = replace(source, proxy=os.fsencode(options.proxy_user))
    source = replace(source, prefix=source.prefix + encode_mailbox(options.source_prefix))
    target = replace(target, prefix=target.prefix + encode_mailbox(options.target_prefix))
    refuse_same_login(source, target)
    return source, target


async def plan_account(session: Session) -> Plan:
    """The plan, by both servers' lists, the options, and the names that earlier runs have chosen. Writes nothing."""
    options, source, target = session.options, session.source, session.target
    session.touch()
    subscribed = options.subscriptions or options.subscribed_only
    began = asyncio.get_running_loop().time()
    (
        (listed, source_naming, session.source_subscribed),
        (existing, target_naming, session.target_subscribed),
    ) = await side_by_side(
        _survey(source, session.source_access.prefix, options.list_pattern, subscribed=subscribed),
        _survey(target, session.target_access.prefix, subscribed=options.subscriptions),
    )
    session.took(1, began)
    session.around.checkpoint("both: listed")
    session.existing = frozenset(entry.name for entry in existing)
    session.source_naming, session.target_naming = source_naming, target_naming
    only = None
    if options.subscribed_only:
        only = frozenset(await subscriptions_of(source, session.source_access.prefix, session.source_subscribed))
    wanted = PlanOptions(
        session.source_access.prefix, session.target_access.prefix, options.skip, options.renames, only
    )
    # Names are kept without the account's prefix: an administrator may go on where the user's own login began.
    prefix = session.target_access.prefix
    known = {name: prefix + target for name, target in (await session.marks.targets()).items()}
    target_naming = session.target_naming
    special = places(existing, prefix or target_naming.prefix) if options.special_use else None
    names = session.existing
    plan = plan_mailboxes(
        listed, session.source_naming, session.target_naming, wanted, existing=names, known=known, special=special
    )
    if session.source_access.files is None:
        return plan
    from migrator.file_source import FileClient  # noqa: PLC0415 - few copies are made from files

    assert isinstance(source, FileClient)
    return replace(plan, skipped=(*plan.skipped, *source.skipped))


async def subscriptions_of(client: ImapClient, prefix: bytes, known: list[bytes] | None) -> list[bytes]:
    """The names that are subscribed below `prefix`: as they are known, else as the server says when it is asked again.

    Permanent, with its reason, where it refuses.
    """
    if known is not None:
        return known
    try:
        return [entry.name for entry in await client.list_mailboxes(reference=prefix, subscribed=True)]
    except Permanent as refusal:
        raise _of(client, prefix, refusal) from None


async def _survey(
    client: ImapClient, prefix: bytes, pattern: str = "*", *, subscribed: bool
) -> tuple[list[Listed], Naming, list[bytes] | None]:
    """What a server lists below `prefix`, how it forms names, and what is subscribed, if it says so."""
    try:
        survey = await client.survey(encode_mailbox(pattern), reference=prefix, subscribed=subscribed)
    except Permanent as refusal:  # without a list there is no copy
        raise _of(client, prefix, refusal) from None
    names = None if survey.subscribed is None else [entry.name for entry in survey.subscribed]
    return survey.listed, await _naming(client, survey), names


def _of(client: ImapClient, prefix: bytes, refusal: Permanent) -> Permanent:
    """A refused list, saying whose it is and below which prefix."""
    below = f" below {show(prefix)!r}" if prefix else ""
    return Permanent(f"{client.stream.endpoint}{below}: {refusal.text}", code=refusal.code)


async def _naming(client: ImapClient, survey: Survey) -> Naming:
    """How a server forms names: as NAMESPACE says (RFC 2342), else as its list shows."""
    namespaces = survey.namespaces
    if namespaces is not None and namespaces.personal:
        prefix, separator = namespaces.personal[0]
        foreign = tuple(prefix for prefix, _ in (*namespaces.other, *namespaces.shared))
        return Naming(separator, b"" if is_inbox(prefix) else prefix, foreign, certain=True)
    separators = [entry.separator for entry in survey.listed if entry.separator]
    if not separators:
        separators = [entry.separator for entry in await client.list_mailboxes(b"") if entry.separator]
    return Naming(separators[0] if separators else None)
