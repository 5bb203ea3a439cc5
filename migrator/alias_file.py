"""An aliases file of sendmail or Postfix, read into entries with their line numbers. Pure: bytes in, values out.

`name: target, target` (aliases(5)): quoted names and targets, lines that begin with white space go on with the line
before, `#` lines and (comments) are left out, `\\name` is the account itself, `|command`, `/file` and `:include:/file`
are told apart. What cannot be read is given as a BadLine where it stands; nothing is raised for any bytes.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

LINE_LIMIT: Final = 4 << 20  # bytes of one entry with its continuation lines: an alias of 100,000 addresses


class Kind(Enum):
    """What a target is."""

    ADDRESS = "address"  # `user` or `user@domain`, to be looked up again
    ACCOUNT = "account"  # `\user`: the account itself, no alias of that name
    COMMAND = "command"  # `|command`
    FILE = "file"  # `/file`
    INCLUDE = "include"  # `:include:/file`


@dataclass(frozen=True, slots=True)
class Target:
    """Where an alias leads. `text` is without its mark (`|`, `\\`, `:include:`) and without quotes."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One alias as the file has it; the name in its own case. `line` is where it begins."""

    line: int
    name: str
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no entry. `text` is the line as it stands, in one piece; see `exact`."""

    line: int
    reason: str
    text: str


class AliasFileTrouble(ValueError):
    """A file of plain pairs holds something else. `line` says where."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


def parse_aliases(lines: bytes | Iterable[bytes]) -> Iterator[Entry | BadLine]:
    """Entries and bad lines in the order of the file. `lines` is the file's content, or the open file itself."""
    for number, raw in logical_lines(lines):
        text, trouble = decode_line(raw)
        yield BadLine(number, trouble, exact(raw)) if trouble else _parse_entry(number, text)


def parse_targets(text: str) -> list[Target]:
    """The right side of an alias, or one line of a .forward or :include: file. ValueError says what is wrong."""
    return [_target(words) for words in _split(_tokens(text), ",") if words]


def simple_aliases(lines: bytes | Iterable[bytes]) -> dict[str, str]:
    """Pairs of a file that has one address for each alias, both in lower case: what VRFY and NEW can look up.

    AliasFileTrouble for the first line that is anything else, and for a name that stands there twice.
    """
    found: dict[str, str] = {}
    for entry in parse_aliases(lines):
        if isinstance(entry, BadLine):
            raise AliasFileTrouble(entry.line, entry.reason)
        if len(entry.targets) != 1 or entry.targets[0].kind not in (Kind.ADDRESS, Kind.ACCOUNT):
            raise AliasFileTrouble(entry.line, f"{entry.name}: one address is wanted")
        name = entry.name.lower()
        if name in found:
            raise AliasFileTrouble(entry.line, f"{entry.name} stands there more than once")
        found[name] = entry.targets[0].text.lower()
    return found


def render_entry(entry: Entry) -> str:
    """The entry as one line of such a file; `parse_aliases` reads it back."""
    return f"{_quoted(entry.name, also='@%')}: {', '.join(map(render_target, entry.targets))}"


def render_target(target: Target) -> str:
    """The target as it stands in such a file."""
    if target.kind is Kind.ACCOUNT and _ATOM.fullmatch(target.text):
        return "\\" + target.text
    marks = {Kind.ACCOUNT: "\\", Kind.COMMAND: "|", Kind.INCLUDE: ":include:"}
    return _quoted(marks.get(target.kind, "") + target.text)


# -- lines -------------------------------------------------------------------------------------------------------------


