"""What the recipes of a .procmailrc become as account mail rules, whole or not at all. Pure.

Only recipes that mean the same as a rule are converted: conditions on one header field with words and `.*`, the size, a
mailbox, addresses to send to, /dev/null. Everything else is named with its line and what a person must decide; a
file with such a recipe is not converted, since the recipes behind it depend on what it takes away.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from migrator.execute import FAILS, NotAllowed, Programs, execute, how_to_allow
from migrator.mail_objects import is_plain_address
from migrator.mail_rule import HIGHEST, NO_PARAMETER, MailRule, Words, redirect
from migrator.procmail_file import Assignment, RcTrouble, Recipe, parse_procmailrc

PREFIX: Final = "procmail"


@dataclass(frozen=True, slots=True)
class Problem:
    """A line that is no rule: why not, and what to decide."""

    line: int
    reason: str
    decide: str


@dataclass(slots=True)
class Conversion:
    """All rules of a file, or what stands in the way. `notes` tell where a rule is not to the letter the recipe."""

    rules: list[MailRule] = field(default_factory=list)
    mailboxes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    domain: str = ""  # of addresses without one
    programs: Programs = field(default_factory=Programs)


class _NoRule(ValueError):
    """A recipe or condition that no rule says."""

    def __init__(self, reason: str, decide: str = "write the rule by hand in the account's settings, or leave it out"):
        super().__init__(reason)
        self.reason = reason
        self.decide = decide


_HARMLESS: Final = frozenset(
    {"PATH", "SHELL", "LOGFILE", "VERBOSE", "LOGABSTRACT", "LINEBUF", "UMASK", "LOCKEXT", "TIMEOUT", "SENDMAIL", "LOG",
     "LOCKSLEEP", "LOCKTIMEOUT", "NORESRETRY", "SUSPEND", "SHELLMETAS", "SHELLFLAGS", "SENDMAILFLAGS", "COMSAT"}
)  # fmt: skip
_MAIL_DIRECTORIES: Final = ("mail", "Mail", "Maildir", ".maildir", "maildir")


def convert_procmailrc(data: bytes, domain: str = "", programs: Programs | None = None) -> Conversion:
    """The rules of a whole file. Never raises; what cannot be read is a problem.

    `domain` is that of addresses without one; `programs` are those that mail may be given to.
    """
    found = Conversion(domain=domain, programs=programs or Programs())
    try:
        parts = parse_procmailrc(data)
    except RcTrouble as trouble:
        found.problems.append(Problem(trouble.line, trouble.reason, "correct the file"))
        return found
    variables: dict[str, str] = {}
    recipes: list[Recipe] = []
    for part in parts:
        if isinstance(part, Recipe):
            recipes.append(part)
        elif recipes and part.name in ("MAILDIR", "DEFAULT"):
            found.problems.append(Problem(part.line, f"{part.name} changes between recipes", "write the rules by hand"))
        else:
            _assign(part, variables, found)
    for number, recipe in enumerate(recipes):
        try:
            rule = _rule(recipe, HIGHEST - number, variables, found)
        except _NoRule as trouble:
            found.problems.append(Problem(recipe.line, trouble.reason, trouble.decide))
            continue
        found.rules.append(rule)
    if len(recipes) > HIGHEST:
        reason = f"{len(recipes)} recipes, and only {HIGHEST} priorities to keep their order by"
        found.problems.append(Problem(recipes[HIGHEST].line, reason, "join recipes that do the same into one"))
    return found


def _assign(part: Assignment, variables: dict[str, str], found: Conversion) -> None:
    if part.name in ("INCLUDERC", "SWITCHRC"):
        found.problems.append(
            Problem(part.line, f"it reads another file: {part.value}", "put its recipes into this file")
        )
    elif part.name in ("HOST", "TRAP", "EXITCODE", "DROPPRIVS", "ORGMAIL", "SHIFT"):
        found.problems.append(
            Problem(part.line, f"{part.name} has no counterpart in a rule", "take it out if nothing depends on it")
        )
    elif "`" in part.value:
        found.problems.append(Problem(part.line, f"{part.name} comes from a program", "write its value in"))
    elif part.name not in _HARMLESS:
        variables[part.name] = _expand(part.value, variables)
        if part.name == "DEFAULT" and not _is_inbox(variables[part.name], {}):
            found.problems.append(
                Problem(part.line, f"DEFAULT is {part.value}: mail would not stay in INBOX", "add a recipe for it")
            )


_VARIABLE: Final = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")


def _expand(text: str, variables: dict[str, str]) -> str:
    """Known variables replaced; others stay as they are."""
    return _VARIABLE.sub(lambda match: variables.get(match[1] or match[2], match.group()), text)


# -- one recipe --------------------------------------------------------------------------------------------------------


def _rule(recipe: Recipe, priority: int, variables: dict[str, str], found: Conversion) -> MailRule:
    if recipe.nested:
        raise _NoRule("a nested block", "write its recipes one behind the other, each with the block's conditions")
    for flag in recipe.flags:
        if flag not in "HcwWir":
            raise _NoRule(f"the flag {flag}: {_FLAGS.get(flag, 'no such flag is known')}")
    conditions = tuple([_condition(text, found) for text in recipe.conditions])
    actions = _actions(recipe, variables, found)
    return MailRule(max(priority, 0), f"{PREFIX} {recipe.line}", conditions, actions)


_FLAGS: Final = {
    "B": "it looks into the text of the message", "D": "upper and lower case differ",
    "f": "a program changes the message", "h": "only the header is given on", "b": "only the text is given on",
    **dict.fromkeys("AaEe", "it depends on the recipe before"),
}  # fmt: skip


def _actions(recipe: Recipe, variables: dict[str, str], found: Conversion) -> tuple[Words, ...]:
    keep = "c" in recipe.flags
    action = _expand(recipe.action, variables)
    if action.startswith("!"):
        return redirect(_forward_to(action[1:], found.domain), keep=keep)
    if action.startswith("|"):
        return _program(recipe, action[1:].strip(), found, keep=keep)
    if action == "/dev/null":
        return () if keep else (("Discard", NO_PARAMETER),)
    if _is_inbox(action, variables):
        if keep:
            return (("Store in", "INBOX"),)
        return (("Stop Processing", NO_PARAMETER),)
    mailbox = _mailbox(action, variables)
    if mailbox not in found.mailboxes:
        found.mailboxes.append(mailbox)
    return (("Store in", mailbox),) if keep else (("Store in", mailbox), ("Discard", NO_PARAMETER))


def _program(recipe: Recipe, command: str, found: Conversion, *, keep: bool) -> tuple[Words, ...]:
    if not keep and "w" in recipe.flags.lower():
        raise _NoRule(f"mail is given to a program, and kept where it fails: {command}",
                      "take the flag w out: CommuniGate sends such a message back")  # fmt: skip
    try:
        actions = execute(found.programs.command(command), keep=keep)
    except NotAllowed as refusal:
        raise _NoRule(refusal.reason, refusal.decide or how_to_allow(command, execute(command, keep=keep))) from None
    found.notes.append(FAILS)
    return actions


def _forward_to(text: str, domain: str) -> list[str]:
    found = []
    for word in text.replace(",", " ").split():
        address = word if "@" in word else f"{word}@{domain or 'domain'}"
        if not is_plain_address(address) or word.startswith("-") or any(mark in word for mark in "$`'"):
            raise _NoRule(f"{word!r} is no address that can be read here", "write the address in")
        found.append(address if domain else word)
    if not found:
        raise _NoRule("there is no address behind !")
    return found


def _is_inbox(action: str, variables: dict[str, str]) -> bool:
    bare = action.rstrip("/")
    if bare in (
        "$DEFAULT",
        "${DEFAULT}",
        "$ORGMAIL",
        "${ORGMAIL}",
        variables.get("DEFAULT", "").rstrip("/") or "$DEFAULT",
    ):
        return True
    return re.fullmatch(r"(?:/var(?:/spool)?/mail|/usr/spool/mail)/(?:\$LOGNAME|\$USER|[A-Za-z0-9._-]+)|\$MAIL"
                        r"|(?:\$HOME|~)/(?:Maildir|\.maildir|mbox)", bare) is not None  # fmt: skip


_PLAIN_NAME: Final = re.compile(
    r"[^\x00-\x1f\"*%\\#~$`|!<>\s](?:[^\x00-\x1f\"*%\\#~$`|!<>]*[^\x00-\x1f\"*%\\#~$`|!<>\s])?"
)


def _mailbox(action: str, variables: dict[str, str]) -> str:
    """The mailbox for an mbox file, a Maildir (`name/`) or an MH folder (`name/.`) below the user's mail directory."""
    if " " in action or "\t" in action:
        raise _NoRule(f"more than one mailbox: {action}", "make a recipe with the flag c for each but the last")
    maildir = variables.get("MAILDIR", "$HOME").rstrip("/")
    path = action.removesuffix("/.").rstrip("/")
    home = re.fullmatch(r"(?:\$HOME|~|\$\{HOME\})(?:/(.*))?", maildir)
    if path.startswith(maildir + "/"):
        path = path[len(maildir) + 1 :]
    elif path.startswith("$MAILDIR/"):
        path = path[9:]
    elif match := re.fullmatch(r"(?:\$HOME|~|\$\{HOME\})/(.+)", path):
        path = match[1]
    elif path.startswith(("/", "$", "~")):
        raise _NoRule(f"the file {action} is outside of the user's mail", "name a mailbox for it")
    if home is None and maildir.startswith("$"):
        raise _NoRule(f"MAILDIR is {maildir}, which is not known")
    for directory in _MAIL_DIRECTORIES:
        path = path.removeprefix(directory + "/")
    if path.startswith("."):  # Maildir++: .Lists.python
        path = path[1:].replace(".", "/")
    levels = path.split("/")
    bad = [name for name in levels if not _PLAIN_NAME.fullmatch(name) or name.startswith(".")]
    if bad or levels[-1].endswith((".mbox", ".mdir")):
        raise _NoRule(f"{action!r} is a name that no mailbox has", "name a mailbox for it")
    return path


