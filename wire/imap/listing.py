"""Which mailboxes a server has, and how it forms their names: LIST, LSUB and NAMESPACE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wire.imap.classify import classify_failure
from wire.imap.dialogue import Completed, Dialogue
from wire.imap.encoder import Arg, Text
from wire.imap.parser import Untagged
from wire.imap.results import Listed, Namespaces, read_listed, read_namespaces


@dataclass(frozen=True, slots=True)
class Survey:
    """What a server has. `subscribed` is None where that was not asked or not told."""

    listed: list[Listed]
    namespaces: Namespaces | None
    subscribed: list[Listed] | None


async def ask_list(dialogue: Dialogue, pattern: bytes, reference: bytes, *, subscribed: bool) -> list[Listed]:
    """LIST or LSUB: each name once, as on the wire. Permanent or Temporary where the server refuses."""
    name, arguments = _question(dialogue, pattern, reference, subscribed=subscribed)
    found: dict[bytes, Listed] = {}
    reply = await dialogue.run(name, arguments, take=_collector({name: found}))
    if reply.status == b"BAD" and len(arguments) > 2:  # announced and not understood: seen behind proxies
        reply = await dialogue.run(name, arguments[:2], take=_collector({name: found}))
    if reply.status != b"OK":
        raise classify_failure(reply.status, reply.code, reply.text, what=name.decode())
    return list(found.values())


async def ask_namespaces(dialogue: Dialogue) -> Namespaces | None:
    """NAMESPACE (RFC 2342); None where it is not offered or refused."""
    if "NAMESPACE" not in (dialogue.capabilities or ()):
        return None
    return _namespaces_of(await dialogue.run(b"NAMESPACE"))


async def ask_survey(dialogue: Dialogue, pattern: bytes, reference: bytes, *, subscribed: bool) -> Survey:
    """LIST, NAMESPACE where offered, and LSUB if `subscribed`, in one round trip. Raises what `ask_list` raises.

    None of them changes anything, so that their order does not matter (RFC 3501 5.5).
    """
    commands = [_question(dialogue, pattern, reference, subscribed=False)]
    if subscribed:
        commands.append(_question(dialogue, b"*", reference, subscribed=True))
    if "NAMESPACE" in (dialogue.capabilities or ()):
        commands.append((b"NAMESPACE", ()))
    found: dict[bytes, dict[bytes, Listed]] = {b"LIST": {}, b"LSUB": {}}
    replies = await dialogue.run_in_a_row(*commands, take=_collector(found))
    by_name = {name: reply for (name, _), reply in zip(commands, replies, strict=True)}
    if by_name[b"LIST"].status == b"OK":
        listed = list(found[b"LIST"].values())
    else:  # the long way knows what else to ask, and says what is wrong
        listed = await ask_list(dialogue, pattern, reference, subscribed=False)
    namespaces = _namespaces_of(by_name[b"NAMESPACE"]) if b"NAMESPACE" in by_name else None
    told = b"LSUB" in by_name and by_name[b"LSUB"].status == b"OK"
    return Survey(listed, namespaces, list(found[b"LSUB"].values()) if told else None)


def _question(
    dialogue: Dialogue, pattern: bytes, reference: bytes, *, subscribed: bool
) -> tuple[bytes, tuple[Arg, ...]]:
    names = (Text(reference), Text(pattern))
    if subscribed:
        return b"LSUB", names
    if {"LIST-EXTENDED", "SPECIAL-USE"} <= (dialogue.capabilities or frozenset()):
        return b"LIST", (*names, b"RETURN (SPECIAL-USE)")  # RFC 6154 3: else \\All and the like may stay unsaid
    return b"LIST", names


def _collector(found: dict[bytes, dict[bytes, Listed]]) -> Callable[[Untagged], bool]:
    def take(response: Untagged) -> bool:
        if response.name not in found:
            return False
        listed = read_listed(response)
        if listed is not None:
            found[response.name].setdefault(listed.name, listed)
        return True

    return take


def _namespaces_of(reply: Completed) -> Namespaces | None:
    found: Sequence[Untagged] = [response for response in reply.untagged if response.name == b"NAMESPACE"]
    return read_namespaces(found[-1]) if reply.status == b"OK" and found else None
