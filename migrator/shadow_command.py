"""`migrator shadow-switch`: the words, the common password, the list for MoveAccounts. The work is in shadow_switch."""

from __future__ import annotations

import json
import secrets
import string
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from migrator.command_line import PATH, fail
from migrator.exit_codes import BAD_DATA, CANNOT_WRITE, DONE, NEEDS_A_PERSON, TRY_LATER, USAGE
from migrator.password_check import Unverifiable, passlib_handler, verify
from migrator.password_forms import read_password
from migrator.shadow_file import common_kind, is_password, read_records, show
from migrator.shadow_switch import Busy, ShadowSwitch, Standing, Unsafe
from migrator.whole_file import write_whole
from wire.secret import Secret

_KINDS: Final = {"des": "des_crypt", "1": "md5_crypt", "5": "sha256_crypt", "6": "sha512_crypt"}
_ROUNDS: Final = 5000  # crypt(3)'s own default; more would only make each login of the copy slower
_LETTERS: Final = string.ascii_letters + string.digits
_SHOWN: Final = 20  # names in a line for a person; --json gives all

_file = click.argument("file", type=PATH)
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object.")


@click.group("shadow-switch")
def shadow_switch() -> None:
    """Give all accounts of an old server one password, copy their mail with it, and give the passwords back.

    For an old server that checks a passwd, shadow or master.passwd FILE, when nobody's password is known. Until `end`
    nobody can log in there with a password of their own. root and accounts that cannot log in are never touched.
    """