# -- conditions --------------------------------------------------------------------------------------------------------

_SIZE: Final = re.compile(r"([<>])[ \t]*([0-9]{1,12})")
_FIELD: Final = re.compile(r"\^([A-Za-z][A-Za-z0-9-]*):(.*)", re.DOTALL)
_TO: Final = re.compile(r"\^TO_?(.*)", re.DOTALL)
_FIELDS: Final = re.compile(r"\^\((?:To\|Cc|Cc\|To)\):(.*)", re.DOTALL | re.IGNORECASE)
_NAMED: Final = {
    "from": "From", "sender": "Sender", "to": "To", "cc": "Cc", "reply-to": "Reply-To", "subject": "Subject",
    "message-id": "Message-ID",
}  # fmt: skip
_ADDRESSES: Final = frozenset({"From", "Sender", "To", "Cc", "Reply-To", "Any To or Cc"})


def _condition(text: str, found: Conversion) -> Words:
    negated = text.startswith("!")
    bare = text[1:].strip() if negated else text
    size = _SIZE.fullmatch(bare)
    if size is not None:
        return _size(size[1], int(size[2]), negated=negated)
    to = _TO.fullmatch(bare)
    if to is not None and not to[1].startswith(":"):
        # the start of a word in procmail; an address begins there, or behind nothing that a rule could name
        if re.match(r"\.[*+]|\(", to[1]):
            raise _NoRule(f"the expression {bare!r}: more than an address behind ^TO")
        return _compared("Any To or Cc", [picture + "*" for picture in _pictures(to[1], bare)], negated, bare, found)
    either = _FIELDS.fullmatch(bare)
    if either is not None:
        return _compared("Any To or Cc", _header_pictures(either[1], bare), negated, bare, found)
    field_match = _FIELD.fullmatch(bare)
    if field_match is None:
        raise _NoRule(
            f"the condition {text!r}: it is not about one header field, or about a program, variable or score"
        )
    datum = _NAMED.get(field_match[1].lower())
    if datum is None:
        if field_match[1].lower() in ("received", "return-path", "date", "content-type"):
            raise _NoRule(f"the header field {field_match[1]}: a rule does not see it as procmail does")
        if field_match[2] in ("", ".*", ".+", " "):
            return _compared("Header Field", [f"{field_match[1]}:*"], negated, bare, found)
        pictures = _header_pictures(field_match[2], bare)
        fields = [f"{field_match[1]}:{'' if picture.startswith('*') else ' '}{picture}" for picture in pictures]
        return _compared("Header Field", fields, negated, bare, found)
    return _compared(datum, _header_pictures(field_match[2], bare), negated, bare, found)


