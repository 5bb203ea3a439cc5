"""A message on its way to the target, and the place it goes to. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from migrator.content import ContentDigest, message_id
from migrator.dates import moment
from migrator.flags import FlagRules
from migrator.intents import Description
from wire.imap.append import Letter


@dataclass(frozen=True, slots=True)
class Place:
    """Where the messages go, and under which rules."""

    name: bytes  # of the target mailbox, as on the wire
    uidvalidity: int
    rules: FlagRules
    others: frozenset[int]  # target uids that came from other source mailboxes into this one


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message in memory, ready to go."""

    uid: int
    letter: Letter
    odd: frozenset[str]  # what a strict target may dislike in it

    def describe(self) -> Description:
        """As it is sent."""
        digest = ContentDigest()
        digest.feed(self.letter.content)
        size, when = len(self.letter.content), moment(self.letter.internal_date)
        return Description(self.uid, when, size, digest.digest(), message_id(digest.header))


def octets_of(messages: Sequence[Outgoing]) -> int:
    """Bytes of content."""
    return sum(len(message.letter.content) for message in messages)
