"""The lines of a text file with their numbers, whatever system wrote it, in bounded memory.

Lines end with LF, CR LF, or (extractors of old Macintosh servers) CR alone. A UTF-16 file with its mark, as Exchange's
tools write, is given as UTF-8. No other decoding is done here: a line is bytes.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

LINE_LIMIT: Final = 1 << 20  # bytes; an attribute with a photograph in base64 is folded, so lines are far shorter
_HEAD: Final = 1 << 16


class BadFile(Exception):
    """The file cannot be used at all."""


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Each line without its end, counted from 1. BadFile when it cannot be read or is no text file."""
    try:
        with path.open("rb") as file:
            yield from _lines(file, path)
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror or error}") from None
    except UnicodeError:
        raise BadFile(f"{path}: begins as UTF-16 and then is not") from None


def _lines(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    head = file.read(_HEAD)
    file.seek(0)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        source: Iterator[bytes] = _recoded(file, "utf-16", "utf-8")
    elif b"\n" not in head and b"\r" in head:
        source = _recoded(file, "latin-1", "latin-1")
    else:
        source = _bounded(file)
    for number, line in enumerate(source, 1):
        if len(line) > LINE_LIMIT:
            raise BadFile(f"{path}: line {number} is longer than {LINE_LIMIT} bytes: this is no such file")
        line = line.removesuffix(b"\n").removesuffix(b"\r")  # noqa: PLW2901 - the same line without its end
        yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def _bounded(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(LINE_LIMIT + 3):
        yield line


def _recoded(file: BinaryIO, encoding: str, wanted: str) -> Iterator[bytes]:
    text = io.TextIOWrapper(file, encoding, newline=None)  # every kind of line end becomes LF
    try:
        while line := text.readline(LINE_LIMIT + 3):
            yield line.encode(wanted)
    finally:
        text.detach()  # the file is its opener's to close


def clean_text(text: str) -> str:
    """`text` in one line, its gaps as single spaces: for a name that a person has."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