def logical_lines(lines: bytes | Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines joined with those that go on with them, and the number of the first. Comments and empty lines left out.

    As Postfix's readllines(3): a comment or an empty line between does not end what goes on.
    """
    held: list[bytes] = []
    begun = size = 0
    for number, line in numbered_lines(lines):
        bare = line.strip()
        if not bare or bare.startswith(b"#"):
            continue
        if held and line[:1] in (b" ", b"\t"):
            size += len(line)
            if size <= LINE_LIMIT:
                held.append(line.rstrip(b"\r\n"))
            continue
        if held:
            yield begun, _whole(held, size)
        held, begun, size = [line.rstrip(b"\r\n")], number, len(line)
    if held:
        yield begun, _whole(held, size)


def numbered_lines(lines: bytes | Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines from 1, without the mark that some editors put before the first one."""
    for number, line in enumerate(lines.split(b"\n") if isinstance(lines, bytes) else lines, 1):
        yield number, line.removeprefix(BOM_UTF8) if number == 1 else line


def _whole(held: list[bytes], size: int) -> bytes:
    # NUL makes it a bad line with a reason; it can be in no entry
    return b"".join(held) if size <= LINE_LIMIT else held[0][:200] + b"\0"


_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def exact(raw: bytes) -> str:
    """A line that can be turned into the same bytes again (surrogateescape): to be written, never to be shown."""
    return raw.decode("utf-8", "surrogateescape")


def shown(text: str) -> str:
    """A text as it can be shown, whatever it holds."""
    return decode_line(text.encode("utf-8", "surrogateescape"))[0]


def decode_line(raw: bytes) -> tuple[str, str]:
    """The line as text that can be shown, and why it cannot be used ("" where it can)."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("utf-8", "backslashreplace"), "it is not UTF-8"
    if _CONTROL.search(text):
        shown = _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", text)
        return shown, f"it holds a control character or is longer than {LINE_LIMIT} bytes"
    return text, ""


# -- one entry ---------------------------------------------------------------------------------------------------------

# `name: address, address` without a quote, comment, bracket or mark: nearly every line of a file
_PLAIN: Final = re.compile(r"([^\s:\"\\(),<>@%;|/]+)[ \t]*:[ \t]*([^\s:\"\\(),<>;|/][^\s:\"\\(),<>;|]*(?:[ \t]*,[ \t]*"
                           r"[^\s:\"\\(),<>;|/][^\s:\"\\(),<>;|]*)*)[ \t]*")  # fmt: skip
_TOKEN: Final = re.compile(r'[ \t\r\n\f\v]+|"(?:[^"\\]|\\.)*"|[(,:<>]|(?:[^\s"(,:<>\\]|\\.)+', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)

Token = tuple[str, str]  # what it is: `"` quoted, `a` atom, ` ` a gap, or the mark itself; and its text


def _parse_entry(line: int, text: str) -> Entry | BadLine:
    plain = _PLAIN.fullmatch(text)
    if plain is not None:
        targets = tuple([Target(Kind.ADDRESS, word.strip()) for word in plain[2].split(",")])
        return Entry(line, plain[1], targets)
    try:
        tokens = _tokens(text)
        colon = next((at for at, token in enumerate(tokens) if token[0] == ":"), None)
        if colon is None:
            raise ValueError("there is no colon behind the name")
        name = _name(tokens[:colon])
        targets = tuple(_target(words) for words in _split(tokens[colon + 1 :], ",") if words)
        if not targets:
            raise ValueError("there is no target behind the colon")
    except ValueError as error:
        return BadLine(line, str(error), text)
    return Entry(line, name, targets)


def _tokens(text: str) -> list[Token]:
    """Words, quoted strings and marks; comments in parentheses left out, gaps kept as one space."""
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError("a quote does not end" if text[at] == '"' else "it ends with a backslash")
        word = match.group()
        at = match.end()
        if word == "(":
            at = _skip_comment(text, at)
            found.append((" ", " "))
        elif word[0] == '"':
            found.append(('"', _ESCAPED.sub(r"\1", word[1:-1])))
        elif word.isspace():
            found.append((" ", " "))
        else:
            found.append((word if word in ",:<>" else "a", word))
    return found


def _skip_comment(text: str, at: int) -> int:
    depth = 1
    while at < len(text):
        mark = text[at]
        at += 2 if mark == "\\" else 1
        depth += (mark == "(") - (mark == ")")
        if not depth:
            return at
    raise ValueError("a comment in parentheses does not end")


def _split(tokens: list[Token], mark: str) -> Iterator[list[Token]]:
    """The parts between marks, without gaps around them."""
    part: list[Token] = []
    for token in [*tokens, (mark, mark)]:
        if token[0] == mark:
            yield _stripped(part)
            part = []
        else:
            part.append(token)


def _stripped(tokens: list[Token]) -> list[Token]:
    first, last = 0, len(tokens)
    while first < last and tokens[first][0] == " ":
        first += 1
    while last > first and tokens[last - 1][0] == " ":
        last -= 1
    return tokens[first:last]


def _name(tokens: list[Token]) -> str:
    words = _stripped(tokens)
    if len(words) != 1 or words[0][0] not in ('"', "a"):
        raise ValueError("one name is wanted before the colon")
    name = _ESCAPED.sub(r"\1", words[0][1]) if words[0][0] == "a" else words[0][1]
    if not name:
        raise ValueError("the name is empty")
    if words[0][0] == "a" and ("@" in name or "%" in name):
        raise ValueError("the name must be a local one, without a domain")
    return name


def _target(tokens: list[Token]) -> Target:
    """One target of its tokens. A name before <address> is dropped; a command keeps its spaces."""
    opened = next((at for at, token in enumerate(tokens) if token[0] == "<"), None)
    lead = tokens[0]
    if opened is not None and not (lead[0] == "a" and lead[1].startswith("|")):
        closed = next((at for at, token in enumerate(tokens[opened:], opened) if token[0] == ">"), None)
        if closed != len(tokens) - 1:
            raise ValueError("an <address> does not end, or something stands behind it")
        tokens = _stripped(tokens[opened + 1 : closed])
        if not tokens:
            raise ValueError("an <address> is empty")
        lead = tokens[0]
    bare = lead[0] == "a" and lead[1].startswith("\\")
    text = "".join(_ESCAPED.sub(r"\1", token[1]) if token[0] == "a" else token[1] for token in tokens).strip()
    if lead[0] == '"' and text.startswith("\\"):
        bare, text = True, text[1:]  # "\user" in quotes, as .forward files have it
    return _kind_of(text, bare)


def _kind_of(text: str, bare: bool) -> Target:
    if not text:
        raise ValueError("a target is empty")
    if bare:
        return Target(Kind.ACCOUNT, text)
    if text.startswith("|"):
        if not text[1:].strip():
            raise ValueError("there is no command behind |")
        return Target(Kind.COMMAND, text[1:].strip())
    if text.startswith("/"):
        return Target(Kind.FILE, text)
    if text.lower().startswith(":include:"):
        if not text[9:].strip():
            raise ValueError("there is no file behind :include:")
        return Target(Kind.INCLUDE, text[9:].strip())
    if " " in text or text.startswith(":"):
        raise ValueError(f"{text!r} is no address, command, file or :include:")
    return Target(Kind.ADDRESS, text)


_ATOM: Final = re.compile(r'[^\s"\\(),:<>;|/#]+')


def _quoted(text: str, also: str = "") -> str:
    """Bare where every reader takes it as one word without any of the characters `also`, else in quotes."""
    if _ATOM.fullmatch(text) and not any(mark in text for mark in also):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
