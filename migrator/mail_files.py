"""An account that lies in files: the mailboxes of `mbox:PATH` or `maildir:PATH`, by the names that IMAP would give.

`mbox:FILE` is one mailbox, INBOX; `mbox:DIRECTORY` has one for each mbox in it; `:INBOX=FILE` behind either names the
INBOX's own file. Files that are no mailboxes are listed with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from migrator import maildir, mbox_file
from migrator.plain_file import open_plain
from wire.imap.names import decode_mailbox, encode_mailbox

KINDS: Final = ("mbox", "maildir")
_INBOX: Final = b"INBOX"
_SUBSCRIPTIONS: Final = ("subscriptions", "courierimapsubscribed", ".subscriptions", ".mailboxlist")
_LARGEST: Final = 1 << 20  # bytes of a list of subscriptions
_NOT_MAIL: Final = (".lock", ".index", ".log", ".cache", ".index.log", ".msf")


@dataclass(frozen=True, slots=True)
class FilePlace:
    """`mbox:PATH` or `maildir:PATH`."""

    kind: str
    path: Path
    inbox: Path | None = None

    def __str__(self) -> str:
        return f"{self.kind}:{self.path}" + (f":INBOX={self.inbox}" if self.inbox else "")


def parse_place(text: str) -> FilePlace | None:
    """A source that is named as files; None for anything else. ValueError for one that is not there."""
    kind, colon, rest = text.partition(":")
    if not colon or kind.lower() not in KINDS or rest.startswith("//"):
        return None
    path, _, inbox = rest.partition(":INBOX=")
    if not path:
        raise ValueError(f"{text!r}: a path is missing behind {kind}:")
    place = FilePlace(kind.lower(), Path(os.path.realpath(path)), Path(os.path.realpath(inbox)) if inbox else None)
    try:
        os.stat(place.path)
        found = place.kind == "mbox" or maildir.is_maildir(place.path) or any(_folders(place.path))
    except OSError as error:  # not there, a file where a directory is meant, or not for us to read
        raise ValueError(f"{place.path}: {(error.strerror or str(error)).lower()}") from None
    if not found:
        raise ValueError(f"{place.path} is no Maildir: there is no directory `cur` in it, nor in any of its folders")
    return place


class Stored(Protocol):
    """A message in a file."""

    @property
    def identity(self) -> str:
        """What it is known by for ever."""
        ...

    @property
    def flags(self) -> tuple[bytes, ...]:
        """As IMAP names them."""
        ...


@dataclass(slots=True)
class Mailboxes:
    """What there is: names as on the wire and where each lies; and what is no mailbox."""

    separator: bytes
    paths: dict[bytes, Path] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def list_mailboxes(place: FilePlace) -> Mailboxes:
    """Every mailbox, INBOX first."""
    found = _maildirs(place.path) if place.kind == "maildir" else _mboxes(place.path)
    if place.inbox is not None:
        found.paths = {_INBOX: place.inbox, **{name: path for name, path in found.paths.items() if name != _INBOX}}
    return found


def list_subscribed(place: FilePlace) -> list[bytes]:
    """The names in a file of subscriptions, as Dovecot, Courier and c-client keep it beside the mailboxes."""
    for name in _SUBSCRIPTIONS:
        try:
            with open_plain(place.path / name) as file:
                lines = file.read(_LARGEST).splitlines()
        except OSError:
            continue
        separator = list_mailboxes(place).separator
        if lines and lines[0].startswith(b"V\t"):  # Dovecot's second form: tabs stand between the levels
            lines = [line.replace(b"\t", separator) for line in lines[1:]]
        return [line.removeprefix(b"INBOX.") for line in lines if line]
    return []


def read_mailbox(place: FilePlace, path: Path) -> list[Stored]:
    """Its messages, in order. OSError."""
    if place.kind == "maildir" and path != place.inbox:
        return list(maildir.read_folder(path))
    return list(maildir.read_folder(path)) if path.is_dir() else list(mbox_file.read_mbox(path))


def read_content(path: Path, message: Stored) -> Iterator[bytes]:
    """A message as IMAP shows it, in pieces. MaildirGone, MboxChanged, OSError."""
    if isinstance(message, mbox_file.MboxMessage):
        return mbox_file.read_message(path, message)
    assert isinstance(message, maildir.MaildirMessage)
    return maildir.read_message(message)


def size_of(message: Stored) -> int:
    """As far as it is known without reading it. MaildirGone, OSError."""
    return message.size if isinstance(message, mbox_file.MboxMessage) else maildir.stated_size(_in_maildir(message))


def date_of(message: Stored) -> bytes | None:
    """INTERNALDATE; None where nothing says it. MaildirGone, OSError."""
    return message.date or None if isinstance(message, mbox_file.MboxMessage) else maildir.date_of(_in_maildir(message))


def _in_maildir(message: Stored) -> maildir.MaildirMessage:
    assert isinstance(message, maildir.MaildirMessage)
    return message


def _maildirs(root: Path) -> Mailboxes:
    plus = sorted(path for path in root.iterdir() if path.name.startswith(".") and maildir.is_maildir(path))
    found = Mailboxes(b"." if plus else b"/")
    for path in sorted(root.iterdir()):
        if path.is_symlink() and path.is_dir():
            found.skipped.append((str(path), "a symbolic link is not followed"))
    if maildir.is_maildir(root):
        found.paths[_INBOX] = root
    for path in plus:
        found.paths[_on_the_wire(os.fsencode(path.name[1:]))] = path
    for path in _folders(root):
        name = _on_the_wire(os.fsencode(path.relative_to(root).as_posix()))
        if plus:
            found.skipped.append((str(path), "beside Maildir++ folders: copy it by itself, with maildir: and its path"))
        elif name.upper() == _INBOX:
            found.paths = {_INBOX: path, **found.paths}
        else:
            found.paths[name] = path
    return found


def _folders(root: Path) -> Iterator[Path]:
    """Maildirs in directories below, those beginning with a dot left out."""
    for path in sorted(root.iterdir()):
        if path.name in ("cur", "new", "tmp") or path.name.startswith(".") or path.is_symlink() or not path.is_dir():
            continue
        if maildir.is_maildir(path):
            yield path
        yield from _folders(path)


def _mboxes(root: Path) -> Mailboxes:
    found = Mailboxes(b"/")
    if not root.is_dir():
        found.paths[_INBOX] = root
        return found
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if path.is_dir() or any(part.startswith(".") for part in relative.parts) or path.name.endswith(_NOT_MAIL):
            continue
        if path.name in _SUBSCRIPTIONS or path.name.startswith("dovecot"):
            continue
        if path.is_symlink():
            found.skipped.append((str(path), "a symbolic link is not followed"))
        elif not path.is_file():
            found.skipped.append((str(path), "no ordinary file"))
        elif not mbox_file.is_mbox(path):
            found.skipped.append((str(path), "no mbox: it does not begin with `From `"))
        else:
            # Thunderbird keeps what is below `Name` in `Name.sbd`
            levels = [part.removesuffix(".sbd") for part in relative.parts[:-1]]
            name = _on_the_wire(os.fsencode("/".join([*levels, relative.name])))
            found.paths[_INBOX if name.upper() == _INBOX else name] = path
    if _INBOX in found.paths:
        found.paths = {_INBOX: found.paths.pop(_INBOX), **found.paths}
    return found


def _on_the_wire(name: bytes) -> bytes:
    """A file's name as IMAP has it: servers write modified UTF-7, mail programs what the system has (UTF-8)."""
    if name.isascii() and encode_mailbox(decode_mailbox(name)) == name:
        return name
    return encode_mailbox(name.decode("utf-8", "replace"))
