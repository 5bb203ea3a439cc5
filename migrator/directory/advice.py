"""What is to be set at CommuniGate beside the accounts, with the command or page it takes (migration guide). Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from migrator.directory.account import Passwords
from migrator.directory.sifting import HASHED, Group

_SHOWN: Final = 3  # domains by name


def advice(groups: Collection[Group], plan: Passwords, *, external: bool, makes: bool) -> list[str]:
    """A line for each setting that the accounts need. `makes` says that the CLI makes them now, not an import."""
    return list(_lines(groups, plan, external=external, makes=makes))


def _lines(groups: Collection[Group], plan: Passwords, *, external: bool, makes: bool) -> Iterator[str]:
    names = sorted({domain for domain, _ in groups})
    domains = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    if not names:
        return
    if plan is Passwords.OS:
        yield (
            "Use OS Password: each account has it (UseSysPassword); those to come by the Account Template of"
            f" {domains}: cgcli 'UpdateAccountTemplate {names[0]} {{UseSysPassword = YES; Password = \"\";}}';"
            " OS UserName `*` in the Default Account Settings (WebAdmin)"
        )
    if any(kind == HASHED for _, kind in groups) and plan is not Passwords.OS:
        yield (
            f"UnixPassword: the Password Encryption of {domains} must be `clear` or `A-crpt` (WebAdmin, Default Account"
            " Settings), so that a password that a user changes is stored in a way that secure logins can use"
        )
    if external:
        if not makes:
            yield (
                "External INBOX: no column of an import file says it. Tick it in WebAdmin's Account Import, or let"
                " --apply --external-inbox --type TextMailbox make the accounts:"
                f" CreateAccount name@{names[0]} TextMailbox external {{...}}"
            )
        yield f"External INBOX: WebAdmin, Domain Settings of {domains}: where they lie, usually /var/mail/*"
