"""`migrator hashes`: what a file of password hashes holds, and whether a password fits one. Never shows a hash."""

from __future__ import annotations

import codecs
import getpass
import json
import stat
import sys
from pathlib import Path
from typing import Final, NoReturn

import click

from migrator.command_line import PATH, fail
from migrator.exit_codes import BAD_DATA, CANNOT_WRITE, DONE, LOGIN_REFUSED, NEEDS_A_PERSON, TRY_LATER
from migrator.hash_file import read_hash_file
from migrator.hash_survey import Survey, survey
from migrator.hash_table import HashTable, addresses_of, read_entry
from migrator.password_check import Unverifiable, verify
from migrator.passwords import Scheme, Use
from migrator.whole_file import write_whole
from wire.outcome import Temporary, Trouble
from wire.secret import Secret

_SHOWN: Final = 50  # lines with a problem; --json has them all
_WHAT_TO_DO: Final = {
    Use.AS_IT_IS: "CommuniGate takes it: UnixPassword in an import file, \\002 before it in the CLI",
    Use.PASSWORD: "a password, no hash: the Password column",
    Use.FIRST_LOGIN: 'verify = "hashes" checks it and sets the password',
    Use.NEW_PASSWORD: "nobody can check it: a new password",
}


@click.command("hashes")
@click.argument("file", type=PATH)
@click.option("--domain", default="", help="The domain of names that come without one.")
@click.option("--verify", "address", metavar="ADDRESS", help="Ask for a password, and say whether it is this one's.")
@click.option("--addresses", is_flag=True, help="Print who has an account, one a line: a roster.")
@click.option("--bad", type=PATH, help="Write the lines that need a person (0600), to feed back.")
@click.option("--dry-run", is_flag=True, help="Write no file: --bad is only counted.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def hashes(  # noqa: PLR0917 - click hands them over by name
    file: Path, domain: str, address: str | None, addresses: bool, bad: Path | None, dry_run: bool, as_json: bool
) -> None:
    """Say what FILE holds: ADDRESS<TAB>HASH or ADDRESS:HASH, or lines of passwd, shadow, master.passwd.

    For each kind of hash: whether CommuniGate takes it as it is, or the first login must check it. No hash is printed.
    The exit code is 1 where lines need a person.
    """
    if bad is not None and (address is not None or addresses):
        raise click.UsageError("--bad belongs to the whole file: leave --verify and --addresses out")
    if bad is not None and bad.resolve() == file.resolve():
        raise click.UsageError(f"{bad} is the file that is read")
    try:
        content, _stamp = read_hash_file(file, private=False)
    except Trouble as trouble:
        fail(TRY_LATER if isinstance(trouble, Temporary) else BAD_DATA, str(trouble))
    table = HashTable(content, domain=domain.lower())
    if address is not None:
        _verify(file, table, address.lower(), domain.lower(), as_json=as_json)
    if addresses:
        for name in addresses_of(table):
            click.echo(name)
        return
    found = survey(table)
    if bad is not None and not dry_run:
        _write_bad(bad, content, found)
    if as_json:
        click.echo(json.dumps({"file": str(file), **found.as_json(), "unsupported": _unsupported(found)}))
    else:
        _tell(file, found)
    sys.exit(NEEDS_A_PERSON if found.findings or not found.accounts else DONE)


def _tell(file: Path, found: Survey) -> None:
    click.echo(f"{file}: {found.accounts} names")
    for use in Use:
        kinds = found.schemes.get(use.value)
        if kinds:
            click.echo(f"  {use.value}: {kinds.total()}  ({_WHAT_TO_DO[use]})")
            for kind, count in kinds.most_common():
                click.echo(f"    {kind:<15} {count}")
    for scheme, reason in _unsupported(found).items():
        click.echo(f"  on this machine {scheme} cannot be checked: {reason}")
    for finding in found.findings[:_SHOWN]:
        who = f" {finding.name}:" if finding.name else ""
        click.echo(f"{file}:{finding.line}:{who} {finding.problem}")
    if len(found.findings) > _SHOWN:
        click.echo(f"and {len(found.findings) - _SHOWN} more lines (--json has them all)")
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        click.echo(f"{file} has mode {mode:04o}; as the `hashes` of a domain it must be 0600")


def _write_bad(path: Path, content: bytes, found: Survey) -> None:
    """The lines as they stand, each under its reason; they hold hashes, so the file is its owner's alone."""
    lines = content.removeprefix(codecs.BOM_UTF8).split(b"\n")
    told = [
        b"# line %d: %s\n%s\n"
        % (finding.line, finding.problem.encode(errors="replace"), lines[finding.line - 1].rstrip(b"\r"))
        for finding in found.findings
    ]
    try:
        write_whole(path, b"".join(told))
    except OSError as error:
        fail(CANNOT_WRITE, f"cannot write {path}: {error.strerror}")


def _unsupported(found: Survey) -> dict[str, str]:
    """Kinds that this machine's libraries do not know: tried with one hash of each."""
    troubles = {}
    for scheme, stored in found.samples.items():
        try:
            verify(stored, Secret(b"a password that nobody has"))
        except Unverifiable as trouble:
            troubles[scheme.value] = str(trouble)
    return troubles


def _verify(file: Path, table: HashTable, address: str, domain: str, *, as_json: bool) -> NoReturn:
    line = table.find(address, f"{address}@{domain}" if domain and "@" not in address else address)
    if line is None:
        fail(NEEDS_A_PERSON, f"{address} is not in {file}")
    stored = read_entry(line)
    right: bool | None = None
    reason = ""
    try:
        right = verify(stored, _read_password(address))
    except Unverifiable as trouble:
        reason = str(trouble)
    if as_json:
        told = {"address": address, "line": line.number, "scheme": stored.scheme.value, "use": stored.use.value}
        click.echo(json.dumps({**told, "right": right, "reason": reason}))
    else:
        kind = "" if stored.scheme is Scheme.UNKNOWN else f" ({stored.scheme.value}: {stored.use.value})"
        word = f"cannot be told: {reason}" if right is None else f"this is {'' if right else 'not '}the password"
        click.echo(f"{file}:{line.number}: {address}{kind}: {word}")
    sys.exit(NEEDS_A_PERSON if right is None else DONE if right else LOGIN_REFUSED)


def _read_password(address: str) -> Secret:
    """From the terminal, else the first line of stdin, byte for byte."""
    if sys.stdin.isatty():
        return Secret(getpass.getpass(f"Password of {address}: ").encode("utf-8", "surrogateescape"))
    return Secret(sys.stdin.buffer.readline().removesuffix(b"\n").removesuffix(b"\r"))
