"""Users' .forward, .procmailrc and vacation files read and planned: the work of `migrator rules`."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from migrator.alias_file import numbered_lines
from migrator.alias_work import InputTrouble, Known
from migrator.execute import Programs
from migrator.forward_rules import Home, convert_home
from migrator.mail_objects import Choice, Form, Item, Undecided, is_object_name

FILE_LIMIT: Final = 1 << 20  # bytes of one of a user's files
_NAMES: Final = (".forward", ".procmailrc", ".vacation.msg")


class NoPlainFile(OSError):
    """A user's file that is a link, a pipe or too large: whoever reads it for the user would be misled."""


class RuleWork:
    """One run over all home directories."""

    def __init__(
        self,
        homes: Path,
        *,
        domain: str,
        local: tuple[str, ...],
        procmail: bool,
        users: Path | None,
        programs: Programs,
    ) -> None:
        self._homes = homes
        self._domain = domain.lower()
        self._local = frozenset(name.lower() for name in local)
        self._procmail = procmail
        self._only = users
        self._programs = programs
        self._users: list[str] = []
        self._strangers: list[str] = []  # named by --users, and without a directory
        self._doubled: frozenset[str] = frozenset()  # names of several directories that differ in case
        self._site_domain = ""

    def read(self, known: Known) -> set[str]:
        """Find the users that have such a file; the domain they belong to. InputTrouble without one."""
        domain = self._site_domain = self._domain or known.main_domain.lower()
        if not domain:
            raise InputTrouble("name the domain: --domain, or main_domain in [communigate]")
        if known.asked and domain not in known.domains:
            raise InputTrouble(f"CommuniGate has no domain {domain}: create it, or say another --domain")
        only = _names(self._only) if self._only is not None else None
        with os.scandir(self._homes) as entries:
            found = {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}
        self._users = sorted(found if only is None else found & only)
        self._strangers = sorted(set() if only is None else only - found)
        return {domain}

    def plan(self, known: Known) -> tuple[list[Choice], list[Undecided]]:
        """The rules of each user, or what a person must decide."""
        choices: list[Choice] = []
        undecided: list[Undecided] = []
        spelled = Counter(user.lower() for user in self._users)
        self._doubled = frozenset(name for name, count in spelled.items() if count > 1)
        for user in self._strangers:
            item = Item(str(self._only), 0, user, "", (), text=user)
            undecided.append(Undecided(item, f"{self._homes} has no directory of that name", "correct the name"))
        for user in self._users:
            for outcome in self._plan_user(user, known):
                if isinstance(outcome, Choice):
                    choices.append(outcome)
                else:
                    undecided.append(outcome)
        return choices, undecided

    def _plan_user(self, user: str, known: Known) -> Iterator[Choice | Undecided]:
        directory = self._homes / user
        address = f"{user.lower()}@{self._site_domain}"
        name = user.lower() if is_object_name(user.lower()) else ""
        item = Item(str(directory / ".forward"), 0, name, self._site_domain, (), text=user)
        try:
            forward, procmailrc, vacation = [_read(directory / name) for name in _NAMES]
        except OSError as error:
            yield Undecided(item, f"{error.filename}: {error.strerror}", "look at the file by hand")
            return
        if forward is None and procmailrc is None:
            return
        own = {user.lower(), address, *(f"{user.lower()}@{domain}" for domain in self._local)}
        home = Home(
            user, forward, procmailrc, vacation, lambda text: text.lower() in own, self._site_domain, self._procmail,
            self._programs,
        )  # fmt: skip
        found = convert_home(home)
        if not name:
            yield Undecided(item, f"{user!r} is a name that no account can have", "set its rules by hand")
        elif name in self._doubled:
            reason = f"several directories here are called {name} but for capital letters; an account is one"
            yield Undecided(item, reason, "name one of them by --users")
        elif known.asked and address not in known.accounts:
            yield Undecided(item, f"there is no account {address}", "create it, and run this again")
        elif known.is_protected(address):
            yield Undecided(item, f"{address} is a protected account: no rule is put into it", "set it by hand")
        elif found.problems:
            for problem in found.problems:
                source = ".procmailrc" if problem.reason.startswith((".procmailrc", "there is a .proc")) else ".forward"
                where = Item(str(directory / source), problem.line, name, self._site_domain, (), text=user)
                yield Undecided(where, problem.reason, problem.decide)
        elif not found.rules:
            yield Choice(Form.NOTHING, address, (), "its mail is kept in INBOX", item)
        else:
            why = "; ".join(dict.fromkeys(["each recipe or address has its rule", *found.notes]))
            values = tuple(
                f"{rule.name}: {', '.join(' '.join(words) for words in rule.actions)}" for rule in found.rules
            )
            mailboxes = tuple(found.mailboxes)
            yield Choice(Form.RULE, address, values, why, item, rules=tuple(found.rules), mailboxes=mailboxes)


def _names(path: Path) -> set[str]:
    """The names of a file, one a line; comments are left out."""
    lines = [os.fsdecode(line.strip()) for _, line in numbered_lines(path.read_bytes())]
    return {line for line in lines if line and not line.startswith("#")}


def _read(path: Path) -> bytes | None:
    """A user's file; None where there is none. A link or a pipe is never opened for reading."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NoPlainFile(0, "it is a link", str(path)) from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NoPlainFile(0, "it is no plain file", str(path))
    except BaseException:
        os.close(descriptor)
        raise
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(FILE_LIMIT + 1)
    if len(data) > FILE_LIMIT:
        raise NoPlainFile(0, f"it is larger than {FILE_LIMIT} bytes", str(path))
    return data
