"""Finding out, over two connections, what became of messages that a broken-off run may have stored.

The rules of what counts as the same message are in intents.py; here both sides are asked.
Nothing is ever changed on either side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from migrator.content import ContentDigest, digest_header, message_id
from migrator.dates import moment
from migrator.intents import Description, match_messages, plausible
from migrator.ladder import transformer_of
from migrator.marks import UNKNOWN, Change, MailboxMarks, Runs
from migrator.report import MailboxReport
from migrator.session import Session, Surroundings
from migrator.side_by_side import side_by_side
from migrator.transformer import Transformer
from wire.imap.client import ImapClient
from wire.imap.encoder import render_uid_sets
from wire.imap.results import Summary
from wire.outcome import Permanent, Temporary, Throttled, Trouble

_FRESH: Final = 600.0  # seconds: an intent older than this is of a server that has long finished what it was sent
_QUIET: Final = 2.0  # seconds without a new message before a server counts as finished with a lost connection
_POLL: Final = 0.5
_PATIENCE: Final = 60.0  # and it is not waited for longer, as others may be delivering all the time
_CHUNK: Final = 2000  # messages asked about in one command, a megabyte of headers
_BROKEN: Final = 20  # messages of a mailbox that a server cannot even list, before it is the server's own trouble
_FETCH_GROUP: Final = 50  # messages in one FETCH command
_FETCH_WINDOW: Final = 4  # FETCH commands under way
_WHOLE: Final = 1 << 20  # bytes of a message that is not read piece by piece
_HEADER_FIELDS: Final = ("Date", "From", "To", "Cc", "Subject", "Message-ID", "Received")


@dataclass(slots=True)
class Resolved:
    """What was seen when the intents of a mailbox were settled; to notice later what came after that look."""

    floor: int = 0
    seen: frozenset[int] = frozenset()  # target uids at or above the floor
    again: dict[int, Description] = field(default_factory=dict)  # source messages that are copied once more


async def resolve_intents(
    session: Session, marks: MailboxMarks, present: set[int], others: frozenset[int], report: MailboxReport
) -> Resolved | None:
    """Settle every open intent of a mailbox that is open on both sides; one commit. None if there was none.

    `present` are the source's uids, `others` target uids that belong to another source mailbox. Afterwards each
    intended message is either marked as copied or to be copied again.
    """
    if not marks.intents:
        return None
    floor = min(intent.floor for intent in marks.intents.values())
    await _wait_for_late_server(session, marks, floor)
    around = session.around
    above = await uids_from(session.target, floor)
    around.checkpoint("target: looked for arrivals")
    taken = {target for _, target in marks.runs} | others
    candidates = [uid for uid in above if uid not in taken]
    intended = [uid for uid in marks.intents if uid in present]
    forms = {uid: marks.intents[uid].form for uid in intended}
    sources = await _describe_intended(session, marks.source, forms)
    targets = await plausible_ones(session.target, candidates, sources)
    found = match_messages(sources, targets)
    for uid, target in list(found.items()):
        if target < marks.intents[uid].floor:
            del found[uid]  # it was there before this message was sent
    lost = [uid for uid in marks.intents if uid not in found]
    found.update((uid, UNKNOWN) for uid in lost if marks.intents[uid].confirmed)  # stored for certain
    dropped = [uid for uid in lost if uid not in found]
    again = {message.uid: message for message in sources if message.uid not in found}
    if blind := sum(1 for message in again.values() if not message.digest):
        report.note(
            f"{blind} messages were being copied when an earlier run broke off, and the source would not show them to"
            " be compared: they are copied again, and may be there twice"
        )
    if again and await _something_is_missing(session, marks, floor, above):
        report.note(
            f"{len(again)} messages were being copied when an earlier run broke off, and messages have since"
            " been removed from the target mailbox: they are copied again, and may be there twice"
        )
    await session.record(marks, Change(copied=sorted(found.items()), dropped=dropped))
    return Resolved(floor, frozenset(above), again)


async def count_late_arrivals(session: Session, marks: MailboxMarks, resolved: Resolved, others: frozenset[int]) -> int:
    """How many messages that were copied again have turned up after all, from a server that finished very late."""
    if not resolved.again:
        return 0
    taken = {target for _, target in marks.runs} | others | resolved.seen
    late = [uid for uid in await uids_from(session.target, resolved.floor) if uid not in taken]
    sources = list(resolved.again.values())
    return len(match_messages(sources, await plausible_ones(session.target, late, sources)))


async def rematch(
    session: Session, old: MailboxMarks, source_uidvalidity: int, uids: Sequence[int], others: frozenset[int]
) -> MailboxMarks:
    """Marks for a source that has given all its messages new uids: what we appended is found again, by date and header.

    Only the target's messages that the old marks know of, and those that an open intent may have left, can match.
    The new marks take the place of the old ones in one commit.
    """
    there = set(await session.target.uid_search(b"ALL"))
    known = {target for _, target in old.runs if target in there}
    if old.intents:
        floor = min(intent.floor for intent in old.intents.values())
        await _wait_for_late_server(session, old, floor)
        known |= {uid for uid in await uids_from(session.target, floor) if uid not in others}
    session.touch()
    sources, targets = await side_by_side(
        _describe_headers(session.source, uids), _describe_headers(session.target, sorted(known))
    )
    runs = Runs()
    runs.add_all(sorted(match_messages(sources, targets, headers_only=True).items()))
    fresh = MailboxMarks(old.source, old.target, source_uidvalidity, old.target_uidvalidity, runs)
    session.around.checkpoint("journal: before new marks")
    await session.marks.open(fresh)
    session.around.checkpoint("journal: after new marks")
    return fresh


async def locate(
    target: ImapClient,
    sent: Sequence[int],
    floor: int,
    taken: frozenset[int],
    describe: Callable[[], Sequence[Description]],
) -> tuple[dict[int, int], int]:
    """Where a server without UIDPLUS has put the messages it confirmed, in the order they were sent.

    Returns (source uid -> target uid for those that were found, the highest uid seen). When nobody else delivered
    meanwhile, the order tells; otherwise the contents do.
    """
    arrived = [uid for uid in await uids_from(target, floor) if uid not in taken]
    if len(arrived) == len(sent):
        return dict(zip(sent, arrived, strict=True)), max(arrived, default=floor - 1)
    return await locate_among(target, describe(), floor, taken)


async def locate_among(
    target: ImapClient, sources: Sequence[Description], floor: int, taken: frozenset[int]
) -> tuple[dict[int, int], int]:
    """The same for messages that are described already, by their contents."""
    arrived = [uid for uid in await uids_from(target, floor) if uid not in taken]
    found = match_messages(sources, await plausible_ones(target, arrived, sources))
    return found, max(arrived, default=floor - 1)


async def uids_from(client: ImapClient, floor: int) -> list[int]:
    """The uids at or above `floor` in the open mailbox, after asking for news."""
    found = await client.fresh_uid_search(b"UID %d:*" % max(floor, 1))
    return [
        uid for uid in found if uid >= floor
    ]  # n:* names the last message even where it is below n (RFC 3501 6.4.8)


async def summaries_of(client: ImapClient, uids: Iterable[int]) -> dict[int, Summary]:
    """Flags, date and size by uid; a message that has vanished is missing."""
    wanted = sorted(uids)
    found = [summary for piece in render_uid_sets(wanted) for summary in await client.fetch_summaries(piece)]
    asked = set(wanted)
    return {summary.uid: summary for summary in found if summary.uid in asked}


async def summaries_given(client: ImapClient, uids: Sequence[int]) -> dict[int, Summary]:
    """The same from a server that says NO where one message is broken: all that it does give, found by halves.

    More than a few that are refused one by one, or all, are not about messages: then what the server said is raised.
    """
    found: dict[int, Summary] = {}
    waiting, refused = [sorted(uids)], 0
    said: Trouble | None = None
    while waiting:
        part = waiting.pop()
        try:
            found |= await summaries_of(client, part)
        except (Permanent, Temporary) as trouble:
            if isinstance(trouble, Throttled) or (isinstance(trouble, Temporary) and not trouble.code):
                raise
            if len(part) > 1:
                middle = len(part) // 2
                waiting += (part[middle:], part[:middle])
                continue
            said, refused = trouble, refused + 1
            if refused > _BROKEN:
                raise
    if said is not None and not found:
        raise said
    return found


async def _wait_for_late_server(session: Session, marks: MailboxMarks, floor: int) -> None:
    newest = max(intent.recorded_at for intent in marks.intents.values())
    await wait_for_late_server(session.target, session.around, floor, newest)


async def wait_for_late_server(target: ImapClient, around: Surroundings, floor: int, newest: float) -> None:
    """A server may still be storing what a lost connection had sent. Wait until nothing new has come for a while.

    `newest` is when the last intent was recorded: after some minutes every server is through.
    """
    if around.now() - newest > _FRESH:
        return
    before = await uids_from(target, floor)
    waited = quiet = 0.0
    while quiet < _QUIET and waited < _PATIENCE:
        await around.sleep(_POLL)
        waited += _POLL
        after = await uids_from(target, floor)
        quiet = quiet + _POLL if after == before else 0.0
        before = after


async def _something_is_missing(session: Session, marks: MailboxMarks, floor: int, above: Sequence[int]) -> bool:
    """Whether uids at or above the floor were given out that no message has any more."""
    selected = await session.target.select(session.target_access.prefix + marks.target)
    return selected.uidnext - floor > len(above)


async def _describe_intended(session: Session, mailbox: bytes, forms: Mapping[int, str]) -> list[Description]:
    """The source's messages, in the forms in which they were sent to the target.

    Of those within which the source broke off here twice before, only what it says of them: a message that ends each
    connection must not keep the others from being settled.
    """
    lessons, options = session.lessons, session.options
    # once may have been chance, and without the content little is certain
    suspect = [uid for uid in forms if lessons.ungiven[mailbox, uid] > 1]
    wanted = [uid for uid in forms if lessons.ungiven[mailbox, uid] <= 1]
    summaries = await summaries_of(session.source, suspect)
    outlined = [Description(uid, moment(found.internal_date), found.size) for uid, found in summaries.items()]
    fetched: list[Description] = []

    def changed(uid: int) -> Transformer | None:
        return transformer_of(options.longest_line, forms[uid])

    try:
        group = 1 if options.one_by_one else _FETCH_GROUP
        await _describe(session.source, wanted, options.fetch_item, fetched, changed=changed, group=group)
    except Temporary as trouble:
        done = {message.uid for message in fetched}
        due = next((uid for uid in wanted if uid not in done), None)
        if due is not None and not trouble.code:
            lessons.breaks[mailbox, due] += 1
            lessons.ungiven[mailbox, due] += 1
        raise
    return outlined + fetched


async def _describe(
    client: ImapClient,
    uids: Sequence[int],
    item: bytes,
    described: list[Description] | None = None,
    *,
    changed: Callable[[int], Transformer | None] = lambda _uid: None,
    group: int = _FETCH_GROUP,
) -> list[Description]:
    """Each message with the digest of its content; nothing is kept of the content itself.

    They are put into `described` one by one, so that a caller sees how far it came. What `changed` gives for a message
    is applied to it first: the digest is of what the target has.
    """
    described = [] if described is None else described
    summaries = await summaries_of(client, uids)
    fetcher = client.fetcher(
        [uid for uid in uids if uid in summaries], item=item, window=_FETCH_WINDOW, group=group, whole=_WHOLE
    )
    async for body in fetcher.bodies():
        digest, transformer = ContentDigest(), changed(body.uid)
        async for chunk in body.chunks:
            digest.feed(transformer.feed(chunk) if transformer else chunk)
        if body.size is None:
            continue
        if transformer:
            digest.feed(transformer.finish())
        summary = summaries[body.uid]
        size = digest.size if transformer else summary.size
        described.append(
            Description(body.uid, moment(summary.internal_date), size, digest.digest(), message_id(digest.header))
        )
    return described


async def plausible_ones(
    client: ImapClient, candidates: Sequence[int], sources: Sequence[Description]
) -> list[Description]:
    """The candidates that may be one of `sources`, described. Mail that merely came later is not fetched."""
    if not sources:
        return []
    summaries = await summaries_of(client, candidates)
    outlines = [Description(uid, moment(found.internal_date), found.size) for uid, found in summaries.items()]
    wanted = [one.uid for one in outlines if any(plausible(source, one) for source in sources)]
    return await _describe(client, sorted(wanted), b"BODY.PEEK[]")


async def _describe_headers(client: ImapClient, uids: Sequence[int]) -> list[Description]:
    """Each message with a digest of the header fields that tell messages apart."""
    described = []
    for start in range(0, len(uids), _CHUNK):
        chunk = uids[start : start + _CHUNK]
        summaries = await summaries_of(client, chunk)
        headers = await client.fetch_headers(chunk, _HEADER_FIELDS)
        for uid in chunk:
            if uid in summaries:
                header = headers.get(uid, b"")
                digest = digest_header(header) if header.strip() else b""
                described.append(
                    Description(
                        uid, moment(summaries[uid].internal_date), summaries[uid].size, digest, message_id(header)
                    )
                )
    return described
