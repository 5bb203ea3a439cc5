"""`migrator delta`: the words for a person. The queueing is in ledger/deltas.py."""

from __future__ import annotations

from collections.abc import Callable

from migrator.ledger.deltas import Deltas
from migrator.model import Phase
from migrator.settings import Settings

_STUCK = {
    Phase.HELD: "its copy is held: see `migrator jobs`, then `migrator retry {account}`",
    Phase.WAITING: "the old server refuses the saved password: the next right login, or `migrator retry {account}`",
}


def opens_mailboxes(settings: Settings) -> Callable[[str], bool]:
    """Whether an administrator may open any mailbox of a domain at its old server."""

    def opens(domain_name: str) -> bool:
        domain = settings.domain(domain_name)
        return domain is not None and bool(domain.admin_login) and domain.admin_password is not None

    return opens


def lines_of(deltas: Deltas) -> list[str]:
    """A line for each account that gets no final pass, with what to do about it."""
    lines = [f"{account}: {_STUCK[phase].format(account=account)}" for account, phase in deltas.stuck]
    lines += [
        f"{account}: no password is kept for the old server: set admin_login in [domains.{domain!r}]"
        ' (state.keep_password = "retired" keeps passwords of copies that are still to come)'
        for account, domain in deltas.locked_out
    ]
    lines += [f"{account}: no copy was ever queued" for account in deltas.unknown]
    return lines
