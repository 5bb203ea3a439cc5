"""Commands that the target has not answered yet, in the order they were sent, and how much they hold. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from migrator.outgoing import Outgoing, octets_of

MOST_MESSAGES: Final = 800  # in doubt after a crash, and then fetched again from both sides
MOST_OCTETS: Final = 8 << 20  # the same; hides a round trip of 100 ms at 80 MB/s


@dataclass(frozen=True, slots=True)
class Command:
    """One APPEND under way."""

    messages: Sequence[Outgoing]
    octets: int


class InFlight:
    """A queue of commands with its sums: it may hold 800 of them, and is asked about room for each."""

    def __init__(self) -> None:
        self._commands: deque[Command] = deque()
        self._messages = 0
        self.octets = 0

    def __len__(self) -> int:
        return len(self._commands)

    def has_room(self, messages: Sequence[Outgoing]) -> bool:
        """Whether these may be under way, too; always when nothing else is."""
        if not self._commands:
            return True
        fits = self.octets + octets_of(messages) <= MOST_OCTETS
        return fits and self._messages + len(messages) <= MOST_MESSAGES

    def add(self, messages: Sequence[Outgoing]) -> None:
        """These go out now, in one command."""
        command = Command(messages, octets_of(messages))
        self._commands.append(command)
        self._messages += len(messages)
        self.octets += command.octets

    def take(self) -> Command:
        """The oldest, which is answered."""
        command = self._commands.popleft()
        self._messages -= len(command.messages)
        self.octets -= command.octets
        return command

    @property
    def uids(self) -> list[int]:
        """Source uids of all messages under way."""
        return [message.uid for command in self._commands for message in command.messages]