def _size(sign: str, octets: int, *, negated: bool) -> Words:
    if not negated:
        return "Message Size", "less than" if sign == "<" else "greater than", str(octets)
    # not less than n is greater than n - 1
    return ("Message Size", "greater than", str(octets - 1)) if sign == "<" else (
        "Message Size", "less than", str(octets + 1))  # fmt: skip


def _compared(datum: str, pictures: Sequence[str], negated: bool, text: str, found: Conversion) -> Words:
    if datum in ("To", "Cc"):
        raise _NoRule(
            f"the condition {text!r}: a rule looks at one address of {datum}", "use Any To or Cc if that will do"
        )
    if datum in _ADDRESSES:
        if not text.startswith(("^TO", "! ^TO")) and not all(p[0] == "*" == p[-1] for p in pictures):
            raise _NoRule(f"the condition {text!r}: where an address begins and ends in its field, a rule does not see")
        if not all("@" in picture for picture in pictures):
            raise _NoRule(
                f"the condition {text!r}: a rule looks at the address alone, procmail at the name too",
                "write the address with its @, or use the rule condition 'From' Name",
            )
        found.notes.append(f"{text}: the rule looks at the address, not at the name beside it")
    if len(pictures) == 1:
        return datum, "is not" if negated else "is", pictures[0]
    return datum, "not in" if negated else "in", ",".join(pictures)


