"""An account mail rule of CommuniGate: what the plan makes and the CLI takes. Pure.

A rule is `(priority, name, conditions, actions)`; a condition is `(datum, operation, parameter)`, an action `(action,
parameter)`, with `---` where there is no parameter. Rules are tried from priority 9 down to 1; 0 is switched off. After
its rules a message is stored in INBOX, unless Discard ended them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cli_client.format import Value

HIGHEST: Final = 9
NO_PARAMETER: Final = "---"

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MailRule:
    """One rule."""

    priority: int
    name: str
    conditions: tuple[Words, ...] = ()
    actions: tuple[Words, ...] = ()

    def as_value(self) -> list[Value]:
        """The rule as the CLI takes it."""
        conditions: list[Value] = [[*words] for words in self.conditions]
        actions: list[Value] = [[*words] for words in self.actions]
        return [str(self.priority), self.name, conditions, actions]


def same_rule(one: Value, other: Value) -> bool:
    """Whether two rules say the same; a number may be written as one or as a string."""
    return _plain(one) == _plain(other)


def rule_name(rule: Value) -> str:
    """The name of a rule as the CLI gives it; "" where it has none."""
    return str(rule[1]) if isinstance(rule, list) and len(rule) > 1 else ""


def _plain(value: Value) -> object:
    return [_plain(item) for item in value] if isinstance(value, list) else str(value)


def redirect(addresses: Iterable[str], *, keep: bool) -> tuple[Words, ...]:
    """Actions that send a message on with its sender as it is; `keep` leaves it in the account too."""
    send: tuple[Words, ...] = (("Mirror to", ",".join(addresses)),)
    return send if keep else (*send, ("Discard", NO_PARAMETER))


def redirect_rule(addresses: Sequence[str], *, keep: bool) -> MailRule:
    """The rule that the WebUser interface shows as the account's redirection."""
    return MailRule(1, "#Redirect", (), redirect(addresses, keep=keep))


def vacation_rule(text: str) -> MailRule:
    """The rule that the WebUser interface shows as the vacation message: one reply to each sender."""
    return MailRule(
        2,
        "#Vacation",
        (("Human Generated", NO_PARAMETER), ("From", "not in", "#RepliedAddresses")),
        (("Reply with", text), ("Remember 'From' in", "RepliedAddresses")),
    )
