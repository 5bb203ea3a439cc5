"""Aliases that lead to a program or a file: Execute rules, lines for the PIPE module, or a word to a person. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from migrator.alias_file import Kind, Target
from migrator.execute import FAILS, execute, execute_rule, how_to_allow
from migrator.mail_objects import Choice, Form, Item, Undecided
from migrator.mail_rule import redirect_rule

OWNER: Final = "owner-"
_LIST_PROGRAMS: Final = ("mailman", "majordomo", "wrapper", "resend", "listserv", "ecartis", "sympa", "smartlist")


def is_list_manager(target: Target) -> bool:
    """Whether it is a mailing list of another program, which becomes one of the LIST module."""
    words = target.text.lower()
    return target.kind is Kind.COMMAND and any(program in words for program in _LIST_PROGRAMS)


def no_object(target: Target, name: str) -> tuple[str, str]:
    """Why nothing is made of a file, or a list manager's program, and what to do."""
    if target.kind is Kind.FILE:
        return (
            f"mail is written to the file {target.text}",
            "make an account for it (its mailbox can be shared), or a Router line to NULL for /dev/null",
        )
    name = name.removesuffix("-request").removeprefix(OWNER)
    return (
        f"mail is given to a list manager: {target.text}",
        f"export the subscribers and say --list {name}=FILE; leave the list's helper aliases out",
    )


def way_to_allow(text: str, address: str, *, keep: bool | None) -> str:
    """What a person says to have a program run, with the rule or Router line. `keep` is None without an account."""
    if keep is None:
        return how_to_allow(text, [(_pipe_line(address, text),)])
    return how_to_allow(text, execute(" ".join(text.split()), keep=keep))


def execute_choice(item: Item, commands: Sequence[str], others: Sequence[str], *, keep: bool) -> Choice:
    """An account whose mail programs get: Execute rules, and the redirection behind them."""
    rules = [
        execute_rule(
            command,
            keep=keep or bool(others) or number < len(commands),
            number=number if len(commands) > 1 else 0,
        )
        for number, command in enumerate(commands, 1)
    ]
    if others:
        rules.append(redirect_rule(others, keep=keep))
    why = f"a program gets the account's mail; {FAILS}"
    return Choice(Form.RULE, item.address, (*commands, *others), why, item, rules=tuple(rules))


def pipe_choice(item: Item, commands: Sequence[str], *, alone: bool) -> Choice | Undecided:
    """A name that only leads to a program: the PIPE module, since without an account there is no rule."""
    program = commands[0].split()[0]
    if not alone or len(commands) > 1 or "/." in program:
        return Undecided(
            item,
            f"it leads to {program} and to more, and a Router line has one target",
            f"create the account {item.address} and run this again: it gets an Execute rule",
        )
    why = f"no account has the name: the PIPE module, with {program} in its Application Directory; {FAILS}"
    return Choice(Form.ROUTER, item.address, (_pipe_line(item.address, commands[0]),), why, item)


def _pipe_line(address: str, command: str) -> str:
    """The Router line; the PIPE module knows a program by its file's name alone, in the directory of its settings."""
    program, *words = command.split()
    return f'<{address}> = "{" ".join([program.rpartition("/")[2], *words])}"@pipe'
