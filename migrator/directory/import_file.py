"""The files that WebAdmin's Account Import takes, the LDIF of LDAP provisioning, and the list of forwards.

Tab-delimited, the first line naming the columns: Name, Password, UnixPassword (migration guide, "Converting
Passwords") and NewName (MoveAccounts) as the guide has them; RealName and MaxAccountSize are called as the account
settings are, Aliases is a list with commas. Each file has the passwords of one kind, so that no empty cell takes one
away. All are their owner's alone, and written whole: a run that ends badly leaves none.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final

from cli_client.commands import Encrypted
from migrator.directory.account import Forward, NewAccount, Passwords, settings_of
from migrator.directory.ldif import render_record
from migrator.directory.sifting import CLEAR, HASHED, Group, group_of
from migrator.whole_file import writing_whole

MOST_FILES: Final = 500  # open at once
_PASSWORD_COLUMN: Final = {HASHED: "UnixPassword", CLEAR: "Password"}


class ImportFiles:
    """The import files of one run, within a `with` of `stack`: at `path`, or below it where there are several."""

    def __init__(
        self, path: Path, groups: Iterable[Group], stack: ExitStack, *, new_name: bool, plan: Passwords
    ) -> None:
        self.paths = file_names(path, sorted(groups))
        self._new_name = new_name
        self._plan = plan
        self._files: dict[Group, BinaryIO] = {}
        for group, name in self.paths.items():
            file = stack.enter_context(writing_whole(name))
            file.write(("\t".join(self._columns(group)) + "\n").encode())
            self._files[group] = file

    def write(self, account: NewAccount) -> None:
        """One row."""
        group = group_of(account)
        values = {key: str(value) for key, value in settings_of(account, self._plan, {}).items() if key != "Password"}
        values["Name"] = account.name
        if self._new_name:
            values |= {"Name": account.old_name, "NewName": account.address}
        values["Aliases"] = ",".join(account.aliases)
        cells = [values.get(column, "").encode("utf-8") for column in self._columns(group)]
        if account.password is not None:
            at = self._columns(group).index(_PASSWORD_COLUMN[group[1]])
            secret = account.password.form if isinstance(account.password, Encrypted) else account.password
            cells[at] = secret.reveal()
        self._files[group].write(b"\t".join(cells) + b"\n")

    def _columns(self, group: Group) -> list[str]:
        columns = ["Name", *(["NewName"] if self._new_name else [])]
        if group[1] in _PASSWORD_COLUMN:
            columns.append(_PASSWORD_COLUMN[group[1]])
        elif self._plan in (Passwords.TAKEN, Passwords.FIRST_LOGIN):
            columns += ["UseAppPassword", "UseExtPassword"]
        if self._plan is Passwords.OS:
            columns.append("UseSysPassword")
        return [*columns, "RealName", "MaxAccountSize", "Aliases"]


def file_names(path: Path, groups: list[Group]) -> dict[Group, Path]:
    """Where each group goes: to `path` if it is the only one, else to a file in the directory `path`."""
    if len(groups) == 1 and not path.is_dir():
        return {groups[0]: path}
    return {(domain, kind): path / f"{domain}{'.' + kind if kind else ''}.txt" for domain, kind in groups}


def provisioning_record(account: NewAccount, base: str) -> bytes:
    """The account for LDAP provisioning: a hash is its unixPassword, clear text its userPassword.

    `base` is the dn below which the server keeps a domain's accounts, with `{domain}`.
    """
    attributes = [
        ("changetype", b"add"),
        ("objectClass", b"top"),
        ("objectClass", b"person"),
        ("objectClass", b"inetOrgPerson"),
        ("objectClass", b"CommuniGateAccount"),
        ("uid", account.name.encode()),
        ("cn", (account.real_name or account.name).encode()),
        ("sn", (account.real_name.rpartition(" ")[2] or account.name).encode()),
        ("mail", account.address.encode()),
    ]
    if isinstance(account.password, Encrypted):
        attributes.append(("unixPassword", account.password.form.reveal()))
    elif account.password is not None:
        attributes.append(("userPassword", account.password.reveal()))
    dn = f"uid={account.name},{base.replace('{domain}', account.domain)}"
    return render_record(dn.encode(), attributes)


def forward_line(forward: Forward) -> bytes:
    """As Postfix's virtual(5) has it, which the tools for aliases read."""
    return f"{forward.address}\t{', '.join(forward.targets)}\n".encode()
