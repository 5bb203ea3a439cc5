"""What a user's .forward file becomes as account mail rules. Pure: bytes in, a Conversion out.

A .forward file is the right side of an alias: addresses the mail is sent to, the user's own name (`\\user`) where it is
kept, and programs: vacation becomes the vacation rule, procmail the rules of the .procmailrc beside it, and one that
was allowed by name an Execute rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from migrator.alias_file import Kind, Target, decode_line, numbered_lines, parse_targets
from migrator.execute import FAILS, NotAllowed, Programs, execute_rule, how_to_allow
from migrator.mail_objects import is_plain_address
from migrator.mail_rule import HIGHEST, NO_PARAMETER, MailRule, redirect_rule, vacation_rule
from migrator.procmail_rules import PREFIX, Conversion, Problem, convert_procmailrc

TEXT_LIMIT: Final = 16 << 10  # bytes of a vacation message: it travels in one CLI command and in every reply
_ENDS: Final = ("Discard", "Stop Processing")


@dataclass(frozen=True, slots=True)
class Home:
    """A user's files; None for one that is not there. `own` says whether an address is the user's own."""

    user: str
    forward: bytes | None
    procmailrc: bytes | None
    vacation: bytes | None  # .vacation.msg
    own: Callable[[str], bool]
    domain: str = ""  # of addresses without one
    procmail_delivers: bool = False  # procmail was the old server's delivery agent: it reads .procmailrc by itself
    programs: Programs = field(default_factory=Programs)  # those that mail may be given to


def convert_home(home: Home) -> Conversion:
    """The rules of one user. Never raises; what rules cannot say is a problem, and then nothing is to be made."""
    found = Conversion()
    targets = _targets(home.forward or b"", found)
    if not targets and not found.problems:
        _procmail_alone(home, found)
        return found
    addresses: list[str] = []
    commands: list[tuple[int, str]] = []
    keeps = gives = False
    for line, target in targets:
        if target.kind in (Kind.ADDRESS, Kind.ACCOUNT):
            address = target.text if "@" in target.text or not home.domain else f"{target.text}@{home.domain}"
            if home.own(address):
                keeps = True
            elif "@" in address and not is_plain_address(address):
                found.problems.append(Problem(line, f"{address}: no address that is sure to be read right", "enter it"))
            else:
                addresses.append(address)
        elif target == Target(Kind.FILE, "/dev/null"):
            gives = True
        elif target.kind is Kind.COMMAND and _is_program(target.text, "procmail"):
            keeps = True
            _procmail(home, line, target.text, found)
        elif target.kind is Kind.COMMAND and _is_program(target.text, "vacation"):
            _vacation(home, line, found)
            gives = True
        elif target.kind is Kind.COMMAND:
            commands.append((line, target.text))
        else:
            found.problems.append(_not_a_rule(line, target))
    _give(home, commands, found, keep=keeps or bool(addresses) or gives)
    if addresses:
        found.rules.append(redirect_rule(list(dict.fromkeys(addresses)), keep=keeps))
    elif not keeps and gives:
        found.rules.append(MailRule(1, "Discard all", (), (("Discard", NO_PARAMETER),)))
    _put_before_recipes(found)
    return found


def _give(home: Home, commands: Sequence[tuple[int, str]], found: Conversion, *, keep: bool) -> None:
    """A rule for each program; without `keep` the last one ends it, as the old server kept nothing."""
    for number, (line, text) in enumerate(commands, 1):
        stays = keep or number < len(commands)
        name = number if len(commands) > 1 else 0
        try:
            found.rules.append(execute_rule(home.programs.command(text), keep=stays, number=name))
            found.notes.append(FAILS)
        except NotAllowed as refusal:
            would = execute_rule(" ".join(text.split()), keep=stays).actions
            found.problems.append(Problem(line, refusal.reason, refusal.decide or how_to_allow(text, would)))


def _put_before_recipes(found: Conversion) -> None:
    """What .forward says beside procmail is done first: a recipe that takes mail away would end the rules before it."""
    recipes = [rule for rule in found.rules if rule.name.startswith(f"{PREFIX} ")]
    others = [rule for rule in found.rules if not rule.name.startswith(f"{PREFIX} ")]
    if not others or not any(words[0] in _ENDS for rule in recipes for words in rule.actions):
        return
    if len(found.rules) > HIGHEST:
        reason = f"{len(found.rules)} rules, and only {HIGHEST} priorities to keep their order by"
        found.problems.append(Problem(0, reason, "join recipes that do the same into one"))
    first = sorted(others, key=lambda rule: -rule.priority)
    found.rules = [replace(rule, priority=max(HIGHEST - at, 0)) for at, rule in enumerate([*first, *recipes])]
    found.notes.append("what .forward says beside procmail comes before the recipes, which may end the rules")


def _find_rings(home: Home, rule: MailRule, line: int, found: Conversion) -> None:
    """A rule that sends to the user's own address sends round and round; procmail had X-Loop for that."""
    for action, parameter in rule.actions:
        if action == "Mirror to" and any(home.own(address) for address in parameter.split(",")):
            reason = f"the rule {rule.name} would send to the user's own address {parameter}"
            found.problems.append(Problem(line, reason, "take the address out, or write the rule by hand"))


