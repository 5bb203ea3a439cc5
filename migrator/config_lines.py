"""On which line of a TOML file each key stands, for messages that name the line.

tomllib keeps no positions. This reads just enough of the syntax for that and is only used on text that
tomllib has accepted: table headers, dotted and quoted keys, inline tables, and values over several lines.
"""

from __future__ import annotations

import re

_KEY_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_KEY = rf"{_KEY_PART}(?:[ \t]*\.[ \t]*{_KEY_PART})*"
_TOKEN = re.compile(
    rf"""(?P<long>\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''.*?''')
    |(?P<comment>\#[^\n]*)
    |(?P<key>{_KEY})[ \t]*=
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'[^'\n]*')
    |(?P<mark>[\[\]{{}}\n])
    |(?P<word>[A-Za-z0-9_+.:-]+)""",
    re.VERBOSE | re.DOTALL,
)
_HEADER = re.compile(rf"[ \t]*\[\[?[ \t]*(?P<key>{_KEY})[ \t]*\]")


def locate_keys(text: str) -> dict[tuple[str, ...], int]:
    """The line, from 1, of every table header and key, by its path; a key that stands twice keeps its first line."""
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    stack: list[tuple[str, tuple[str, ...]]] = []  # open brackets, each with the path of the key it belongs to
    current: tuple[str, ...] = ()
    line, at, fresh = 1, 0, True
    while at < len(text):
        if fresh and not stack and (header := _HEADER.match(text, at)):
            table = current = split_key(header["key"])
            lines.setdefault(table, line)
            at, fresh = header.end(), False
            continue
        token = _TOKEN.match(text, at)
        if token is None:
            at += 1
            continue
        at, kind = token.end(), token.lastgroup
        if kind == "key":
            base = stack[-1][1] if stack else table
            current = (*base, *split_key(token["key"]))
            lines.setdefault(current, line)
        elif token["mark"] in ("{", "["):
            stack.append((token["mark"], current))
        elif token["mark"] in ("}", "]") and stack:
            current = stack.pop()[1]
        fresh = token["mark"] == "\n"
        line += token[0].count("\n")
    return lines


def split_key(text: str) -> tuple[str, ...]:
    """The parts of a dotted key, without their quotes."""
    return tuple(part[1:-1] if part[0] in "\"'" else part for part in re.findall(_KEY_PART, text))