@shadow_switch.command()
@_file
@click.option("--accounts", type=PATH, help="Write the list for MoveAccounts here (0600).")
@click.option("--known", metavar="ACCOUNT", help="Take this account's password, as the guide does, and make none.")
@click.option(
    "--password-file", type=click.Path(allow_dash=True), help="With --known: its password, a line; - is stdin."
)
@click.option("--only", type=PATH, help="A file of names, one a line: only these.")
@click.option("--keep", multiple=True, metavar="NAME", help="Leave this account as it is. May be repeated.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@_json
def begin(  # noqa: PLR0917 - click hands them over by name
    file: Path,
    accounts: Path | None,
    known: str | None,
    password_file: str | None,
    only: Path | None,
    keep: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Save FILE, and put one password in place of all."""
    if known is None and accounts is None and not dry_run:
        fail(
            USAGE, "--accounts FILE is where the password is written that is made for them: without it nobody knows it"
        )
    if password_file and not known:
        fail(USAGE, "--password-file belongs to --known")
    if known and accounts is not None and not password_file:
        fail(USAGE, "the list of --accounts needs the password of --known: give it with --password-file")

    def act() -> None:
        one = ShadowSwitch(file)
        chosen = _names_of(only) if only else ()
        kept = [name.encode() for name in keep]
        common, password = _known(one, known, password_file) if known else _made(one)
        names = one.plan(common=common, only=chosen, keep=kept)
        if dry_run:
            _tell_begun(file, names, accounts, as_json=as_json, dry_run=True)
            return
        if accounts is not None and password is not None:
            if accounts.exists():
                raise Unsafe(f"{accounts} is there already: name another, or remove it")
            rows = [name + b"\t" + password.reveal() + b"\n" for name in names]
            write_whole(accounts, b"Name\tPassword\n" + b"".join(rows))
        try:
            names = one.begin(common=common, only=chosen, keep=kept)
        except (Unsafe, Busy):
            if accounts is not None:
                accounts.unlink(missing_ok=True)  # it opens nothing
            raise
        _tell_begun(file, names, accounts, as_json=as_json, dry_run=False)

    _guarded(act)


@shadow_switch.command()
@_file
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@_json
def end(file: Path, dry_run: bool, as_json: bool) -> None:
    """Give everybody the password back that they had, from whatever state FILE is in."""

    def act() -> None:
        one = ShadowSwitch(file)
        standing = one.status() if dry_run else one.end()
        if as_json:
            click.echo(json.dumps(_as_json(standing)))
        elif not standing.since:
            click.echo(f"{file}: no switch is under way")
        else:
            verb = "would have" if dry_run else "have"
            click.echo(f"{file}: {_count(standing.names)} {verb} the password back that was theirs")
            _tell_rest(standing)
            _tell_database(one)
        sys.exit(NEEDS_A_PERSON if standing.strangers else DONE)

    _guarded(act)


@shadow_switch.command()
@_file
@click.option("--dry-run", is_flag=True, expose_value=False, help="Nothing is ever changed by this.")
@_json
def status(file: Path, as_json: bool) -> None:
    """Say whether a switch is under way. The exit code is 1 where `end` is still to come."""

    def act() -> None:
        standing = ShadowSwitch(file).status()
        under_way = standing.state != "nothing"
        if as_json:
            click.echo(json.dumps(_as_json(standing)))
        elif not under_way:
            click.echo(f"{file}: no switch is under way")
        else:
            click.echo(f"{file}: {_STATES[standing.state].format(count=_count(standing.names))}")
            _tell_rest(standing)
        sys.exit(NEEDS_A_PERSON if under_way else DONE)

    _guarded(act)


_STATES: Final = {
    "begun": "a switch was cut off before it changed anything: `begin` again, or `end`",
    "switched": "{count} have the common password: `migrator shadow-switch end` gives theirs back",
    "restored": "all have their passwords back but those named here: `end` again when they are dealt with",
}


def _known(one: ShadowSwitch, account: str, password_file: str | None) -> tuple[bytes, Secret | None]:
    """The hash of an account whose password is known, and that password if it was given and fits."""
    text = one.hash_of(account.encode())
    if not is_password(text):
        raise Unsafe(f"{one.file}: {account} has no password that can be used")
    if not password_file:
        return text, None
    with click.open_file(password_file, "rb") as source:
        password = Secret(source.readline().rstrip(b"\r\n"))
    if _verify(text, password) is False:
        raise Unsafe(f"this is not the password of {account}: the hash in {one.file} is another's")
    return text, password


def _made(one: ShadowSwitch) -> tuple[bytes, Secret]:
    """A password that nobody has chosen, and its hash, of the kind that most of the accounts have."""
    kind = common_kind(one.content())
    length = 8 if kind == "des" else 24  # traditional crypt(3) looks at eight characters
    password = Secret("".join(secrets.choice(_LETTERS) for _ in range(length)).encode())
    handler = passlib_handler(_KINDS.get(kind, "sha512_crypt"))  # who knows yescrypt or bcrypt knows that
    if "rounds" in handler.setting_kwds:
        handler = handler.using(rounds=_ROUNDS)
    return handler.hash(password.reveal()).encode("ascii"), password


def _verify(text: bytes, password: Secret) -> bool | None:
    """None where this kind cannot be checked here."""
    try:
        return verify(read_password(text.decode("latin-1")), password)
    except Unverifiable:
        return None


def _names_of(path: Path) -> list[bytes]:
    lines = (line.strip() for line in path.read_bytes().splitlines())
    names = [line for line in lines if line and not line.startswith(b"#")]
    if not names:
        raise Unsafe(f"{path}: no name stands there")
    return names


def _tell_begun(file: Path, names: Sequence[bytes], accounts: Path | None, *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        told = {"state": "would begin" if dry_run else "switched", "switched": [show(name) for name in names]}
        click.echo(json.dumps({**told, "accounts": str(accounts) if accounts else None}))
        return
    click.echo(f"{file}: {_count(names)} {'would get' if dry_run else 'have'} one common password")
    if dry_run:
        return
    click.echo("Until `migrator shadow-switch end` nobody of them can log in with a password of their own.")
    if accounts is not None:
        click.echo(f"{accounts} is the list for MoveAccounts: it opens all these mailboxes. Remove it afterwards.")
    _tell_database(ShadowSwitch(file))
    click.echo("Now, as the migration guide has it:")
    click.echo("  1. CommuniGate Pro, Default Account Settings of the domain: Use OS Password on, OS UserName `*`")
    click.echo(f"  2. MoveAccounts --IMAP {accounts or 'LIST'} oldServer newServer")
    click.echo(f"  3. migrator shadow-switch end {file}")
    click.echo("  4. Use OS Password off again, unless it is wanted")


def _tell_database(one: ShadowSwitch) -> None:
    """The BSDs look passwords up in a database made of the file."""
    first = next(iter(read_records(one.content())), None)
    if first is not None and one.content().split(b"\n")[first.number - 1].count(b":") == 9:
        click.echo(f"Run `pwd_mkdb -p {one.file}` now: the system reads the database, not this file.")


def _tell_rest(standing: Standing) -> None:
    for names, text in (
        (standing.changed, "got a new password meanwhile and keep it"),
        (standing.gone, "were removed meanwhile"),
        (standing.strangers, "have the common password and never had another: give them one, or lock them"),
    ):
        if names:
            shown = ", ".join(show(name) for name in names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
            click.echo(f"{_count(names)} {text}: {shown}")


def _count(names: Sequence[bytes]) -> str:
    return f"{len(names)} account{'s' if len(names) != 1 else ''}"


def _as_json(standing: Standing) -> dict[str, Any]:
    lists = {name: getattr(standing, name) for name in ("changed", "gone", "strangers")}
    return {
        "state": standing.state,
        "since": standing.since or None,
        "names": [show(name) for name in standing.names],
        **{name: [show(one) for one in found] for name, found in lists.items()},
    }


def _guarded(act: Callable[[], None]) -> None:
    try:
        act()
    except Unsafe as refusal:
        fail(BAD_DATA, *refusal.lines)
    except Busy as busy:
        fail(TRY_LATER, str(busy))
    except OSError as error:
        fail(CANNOT_WRITE, f"{error.filename or 'file'}: {error.strerror}")