def _targets(data: bytes, found: Conversion) -> list[tuple[int, Target]]:
    targets: list[tuple[int, Target]] = []
    for number, raw in numbered_lines(data):
        line = raw.strip()
        if not line or line.startswith(b"#"):
            continue
        text, trouble = decode_line(line)
        try:
            if trouble:
                raise ValueError(trouble)
            targets += [(number, target) for target in parse_targets(text)]
        except ValueError as error:
            found.problems.append(Problem(number, str(error), "correct the .forward file"))
    return targets


def _is_program(command: str, name: str) -> bool:
    return re.search(rf"(?:^|[/\s]){name}(?:\s|$)", command) is not None


def _not_a_rule(line: int, target: Target) -> Problem:
    if target.kind is Kind.FILE:
        return Problem(line, f"mail is written to the file {target.text}", "use a rule that stores into a mailbox")
    return Problem(line, f"it sends to the addresses of {target.text}", "make a group of them, and redirect to it")


# -- procmail ----------------------------------------------------------------------------------------------------------


_PLAIN_CALL: Final = re.compile(
    r"(?:IFS=' ' ?&& ?)?(?:p=\S+ ?&& ?test -f \$p ?&& ?)?(?:exec )?(?:\S*/)?procmail(?: -[ft]-?| -[tYo])*"
    r"(?: ?\|\| ?exit 75)?(?: ?#.*)?"
)


def _procmail(home: Home, line: int, command: str, found: Conversion) -> None:
    if not _PLAIN_CALL.fullmatch(command):
        found.problems.append(
            Problem(line, f"procmail is called with arguments: {command}", "convert the file that it reads by hand")
        )
    elif home.procmailrc is not None:
        _take_procmailrc(home, home.procmailrc, found)


def _procmail_alone(home: Home, found: Conversion) -> None:
    """No .forward, or an empty one, which sendmail and Postfix take as none."""
    if home.procmailrc is None:
        return
    if home.procmail_delivers:
        _take_procmailrc(home, home.procmailrc, found)
    else:
        found.problems.append(
            Problem(
                0,
                "there is a .procmailrc, and no .forward that calls procmail",
                "say --procmail if procmail delivered the old server's mail; otherwise the file was never used",
            )
        )


def _take_procmailrc(home: Home, data: bytes, found: Conversion) -> None:
    converted = convert_procmailrc(data, home.domain, home.programs)
    found.rules += converted.rules
    for rule in converted.rules:
        _find_rings(home, rule, int(rule.name.rpartition(" ")[2]), converted)
    found.mailboxes += converted.mailboxes
    found.notes += converted.notes
    found.problems += [
        Problem(problem.line, f".procmailrc: {problem.reason}", problem.decide) for problem in converted.problems
    ]


# -- vacation ----------------------------------------------------------------------------------------------------------


def _vacation(home: Home, line: int, found: Conversion) -> None:
    if home.vacation is None:
        found.problems.append(
            Problem(line, "vacation is called, and there is no .vacation.msg", "the user writes the text anew")
        )
        return
    try:
        found.rules.append(vacation_rule(_reply_text(home.vacation)))
    except ValueError as error:
        found.problems.append(Problem(line, f".vacation.msg: {error}", "the user writes the text anew"))


def _reply_text(data: bytes) -> str:
    """The reply as a rule has it: `+` and header fields before the text, where there is a subject of its own."""
    if len(data) > TEXT_LIMIT:
        raise ValueError(f"a text of more than {TEXT_LIMIT} bytes")
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    header, blank, body = text.partition("\n\n")
    fields = header.split("\n")
    if not blank or not all(re.match(r"[A-Za-z-]+:|[ \t]", field) for field in fields):
        header, fields, body = "", [], text
    subject = next((field[8:].strip() for field in fields if field.lower().startswith("subject:")), "")
    if "$" in body:
        raise ValueError("it holds variables such as $SUBJECT")
    if not body.strip():
        raise ValueError("it has no text")
    if any(ord(mark) < 0x20 and mark not in "\n\t" for mark in body + subject):
        raise ValueError("it holds control characters")
    if not subject or "$" in subject:  # the subject of the message, which a rule answers with by itself
        return body.lstrip("+")
    return f"+Subject: {subject}\n\n{body}"
