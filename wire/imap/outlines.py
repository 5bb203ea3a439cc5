"""What is known of messages without their bodies: UID, flags, date and size, and some fields of the header.

A server that does not understand BODY.PEEK[HEADER.FIELDS] is asked for RFC822.HEADER: as quiet, and longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from wire.imap.classify import classify_failure
from wire.imap.dialogue import Completed, Dialogue
from wire.imap.encoder import quote, render_uid_set, render_uid_sets
from wire.imap.header_fields import select_fields
from wire.imap.parser import Untagged
from wire.imap.results import Summary, read_fetch, read_number, read_summary

SUMMARY: Final = b"(UID FLAGS INTERNALDATE RFC822.SIZE)"
_WHOLE_HEADER: Final = b"(UID RFC822.HEADER)"


async def fetch_summaries(dialogue: Dialogue, uids: bytes) -> list[Summary]:
    """Summaries of a UID set, ascending. A message that vanished meanwhile is left out."""
    found: dict[int, Summary] = {}

    def take(response: Untagged) -> bool:
        return response.name == b"FETCH" and take_summary(response, found)

    reply = await dialogue.run(b"UID FETCH", (uids, SUMMARY), take=take)
    _check(reply)
    return [found[uid] for uid in sorted(found)]


async def fetch_headers(dialogue: Dialogue, uids: Iterable[int], fields: Sequence[str]) -> dict[int, bytes]:
    """The named header fields of each message, raw. Messages that vanished are left out."""
    item = _fields_item(fields)
    found: dict[int, bytes] = {}

    def take(response: Untagged) -> bool:
        return response.name == b"FETCH" and _take_header(response, fields, found)

    for piece in render_uid_sets(uids):
        reply = await dialogue.run(b"UID FETCH", (piece, item), take=take)
        if reply.status == b"BAD" and item != _WHOLE_HEADER:  # a server before IMAP4rev1
            item = _WHOLE_HEADER
            reply = await dialogue.run(b"UID FETCH", (piece, item), take=take)
        _check(reply)
    return found


async def fetch_outlines(
    dialogue: Dialogue, uids: Sequence[int], fields: Sequence[str]
) -> tuple[dict[int, bytes], list[Summary]]:
    """Headers and summaries of a few messages, in one round trip."""
    if not uids:
        return {}, []
    numbers = render_uid_set(uids)
    headers, summaries = await dialogue.run_in_a_row(
        (b"UID FETCH", (numbers, _fields_item(fields))), (b"UID FETCH", (numbers, SUMMARY))
    )
    if headers.status != b"OK" or summaries.status != b"OK":  # the long way knows what else to ask, and what is wrong
        return await fetch_headers(dialogue, uids, fields), await fetch_summaries(dialogue, numbers)
    texts: dict[int, bytes] = {}
    found: dict[int, Summary] = {}
    with dialogue.closing():
        for response in headers.untagged:  # both replies hold all
            if response.name == b"FETCH":
                _take_header(response, fields, texts)
                take_summary(response, found)
    return texts, [found[uid] for uid in sorted(found)]


def _fields_item(fields: Sequence[str]) -> bytes:
    return b"(UID BODY.PEEK[HEADER.FIELDS (%b)])" % b" ".join(quote(field.encode("ascii")) for field in fields)


def take_summary(response: Untagged, found: dict[int, Summary]) -> bool:
    summary = read_summary(read_fetch(response))
    if summary is not None:
        found[summary.uid] = summary
    return True


def _take_header(response: Untagged, fields: Sequence[str], found: dict[int, bytes]) -> bool:
    items = read_fetch(response)
    for key, value in items.items():
        if "UID" not in items or not key.startswith(("BODY[HEADER.FIELDS", "RFC822.HEADER")):
            continue
        text = value if isinstance(value, bytes) else b""
        found[read_number(items["UID"])] = select_fields(text, fields) if key == "RFC822.HEADER" else text
    return True


def _check(reply: Completed) -> None:
    if reply.status != b"OK":
        raise classify_failure(reply.status, reply.code, reply.text, what="UID FETCH")
