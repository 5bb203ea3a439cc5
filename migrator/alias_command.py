"""`migrator aliases`: aliases, virtual users and lists of the old server, shown or made at CommuniGate."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from migrator.command_line import PATH, config_option, execute_option, read_programs


@click.command()
@config_option
@click.option("--aliases", type=PATH, multiple=True, help="An aliases file of sendmail or Postfix.")
@click.option("--virtual", type=PATH, multiple=True, help="A virtual alias table of Postfix.")
@click.option("--virtusertable", type=PATH, multiple=True, help="A virtusertable of sendmail.")
@click.option("--genericstable", type=PATH, multiple=True, help="A genericstable of sendmail.")
@click.option("--list", "lists", multiple=True, metavar="NAME=FILE", help="A mailing list and its subscribers.")
@click.option("--list-column", default="", help="The lists are tab-delimited: the column with the addresses.")
@click.option("--list-owner", default="", help="The account that owns mailing lists without an owner- alias.")
@click.option("--extend-lists", is_flag=True, help="Add subscribers to lists that have others already.")
@click.option("--root", type=PATH,
              help="Where the old server's files are: :include:/etc/x is read from ROOT/etc/x.")  # fmt: skip
@click.option("--domain", default="", help="The domain of names without one; the main domain otherwise.")
@click.option("--local-domain", multiple=True, help="A domain that the old server took for the same (mydestination).")
@click.option("--missing", type=click.Choice(["report", "forward"]), default="report", show_default=True,
              help="What to do with names that lead to an account that is not there yet.")  # fmt: skip
@execute_option
@click.option("--offline", is_flag=True, help="Ask no server: names that no file defines are taken for accounts.")
@click.option("--apply/--dry-run", "apply", default=False, help="Make it; without it, only show what would be made.")
@click.option("--router", is_flag=True, help="With --apply: also put lines into the Router table.")
@click.option("--bad", type=PATH,
              help="A directory for what is left: files that can be corrected and fed back.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def aliases(
    *, path: Path, aliases: tuple[Path, ...], virtual: tuple[Path, ...], virtusertable: tuple[Path, ...],
    genericstable: tuple[Path, ...], lists: tuple[str, ...], list_column: str, list_owner: str, extend_lists: bool,
    root: Path | None, domain: str, local_domain: tuple[str, ...], missing: str, execute: tuple[str, ...],
    offline: bool, apply: bool, router: bool, bad: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Turn aliases, virtual users and lists into account aliases, forwarders, groups, lists, rules and Router lines."""
    from migrator.alias_work import AliasWork, Inputs
    from migrator.mail_command import Session

    inputs = Inputs(aliases, virtual, virtusertable, genericstable, _named_lists(lists), root, list_column)
    if not any((aliases, virtual, virtusertable, genericstable, lists)):
        raise click.UsageError("name a file: --aliases, --virtual, --virtusertable, --genericstable or --list")
    if offline and apply:
        raise click.UsageError("--offline only shows; --apply has to ask CommuniGate")
    work = AliasWork(
        inputs, domain=domain, local=local_domain, list_owner=list_owner, forward_missing=missing == "forward",
        programs=read_programs(execute),
    )  # fmt: skip
    session = Session(path, apply=apply, router=router, extend_lists=extend_lists, bad=bad, as_json=as_json)
    session.run(work, offline=offline)


def _named_lists(values: Iterable[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for value in values:
        name, equals, file = value.partition("=")
        if not equals or not name or not file:
            raise click.UsageError(f"--list {value}: NAME=FILE is wanted")
        if name in found:
            raise click.UsageError(f"--list {name} stands there twice")
        found[name] = Path(file)
    return found
