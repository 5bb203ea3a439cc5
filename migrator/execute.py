"""Programs of the old server that mail may be given to at CommuniGate, too: an allow-list, named one by one. Pure.

CommuniGate runs a program as its own user, not as the owner of the file that names it, and users wrote those files: so
nothing runs there that the administrator did not name, and no shell ever reads a user's words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from migrator.mail_rule import NO_PARAMETER, MailRule, Words

# words that mean the same to a shell and to whoever splits at spaces; `[` would begin one of CommuniGate's own prefixes
_PLAIN_WORD: Final = re.compile(r"[A-Za-z0-9_./:=@%+,-]+")
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_.+-]+)+")
FAILS: Final = "a program that fails makes CommuniGate send the message back; it runs as CommuniGate's user"


class NotAllowed(ValueError):
    """A command that is not made. `decide` says what a person can do."""

    def __init__(self, reason: str, decide: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.decide = decide


@dataclass(frozen=True, slots=True)
class Programs:
    """Which program of the old server is which at CommuniGate; both are absolute paths."""

    allowed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, options: Iterable[str]) -> Programs:
        """From `PROGRAM` or `PROGRAM=COMMAND`, as they are said on the command line. ValueError for anything else."""
        allowed: dict[str, str] = {}
        for option in options:
            old, equals, new = option.partition("=")
            new = new if equals else old
            if not _is_path(old) or not _is_path(new):
                raise ValueError(f"{option}: PROGRAM or PROGRAM=COMMAND is wanted, both whole paths without spaces")
            if allowed.setdefault(old, new) != new:
                raise ValueError(f"{old} stands there twice, for {allowed[old]} and for {new}")
        return cls(allowed)

    def command(self, text: str) -> str:
        """The command line for CommuniGate, with the words of the old one. NotAllowed where it is not made."""
        words = text.split()
        plain = [word for word in words if _PLAIN_WORD.fullmatch(word)]
        if not words or words != plain:
            raise NotAllowed(
                f"mail is given to a shell's command: {text}",
                "put it into a script, write the script's path there, and say --execute SCRIPT; or leave it out",
            )
        new = self.allowed.get(words[0])
        if new is None:
            raise NotAllowed(f"mail is given to a program: {text}", "")
        return " ".join([new, *words[1:]])


def execute(command: str, *, keep: bool) -> tuple[Words, ...]:
    """Actions that give a message to a program, on its standard input; `keep` leaves it in the account too."""
    run: tuple[Words, ...] = (("Execute", command),)
    return run if keep else (*run, ("Discard", NO_PARAMETER))


def execute_rule(command: str, *, keep: bool, number: int = 0) -> MailRule:
    """The rule for a program of a .forward file or an alias; before the redirection, which may end the rules."""
    return MailRule(3, f"Execute {number}" if number else "Execute", (), execute(command, keep=keep))


def how_to_allow(text: str, actions: Iterable[Words]) -> str:
    """What a person says to have it made, with the exact actions of the rule."""
    program = text.split(maxsplit=1)[0]
    shown = ", ".join(" ".join(words).removesuffix(f" {NO_PARAMETER}") for words in actions)
    if not _is_path(program):
        return f"write the program's whole path there, and say --execute PATH for the rule {shown}; or leave it out"
    return f"say --execute {program} (or {program}=PATH at CommuniGate) for the rule {shown}; or leave it out"


def _is_path(text: str) -> bool:
    return _PATH.fullmatch(text) is not None and ".." not in text.split("/")
