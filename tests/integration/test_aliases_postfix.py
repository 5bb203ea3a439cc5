"""Where real Postfix sends mail for every alias, and where CommuniGate will, with what the plan makes of the files."""

from __future__ import annotations

import asyncio
import random
import shutil
import smtplib
import subprocess
from collections.abc import Sequence
from pathlib import Path

from migrator.alias_file import BadLine, Entry, parse_aliases
from migrator.alias_plan import Outcome, item_of_alias, item_of_row, plan_aliases
from migrator.alias_sources import Includes
from migrator.mail_objects import Choice, Form, Item, Site, Undecided
from migrator.table_file import TableKind, TableRow, parse_table
from tests.servers.memory_smtp import MemorySmtp
from tests.servers.postfix import Postfix
from tests.servers.process import require, server_directory

MAIN, SECOND = "main.test", "second.test"
_PATIENCE = 60.0  # seconds for a queue to empty on a machine full of tests

ALIASES = """\
# other names
j.smith: joe
JS: j.smith
"quoted.name" : joe
full: joe@main.test
out: someone@far.test
o2: out
o3: Real Name <o2>
# several
team: joe, ann,
\tx@far.test,
# between
  (a comment) bob
all: team, out, j.smith, JS
twice: joe, joe@main.test, j.smith
nested: all, carl
# those that are accounts
ann: \\ann, copy@far.test
bob: bob, ann
carl: elsewhere@far.test
# lists
news: :include:{directory}/news
owner-news: joe
mixed: carl, ":include:{directory}/news"
plain: dora
k.smith: ann
"""
NEWS = "# readers\njoe\nann, Reader <reader@far.test>\nteam\n"
VIRTUAL = """\
info@second.test joe@main.test
sales@second.test info@second.test, buyer@far.test,
    ann@main.test
moved@second.test moved@far.test
alias@second.test team@main.test
k.smith@main.test somebody.else@far.test
"""


def recipients(server: MemorySmtp) -> dict[str, set[str]]:
    """Who got the messages, by their subject."""
    found: dict[str, set[str]] = {}
    for to, message in zip(server.recipients, server.arrived, strict=True):
        subject = next(line for line in message.splitlines() if line.lower().startswith(b"subject:"))
        found.setdefault(subject[8:].strip().decode(), set()).update(address.decode().lower() for address in to)
    return found


def submit(port: int, addresses: Sequence[str]) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        for address in addresses:
            client.sendmail("sender@far.test", [address], f"Subject: {address}\r\n\r\nx\r\n".encode())


async def postfix_expansions(aliases: str, virtual: str, addresses: Sequence[str], news: str) -> dict[str, set[str]]:
    """The final recipients of each address, as Postfix's local(8) and cleanup(8) expand them."""
    async with MemorySmtp() as server:
        directory = server_directory()
        extra = f"""
mydestination = {MAIN}
virtual_mailbox_domains =
virtual_alias_domains = {SECOND}
alias_maps = hash:{directory}/etc-aliases
virtual_alias_maps = hash:{directory}/virtual
mailbox_transport = smtp:[127.0.0.1]:{server.port}
relayhost = [127.0.0.1]:{server.port}
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = permit_mynetworks, reject
mynetworks = 127.0.0.0/8
append_dot_mydomain = no
append_at_myorigin = yes
myorigin = {MAIN}
"""
        postfix = Postfix(extra=extra)
        (directory / "news").write_text(news.format(directory=directory))
        (directory / "news").chmod(0o644)
        (directory / "etc-aliases").write_text(aliases.format(directory=directory))
        (directory / "virtual").write_text(virtual)
        (directory / "bare").mkdir()
        (directory / "bare" / "main.cf").write_text("compatibility_level = 3.6\n")
        for program, name in (("postalias", "etc-aliases"), ("postmap", "virtual")):
            tool = [require(program, "postfix"), "-c", str(directory / "bare"), f"hash:{directory}/{name}"]
            made = await asyncio.to_thread(subprocess.run, tool, capture_output=True, text=True, check=False)
            assert made.returncode == 0, made.stderr
        try:
            await asyncio.to_thread(postfix.start)
            await asyncio.to_thread(submit, postfix.port, addresses)
            await asyncio.wait_for(_queue_empties(postfix.directory / "spool"), _PATIENCE)
        except BaseException as error:
            error.add_note(postfix.log_tail())
            raise
        finally:
            await asyncio.to_thread(postfix.close)
            shutil.rmtree(directory)
        return recipients(server)


async def _queue_empties(spool: Path) -> None:
    """Until no message waits in any of the queues; one is made before the one that it comes from goes."""
    while any(  # noqa: ASYNC110 - another program's directory tells of no event
        path.is_file() for name in ("maildrop", "incoming", "active", "deferred") for path in (spool / name).rglob("*")
    ):
        await asyncio.sleep(0.05)


# -- our side ----------------------------------------------------------------------------------------------------------