def _header_pictures(pattern: str, text: str) -> list[str]:
    """Pictures for what stands behind a field's colon: an expression that begins there and ends anywhere."""
    pattern = re.sub(r"^(?: \*| |\[ \]\*|\[ \t\]\*|\[ \t\]\+|\[ \]\+)", "", pattern)
    ending = "" if pattern.endswith("$") and not pattern.endswith("\\$") else "*"
    pictures = _pictures(pattern if ending else pattern[:-1], text)
    return [re.sub(r"\*+", "*", picture + ending) for picture in pictures]


_PLAIN_TEXT: Final = r"(?:[^()\\]|\\.)*"
_ALTERNATIVES: Final = re.compile(rf"({_PLAIN_TEXT})\(({_PLAIN_TEXT})\)({_PLAIN_TEXT})")


def _pictures(pattern: str, text: str) -> list[str]:
    """Pictures of an expression of words and `.*`, perhaps with one group of alternatives. _NoRule for any other."""
    group = _ALTERNATIVES.fullmatch(pattern)
    if group is None:
        return [_picture(pattern, text)]
    pictures = [_picture(group[1] + word + group[3], text) for word in re.split(r"(?<!\\)\|", group[2])]
    if any("," in picture for picture in pictures):
        raise _NoRule(f"the expression {text!r}: a comma within alternatives")
    return pictures


# a dot between letters is meant as one: `^TO_list@example.com`
_PIECE: Final = re.compile(
    r"\.\*|(?<=[A-Za-z0-9])(\.)(?=[A-Za-z0-9])|\\([.\[\]()+?^$|/<>@ -])|([A-Za-z0-9 @_=:;,!#%&'\"/<>~-]|[^\x00-\x7f])"
)


def _picture(pattern: str, text: str) -> str:
    found = []
    at = 0
    while at < len(pattern):
        piece = _PIECE.match(pattern, at)
        if piece is None or pattern[piece.end() : piece.end() + 1] in ("*", "+", "?"):
            raise _NoRule(f"the expression {text!r}: more than words and .*")
        if piece[2] in ("<", ">"):
            raise _NoRule(f"the expression {text!r}: a word boundary")
        found.append(piece[1] or piece[2] or piece[3] or "*")
        at = piece.end()
    picture = "".join(found)
    if not picture.strip("* "):
        raise _NoRule(f"the expression {text!r}: it asks for no text")
    return picture
