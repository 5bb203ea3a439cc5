"""`migrator rules`: users' .forward, vacation and procmail files as account mail rules, shown or made."""

from __future__ import annotations

from pathlib import Path

import click

from migrator.command_line import PATH, config_option, execute_option, read_programs


@click.command()
@config_option
@click.option("--homes", type=PATH, required=True,
              help="A directory with one for each user, as /home: USER/.forward is USER's.")  # fmt: skip
@click.option("--users", type=PATH,
              help="Only the users named in this file, one a line.")  # fmt: skip
@click.option("--domain", default="", help="The domain of the users; the main domain otherwise.")
@click.option("--local-domain", multiple=True, help="A domain that the old server took for the same (mydestination).")
@click.option(
    "--procmail", is_flag=True, help="procmail delivered the old server's mail: .procmailrc counts by itself."
)
@execute_option
@click.option("--offline", is_flag=True, help="Ask no server: every user is taken for an account.")
@click.option("--apply/--dry-run", "apply", default=False, help="Make them; without it, only show what would be made.")
@click.option("--bad", type=PATH,
              help="A directory for the file `users`: those that need a person, with the reasons.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def rules(
    *, path: Path, homes: Path, users: Path | None, domain: str, local_domain: tuple[str, ...], procmail: bool,
    execute: tuple[str, ...], offline: bool, apply: bool, bad: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Turn .forward files, vacation messages and procmail recipes into account mail rules."""
    from migrator.mail_command import Session
    from migrator.rule_work import RuleWork

    if offline and apply:
        raise click.UsageError("--offline only shows; --apply has to ask CommuniGate")
    programs = read_programs(execute)
    work = RuleWork(homes, domain=domain, local=local_domain, procmail=procmail, users=users, programs=programs)
    Session(path, apply=apply, router=False, extend_lists=False, bad=bad, as_json=as_json, left="users").run(
        work, offline=offline
    )