def plan(aliases: str, virtual: str, root: Path, accounts: set[str]) -> dict[str, Outcome]:
    site = Site(
        domain=MAIN,
        local=frozenset(),
        domains=frozenset({MAIN, SECOND}),
        is_account=accounts.__contains__,
        exists=accounts.__contains__,
        is_protected=lambda _: False,
        read_include=Includes(root),
    )
    items: list[Item] = []
    for row in parse_table(virtual.encode(), TableKind.POSTFIX):
        assert isinstance(row, TableRow), row
        items.append(item_of_row(row, "virtual", site, row.key))
    for entry in parse_aliases(aliases.encode()):
        assert isinstance(entry, Entry), entry
        items.append(item_of_alias(entry, "aliases", site, entry.name))
    found: dict[str, Outcome] = {}
    for outcome in plan_aliases(items, site):
        address = outcome.address if isinstance(outcome, Choice) else outcome.item.address
        if not (isinstance(outcome, Undecided) and address in found):  # the first of two with the same name counts
            found[address] = outcome
    return found


def deliver(address: str, outcomes: dict[str, Outcome], via: tuple[str, ...] = ()) -> set[str]:
    """Where CommuniGate takes mail for an address, from the objects that the plan makes."""
    outcome = outcomes.get(address)
    assert not isinstance(outcome, Undecided), outcome
    assert address not in via, f"{address} by way of {via}"
    if outcome is None or outcome.form is Form.NOTHING:
        return {address.lower()}
    domain = outcome.item.domain
    ends = [value if "@" in value else f"{value}@{domain}" for value in outcome.values]
    found: set[str] = set()
    for end in ends:
        found |= deliver(end, outcomes, (*via, address))
    keeps = outcome.form is Form.RULE and ("Discard", "---") not in outcome.rules[0].actions
    return found | {address} if keeps else found


async def check(aliases: str, virtual: str, root: Path, news: str, accounts: set[str], *, skip: set[str]) -> int:
    (root / "news").write_text(news)
    outcomes = plan(aliases.replace("{directory}", ""), virtual, root, accounts)
    decided = [name for name, outcome in outcomes.items() if isinstance(outcome, Choice) and name not in skip]
    real = await postfix_expansions(aliases, virtual, decided, news)
    assert {name: deliver(name, outcomes) for name in decided} == real
    return len(decided)


async def test_postfix_delivers_where_the_plan_says(tmp_path: Path) -> None:
    """Aliases, groups, rules, lists, virtual users, and one that shadows an alias."""
    accounts = {f"{name}@{MAIN}" for name in ("joe", "ann", "bob", "carl", "dora")}
    count = await check(ALIASES, VIRTUAL, tmp_path, NEWS, accounts, skip=set())
    assert count >= 20


async def test_postfix_delivers_where_the_plan_says_of_random_files(tmp_path: Path) -> None:
    """Names that lead to each other in every way, rings among them: those are nobody's, all others agree."""
    dice = random.Random(20261126)
    users = [f"u{n}" for n in range(12)]
    names = [f"a{n}" for n in range(60)]
    lines = []
    for at, name in enumerate([*names, *users[:4]]):
        behind = names[at + 1 :] if dice.random() < 0.95 else names  # now and then back: a ring
        ends = dice.sample([*users, *behind, "x@far.test", "y@far.test"], dice.choice([1, 1, 1, 2, 3]))
        if name in users and dice.random() < 0.5:
            ends.append("\\" + name)
        lines.append(f"{name}: {', '.join(ends)}\n")
    count = await check("".join(lines), "", tmp_path, "", {f"{user}@{MAIN}" for user in users}, skip=set())
    assert count >= 20


async def test_the_parser_reads_what_postalias_stores(tmp_path: Path) -> None:
    """Names and targets of every syntax, read back out of Postfix's own table; and the same lines are refused."""
    text = (
        'a1: joe\na2: "\\\\joe"\na3: |/bin/foo\\ bar baz\na4: "|/bin/foo \\"x\\" \\\\y"\na5: |"/bin/foo x"\n'
        'a6: joe (c) , "Real, name" <x@y.test>\na7: ":include:/etc/x y"\n"b 1": x\nb2\\ y: x\nB3: X@Y\n'
        'b4: "/dev/null"\nb5 : , x,\nb6: user+foo%bar\nnothing\nempty:\nx@y: z\n'
    )
    path = tmp_path / "aliases"
    path.write_text(text)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "main.cf").write_text("compatibility_level = 3.6\nmaillog_file = /dev/stdout\n")
    tool = [require("postalias", "postfix"), "-c", str(tmp_path / "etc")]
    made = await asyncio.to_thread(subprocess.run, [*tool, f"hash:{path}"], capture_output=True, text=True, check=True)
    shown = await asyncio.to_thread(
        subprocess.run, [*tool, "-s", f"hash:{path}"], capture_output=True, text=True, check=True
    )
    stored = dict(line.split(":\t", 1) for line in shown.stdout.splitlines())
    ours = list(parse_aliases(text.encode()))
    entries = [entry for entry in ours if isinstance(entry, Entry)]
    assert {entry.name.lower() for entry in entries} == {name for name in stored if name[0] in "ab"}
    for entry in entries:  # what Postfix stored is an alias file's right side again
        name = entry.name.lower()
        (again,) = parse_aliases(f'"{name}": {stored[name]}'.encode())
        assert isinstance(again, Entry)
        assert again.targets == entry.targets
    refused = [line for line in made.stderr.splitlines() if "warning" in line]
    assert len(refused) == len([entry for entry in ours if isinstance(entry, BadLine)]) == 3
