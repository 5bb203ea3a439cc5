"""Mailbox files as a real Dovecot wrote them: what we read of them is what it shows by IMAP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from migrator.dates import moment
from migrator.file_source import FileClient
from migrator.file_uids import UidRecord
from migrator.mail_files import parse_place
from tests.servers.corpus import read_corpus
from tests.servers.dovecot import Dovecot
from tests.servers.raw_imap import RawImap, Stored, internal_date, quoted
from wire.imap.names import encode_mailbox

FLAGS = [{b"\\Seen"}, set(), {b"\\Answered", b"$Forwarded"}, {b"\\Flagged", b"Urlaub2009"}, {b"\\Draft", b"\\Deleted"}]
NAMES = ["INBOX", "Sent", "日本語", "Entwürfe & R&D"]


@pytest.fixture(scope="module", params=["maildir", "mbox"])
def filled(request: pytest.FixtureRequest) -> Iterator[tuple[str, dict[bytes, list[Stored]]]]:
    """A place as MoveIMAPMail takes it, and what its server shows of each mailbox."""
    kind: str = request.param
    with Dovecot({"user": b"secret"}, storage=kind, separator="/" if kind == "mbox" else ".") as server:
        shown: dict[bytes, list[Stored]] = {}
        with RawImap(server.host, server.imap_port, "user", b"secret") as raw:
            for text in NAMES:
                name = encode_mailbox(text)
                if text != "INBOX":
                    raw.create(name)
                _fill(raw, name, odd=text == "INBOX")
            raw.command(b"SUBSCRIBE Sent")
            for name in map(encode_mailbox, NAMES):
                raw.command(b"SELECT " + quoted(name))
                raw.command(b"CHECK")
                shown[name] = raw.messages(name)
        home = server.home("user")
        yield (f"maildir:{home}/Maildir" if kind == "maildir" else f"mbox:{home}/mail:INBOX={home}/inbox"), shown


def _fill(raw: RawImap, name: bytes, *, odd: bool) -> None:
    contents = [message.content for message in read_corpus()] if odd else [b"Subject: plain\r\n\r\nbody\r\n"] * 3
    contents += [
        b"Subject: quoting\r\n\r\nfirst\r\n\r\nFrom me to you Mon Jan  1 10:00:00 2004\r\n>From here\r\n\r\n\r\n"
    ]
    for number, content in enumerate(contents):
        date = internal_date(datetime(2004, 2, 29, 23, 59, 59, tzinfo=UTC) + timedelta(hours=number * 731))
        raw.try_append(name, Stored(0, frozenset(FLAGS[number % len(FLAGS)]), date, content))


async def test_everything_as_the_server_shows_it(filled: tuple[str, dict[bytes, list[Stored]]], tmp_path: Path) -> None:
    """Names, number, order, content, flags, keywords, dates, subscriptions."""
    text, shown = filled
    place = parse_place(text)
    assert place is not None
    client = FileClient(place, UidRecord(tmp_path, text))
    survey = await client.survey(subscribed=True)
    assert {listed.name for listed in survey.listed} == set(shown)
    assert [listed.name for listed in survey.subscribed or ()] == [b"Sent"]
    for name, expected in shown.items():
        opened, uids = await client.open_with_uids(name)
        assert opened.exists == len(uids) == len(expected)
        summaries = {summary.uid: summary for summary in await client.fetch_summaries()}
        for uid, stored in zip(uids, expected, strict=True):
            content = b"".join(client.content(uid))
            assert content == stored.content, (name, uid)
            assert set(summaries[uid].flags) == stored.flags - {b"\\Recent"}
            assert moment(summaries[uid].internal_date) == moment(stored.internal_date)
            assert summaries[uid].size == len(content)
